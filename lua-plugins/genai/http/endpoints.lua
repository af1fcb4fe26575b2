--- Parses the URLs that the gateway itself calls.

local find = string.find
local lower = string.lower
local match = string.match
local tonumber = tonumber

local _M = {}

local DEFAULT_PORTS = { http = 80, https = 443 }


--- Parses a URL.
-- @tparam string url
-- @treturn table|nil `scheme`, `host`, `port`, `authority` (host and port as written), `origin`,
--   `path` and `query` (nil without one); nil: invalid URL
function _M.parse(url)
    local scheme, authority, path, rest = match(url, "^(%a+)://([^/?#]+)([^?#]*)(.*)$")
    scheme = scheme and lower(scheme)
    if not DEFAULT_PORTS[scheme or ""] or find(rest, "#", 1, true) then
        return nil
    end
    local host, port = match(authority, "^(%[[%x:%.]+%])$"), nil
    if not host then
        host, port = match(authority, "^(.-):(%d+)$")
        if not host then
            host = authority
        end
    end
    return {
        scheme = scheme,
        host = host,
        port = tonumber(port) or DEFAULT_PORTS[scheme],
        authority = authority,
        origin = scheme .. "://" .. authority,
        path = path,
        query = match(rest, "^%?(.+)$"),
    }
end


return _M
