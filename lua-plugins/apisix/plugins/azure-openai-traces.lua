--- Traces: decides which requests are recorded, and takes part in the trace that a client began.
-- What is recorded is made when a request ends, of what azure-openai-proxy knows of it.

local core = require("apisix.core")
local exporting = require("apisix.plugins.azure-openai-traces.exporting")
local trace_mod = require("apisix.plugins.azure-openai-traces.trace")
local trace_context = require("genai.trace_context")

local plugin_name = "azure-openai-traces"


local name_schema = { type = "string", minLength = 1 }

local schema = {
    type = "object",
    properties = {
        -- host:port of OTLP over HTTP
        collector = name_schema,
        sample_rate = { type = "number", minimum = 0, maximum = 1 },
        -- what all spans say of where they come from
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
    -- right after azure-openai-errors: what any other plugin refuses is recorded too
    priority = 23000,
    name = plugin_name,
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.rewrite(conf, ctx)
    local parent = trace_context.parse(core.request.headers(ctx)["traceparent"])
    local trace_id
    if parent then
        trace_id = parent.trace_id
        ctx.genai_trace_id = trace_id
        if not parent.is_sampled then
            return
        end
    elseif conf.sample_rate > 0 then
        trace_id = trace_mod.new_trace_id()
    end
    if not trace_id or not trace_context.is_chosen(trace_id, conf.sample_rate) then
        return
    end

    ctx.genai_trace_id = trace_id
    ctx.genai_trace = trace_mod.new(exporting.tracer_of(conf), trace_id, parent)
    -- Each attempt is given one of its own.
    core.request.set_header(ctx, "traceparent", nil)
    if not parent then
        -- It belongs to a trace that cannot be told.
        core.request.set_header(ctx, "tracestate", nil)
    end
end


return _M
