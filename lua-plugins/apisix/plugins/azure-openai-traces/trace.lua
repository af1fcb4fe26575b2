--- The spans of one request: one for itself, and one for each attempt at a backend.

local access_log = require("apisix.plugins.azure-openai-proxy.access_log")
local attribute = require("opentelemetry.attribute")
local random_bytes = require("resty.random").bytes
local recording_span = require("opentelemetry.trace.recording_span")
local span_context = require("opentelemetry.trace.span_context")
local span_kind = require("opentelemetry.trace.span_kind")
local span_status = require("opentelemetry.trace.span_status")
local telemetry = require("genai.telemetry")
local to_hex = require("resty.string").to_hex
local trace_context = require("genai.trace_context")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local ngx = ngx
local ngx_now = ngx.now
local start_time = ngx.req.start_time
local update_time = ngx.update_time
local floor = math.floor
local ipairs = ipairs
local match = string.match
local max = math.max
local min = math.min
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber
local tostring = tostring
local type = type

local _M = {}

local Trace = {}
local mt = { __index = Trace }

local PROVIDER = "azure.ai.openai"

-- What a client may make as long as it likes is cut.
local MAX_TEXT = 512

local SAMPLED = 1


--- Names that nobody else gives, in each worker.
function _M.new_trace_id()
    return to_hex(random_bytes(16))
end


function Trace.new_span_id()
    return to_hex(random_bytes(8))
end


--- A request's part in a trace.
-- @tparam table tracer as `exporting` gives it
-- @tparam string trace_id
-- @tparam table|nil parent the client's span, as `genai.trace_context` reads it
function _M.new(tracer, trace_id, parent)
    return setmetatable({
        tracer = tracer,
        trace_id = trace_id,
        parent_id = parent and parent.span_id,
        -- The ids made here are random, and the client's where it says so.
        is_random = not parent or parent.is_random,
        span_id = Trace.new_span_id(),
    }, mt)
end


--- The line of a request's head that names a span to whoever gets the request.
function Trace:line(span_id)
    return "traceparent: " .. trace_context.header(self.trace_id, span_id, self.is_random) .. "\r\n"
end


