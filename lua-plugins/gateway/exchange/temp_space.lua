--- The disk space where nginx stores bodies that are longer than its buffer.

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

-- Fields of Linux's struct statvfs on 64 bits, in order: f_bsize, f_frsize, f_blocks, f_bfree,
-- f_bavail, f_files, f_ffree, f_favail.
local FRAGMENT, BLOCKS, AVAILABLE, FILES, FILES_AVAILABLE = 1, 2, 4, 5, 7
local result = ffi.new("uint64_t[32]")

-- Less space than this counts as full, because nginx writes pieces of up to its buffer's size.
local LITTLE = 1024 * 1024


--- The message to the client.
_M.MESSAGE = "The gateway has no space left to store a request body of this size."
             .. " Send the request again later."


--- The remaining space.
-- @treturn number|nil bytes that can be written; nil: unknown
-- @treturn number|nil total bytes
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
                   " bytes are left in ", PATH, ", which stores long bodies. Give that folder a ",
                   "larger volume, or lower GATEWAY_MAX_BODY_SIZE")
end


--- Whether the space is used up.
function _M.is_full()
    local left = _M.left()
    return left ~= nil and left < LITTLE
end


return _M
