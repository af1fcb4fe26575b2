--- Spans on their way to a collector.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local CONF = { collector = "collector:4318", resource = { ["service.name"] = "gateway" } }


-- A worker with a tracer that has recorded a span, and how the collector answers.
local function setup(...)
    local world = world_module.new()
    local worker = world:worker()
    worker.require("gateway.metrics").start()
    world.network:serve("collector", ...)
    worker.tracer = worker.require("gateway.telemetry.span_export").tracer_of(CONF)
    worker.require("apisix_internals.spans").record(worker.tracer, {
        trace_id = "1", span_id = "2", name = "x", kind = "server", attributes = {}, started = 1, ended = 2,
    })
    return world, worker
end


-- Has the library export some spans, as it does in a timer.
local function export(world, count)
    return world:call(world.exporter.export_spans, world.exporter, { unpack({ 1, 2, 3 }, 1, count or 1) })
end


local function dropped(worker)
    local out = {}
    worker.require("gateway.metrics").render(out)
    return tonumber(table.concat(out):match("genai_spans_dropped_total (%d+)")) or 0
end


describe("a batch of spans", function()
    it("is sent to the collector as OTLP over HTTP", function()
        local world, worker = setup({ status = 200 })
        equal({ export(world, 3), dropped(worker) }, { true, 0 })
        local request = world.network.sent[1]
        equal({ request.method, request.target, request.headers["content-type"], request.body },
              { "POST", "/v1/traces", "application/x-protobuf", "3 spans" })
    end)

    it("is sent again while the collector restarts", function()
        local world, worker = setup({ refuses = "connection refused" }, { status = 503 }, { status = 200 })
        local began = world:clock()
        equal({ export(world), dropped(worker), world:clock() - began }, { true, 0, 4 })
    end)

    it("is given up after three attempts, and counted", function()
        local world, worker = setup({ status = 429 })
        equal({ export(world, 2) }, { false, "status 429" })
        equal({ #world.network.sent, dropped(worker) }, { 3, 2 })
        equal(world:lines("spans cannot be delivered to the trace collector at collector:4318:"
                          .. " status 429"), 1)
    end)

    it("is given up at once where the collector refuses it", function()
        local world, worker = setup({ status = 400 })
        export(world)
        equal({ #world.network.sent, dropped(worker) }, { 1, 1 })
    end)

    it("is given up after one attempt by a worker that is to end", function()
        local world, worker = setup({ status = 503 })
        worker.is_exiting = true
        export(world)
        equal({ #world.network.sent, dropped(worker) }, { 1, 1 })
    end)

    it("is reported once in thirty seconds where it is given up", function()
        local world = setup({ status = 400 })
        local text = "spans cannot be delivered to the trace collector at collector:4318"
        export(world)
        export(world)
        equal(world:lines(text, "error"), 1)
        world:advance(31)
        export(world)
        equal(world:lines(text, "error"), 2)
    end)

    it("that cannot be encoded is counted", function()
        local world, worker = setup({ status = 200 })
        worker.stubs["opentelemetry.trace.exporter.pb"].encode = function()
            error("broken for the test")
        end
        equal({ export(world, 2) }, { false, "encoding" })
        equal({ dropped(worker), world:lines("spans cannot be encoded", "error") }, { 2, 1 })
    end)
end)


describe("a tracer", function()
    it("is one for all routes with the same collector and resource", function()
        local _, worker = setup({ status = 200 })
        local tracer_of = worker.require("gateway.telemetry.span_export").tracer_of
        equal({ tracer_of({ collector = "collector:4318", resource = { ["service.name"] = "gateway" } })
                == worker.tracer,
                tracer_of({ collector = "other:4318", resource = CONF.resource }) == worker.tracer },
              { true, false })
    end)

    it("drops spans that have no room, and counts them", function()
        local _, worker = setup({ status = 200 })
        local spans = worker.require("apisix_internals.spans")
        for _ = 1, 2050 do
            spans.record(worker.tracer, { trace_id = "1", span_id = "2", name = "x", kind = "server",
                                          attributes = {}, started = 1, ended = 2 })
        end
        equal(dropped(worker), 3)
    end)
end)


describe("the trace of a request", function()
    local PARENT = "00-" .. ("a"):rep(32) .. "-" .. ("b"):rep(16) .. "-01"

    local function post(options, rate)
        local gateway = test_gateway.new({ backends = { "a", "b" } })
        gateway.conf["azure-openai-traces"].sample_rate = rate or 1
        gateway:serve("a", test_gateway.failure(500))
        local request = gateway:post(options)
        local attempts, server = gateway:spans()
        return gateway, attempts, server, request
    end

    it("is the client's, and each backend gets the span of its attempt", function()
        local gateway, attempts, server, request = post({ headers = { traceparent = PARENT } })
        equal({ server.trace_id, server.parent_id, request.var.genai_trace_id },
              { ("a"):rep(32), ("b"):rep(16), ("a"):rep(32) })
        for i, name in ipairs({ "a", "b" }) do
            equal(gateway:sent_to(name)[1].headers.traceparent,
                  "00-" .. ("a"):rep(32) .. "-" .. attempts[i].span_id .. "-01")
        end
    end)

    it("begins here where the client sent none, and its tracestate goes no further", function()
        local gateway, _, server = post({ headers = { tracestate = "x=1", traceparent = "broken" } })
        equal({ #server.trace_id, server.parent_id }, { 32, nil })
        equal(gateway:sent_to("a")[1].headers.tracestate, nil)
    end)

    it("is not recorded where the client does not record it, and goes to the backend as it is", function()
        local not_sampled = PARENT:gsub("01$", "00")
        local gateway, attempts, server, request = post({ headers = { traceparent = not_sampled } })
        equal({ #attempts, server, request.var.genai_trace_id }, { 0, nil, ("a"):rep(32) })
        equal(gateway:sent_to("a")[1].headers.traceparent, not_sampled)
    end)

    it("is not recorded beyond the sample rate", function()
        local _, attempts, server, request = post({}, 0)
        equal({ #attempts, server, request.var.genai_trace_id }, { 0, nil, nil })
    end)
end)
