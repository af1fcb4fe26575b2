--- Finds a text field of a multipart/form-data body without taking the body apart.

local find = string.find
local sub = string.sub
local max = math.max

local _M = {}

--- How many bytes of a part's head and value have to be looked at together.
_M.WINDOW = 1024


--- A field's value.
-- @tparam string text a body, or a piece of one
-- @tparam string name of the field
-- @treturn string|nil its value
-- @treturn number|nil where the value begins in `text`
-- @treturn number|nil where it ends
function _M.field(text, name)
    local needle = 'name="' .. name .. '"'
    local from = 1
    while true do
        local first, last = find(text, needle, from, true)
        if not first then
            return nil
        end

        -- Only in the head of a part: what is uploaded may talk about forms as well.
        local head = sub(text, max(1, first - 64), first - 1)
        local _, head_end = find(text, "\r\n\r\n", last, true)
        if head_end and head_end - last < _M.WINDOW
           and find(head, "\n[Cc]ontent%-[Dd]isposition:[^\r\n]*$")
        then
            local value_end = find(text, "\r\n", head_end + 1, true)
            if value_end and value_end - head_end < _M.WINDOW then
                return sub(text, head_end + 1, value_end - 1), head_end + 1, value_end - 1
            end
        end
        from = last + 1
    end
end


return _M
