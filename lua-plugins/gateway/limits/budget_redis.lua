--- Token budgets in the Redis of the limits. While it fails, requests pass uncounted, as with the
-- other limits.

local core = require("apisix.core")
local redis_clients = require("apisix_internals.redis_clients")
local redis_guard = require("gateway.limits.redis_guard")
local redis_minute = require("genai.limits.redis_minute")
local times = require("gateway.mechanisms.times")
local timer_at = ngx.timer.at
local type = type

local _M = {}

--- The name of the limiter in metrics and logs.
_M.LIMITER = "shared-budget"

-- A request with this bound always passes.
local UNBOUNDED = 2 ^ 52


-- A call as `redis_guard` makes it. The cost is a table: `tokens` and `bound`, or `corrections`.
local function incoming(conf, key, cost)
    if cost.corrections then
        return redis_clients.with(conf, redis_minute.correct, times.budget_minute, cost.corrections)
    end
    return redis_clients.with(conf, redis_minute.reserve, key, times.budget_minute, cost.tokens,
                              cost.bound)
end


local FREE = { tokens = 0, bound = UNBOUNDED }


local function guarded(conf, key, cost)
    return redis_guard.guard({ limiter = _M.LIMITER, conf = conf, self = conf, incoming = incoming,
                               free = FREE }, key, cost)
end


--- Counts tokens, unless `bound` or more count already.
-- @tparam table conf of the budget, with the fields of a limiter's Redis
-- @tparam string key
-- @tparam number tokens
-- @tparam number bound
-- @treturn table|nil as `genai.limits.redis_minute.reserve` returns it; nil: Redis fails
function _M.reserve(conf, key, tokens, bound)
    local answer = guarded(conf, key, { tokens = tokens, bound = bound })
    return type(answer) == "table" and answer or nil
end


-- Corrections that were not sent yet, by configuration.
local unsent = {}


-- Sends all collected corrections. This runs in a timer, because sockets cannot be used in the log
-- phase.
local function send(premature, conf)
    local corrections = unsent[conf]
    unsent[conf] = nil
    if not premature then
        guarded(conf, "", { corrections = corrections })
    end
end


--- Corrects tokens a moment later.
-- @tparam table conf
-- @tparam string key
-- @tparam number second as `reserve` returned it
-- @tparam number by
function _M.correct(conf, key, second, by)
    local list = unsent[conf]
    if not list then
        local ok, err = timer_at(0, send, conf)
        if not ok then
            core.log.error("cannot start the timer that charges token budgets: ", err)
            return
        end
        list = {}
        unsent[conf] = list
    end
    list[#list + 1] = { key = key, second = second, by = by }
end


return _M
