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

local LINE_FEED, RETURN, SPACE, COLON = 10, 13, 32, 58


function _M.new()
    return setmetatable({ parts = {}, count = 0, size = 0, recent = "" }, mt)
end


-- Position of the last byte of the last complete event in `text`, or nil. An event ends with an
-- empty line; lines end with LF, CRLF or CR.
local function last_boundary(text)
    local length = #text
    local last = byte(text, length)
    -- Nearly always the text ends where an event does.
    if last == LINE_FEED then
        local before = byte(text, length - 1)
        if before == LINE_FEED
           or before == RETURN and byte(text, length - 2) == LINE_FEED
        then
            return length
        end
    end

    local boundary
    local from = 1
    while true do
        local _, stop = find(text, "\n\r?\n", from)
        local _, stop_at_return = find(text, "\r\r", from, true)
        if stop_at_return and (not stop or stop_at_return < stop) then
            stop = stop_at_return
        end
        if not stop then
            return boundary
        end
        boundary = stop
        from = stop
    end
end


--- Takes bytes of the stream.
-- @tparam string bytes
-- @treturn string|nil all events that these bytes complete, whole, as they were sent
function _M:feed(bytes)
    -- An empty line may have been cut in two.
    local recent = self.recent
    local text = recent == "" and bytes or recent .. bytes
    local boundary = last_boundary(text)
    local count = self.count
    if not boundary or boundary <= #recent then
        self.size = self.size + #bytes
        if self.size > MAX_EVENT then
            self.parts, self.count, self.size = {}, 0, 0
        else
            self.parts[count + 1] = bytes
            self.count = count + 1
        end
        self.recent = sub(text, -3)
        return nil
    end

    boundary = boundary - #recent
    local rest = ""
    local complete = bytes
    if boundary < #bytes then
        complete = sub(bytes, 1, boundary)
        rest = sub(bytes, boundary + 1)
    end
    if count > 0 then
        self.parts[count + 1] = complete
        complete = concat(self.parts, "", 1, count + 1)
    end
    self.parts = { rest ~= "" and rest or nil }
    self.count = rest ~= "" and 1 or 0
    self.size = #rest
    self.recent = sub(rest, -3)
    return complete
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
    local position = from
    while position <= length do
        local line_end = find(text, "[\r\n]", position)
        if not line_end then
            return nil
        end
        local next_line = line_end + 1
        if byte(text, line_end) == RETURN and byte(text, next_line) == LINE_FEED then
            next_line = next_line + 1
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
        local _, last = find(text, '"usage"', from, true)
        if not last then
            return false
        end
        local position = last + 1
        local each = byte(text, position)
        while each == SPACE or each == COLON do
            position = position + 1
            each = byte(text, position)
        end
        if each == 123 then
            return true
        end
        from = last + 1
    end
end


return _M
