--- The heads of HTTP/1.1 messages: writes those of requests, reads those of responses.
--
-- lua-resty-http does both a line at a time, with a read for each and a write of its own for the
-- body: that was a quarter of the time that a request took.

local byte = string.byte
local find = string.find
local lower = string.lower
local setmetatable = setmetatable
local sub = string.sub
local type = type

local memo = require("genai.memo")

local _M = {}

--- A response's head may be so long.
_M.MAX = 131072

-- And have so many lines: to send on each header takes the longer, the more there are.
local MAX_LINES = 1000


--- Writes a request's head.
-- @tparam string method
-- @tparam string path
-- @tparam string|nil query without its question mark
-- @tparam string lines its headers
-- @tparam string|nil last one more of them, long and the same in many requests, with the empty line
--   that ends the head
-- @treturn string|table|nil a table: the pieces of it
-- @treturn nil|string why it cannot be written
function _M.request(method, path, query, lines, last)
    local target = query and path .. "?" .. query or path
    if find(target, " ", 1, true) or find(target, "\n", 1, true)
       or find(target, "\r", 1, true)
    then
        return nil, "the target holds a space or a line break"
    end
    if last then
        -- Not made into one string, which would be another kilobyte or two for each request.
        return { method .. " " .. target .. " HTTP/1.1\r\n" .. lines, last }
    end
    return method .. " " .. target .. " HTTP/1.1\r\n" .. lines .. "\r\n"
end


-- Patterns would keep what follows from being compiled; these loops are.
local LINE_FEED, RETURN, SPACE, TAB = 10, 13, 32, 9
local ZERO, ONE, NINE = 48, 49, 57


local function is_blank(each)
    return each == SPACE or each == TAB
end


local function is_digit(each)
    return each and each >= ZERO and each <= NINE
end


-- Status and version of a response's first line, or nil.
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


-- A header's name in lower case, of which backends send the same few; false: it is no name.
local lower_name = memo.of(function(name)
    return not find(name, "[^%w!#$%%&'*+%-.^_`|~]") and lower(name)
end)


-- The text from `first` to `last` without the blanks around it. Mostly there is one before it.
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
-- @tparam string text all that has arrived
-- @treturn table|nil `status`, `version` ("1.1"), `headers` and `rest`, what follows the head. The
--   headers are found by their lower-case names, first of a kind; `names`, `lower_names` and
--   `values` list all of them as they were sent, up to `count`; lines that are no headers are left
--   out. nil: not complete, or no HTTP
-- @treturn nil|string why it is no HTTP
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
            -- A line that goes on with the one before.
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
