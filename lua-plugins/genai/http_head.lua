--- The heads of HTTP/1.1 messages: writes those of requests, reads those of responses.
--
-- lua-resty-http does both a line at a time, with a read for each and a write of its own for the
-- body: that was a quarter of the time that a request took.

local byte = string.byte
local find = string.find
local lower = string.lower
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

--- A response's head may be so long.
_M.MAX = 131072


--- Writes a request's head.
-- @tparam string method
-- @tparam string path
-- @tparam string|nil query without its question mark
-- @tparam string lines its headers
-- @treturn string|nil
-- @treturn nil|string why it cannot be written
function _M.request(method, path, query, lines)
    local target = query and path .. "?" .. query or path
    if find(target, " ", 1, true) or find(target, "\n", 1, true) then
        return nil, "the target holds a space or a line break"
    end
    return method .. " " .. target .. " HTTP/1.1\r\n" .. lines .. "\r\n"
end


-- Patterns would keep what follows from being compiled; these loops are.
local RETURN, SPACE, TAB = 13, 32, 9


local function is_blank(each)
    return each == SPACE or each == TAB
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
--   `values` list all of them as they were sent, up to `count`. nil: not complete, or no HTTP
-- @treturn nil|string why it is no HTTP
function _M.response(text)
    local _, head_end = find(text, "\r\n\r\n", 1, true)
    if not head_end then
        _, head_end = find(text, "\n\n", 1, true)
        if not head_end then
            return nil, #text > _M.MAX and "its head is too long" or nil
        end
    end

    local version = sub(text, 6, 8)
    local status = tonumber(sub(text, 10, 12))
    if sub(text, 1, 5) ~= "HTTP/" or version ~= "1.1" and version ~= "1.0"
       or not status or status < 100
    then
        return nil, "its first line is not HTTP"
    end

    local names, lower_names, values = {}, {}, {}
    local count = 0
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
        local colon = find(text, ":", start, true)
        if colon and colon <= last and colon > start then
            local first = colon + 1
            while first <= last and is_blank(byte(text, first)) do
                first = first + 1
            end
            while last >= first and is_blank(byte(text, last)) do
                last = last - 1
            end
            count = count + 1
            local name = sub(text, start, colon - 1)
            names[count] = name
            lower_names[count] = lower(name)
            values[count] = sub(text, first, last)
        end
    end

    return {
        status = status,
        version = version,
        headers = setmetatable({ names = names, lower_names = lower_names, values = values,
                                 count = count }, by_name),
        rest = sub(text, head_end + 1),
    }
end


return _M
