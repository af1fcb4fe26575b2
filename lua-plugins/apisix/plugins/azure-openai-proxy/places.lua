--- Remembers where things are stored: in the shared memory of all workers, and in Redis for others.

local core = require("apisix.core")
local redis_client = require("apisix.utils.redis")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local secret_files = require("apisix.secret.file")
require("apisix.plugins.azure-openai-proxy.redis_names")
local ngx = ngx
local ngx_md5 = ngx.md5
local ngx_now = ngx.now
local null = ngx.null
local timer_at = ngx.timer.at
local ipairs = ipairs
local type = type
local unpack = unpack

local _M = {}

local dict = ngx.shared["genai-gateway-affinity"]

-- After a failure Redis is left alone, so that requests do not wait for it one after another.
local REDIS_REST_S = 5
local REDIS_IDLE_MS = 60000
local REDIS_CONNECTIONS = 64
local REDIS_PREFIX = "responses_affinity:"

local redis_rests_until = 0


--- The key of what a client names. What one client has is nothing to another: nobody can lead
-- somebody else's requests astray.
-- @tparam string scope the client
-- @tparam string id
function _M.key_of(scope, id)
    return ngx_md5(scope .. "\n" .. id)
end


-- Calls Redis; nil where it is not there, which changes nothing but what is remembered.
local function with_redis(conf, call, ...)
    if ngx_now() < redis_rests_until then
        return nil
    end

    if conf.password_setting then
        conf.redis_password = secret_files.value(conf.password_setting)
    end
    local client, err = redis_client.new(conf)
    local value
    if client then
        value, err = call(client, ...)
    end
    if value then
        client:set_keepalive(REDIS_IDLE_MS, REDIS_CONNECTIONS)
        return value
    end

    redis_rests_until = ngx_now() + REDIS_REST_S
    metrics.affinity_redis_failed()
    core.log.warn("the Redis of affinity fails: ", err, "; for ", REDIS_REST_S,
                  " s what it may know is looked for at the backends")
    if client then
        client:close()
    end
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


-- Sockets cannot be used where a request ends, and no answer waits for Redis.
local function save(premature, conf, keys, origin)
    if not premature then
        with_redis(conf.redis, redis_set, keys, origin, conf.ttl)
    end
end


--- Remembers where things are.
-- @tparam table conf `ttl` in seconds, and `redis` or nil, as the pool has them
-- @tparam table keys
-- @tparam string origin
function _M.remember(conf, keys, origin)
    for _, key in ipairs(keys) do
        dict:set(key, origin, conf.ttl)
    end
    if conf.redis then
        local ok, err = timer_at(0, save, conf, keys, origin)
        if not ok then
            core.log.warn("what is stored where is not saved in Redis: ", err)
        end
    end
end


--- The origin of the first of some keys that is known, in the order given; nil: none is, or its
-- backend is no longer there. And who knew it, "memory" or "redis".
function _M.recall(pool, keys)
    local conf = pool.affinity
    for _, key in ipairs(keys) do
        local origin = dict:get(key)
        if origin and pool.origins[origin] then
            dict:expire(key, conf.ttl)
            return origin, "memory"
        end
    end

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
            dict:set(key, origin, conf.ttl)
            return origin, "redis"
        end
    end
    return nil
end


return _M
