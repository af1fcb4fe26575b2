--- Finds a text field of a multipart/form-data body without taking the body apart.

local byte = string.byte
local find = string.find
local lower = string.lower
local match = string.match
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


--- The boundary between the parts of a form.
-- @tparam string content_type
-- @treturn string|nil
function _M.boundary(content_type)
    local _, last = find(lower(content_type), "boundary=", 1, true)
    if not last then
        return nil
    end
    return match(content_type, '^"([^"]+)"', last + 1)
           or match(content_type, '^[^";,%s]+', last + 1)
end


-- Where the value of a part begins, if its head gives it a name.
local function value_start(text, from, name)
    -- From the line end behind the boundary to the empty line.
    local head = sub(text, from, from + _M.WINDOW + 3)
    local head_end = find(head, "\r\n\r\n", 1, true)
    if not head_end then
        return nil
    end

    local position = 1
    while true do
        local first, last = find(head, "name=", position, true)
        if not first or first > head_end then
            return nil
        end
        position = last + 1
        local is_quoted = byte(head, position) == QUOTE
        local start = is_quoted and position + 1 or position
        local after = start + #name
        -- Before any file's name, which may talk about forms as well.
        if sub(head, start, after - 1) == name and is_name_end(head, after, is_quoted)
           and find(lower(sub(head, max(1, first - 64), first - 1)),
                    "\ncontent%-disposition: *form%-data; *$")
        then
            return from + head_end + 3
        end
    end
end


--- A field's value. One that is there twice is none: backends may take either.
-- @tparam string text a body, or a piece of one
-- @tparam string name of the field
-- @tparam string boundary
-- @tparam boolean is_piece whether there is more of the body before the text
-- @treturn string|nil its value
-- @treturn number|nil where the value begins in `text`
-- @treturn number|nil where it ends
-- @treturn boolean|nil true: it is there twice
function _M.field(text, name, boundary, is_piece)
    local delimiter = "--" .. boundary
    local from = 1
    local value, value_first, value_last
    while true do
        local first, last = find(text, delimiter, from, true)
        if not first then
            return value, value_first, value_last
        end
        from = last + 1

        -- What is uploaded may look like a part of a form, but holds no boundary.
        if first == 1 and not is_piece
           or first > 2 and sub(text, first - 2, first - 1) == "\r\n"
        then
            local start = value_start(text, from, name)
            local value_end = start and find(sub(text, start, start + _M.WINDOW), "\r\n", 1, true)
            if value_end then
                if value then
                    return nil, nil, nil, true
                end
                value_first, value_last = start, start + value_end - 2
                value = sub(text, value_first, value_last)
            end
        end
    end
end


return _M
