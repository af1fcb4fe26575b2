--- Wraps opentelemetry-lua, the tracing library that comes with APISIX: its spans, its queue and
-- its encoding.

local contract = require("apisix_internals.contract")
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local unpack = unpack

local need = contract.part("spans")
local attribute = need("opentelemetry.attribute")
local batch_span_processor = need("opentelemetry.trace.batch_span_processor")
local otlp = need("opentelemetry.trace.exporter.otlp")
local pb = need("opentelemetry.trace.exporter.pb")
local recording_span = need("opentelemetry.trace.recording_span")
local resource = need("opentelemetry.resource")
local span_context = need("opentelemetry.trace.span_context")
local span_kind = need("opentelemetry.trace.span_kind")
local span_status = need("opentelemetry.trace.span_status")
local tracer_provider = need("opentelemetry.trace.tracer_provider")

local _M = {}

local SAMPLED = 1

--- Constructors of attributes: `text(key, value)`, `int`, `double` and `bool`.
_M.text, _M.int = attribute.string, attribute.int
_M.double, _M.bool = attribute.double, attribute.bool

--- Kinds of spans.
_M.CLIENT, _M.SERVER = span_kind.client, span_kind.server


local Exporter = {}
local exporter_mt = { __index = Exporter }


-- The processor calls this method in a timer.
function Exporter:export_spans(list)
    local ok, body = pcall(function()
        return pb.encode(otlp.encode_spans(self, list))
    end)
    if not ok then
        return self.failed(#list, body)
    end
    return self.send(body, #list)
end


-- The library's own processor would log a line for each span that its queue drops.
local Queue = {}
local queue_mt = { __index = Queue }


function Queue:on_end(span)
    local processor = self.processor
    if processor:get_queue_size() >= self.max then
        self.dropped(1)
        return
    end
    processor:on_end(span)
end


--- A tracer: its spans are sent in batches.
-- @tparam table options `send(body, number)`: called in a timer with the OTLP request body of some
--   spans; `failed(number, err)`: spans could not be encoded; `dropped(number)`: the queue is full;
--   `max_queue`, `max_batch`; `resource`: texts by name
-- @treturn table
function _M.new_tracer(options)
    local exporter = setmetatable({ send = options.send, failed = options.failed }, exporter_mt)
    local processor = batch_span_processor.new(exporter, {
        drop_on_queue_full = true,
        max_queue_size = options.max_queue + options.max_batch,
        max_export_batch_size = options.max_batch,
        batch_timeout = 2,
        inactive_timeout = 1,
    })
    local attributes = {}
    for name, value in pairs(options.resource) do
        attributes[#attributes + 1] = attribute.string(name, value)
    end
    local queue = setmetatable({
        processor = processor,
        max = options.max_queue,
        dropped = options.dropped,
    }, queue_mt)
    return tracer_provider.new({ queue }, {
        resource = resource.new(unpack(attributes)),
    }):tracer("genai-gateway")
end


--- Records a span that has ended.
-- @tparam table tracer
-- @tparam table span `trace_id`, `span_id`, `parent_id`, `name`, `kind`, `attributes`, `error` (a
--   text, or nil), `started` and `ended` (nanoseconds)
function _M.record(tracer, span)
    local recorded = recording_span.new(tracer,
                                        span_context.new(span.trace_id, span.parent_id, SAMPLED),
                                        span_context.new(span.trace_id, span.span_id, SAMPLED),
                                        span.name,
                                        { kind = span.kind, attributes = span.attributes },
                                        span.started)
    if span.error then
        recorded:set_status(span_status.ERROR, span.error)
    end
    recorded:finish(span.ended)
end


return _M
