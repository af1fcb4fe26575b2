--- Keeps requests from waiting for a failing limiter Redis: requests pass uncounted, and a timer
-- checks when Redis works again.

local core = require("apisix.core")
local limiters = require("apisix_internals.limiters")
local metrics = require("gateway.metrics")
local secret_files = require("gateway.credentials.secret_files")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local throttled_log = require("gateway.mechanisms.throttled_log")
local timer_at = ngx.timer.at
local min = math.min

local _M = {}

-- The first pause between two checks of a failing Redis; the first check runs at once.
local MIN_WAIT_S = 0.5
local MAX_WAIT_S = 4

-- How long a Redis counts as failing if the worker that checks it dies.
local DOWN_S = 30

-- The key of a check, which no request uses.
local PROBE_KEY = "probe"

local state = shared_memory.state


local function address_of(conf)
    return conf.redis_host .. ":" .. conf.redis_port .. "/" .. conf.redis_database
end


-- The settings whose files contain the passwords, by Redis.
local password_settings = {}


--- Takes the password of a limiter's Redis from a file: APISIX's resolved value may be minutes old,
-- and an unresolved reference must not be sent as a password.
-- @tparam table conf of a limiter
-- @tparam string setting
function _M.sign_in_by(conf, setting)
    if conf.redis_host then
        password_settings[address_of(conf)] = setting
    end
end


local function sign_in(conf, address)
    local setting = password_settings[address]
    if setting then
        limiters.set_redis_password(conf, secret_files.value(setting))
    end
end


local watch


local function watch_in(seconds, call, address)
    local ok, err = timer_at(seconds, watch, call, address, seconds)
    if not ok then
        state:delete(shared_keys.LIMITER_REDIS_DOWN .. address)
        core.log.error("cannot start the timer that checks the Redis of the limits: ", err)
    end
end


-- Checks whether Redis works again.
function watch(premature, call, address, waited)
    local key = shared_keys.LIMITER_REDIS_DOWN .. address
    if premature then
        state:delete(key)
        return
    end

    sign_in(call.conf, address)
    local delay, err = call.incoming(call.self, PROBE_KEY, call.free)
    if delay or err == "rejected" then
        state:delete(key)
        throttled_log.forget("limiter-redis", address)
        core.log.warn("the Redis of the limits at ", address, " works again")
        return
    end
    state:set(key, true, DOWN_S)
    watch_in(min(MAX_WAIT_S, waited * 2 + MIN_WAIT_S), call, address)
end


local seen = {}


--- Makes one call of Redis for a limiter, on behalf of `apisix_internals.limiters`.
-- @tparam table call
-- @tparam string key
-- @param cost
-- @return what the limiter's `incoming` returns; 0 if the request passes uncounted
function _M.guard(call, key, cost)
    local conf, limiter = call.conf, call.limiter
    if not seen[limiter] then
        seen[limiter] = true
        metrics.limiter_degraded(limiter, 0)
    end
    local address = address_of(conf)
    local down_key = shared_keys.LIMITER_REDIS_DOWN .. address
    if state:get(down_key) then
        metrics.limiter_degraded(limiter, 1)
        return 0
    end

    sign_in(conf, address)
    local delay, remaining, reset = call.incoming(call.self, key, cost)
    if delay or remaining == "rejected" or not conf.allow_degradation then
        return delay, remaining, reset
    end
    metrics.limiter_degraded(limiter, 1)
    if state:add(down_key, true, DOWN_S) then
        throttled_log.write(core.log.error, "limiter-redis", address, "the Redis of the limits at ",
                            address, " fails: ", remaining,
                            "; requests are not counted until it answers")
        watch_in(0, call, address)
    end
    return 0
end


return _M
