--- A small decoder of JSON, for modules that take one as a parameter: nil for what is not JSON.

local tonumber = tonumber

-- As cjson's null, it is neither nil nor a table.
local _M = { null = newproxy(false) }

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
                  ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }
local LITERALS = { ["true"] = true, ["false"] = false, null = _M.null }


local function utf8(digits)
    local code = tonumber(digits, 16)
    if code < 0x80 then
        return string.char(code)
    elseif code < 0x800 then
        return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40)
    end
    return string.char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40,
                       0x80 + code % 0x40)
end


local function string_at(text, position)
    local pieces = {}
    while true do
        local plain, stop = text:match('^([^"\\%c]*)(["\\])', position)
        assert(plain, "a string does not end")
        pieces[#pieces + 1] = plain
        position = position + #plain + 1
        if stop == '"' then
            return table.concat(pieces), position
        end
        local digits = text:match("^u(%x%x%x%x)", position)
        pieces[#pieces + 1] = digits and utf8(digits)
                              or assert(ESCAPES[text:sub(position, position)], "no escape")
        position = position + (digits and 5 or 1)
    end
end


local value_at


-- What is between brackets; `read` reads one member.
local function members_at(text, position, close, read)
    position = text:match("^[ \t\r\n]*()", position)
    if text:sub(position, position) == close then
        return position + 1
    end
    while true do
        position = text:match("^[ \t\r\n]*()", read(position))
        local each = text:sub(position, position)
        if each == close then
            return position + 1
        end
        assert(each == ",", "no comma")
        position = text:match("^[ \t\r\n]*()", position + 1)
    end
end


function value_at(text, position)
    position = text:match("^[ \t\r\n]*()", position)
    local each = text:sub(position, position)
    if each == '"' then
        return string_at(text, position + 1)
    elseif each == "{" or each == "[" then
        local result = {}
        local after = members_at(text, position + 1, each == "{" and "}" or "]", function(start)
            local name = #result + 1
            if each == "{" then
                assert(text:sub(start, start) == '"', "no name")
                name, start = string_at(text, start + 1)
                start = assert(text:match("^[ \t\r\n]*:()", start), "no colon")
            end
            result[name], start = value_at(text, start)
            return start
        end)
        return result, after
    end

    local word = text:match("^%l+", position)
    if word then
        assert(LITERALS[word] ~= nil, "no value")
        return LITERALS[word], position + #word
    end
    local number = assert(text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", position), "no value")
    return assert(tonumber(number), "no number"), position + #number
end


function _M.decode(text)
    local ok, value, after = pcall(value_at, text, 1)
    if ok and text:find("^[ \t\r\n]*$", after) then
        return value
    end
    return nil
end


return _M
