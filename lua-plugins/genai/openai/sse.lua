--- Finds the events of a server-sent event stream, as its bytes arrive.

local ffi = require("ffi")
local stream_events = require("genai.openai.stream_events")
local json_scan = require("genai.util.json_scan")
local byte = string.byte
local cast = ffi.cast
local find = string.find
local huge = math.huge
local min = math.min
local sub = string.sub
local concat = table.concat
local setmetatable = setmetatable

local bytes_type = ffi.typeof("const uint8_t *")

local _M = {}
local mt = { __index = _M }

-- The maximum length of a kept event; longer ones are scanned as they arrive.
local MAX_EVENT = 65536

-- The relevant fields of an event.
local DATA, EVENT = "data", "event"

-- Bytes kept of an event's name.
local MAX_NAME = 256

local LINE_FEED, RETURN, SPACE, COLON, BRACE = 10, 13, 32, 58, 123

-- A stream may begin with it, directly before an event that reports a failure.
local BYTE_ORDER_MARK = "\239\187\191"


function _M.new()
    return setmetatable({ parts = {}, count = 0, size = 0, recent = "" }, mt)
end


-- The position of the last byte of the last complete event in `text`, or 0. An event ends with an
-- empty line; lines end with LF, CRLF or CR. Usually that is the end of the text.
local function last_boundary(text)
    local each = byte(text, -1)
    for position = #text, 2, -1 do
        local before = byte(text, position - 1)
        if each == LINE_FEED then
            if before == LINE_FEED then
                return position
            elseif before == RETURN then
                local earlier = byte(text, position - 2)
                if position > 2 and (earlier == LINE_FEED or earlier == RETURN) then
                    return position
                end
            end
        elseif each == RETURN and (before == RETURN or before == LINE_FEED) then
            return position
        end
        each = before
    end
    return 0
end


-- Handles a field's name, which ends at its colon or at the end of its line.
local function begin_field(long, name)
    long.has_field = true
    long.field = name
    long.prefix = nil
    if name == DATA then
        if long.has_data then
            long.scan:feed("\n")
        end
        long.has_data = true
    elseif name == EVENT then
        long.name = ""
    end
end


