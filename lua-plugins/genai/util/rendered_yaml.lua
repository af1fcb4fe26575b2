--- Reads the YAML that the compiler writes, a small part of YAML: block mappings and sequences
-- whose values are JSON on one line. APISIX's own reader calls functions and makes closures for
-- each value: with 1,000 backends it blocks for 100 ms, and this one for 10 ms. A test compares the
-- results of both.

local byte = string.byte
local find = string.find
local lower = string.lower
local match = string.match
local sub = string.sub
local tonumber = tonumber

local _M = {}

local SPACE, HASH = 32, 35

-- Keys that YAML 1.1 reads as booleans or null.
local WORDS = {
    y = true, n = true, yes = true, no = true, on = true, off = true,
    ["true"] = true, ["false"] = true, null = true,
}


-- Whether YAML reads a JSON text differently, or rejects it.
local function is_ambiguous(text)
    if find(text, "%c") then
        return true
    end
    -- C1 control characters, line separators, and noncharacters.
    if find(text, "[\128-\255]")
       and (find(text, "\194[\128-\159]") or find(text, "\226\128[\168\169]")
            or find(text, "\239\187\191") or find(text, "\239\191[\190\191]"))
    then
        return true
    end
    local at = find(text, "\\", 1, true)
    while at do
        -- An escaped slash, and halves of surrogate pairs.
        if find(text, "^/", at + 1) or find(text, "^u[dD][89a-fA-F]", at + 1) then
            return true
        end
        at = find(text, "\\", at + 2, true)
    end
    return false
end


-- The value of a text; nil: another reader must decide.
local function value_of(text, decode)
    if find(text, '^"[^\\"%c\128-\255]*"$') then
        return sub(text, 2, -2)
    elseif find(text, "^[1-9]%d*$") then
        return tonumber(text)
    elseif text == "true" then
        return true
    elseif text == "false" then
        return false
    end
    -- The compiler never writes null, and few texts contain the word. Numbers with a leading zero
    -- or an exponent have other values in YAML.
    if is_ambiguous(text) or find(text, "null", 1, true)
       or find(text, "^[%d-]") and not find(text, "^-?[1-9]%d*%.?%d*$")
          and not find(text, "^-?0%.%d+$") and text ~= "0"
    then
        return nil
    end
    return decode(text)
end


-- The lines other than comments: the indent and the rest of each.
local function lines_of(text)
    local indents, texts, count = {}, {}, 0
    local position, length = 1, #text
    while position <= length do
        local line_end = find(text, "\n", position, true) or length + 1
        local start = find(text, "[^ ]", position)
        if start and start < line_end and byte(text, start) ~= HASH then
            count = count + 1
            indents[count], texts[count] = start - position, sub(text, start, line_end - 1)
        end
        position = line_end + 1
    end
    return indents, texts, count
end


--- The document of a text.
-- @tparam string text
-- @tparam function decode returns the value of a JSON text, nil if it is invalid; lists become
--   plain tables
-- @treturn table|nil nil: a complete YAML reader must decide
function _M.read(text, decode)
    local indents, texts, count = lines_of(text)
    local line = 1
    local block

    -- Each function begins at `line`, and returns nil if the text is beyond this reader.

    local function mapping(indent)
        local map = {}
        while indents[line] == indent do
            local current = texts[line]
            local key, rest = match(current, "^([%a_][%w_./-]*):()")
            if not key or map[key] ~= nil or WORDS[lower(key)] then
                return nil
            end
            line = line + 1
            local value
            if rest > #current then
                -- A key with nothing below it is null.
                value = line <= count and indents[line] > indent and block(indents[line])
                if not value then
                    return nil
                end
            elseif byte(current, rest) == SPACE then
                value = value_of(sub(current, rest + 1), decode)
            end
            if value == nil then
                return nil
            end
            map[key] = value
        end
        return map
    end

    local function sequence(indent)
        local list, length = {}, 0
        while indents[line] == indent and sub(texts[line], 1, 2) == "- " do
            local item = sub(texts[line], 3)
            local value
            if find(item, "^[%a_][%w_./-]*:") then
                -- A mapping that begins on the line of its dash.
                indents[line], texts[line] = indent + 2, item
                value = mapping(indent + 2)
            else
                line = line + 1
                value = value_of(item, decode)
            end
            if value == nil then
                return nil
            end
            length = length + 1
            list[length] = value
        end
        return list
    end

    function block(indent)
        local value
        if sub(texts[line], 1, 2) == "- " then
            value = sequence(indent)
        else
            value = mapping(indent)
        end
        -- A deeper line that belongs to no key is an error.
        return (indents[line] or 0) <= indent and value or nil
    end

    local document = count > 0 and indents[1] == 0 and block(0) or nil
    return line > count and document or nil
end


return _M
