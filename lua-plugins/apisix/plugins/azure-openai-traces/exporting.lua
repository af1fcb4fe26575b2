--- Sends spans to a collector, in batches and behind requests: OTLP over HTTP. What a collector
-- does not take waits in a queue that has an end, and no request ever waits.

local attribute = require("opentelemetry.attribute")
local batch_span_processor = require("opentelemetry.trace.batch_span_processor")
local core = require("apisix.core")
local encoder = require("opentelemetry.trace.exporter.otlp")
local http = require("resty.http")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local pb = require("opentelemetry.trace.exporter.pb")
local resource = require("opentelemetry.resource")
local tracer_provider = require("opentelemetry.trace.tracer_provider")
local is_exiting = ngx.worker.exiting
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local sort = table.sort
local concat = table.concat

local _M = {}

local TIMEOUT_MS = 3000

-- A collector that starts anew is back within so long.
local TRIES = 3
local PAUSE_S = 2

local MAX_QUEUE = 2048
local MAX_BATCH = 64

-- Lines about a collector that does not answer.
local SILENCE_S = 30

local Exporter = {}
local exporter_mt = { __index = Exporter }


-- Hands a batch over. Gives what went wrong.
local function post(address, body)
    local client, err = http.new()
    if not client then
        return err
    end
    client:set_timeout(TIMEOUT_MS)
    local answer
    answer, err = client:request_uri("http://" .. address .. "/v1/traces", {
        method = "POST",
        headers = { ["Content-Type"] = "application/x-protobuf" },
        body = body,
    })
    if not answer then
        return err
    elseif answer.status < 200 or answer.status > 299 then
        return "status " .. answer.status, answer.status < 500 and answer.status ~= 429
    end
    return nil
end


-- Called by the processor, in a timer.
function Exporter:export_spans(spans)
    local ok, body = pcall(function()
        return pb.encode(encoder.encode_spans(self, spans))
    end)
    if not ok then
        core.log.error("spans cannot be encoded: ", body)
        metrics.spans_dropped(#spans)
        return false, "encoding"
    end

    local err, is_final
    for try = 1, TRIES do
        err, is_final = post(self.address, body)
        if not err or is_final or is_exiting() then
            break
        end
        if try < TRIES then
            ngx_sleep(PAUSE_S)
        end
    end
    if not err then
        return true
    end
    metrics.spans_dropped(#spans)
    if ngx_now() - self.said_at > SILENCE_S then
        self.said_at = ngx_now()
        core.log.error("the collector of traces at ", self.address, " does not take them: ", err)
    end
    return false, err
end


-- The library's own would write a line for each span that has no room.
local Queue = {}
local queue_mt = { __index = Queue }


function Queue:on_end(span)
    local processor = self.processor
    if processor:get_queue_size() >= MAX_QUEUE then
        metrics.spans_dropped(1)
        return
    end
    processor:on_end(span)
end


local tracers = {}


local function key_of(conf)
    local parts = {}
    for name, value in pairs(conf.resource) do
        parts[#parts + 1] = name .. "=" .. value
    end
    sort(parts)
    return conf.collector .. "\n" .. concat(parts, "\n")
end


local function new_tracer(conf)
    local exporter = setmetatable({ address = conf.collector, said_at = 0 }, exporter_mt)
    local processor = batch_span_processor.new(exporter, {
        drop_on_queue_full = true,
        max_queue_size = MAX_QUEUE + MAX_BATCH,
        max_export_batch_size = MAX_BATCH,
        batch_timeout = 2,
        inactive_timeout = 1,
    })
    local attributes = {}
    for name, value in pairs(conf.resource) do
        attributes[#attributes + 1] = attribute.string(name, value)
    end
    return tracer_provider.new({ setmetatable({ processor = processor }, queue_mt) }, {
        resource = resource.new(unpack(attributes)),
    }):tracer("genai-gateway")
end


local known = setmetatable({}, { __mode = "k" })


--- The tracer of a configuration. Each route has conf tables of its own; their spans go out
-- together.
function _M.tracer_of(conf)
    local tracer = known[conf]
    if not tracer then
        local key = key_of(conf)
        tracer = tracers[key] or new_tracer(conf)
        -- Of a configuration that is no more, what waits is sent by its own timers.
        tracers = { [key] = tracer }
        known[conf] = tracer
    end
    return tracer
end


return _M
