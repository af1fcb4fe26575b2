--- A log of changes in shared memory. Each worker reads only the entries that are new to it, and
-- need not examine everything that can change.

local max = math.max
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- A worker that is further behind, such as a new one, reads only the last entries.
_M.MAX_BEHIND = 4096

-- Workers set the newest position without locking, so it can be behind by a few.
local SLACK = 64


--- @tparam table dict with get, set and add, as nginx's shared memory has
-- @tparam string name of the log in it
function _M.new(dict, name)
    return setmetatable({
        dict = dict,
        newest_key = name .. "-newest",
        prefix = name .. "|",
        read = 0,
        next_key = name .. "|1",
    }, mt)
end


local function move_to(self, position)
    self.read = position
    self.next_key = self.prefix .. position + 1
end


--- Appends an entry.
-- @tparam string entry
-- @tparam number lasts_s how long workers may need to read the entry, in seconds
function _M:append(entry, lasts_s)
    local dict = self.dict
    local position = dict:get(self.newest_key) or 0
    local ok, err
    repeat
        position = position + 1
        ok, err = dict:add(self.prefix .. position, entry, lasts_s)
    until ok or err ~= "exists"
    if position > (dict:get(self.newest_key) or 0) then
        dict:set(self.newest_key, position)
    end
end


--- Calls a function with each entry that this worker has not read yet.
-- @tparam function handle called with `argument` and the entry
function _M:follow(handle, argument)
    local dict = self.dict
    while true do
        local entry = dict:get(self.next_key)
        if entry ~= nil then
            move_to(self, self.read + 1)
            handle(argument, entry)
        else
            local newest = dict:get(self.newest_key) or 0
            if newest + SLACK < self.read then
                -- The memory was full and lost the position, so the log has started again.
                move_to(self, 0)
            elseif newest <= self.read then
                return
            else
                -- Entries expire one by one, so an entry may be missing.
                move_to(self, max(self.read + 1, newest - _M.MAX_BEHIND))
            end
        end
    end
end


return _M
