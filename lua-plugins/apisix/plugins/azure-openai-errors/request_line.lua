--- Keeps queries out of the error log, for clients put keys there.
--
-- nginx ends each line that it logs for a request with that request's own first line, and nothing
-- tells it not to. So the bytes of the query are overwritten where that line is kept.

require("resty.core.var")
local ffi = require("ffi")
local get_request = require("resty.core.base").get_request
local ngx = ngx
local tonumber = tonumber
local find = string.find
local C = ffi.C
local ffi_fill = ffi.fill
local ffi_string = ffi.string
local set_uri_args = ngx.req.set_uri_args

local _M = {}

local NAME = "request"
local OK = 0
local ASTERISK = 42

local name_buffer = ffi.new("unsigned char[?]", #NAME)
local value = ffi.new("unsigned char *[1]")
local length = ffi.new("size_t[1]")
local err = ffi.new("char *[1]")


--- Overwrites the query. The request itself keeps it, as a copy.
function _M.hide_query()
    local args = ngx.var.args
    if not args or args == "" then
        return
    end

    set_uri_args(args)
    -- The value of `$request` is no copy: it points to the line itself.
    if C.ngx_http_lua_ffi_var_get(get_request(), NAME, #NAME, name_buffer, 0, value, length,
                                  err) ~= OK
    then
        return
    end
    local line = ffi_string(value[0], length[0])
    local mark = find(line, "?", 1, true)
    if mark then
        local last = (find(line, " ", mark, true) or tonumber(length[0]) + 1) - 1
        ffi_fill(value[0] + mark, last - mark, ASTERISK)
    end
end


return _M
