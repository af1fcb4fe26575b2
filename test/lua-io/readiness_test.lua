--- `/healthz` and `/readyz`: what workers report of the file that they serve.

local harness = require("harness")
local json = require("json")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local FILE = world_module.FILE


local function service(backends)
    local instances, details = {}, {}
    for i, each in ipairs(backends) do
        instances[i] = { name = each.name, weight = each.weight or 1,
                         auth = each.key and { header = { ["api-key"] = each.key } } or {},
                         override = { endpoint = each.endpoint or "https://" .. each.name } }
        details[i] = { name = each.name, key_setting = each.key_setting, identity = each.identity }
    end
    return { id = "azure-openai", plugins = { ["ai-proxy-multi"] = { instances = instances },
                                              ["azure-openai-proxy"] = { backends = details } } }
end


local ITEMS = { services = { "azure-openai" }, routes = { "openai-v1", "batch" } }

local CLIENTS = { { name = "app", key = "key-of-app" }, { name = "other", key = "key-of-other" } }


-- Writes the file, with the manifest of these items.
local function write_file(world, digest, items, at)
    return world:write_file(CLIENTS, { digest = digest, items = items or ITEMS, at = at })
end


-- Has APISIX load what the file names, all of it or without some ids.
local function load_file(world, version, backends, without)
    local function some(ids)
        local list = {}
        for _, id in ipairs(ids) do
            list[#list + 1] = id ~= without and { id = id } or nil
        end
        return list
    end
    world:load("services", { service(backends or { { name = "a", key = "key" } }) }, version)
    world:load("routes", some(ITEMS.routes), version)
end


local function start(world)
    local worker = world:worker()
    worker.readiness = worker.require("gateway.readiness")
    worker.readiness.start()
    worker.require("gateway.credentials.client_index").start()
    return worker
end


-- A gateway of some workers that has loaded its file.
local function setup(options)
    options = options or {}
    local world = world_module.new({ worker_count = options.count or 1, env = options.env })
    local version = write_file(world, "first")
    load_file(world, version, options.backends, options.without)
    local workers = {}
    for i = 1, options.started or options.count or 1 do
        workers[i] = start(world)
    end
    world:advance(0)
    return world, unpack(workers)
end


-- An answer of a worker: its status and its body.
local function get(world, worker, path, is_private, method)
    local request = { method = method or "GET", headers = {}, var = { uri = path or "/readyz" },
                      response_headers = {}, response_status = 0, chunks = {}, connections = {} }
    world.scheduler:start(request, nil, worker.readiness.handle, is_private)
    return request.status, json.decode(table.concat(request.chunks)), request
end


-- Why the gateway is not ready, as the port for probes tells it; none where it is.
local function reasons(world, worker)
    local status, body = get(world, worker, "/readyz", true)
    equal(body.status, status == 200 and "ready" or "not ready")
    return body.reasons or {}, status
end


describe("/readyz", function()
    it("answers 200 when every worker has loaded everything that the file names", function()
        local world, first, second = setup({ count = 2 })
        for _, worker in ipairs({ first, second }) do
            local status, body = get(world, worker)
            equal({ status, body }, { 200, { status = "ready" } })
        end
    end)

    it("tells workers and the time of the file on the port for probes only", function()
        local world, worker = setup()
        local _, body = get(world, worker, "/readyz", true)
        equal(body, { status = "ready", workers = 1, configuration = "2023-11-14T22:13:20Z" })
    end)

    it("answers 503 where an item is not loaded, and names it on the port for probes only", function()
        local world, worker = setup({ without = "batch" })
        local found, status = reasons(world, worker)
        equal({ found, status }, { { "routes not loaded, see the error log: batch" }, 503 })
        local _, body = get(world, worker)
        equal(body, { status = "not ready" })
    end)

    it("is ready when a later file is loaded with all of its items", function()
        local world, worker = setup({ without = "batch" })
        world:advance(2)
        load_file(world, write_file(world, "second"))
        world:advance(1)
        equal({ reasons(world, worker) }, { {}, 200 })
    end)

    it("answers 503 while a worker has not reported", function()
        local world, worker = setup({ count = 2, started = 1 })
        local found = reasons(world, worker)
        equal(found, { "worker 1: " .. worker.require("genai.readiness_rules").SILENT })
    end)

    it("answers 503 when a worker has been silent for 15 seconds", function()
        local world, first, second = setup({ count = 2 })
        world:kill(second)
        world:advance(14)
        equal({ reasons(world, first) }, { {}, 200 })
        world:advance(12)
        local found, status = reasons(world, first)
        equal({ found, status }, { { "worker 1: " .. first.require("genai.readiness_rules").SILENT }, 503 })
    end)

    it("names the workers that have a problem, where others have none", function()
        local world, first, second = setup({ count = 2 })
        world:kill(first)
        world:advance(5)
        write_file(world, "second")
        world:advance(20)
        local rules = second.require("genai.readiness_rules")
        equal((reasons(world, second)), { "worker 0: " .. rules.SILENT, "worker 1: " .. rules.STALE })
    end)

    it("stays ready for ten seconds while a new file is on its way to the workers", function()
        local world, worker = setup()
        world:advance(5)
        write_file(world, "second")
        world:advance(8)
        local found, status = reasons(world, worker)
        equal({ found, status }, { { worker.require("genai.readiness_rules").STALE }, 200 })
        world:advance(5)
        equal(select(2, reasons(world, worker)), 503)
    end)

    it("is ready again as soon as the new file is loaded", function()
        local world, worker = setup()
        world:advance(5)
        local version = write_file(world, "second")
        world:advance(20)
        load_file(world, version)
        world:advance(0.2)
        equal({ reasons(world, worker) }, { {}, 200 })
    end)

    it("is not ready at once where the new file lacks an item", function()
        local world, worker = setup()
        world:advance(5)
        load_file(world, write_file(world, "second"), nil, "batch")
        world:advance(1)
        equal(select(2, reasons(world, worker)), 503)
    end)

    it("reports a file that was changed and has its old time stamp", function()
        local world, worker = setup()
        world:advance(5)
        write_file(world, "second", nil, world.loaded.services.conf_version)
        world:advance(1)
        equal((reasons(world, worker)), { worker.require("genai.readiness_rules").SAME_TIME })
    end)

    it("is not ready at once where APISIX has loaded a file without a manifest", function()
        local world, worker = setup({ count = 2 })
        world:advance(5)
        world.files:write(FILE, "routes: []\n#END\n")
        equal(select(2, reasons(world, worker)), 200)
        for _, resource in ipairs({ "services", "routes" }) do
            world:load(resource, {}, world.scheduler.now)
        end
        equal(select(2, reasons(world, worker)), 503)
    end)

    it("reports clients that were changed after the render, or are dropped", function()
        local world, worker = setup()
        world:advance(5)
        local version = world:write_file(CLIENTS, { items = ITEMS, count = 3 })
        load_file(world, version)
        world:advance(1)
        equal({ reasons(world, worker) },
              { { "apisix.yaml has 2 clients, but its manifest counts 3:"
                  .. " render the file with genai-gateway" }, 503 })
        world:advance(5)
        version = world:write_file({ { name = "app", key = "k" }, { name = "other" } }, { items = ITEMS })
        load_file(world, version)
        world:advance(1)
        equal({ reasons(world, worker) }, { { "clients not loaded, see the error log: other" }, 503 })
    end)

    it("is not ready before the clients are loaded", function()
        local world, worker = setup()
        world:advance(5)
        local version = world:write_file({ { name = "app", key = "k" } }, { items = ITEMS })
        load_file(world, version)
        local rules = worker.require("genai.readiness_rules")
        equal((reasons(world, worker)), { rules.STALE })
        world:advance(1)
        equal((reasons(world, worker)), {})
    end)

    it("reports a file without a manifest, and one that is not there", function()
        local world, worker = setup()
        world.files:write(FILE, "services:\n# genai-gateway manifest: {}\n")
        equal((reasons(world, worker)), { worker.require("genai.readiness_rules").NO_MANIFEST })
        world.files:write(FILE, nil)
        equal((reasons(world, worker)), { worker.require("genai.readiness_rules").UNREADABLE })
    end)
end)


-- What must be said of backends, none of which can be used.
local BACKENDS = {
    { "has a weight above 0", { { name = "a", key = "k", weight = 0 } }, "a (its weight is 0)" },
    { "has a key", { { name = "a" } }, "a (it has no credential)" },
    { "has a key that can be resolved", { { name = "a", key = "$env://MISSING" } },
      "a (its credential cannot be resolved)" },
    { "has an endpoint that can be used", { { name = "a", key = "k", endpoint = "nowhere" } },
      "a (its endpoint is not usable)" },
    { "has a key in its file", { { name = "a", key_setting = "KEY_A" } },
      "a (the file of KEY_A has no key)" },
    { "can get a token", { { name = "a", identity = { resource = "https://x" } } },
      "a (AZURE_CLIENT_ID is missing)",
      { AZURE_FEDERATED_TOKEN_FILE = "/token", AZURE_TENANT_ID = "t" } },
}


describe("/readyz reports that no backend", function()
    for _, case in ipairs(BACKENDS) do
        it(case[1], function()
            local world, worker = setup({ backends = case[2], env = case[4] })
            equal((reasons(world, worker)),
                  { "no backend has both a weight and a credential: " .. case[3] })
        end)
    end

    it("is loaded", function()
        local world, worker = setup({ backends = {} })
        equal((reasons(world, worker)), { "no backend is loaded" })
    end)

    it("has a key, unless another one has", function()
        local world, worker = setup({ backends = { { name = "a" }, { name = "b", key = "$env://KEY" } },
                                      env = { KEY = "k" } })
        equal({ reasons(world, worker) }, { {}, 200 })
    end)
end)


describe("a worker", function()
    it("that is to end leaves the report of its successor alone", function()
        local world, first = setup()
        first.is_exiting = true
        local key = "readiness|worker|0"
        world.state:set(key, "of its successor", 100)
        world:advance(3)
        equal(world.state:get(key), "of its successor")
    end)

    it("starts to report once, and the privileged agent reports no items", function()
        local world, first = setup()
        first.readiness.start()
        local events = #world.scheduler.queue
        first.readiness.start()
        equal(#world.scheduler.queue, events)

        local agent = world:worker({ type = "privileged agent" })
        agent.require("gateway.readiness").start()
        world:advance(1)
        equal(world.state:get("readiness|worker|1"), nil)
    end)

    it("logs where it cannot report", function()
        local world = world_module.new()
        local worker = world:worker()
        worker.has_no_timers = true
        worker.require("gateway.readiness").start()
        equal(world:lines("this worker does not report its readiness, because it cannot start a timer",
                          "error"), 1)
    end)
end)


describe("the ports for probes", function()
    it("answer /healthz whatever is loaded", function()
        local world, worker = setup({ without = "batch" })
        local status, body = get(world, worker, "/healthz")
        equal({ status, body }, { 200, { status = "alive" } })
    end)

    it("answer HEAD, and no other method than GET", function()
        local world, worker = setup()
        equal((get(world, worker, "/readyz", false, "HEAD")), 200)
        local status, body, request = get(world, worker, "/readyz", false, "POST")
        equal({ status, body.error.code, request.response_headers.allow },
              { 405, "method_not_allowed", "GET, HEAD" })
    end)

    it("have nothing at other paths", function()
        local world, worker = setup()
        local status, body = get(world, worker, "/metrics", true)
        equal({ status, body.error.code }, { 404, "not_found" })
    end)

    it("forbid that an answer is stored", function()
        local world, worker = setup()
        local _, _, request = get(world, worker)
        equal({ request.response_headers["cache-control"], request.response_headers["content-length"] },
              { "no-store", tostring(#request.chunks[1]) })
    end)
end)
