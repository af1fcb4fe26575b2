--- Traces: decides which requests are recorded, and continues a client's trace. The spans are made
-- when a request ends, from its record.

local core = require("apisix.core")
local request_record = require("gateway.record.request_record")
local span_export = require("gateway.telemetry.span_export")
local request_trace = require("gateway.telemetry.request_trace")
local trace_context = require("genai.telemetry.trace_context")

local name_schema = { type = "string", minLength = 1 }

local schema = {
    type = "object",
    properties = {
        -- host:port of OTLP over HTTP
        collector = name_schema,
        sample_rate = { type = "number", minimum = 0, maximum = 1 },
        -- resource attributes of all spans
        resource = {
            type = "object",
            minProperties = 1,
            additionalProperties = name_schema,
        },
    },
    required = { "collector", "sample_rate", "resource" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- right after azure-openai-errors, so that requests rejected by any other plugin are recorded
    -- too
    priority = 23000,
    name = "azure-openai-traces",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.rewrite(conf, ctx)
    local parent = trace_context.parse(core.request.headers(ctx)["traceparent"])
    local record = request_record.of(ctx)
    local trace_id
    if parent then
        trace_id = parent.trace_id
        record.trace_id = trace_id
        if not parent.is_sampled then
            return
        end
    elseif conf.sample_rate > 0 then
        trace_id = request_trace.new_trace_id()
    end
    if not trace_id or not trace_context.is_chosen(trace_id, conf.sample_rate) then
        return
    end

    record.trace_id = trace_id
    record.trace = request_trace.new(span_export.tracer_of(conf), trace_id, parent)
    -- Each attempt gets its own traceparent.
    core.request.set_header(ctx, "traceparent", nil)
    if not parent then
        -- Without a valid traceparent, tracestate is meaningless.
        core.request.set_header(ctx, "tracestate", nil)
    end
end


return _M
