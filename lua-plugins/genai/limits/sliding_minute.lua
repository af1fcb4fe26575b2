--- Tokens that were counted in the last minute, in memory that workers share. The minute is kept in
-- buckets of one second, so that a token counts for 60 to 61 seconds, never for less. A minute that
-- tests shorten has as many buckets, which are shorter too.
-- `genai.limits.redis_minute` does the same in Redis.

local floor = math.floor
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- A slot holds the bucket of every 64th second. When its second comes again, the old bucket has
-- expired.
local SLOTS = 64

-- How many buckets before the current one count.
local BUCKETS = 60


--- The minute of one budget.
-- @tparam table store nginx's shared memory
-- @tparam string prefix of its keys
-- @tparam number seconds its length; 60, or less in tests
-- @treturn table
function _M.new(store, prefix, seconds)
    local keys = {}
    for slot = 0, SLOTS - 1 do
        -- The keys are made once: a new string for each of them would be garbage in each request.
        keys[slot] = prefix .. slot
    end
    local length = seconds / BUCKETS
    return setmetatable({ store = store, keys = keys, length = length,
                          lifetime = (BUCKETS + 2) * length }, mt)
end


--- The number of tokens that count now.
-- @tparam number now seconds
function _M:used(now)
    local store, keys = self.store, self.keys
    local current = floor(now / self.length)
    local used = 0
    for each = current - BUCKETS, current do
        used = used + (store:get(keys[each % SLOTS]) or 0)
    end
    return used
end


-- Milliseconds until fewer than `bound` tokens count, if none are added.
local function wait_ms(self, now, used, bound)
    local store, keys = self.store, self.keys
    local current = floor(now / self.length)
    for each = current - BUCKETS, current do
        used = used - (store:get(keys[each % SLOTS]) or 0)
        if used < bound then
            return ((each + BUCKETS + 1) * self.length - now) * 1000
        end
    end
    return 0
end


--- Counts tokens, unless `bound` or more count already.
-- @tparam number now seconds
-- @tparam number tokens
-- @tparam number bound
-- @treturn number|nil the bucket in which they are counted; nil: they are not counted
-- @treturn number the number of tokens that counted before
-- @treturn nil|number milliseconds until fewer than `bound` count, if none are added
function _M:reserve(now, tokens, bound)
    local used = self:used(now)
    if used >= bound then
        return nil, used, wait_ms(self, now, used, bound)
    end
    local bucket = floor(now / self.length)
    self.store:incr(self.keys[bucket % SLOTS], tokens, 0, self.lifetime)
    return bucket, used
end


--- Corrects tokens that were counted. Additional ones count from now on. Ones that were too many
-- are taken out of the bucket in which they were counted, unless its minute is over.
-- @tparam number now seconds
-- @tparam number bucket as `reserve` returned it
-- @tparam number by
function _M:correct(now, bucket, by)
    local current = floor(now / self.length)
    local store = self.store
    if by > 0 then
        store:incr(self.keys[current % SLOTS], by, 0, self.lifetime)
    elseif by < 0 and current - bucket <= BUCKETS then
        local key = self.keys[bucket % SLOTS]
        if store:incr(key, by) == 0 then
            -- Clients choose the names of deployments, so buckets of names that no backend has must
            -- not fill the memory.
            store:delete(key)
        end
    end
end


return _M
