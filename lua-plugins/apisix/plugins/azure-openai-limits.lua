--- Decides which limiters count a request: those of APISIX, and the token budget that lanes share.

local contract = require("apisix_internals.contract")
local core = require("apisix.core")
local counter_names = require("apisix_internals.counter_names")
local metrics = require("gateway.metrics")
local redis_guard = require("gateway.limits.redis_guard")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local settlement = require("gateway.request.settlement")
local shared_budgets = require("gateway.limits.shared_budgets")
local token_budget = require("apisix_internals.token_budget")
local has_variable = request_context.has_variable
local ipairs = ipairs


local text_schema = { type = "string", minLength = 1 }
local count_schema = { type = "integer", minimum = 0 }
local positive_schema = { type = "integer", minimum = 1 }

-- One budget of tokens for each deployment, which both lanes share. Where it is counted is said in
-- the words of APISIX's limiters.
local budget_schema = {
    type = "object",
    properties = {
        -- the pool that has the budget; none: that of the plain paths
        pool = text_schema,
        -- who counts: the gateway, or the backends
        source = { type = "string", enum = { "count", "backend" } },
        tokens_per_minute = positive_schema,
        -- requests of the low lane are rejected while less than this is left
        high_reserve = count_schema,
        policy = { type = "string", enum = { "local", "redis" } },
        allow_degradation = { type = "boolean" },
        redis_host = text_schema,
        redis_port = { type = "integer", minimum = 1, maximum = 65535 },
        redis_username = text_schema,
        redis_password = text_schema,
        redis_database = count_schema,
        redis_ssl = { type = "boolean" },
        redis_ssl_verify = { type = "boolean" },
        redis_timeout = positive_schema,
    },
    required = { "source", "high_reserve" },
    additionalProperties = false,
    ["if"] = { properties = { source = { enum = { "count" } } } },
    ["then"] = {
        properties = { tokens_per_minute = true, policy = true },
        required = { "tokens_per_minute", "policy" },
        ["if"] = { properties = { policy = { enum = { "redis" } } } },
        ["then"] = {
            properties = { redis_host = true, redis_port = true, redis_database = true,
                           redis_timeout = true },
            required = { "redis_host", "redis_port", "redis_database", "redis_timeout" },
        },
    },
}


local schema = {
    type = "object",
    properties = {
        budget = budget_schema,
        -- the service whose limiters count the requests of this one too
        counters_of = { type = "string", minLength = 1 },
        -- the setting whose file contains the password of the limiters' Redis
        redis_password_setting = { type = "string", pattern = "^[A-Z][A-Z0-9_]*$" },
    },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- after azure-openai-proxy, which determines the operation, and before the limiters
    priority = 1040,
    name = "azure-openai-limits",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.init()
    contract.open("redis_clients")
    contract.open("counter_names")
    contract.open("limiters", redis_guard.guard)
end


-- Whether one of a limiter's rules applies to this request. A limiter without a matching rule would
-- answer 500.
local function has_rule(conf, ctx)
    if not conf.rules then
        return true
    end
    for _, rule in ipairs(conf.rules) do
        if has_variable(rule.key, ctx) then
            return true
        end
    end
    return false
end


-- Whether token budgets count the request. Requests that cost nothing are exempt, so that a client
-- with a used-up budget can still fetch the results it has paid for.
local function counts_tokens(record, conf, ctx)
    record.counts_requests = conf.limit_strategy == "expression"
    return (record.counts_requests or record.target.spends) and has_rule(conf, ctx)
end


local IS_LIMITER = { ["ai-rate-limiting"] = true, ["limit-count"] = true, ["limit-req"] = true }


function _M.access(conf, ctx)
    local record = request_record.of(ctx)
    if not request_record.is_admitted(record) then
        return
    end
    local limiters = {}
    record.limiters = limiters
    local budget = conf.budget
    if budget then
        record.budget = budget
        if conf.redis_password_setting then
            redis_guard.sign_in_by(budget, conf.redis_password_setting)
        end
    end
    local names, confs = request_context.plugins(ctx)
    for i, name in ipairs(names) do
        local limiter = confs[i]
        if conf.redis_password_setting then
            redis_guard.sign_in_by(limiter, conf.redis_password_setting)
        end
        if conf.counters_of and IS_LIMITER[name] then
            counter_names.count_with(limiter, conf.counters_of)
        end
        if name == "ai-rate-limiting" then
            if counts_tokens(record, limiter, ctx) then
                limiters[#limiters + 1] = name
            else
                token_budget.exclude(ctx)
            end
        elseif name == "limit-count" and not has_rule(limiter, ctx) then
            request_context.skip(ctx, name)
        elseif name == "limit-count" or name == "limit-req" then
            limiters[#limiters + 1] = name
        end
    end
end


function _M.log(conf, ctx)
    local record = settlement.settle(ctx)
    if record.reservation then
        shared_budgets.settle(record)
    end
    if record.limiters then
        metrics.limited(ctx, record)
    end
end


return _M
