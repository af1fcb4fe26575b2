--- A bounded set of strings in shared memory. An entry that is not added again within its time to
-- live may be replaced.

local clock = ngx and ngx.now or os.time
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- A worker checks again after this time whether an entry still exists.
local LOOK_AGAIN_S = 60

-- How often, within its time to live, a worker renews an entry in use.
local RENEWALS = 24

-- After finding no free slot, a worker does not search again for this time.
local FULL_S = 10


--- @tparam table dict with get, set and add, as nginx's shared memory has
-- @tparam string name of the set in it
-- @tparam number limit of entries
-- @tparam number|nil ttl_s time to live of an entry since it was last added; nil: unlimited
-- @tparam function|nil now returns seconds; nginx's clock by default
function _M.new(dict, name, limit, ttl_s, now)
    return setmetatable({
        dict = dict,
        prefix = name .. "|",
        changes = name .. "|changes",
        limit = limit,
        ttl_s = ttl_s,
        now = now or clock,
        known = {},
        full_till = 0,
    }, mt)
end


-- Reads all slots.
local function read(self, now)
    self.seen = self.dict:get(self.changes)
    local known, list = {}, {}
    for i = 1, self.limit do
        local value = self.dict:get(self.prefix .. i)
        if value and not known[value] then
            local before = self.known[value]
            known[value] = { slot = i, looked_at = now, renewed_at = before and before.renewed_at }
            list[#list + 1] = value
        end
    end
    self.known = known
    return list
end


--- All entries, in no particular order.
function _M:all()
    return read(self, self.now())
end


-- This worker's state of an entry, or nil.
local function find(self, value, now)
    local entry = self.known[value]
    if entry and now - entry.looked_at < LOOK_AGAIN_S then
        return entry
    end
    if entry or self.dict:get(self.changes) ~= self.seen then
        read(self, now)
        return self.known[value]
    end
    return nil
end


function _M:has(value)
    return find(self, value, self.now()) ~= nil
end


-- Finds a free slot.
local function take(self, value, now)
    if now < self.full_till then
        return false
    end
    for i = 1, self.limit do
        local ok, err = self.dict:add(self.prefix .. i, value, self.ttl_s)
        if ok then
            -- A value that differs from the last, so that other workers read the set again.
            self.dict:set(self.changes, now .. value)
            self.known[value] = { slot = i, looked_at = now, renewed_at = now }
            return true
        elseif err ~= "exists" then
            break
        end
    end
    self.full_till = now + FULL_S
    return false
end


--- Adds an entry, or renews an existing one.
-- @treturn boolean whether the set now contains it
function _M:add(value)
    local now = self.now()
    local entry = find(self, value, now)
    if not entry then
        return take(self, value, now)
    end
    if self.ttl_s and now - (entry.renewed_at or 0) >= self.ttl_s / RENEWALS then
        entry.renewed_at = now
        self.dict:set(self.prefix .. entry.slot, value, self.ttl_s)
    end
    return true
end


return _M
