--- Reads single top-level members of a JSON object without decoding it.
--
-- A request's model stands anywhere in a body of which prompts make up nearly all. Decoding 66 KB
-- for it costs more than everything else this gateway does to a request; here strings are hopped
-- over with a plain search. The text is not validated: the backend does that.

local byte = string.byte
local find = string.find
local huge = math.huge
local min = math.min
local sub = string.sub

local _M = {}

local QUOTE, BACKSLASH, COMMA, COLON = 34, 92, 44, 58
local OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET = 123, 125, 91, 93
local SPACE, TAB, LINE_FEED, RETURN = 32, 9, 10, 13

-- Readers of JSON in backends skip it, so what follows is not to be hidden behind it.
local BYTE_ORDER_MARK = "\239\187\191"


-- Position of the quote that ends the string that begins after `start`'s quote.
local function string_end(text, start)
    local from = start + 1
    while true do
        local quote = find(text, '"', from, true)
        if not quote then
            return nil
        end

        local before = quote - 1
        while before > start and byte(text, before) == BACKSLASH do
            before = before - 1
        end
        if (quote - 1 - before) % 2 == 0 then
            return quote
        end
        from = quote + 1
    end
end


local function skip_space(text, position)
    local each = byte(text, position)
    while each == SPACE or each == LINE_FEED or each == RETURN or each == TAB do
        position = position + 1
        each = byte(text, position)
    end
    return position, each
end


--- The position and byte of what is not white space, from `position` on.
_M.skip_space = skip_space


local function next_of(text, character, position)
    return find(text, character, position, true) or huge
end


-- What was found in a text last. The next of a character is searched for once, not once a value:
-- one that does not come again would be searched for to the end each time.
local known_text, known_position
local quote, brace, bracket, end_brace, end_bracket = 0, 0, 0, 0, 0


-- Position after the object or array that begins at `position`. What is between strings and
-- brackets, arrays of numbers mostly, is hopped over as strings are.
local function skip_nested(text, position)
    if text ~= known_text or position < known_position then
        known_text = text
        quote, brace, bracket, end_brace, end_bracket = 0, 0, 0, 0, 0
    end
    local depth = 0
    while true do
        known_position = position
        if quote < position then
            quote = next_of(text, '"', position)
        end
        if brace < position then
            brace = next_of(text, "{", position)
        end
        if bracket < position then
            bracket = next_of(text, "[", position)
        end
        if end_brace < position then
            end_brace = next_of(text, "}", position)
        end
        if end_bracket < position then
            end_bracket = next_of(text, "]", position)
        end

        local open, close = min(brace, bracket), min(end_brace, end_bracket)
        if quote < open and quote < close then
            position = string_end(text, quote)
            if not position then
                return nil
            end
        elseif open < close then
            depth = depth + 1
            position = open
        elseif close == huge then
            return nil
        else
            depth = depth - 1
            position = close
        end
        position = position + 1
        if depth == 0 then
            return position
        end
    end
end


-- Lets go of a text, which may be long.
local function forget(...)
    known_text = nil
    return ...
end


-- Position after the value that begins at `position`.
local function skip_value(text, position, first)
    if first == QUOTE then
        local last = string_end(text, position)
        return last and last + 1
    elseif first == OPEN_BRACE or first == OPEN_BRACKET then
        return skip_nested(text, position)
    end

    local each = first
    while each do
        if each == COMMA or each == CLOSE_BRACE or each == CLOSE_BRACKET then
            return position
        end
        position = position + 1
        each = byte(text, position)
    end
    return nil
end


--- Where the value that begins at `position` ends, or nil where it does not.
function _M.value_end(text, position)
    local after = skip_value(text, position, byte(text, position))
    return after and after - 1
end


