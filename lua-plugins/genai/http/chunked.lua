--- Decodes the chunked transfer coding of a body as it arrives.

local byte = string.byte
local find = string.find
local match = string.match
local sub = string.sub
local concat = table.concat
local tonumber = tonumber
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

local MAX_LINE = 8192
local MAX_TRAILER = 65536
local MAX_DIGITS = 12

local LINE_FEED, RETURN, SPACE, TAB, SEMICOLON = 10, 13, 32, 9, 59


function _M.new()
    return setmetatable({ state = "size", left = 0, rest = nil, done = false }, mt)
end


-- The chunk size at the beginning of a line, or nil.
local function read_size(data, position)
    local digits = match(data, "^%x+", position)
    if not digits or #digits > MAX_DIGITS then
        return nil
    end
    local after = byte(data, position + #digits)
    if after == RETURN or after == SEMICOLON or after == SPACE or after == TAB then
        return tonumber(digits, 16)
    end
    return nil
end


--- Decodes what has arrived.
-- @tparam string data
-- @treturn string|nil the decoded bytes; nil: none yet. `self.done` is set when the body is
--   complete, and `self.rest` then contains any bytes after it
-- @treturn nil|string what is wrong with the coding
function _M:feed(data)
    if self.rest then
        data = self.rest .. data
        self.rest = nil
    end

    local position, length = 1, #data
    local payload, pieces
    while position <= length do
        local state = self.state
        if state == "data" then
            local last = position + self.left - 1
            local piece
            if last <= length then
                piece = sub(data, position, last)
                self.left = 0
                self.state = "end"
                position = last + 1
            else
                piece = sub(data, position)
                self.left = last - length
                position = length + 1
            end
            if not payload then
                payload = piece
            else
                pieces = pieces or { payload }
                pieces[#pieces + 1] = piece
            end

        elseif state == "done" then
            self.rest = sub(data, position)
            break

        elseif state == "end" then
            if byte(data, position) ~= RETURN then
                return nil, "a chunk is longer than its size"
            end
            local second = byte(data, position + 1)
            if second == LINE_FEED then
                self.state = "size"
                position = position + 2
            elseif second then
                return nil, "a chunk is longer than its size"
            else
                self.rest = "\r"
                break
            end

        else
            local line_end = find(data, "\r\n", position, true)
            if (line_end or length) - position > MAX_LINE then
                return nil, "a chunk's head is too long"
            end
            if not line_end then
                self.rest = sub(data, position)
                break
            end

            if state == "size" then
                self.left = read_size(data, position)
                if not self.left then
                    return nil, "a chunk has no size"
                end
                self.state = self.left == 0 and "trailer" or "data"
            elseif line_end == position then
                self.state = "done"
                self.done = true
            else
                -- The trailer is not passed to the client, so this is the only limit on its length.
                self.trailer = (self.trailer or 0) + line_end - position + 2
                if self.trailer > MAX_TRAILER then
                    return nil, "its trailer is too long"
                end
            end
            position = line_end + 2
        end
    end

    if pieces then
        payload = concat(pieces)
    end
    return payload
end


return _M
