--- Mends what APISIX's limiters do not do right, and takes Redis out of the way of requests while
-- it fails.

local core = require("apisix.core")
local plugin = require("apisix.plugin")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local count_local = require("apisix.plugins.limit-count.limit-count-local")
local count_redis = require("apisix.plugins.limit-count.limit-count-redis")
local req_redis = require("apisix.plugins.limit-req.limit-req-redis")
local req_util = require("apisix.plugins.limit-req.util")
local secret_files = require("apisix.secret.file")
require("apisix.plugins.azure-openai-proxy.redis_names")
local ngx = ngx
local timer_at = ngx.timer.at
local ceil = math.ceil
local min = math.min
local sub = string.sub

local _M = {}

local dict = ngx.shared["genai-gateway-state"]

-- Between two looks at a Redis that fails; the first is taken at once.
local MIN_WAIT_S = 0.5
local MAX_WAIT_S = 4

-- It counts as failing for so long at most, should the worker that looks after it die.
local DOWN_S = 30

-- Lines about one that comes and goes.
local SILENCE_S = 10

-- A key that belongs to no request.
local PROBE_KEY = "probe"


-- Counters are named after a checksum of all that their plugin is configured with: a client more,
-- or another limit, and each budget would begin anew. Making it also writes to the log, at level
-- info, what it is made of, the password of Redis included; and takes its time, twice a request.
-- What a counter is for stands in the name of its rule, which is enough.
local function keep_counters()
    local conf_version = plugin.conf_version
    plugin.conf_version = function(conf)
        -- Nobody but limiters asks for a version and has this.
        if conf.allow_degradation ~= nil then
            return "1"
        end
        return conf_version(conf)
    end
end


-- A window begins with the first request that is looked at. The limiter takes it to begin when the
-- first one is charged, which may be minutes later.
local function tell_true_reset()
    local incoming = count_local.incoming
    count_local.incoming = function(self, key, cost)
        local delay, remaining, reset = incoming(self, key, cost)
        local counters = self.limit_count.dict
        return delay, remaining, counters and counters:ttl(key) or reset
    end
end


-- Redis forgets a client after a second where a burst is none, however long the rate makes it wait.
local function remember_slow_rates()
    local incoming = req_util.incoming
    req_util.incoming = function(self, red, key, commit)
        local delay, excess = incoming(self, red, key, commit)
        if delay and commit and self.rate < 1000 then
            red:expire("limit_req:" .. key, ceil((self.burst + 1000) / self.rate) + 1)
        end
        return delay, excess
    end
end


local function say_seldom(log, place, ...)
    if dict:add("limits-redis-said|" .. place, true, SILENCE_S) then
        log("the Redis of the limits at ", place, " ", ...)
    end
end


-- The settings whose files hold passwords, by where their Redis is.
local password_settings = {}


local function place_of(conf)
    return conf.redis_host .. ":" .. conf.redis_port .. "/" .. conf.redis_database
end


--- Takes the password of a limiter's Redis from a file: what APISIX resolved itself may be minutes
-- old, and a reference that it could not resolve must not be sent.
-- @tparam table conf of a limiter
-- @tparam string setting
function _M.sign_in_by(conf, setting)
    if conf.redis_host then
        password_settings[place_of(conf)] = setting
    end
end


local function sign_in(conf, place)
    local setting = password_settings[place]
    if setting then
        conf.redis_password = secret_files.value(setting)
    end
end


local watch


local function watch_in(seconds, self, incoming, place, probe)
    local ok, err = timer_at(seconds, watch, self, incoming, place, probe, seconds)
    if not ok then
        dict:delete("limits-redis-down|" .. place)
        core.log.error("no timer for the Redis of the limits: ", err)
    end
end


-- Looks whether Redis works again, where no request waits for it.
function watch(premature, self, incoming, place, probe, waited)
    local key = "limits-redis-down|" .. place
    if premature then
        dict:delete(key)
        return
    end

    sign_in(self.conf, place)
    local delay, err = incoming(self, PROBE_KEY, probe)
    if delay or err == "rejected" then
        dict:delete(key)
        dict:delete("limits-redis-said|" .. place)
        core.log.warn("the Redis of the limits at ", place, " works again")
        return
    end
    dict:set(key, true, DOWN_S)
    watch_in(min(MAX_WAIT_S, waited * 2 + MIN_WAIT_S), self, incoming, place, probe)
end


-- While Redis fails, requests pass without waiting for it.
-- @tparam table class of limiters that count in Redis
-- @param probe what `incoming` takes, to count nothing
local function guard(class, probe)
    local incoming = class.incoming
    local seen = {}
    class.incoming = function(self, key, cost)
        local conf = self.conf
        local limiter = sub(self.plugin_name, #"plugin-" + 1)
        if not seen[limiter] then
            seen[limiter] = true
            metrics.limiter_degraded(limiter, 0)
        end
        local place = place_of(conf)
        if dict:get("limits-redis-down|" .. place) then
            metrics.limiter_degraded(limiter, 1)
            return 0
        end

        sign_in(conf, place)
        local delay, remaining, reset = incoming(self, key, cost)
        if delay or remaining == "rejected" or not conf.allow_degradation then
            return delay, remaining, reset
        end
        metrics.limiter_degraded(limiter, 1)
        if dict:add("limits-redis-down|" .. place, true, DOWN_S) then
            say_seldom(core.log.error, place, "fails: ", remaining,
                       "; requests pass uncounted until it works")
            watch_in(0, self, incoming, place, probe)
        end
        return 0
    end
end


--- Mends them; once, when the plugin's module is loaded.
function _M.mend()
    keep_counters()
    tell_true_reset()
    remember_slow_rates()
    guard(count_redis, 0)
    guard(req_redis, false)
end


return _M
