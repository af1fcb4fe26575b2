--- Where a redirect leads: back to the gateway, or to another server.

local byte = string.byte
local find = string.find
local lower = string.lower
local sub = string.sub

local endpoints = require("genai.http.endpoints")

local _M = {}

local SLASH = byte("/")


--- Whether a status is a redirect, given a `Location`.
function _M.is_redirect(status)
    return status >= 300 and status <= 308 and status ~= 304
end


local function is_same_server(a, b)
    return a.scheme == b.scheme and lower(a.host) == lower(b.host) and a.port == b.port
end


--- Rewrites a redirect's `Location` for a client of the gateway.
-- @tparam string location
-- @tparam string origin of the backend, as `endpoints.parse` returns it
-- @tparam string prefix of the backend's paths, which clients do not send
-- @treturn string|nil a path on the gateway; nil: it leads to another server, to which a client
--   would send its key
function _M.target(location, origin, prefix)
    if location == "" or find(location, "[%c%s\\]") then
        return nil
    elseif byte(location, 1) == SLASH then
        -- Two slashes begin the name of another server.
        return byte(location, 2) ~= SLASH and location or nil
    elseif not find(location, "^%a[%w+.-]*:") then
        return location
    end

    local goes_to, backend = endpoints.parse(location), endpoints.parse(origin)
    if not goes_to or find(goes_to.authority, "@", 1, true) or not is_same_server(goes_to, backend)
       or sub(goes_to.path, 1, #prefix + 1) ~= prefix .. "/"
    then
        return nil
    end
    local path = sub(goes_to.path, #prefix + 1)
    if byte(path, 2) == SLASH then
        return nil
    end
    return goes_to.query and path .. "?" .. goes_to.query or path
end


return _M
