--- Finds the events of a server-sent event stream, as its bytes arrive.

local ffi = require("ffi")
local events = require("genai.events")
local json_scan = require("genai.json_scan")
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

-- An event that is longer is not kept: its data are scanned as they arrive.
local MAX_EVENT = 65536

-- The fields of an event that matter.
local DATA, EVENT = "data", "event"

-- Bytes kept of an event's name.
local MAX_NAME = 256

local LINE_FEED, RETURN, SPACE, COLON, BRACE = 10, 13, 32, 58, 123

-- A stream may begin with it, and its first event is the one that may say that it was refused.
local BYTE_ORDER_MARK = "\239\187\191"


function _M.new()
    return setmetatable({ parts = {}, count = 0, size = 0, recent = "" }, mt)
end


-- Position of the last byte of the last complete event in `text`, or 0. An event ends with an
-- empty line; lines end with LF, CRLF or CR. Nearly always that is where the text ends.
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


-- A field's name has been read as far as its colon or the end of its line.
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
        -- No name that matters is longer.
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


-- Reads a long event on. Gives where what follows it begins; nil: it goes on.
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


-- Begins to scan an event, of which some has been kept.
local function begin_long(self)
    local long = { scan = json_scan.new(events.PLAN), prefix = "" }
    for i = 1, self.count do
        read_long(long, self.parts[i])
    end
    self.parts, self.count, self.size = {}, 0, 0
    self.long = long
end


-- Keeps bytes of an event that is not complete.
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
-- @treturn string|nil all events that these bytes complete, whole, as they were sent; where the
--   last line end was cut in two, its second half comes with the next ones
-- @treturn table|nil the long event that these bytes complete, before the others: its `scan` for
--   `events.PLAN`, and its `name` or nil
function _M:feed(bytes)
    local ended
    if self.long then
        local position = read_long(self.long, bytes)
        if not position then
            return nil
        end
        ended = self.long
        ended.scan:finish()
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


-- Where the line that begins at `position` ends, where the next one begins, and where its first
-- colon stands.
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
-- @treturn number|nil where to go on; nil: there is none
-- @treturn string|nil its data; nil where it is only a comment, say
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
            -- Empty lines before the first field are no event.
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


--- Whether a text holds a usage that is more than `null`, so that decoding it is worth while.
function _M.mentions_usage(text)
    local from = 1
    while true do
        -- Quotes are many; a search for the word does not stop at each.
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
