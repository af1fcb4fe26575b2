--- Sets nginx's variables for those fields of the access log that only Lua knows.

local attempts = require("gateway.request.attempts")
local lanes = require("gateway.record.lanes")
local log_words = require("genai.telemetry.log_words")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local ngx_var = ngx.var

local _M = {}


-- Writes what the answer cache did. The variables exist only with a cache.
local function write_cache(cache, saved)
    ngx_var.genai_cache = cache.result
    if cache.age_s then
        ngx_var.genai_cache_age = cache.age_s
    end
    if saved then
        ngx_var.genai_saved_prompt_tokens = saved.prompt
        ngx_var.genai_saved_completion_tokens = saved.completion
    end
end


-- Writes the fields of an admitted request and its attempts.
local function write_admitted(ctx, record)
    local facts, target = record.facts, record.target
    ngx_var.genai_operation = target.operation
    ngx_var.genai_lane = lanes.of(ctx)
    if target.query then
        ngx_var.genai_api_version = log_words.api_version(target.query)
    end
    if facts.requested_model then
        ngx_var.genai_requested_model = facts.requested_model
        ngx_var.genai_model = facts.model
    end
    if facts.estimated_tokens then
        ngx_var.genai_estimated_tokens = facts.estimated_tokens
    end
    if facts.answer_model then
        ngx_var.genai_answer_model = facts.answer_model
    end
    if facts.service_tier then
        ngx_var.genai_service_tier = facts.service_tier
    end
    if record.answer.is_spilled then
        ngx_var.genai_spilled = "true"
    end
    local usage = record.answer.usage
    if usage and usage.seconds then
        ngx_var.genai_audio_seconds = usage.seconds
    end
    if record.refused_by then
        ngx_var.genai_limiter = record.refused_by
    end
    if record.affinity and record.affinity.found then
        ngx_var.genai_affinity = record.affinity.found
    end
    if record.cache then
        write_cache(record.cache, facts.saved)
    end

    local last = attempts.last(record)
    if not last then
        return
    end
    ngx_var.genai_attempts = log_words.attempts_text(record.attempts)
    if record.is_answered then
        ngx_var.genai_backend = last.backend.name
        ngx_var.genai_region = last.backend.region or ""
    end
    ngx_var.genai_failover = facts.failover or ""
end


--- Sets the variables.
-- @tparam table ctx
-- @tparam table record settled
function _M.write(ctx, record)
    local facts = record.facts
    if record.client_name then
        ngx_var.genai_client = record.client_name
    end
    if record.pool_name then
        ngx_var.genai_pool = record.pool_name
    end
    ngx_var.genai_route = request_context.route_name(ctx)
    if record.trace_id then
        ngx_var.genai_trace_id = record.trace_id
    end
    if facts.error then
        ngx_var.genai_error, ngx_var.genai_error_source = facts.error, facts.error_source
    end
    if request_record.is_admitted(record) then
        write_admitted(ctx, record)
    end
end


return _M
