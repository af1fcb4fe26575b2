--- Finds the events of a server-sent event stream, as its bytes arrive.

local byte = string.byte
local find = string.find
local sub = string.sub
local concat = table.concat
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- Of an event that never ends no more than this is kept.
local MAX_EVENT = 4 * 1024 * 1024

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


-- Keeps bytes of an event that is not complete.
local function keep(self, bytes, recent)
    local size = self.size + #bytes
    if size > MAX_EVENT then
        self.parts, self.count, self.size = {}, 0, 0
    else
        local count = self.count + 1
        self.parts[count] = bytes
        self.count = count
        self.size = size
    end
    self.recent = sub(recent, -2)
end


--- Takes bytes of the stream.
-- @tparam string bytes
-- @treturn string|nil all events that these bytes complete, whole, as they were sent; where the
--   last line end was cut in two, its second half comes with the next ones
function _M:feed(bytes)
    local boundary = last_boundary(bytes)
    if boundary == 0 then
        -- An empty line may have been cut in two.
        local recent = self.recent
        local seam = recent .. sub(bytes, 1, 2)
        boundary = last_boundary(seam) - #recent
        if boundary <= 0 then
            keep(self, bytes, #bytes > 1 and bytes or seam)
            return nil
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
    return complete
end


-- Where the line that begins at `position` ends, and where the next one begins.
local function end_of_line(text, position)
    local line_end = position
    local each = byte(text, line_end)
    while each ~= LINE_FEED and each ~= RETURN do
        if not each then
            return nil
        end
        line_end = line_end + 1
        each = byte(text, line_end)
    end
    if each == RETURN and byte(text, line_end + 1) == LINE_FEED then
        return line_end, line_end + 2
    end
    return line_end, line_end + 1
end


--- The next event of a text of complete events.
-- @tparam string text
-- @tparam number from where to begin
-- @treturn number|nil where to go on; nil: there is none
-- @treturn string|nil its data; nil where it is only a comment, say
-- @treturn string|nil its name
function _M.next_event(text, from)
    local length = #text
    local data, name
    if from == 1 and sub(text, 1, 3) == BYTE_ORDER_MARK then
        from = 4
    end
    local position = from
    while position <= length do
        local line_end, next_line = end_of_line(text, position)
        if not line_end then
            return nil
        end

        if line_end == position then
            -- Empty lines before the first field are no event.
            if data or name or position > from then
                return next_line, data, name
            end
            from = next_line
        else
            local colon = find(text, ":", position, true)
            local field, value
            if colon and colon < line_end then
                field = sub(text, position, colon - 1)
                local first = byte(text, colon + 1) == SPACE and colon + 2 or colon + 1
                value = sub(text, first, line_end - 1)
            else
                field, value = sub(text, position, line_end - 1), ""
            end
            if field == "data" then
                data = data and data .. "\n" .. value or value
            elseif field == "event" then
                name = value
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
