--- What backends report that they have left: the token budget of a deployment that the backends
-- themselves count (`x-ratelimit-remaining-tokens`). All workers share the reports of a replica.

local memo = require("genai.util.memo")
local picking = require("genai.balancing.picking")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local times = require("gateway.mechanisms.times")
local ipairs = ipairs
local max = math.max
local setmetatable = setmetatable
local tonumber = tonumber

local _M = {}

local state = shared_memory.state

-- A backend counts tokens for a minute, so an older report says nothing.
local KNOWN_S = times.budget_minute

-- If no answer has brought a report for five seconds, one request may find out whether there is
-- more.
local FRESH_S = KNOWN_S / 12


local keys_of = memo.of(function(budget)
    local prefix = shared_keys.BUDGET_REPORT .. budget .. "|"
    return {
        fresh = shared_keys.BUDGET_FRESH .. budget,
        since = shared_keys.BUDGET_SINCE .. budget,
        of = setmetatable({}, { __index = function(known, id)
            known[id] = prefix .. id
            return known[id]
        end }),
    }
end)


local function reported(pool, deployment, keys)
    local sum
    for _, backend in ipairs(pool.backends) do
        if backend.weight > 0 and picking.served_as(backend.deployments, deployment) then
            local left = state:get(keys.of[backend.id])
            if not left then
                return nil
            end
            sum = (sum or 0) + left
        end
    end
    return sum
end


--- The tokens that the backends of a pool have left for a deployment.
-- @tparam table pool
-- @tparam string deployment
-- @tparam string budget the key of the budget
-- @treturn number|nil nil: one of the backends has not reported any
-- @treturn nil|number the same without the tokens that were sent since the reports
function _M.left(pool, deployment, budget)
    local keys = keys_of(budget)
    local sum = reported(pool, deployment, keys)
    return sum and max(0, sum - (state:get(keys.since) or 0)), sum
end


--- Whether a request may pass to find out whether the backends have more than they last reported.
-- @treturn boolean
-- @treturn nil|number milliseconds until one may
function _M.may_probe(budget)
    local key = keys_of(budget).fresh
    if state:add(key, true, FRESH_S) then
        return true
    end
    return false, (state:ttl(key) or FRESH_S) * 1000
end


--- Counts tokens that the backends have not reported yet.
function _M.sent(budget, tokens)
    state:incr(keys_of(budget).since, tokens, 0, KNOWN_S)
end


--- Takes back tokens that were counted as sent, because they cost nothing. A report in the meantime
-- has forgotten them already.
function _M.unsent(budget, tokens)
    local key = keys_of(budget).since
    local left = state:incr(key, -tokens)
    if left and left < 0 then
        state:set(key, 0, KNOWN_S)
    end
end


--- Keeps the report of an answer.
-- @tparam string budget
-- @tparam table backend
-- @tparam number status
-- @tparam string|nil value of `x-ratelimit-remaining-tokens`
-- @treturn boolean whether tokens that were sent before count no longer
function _M.note(budget, backend, status, value)
    local left = tonumber(value)
    if status == 429 then
        left = 0
    elseif status >= 400 and not left then
        return false
    end
    local keys = keys_of(budget)
    local key = keys.of[backend.id]
    if not left or left < 0 then
        state:delete(key)
        return true
    end
    state:set(key, left, KNOWN_S)
    state:set(keys.since, 0, KNOWN_S)
    state:set(keys.fresh, true, FRESH_S)
    return true
end


return _M
