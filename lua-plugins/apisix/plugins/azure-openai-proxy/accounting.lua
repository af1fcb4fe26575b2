--- What metrics, APISIX's limiters and logs read of a request.

local apisix_upstream = require("resty.apisix.upstream")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local ngx_now = ngx.now
local ngx_var = ngx.var
local floor = math.floor
local max = math.max

local _M = {}

local BYTES_PER_TOKEN = 4

-- What clients ask for that nobody serves must not become values of labels.
local OTHER = "other"


--- Before anything is known: whatever ends the request, its log phase finds numbers.
function _M.begin(ctx, target)
    ctx.var.apisix_upstream_response_time = 0
    ctx.ai_token_usage = { prompt_tokens = 0, completion_tokens = 0, total_tokens = 0 }
    if target.generates then
        ctx.var.request_type = "ai_chat"
    end
end


--- An attempt begins. Each is counted as active at its backend until it ends.
function _M.begin_attempt(ctx, state, backend)
    ctx.balancer_ip = backend.name
    state.attempt_started = ngx_now()
    metrics.active(backend.name, 1)
    state.is_active, state.is_counted = true, false
end


--- An attempt ends, with the same labels as it began with.
function _M.end_attempt(ctx, state)
    if not state.is_active then
        return
    end
    state.is_active = false
    metrics.active(ctx.balancer_ip, -1)
    if state.is_noted then
        state.is_noted = false
        apisix_upstream.update_upstream_state({
            response_time = floor((ngx_now() - state.attempt_started) * 1000),
        })
    end
end


--- An attempt as nginx's own variables for upstreams show it.
function _M.note_upstream(state, backend, status)
    apisix_upstream.push_upstream_state({
        addr = backend.address,
        status = status,
        header_time = floor((ngx_now() - state.attempt_started) * 1000),
    })
    state.is_noted = true
end


-- What budgets are charged with.
local function charge(ctx, prompt, completion, total)
    ctx.ai_token_usage = {
        prompt_tokens = prompt,
        completion_tokens = completion,
        total_tokens = total,
    }
end


-- Of an answer that does not say what it cost: the events of a stream are about as many as its
-- tokens, and four bytes of a request are about one.
local function estimate(state)
    if not state.is_answered or state.status >= 300 or not state.target.spends then
        return nil
    end
    return floor((state.body.length or 0) / BYTES_PER_TOKEN), state.seen.events or 0
end


--- At the end of every request: all variables, from what was seen of it.
function _M.finish(ctx, state)
    _M.end_attempt(ctx, state)

    local var = ctx.var
    local now = ngx_now()
    local seen = state.seen
    if state.started then
        var.apisix_upstream_response_time = max(0, floor((now - state.started) * 1000))
    end
    local usage = seen.usage
    if usage and state.target.spends then
        charge(ctx, usage.prompt, usage.completion, usage.total)
    end

    local status = state.status
    local asked = state.request.deployment
    local is_served = status and (status < 400 or status == 429 or status >= 500)
                      or asked and metrics.model(state.request) ~= OTHER
    local request_model = asked and (is_served and asked or OTHER)
    local model = asked and (is_served and state.served_as or request_model)
    -- What logs and traces say: more names than metrics, but none that only a client knows.
    state.shown_request_model, state.shown_model = request_model, model
    if not state.target.generates then
        return
    end

    if asked then
        local label = metrics.model(state.request)
        state.model_label = label
        state.served_label = metrics.served_model(state.request, label, state.served_as)
        var.request_llm_model, var.llm_model = label, state.served_label
    end
    var.llm_stream = state.wants_stream and "true" or "false"
    local first = seen.first_output_at or seen.answered_at
    local first_ms = first and state.started and max(1, floor((first - state.started) * 1000))
    if first_ms then
        var.llm_time_to_first_token = first_ms
        state.first_ms = first_ms
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

    if not usage then
        local prompt, completion = estimate(state)
        if prompt then
            local estimated = prompt + completion
            charge(ctx, prompt, completion, estimated)
            -- Apart from what backends said: metrics have no estimates in them.
            ngx_var.genai_estimated_tokens = estimated
            state.estimated_tokens = estimated
        end
    end

    if state.pool.logs_summaries then
        ctx.llm_summary = {
            request_model = request_model,
            model = model,
            duration = first_ms,
            prompt_tokens = usage and usage.prompt,
            completion_tokens = usage and usage.completion,
            total_tokens = usage and usage.total,
            cache_read_input_tokens = usage and usage.cached,
            reasoning_tokens = usage and usage.reasoning,
            estimated_tokens = state.estimated_tokens,
            upstream_response_time = var.apisix_upstream_response_time,
            stream = state.wants_stream or false,
        }
    end
end


return _M
