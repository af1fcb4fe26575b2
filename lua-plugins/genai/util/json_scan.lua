--- Finds members of a JSON text in one pass, as its bytes arrive.
-- A body may have a hundred megabytes, and its client controls every byte. So each byte is read
-- once, only wanted values are kept, and the caller yields between pieces. The text is not fully
-- validated, because the backend does that; but text that is not JSON is noticed, because two
-- parsers may read it differently.

local bit = require("bit")
local ffi = require("ffi")
local new_table = require("table.new")
local C = ffi.C
local band, bor, lshift = bit.band, bit.bor, bit.lshift
local cast = ffi.cast
local char = string.char
local concat = table.concat
local ffi_string = ffi.string
local find = string.find
local floor = math.floor
local ipairs = ipairs
local min = math.min
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber
local type = type

ffi.cdef([[
void *memchr(const void *s, int c, size_t n);
size_t strspn(const char *s, const char *accept);
]])

local bytes_type = ffi.typeof("const uint8_t *")

local _M = {}
local mt = { __index = _M }

--- Maximum nesting depth of objects and arrays.
_M.MAX_DEPTH = 512

--- Maximum length of a member's name as written, in bytes.
_M.MAX_NAME = 16384

-- Bytes kept of a value, as written. Only the beginning of a longer value is kept: it cannot be a
-- name, and the caller sees that it is too long.
local MAX_VALUE = 2048

-- Bytes kept of an object that is kept as text, which a caller decodes at once.
local MAX_RAW = 16384

-- The default for the number of values kept of one word.
local MAX_WORDS = 8

local QUOTE, BACKSLASH, COMMA, COLON, SPACE, LETTER_U = 34, 92, 44, 58, 32, 117

-- After this many numbers in a row, more are likely, as in embeddings or token lists.
local MANY = 16

-- States of the scan: before the text's value; in an array, before its first value, before another
-- one, after one; the same in an object, with names and colons. A "list" is an array whose strings
-- are wanted; a "kept" string is the value of a wanted name.
local START, DONE, STOPPED = 0, 1, 2
local ARRAY_FIRST, ARRAY_VALUE, ARRAY_AFTER = 3, 4, 5
local OBJECT_FIRST, OBJECT_NAME, OBJECT_COLON, OBJECT_VALUE, OBJECT_AFTER = 6, 7, 8, 9, 10
local LIST_FIRST, LIST_VALUE, LIST_AFTER = 11, 12, 13
local KEPT_COLON, KEPT_VALUE = 14, 15
-- States inside a token that continues in the next piece, or after an escaped quote.
local IN_NAME, ARRAY_STRING, OBJECT_STRING, OBJECT_KEPT_STRING, LIST_STRING = 16, 17, 18, 19, 20
local ARRAY_LITERAL, OBJECT_LITERAL, OBJECT_KEPT_LITERAL, LIST_LITERAL = 21, 22, 23, 24

-- Actions for a byte.
local STOP, SKIP, STEP, NUMBER_STEP = 0, 1, 2, 3
local BEGIN_STRING, BEGIN_KEPT_STRING, STRING, NAME = 4, 5, 6, 7
local BEGIN_LITERAL, BEGIN_KEPT_LITERAL, END_LITERAL, END_KEPT_LITERAL = 8, 9, 10, 11
local OPEN, OPEN_KEPT, CLOSE = 12, 13, 14

-- Kinds of bytes.
local OTHER, BLANK, LITERAL, A_QUOTE, A_COLON, A_COMMA = 0, 1, 2, 3, 4, 5
local OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET = 6, 7, 8, 9

-- Added to the following state of an object or array whose end matters.
local WATCHED = 32

-- The kind of each byte; and by state and kind, the action and the following state. Reading these
-- from memory keeps LuaJIT from treating states as constants: it does not compile a loop whose next
-- branch is known.
local KIND = ffi.new("uint8_t[256]")
local ACTION = ffi.new("uint8_t[512]")
local NEXT = ffi.new("uint8_t[512]")


