--- Collects the data of an APIM-style record: everything that is known about a request at its end.

local apim_record = require("genai.telemetry.apim_record")
local admission = require("gateway.request.admission")
local attempts = require("gateway.request.attempts")
local cjson = require("cjson.safe")
local lanes = require("gateway.record.lanes")
local request_body = require("gateway.exchange.request_body")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local texts = require("genai.util.texts")
local find = string.find
local floor = math.floor
local get_method = ngx.req.get_method
local get_response_headers = ngx.resp.get_headers
local ngx_now = ngx.now
local ngx_var = ngx.var
local start_time = ngx.req.start_time
local sub = string.sub
local tonumber = tonumber

local _M = {}

-- A body in a record must keep the client's spelling: empty lists stay lists, and long numbers keep
-- their digits.
local json = cjson.new()
json.decode_array_with_array_mt(true)
json.encode_number_precision(16)


local function milliseconds_since(seconds)
    return floor((ngx_now() - seconds) * 1000 + 0.5)
end


-- A JSON body, or the beginning of a longer one as text; nil for uploads.
local function logged_body(record)
    local body = record.body
    if not body or not request_body.is_json(body, record.content_type) then
        return nil
    end
    local text = request_body.head(body, apim_record.MAX_BODY + 1)
    if #text <= apim_record.MAX_BODY and texts.of(text, #text) == text then
        local decoded = json.decode(text)
        if decoded ~= nil and json.encode(decoded) then
            return decoded
        end
    end
    return texts.of(text, apim_record.MAX_BODY)
end


local BROKEN_BY = { [attempts.STREAM_ERROR] = "backend", [attempts.CLIENT_ABORT] = "client" }


-- Adds the data of an admitted request.
local function add_admitted(seen, record, conf)
    local facts, last = record.facts, attempts.last(record)
    local target = record.target
    seen.reached_pool = true
    seen.attempts = #record.attempts
    seen.is_answered = record.is_answered
    seen.broken_by = record.is_answered and BROKEN_BY[last.outcome]
    seen.last_backend = last and last.backend.name
    seen.gateway_status = record.status
    seen.failure = record.best_failure
    seen.backend_ms = facts.backend_ms or 0
    if record.cache then
        local saved = facts.saved
        seen.cache = record.cache.result
        seen.saved_prompt_tokens = saved and saved.prompt
        seen.saved_completion_tokens = saved and saved.completion
    end
    if conf.include_req_body then
        seen.request_body = logged_body(record)
    end
    if target.spends then
        seen.usage = record.answer.usage
    end
    if target.generates then
        seen.deployment = facts.model_label
        seen.model = facts.served_label
        seen.stream = record.wants_stream or false
        seen.first_output_ms = facts.first_ms
        seen.estimated_tokens = facts.estimated_tokens
        seen.answer_model = facts.answer_model
        seen.service_tier = facts.service_tier
        seen.is_spilled = record.answer.is_spilled
    end
end


--- The record of a request, as JSON text.
-- @tparam table conf of apim-gateway-logger
-- @tparam table ctx
-- @tparam table record settled
-- @treturn string|nil JSON
-- @treturn nil|string the error
function _M.text_of(conf, ctx, record)
    local var = ctx.var
    local uri = var.real_request_uri
    local mark = find(uri, "?", 1, true)
    local seen = {
        started_at = start_time(),
        total_ms = milliseconds_since(start_time()),
        status = tonumber(var.status),
        method = get_method(),
        path = mark and sub(uri, 1, mark - 1) or uri,
        query = mark and sub(uri, mark + 1),
        client_ip = var.remote_addr,
        correlation_id = var.apisix_request_id,
        request_id = ngx_var.request_id,
        client = record.client_name,
        -- Also for requests rejected before azure-openai-proxy ran (IP list, missing key).
        target = record.target or admission.target_of(ctx, record, get_method()),
        lane = lanes.of(ctx),
        pool = record.pool_name,
        request_headers = request_context.headers(ctx),
        response_headers = get_response_headers(0),
    }
    if request_record.is_admitted(record) then
        add_admitted(seen, record, conf)
    end
    return json.encode(apim_record.of(seen, conf))
end


return _M
