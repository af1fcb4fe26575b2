--- APIM-style records on their way to Azure Monitor: batches, retries, and what is given up.

local harness = require("harness")
local json = require("json")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NAME = "gateway.telemetry.record_sender"
local TOKEN = { status = 200, body = '{"access_token":"one","expires_in":86400}' }
local TAKEN = { status = 204 }


local function conf_of(more)
    local conf = { dcr_ingest_uri = "https://ingestion/streams/x?api-version=2023-01-01",
                   resource = "https://monitor.azure.com", batch_max_size = 3, batch_flush_interval = 5,
                   batch_max_retry = 2, timeout_ms = 1000 }
    for name, value in pairs(more or {}) do
        conf[name] = value
    end
    return conf
end


local function setup(more, ...)
    local world = world_module.new()
    local worker = world:worker()
    worker.require("gateway.metrics").start()
    world.network:serve("169.254.169.254", TOKEN)
    world.network:serve("ingestion", ...)
    local sender, err = worker.require(NAME).of(conf_of(more))
    return world, sender, worker, err
end


local function add(sender, ...)
    for _, text in ipairs({ ... }) do
        sender:add('"' .. text .. '"')
    end
end


-- The batches that the API got, each as a text.
local function batches(world)
    local list = {}
    for _, request in ipairs(world.network.sent) do
        if request.to == "ingestion" then
            list[#list + 1] = table.concat(json.decode(request.body), " ")
        end
    end
    return list
end


local function metric(worker, name)
    local out, list = {}, {}
    worker.require("gateway.metrics").render(out)
    for labels, value in table.concat(out):gmatch("\napisix_genai_apim_" .. name .. "([^\n ]*) (%d+)") do
        if value ~= "0" then
            list[#list + 1] = (labels:match('"(.*)"') or "") .. "=" .. value
        end
    end
    table.sort(list)
    return table.concat(list, ", ")
end


describe("records", function()
    it("are sent together when there are enough of them", function()
        local world, sender, worker = setup({}, TAKEN)
        add(sender, "a", "b", "c", "d")
        world:advance(0.1)
        equal({ batches(world), metric(worker, "records_sent_total") }, { { "a b c" }, "=3" })
        local request = world.network.sent[#world.network.sent]
        equal({ request.method, request.target, request.headers.authorization, request.connection },
              { "POST", "/streams/x?api-version=2023-01-01", "Bearer one", "kept" })
    end)

    it("are sent after five seconds where there are fewer", function()
        local world, sender = setup({}, TAKEN)
        add(sender, "a")
        world:advance(3)
        add(sender, "b")
        world:advance(1.9)
        equal(batches(world), {})
        world:advance(0.2)
        equal(batches(world), { "a b" })
    end)

    it("of all routes with the same configuration go together", function()
        local world, sender, worker = setup({}, TAKEN)
        local other = worker.require(NAME).of(conf_of())
        equal(other == sender, true)
        equal(worker.require(NAME).of(conf_of({ batch_max_size = 4 })) == sender, false)
        equal(#world.logged, 0)
    end)

    it("are sent again after a failure, later each time", function()
        local world, sender, worker = setup({}, { status = 500 }, { refuses = "connection refused" }, TAKEN)
        add(sender, "a", "b", "c")
        world:advance(60)
        equal({ batches(world), metric(worker, "records_sent_total") }, { { "a b c", "a b c" }, "=3" })
        equal(metric(worker, "posts_failed_total"), "network=1, server_error=1")
    end)

    it("wait as long as the API says", function()
        local world, sender = setup({}, { status = 429, headers = { ["retry-after"] = "20" } }, TAKEN)
        add(sender, "a", "b", "c")
        world:advance(19)
        equal(#batches(world), 1)
        world:advance(6)
        equal(#batches(world), 2)
    end)

    it("are given up after the last attempt", function()
        local world, sender, worker = setup({}, { status = 503 })
        add(sender, "a", "b", "c")
        world:advance(300)
        equal({ #batches(world), metric(worker, "records_dropped_total") }, { 3, "retries_exhausted=3" })
        equal(world:lines("3 APIM-style records are dropped: Azure Monitor answers 503", "error"), 1)
    end)

    it("are given up at once where the API refuses them, with its code and nothing else of it", function()
        local said = '{"error":{"code":"InvalidStream","message":"secret words"}}'
        local world, sender, worker = setup({}, { status = 400, body = said })
        add(sender, "a", "b", "c")
        world:advance(30)
        equal({ #batches(world), metric(worker, "records_dropped_total") }, { 1, "refused=3" })
        equal(world:lines("Azure Monitor answers 400 InvalidStream", "error"), 1)
        equal(world:lines("secret words"), 0)
    end)

    it("are sent with another token where one is refused, once", function()
        local world, sender, worker = setup({}, { status = 401 }, TAKEN)
        world.network:serve("169.254.169.254", TOKEN,
                            { status = 200, body = '{"access_token":"two","expires_in":86400}' })
        add(sender, "a", "b", "c")
        world:advance(5)
        equal({ #batches(world), metric(worker, "records_sent_total") }, { 2, "=3" })
        equal(world.network.sent[#world.network.sent].headers.authorization, "Bearer two")
    end)

    it("are given up where each token is refused", function()
        local world, sender, worker = setup({}, { status = 403 })
        add(sender, "a", "b", "c")
        world:advance(30)
        equal(metric(worker, "records_dropped_total"), "refused=3")
        equal(world:lines("the identity needs the role Monitoring Metrics Publisher", "error"), 1)
    end)

    it("wait for a token that cannot be had", function()
        local world, sender, worker = setup({ batch_max_retry = 20 }, TAKEN)
        world.network:serve("169.254.169.254", { status = 500 }, TOKEN)
        add(sender, "a", "b", "c")
        world:advance(30)
        equal({ batches(world), metric(worker, "posts_failed_total") }, { { "a b c" }, "no_token=2" })
    end)

    it("that are too long alone are given up", function()
        local world, sender, worker = setup({}, TAKEN)
        sender:add('"' .. ("x"):rep(1100000) .. '"')
        world:advance(6)
        equal({ batches(world), metric(worker, "records_dropped_total") }, { {}, "too_large=1" })
    end)

    it("beyond eight megabytes are given up, the oldest first", function()
        local world, sender, worker = setup({ batch_max_size = 100 }, { hangs = true })
        for i = 1, 50 do
            sender:add('"' .. i .. ("x"):rep(500000) .. '"')
        end
        world:advance(0)
        local dropped = tonumber(metric(worker, "records_dropped_total"):match("queue_full=(%d+)"))
        equal(dropped > 20 and dropped < 40, true)
    end)

    it("are counted where sending them fails inside the gateway, and later ones are sent", function()
        local world, sender, worker = setup({}, TAKEN)
        local ingestion = worker.require("genai.telemetry.ingestion")
        local verdict = ingestion.verdict
        ingestion.verdict = function()
            error("broken for the test")
        end
        add(sender, "a", "b", "c")
        world:advance(0.1)
        equal(metric(worker, "records_dropped_total"), "failed=3")
        ingestion.verdict = verdict
        add(sender, "d", "e", "f")
        world:advance(0)
        equal(metric(worker, "records_sent_total"), "=3")
    end)

    it("are tried once more by a worker that is to end, and then given up", function()
        local world, sender, worker = setup({ batch_max_retry = 9 }, { status = 503 })
        add(sender, "a", "b", "c")
        world:advance(0)
        worker.is_exiting = true
        world:advance(10)
        equal({ #batches(world), metric(worker, "records_dropped_total") }, { 2, "shutdown=3" })
    end)

    it("are sent at once by a worker that takes no later timers", function()
        local world, sender, worker = setup({}, TAKEN)
        worker.is_exiting = true
        add(sender, "a", "b")
        world:advance(0.1)
        equal(batches(world), { "a b" })
    end)
end)


describe("a configuration of records", function()
    it("without a usable address is reported for each record", function()
        local _, sender, worker, err = setup({ dcr_ingest_uri = "nowhere" }, TAKEN)
        equal({ sender, err }, { nil, "dcr_ingest_uri is not a URL" })
        worker.require(NAME).failed(err)
        equal(metric(worker, "records_dropped_total"), "failed=1")
    end)

    it("whose secret cannot be resolved asks for tokens without one, and says so", function()
        local world = setup({ msi_endpoint = "http://platform/token", msi_secret = "$env://MISSING" }, TAKEN)
        equal(world:lines("the identity's secret for sending APIM-style records cannot be resolved",
                          "error"), 1)
    end)
end)
