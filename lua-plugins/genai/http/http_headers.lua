--- Which headers are passed on, in both directions.

local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local lower = string.lower
local ipairs = ipairs
local pairs = pairs
local type = type

local memo = require("genai.util.memo")

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

--- The headers that may contain a client's key, in the order in which they are tried.
_M.CREDENTIALS = { "authorization", "api-key", "x-api-key", "ocp-apim-subscription-key" }

local NOT_FORWARDED = set(HOP_BY_HOP)
for _, name in ipairs({
    -- set by the gateway for each attempt
    "host", "content-length", "expect", "http2-settings",
    -- bodies are sent decoded
    "content-encoding",
    -- compressed answers could not be scanned for usage and errors
    "accept-encoding",
    -- set by APISIX or by proxies before it: the origin of a request does not concern a backend
    "forwarded", "x-real-ip", "x-credential-identifier", "x-userinfo", "x-access-token",
    "x-id-token", "x-refresh-token", "x-raw-id-token",
    -- used for keys by clients of other gateways and providers
    "apikey", "api_key", "x-goog-api-key", "x-functions-key",
}) do
    NOT_FORWARDED[name] = true
end
for _, name in ipairs(_M.CREDENTIALS) do
    NOT_FORWARDED[name] = true
end

-- Some servers take the method or path from these headers instead of the request line. A permitted
-- request could then act as a forbidden one.
for _, name in ipairs({
    "x-http-method", "x-http-method-override", "x-method-override", "x-original-method",
    "x-original-uri", "x-original-url", "x-rewrite-uri", "x-rewrite-url", "x-override-url",
    "x-request-uri", "x-original-host", "x-host",
}) do
    NOT_FORWARDED[name] = true
end

-- Prefixes reserved for this gateway and for proxies in front of it.
local INTERNAL = { "^x%-consumer%-", "^x%-forwarded%-", "^x%-gateway%-", "^x%-apisix%-" }

local NOT_RETURNED = set(HOP_BY_HOP)
NOT_RETURNED["server"] = true


local function is_forwarded(name)
    if NOT_FORWARDED[name] then
        return false
    end
    for _, pattern in ipairs(INTERNAL) do
        if find(name, pattern) then
            return false
        end
    end
    return true
end


-- Clients send the same few names, so results are cached.
local is_forwarded_once = memo.of(is_forwarded)


-- The names that a Connection header makes hop-by-hop, added to `names`; nil: none.
local function named_by_connection(value, names)
    if not value or value == "keep-alive" or value == "close" then
        return names
    end

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


--- Writes headers as lines of a request's head.
-- @tparam string|number|table value a list of values becomes a line each
-- @treturn string|nil nil: the value contains a line break, which would start another header
function _M.line(name, value)
    if type(value) == "table" then
        local lines = {}
        for i, each in ipairs(value) do
            lines[i] = _M.line(name, each)
            if not lines[i] then
                return nil
            end
        end
        return concat(lines)
    end
    if find(value, "\n", 1, true) or find(value, "\r", 1, true) or find(value, "\0", 1, true) then
        return nil
    end
    return name .. ": " .. value .. "\r\n"
end


--- A client's headers as a backend gets them.
-- @tparam table headers all of them, by lower-case name; values are strings, or lists of strings
-- @tparam table replaced set of names that the gateway sets itself
-- @treturn table|nil the headers to send, as lines of a request's head
-- @treturn nil|string why they cannot be sent
function _M.to_backend(headers, replaced)
    local named = named_by_connection(headers["connection"])
    local lines, count = {}, 0
    for name, value in pairs(headers) do
        if is_forwarded_once(name) and not replaced[name] and not (named and named[name])
           and type(value) ~= "boolean"
        then
            local line = _M.line(name, value)
            if not line then
                return nil, "the header " .. name .. " holds a line break"
            end
            count = count + 1
            lines[count] = line
        end
    end
    return lines
end


--- A backend's headers as the client gets them.
-- @tparam table headers as `http_head` returns them
-- @tparam function pass called with the name and value of each header to send; a repeated header is
--   passed once, with a list of its values
function _M.to_client(headers, pass)
    local names, lower_names, values = headers.names, headers.lower_names, headers.values
    local named
    local merged = {}
    for i = 1, headers.count do
        local key = lower_names[i]
        local value, before = values[i], merged[key]
        if not before then
            merged[key] = value
        elseif type(before) == "table" then
            before[#before + 1] = value
        else
            merged[key] = { before, value }
        end
        if key == "connection" then
            named = named_by_connection(value, named)
        end
    end

    -- With a transfer coding, a content-length is not the length of the body.
    local is_coded = merged["transfer-encoding"] ~= nil
    for i = 1, headers.count do
        local key = lower_names[i]
        local value = merged[key]
        if value then
            merged[key] = nil
            if not NOT_RETURNED[key] and not (named and named[key])
               and not (is_coded and key == "content-length")
            then
                pass(names[i], value)
            end
        end
    end
end


--- Whether a body is encoded, so that its text can neither be read nor extended.
-- @tparam table headers of an answer, by names in lower case
function _M.is_encoded(headers)
    local coding = headers["content-encoding"]
    return coding ~= nil and coding ~= "" and lower(coding) ~= "identity"
end


return _M
