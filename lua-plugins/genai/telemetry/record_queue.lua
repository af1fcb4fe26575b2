--- A queue of records to send: bounded in bytes, read in batches.

local concat = table.concat
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }


--- Makes a queue.
-- @tparam table limits `waiting_bytes`: of all waiting records; `batch_records` and `batch_bytes`:
--   of a batch, including brackets and commas
function _M.new(limits)
    return setmetatable({
        waiting_bytes = limits.waiting_bytes,
        batch_records = limits.batch_records,
        batch_bytes = limits.batch_bytes,
        entries = {},
        first = 1,
        last = 0,
        bytes = 0,
    }, mt)
end


local function remove_first(self)
    local text = self.entries[self.first]
    self.entries[self.first] = nil
    self.first = self.first + 1
    self.bytes = self.bytes - #text
    return text
end


--- Adds a record, and drops the oldest ones if there is no room.
-- @tparam string text JSON
-- @treturn number|nil how many were dropped; nil: the record is too long for any batch
function _M:push(text)
    if #text + 2 > self.batch_bytes or #text > self.waiting_bytes then
        return nil
    end
    local given_up = 0
    while self.bytes + #text > self.waiting_bytes do
        remove_first(self)
        given_up = given_up + 1
    end
    self.last = self.last + 1
    self.entries[self.last] = text
    self.bytes = self.bytes + #text
    return given_up
end


--- The number of waiting records.
function _M:count()
    return self.last - self.first + 1
end


--- Whether enough records wait for a full batch.
function _M:has_batch()
    local count = self:count()
    -- with brackets around the list and commas between records
    return count >= self.batch_records or self.bytes + count + 1 >= self.batch_bytes
end


--- Takes the oldest records, up to a full batch.
-- @treturn string|nil a JSON array; nil: none wait
-- @treturn nil|number the number of records
function _M:take()
    local texts, count, size = {}, 0, 1
    while count < self.batch_records and self.first <= self.last do
        local length = #self.entries[self.first] + 1
        if size + length > self.batch_bytes then
            break
        end
        count = count + 1
        size = size + length
        texts[count] = remove_first(self)
    end
    if count == 0 then
        return nil
    end
    return "[" .. concat(texts, ",") .. "]", count
end


return _M
