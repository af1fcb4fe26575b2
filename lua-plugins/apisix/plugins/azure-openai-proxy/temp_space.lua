--- The space where nginx puts bodies that are too long for its buffer.

local core = require("apisix.core")
local ffi = require("ffi")
local C = ffi.C
local ngx = ngx
local tonumber = tonumber

ffi.cdef([[
int statvfs(const char *path, void *buffer);
]])

local _M = {}

local PATH = ngx.config.prefix() .. "client_body_temp"

-- struct statvfs of Linux on 64 bits, as far as it is read: f_bsize, f_frsize, f_blocks, f_bfree,
-- f_bavail, f_files, f_ffree, f_favail.
local FRAGMENT, BLOCKS, AVAILABLE, FILES, FILES_AVAILABLE = 1, 2, 4, 5, 7
local result = ffi.new("uint64_t[32]")

-- nginx writes as much as its buffer holds, or less. Where no more is left, nothing is.
local LITTLE = 1024 * 1024


--- What a client is told.
_M.MESSAGE = "The gateway has no space left to store a request body of this size."
             .. " Send the request again later."


--- What is left of it.
-- @treturn number|nil bytes that can be written; nil: that is not known
-- @treturn number|nil bytes of all
function _M.left()
    if C.statvfs(PATH, result) ~= 0 then
        return nil
    end
    local fragment = tonumber(result[FRAGMENT])
    local bytes = tonumber(result[AVAILABLE]) * fragment
    if tonumber(result[FILES]) > 0 and tonumber(result[FILES_AVAILABLE]) == 0 then
        bytes = 0
    end
    return bytes, tonumber(result[BLOCKS]) * fragment
end


--- Logs that there is no space, and what to do.
function _M.report()
    local left, all = _M.left()
    core.log.error("request bodies cannot be stored: ", left or "?", " of ", all or "?",
                   " bytes are left in ", PATH, ", where bodies are kept that are longer than ",
                   "nginx's buffer. Give that folder a larger volume, or lower ",
                   "GATEWAY_MAX_BODY_SIZE")
end


--- Whether nothing more can be written.
function _M.is_full()
    local left = _M.left()
    return left ~= nil and left < LITTLE
end


return _M