local function define_kinds()
    for kind, characters in pairs({
        [BLANK] = " \t\r\n", [A_QUOTE] = '"', [A_COLON] = ":", [A_COMMA] = ",",
        [OPEN_BRACE] = "{", [CLOSE_BRACE] = "}", [OPEN_BRACKET] = "[", [CLOSE_BRACKET] = "]",
        [LITERAL] = "0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    }) do
        for i = 1, #characters do
            KIND[characters:byte(i)] = kind
        end
    end
end


local function on(states, kinds, action, following)
    for _, state in ipairs(states) do
        for _, kind in ipairs(kinds) do
            ACTION[state * 16 + kind] = action
            NEXT[state * 16 + kind] = following or state
        end
    end
end


local function define_states()
    local all = { OTHER, BLANK, LITERAL, A_QUOTE, A_COLON, A_COMMA, OPEN_BRACE, CLOSE_BRACE,
                  OPEN_BRACKET, CLOSE_BRACKET }
    for state = START, KEPT_VALUE do
        on({ state }, all, STOP, STOPPED)
        on({ state }, { BLANK }, SKIP)
    end
    on({ STOPPED }, all, STOP, STOPPED)

    -- The following state is put on the stack, or applies after the token.
    on({ START, ARRAY_FIRST, ARRAY_VALUE, OBJECT_VALUE, LIST_FIRST, LIST_VALUE }, { OPEN_BRACE },
       OPEN, OBJECT_FIRST)
    on({ START, ARRAY_FIRST, ARRAY_VALUE, OBJECT_VALUE, LIST_FIRST, LIST_VALUE }, { OPEN_BRACKET },
       OPEN, ARRAY_FIRST)
    on({ KEPT_VALUE }, { OPEN_BRACE }, OPEN_KEPT, OBJECT_FIRST)
    on({ KEPT_VALUE }, { OPEN_BRACKET }, OPEN_KEPT, ARRAY_FIRST)
    on({ ARRAY_FIRST, ARRAY_AFTER, LIST_FIRST, LIST_AFTER }, { CLOSE_BRACKET }, CLOSE)
    on({ OBJECT_FIRST, OBJECT_AFTER }, { CLOSE_BRACE }, CLOSE)

    on({ ARRAY_AFTER }, { A_COMMA }, NUMBER_STEP, ARRAY_VALUE)
    on({ LIST_AFTER }, { A_COMMA }, STEP, LIST_VALUE)
    on({ OBJECT_AFTER }, { A_COMMA }, STEP, OBJECT_NAME)
    on({ OBJECT_COLON }, { A_COLON }, STEP, OBJECT_VALUE)
    on({ KEPT_COLON }, { A_COLON }, STEP, KEPT_VALUE)

    on({ OBJECT_FIRST, OBJECT_NAME }, { A_QUOTE }, BEGIN_STRING, IN_NAME)
    on({ ARRAY_FIRST, ARRAY_VALUE }, { A_QUOTE }, BEGIN_STRING, ARRAY_STRING)
    on({ OBJECT_VALUE }, { A_QUOTE }, BEGIN_STRING, OBJECT_STRING)
    on({ KEPT_VALUE }, { A_QUOTE }, BEGIN_KEPT_STRING, OBJECT_KEPT_STRING)
    on({ LIST_FIRST, LIST_VALUE }, { A_QUOTE }, BEGIN_KEPT_STRING, LIST_STRING)
    on({ IN_NAME }, all, NAME, OBJECT_COLON)
    on({ ARRAY_STRING }, all, STRING, ARRAY_AFTER)
    on({ OBJECT_STRING, OBJECT_KEPT_STRING }, all, STRING, OBJECT_AFTER)
    on({ LIST_STRING }, all, STRING, LIST_AFTER)

    on({ ARRAY_FIRST, ARRAY_VALUE }, { LITERAL }, BEGIN_LITERAL, ARRAY_LITERAL)
    on({ OBJECT_VALUE }, { LITERAL }, BEGIN_LITERAL, OBJECT_LITERAL)
    on({ KEPT_VALUE }, { LITERAL }, BEGIN_KEPT_LITERAL, OBJECT_KEPT_LITERAL)
    on({ LIST_FIRST, LIST_VALUE }, { LITERAL }, BEGIN_LITERAL, LIST_LITERAL)
    on({ ARRAY_LITERAL }, all, END_LITERAL, ARRAY_AFTER)
    on({ OBJECT_LITERAL }, all, END_LITERAL, OBJECT_AFTER)
    on({ OBJECT_KEPT_LITERAL }, all, END_KEPT_LITERAL, OBJECT_AFTER)
    on({ LIST_LITERAL }, all, END_LITERAL, LIST_AFTER)
    on({ ARRAY_LITERAL, OBJECT_LITERAL, OBJECT_KEPT_LITERAL, LIST_LITERAL }, { LITERAL }, SKIP)
end


define_kinds()
define_states()

-- The state after a value, if it is known before the value begins.
local AFTER = ffi.new("uint8_t[32]")
AFTER[START] = DONE
AFTER[ARRAY_FIRST], AFTER[ARRAY_VALUE] = ARRAY_AFTER, ARRAY_AFTER
AFTER[OBJECT_VALUE], AFTER[KEPT_VALUE] = OBJECT_AFTER, OBJECT_AFTER
AFTER[LIST_FIRST], AFTER[LIST_VALUE] = LIST_AFTER, LIST_AFTER

-- JSON parsers in backends skip it.
local BYTE_ORDER_MARK = { 239, 187, 191 }


local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
                  ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }


local function utf8(code)
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xC0 + floor(code / 0x40), 0x80 + code % 0x40)
    elseif code < 0x10000 then
        return char(0xE0 + floor(code / 0x1000), 0x80 + floor(code / 0x40) % 0x40,
                    0x80 + code % 0x40)
    end
    return char(0xF0 + floor(code / 0x40000), 0x80 + floor(code / 0x1000) % 0x40,
                0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end


local function hex_at(text, position)
    local digits = sub(text, position, position + 3)
    return #digits == 4 and not find(digits, "%X") and tonumber(digits, 16) or nil
end


-- The character of the escape whose backslash is at `position`, and the position of its end.
local function escaped_at(text, position)
    local letter = sub(text, position + 1, position + 1)
    if letter ~= "u" then
        return ESCAPES[letter], position + 1
    end
    local code = hex_at(text, position + 2)
    if not code or code >= 0xDC00 and code < 0xE000 then
        return nil
    elseif code < 0xD800 or code >= 0xE000 then
        return utf8(code), position + 5
    end
    local second = sub(text, position + 6, position + 7) == "\\u" and hex_at(text, position + 8)
    if not second or second < 0xDC00 or second >= 0xE000 then
        return nil
    end
    return utf8(0x10000 + (code - 0xD800) * 0x400 + second - 0xDC00), position + 11
end


--- The value of a JSON string.
-- @tparam string raw the text between its quotes
-- @treturn string|nil nil: it has an invalid escape
function _M.unescape(raw)
    local from = find(raw, "\\", 1, true)
    if not from then
        return raw
    end

    local parts, count, position = {}, 0, 1
    while from do
        local character, last = escaped_at(raw, from)
        if not character then
            return nil
        end
        parts[count + 1] = sub(raw, position, from - 1)
        parts[count + 2] = character
        count = count + 2
        position = last + 1
        from = find(raw, "\\", position, true)
    end
    parts[count + 1] = sub(raw, position)
    return concat(parts)
end


--- Compiles what a scan looks for.
-- @tparam table members list of names of members of the outermost object, such as "model", and of
--   members of objects in it, such as "response.id". A table `{ name, is_raw, is_first, may_repeat
--   }` instead of a name sets options: `is_raw` keeps an object's text, `is_first` keeps the first
--   of two, `may_repeat` ignores a second one
-- @tparam table|nil words list of members whose strings, or lists of strings, are found at any
--   depth: `{ name, prefix, limit, length, is_recent }`: the prefix of the strings, how many are
--   kept, how many bytes of each, and whether the last ones are kept instead of the first. `within`
--   and `depth` restrict the search to the value of that member of the outermost object, and to
--   that depth (the outermost object has 1); `key` is then the key of the values
-- @treturn table for `new`
function _M.plan(members, words)
    local plan = { names = {}, candidates = {}, longest = 0, has_words = false }
    local count = 0

    local function entry_of(name)
        local entry = plan.names[name]
        if not entry then
            count = count + 1
            entry = { bit = lshift(1, count) }
            plan.names[name] = entry
            plan.candidates[#name * 256 + name:byte()] = true
            plan.longest = #name > plan.longest and #name or plan.longest
        end
        return entry
    end

    for _, each in ipairs(members) do
        local spec = type(each) == "table" and each or { name = each }
        local key = spec.name or spec[1]
        spec = { key = key, is_raw = spec.is_raw, is_first = spec.is_first,
                 may_repeat = spec.may_repeat }
        local parent, child = key:match("^(.-)%.(.+)$")
        local entry = entry_of(child or key)
        if parent then
            entry.children = entry.children or {}
            entry.children[parent] = spec
            local parents = entry_of(parent)
            parents.top = parents.top or { key = parent, may_repeat = spec.may_repeat }
            parents.top.has_children = true
        elseif entry.top then
            entry.top.is_raw, entry.top.is_first = spec.is_raw, spec.is_first
            entry.top.may_repeat = spec.may_repeat
        else
            entry.top = spec
        end
    end
    for _, each in ipairs(words or {}) do
        plan.has_words = true
        local entry = entry_of(each.name)
        local spec = {
            key = each.key or each.name, is_word = true, prefix = each.prefix,
            length = each.length, limit = each.limit or MAX_WORDS, is_recent = each.is_recent,
            depth = each.depth, may_repeat = each.may_repeat,
        }
        if each.within then
            entry.deep = entry.deep or {}
            entry.deep[each.within] = spec
            local parents = entry_of(each.within)
            parents.top = parents.top or { key = each.within, may_repeat = true }
            parents.top.has_deep = true
        else
            entry.word = spec
        end
    end
    return plan
end


--- A new scan.
-- @tparam table plan as `plan` returns it
function _M.new(plan)
    return setmetatable({
        plan = plan,
        members = {},
        state = START,
        depth = 0,
        -- for each open object or array: the following state, and which wanted names it has had
        stack = new_table(8, 0),
        seen = new_table(8, 0),
        -- number of bytes before this piece
        offset = 0,
        -- 1: the last byte was a backslash that escapes the next one
        carry = 0,
        name_length = 0,
    }, mt)
end


local function stop(self, problem)
    self.state = STOPPED
    self.problem = self.problem or problem
end


-- Whether a backslash escapes the byte at `position`, that is, an odd number of them precede it,
-- back to `start`; `carry` is 1 if the previous piece escapes the byte at `start`.
local function is_escaped(text, start, position, carry)
    local before = position - 1
    while before >= start and text[before] == BACKSLASH do
        before = before - 1
    end
    local run = position - 1 - before
    if before < start then
        run = run + carry
    end
    return band(run, 1) == 1
end


-- The values of hex digits. Other bytes have a value that leads to no letter.
local HEX = ffi.new("uint16_t[256]")
for each = 0, 255 do
    HEX[each] = tonumber(char(each), 16) or 4096
end

-- A name without its escapes.
local decoded = ffi.new("uint8_t[64]")


-- Decodes a name with escapes if it can be a wanted one: short, and only with characters of wanted
-- names. Making a string for every other name would be garbage that a client controls.
local function decoded_name(plan, text, start, length)
    local position, last, count = start, start + length, 0
    while position < last do
        local each = text[position]
        if each == BACKSLASH then
            if position + 5 >= last or text[position + 1] ~= LETTER_U then
                return nil
            end
            each = 0
            for digit = position + 2, position + 5 do
                each = each * 16 + HEX[text[digit]]
            end
            position = position + 6
        else
            position = position + 1
        end
        if count == plan.longest or each > 127 then
            return nil
        end
        decoded[count] = each
        count = count + 1
    end
    return plan.candidates[count * 256 + decoded[0]] and ffi_string(decoded, count) or nil
end


-- The wanted entry for a name, or nil.
local function wanted_as(self, text, start, length, depth)
    local plan = self.plan
    if depth > 1 and not plan.has_words and not (depth == 2 and self.parent) or length == 0
       or length > plan.longest * 6
    then
        return nil
    end
    local name
    if C.memchr(text + start, BACKSLASH, length) ~= nil then
        name = decoded_name(plan, text, start, length)
    elseif plan.candidates[length * 256 + text[start]] then
        name = ffi_string(text + start, length)
    end
    local entry = name and plan.names[name]
    if not entry then
        return nil
    end
    local spec = depth == 1 and entry.top or entry.word
    if depth == 2 and self.parent and entry.children then
        spec = entry.children[self.parent] or spec
    end
    local deep = entry.deep and self.parent and entry.deep[self.parent]
    if deep and deep.depth == depth then
        spec = deep
    end
    if not spec then
        return nil
    end

    local seen = self.seen[depth]
    if spec.may_repeat then
        return spec
    elseif band(seen, entry.bit) ~= 0 then
        self.duplicate = self.duplicate or spec.key
    else
        self.seen[depth] = bor(seen, entry.bit)
    end
    return spec
end


local function add_word(self, spec, value)
    if not value or value == "" or spec.prefix and sub(value, 1, #spec.prefix) ~= spec.prefix then
        return
    end
    local words = self.words
    if not words then
        words = {}
        self.words = words
    end
    local values = words[spec.key]
    if not values then
        values = {}
        words[spec.key] = values
    end
    if spec.is_recent then
        -- A ring buffer: the oldest value is replaced.
        local count = (values.count or 0) + 1
        values.count = count
        values[(count - 1) % spec.limit + 1] = value
    elseif #values < spec.limit then
        for i = 1, #values do
            if values[i] == value then
                return
            end
        end
        values[#values + 1] = value
    end
end


-- Adds bytes to the kept value.
local function keep(self, text, from, to)
    local left = self.limit - self.kept_length
    if left <= 0 or to <= from then
        self.is_cut = self.is_cut or to > from
        return
    end
    local count = min(to - from, left)
    self.is_cut = count < to - from
    local bytes = ffi_string(text + from, count)
    local kept = self.kept
    if not kept then
        self.kept = bytes
    elseif self.kept_length < MAX_VALUE then
        self.kept = kept .. bytes
    else
        local parts = self.parts
        if not parts then
            parts = {}
            self.parts = parts
        end
        parts[#parts + 1] = bytes
    end
    self.kept_length = self.kept_length + count
end


local function kept_text(self)
    local text = self.kept or ""
    if self.parts then
        text = text .. concat(self.parts)
    end
    self.kept, self.parts, self.kept_length = nil, nil, 0
    return text
end


local function begin_kept(self, spec, kind, first)
    self.spec, self.kind, self.first = spec, kind, first
    self.kept, self.parts, self.kept_length, self.is_cut = nil, nil, 0, false
    self.limit = spec.is_raw and MAX_RAW or spec.length or MAX_VALUE
end


local function note_member(self, spec, kind, value, first, last)
    if spec.is_first and self.members[spec.key] then
        return
    end
    self.members[spec.key] = { kind = kind, value = value, first = first, last = last }
end


-- Handles the end of a kept value.
local function end_kept(self, last)
    local spec, kind = self.spec, self.kind
    local value = kept_text(self)
    self.spec = nil
    if kind == "string" then
        if spec.length then
            local escape = find(value, "\\", 1, true)
            value = escape and sub(value, 1, escape - 1) or value
        elseif not self.is_cut then
            value = _M.unescape(value)
        end
    elseif self.is_cut then
        value = nil
    end
    if spec.is_word then
        if kind == "string" then
            add_word(self, spec, value)
        end
        return
    end
    note_member(self, spec, kind, value, self.first, last)
end


-- Handles the end of a name at `quote`; `self.name` holds its beginning from earlier pieces.
-- Returns the wanted entry, or nil.
local function end_name(self, text, start, quote, depth)
    local length = quote - start
    local before = self.name_length
    if before + length > _M.MAX_NAME then
        return stop(self, "name_too_long")
    end
    if before == 0 then
        return wanted_as(self, text, start, length, depth)
    end
    self.name_length = 0
    if before + length > self.plan.longest * 6 then
        return nil
    end
    local name = self.name .. ffi_string(text + start, length)
    self.name = name
    return wanted_as(self, cast(bytes_type, name), 0, #name, depth)
end


-- Keeps the beginning of a name that continues in the next piece.
local function keep_name(self, text, start, length)
    local longest = self.plan.longest * 6
    if self.name_length == 0 then
        self.name = ""
    end
    if self.name_length <= longest then
        self.name = self.name .. ffi_string(text + start, min(length - start, longest + 1))
    end
    self.name_length = self.name_length + length - start
    if self.name_length > _M.MAX_NAME then
        stop(self, "name_too_long")
    end
end


-- Handles the beginning of an object or array that is the value of a wanted name: its first byte is
-- at `position`, its depth is `depth`. Returns the state in it, and whether its end matters.
local function begin_nested(self, position, depth, state)
    local spec = self.pending
    local is_object = state == OBJECT_FIRST
    local kind = is_object and "object" or "array"
    if spec.is_word then
        if is_object or self.raw_depth or self.list_depth then
            return state, false
        end
        self.list, self.list_depth = spec, depth
        return LIST_FIRST, true
    end

    local is_watched = false
    if spec.is_raw and not self.raw_depth then
        begin_kept(self, spec, kind, self.offset + position + 1)
        self.raw_depth, self.from = depth, position
        is_watched = true
    else
        note_member(self, spec, kind, nil, self.offset + position + 1)
    end
    if spec.has_children and is_object or spec.has_deep then
        self.parent = spec.key
        is_watched = true
    end
    return state, is_watched
end


-- Handles the end of an object or array whose end matters.
local function end_nested(self, text, position, depth)
    if depth == self.raw_depth then
        keep(self, text, self.from, position + 1)
        self.raw_depth = nil
        end_kept(self, self.offset + position + 1)
    end
    if depth == self.list_depth then
        self.list, self.list_depth = nil, nil
    end
    if depth == 2 then
        self.parent = nil
    end
end


-- Skips a byte order mark at the beginning of the text. Returns the position after it.
local function skip_mark(self, text, length)
    local position = 0
    while position < length do
        local at = self.offset + position
        if at >= 3 or text[position] ~= BYTE_ORDER_MARK[at + 1] then
            if at > 0 and at < 3 then
                stop(self)
            end
            self.is_marked = true
            return position
        end
        position = position + 1
    end
    return position
end


-- The beginning of the last in a row of comma-separated numbers from `position` on. Sixteen
-- different bytes are as many as a processor can search for at once.
local function skip_numbers(text, position, length)
    local count = tonumber(C.strspn(text + position, "0123456789+-.,e "))
    local last = min(position + count, length)
    while last > position and text[last - 1] ~= COMMA do
        last = last - 1
    end
    return last
end


-- Saves the state of a token that continues in the next piece.
local function end_piece(self, text, start, length)
    local state = self.state
    if state == IN_NAME then
        keep_name(self, text, start, length)
    end
    if state >= IN_NAME and state <= LIST_STRING then
        self.carry = is_escaped(text, start, length, self.carry) and 1 or 0
    end
    if state == OBJECT_KEPT_STRING or state == LIST_STRING or state == OBJECT_KEPT_LITERAL then
        if self.spec and not self.raw_depth then
            keep(self, text, start, length)
        end
    end
    if self.raw_depth then
        keep(self, text, self.from, length)
        self.from = 0
    end
end


-- Handles the beginning of a kept string or literal at `position`.
local function begin_value(self, kind, position, is_in_list)
    local spec = is_in_list and self.list or self.pending
    if not self.raw_depth then
        begin_kept(self, spec, kind, self.offset + position)
    end
end


-- Handles the end of a kept string or literal.
local function end_value(self, text, start, position, last)
    if not self.raw_depth then
        keep(self, text, start, position)
        end_kept(self, self.offset + last)
    end
end


--- Reads a piece.
-- @tparam string|cdata text a string, or a pointer to bytes that are followed by a NUL
-- @tparam number|nil length of what a pointer points to
-- @treturn boolean false: the rest of the text is not needed
function _M:feed(text, length)
    length = length or #text
    -- A pointer alone does not keep its string alive.
    self.fed = text
    text = cast(bytes_type, text)
    local position = 0
    if not self.is_marked then
        position = skip_mark(self, text, length)
    end

    -- One loop without inner loops, so that LuaJIT compiles it as one tree of traces.
    local stack, seen = self.stack, self.seen
    local state, depth, carry = self.state, self.depth, self.carry
    local start, numbers = 0, 0
    while position < length do
        local index = state * 16 + KIND[text[position]]
        local action = ACTION[index]
        if action == STRING or action == NAME then
            local found = C.memchr(text + position, QUOTE, length - position)
            if found == nil then
                break
            end
            local quote = tonumber(cast(bytes_type, found) - text)
            -- Usually there is no backslash before it, or one.
            local goes_on
            if quote - start < 2 then
                goes_on = is_escaped(text, start, quote, carry)
            elseif text[quote - 1] ~= BACKSLASH then
                goes_on = false
            elseif text[quote - 2] ~= BACKSLASH then
                goes_on = true
            else
                goes_on = is_escaped(text, start, quote, carry)
            end
            position = quote + 1
            if not goes_on then
                carry = 0
                if action == NAME then
                    state = NEXT[index]
                    local spec = end_name(self, text, start, quote, depth)
                    if spec then
                        self.pending = spec
                        state = KEPT_COLON
                    elseif self.problem then
                        state = STOPPED
                        break
                    elseif position < length and text[position] == COLON then
                        -- The usual next byte is handled here, without another round of the loop.
                        position = position + 1
                        state = OBJECT_VALUE
                        if position < length and text[position] == SPACE then
                            position = position + 1
                        end
                        if position < length and text[position] == QUOTE then
                            position = position + 1
                            start = position
                            state = OBJECT_STRING
                        end
                    end
                else
                    if state == OBJECT_KEPT_STRING or state == LIST_STRING then
                        end_value(self, text, start, quote, position)
                    end
                    state = NEXT[index]
                    if position < length and text[position] == COMMA then
                        index = state * 16 + A_COMMA
                        position = position + 1
                        state = NEXT[index]
                        if position < length and text[position] == SPACE then
                            position = position + 1
                        end
                        if position < length and text[position] == QUOTE
                           and state ~= LIST_VALUE
                        then
                            index = state * 16 + A_QUOTE
                            position = position + 1
                            start = position
                            state = NEXT[index]
                        end
                    end
                end
            end
        elseif action == BEGIN_STRING then
            position = position + 1
            start = position
            state = NEXT[index]
        elseif action == STEP then
            position = position + 1
            state = NEXT[index]
        elseif action == SKIP then
            position = position + 1
        elseif action == OPEN then
            if depth == _M.MAX_DEPTH then
                stop(self, "nested_too_deeply")
                state = STOPPED
                break
            end
            depth = depth + 1
            stack[depth] = AFTER[state]
            seen[depth] = 0
            state = NEXT[index]
            numbers = 0
            position = position + 1
            if position < length and text[position] == QUOTE then
                index = state * 16 + A_QUOTE
                position = position + 1
                start = position
                state = NEXT[index]
            end
        elseif action == CLOSE then
            local after = stack[depth]
            if after >= WATCHED then
                after = after - WATCHED
                end_nested(self, text, position, depth)
            end
            if depth == 1 then
                self.is_object = state == OBJECT_FIRST or state == OBJECT_AFTER
            end
            state = after
            depth = depth - 1
            numbers = 0
            position = position + 1
            if position < length and text[position] == COMMA and depth > 0 then
                index = state * 16 + A_COMMA
                position = position + 1
                state = NEXT[index]
            end
        elseif action == BEGIN_LITERAL then
            start = position
            position = position + 1
            state = NEXT[index]
        elseif action == END_LITERAL then
            state = NEXT[index]
            numbers = numbers + 1
        elseif action == NUMBER_STEP then
            position = position + 1
            state = NEXT[index]
            if numbers > MANY then
                numbers = 0
                position = skip_numbers(text, position, length)
            end
        elseif action == BEGIN_KEPT_STRING then
            position = position + 1
            start = position
            begin_value(self, "string", position, state ~= KEPT_VALUE)
            state = NEXT[index]
        elseif action == BEGIN_KEPT_LITERAL then
            start = position
            position = position + 1
            begin_value(self, "literal", position, false)
            state = NEXT[index]
        elseif action == END_KEPT_LITERAL then
            end_value(self, text, start, position, position)
            state = NEXT[index]
        elseif action == OPEN_KEPT then
            if depth == _M.MAX_DEPTH then
                stop(self, "nested_too_deeply")
                state = STOPPED
                break
            end
            depth = depth + 1
            local following, is_watched = begin_nested(self, position, depth, NEXT[index])
            stack[depth] = AFTER[state] + (is_watched and WATCHED or 0)
            seen[depth] = 0
            state = following
            position = position + 1
        else
            state = STOPPED
            break
        end
    end

    self.state, self.depth, self.carry = state, depth, carry
    if state ~= STOPPED then
        end_piece(self, text, start, length)
    end
    self.offset = self.offset + length
    self.fed = nil
    return self.state ~= STOPPED
end


--- The values of a word with `is_recent`, the last one first.
-- @tparam table scan
-- @tparam string key
-- @treturn table
function _M.recent(scan, key)
    local values = scan.words and scan.words[key]
    local list = {}
    for i = 1, values and #values or 0 do
        list[i] = values[(values.count - i) % #values + 1]
    end
    return list
end


--- Whether the text breaks off here. A text that is not JSON does not.
function _M:is_cut()
    local state = self.state
    return state ~= START and state ~= DONE and state ~= STOPPED
end


--- Ends the text.
-- @treturn boolean whether it was exactly one JSON object, so that all parsers agree on it. If the
--   text breaks off, no members are known
function _M:finish()
    if self.state == STOPPED then
        return false
    elseif self.state ~= DONE then
        self.members = {}
        return false
    end
    return self.is_object
end


return _M
