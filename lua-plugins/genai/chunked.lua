--- Takes the chunked transfer coding off a body, as it arrives.

local find = string.find
local match = string.match
local sub = string.sub
local concat = table.concat
local tonumber = tonumber
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

local MAX_LINE = 8192


function _M.new()
    return setmetatable({ state = "size", left = 0, rest = nil, done = false }, mt)
end


--- Decodes what has arrived.
-- @tparam string data
-- @treturn string|nil the body's bytes in it; nil where there are none yet. `self.done` is set when
--   the body is complete, and `self.rest` then holds what came after it, if anything
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

        else
            local line_end = find(data, "\r\n", position, true)
            if not line_end then
                if length - position > MAX_LINE then
                    return nil, "a chunk's head is too long"
                end
                self.rest = sub(data, position)
                break
            end

            if state == "end" then
                if line_end ~= position then
                    return nil, "a chunk is longer than it said"
                end
                self.state = "size"
            elseif state == "size" then
                local digits = match(data, "^(%x+)[^%x]", position)
                if not digits or #digits > 12 then
                    return nil, "a chunk has no size"
                end
                self.left = tonumber(digits, 16)
                self.state = self.left == 0 and "trailer" or "data"
            elseif line_end == position then
                self.state = "done"
                self.done = true
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
