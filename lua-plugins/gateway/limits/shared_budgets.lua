--- Token budgets of deployments that both lanes share, over a sliding minute. A request reserves
-- tokens when it is admitted; the difference to its real usage is settled when it ends.

local backend_reports = require("gateway.limits.backend_reports")
local budget_redis = require("gateway.limits.budget_redis")
local budget_rules = require("genai.limits.budget_rules")
local errors = require("genai.openai.errors")
local lanes = require("gateway.record.lanes")
local memo = require("genai.util.memo")
local request_record = require("gateway.record.request_record")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local sliding_minute = require("genai.limits.sliding_minute")
local times = require("gateway.mechanisms.times")
local ngx = ngx
local ngx_now = ngx.now
local floor = math.floor
local format = string.format
local lower = string.lower
local max = math.max
local min = math.min
local tonumber = tonumber
local type = type

local _M = {}

--- The name of this limiter in metrics and logs.
_M.LIMITER = budget_redis.LIMITER

-- The value of a header whose number is not known.
local UNKNOWN = -1

-- Stands for the deployment of requests whose deployment cannot be read. None has this name.
local UNNAMED = ""

local minute_of = memo.of(function(key)
    return sliding_minute.new(shared_memory.state, shared_keys.BUDGET .. key .. "|",
                              times.budget_minute)
end)


--- Whether a request counts in its budget: it must be able to cost tokens.
-- @tparam table record
function _M.applies(record)
    return record.budget ~= nil and record.target.spends
end


--- Whether the longest answer of a request matters.
function _M.reads_output(record)
    local target = record.target
    return _M.applies(record) and target.generates and target.operation ~= "embeddings"
end


-- The deployment whose budget counts a request. All requests whose body should name one, but is not
-- read as the name of one, have a budget in common: a backend may still find a name in it. nil: the
-- request is about no deployment.
local function deployment_of(record)
    return record.choice.deployment or record.target.names_model and UNNAMED or nil
end


-- Tokens that a request reserves. Only texts can be estimated.
local function estimate_of(record, conf)
    if not record.target.generates then
        return 0
    end
    local body = record.body
    local scan = body.scan
    return budget_rules.estimate(conf.tokens_per_minute, body.length, _M.reads_output(record),
                                 scan and scan.members or {})
end


-- Counts the request by the gateway's own count. For a rejection, returns the number of tokens that
-- are left, and milliseconds until a retry may pass.
local function count(reservation, conf, lane)
    local limit = conf.tokens_per_minute
    local tokens = reservation.tokens
    local bound = budget_rules.bound(lane, limit, conf.high_reserve)
    local second, used, wait_ms
    if conf.policy == "redis" then
        local answer = budget_redis.reserve(conf, reservation.key, tokens, bound)
        if not answer then
            return nil
        end
        second, used, wait_ms = answer.second, answer.used, answer.wait_ms
    else
        second, used, wait_ms = minute_of(reservation.key):reserve(ngx_now(), tokens, bound)
    end
    if not second then
        return max(0, limit - used), wait_ms
    end
    reservation.second = second
    reservation.left = max(0, limit - used - tokens)
    return nil
end


-- The same by the reports of the backends. Requests of the high lane always pass: the backends
-- themselves reject them.
local function count_by_reports(record, reservation, conf, lane)
    local key = reservation.key
    local left, reported = backend_reports.left(record.pool, deployment_of(record), key)
    if not left then
        -- The next report makes the tokens known, including those of this request.
        return nil
    elseif lane == "low" and left < conf.high_reserve then
        local may_pass, wait_ms = backend_reports.may_probe(key)
        if not may_pass then
            return left, wait_ms
        end
    end
    reservation.tokens = min(reservation.tokens, budget_rules.share(reported))
    backend_reports.sent(key, reservation.tokens)
    reservation.is_sent = true
    return nil
end


local function rejection(ctx, record, lane, left, wait_ms)
    record.refused_by = _M.LIMITER
    local header = ngx.header
    header["Retry-After"], header["retry-after-ms"] = errors.retry_after(wait_ms)
    header["x-gateway-ratelimit-lane"] = lane
    header["x-gw-priority"] = lane
    header["x-gw-ratelimit-reason"] = budget_rules.REASONS[lane]
    header["x-gw-ratelimit-value"] = format("%.0f", floor(left))
    return 429, errors.body(429, budget_rules.MESSAGES[lane])
end


--- Counts a request in its budget, after its deployment is known.
-- @tparam table ctx
-- @tparam table record prepared
-- @treturn number|nil the status of a rejection
-- @treturn nil|table its body
function _M.admit(ctx, record)
    local deployment = deployment_of(record)
    if not _M.applies(record) or not deployment then
        return nil
    end
    local conf = record.budget
    local lane = lanes.of(ctx)
    local reservation = request_record.new("reservation", {
        key = (conf.pool or "") .. "|" .. lower(deployment),
        tokens = estimate_of(record, conf),
    })
    record.reservation = reservation
    record.limiters[#record.limiters + 1] = _M.LIMITER
    local left, wait_ms
    if conf.source == "backend" then
        left, wait_ms = count_by_reports(record, reservation, conf, lane)
    else
        left, wait_ms = count(reservation, conf, lane)
    end
    if left then
        return rejection(ctx, record, lane, left, wait_ms)
    end
    return nil
end


local function number_of(value)
    local number = tonumber(type(value) == "table" and value[1] or value)
    return number and number >= 0 and number or nil
end


--- Reads what a backend reports that it has left.
-- @tparam table record
-- @tparam table backend
-- @tparam number status
-- @tparam table headers by names in lower case
function _M.answered(record, backend, status, headers)
    local reservation = record.reservation
    local tokens = headers["x-ratelimit-remaining-tokens"]
    reservation.requests = number_of(headers["x-ratelimit-remaining-requests"])
    if record.budget.source == "backend" then
        reservation.left = number_of(tokens)
        if backend_reports.note(reservation.key, backend, status,
                                type(tokens) == "table" and tokens[1] or tokens)
        then
            reservation.is_sent = nil
        end
    end
end


--- Adds the headers of the budget to an answer.
-- @tparam table record with a reservation
function _M.add_headers(record)
    local reservation, header = record.reservation, ngx.header
    header["x-gw-priority"] = record.lane
    header["x-gw-remaining-tokens"] = format("%.0f", floor(reservation.left or UNKNOWN))
    header["x-gw-remaining-requests"] = format("%.0f", floor(reservation.requests or UNKNOWN))
end


-- The tokens that a request has used; nil: they are not known.
local function usage_of(record)
    -- A stored answer has a reservation only if it counts.
    local usage = record.answer.usage or record.facts.saved
    if usage then
        return floor(usage.total)
    elseif record.facts.estimated_tokens then
        return record.facts.estimated_tokens
    elseif not record.is_answered and record.facts.error == "client_abort"
           and record.attempts[1]
    then
        -- The backend works on, and counts what was asked of it.
        return nil
    end
    return 0
end


--- Settles the reservation of a request; called once, at its end.
-- @tparam table record settled
function _M.settle(record)
    local reservation = record.reservation
    if reservation.is_sent and usage_of(record) == 0 then
        backend_reports.unsent(reservation.key, reservation.tokens)
        return
    end
    local second = reservation.second
    local used = second and usage_of(record)
    if not used or used == reservation.tokens then
        return
    end
    local by = used - reservation.tokens
    local conf = record.budget
    if conf.policy == "redis" then
        budget_redis.correct(conf, reservation.key, second, by)
    else
        minute_of(reservation.key):correct(ngx_now(), second, by)
    end
end


return _M
