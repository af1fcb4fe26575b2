--- Remembers the owners of stored objects: in shared memory for all workers, and in Redis for other
-- gateways.

local core = require("apisix.core")
local memo = require("genai.util.memo")
local metrics = require("gateway.metrics")
local shared_memory = require("gateway.mechanisms.shared_memory")
local shared_redis = require("gateway.shared_redis")
local times = require("gateway.mechanisms.times")
local ngx = ngx
local crc32 = ngx.crc32_long
local ngx_md5 = ngx.md5
local ngx_now = ngx.now
local null = ngx.null
local timer_at = ngx.timer.at
local ipairs = ipairs
local pairs = pairs
local reverse = string.reverse
local setmetatable = setmetatable
local type = type
local unpack = unpack

local _M = {}

local owners = shared_memory.owners

-- Pause after a failure of Redis, so that requests do not all wait for it one after another.
local REDIS_PAUSE_S = 5
local REDIS_PREFIX = "responses_affinity:"

-- Marks a key that has no owner.
local NONE = 0

local redis_paused_until = 0


--- The key of an object that a client names. Keys include the client, so one client cannot redirect
-- another's requests.
-- @tparam string scope the client
-- @tparam string id
function _M.key_of(scope, id)
    return ngx_md5(scope .. "\n" .. id)
end


-- An origin as a 52-bit hash: a number takes half the shared memory of a URL. At 52 bits,
-- collisions within a pool are not expected.
local mark_of = memo.of(function(origin)
    return 1 + crc32(origin) * 1048576 + crc32(reverse(origin)) % 1048576
end)

-- Origins of pools by their numbers.
local origins_by_mark = setmetatable({}, { __mode = "k" })


local function origin_of(pool, mark)
    local origins = origins_by_mark[pool]
    if not origins then
        origins = {}
        for origin in pairs(pool.origins) do
            origins[mark_of(origin)] = origin
        end
        origins_by_mark[pool] = origins
    end
    return origins[mark]
end


-- Calls Redis. Returns nil if Redis fails: owners known only to Redis are then unknown.
local function with_redis(conf, call, ...)
    if ngx_now() < redis_paused_until then
        return nil
    end

    local value, err = shared_redis.with(conf, call, ...)
    if value then
        return value
    end

    redis_paused_until = ngx_now() + REDIS_PAUSE_S
    metrics.affinity_redis_failed()
    core.log.warn("the Redis of affinity fails: ", err, "; for the next ", REDIS_PAUSE_S,
                  " s the gateway asks the backends which of them has a stored object")
    return nil
end


local function redis_get(client, keys)
    return client:mget(unpack(keys))
end


local function redis_set(client, keys, origin, ttl)
    client:init_pipeline(#keys)
    for _, key in ipairs(keys) do
        client:set(REDIS_PREFIX .. key, origin, "EX", ttl)
    end
    local results, err = client:commit_pipeline()
    for _, result in ipairs(results or {}) do
        if type(result) == "table" and result[1] == false then
            return nil, result[2]
        end
    end
    return results, err
end


-- Owners not yet saved, by configuration of Redis: `conf`, and lists of keys by origin.
local unsaved = {}


-- Saves all collected owners. This runs in a timer, because sockets cannot be used in the log phase
-- and no answer may wait for Redis.
local function save(premature, redis)
    local waiting = unsaved[redis]
    unsaved[redis] = nil
    if premature then
        return
    end
    for origin, keys in pairs(waiting.keys) do
        with_redis(redis, redis_set, keys, origin, waiting.ttl)
    end
end


local function save_soon(conf, keys, origin)
    local redis = conf.redis
    local waiting = unsaved[redis]
    if not waiting then
        local ok, err = timer_at(0, save, redis)
        if not ok then
            core.log.warn("the owner of a stored object is not saved in the Redis of affinity: ",
                          err)
            return
        end
        waiting = { ttl = conf.ttl_s, keys = {} }
        unsaved[redis] = waiting
    end
    local list = waiting.keys[origin]
    if not list then
        list = {}
        waiting.keys[origin] = list
    end
    for _, key in ipairs(keys) do
        list[#list + 1] = key
    end
end


--- Remembers the owner of objects.
-- @tparam table conf `ttl_s` and `redis` (or nil), from the pool's configuration
-- @tparam table keys
-- @tparam string origin
function _M.remember(conf, keys, origin)
    local new
    local mark = mark_of(origin)
    for _, key in ipairs(keys) do
        if owners:get(key) == mark then
            -- The key is known: the client polls the object, or the answer names it a second time.
            owners:expire(key, conf.ttl_s)
        else
            owners:set(key, mark, conf.ttl_s)
            new = new or {}
            new[#new + 1] = key
        end
    end
    if conf.redis and new then
        save_soon(conf, new, origin)
    end
end


--- Remembers for a short time that no backend has an object, so that repeated requests do not cause
-- repeated searches.
function _M.remember_none(key)
    owners:set(key, NONE, times.unknown_owner)
end


--- Whether a recent search found no owner.
function _M.has_none(key)
    return owners:get(key) == NONE
end


--- The origin remembered in this gateway for a key; nil: none, or its backend was removed.
function _M.in_memory(pool, key)
    local mark = owners:get(key)
    local origin = mark and origin_of(pool, mark)
    if origin then
        owners:expire(key, pool.conf.affinity.ttl_s)
    end
    return origin or nil
end


--- The origin of the first key that Redis knows, in the given order; nil: Redis knows none.
function _M.in_redis(pool, keys)
    local conf = pool.conf.affinity
    if not conf.redis then
        return nil
    end
    local names = {}
    for i, key in ipairs(keys) do
        names[i] = REDIS_PREFIX .. key
    end
    local origins = with_redis(conf.redis, redis_get, names)
    for i, key in ipairs(keys) do
        local origin = origins and origins[i]
        if origin and origin ~= null and pool.origins[origin] then
            owners:set(key, mark_of(origin), conf.ttl_s)
            return origin
        end
    end
    return nil
end


return _M
