--- Where clients put keys, other than in the headers for keys: queries, cookies, lists of WebSocket
-- protocols, and headers of other gateways.

local byte = string.byte
local char = string.char
local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local lower = string.lower
local match = string.match
local sub = string.sub
local tonumber = tonumber
local type = type

local memo = require("genai.util.memo")

local _M = {}

-- Query parameters that only carry credentials: they are always removed.
local PARAMETERS = {
    ["api-key"] = true, ["api_key"] = true, ["apikey"] = true, ["x-api-key"] = true,
    ["subscription-key"] = true, ["ocp-apim-subscription-key"] = true, ["access_token"] = true,
    ["authorization"] = true,
}

-- The prefix by which browsers send a key to a WebSocket.
local PROTOCOL = "openai-insecure-api-key."

local CAPITAL_B, SMALL_B = byte("Bb", 1, 2)

local BLANKS = " \t\r\n\v\f"

-- The minimum length of a key.
local SHORTEST = 8


local function character(digits)
    return char(tonumber(digits, 16))
end


-- A text without its escapes; `plus` replaces a plus sign.
local function unescaped(text, plus)
    if not find(text, "[%%+]") then
        return text
    end
    return (gsub(gsub(text, "%+", plus or " "), "%%(%x%x)", character))
end


--- The token of a value with the scheme Bearer; nil: another scheme, or none.
function _M.bearer(value)
    local first = byte(value, 1)
    if first ~= CAPITAL_B and first ~= SMALL_B or lower(sub(value, 1, 7)) ~= "bearer " then
        return nil
    end
    return match(value, "^ *(.*)$", 8)
end


-- The position of the last slash of a word; nil: none. A pattern anchored at the end would take
-- quadratic time.
local function last_slash(word)
    local last
    local slash = find(word, "/", 1, true)
    while slash do
        last = slash
        slash = find(word, "/", slash + 1, true)
    end
    return last
end


-- Whether a word is a key, or contains one before or after an equals sign, or after its last slash.
-- Keys can contain these characters themselves, as Base64 does.
local function is_key_word(word, keys)
    if keys[word] then
        return true
    end
    local equals = find(word, "=", 1, true)
    if equals and (keys[sub(word, 1, equals - 1)] or keys[sub(word, equals + 1)]) then
        return true
    end
    local slash = last_slash(word)
    return slash ~= nil and #word - slash >= SHORTEST and keys[sub(word, slash + 1)] ~= nil
end


