--- The heads of HTTP/1.1 messages: writes heads of requests, parses heads of responses.
-- lua-resty-http reads a line at a time and writes the body separately, which took a quarter of a
-- request's time.

local byte = string.byte
local find = string.find
local lower = string.lower
local setmetatable = setmetatable
local sub = string.sub
local type = type

local memo = require("genai.util.memo")

local _M = {}

--- The maximum length of a response's head in bytes.
_M.MAX = 131072

-- The maximum number of its lines: the more headers there are, the slower each is to send.
local MAX_LINES = 1000


--- Writes a request's head in pieces: a single string would be hashed and become garbage with each
-- request.
-- @tparam string method
-- @tparam string path
-- @tparam string|nil query without its question mark
-- @tparam string|table lines its headers as text, or a list of pieces, which can be nested
-- @tparam string|nil last one more header line, with the empty line that ends the head
-- @treturn table|nil the pieces, as a socket sends them
-- @treturn nil|string why it cannot be written
function _M.request(method, path, query, lines, last)
    local target = query and path .. "?" .. query or path
    if find(target, " ", 1, true) or find(target, "\n", 1, true)
       or find(target, "\r", 1, true)
    then
        return nil, "the target holds a space or a line break"
    end
    return { method .. " " .. target .. " HTTP/1.1\r\n", lines, last or "\r\n" }
end


-- Byte loops instead of patterns, because LuaJIT does not compile patterns.
local LINE_FEED, RETURN, SPACE, TAB = 10, 13, 32, 9
local ZERO, ONE, NINE = 48, 49, 57


local function is_blank(each)
    return each == SPACE or each == TAB
end


local function is_digit(each)
    return each and each >= ZERO and each <= NINE
end


-- Status and version from a response's first line, or nil.
local function read_first_line(text)
    local minor, space, first, second, third, after = byte(text, 8, 13)
    if sub(text, 1, 7) ~= "HTTP/1." or minor ~= ZERO and minor ~= ONE or space ~= SPACE
       or not (is_digit(first) and is_digit(second) and is_digit(third)) or first == ZERO
       or after ~= SPACE and after ~= RETURN and after ~= LINE_FEED
    then
        return nil
    end
    return (first - ZERO) * 100 + (second - ZERO) * 10 + third - ZERO,
           minor == ONE and "1.1" or "1.0"
end


-- A header's name in lower case; false: an invalid name. Backends send the same few names, so
-- results are cached.
local lower_name = memo.of(function(name)
    return not find(name, "[^%w!#$%%&'*+%-.^_`|~]") and lower(name)
end)


-- The text from `first` to `last` without surrounding blanks. Usually there is one blank before it.
local function trimmed(text, first, last)
    if byte(text, first) == SPACE then
        first = first + 1
    end
    if is_blank(byte(text, first)) or is_blank(byte(text, last)) then
        while first <= last and is_blank(byte(text, first)) do
            first = first + 1
        end
        while last >= first and is_blank(byte(text, last)) do
            last = last - 1
        end
    end
    return sub(text, first, last)
end


local by_name = {
    __index = function(list, name)
        if type(name) ~= "string" then
            return nil
        end
        for i = 1, list.count do
            if list.lower_names[i] == name then
                return list.values[i]
            end
        end
        return nil
    end,
}


--- Reads a response's head.
-- @tparam string text everything that has arrived
-- @treturn table|nil `status`, `version` ("1.1"), `headers` and `rest` (the bytes after the head).
--   `headers` is indexed by lower-case name, with the first value of each; its lists `names`,
--   `lower_names` and `values` contain all headers as sent, up to `count`; invalid lines are left
--   out. nil: incomplete, or not HTTP
-- @treturn nil|string why it is not HTTP
function _M.response(text)
    if not find(text, "\n\r\n", 1, true) and not find(text, "\n\n", 1, true) then
        return nil, #text > _M.MAX and "its head is too long" or nil
    end

    local status, version = read_first_line(text)
    if not status then
        return nil, "its first line is not HTTP"
    end

    local names, lower_names, values = {}, {}, {}
    local count, lines = 0, 0
    local line_end = find(text, "\n", 1, true)
    while true do
        local start = line_end + 1
        line_end = find(text, "\n", start, true)
        local last = line_end - 1
        if byte(text, last) == RETURN then
            last = last - 1
        end
        if last < start then
            break
        end
        lines = lines + 1
        if lines > MAX_LINES then
            return nil, "its head has too many lines"
        end

        local colon = find(text, ":", start, true)
        if is_blank(byte(text, start)) then
            -- A continuation of the line before.
            local value = trimmed(text, start, last)
            if count > 0 and value ~= "" and not find(value, "\r", 1, true) then
                values[count] = values[count] .. " " .. value
            end
        elseif colon and colon <= last then
            local name = trimmed(text, start, colon - 1)
            local key = lower_name(name)
            local value = trimmed(text, colon + 1, last)
            if key and name ~= "" and not find(value, "\r", 1, true) then
                count = count + 1
                names[count] = name
                lower_names[count] = key
                values[count] = value
            end
        end
    end

    return {
        status = status,
        version = version,
        headers = setmetatable({ names = names, lower_names = lower_names, values = values,
                                 count = count }, by_name),
        rest = sub(text, line_end + 1),
    }
end


return _M
