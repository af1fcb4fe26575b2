--- The spans of one request: one for the request, and one for each attempt at a backend.

local lanes = require("gateway.record.lanes")
local log_words = require("genai.telemetry.log_words")
local request_context = require("apisix_internals.request_context")
local spans = require("apisix_internals.spans")
local trace_context = require("genai.telemetry.trace_context")
local floor = math.floor
local ipairs = ipairs
local match = string.match
local max = math.max
local min = math.min
local ngx = ngx
local ngx_now = ngx.now
local random_bytes = require("resty.random").bytes
local setmetatable = setmetatable
local start_time = ngx.req.start_time
local sub = string.sub
local to_hex = require("resty.string").to_hex
local tonumber = tonumber
local tostring = tostring
local type = type
local update_time = ngx.update_time

local _M = {}

local Trace = {}
local mt = { __index = Trace }

local PROVIDER = "azure.ai.openai"

-- Errors after which an answer that had begun was cut off.
local BROKEN = { stream_error = true, gateway_error = true }

-- Texts from clients are cut to this length.
local MAX_TEXT = 512


--- A random 128-bit trace id, as 32 hex digits.
function _M.new_trace_id()
    return to_hex(random_bytes(16))
end


function Trace.new_span_id()
    return to_hex(random_bytes(8))
end


--- A request's part of a trace.
-- @tparam table tracer as `span_export.tracer_of` returns it
-- @tparam string trace_id
-- @tparam table|nil parent the client's span, as `genai.telemetry.trace_context` reads it
function _M.new(tracer, trace_id, parent)
    return setmetatable({
        tracer = tracer,
        trace_id = trace_id,
        parent_id = parent and parent.span_id,
        -- Ids made here are random; a client's id is random only if the client's flag says so.
        is_random = not parent or parent.is_random,
        span_id = Trace.new_span_id(),
    }, mt)
end


--- The `traceparent` line that passes a span's id to a backend.
function Trace:line(span_id)
    return "traceparent: " .. trace_context.header(self.trace_id, span_id, self.is_random) .. "\r\n"
end


