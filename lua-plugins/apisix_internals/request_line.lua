--- Keeps queries out of the error log, because some clients put keys there.
-- nginx ends each line that it logs for a request with that request's first line, and no setting
-- changes that. So this module overwrites the bytes of the query in nginx's memory.

local contract = require("apisix_internals.contract")
local ffi = require("ffi")
local ffi_fill = ffi.fill
local ffi_string = ffi.string
local find = string.find
local match = string.match
local ngx = ngx
local pcall = pcall
local raw_header = ngx.req.raw_header
local set_uri_args = ngx.req.set_uri_args
local timer_at = ngx.timer.at
local tonumber = tonumber
local C = ffi.C

local need = contract.part("request_line")
local get_request = need("resty.core.base", "get_request")

local _M = {}

local NAME = "request"
local OK = 0
local ASTERISK = 42

local name_buffer = ffi.new("unsigned char[?]", #NAME)
local value = ffi.new("unsigned char *[1]")
local length = ffi.new("size_t[1]")
local err = ffi.new("char *[1]")

local is_verified = false


-- Overwrites the query in the value of `$request`, which points to nginx's line and is not a copy.
local function overwrite()
    if C.ngx_http_lua_ffi_var_get(get_request(), NAME, #NAME, name_buffer, 0, value, length,
                                  err) ~= OK
    then
        return false
    end
    local line = ffi_string(value[0], length[0])
    local mark = find(line, "?", 1, true)
    if not mark then
        return false
    end
    local last = (find(line, " ", mark, true) or tonumber(length[0]) + 1) - 1
    ffi_fill(value[0] + mark, last - mark, ASTERISK)
    return true
end


-- Whether nginx's line no longer contains the query. The raw header is another view of the same
-- bytes, so it shows if `$request` is only a copy. A request over HTTP/2 has no raw header.
local function is_hidden()
    local ok, text = pcall(raw_header)
    local line = ok and text ~= "" and match(text, "^[^\r\n]*") or ngx.var.request
    return find(line, "^[^?]*%?%*+ ") ~= nil or find(line, "^[^?]*%?%*+$") ~= nil
end


local function report()
    contract.report("the query of a request cannot be overwritten in nginx's request line, and"
                    .. " would be in the error log")
end


--- Overwrites the query of this request in nginx's line. The request keeps its query, as a copy.
-- Each worker checks the effect until it has seen it once. Until then, a query that cannot be
-- hidden is reported as a difference in APISIX.
-- @treturn boolean false: lines of the error log would contain the query, so the request must be
--   rejected before anything is logged for it
function _M.hide_query()
    local args = ngx.var.args
    if not args or args == "" then
        return true
    end

    set_uri_args(args)
    local is_done
    if is_verified then
        is_done = overwrite()
    else
        local ok, done = pcall(overwrite)
        is_done = ok and done and is_hidden()
        is_verified = is_done
    end
    if not is_done and not is_verified then
        -- The report runs in a timer, because a line logged for this request would end with its
        -- query.
        timer_at(0, report)
    end
    return is_done
end


return _M