-- Reads a part of a line of a long event.
local function read_part(long, bytes, first, last)
    if not long.field then
        -- Relevant names are not longer.
        local near = min(last, first + #EVENT)
        local colon = first
        while colon <= near and byte(bytes, colon) ~= COLON do
            colon = colon + 1
        end
        if colon > near then
            long.prefix = sub(long.prefix .. sub(bytes, first, near), 1, #EVENT + 1)
            return
        end
        local name = long.prefix .. sub(bytes, first, colon - 1)
        begin_field(long, name)
        long.is_spaced = true
        first = colon + 1
    end
    if long.is_spaced and first <= last then
        long.is_spaced = false
        first = byte(bytes, first) == SPACE and first + 1 or first
    end
    if first > last then
        return
    elseif long.field == DATA then
        long.scan:feed(cast(bytes_type, bytes) + first - 1, last - first + 1)
    elseif long.field == EVENT then
        long.name = sub(long.name .. sub(bytes, first, min(last, first + MAX_NAME)), 1, MAX_NAME)
    end
end


-- Continues a long event. Returns the position after its end; nil: it continues.
local function read_long(long, bytes)
    local position, length = 1, #bytes
    local next_feed, next_return = 0, 0
    while position <= length do
        if next_feed < position then
            next_feed = find(bytes, "\n", position, true) or huge
        end
        if next_return < position then
            next_return = find(bytes, "\r", position, true) or huge
        end
        local line_end = min(next_feed, next_return)
        local last = min(line_end - 1, length)
        local is_second_half = line_end == position and line_end == next_feed and long.after_return
        if last >= position then
            read_part(long, bytes, position, last)
        end
        long.after_return = line_end == next_return and line_end ~= huge
        position = last + 2
        if line_end ~= huge and not is_second_half then
            if long.field or long.prefix ~= "" then
                if not long.field then
                    begin_field(long, long.prefix)
                end
                long.field, long.prefix = nil, ""
            elseif long.has_field then
                if long.after_return and byte(bytes, position) == LINE_FEED then
                    position = position + 1
                end
                return position
            end
        end
    end
    return nil
end


-- Starts scanning an event that is partly kept.
local function begin_long(self)
    local long = { scan = json_scan.new(stream_events.PLAN), prefix = "" }
    local first = 1
    if not self.has_begun then
        self.has_begun = true
        local beginning = concat(self.parts, "", 1, self.count)
        read_long(long, sub(beginning, 1, 3) == BYTE_ORDER_MARK and sub(beginning, 4) or beginning)
        first = self.count + 1
    end
    for i = first, self.count do
        read_long(long, self.parts[i])
    end
    self.parts, self.count, self.size = {}, 0, 0
    self.long = long
end


-- Keeps bytes of an incomplete event.
local function keep(self, bytes, recent)
    local count = self.count + 1
    self.parts[count] = bytes
    self.count = count
    self.size = self.size + #bytes
    self.recent = sub(recent, -2)
    if self.size > MAX_EVENT then
        begin_long(self)
    end
end


--- Takes bytes of the stream.
-- @tparam string bytes
-- @treturn string|nil all events that these bytes complete, unchanged; if the last line end was cut
--   in two, its second half comes with the next ones
-- @treturn table|nil the long event that these bytes complete, before the others: its `scan` for
--   `stream_events.PLAN`, its `name` or nil, and `last`, the position of its last byte in `bytes`
function _M:feed(bytes)
    local ended
    if self.long then
        local position = read_long(self.long, bytes)
        if not position then
            return nil
        end
        ended = self.long
        ended.scan:finish()
        ended.last = position - 1
        self.long, self.recent = nil, ""
        if position > #bytes then
            return nil, ended
        end
        bytes = sub(bytes, position)
    end

    local boundary = last_boundary(bytes)
    if boundary == 0 then
        -- An empty line may have been cut in two.
        local recent = self.recent
        local seam = recent .. sub(bytes, 1, 2)
        boundary = last_boundary(seam) - #recent
        if boundary <= 0 then
            keep(self, bytes, #bytes > 1 and bytes or seam)
            return nil, ended
        end
    end

    self.has_begun = true
    local is_all = boundary == #bytes
    local complete = is_all and bytes or sub(bytes, 1, boundary)
    local count = self.count
    if count > 0 then
        self.parts[count + 1] = complete
        complete = concat(self.parts, "", 1, count + 1)
        self.parts, self.count, self.size = {}, 0, 0
    end
    if is_all then
        self.recent = ""
    else
        local rest = sub(bytes, boundary + 1)
        keep(self, rest, rest)
    end
    return complete, ended
end


--- The kept bytes of an incomplete event; nil: it is long and not kept.
function _M:rest()
    return not self.long and concat(self.parts, "", 1, self.count) or nil
end


--- Whether all begun events are complete. The second half of a line end may be missing.
function _M:is_between_events()
    return not self.long and (self.count == 0
           or self.size <= 2 and not find(_M.rest(self), "[^\r\n]"))
end


-- The end of the line that begins at `position`, the beginning of the next line, and the position
-- of the first colon.
local function end_of_line(text, position)
    local line_end, colon = position, nil
    local each = byte(text, line_end)
    while each ~= LINE_FEED and each ~= RETURN do
        if not each then
            return nil
        end
        if each == COLON and not colon then
            colon = line_end
        end
        line_end = line_end + 1
        each = byte(text, line_end)
    end
    if each == RETURN and byte(text, line_end + 1) == LINE_FEED then
        return line_end, line_end + 2, colon
    end
    return line_end, line_end + 1, colon
end


--- The next event of a text of complete events.
-- @tparam string text
-- @tparam number from where to begin
-- @treturn number|nil the position after it; nil: no more events
-- @treturn string|nil its data; nil if it has none, for example a comment
-- @treturn string|nil its name
function _M.next_event(text, from)
    local length = #text
    local data, lines, name
    if from == 1 and sub(text, 1, 3) == BYTE_ORDER_MARK then
        from = 4
    end
    local position = from
    while position <= length do
        local line_end, next_line, colon = end_of_line(text, position)
        if not line_end then
            return nil
        end

        if line_end == position then
            -- Empty lines before the first field are not an event.
            if data or name or position > from then
                return next_line, lines and concat(lines, "\n") or data, name
            end
            from = next_line
        else
            local field = sub(text, position, (colon or line_end) - 1)
            if field == DATA or field == EVENT then
                local value = ""
                if colon then
                    local first = byte(text, colon + 1) == SPACE and colon + 2 or colon + 1
                    value = sub(text, first, line_end - 1)
                end
                if field == EVENT then
                    name = value
                elseif not data then
                    data = value
                else
                    lines = lines or { data }
                    lines[#lines + 1] = value
                end
            end
        end
        position = next_line
    end
    return nil
end


--- Whether a text contains a usage other than `null`, so that decoding it is worthwhile.
function _M.mentions_usage(text)
    local from = 1
    while true do
        -- Searching for the word is faster than for its opening quote, because quotes are frequent.
        local _, last = find(text, 'usage"', from, true)
        if not last then
            return false
        end
        local position = last + 1
        local each = byte(text, position)
        while each == SPACE or each == COLON do
            position = position + 1
            each = byte(text, position)
        end
        if each == BRACE then
            return true
        end
        from = last + 1
    end
end


return _M