local function add_text(attributes, key, value)
    if type(value) == "string" and value ~= "" then
        attributes[#attributes + 1] = attribute.string(key, sub(value, 1, MAX_TEXT))
    end
end


local function add_int(attributes, key, value)
    value = tonumber(value)
    if value then
        attributes[#attributes + 1] = attribute.int(key, floor(value))
    end
end


local function nanoseconds(seconds)
    return floor(seconds * 1000 + 0.5) * 1000000
end


-- Makes a span and hands it to the tracer.
local function record(self, span_id, parent_id, name, kind, started, ended, attributes, message)
    local trace_id = self.trace_id
    local span = recording_span.new(self.tracer, span_context.new(trace_id, parent_id, SAMPLED),
                                    span_context.new(trace_id, span_id, SAMPLED), name,
                                    { kind = kind, attributes = attributes },
                                    nanoseconds(started))
    if message then
        span:set_status(span_status.ERROR, message)
    end
    span:finish(nanoseconds(max(started, ended)))
end


-- What is asked, as GenAI conventions name it.
local function add_operation(attributes, target, model)
    local operation, api = telemetry.gen_ai_operation(target.operation)
    add_text(attributes, "gen_ai.operation.name", operation)
    add_text(attributes, "gen_ai.provider.name", PROVIDER)
    add_text(attributes, "openai.api.type", api)
    add_text(attributes, "gen_ai.request.model", model)
    return operation
end


-- What was answered.
local function add_answer(attributes, state)
    local seen = state.seen
    add_text(attributes, "gen_ai.response.model", seen.model)
    local usage = seen.usage
    if usage then
        add_int(attributes, "gen_ai.usage.input_tokens", usage.prompt)
        add_int(attributes, "gen_ai.usage.output_tokens", usage.completion)
        add_int(attributes, "gen_ai.usage.cache_read.input_tokens", usage.cached)
        add_int(attributes, "gen_ai.usage.reasoning.output_tokens", usage.reasoning)
    end
    if state.first_ms and state.wants_stream then
        attributes[#attributes + 1] = attribute.double("gen_ai.response.time_to_first_chunk",
                                                       state.first_ms / 1000)
    end
end


local function add_stream(attributes, state)
    if state.target.generates and state.body then
        attributes[#attributes + 1] = attribute.bool("gen_ai.request.stream",
                                                     state.wants_stream or false)
    end
end


local function record_attempt(self, state, try, number, is_last)
    local backend = try.backend
    local connection = backend.connection
    local attributes = {}
    local model = state.shown_request_model
    if model == state.request.deployment then
        model = try.served_as or model
    end
    local operation = add_operation(attributes, state.target, model)
    add_stream(attributes, state)
    add_text(attributes, "http.request.method", state.method)
    add_text(attributes, "server.address", connection.host)
    add_int(attributes, "server.port", connection.port)
    add_text(attributes, "genai_gateway.backend", backend.name)
    add_text(attributes, "genai_gateway.region", backend.region)
    add_text(attributes, "genai_gateway.outcome", try.outcome)
    add_int(attributes, "http.response.status_code", try.status)
    if number > 1 then
        add_int(attributes, "http.request.resend_count", number - 1)
    end

    local err = try.outcome
    if err == "ok" then
        err = try.status >= 400 and tostring(try.status) or nil
    end
    add_text(attributes, "error.type", err)
    if is_last and state.is_answered then
        add_answer(attributes, state)
    end
    record(self, try.span_id, self.span_id, model and operation .. " " .. model or operation,
           span_kind.client, try.started, min(try.ended, ngx_now()), attributes,
           err ~= "client_abort" and err or nil)
end


local function request_attributes(ctx, state)
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
    add_text(attributes, "genai_gateway.client", ctx.genai_client_name)
    add_text(attributes, "genai_gateway.request_id", var.apisix_request_id)
    if state then
        add_text(attributes, "genai_gateway.lane", variables.lane(ctx))
        add_text(attributes, "genai_gateway.limiter", state.refused_by)
        add_operation(attributes, state.target, state.shown_request_model)
        add_stream(attributes, state)
        add_text(attributes, "genai_gateway.operation", state.target.operation)
        add_text(attributes, "azure.openai.api_version", telemetry.api_version(state.target.query))
        add_text(attributes, "genai_gateway.affinity",
                 state.affinity and state.affinity.found)
        add_int(attributes, "genai_gateway.attempts", state.tries and #state.tries or 0)
        add_text(attributes, "genai_gateway.failover", access_log.failover_of(state))
        add_int(attributes, "genai_gateway.estimated_tokens", state.estimated_tokens)
        if state.is_answered then
            add_text(attributes, "genai_gateway.backend", state.tries[#state.tries].backend.name)
            add_answer(attributes, state)
        end
    end
    return attributes
end


--- Records the spans, when all is known of the request.
-- @tparam table ctx
-- @tparam table|nil state of azure-openai-proxy; nil: the request ended before
function Trace:finish(ctx, state)
    update_time()
    for number, try in ipairs(state and state.tries or {}) do
        record_attempt(self, state, try, number, number == #state.tries)
    end

    local attributes = request_attributes(ctx, state)
    local status = tonumber(ngx.var.status)
    add_int(attributes, "http.response.status_code", status)
    local err, source = access_log.error_of(ctx, state)
    add_text(attributes, "error.type", err)
    add_text(attributes, "genai_gateway.error_source", source)
    -- To a server, what a client did wrong or took back is no error.
    local is_error = err and (status >= 500 or err == "stream_error")
    local route = ctx.curr_req_matched and ctx.curr_req_matched._path
    add_text(attributes, "http.route", route)
    local method = ctx.var.request_method
    record(self, self.span_id, self.parent_id, route and method .. " " .. route or method,
           span_kind.server, start_time(), ngx_now(), attributes, is_error and err or nil)
end


return _M