--- Whether the member whose value ends before `position` is one of the outermost object: only more
-- members, and that object's end, come behind it. `text` may be the end of a longer one.
function _M.is_outermost(text, position)
    local each
    position, each = skip_space(text, position)
    while each == COMMA do
        position, each = skip_space(text, position + 1)
        local name_end = each == QUOTE and string_end(text, position)
        if not name_end then
            return false
        end
        position, each = skip_space(text, name_end + 1)
        if each ~= COLON then
            return false
        end
        position, each = skip_space(text, position + 1)
        local after = skip_value(text, position, each)
        if not after or after == position then
            return false
        end
        position, each = skip_space(text, after)
    end
    if each ~= CLOSE_BRACE then
        return false
    end
    return skip_space(text, position + 1) > #text
end


-- Name and value of the member whose name begins at `position`: the name, the value's position and
-- first byte, and the position after it. Nil where it does not end in `text`.
local function member_at(text, position, decode)
    local name_end = string_end(text, position)
    if not name_end then
        return nil
    end
    local name = sub(text, position + 1, name_end - 1)
    if find(name, "\\", 1, true) then
        -- One that cannot be decoded is no name that anybody looks for.
        name = decode(sub(text, position, name_end)) or ""
    end

    local each
    position, each = skip_space(text, name_end + 1)
    if each ~= COLON then
        return nil
    end
    position, each = skip_space(text, position + 1)
    local after = each and skip_value(text, position, each)
    if not after or after == position then
        return nil
    end
    return name, position, each, after
end


-- Where the first member of an object is named, and the byte there.
local function first_member(text)
    local start = sub(text, 1, 3) == BYTE_ORDER_MARK and 4 or 1
    local position, each = skip_space(text, start)
    if each ~= OPEN_BRACE then
        return nil
    end
    return skip_space(text, position + 1)
end


local function string_value(text, first, last, decode)
    local value = sub(text, first + 1, last - 1)
    if find(value, "\\", 1, true) then
        return decode(sub(text, first, last))
    end
    return value
end


--- Finds members of the object that `text` is.
-- @tparam string text
-- @tparam table wanted names of members: `{ model = true }`
-- @tparam function decode decodes one JSON value, for names and strings with escapes in them; gives
--   nil where it cannot
-- @treturn table|nil by name: `value` (a string, or the literal's text for anything but a string),
--   `is_string`, `first` and `last`, where the value stands in `text`. Of a name that occurs twice
--   the last one counts, as in the readers of JSON that backends use. nil: not an object
-- @treturn nil|boolean whether all of the text was read: what is behind what is no JSON was
--   not looked at, and some readers of JSON do
function _M.find(text, wanted, decode)
    local position, each = first_member(text)
    if not position then
        return nil
    end

    local found = {}
    while each == QUOTE do
        local name, value_start, first, after = member_at(text, position, decode)
        if not name then
            return forget(nil)
        end

        if wanted[name] then
            local last = after - 1
            while last > value_start do
                local tail = byte(text, last)
                if tail ~= SPACE and tail ~= LINE_FEED and tail ~= RETURN and tail ~= TAB then
                    break
                end
                last = last - 1
            end
            local value
            if first == QUOTE then
                value = string_value(text, value_start, last, decode)
            else
                value = sub(text, value_start, last)
            end
            found[name] = { value = value, is_string = first == QUOTE,
                            first = value_start, last = last }
        end

        position, each = skip_space(text, after)
        if each == COMMA then
            position, each = skip_space(text, position + 1)
        end
    end

    local is_whole = each == CLOSE_BRACE and skip_space(text, position + 1) > #text
    return forget(found, is_whole)
end


--- The string that is the first member of a name. What follows it need not be there yet.
-- @tparam string text the beginning of an object, or all of it
-- @tparam string name
-- @tparam function decode as for `find`
-- @treturn string|nil nil: there is none as far as the text goes, or it is no string
function _M.first_string(text, name, decode)
    local position, each = first_member(text)
    while position and each == QUOTE do
        local found, value_start, first, after = member_at(text, position, decode)
        if not found then
            return nil
        end
        if found == name then
            return first == QUOTE and string_value(text, value_start, after - 1, decode) or nil
        end
        position, each = skip_space(text, after)
        if each == COMMA then
            position, each = skip_space(text, position + 1)
        end
    end
    return nil
end


return _M
