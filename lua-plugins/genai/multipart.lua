--- Finds a text field of a multipart/form-data body without taking the body apart.

local byte = string.byte
local find = string.find
local lower = string.lower
local sub = string.sub
local max = math.max

local _M = {}

--- How many bytes of a part's head and value have to be looked at together.
_M.WINDOW = 1024

local QUOTE, RETURN, SEMICOLON, SPACE = 34, 13, 59, 32


-- Whether the name of a part ends at `position`: with its quote, or where it has none as .NET's
-- clients write it, with the line.
local function is_name_end(text, position, is_quoted)
    local each = byte(text, position)
    if is_quoted then
        return each == QUOTE
    end
    return each == RETURN or each == SEMICOLON or each == SPACE
end


--- A field's value.
-- @tparam string text a body, or a piece of one
-- @tparam string name of the field
-- @treturn string|nil its value
-- @treturn number|nil where the value begins in `text`
-- @treturn number|nil where it ends
function _M.field(text, name)
    local from = 1
    while true do
        local first, last = find(text, "name=", from, true)
        if not first then
            return nil
        end
        from = last + 1

        local is_quoted = byte(text, from) == QUOTE
        local start = is_quoted and from + 1 or from
        local after = start + #name
        if sub(text, start, after - 1) == name and is_name_end(text, after, is_quoted) then
            -- Only in the head of a part, before any file's name: what is uploaded may talk about
            -- forms as well.
            local head = lower(sub(text, max(1, first - 64), first - 1))
            local _, head_end = find(text, "\r\n\r\n", after, true)
            if head_end and head_end - after < _M.WINDOW
               and find(head, "\ncontent%-disposition: *form%-data; *$")
            then
                local value_end = find(text, "\r\n", head_end + 1, true)
                if value_end and value_end - head_end < _M.WINDOW then
                    return sub(text, head_end + 1, value_end - 1), head_end + 1, value_end - 1
                end
            end
        end
    end
end


return _M
