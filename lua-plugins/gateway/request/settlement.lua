--- The end of a request: ends the current attempt, charges budgets, and computes the facts for
-- logs, metrics and traces. Each plugin that needs them calls `settle` in its log phase; the first
-- call does the work, so the order of plugins does not matter.

local attempts = require("gateway.request.attempts")
local availability = require("gateway.backends.availability")
local body_memory = require("gateway.exchange.body_memory")
local core = require("apisix.core")
local labels = require("genai.telemetry.labels")
local latency = require("gateway.backends.latency")
local metrics = require("gateway.metrics")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local served_by = require("genai.openai.served_by")
local token_budget = require("apisix_internals.token_budget")
local floor = math.floor
local max = math.max
local ngx = ngx
local ngx_now = ngx.now
local sub = string.sub
local tostring = tostring

local _M = {}

local BYTES_PER_TOKEN = 4

-- Models that clients name but no backend serves must not become label values.
local OTHER = "other"

-- Maximum number of characters of a model name in logs.
local MAX_NAME = 128

-- The status that nginx logs after a client disconnects.
local CLIENT_CLOSED = 499


local function decode(text)
    return (core.json.decode(text))
end


-- Ends the current attempt, if there is one.
local function close(record)
    body_memory.release(record)
    if record.cache then
        record.cache:close(record)
    end
    if not request_record.is_admitted(record) then
        return
    end
    availability.release(record.choice)
    if record.pool.by_latency then
        latency.finish(record.choice, record.answer.usage)
    end
    if attempts.is_open(record) then
        -- Only a defect or a disconnecting client ends a request during an attempt.
        attempts.ends(record, record.is_broken and attempts.GATEWAY_ERROR or attempts.CLIENT_ABORT)
    end
    metrics.skipped_backends(record)
end


-- The error: a code, the status of a backend's answer, or an outcome; and whose fault it is.
local function error_of(record)
    local status = ngx.status
    local broken_by = record.cache and record.cache.broken_by
    if broken_by then
        return broken_by == "client" and attempts.CLIENT_ABORT or attempts.STREAM_ERROR, broken_by
    elseif record.is_answered then
        local outcome = attempts.last(record).outcome
        if outcome == attempts.STREAM_ERROR then
            return outcome, "backend"
        elseif outcome == attempts.GATEWAY_ERROR then
            return outcome, "gateway"
        elseif outcome ~= attempts.OK then
            return attempts.CLIENT_ABORT, "client"
        elseif record.status >= 400 then
            return tostring(record.status), "backend"
        end
        return nil
    elseif record.error_code then
        return record.error_code, "gateway"
    elseif record.started or status == CLIENT_CLOSED then
        return attempts.CLIENT_ABORT, "client"
    elseif status >= 400 then
        return tostring(status), "gateway"
    end
    return nil
end


-- Whether the request failed over, and whether that helped.
local function failover_of(record)
    if not record.attempts[2] or not attempts.first_failed(record) then
        return nil
    end
    return record.is_answered and record.status < 400 and "saved" or "failed"
end


-- Estimates the tokens of an answer without usage: a stream has about as many events as tokens, and
-- a request has about one token for four bytes. nil: the request costs nothing.
local function estimate(record)
    if not record.is_answered or record.status >= 300 or not record.target.spends then
        return nil
    end
    return floor((record.body.length or 0) / BYTES_PER_TOKEN), record.answer.events or 0
end


-- Sets the names of the model, for logs and for labels.
local function name_model(record, facts)
    local choice, status = record.choice, record.status
    local asked = choice.deployment
    if not asked then
        return
    end
    local label = metrics.model(choice)
    local last = attempts.last(record)
    local served_as = last and last.served_as or record.cache and record.cache:served_as()
    local is_served = status and (status < 400 or status == 429 or status >= 500)
                      or label ~= OTHER
    facts.requested_model = is_served and asked or OTHER
    facts.model = is_served and served_as or facts.requested_model
    facts.model_label = label
    facts.served_label = metrics.served_model(choice, label, served_as)
end


-- Sets the model and service tier that the answer names. The name comes from a backend, but may be
-- long.
local function name_answer(record, facts)
    local model, tier = served_by.of_answer(record.answer, decode)
    facts.answer_model = model and sub(model, 1, MAX_NAME)
    facts.service_tier = labels.service_tier(tier)
