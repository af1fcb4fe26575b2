--- Patches of APISIX's limiters: the true reset of a window, slow rates in Redis, and a guard
-- around each call of Redis. Names of counters are in `counter_names`.

local contract = require("apisix_internals.contract")
local ceil = math.ceil
local sub = string.sub

local need = contract.part("limiters")
local count_local = need("apisix.plugins.limit-count.limit-count-local")
local count_redis = need("apisix.plugins.limit-count.limit-count-redis")
local req_redis = need("apisix.plugins.limit-req.limit-req-redis")
local req_util = need("apisix.plugins.limit-req.util")

local _M = {}


-- Reports when a window really ends. A window begins when the first request is checked, but the
-- limiter assumes that it begins when the first one is charged, possibly minutes later.
local function report_true_reset()
    local incoming = count_local.incoming
    count_local.incoming = function(self, key, flag_or_cost, conf, cost)
        local delay, remaining, reset = incoming(self, key, flag_or_cost, conf, cost)
        local counters = self.limit_count.dict
        return delay, remaining, counters and counters:ttl(key) or reset
    end
end


-- Without a burst, the limiter's key in Redis expires after a second, even if the configured rate
-- makes a client wait longer.
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


-- @tparam table class of limiters that count in Redis
-- @tparam function guard
-- @param free the cost of a call that does not change the counter
local function guard_calls(class, guard, free)
    local incoming = class.incoming
    class.incoming = function(self, key, cost)
        return guard({
            limiter = sub(self.plugin_name, #"plugin-" + 1),
            conf = self.conf,
            self = self,
            incoming = incoming,
            free = free,
        }, key, cost)
    end
end


--- Patches the limiters. `contract.open` calls it once in each process.
-- @tparam function guard called as `guard(call, key, cost)` in place of each call of Redis, which
--   is `call.incoming(call.self, key, cost)`; `call.free` is a cost that does not change the
--   counter, `call.limiter` the plugin's name and `call.conf` its configuration
function _M.install(guard)
    report_true_reset()
    remember_slow_rates()
    guard_calls(count_redis, guard, 0)
    guard_calls(req_redis, guard, false)
end


--- Replaces the password with which a limiter connects to its Redis.
function _M.set_redis_password(conf, password)
    conf.redis_password = password
end


return _M
