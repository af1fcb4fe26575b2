--- Finds text fields of a multipart/form-data body in one pass, as its bytes arrive.
-- Uploads are long, and a client controls every byte. So each byte is read once, and only the head
-- of one part and the beginning of one field are kept. Parsers of forms disagree about what is a
-- part; if two of them may find different fields, the form is doubtful.

local ffi = require("ffi")
local C = ffi.C
local byte = string.byte
local cast = ffi.cast
local char = string.char
local concat = table.concat
local ffi_string = ffi.string
local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local min = math.min
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber

ffi.cdef([[
void *memchr(const void *s, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
]])

local bytes_type = ffi.typeof("const uint8_t *")

local _M = {}
local mt = { __index = _M }

--- Maximum bytes of a part's head.
_M.MAX_HEAD = 16384

--- Maximum bytes of the boundary; RFC 2046 allows 70.
_M.MAX_BOUNDARY = 256

-- Bytes kept of a field. Only the beginning of a longer value is kept: it cannot be a name, and the
-- caller sees that it is too long.
local MAX_VALUE = 2048

local QUOTE, BACKSLASH, SEMICOLON, EQUALS, DASH = 34, 92, 59, 61, 45
local LINE_FEED, RETURN, SPACE, TAB = 10, 13, 32, 9

-- The first letters of the relevant headers.
local LETTER_C, SMALL_C = 67, 99

-- States of the scan: in a part's data, after a boundary on its line, in a part's head.
local DATA, BOUNDARY_LINE, HEAD, STOPPED = 0, 1, 2, 3

-- The states of the scan, and the matched length of a delimiter, in memory: LuaJIT does not compile
-- a loop whose next branch it can predict from constants.
local STATES = ffi.new("int32_t[4]", { DATA, BOUNDARY_LINE, HEAD, STOPPED })
local MATCHED = ffi.new("int32_t[2]", { -1, 0 })
local NONE, BEGUN = 0, 1

local NOWHERE = math.huge


local function is_blank(each)
    return each == SPACE or each == TAB or each == RETURN or each == LINE_FEED
end


local function skip_blanks(text, position)
    while is_blank(byte(text, position)) do
        position = position + 1
    end
    return position
end


-- The position of the quote that ends a quoted value. Some parsers treat a backslash as an escape,
-- some as a part of a file's name.
local function quoted_end(text, start, has_escapes)
    local position = start + 1
    while true do
        local each = byte(text, position)
        if not each or each == QUOTE then
            return position
        end
        position = position + (has_escapes and each == BACKSLASH and 2 or 1)
    end
end


-- The values of one parameter of a header, as a list: usually none or one.
local function parameters(text, name, has_escapes)
    local values = {}
    local position = (find(text, ";", 1, true) or #text) + 1
    while position <= #text do
        position = skip_blanks(text, position)
        local start = position
        local each = byte(text, position)
        while each and each ~= EQUALS and each ~= SEMICOLON do
            position = position + 1
            each = byte(text, position)
        end
        if each == EQUALS then
            local key = gsub(lower(sub(text, start, position - 1)), "%s+", "")
            position = skip_blanks(text, position + 1)
            local value
            if byte(text, position) == QUOTE then
                local last = quoted_end(text, position, has_escapes)
                value = sub(text, position + 1, last - 1)
                if has_escapes then
                    value = gsub(value, "\\(.)", "%1")
                end
                position = find(text, ";", last, true) or #text + 1
            else
                local last = (find(text, ";", position, true) or #text + 1) - 1
                value = match(sub(text, position, last), "^[^%s]*")
                position = last + 1
            end
            if key == name then
                values[#values + 1] = value
            elseif key == name .. "*" then
                local encoded = match(value, "^[^']*'[^']*'(.*)$") or value
                values[#values + 1] = gsub(encoded, "%%(%x%x)", function(digits)
                    return char(tonumber(digits, 16))
                end)
            end
        end
        position = position + 1
    end
    return values
end


--- The boundary between the parts of a form.
-- @tparam string content_type
-- @treturn string|nil
-- @treturn boolean true: it is ambiguous (given twice, or with escapes), so parsers may use another
--   one
function _M.boundary(content_type)
    local values = parameters(content_type, "boundary", false)
    local boundary = values[1]
    return boundary ~= "" and boundary or nil,
           values[2] ~= nil and values[2] ~= boundary or find(content_type, "\\", 1, true) ~= nil
           or find(lower(content_type), "boundary%s*%*") ~= nil
end


-- Reads the head of a part as different parsers may understand it. Returns the names that parsers
-- may give the part; whether all parsers treat the part as a field; and whether the head is so
-- unusual that some parser may give the part yet another name.
local function read_head(lines)
    local text = concat(lines, "\n")
    local head = gsub(text, "\n[ \t]+", " ")
    local names, dispositions = {}, 0
    local is_field, is_strange = true, find(text, "^[ \t]") ~= nil
    for line in gmatch(head, "[^\n]+") do
        local header = match(line, "^([%w!#$%%&'*+%-.^_`|~]+):")
        local value = header and sub(line, #header + 2)
        header = header and lower(header)
        if not header then
            is_strange = true
        elseif header == "content-disposition" then
            dispositions = dispositions + 1
            local is_form_data = match(lower(value), "^%s*([^;%s]*)%s*;") == "form-data"
            is_strange = is_strange or not is_form_data
                         -- Some parsers combine name*0 and name*1.
                         or find(lower(value), "name%s*%*%s*%d") ~= nil
            -- Many parsers treat a part with a file name as a file, not a field.
            is_field = is_field and not parameters(value, "filename", false)[1]
            for _, each in ipairs(is_form_data and parameters(value, "name", false) or {}) do
                names[#names + 1] = each
            end
            if is_form_data and find(value, "\\", 1, true) then
                for _, each in ipairs(parameters(value, "name", true)) do
                    names[#names + 1] = each
                end
            end
        elseif header == "content-type" then
            local charset = lower(parameters(value, "charset", false)[1] or "utf-8")
            is_field = is_field and (charset == "utf-8" or charset == "us-ascii")
        elseif header == "content-transfer-encoding" then
            local coding = lower(match(value, "^%s*(%S*)"))
            is_field = is_field and (coding == "7bit" or coding == "8bit" or coding == "binary")
        end
    end
    return names, is_field, is_strange or dispositions ~= 1
end


-- Whether some parsers treat a name as that of a field: with different case or quotes, or encoded.
local function is_alike(name, wanted)
    if find(name, "=?", 1, true) then
        return true
    end
    return wanted[lower(match(name, "^['%s]*(.-)['%s]*$"))] == true
end


--- A new scan of a form.
-- @tparam string boundary
-- @tparam table wanted set of names of fields: `{ model = true }`
function _M.new(boundary, wanted)
    local delimiter = "--" .. boundary
    local self = setmetatable({
        wanted = wanted,
        delimiter = delimiter,
        -- by field: `value`, and its position `first` and `last`
        fields = {},
        is_doubtful = false,
        state = DATA,
        -- matched length of the delimiter; -1: not at the beginning of a line
        matched = 0,
        -- number of bytes before this piece
        offset = 0,
        -- the positions of the line break before this line, and of the last carriage return
        break_at = 0,
        return_at = -2,
        is_regular = true,
        line = "",
        lines = {},
        head_length = 0,
    }, mt)
    if #boundary > _M.MAX_BOUNDARY then
        self.problem, self.state = "boundary_too_long", STOPPED
    end
    return self
end


-- Whether a head may name a wanted field. Most do not, and are not parsed.
local function may_be_wanted(lines, wanted)
    for _, line in ipairs(lines) do
        if find(line, "\\", 1, true) or find(line, "*", 1, true) or find(line, "=?", 1, true) then
            return true
        end
        local text = lower(line)
        for name in pairs(wanted) do
            if find(text, name, 1, true) then
                return true
            end
        end
    end
    return false
end


-- Handles the end of a part's head: its data begins at `first`.
local function end_head(self, first)
    if not may_be_wanted(self.lines, self.wanted) then
        return
    end
    local names, is_field, is_strange = read_head(self.lines)
    local wanted
    for _, each in ipairs(names) do
        wanted = wanted or self.wanted[each] and each
        self.is_doubtful = self.is_doubtful or not self.wanted[each] and is_alike(each, self.wanted)
    end
    self.is_doubtful = self.is_doubtful or is_strange
    if not wanted then
        return
    end
    for _, each in ipairs(names) do
        self.is_doubtful = self.is_doubtful or each ~= wanted
    end
    self.is_doubtful = self.is_doubtful or not is_field
    if self.fields[wanted] then
        self.duplicate = self.duplicate or wanted
    end
    self.field = { name = wanted, first = first, parts = {}, length = 0 }
end


-- Adds bytes to the kept value of a field.
local function keep(field, text, from, to)
    -- The bytes may end with a part of the delimiter after the field, which `end_part` removes.
    local count = min(to - from, MAX_VALUE - field.length)
    if count > 0 then
        field.parts[#field.parts + 1] = ffi_string(text + from, count)
        field.length = field.length + count
    end
end


-- Handles a delimiter: the part before it has ended.
local function end_part(self, text, position)
    local field = self.field
    if field then
        keep(field, text, self.from, position)
        -- For an empty field, the line break before the delimiter belongs to the head.
        local last = self.break_at - 1
        if last < field.first - 1 then
            last = field.first - 1
        end
        self.fields[field.name] = {
            value = sub(concat(field.parts), 1, last - field.first + 1),
            first = field.first,
            last = last,
        }
        self.field = nil
    end
    self.is_doubtful = self.is_doubtful or not self.is_regular
    if self.lines[1] then
        self.lines = {}
    end
    self.line, self.head_length = "", 0
    self.dashes, self.is_odd = 0, false
    self.break_at = self.offset + position
end


-- Whether a head line with this first byte can be ignored: neither a relevant header, nor its
-- continuation, nor a delimiter.
local function matters_not(first)
    return first ~= LETTER_C and first ~= SMALL_C and first ~= SPACE and first ~= TAB
           and first ~= DASH and first ~= RETURN and first ~= LINE_FEED
end


-- Handles the end of a head line; `line` is without its line feed. Returns whether the line was
-- empty.
local function end_line(self, line)
    local has_return = byte(line, -1) == RETURN
    line = has_return and sub(line, 1, -2) or line
    if not has_return or find(line, "\r", 1, true) then
        self.is_doubtful = true
    end
    if line == "" then
        return true
    end
    local first = byte(line, 1)
    if first == LETTER_C or first == SMALL_C or first == SPACE or first == TAB then
        self.lines[#self.lines + 1] = line
    end
    return false
end


local function next_of(text, each, position, length)
    local found = C.memchr(text + position, each, length - position)
    if found == nil then
        return NOWHERE
    end
    return tonumber(cast(bytes_type, found) - text)
end


--- Reads a piece.
-- @tparam string|cdata text a string, or a pointer to bytes
-- @tparam number|nil length of what a pointer points to
-- @treturn boolean false: the rest of the body is not needed
function _M:feed(text, length)
    length = length or #text
    -- A pointer alone does not keep its string alive.
    self.fed = text
    text = cast(bytes_type, text)
    local delimiter, offset = self.delimiter, self.offset
    local delimiter_length = #delimiter
    local state, matched, position = self.state, self.matched, 0
    -- Positions are cached, so that each byte is searched for only once.
    local next_feed, next_return = -1, -1
    self.from = 0
    while position < length do
        if state == DATA then
            if matched >= 0 then
                if text[position] == byte(delimiter, matched + 1) then
                    position = position + 1
                    matched = matched + 1
                    if matched == delimiter_length then
                        end_part(self, text, position)
                        state, matched = STATES[BOUNDARY_LINE], MATCHED[NONE]
                    end
                else
                    matched = MATCHED[NONE]
                end
            else
                if next_feed < position then
                    next_feed = next_of(text, LINE_FEED, position, length)
                end
                if next_return < position then
                    next_return = next_of(text, RETURN, position, length)
                end
                local at = min(next_feed, next_return)
                if at == NOWHERE then
                    position = length
                else
                    if at == next_return then
                        self.return_at, self.break_at = offset + at + 1, offset + at + 1
                        self.is_regular = false
                    else
                        self.is_regular = self.return_at == offset + at
                        self.break_at = self.is_regular and offset + at or offset + at + 1
                    end
                    position = at + 1
                    matched = MATCHED[BEGUN]
                end
            end
        elseif state == BOUNDARY_LINE then
            local each = text[position]
            position = position + 1
            if each == LINE_FEED then
                if self.is_odd or self.dashes ~= 0 and self.dashes ~= 2
                   or self.return_at ~= offset + position - 1
                then
                    self.is_doubtful = true
                end
                state = STATES[HEAD]
            elseif each == RETURN then
                self.is_odd = self.is_odd or self.return_at > self.break_at
                self.return_at = offset + position
            elseif each == DASH then
                self.dashes = self.dashes + 1
            elseif not is_blank(each) then
                self.is_odd = true
            end
        elseif state == HEAD then
            local at = next_of(text, LINE_FEED, position, length)
            local stop = at == NOWHERE and length or at
            local taken = stop - position
            self.head_length = self.head_length + taken
            if self.head_length > _M.MAX_HEAD then
                self.problem, state = "part_head_too_long", STOPPED
                break
            end
            local first = text[position]
            if at ~= NOWHERE and self.line == "" and matters_not(first) and taken > 1 then
                -- Most lines need not become strings.
                local return_at = next_of(text, RETURN, position, at)
                self.is_doubtful = self.is_doubtful or return_at ~= at - 1
                self.head_length = self.head_length + 1
                position = stop + 1
            elseif at ~= NOWHERE and self.line == "" and taken >= delimiter_length
                   and C.memcmp(text + position, delimiter, delimiter_length) == 0
            then
                local rest = taken - delimiter_length
                self.is_doubtful = self.is_doubtful or text[at - 1] ~= RETURN or rest ~= 1
                                   and not (rest == 3 and text[at - 2] == DASH
                                            and text[at - 3] == DASH)
                if self.lines[1] then
                    self.lines = {}
                end
                self.head_length = 0
                position = stop + 1
            else
                local line = self.line .. ffi_string(text + position, taken)
                position = stop + 1
                if at == NOWHERE then
                    self.line = line
                else
                    self.line, self.head_length = "", self.head_length + 1
                    if sub(line, 1, delimiter_length) == delimiter then
                        self.lines, self.head_length = {}, 0
                        local rest = sub(line, delimiter_length + 1)
                        self.is_doubtful = self.is_doubtful or rest ~= "\r" and rest ~= "--\r"
                    elseif end_line(self, line) then
                        end_head(self, offset + position + 1)
                        self.from = position
                        -- A delimiter may follow immediately: the line break of the head then
                        -- counts as its line break.
                        state, matched = STATES[DATA], MATCHED[BEGUN]
                        self.break_at, self.is_regular = offset + position + 1, true
                    end
                end
            end
        else
            break
        end
    end

    if self.field then
        keep(self.field, text, self.from, length)
    end
    self.state, self.matched = state, matched
    self.offset = offset + length
    self.fed = nil
    return state ~= STOPPED
end


--- Ends the form. A field without a closing boundary does not count.
-- @treturn boolean whether all parsers read the form the same way
function _M:finish()
    return self.state ~= STOPPED and not self.field and not self.is_doubtful
end


return _M
