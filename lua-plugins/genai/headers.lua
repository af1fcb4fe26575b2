--- Which headers pass, in both directions.

local find = string.find
local gmatch = string.gmatch
local lower = string.lower
local ipairs = ipairs
local pairs = pairs
local type = type

local _M = {}


local function set(names)
    local members = {}
    for _, name in ipairs(names) do
        members[name] = true
    end
    return members
end


local HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
}

--- The headers that a client's key may come in, in the order in which they are tried.
_M.CREDENTIALS = { "authorization", "api-key", "ocp-apim-subscription-key" }

local NOT_FORWARDED = set(HOP_BY_HOP)
for _, name in ipairs({
    -- written anew for each attempt
    "host", "content-length", "expect", "http2-settings",
    -- what is compressed could neither be counted nor watched for errors
    "accept-encoding",
    -- set by APISIX or by proxies before it: where a request came from is nothing to a backend
    "forwarded", "x-real-ip", "x-credential-identifier", "x-userinfo", "x-access-token",
    "x-id-token", "x-refresh-token",
}) do
    NOT_FORWARDED[name] = true
end
for _, name in ipairs(_M.CREDENTIALS) do
    NOT_FORWARDED[name] = true
end

local INTERNAL = "^x%-consumer%-"
local INTERNAL_ALSO = { "^x%-forwarded%-", "^x%-gateway%-", "^x%-apisix%-" }

local NOT_RETURNED = set(HOP_BY_HOP)
NOT_RETURNED["server"] = true


-- Whether a name is one of those that only this gateway and what stands before it give a meaning.
local function is_internal(name)
    if find(name, INTERNAL) then
        return true
    end
    for _, pattern in ipairs(INTERNAL_ALSO) do
        if find(name, pattern) then
            return true
        end
    end
    return false
end


-- Names that a Connection header makes hop-by-hop, or nil.
local function named_by_connection(value)
    if not value then
        return nil
    end

    local names
    for _, each in ipairs(type(value) == "table" and value or { value }) do
        for name in gmatch(lower(each), "[^%s,]+") do
            if name ~= "close" and name ~= "keep-alive" then
                names = names or {}
                names[name] = true
            end
        end
    end
    return names
end


--- A client's headers as a backend may see them.
-- @tparam table headers all of them, by lower-case name; values are strings, or lists of strings
-- @treturn table those that pass
function _M.to_backend(headers)
    local named = named_by_connection(headers["connection"])
    local passed = {}
    for name, value in pairs(headers) do
        if not NOT_FORWARDED[name] and not (find(name, "^x%-") and is_internal(name))
           and not (named and named[name]) and type(value) ~= "boolean"
        then
            passed[name] = value
        end
    end
    return passed
end


--- A backend's headers as the client gets them.
-- @tparam table headers as the backend sent them
-- @tparam function pass called with name and value of each that passes
function _M.to_client(headers, pass)
    local named = named_by_connection(headers["Connection"])
    for name, value in pairs(headers) do
        local key = lower(name)
        if not NOT_RETURNED[key] and not (named and named[key]) then
            pass(name, value)
        end
    end
end


return _M
