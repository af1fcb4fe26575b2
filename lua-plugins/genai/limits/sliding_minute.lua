--- Tokens that were counted in the last minute, in memory that workers share. The minute is kept in
-- buckets of one second, so that a token counts for 60 to 61 seconds, never for less. In tests
-- the minute is shorter: it has the same number of buckets, each shorter.
-- `genai.limits.redis_minute` does the same in Redis.

local floor = math.floor
local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- A slot holds the bucket of every 64th second. When its second comes again, the old bucket has
-- expired.
local SLOTS = 64

-- How many seconds before the current one count.
local SECONDS = 60
local LIFETIME = SECONDS + 2

-- The sum of all buckets is kept for the current second, so that a request reads two numbers and
-- not one for each second. It is computed again in each second: two workers that change it at the
-- same moment may lose one change.
local SUM_LIFETIME = 2


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
    return setmetatable({ store = store, keys = keys, sum = prefix .. "sum", at = prefix .. "at",
                          length = seconds / SECONDS }, mt)
end


-- Adds up all buckets.
local function add_up(self, now)
    local store, keys = self.store, self.keys
    local second = floor(now / self.length)
    local used = 0
    for each = second - SECONDS, second do
        used = used + (store:get(keys[each % SLOTS]) or 0)
    end
    return used
end


--- The number of tokens that count now.
-- @tparam number now seconds
function _M:used(now)
    local store, length = self.store, self.length
    local second = floor(now / length)
    local used = (store:get(self.at) or 0) >= second and store:get(self.sum)
    if not used then
        used = add_up(self, now)
        store:set(self.sum, used, SUM_LIFETIME * length)
        store:set(self.at, second, SUM_LIFETIME * length)
    end
    return used
end


-- Changes a bucket and the sum.
local function change(self, second, by, init)
    local store = self.store
    local left = store:incr(self.keys[second % SLOTS], by, init,
                            init and LIFETIME * self.length)
    if left then
        store:incr(self.sum, by)
    end
    return left
end


-- Milliseconds until fewer than `bound` tokens count, if none are added.
local function wait_ms(self, now, used, bound)
    local store, keys = self.store, self.keys
    local second = floor(now / self.length)
    for each = second - SECONDS, second do
        used = used - (store:get(keys[each % SLOTS]) or 0)
        if used < bound then
            return ((each + SECONDS + 1) * self.length - now) * 1000
        end
    end
    return 0
end


--- Counts tokens, unless `bound` or more count already.
-- @tparam number now seconds
-- @tparam number tokens
-- @tparam number bound
-- @treturn number|nil the second in which they are counted; nil: they are not counted
-- @treturn number the number of tokens that counted before
-- @treturn nil|number milliseconds until fewer than `bound` count, if none are added
function _M:reserve(now, tokens, bound)
    local used = self:used(now)
    if used >= bound then
        return nil, used, wait_ms(self, now, used, bound)
    end
    local second = floor(now / self.length)
    change(self, second, tokens, 0)
    return second, used
end


--- Corrects tokens that were counted. Additional ones count from now on. Ones that were too many
-- are taken out of the second in which they were counted, unless its minute is over.
-- @tparam number now seconds
-- @tparam number second as `reserve` returned it
-- @tparam number by
function _M:correct(now, second, by)
    local current = floor(now / self.length)
    if by > 0 then
        change(self, current, by, 0)
    elseif by < 0 and current - second <= SECONDS and change(self, second, by) == 0 then
        -- Clients choose the names of deployments, so buckets of names that no backend has must not
        -- fill the memory.
        self.store:delete(self.keys[second % SLOTS])
    end
end


return _M
