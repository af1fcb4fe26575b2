--- The order of backends that a request has set: in shared memory for all workers, and in Redis for
-- other replicas. Only pools whose algorithm is `preferred` follow it.

local core = require("apisix.core")
local preference = require("genai.balancing.preference")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local shared_redis = require("gateway.shared_redis")
local single_flight = require("gateway.mechanisms.single_flight")
local throttled_log = require("gateway.mechanisms.throttled_log")
local ngx = ngx
local ngx_now = ngx.now
local null = ngx.null

local _M = {}

local ORDER, UNSHARED = shared_keys.PREFERRED_ORDER, shared_keys.PREFERRED_UNSHARED
local ASKED, LOCK = shared_keys.PREFERRED_ASKED, shared_keys.PREFERRED_LOCK

local REDIS_KEY = "genai_gateway:preferred_backends"

-- How old a replica's knowledge of Redis may be before it asks again, in the background.
local FOLLOW_S = 1

-- After a longer pause without requests, a request waits for the answer, because an order that was
-- set minutes ago must be followed by the first request already.
local PATIENT_S = 3

-- Pause after a failure of Redis.
local PAUSE_S = 5

-- Lock time of a question to Redis, in case its worker dies.
local LOCK_S = 10

local state = shared_memory.state


local function milliseconds()
    return ngx_now() * 1000
end


local function redis_get(client)
    return client:get(REDIS_KEY)
end


local function redis_set(client, text, lasts_s)
    return client:set(REDIS_KEY, text, "EX", lasts_s)
end


local function keep(text, at)
    state:set(ORDER, text, preference.left_s(at, milliseconds()))
end


-- Shares an order that Redis could not take when it was set.
local function share(conf, text, at)
    local ok, err = shared_redis.with(conf, redis_set, text,
                                     preference.left_s(at, milliseconds()))
    if ok then
        state:delete(UNSHARED)
    end
    return ok, err
end


local function note_failure(err)
    state:set(ASKED, ngx_now() + PAUSE_S)
    throttled_log.write(core.log.warn, "preferred-redis", "", "the Redis of the preferred backends"
                        .. " fails: ", err, "; this replica keeps the order that it knows")
end


-- Takes over what Redis has, or gives it a newer order.
local function synchronize(conf)
    local found, err = shared_redis.with(conf, redis_get)
    if not found then
        return note_failure(err)
    end
    local mine = state:get(ORDER)
    local my_at = preference.parse(mine)
    local its_at = preference.parse(found ~= null and found or nil)
    if state:get(UNSHARED) and my_at > its_at then
        local ok
        ok, err = share(conf, mine, my_at)
        if not ok then
            return note_failure(err)
        end
    elseif its_at == 0 then
        state:delete(ORDER)
        state:delete(UNSHARED)
    elseif found ~= mine then
        keep(found, its_at)
        state:delete(UNSHARED)
    end
    state:set(ASKED, ngx_now())
end


local function failed(_, err)
    note_failure(err)
end


local function was_asked(since)
    return (state:get(ASKED) or 0) > since or not state:get(LOCK) or nil
end


--- Brings this replica up to date with the others; called before a backend is chosen.
-- @tparam table|nil conf Redis, as in the pool's configuration; nil: replicas share nothing
function _M.follow(conf)
    if not conf then
        return
    end
    local asked = state:get(ASKED) or 0
    local age = ngx_now() - asked
    if age < FOLLOW_S then
        return
    end
    single_flight.begin(LOCK, LOCK_S, synchronize, failed, conf)
    if age > PATIENT_S then
        single_flight.wait(conf.timeout_ms / 1000, was_asked, asked)
    end
end


--- Sets the order for all workers and replicas.
-- @tparam table names of backends; empty: the usual order
-- @tparam table|nil conf Redis
function _M.set(names, conf)
    local now = milliseconds()
    local text = preference.text(names, now)
    state:set(ORDER, text, preference.LASTS_S)
    if not conf then
        return
    end
    state:set(UNSHARED, true, preference.LASTS_S)
    local ok, err = share(conf, text, now)
    if ok then
        state:set(ASKED, ngx_now())
    else
        note_failure(err)
    end
end


--- The tiers of a pool in the current order.
-- @tparam table pool
-- @tparam boolean with_drained
-- @treturn table
function _M.tiers(pool, with_drained)
    local text = state:get(ORDER)
    local known = pool.ordered
    if not known or known.text ~= text then
        local _, names = preference.parse(text)
        names = names or {}
        known = {
            text = text,
            tiers = preference.tiers(pool.tiers, names),
            all_tiers = preference.tiers(pool.all_tiers, names),
        }
        pool.ordered = known
    end
    return with_drained and known.all_tiers or known.tiers
end


return _M