-- Whether a value is a key or has one among its words: after a scheme, in a list, in quotes, in a
-- URL's query.
local function is_key(value, keys)
    if #value < SHORTEST then
        return false
    elseif keys[value] then
        return true
    end
    local start = 1
    while true do
        local last = (find(value, "[%s,;\"'&?#]", start) or #value + 1) - 1
        if last - start + 1 >= SHORTEST and is_key_word(sub(value, start, last), keys) then
            return true
        elseif last >= #value then
            return false
        end
        start = last + 2
    end
end


-- Whether a part of a query or a cookie is a key, as it is or after unescaping.
local function is_written_key(text, keys)
    if #text < SHORTEST then
        return false
    elseif is_key(text, keys) then
        return true
    end
    local plain = unescaped(text)
    if plain == text then
        return false
    end
    -- A client that forgets to escape a plus sign means a plus sign, not a space.
    return is_key(plain, keys)
           or find(text, "+", 1, true) ~= nil and is_key(unescaped(text, "+"), keys)
end


-- Whether a parameter is a credential.
local function is_credential(parameter, keys)
    local equals = find(parameter, "=", 1, true)
    local name = unescaped(equals and sub(parameter, 1, equals - 1) or parameter)
    return PARAMETERS[lower(name)] or is_written_key(parameter, keys)
           or equals ~= nil and (is_key(name, keys)
                                 or is_written_key(sub(parameter, equals + 1), keys))
end


--- Removes credentials from a query: parameters that only carry credentials, and keys of this
-- gateway in any parameter. All other bytes stay as they are.
-- @tparam string query
-- @tparam table keys the keys of all clients, as a set
-- @treturn string
-- @treturn boolean whether any credential was removed
function _M.query_without(query, keys)
    local kept
    local start, count = 1, 0
    while true do
        local last = (find(query, "[&;]", start) or #query + 1) - 1
        local parameter = sub(query, start, last)
        if is_credential(parameter, keys) then
            kept = kept or { start > 1 and sub(query, 1, start - 2) or nil }
            count = #kept
        elseif kept then
            -- Includes the separator, except for the first parameter.
            count = count + 1
            kept[count] = count == 1 and parameter or sub(query, start - 1, last)
        end
        if last == #query then
            break
        end
        start = last + 2
    end
    if kept then
        return concat(kept), true
    end
    return query, false
end


-- A cookie's value without blanks and quotes around it.
local function value_of(pair)
    local equals = find(pair, "=", 1, true)
    -- The search starts at the first non-blank character: a pattern that skips blanks first would
    -- take quadratic time when nothing follows them.
    local first, last = find(pair, "%S", (equals or 0) + 1), #pair
    if not first then
        return ""
    end
    while find(BLANKS, sub(pair, last, last), 1, true) do
        last = last - 1
    end
    local trimmed = sub(pair, first, last)
    return match(trimmed, '^"(.*)"$') or trimmed
end


local function is_key_cookie(pair, keys)
    return #pair >= SHORTEST
           and (is_written_key(pair, keys) or is_written_key(value_of(pair), keys))
end


--- Removes keys of this gateway from a cookie header.
-- @treturn string|nil nil: nothing remains
function _M.cookies_without(value, keys)
    local kept
    for pair in gmatch(value .. ";", "([^;]*);") do
        if is_key_cookie(pair, keys) then
            kept = {}
            break
        end
    end
    if not kept then
        return value
    end
    for pair in gmatch(value .. ";", "([^;]*);") do
        if not is_key_cookie(pair, keys) then
            kept[#kept + 1] = pair
        end
    end
    local text = match(concat(kept, ";"), "^%s*(.*)$")
    return text ~= "" and text or nil
end


--- The key in a list of WebSocket protocols; nil: there is none.
function _M.protocol_key(value)
    local first = find(value, PROTOCOL, 1, true)
    return first and match(value, "^[^,%s]+", first + #PROTOCOL)
end


-- Whether an address has a key in its query.
local function has_key_in_query(value, keys)
    local mark = find(value, "?", 1, true)
    if not mark then
        return false
    end
    local _, has_some = _M.query_without(sub(value, mark + 1), keys)
    return has_some
end


--- How a header is checked, by its lower-case name: "set" (only the gateway may set it), "cookie",
-- "protocol", "address", "upgrade"; false: no special handling.
_M.kind = memo.of(function(name)
    if sub(name, 1, 11) == "x-consumer-" or name == "x-credential-identifier" then
        return "set"
    elseif name == "cookie" then
        return "cookie"
    elseif name == "sec-websocket-protocol" then
        return "protocol"
    elseif name == "referer" then
        return "address"
    elseif name == "upgrade" then
        return "upgrade"
    end
    return false
end)


-- Values known not to contain a key of a set of keys: clients repeat the same values, and checking
-- each word costs twenty times as much as a table lookup.
local harmless, harmless_of, harmless_count = {}, nil, 0

-- Limits on the number and length of remembered values; longer values are checked each time.
local MAX_REMEMBERED, MAX_REMEMBERED_BYTES = 1000, 256


local function remember(value, keys)
    if harmless_of ~= keys or harmless_count >= MAX_REMEMBERED then
        harmless, harmless_of, harmless_count = {}, keys, 0
    end
    harmless[value] = true
    harmless_count = harmless_count + 1
end


--- Whether a header's value is a key of this gateway, or has one among its words.
-- @tparam string value
-- @tparam table keys the keys of all clients, as a set that does not grow
-- @tparam string|boolean kind of the header
function _M.holds_key(value, keys, kind)
    if #value < SHORTEST or harmless_of == keys and harmless[value] then
        return false
    elseif is_key(value, keys) or kind == "address" and has_key_in_query(value, keys) then
        return true
    elseif #value <= MAX_REMEMBERED_BYTES and kind ~= "address" then
        remember(value, keys)
    end
    return false
end


--- Whether a header `Upgrade` asks for a WebSocket.
-- @tparam string|table value
function _M.is_websocket(value)
    if type(value) == "table" then
        value = concat(value, ",")
    end
    return type(value) == "string" and find(lower(value), "websocket", 1, true) ~= nil
end


return _M