local function add_text(attributes, key, value)
    if type(value) == "string" and value ~= "" then
        attributes[#attributes + 1] = spans.text(key, sub(value, 1, MAX_TEXT))
    end
end


local function add_int(attributes, key, value)
    value = tonumber(value)
    if value then
        attributes[#attributes + 1] = spans.int(key, floor(value))
    end
end


local function nanoseconds(seconds)
    return floor(seconds * 1000 + 0.5) * 1000000
end


-- Adds the attributes of the operation, as the GenAI conventions name them.
local function add_operation(attributes, target, model)
    local operation, api = log_words.gen_ai_operation(target.operation)
    add_text(attributes, "gen_ai.operation.name", operation)
    add_text(attributes, "gen_ai.provider.name", PROVIDER)
    add_text(attributes, "openai.api.type", api)
    add_text(attributes, "gen_ai.request.model", model)
    return operation
end


-- Adds the attributes of the answer.
local function add_answer(attributes, record)
    local seen = record.answer
    add_text(attributes, "gen_ai.response.model", seen.model)
    local usage = seen.usage
    if usage then
        add_int(attributes, "gen_ai.usage.input_tokens", usage.prompt)
        add_int(attributes, "gen_ai.usage.output_tokens", usage.completion)
        add_int(attributes, "gen_ai.usage.cache_read.input_tokens", usage.cached)
        add_int(attributes, "gen_ai.usage.reasoning.output_tokens", usage.reasoning)
    end
    if record.facts.first_ms and record.wants_stream then
        attributes[#attributes + 1] = spans.double("gen_ai.response.time_to_first_chunk",
                                                       record.facts.first_ms / 1000)
    end
end


local function add_stream(attributes, record)
    if record.target.generates and record.body then
        attributes[#attributes + 1] = spans.bool("gen_ai.request.stream",
                                                     record.wants_stream or false)
    end
end


local function record_attempt(self, record, number)
    local attempts, facts = record.attempts, record.facts
    local attempt = attempts[number]
    local backend = attempt.backend
    local connection = backend.connection
    local attributes = {}
    local model = facts.requested_model
    if model == record.choice.deployment then
        model = attempt.served_as or model
    end
    local operation = add_operation(attributes, record.target, model)
    add_stream(attributes, record)
    add_text(attributes, "http.request.method", record.method)
    add_text(attributes, "server.address", connection.host)
    add_int(attributes, "server.port", connection.port)
    add_text(attributes, "genai_gateway.backend", backend.name)
    add_text(attributes, "genai_gateway.region", backend.region)
    add_text(attributes, "genai_gateway.outcome", attempt.outcome)
    add_int(attributes, "http.response.status_code", attempt.status)
    if number > 1 then
        add_int(attributes, "http.request.resend_count", number - 1)
    end

    local err = attempt.outcome
    if err == "ok" then
        err = attempt.status >= 400 and tostring(attempt.status) or nil
    end
    add_text(attributes, "error.type", err)
    if number == #attempts and record.is_answered then
        add_answer(attributes, record)
    end
    spans.record(self.tracer, {
        trace_id = self.trace_id,
        span_id = attempt.span_id,
        parent_id = self.span_id,
        name = model and operation .. " " .. model or operation,
        kind = spans.CLIENT,
        started = nanoseconds(attempt.started),
        ended = nanoseconds(max(attempt.started, min(attempt.ended, ngx_now()))),
        attributes = attributes,
        error = err ~= "client_abort" and err or nil,
    })
end


-- Adds the attributes of an admitted request: what it asked for, and its result.
local function add_admitted(attributes, ctx, record)
    local facts, attempts = record.facts, record.attempts
    add_text(attributes, "genai_gateway.lane", lanes.of(ctx))
    add_text(attributes, "genai_gateway.limiter", record.refused_by)
    add_operation(attributes, record.target, facts.requested_model)
    add_stream(attributes, record)
    add_text(attributes, "genai_gateway.operation", record.target.operation)
    add_text(attributes, "azure.openai.api_version", log_words.api_version(record.target.query))
    add_text(attributes, "genai_gateway.affinity", record.affinity and record.affinity.found)
    add_int(attributes, "genai_gateway.attempts", #attempts)
    add_text(attributes, "genai_gateway.failover", facts.failover)
    add_int(attributes, "genai_gateway.estimated_tokens", facts.estimated_tokens)
    if record.cache then
        add_text(attributes, "genai_gateway.cache", record.cache.result)
        add_int(attributes, "genai_gateway.cache_age_s", record.cache.age_s)
        add_int(attributes, "genai_gateway.saved_prompt_tokens", facts.saved and facts.saved.prompt)
        add_int(attributes, "genai_gateway.saved_completion_tokens",
                facts.saved and facts.saved.completion)
        add_text(attributes, "gen_ai.response.model", record.cache.hit and record.cache.hit.model)
    end
    if record.is_answered then
        add_text(attributes, "genai_gateway.backend", attempts[#attempts].backend.name)
        add_answer(attributes, record)
    end
end


local function request_attributes(ctx, record)
    local var = ctx.var
    local attributes = {}
    add_text(attributes, "http.request.method", var.request_method)
    add_text(attributes, "url.scheme", var.scheme)
    add_text(attributes, "url.path", var.uri)
    add_text(attributes, "server.address", var.host)
    add_text(attributes, "client.address", var.remote_addr)
    add_text(attributes, "user_agent.original", var.http_user_agent)
    add_text(attributes, "network.protocol.version",
             match(var.server_protocol or "", "^HTTP/(%d[%d.]*)$"))
    add_text(attributes, "genai_gateway.client", record.client_name)
    add_text(attributes, "genai_gateway.pool", record.pool_name)
    add_text(attributes, "genai_gateway.request_id", var.apisix_request_id)
    if record.target then
        add_admitted(attributes, ctx, record)
    end
    return attributes
end


--- Records the spans.
-- @tparam table ctx
-- @tparam table record settled
function Trace:finish(ctx, record)
    update_time()
    for number in ipairs(record.attempts or {}) do
        record_attempt(self, record, number)
    end

    local facts = record.facts
    local attributes = request_attributes(ctx, record)
    local status = tonumber(ngx.var.status)
    add_int(attributes, "http.response.status_code", status)
    add_text(attributes, "error.type", facts.error)
    add_text(attributes, "genai_gateway.error_source", facts.error_source)
    -- By OpenTelemetry's conventions, client errors and disconnects are not errors of a server's
    -- span.
    local is_error = facts.error and (status >= 500 or BROKEN[facts.error])
    local route = request_context.route_path(ctx)
    add_text(attributes, "http.route", route)
    local method = ctx.var.request_method
    local started = start_time()
    spans.record(self.tracer, {
        trace_id = self.trace_id,
        span_id = self.span_id,
        parent_id = self.parent_id,
        name = route and method .. " " .. route or method,
        kind = spans.SERVER,
        started = nanoseconds(started),
        ended = nanoseconds(max(started, ngx_now())),
        attributes = attributes,
        error = is_error and facts.error or nil,
    })
end


return _M
