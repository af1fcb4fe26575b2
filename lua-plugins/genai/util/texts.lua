--- Makes text safe for JSON: bounded, and valid UTF-8 whatever a client sent.

local byte = string.byte
local concat = table.concat
local find = string.find
local sub = string.sub

local _M = {}

local REPLACEMENT = "\239\191\189"


-- The number of bytes of the character at a position; nil: invalid.
local function character_length(text, position)
    local first, second, third, fourth = byte(text, position, position + 3)
    if first < 0x80 then
        return 1
    end

    local function follows(each)
        return each and each >= 0x80 and each < 0xC0
    end

    if first < 0xC2 or first > 0xF4 or not follows(second) then
        return nil
    elseif first < 0xE0 then
        return 2
    elseif first < 0xF0 then
        -- The shortest encoding only, and not half of a UTF-16 pair
        local is_one = follows(third) and not (first == 0xE0 and second < 0xA0)
                       and not (first == 0xED and second >= 0xA0)
        return is_one and 3 or nil
    end
    local is_one = follows(third) and follows(fourth) and not (first == 0xF0 and second < 0x90)
                   and not (first == 0xF4 and second >= 0x90)
    return is_one and 4 or nil
end


--- Shortens a text and replaces invalid bytes.
-- @tparam string text
-- @tparam number limit bytes
-- @treturn string at most this many bytes of it, slightly more if bytes had to be replaced
function _M.of(text, limit)
    if not find(text, "[\128-\255]") then
        return #text > limit and sub(text, 1, limit) or text
    end

    local pieces, position = {}, 1
    while position <= #text do
        local length = character_length(text, position)
        if position + (length or 1) - 1 > limit then
            break
        end
        pieces[#pieces + 1] = length and sub(text, position, position + length - 1) or REPLACEMENT
        position = position + (length or 1)
    end
    return concat(pieces)
end


return _M