end


-- Charges the budgets for a stored answer: nothing, unless the settings say so.
local function charge_hit(record, ctx, usage, is_charged)
    if is_charged and usage and record.target.spends then
        token_budget.charge(ctx, usage.prompt, usage.completion, usage.total)
    end
    if record.counts_requests then
        token_budget.charge_requests(ctx, is_charged and 1 or 0)
    end
end


-- Charges the budgets. Estimates are kept separate from the usage that backends report.
local function charge(record, ctx, facts)
    local cache = record.cache
    if cache and cache.hit then
        facts.saved = cache.hit.usage
        return charge_hit(record, ctx, facts.saved, cache.settings.counts_tokens)
    end
    local usage = record.answer.usage
    if usage then
        if record.target.spends then
            token_budget.charge(ctx, usage.prompt, usage.completion, usage.total)
        end
    elseif record.target.generates then
        local prompt, completion = estimate(record)
        if prompt then
            facts.estimated_tokens = prompt + completion
            token_budget.charge(ctx, prompt, completion, facts.estimated_tokens)
        end
    end
    if record.counts_requests then
        token_budget.charge_requests(ctx, record.is_answered and 1 or 0)
    end
end


-- Computes the durations, in milliseconds.
local function time(record, facts)
    local started = record.started
    if not started then
        return
    end
    facts.backend_ms = max(0, floor((ngx_now() - started) * 1000))
    local answer = record.answer
    local first = answer.first_output_at or answer.answered_at
    if first and record.is_answered and record.target.generates then
        facts.first_ms = max(1, floor((first - started) * 1000))
    end
end


-- Sets APISIX's variables for AI requests, which log formats may use.
local function set_variables(record, ctx, facts)
    local var = ctx.var
    if facts.backend_ms then
        var.apisix_upstream_response_time = facts.backend_ms
    end
    local usage = record.answer.usage
    if not record.target.generates and not (usage and record.target.makes_content) then
        return
    end
    if facts.model_label then
        var.request_llm_model, var.llm_model = facts.model_label, facts.served_label
    end
    var.llm_stream = record.wants_stream and "true" or "false"
    if facts.first_ms then
        var.llm_time_to_first_token = facts.first_ms
    end
    if usage then
        var.llm_prompt_tokens = usage.prompt
        var.llm_completion_tokens = usage.completion
        var.llm_total_tokens = usage.total
        if usage.cached then
            var.llm_cache_read_input_tokens = usage.cached
        end
        if usage.reasoning then
            var.llm_reasoning_tokens = usage.reasoning
        end
    end
end


-- Adds the summary for APISIX's loggers.
local function summarize(record, ctx, facts)
    local usage = record.answer.usage
    request_context.summarize(ctx, {
        request_model = facts.requested_model,
        model = facts.model,
        duration = facts.first_ms,
        prompt_tokens = usage and usage.prompt,
        completion_tokens = usage and usage.completion,
        total_tokens = usage and usage.total,
        cache_read_input_tokens = usage and usage.cached,
        reasoning_tokens = usage and usage.reasoning,
        estimated_tokens = facts.estimated_tokens,
        upstream_response_time = ctx.var.apisix_upstream_response_time,
        stream = record.wants_stream or false,
    })
end


--- Settles a request; the first call does the work. Must be called in the log phase.
-- @tparam table ctx
-- @treturn table the record, with its `facts`
function _M.settle(ctx)
    local record = request_record.of(ctx)
    if record.facts then
        return record
    end

    local facts = request_record.new("facts", {})
    record.facts = facts
    close(record)
    facts.error, facts.error_source = error_of(record)
    if not request_record.is_admitted(record) then
        return record
    end
    facts.failover = failover_of(record)
    name_model(record, facts)
    if record.is_answered then
        name_answer(record, facts)
    elseif record.cache and record.cache.hit then
        facts.answer_model = record.cache.hit.model and sub(record.cache.hit.model, 1, MAX_NAME)
        facts.service_tier = labels.service_tier(record.cache.hit.tier)
    end
    charge(record, ctx, facts)
    time(record, facts)
    set_variables(record, ctx, facts)
    if record.target.generates and record.pool.logs_summaries then
        summarize(record, ctx, facts)
    end
    return record
end


return _M
