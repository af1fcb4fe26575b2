--- What APISIX's exporter, limiters and logs read of a request.

local apisix_upstream = require("resty.apisix.upstream")
local exporter = require("apisix.plugins.prometheus.exporter")
local ngx_now = ngx.now
local floor = math.floor
local max = math.max
local tostring = tostring

local _M = {}

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
    exporter.inc_llm_active_connections(ctx)
    state.is_active = true
end


--- An attempt ends, with the same labels as it began with.
function _M.end_attempt(ctx, state)
    if state.is_active then
        state.is_active = false
        exporter.dec_llm_active_connections(ctx)
    end
end


--- An attempt as nginx's own variables for upstreams show it.
-- @tparam number started seconds
function _M.note_upstream(backend, status, started)
    apisix_upstream.push_upstream_state({
        addr = backend.address,
        status = status,
        header_time = floor((ngx_now() - started) * 1000),
    })
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
    if not state.target.generates then
        return
    end

    local status = state.status
    local is_served = status and (status < 400 or status == 429 or status >= 500)
    local model = is_served and state.request.deployment or state.request.deployment and OTHER
    if model then
        var.request_llm_model = model
        var.llm_model = is_served and state.served_as or model
    end
    var.llm_stream = tostring(state.wants_stream or false)
    local first = seen.first_output_at or seen.answered_at
    if first and state.started then
        var.llm_time_to_first_token = max(1, floor((first - state.started) * 1000))
    end

    local usage = seen.usage
    if usage then
        ctx.ai_token_usage = {
            prompt_tokens = usage.prompt,
            completion_tokens = usage.completion,
            total_tokens = usage.total,
        }
        ctx.llm_raw_usage = ctx.ai_token_usage
        var.llm_prompt_tokens = usage.prompt
        var.llm_completion_tokens = usage.completion
        var.llm_total_tokens = usage.total
        var.llm_cache_read_input_tokens = usage.cached
        var.llm_reasoning_tokens = usage.reasoning
    end

    if state.pool and state.pool.logs_summaries then
        ctx.llm_summary = {
            request_model = var.request_llm_model,
            model = var.llm_model,
            duration = var.llm_time_to_first_token,
            prompt_tokens = var.llm_prompt_tokens,
            completion_tokens = var.llm_completion_tokens,
            total_tokens = var.llm_total_tokens,
            upstream_response_time = var.apisix_upstream_response_time,
            stream = var.llm_stream,
            cache_read_input_tokens = var.llm_cache_read_input_tokens,
            reasoning_tokens = var.llm_reasoning_tokens,
        }
    end
end


return _M
