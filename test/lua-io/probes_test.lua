--- Probes of backends: one worker probes, all of them see the result.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local HEALTHY = { status = 401 }
local CHECKS = { path = "/status", timeout_ms = 1000, verify_certificate = true,
                 healthy_interval_ms = 10000, unhealthy_interval_ms = 2000 }


-- Puts the backends into the configuration that is loaded.
local function configure(world, names, checks)
    local instances = {}
    for i, name in ipairs(names) do
        instances[i] = { name = name, weight = 1, override = { endpoint = "https://" .. name } }
    end
    world.services_version = world.services_version + 1
    world.services["azure-openai"] = { value = { plugins = {
        ["azure-openai-proxy"] = { health_checks = checks or CHECKS },
        ["ai-proxy-multi"] = { instances = instances },
    } } }
end


local function start(world)
    local worker = world:worker()
    worker.require("gateway.backends.probes").start()
    return worker
end


local function setup(names, ...)
    local world = world_module.new()
    configure(world, names)
    for _, name in ipairs(names) do
        world.network:serve(name, HEALTHY)
    end
    if ... then
        world.network:serve("a", ...)
    end
    return world, start(world)
end


local function is_unhealthy(world, name)
    return world.state:get("unhealthy|" .. name .. "|https://" .. name) ~= nil
end


-- How often a backend was probed.
local function probed(world, name)
    local count = 0
    for _, each in ipairs(world.network.connected) do
        count = count + (each.to == name and 1 or 0)
    end
    return count
end


describe("a probe", function()
    it("is a GET without a credential, over a connection of its own", function()
        local world = setup({ "a" })
        world:advance(1)
        local request = world.network.sent[1]
        equal({ request.method, request.target, request.headers.host, request.headers["user-agent"],
                request.headers["api-key"], request.connection },
              { "GET", "/status", "a", "genai-gateway-health-check", nil, "closed" })
        local options = world.network.connected[1].options
        equal({ options.ssl_server_name, options.ssl_verify, options.pool },
              { "a", true, "health-check|a|https://a" })
    end)

    it("is made every ten seconds of a healthy backend", function()
        local world = setup({ "a" })
        world:advance(31)
        equal(probed(world, "a"), 4)
    end)

    it("that fails twice marks the backend for all workers", function()
        local world = setup({ "a" }, { status = 500 })
        world:advance(1)
        equal(is_unhealthy(world, "a"), false, "after one failure")
        world:advance(1)
        equal(is_unhealthy(world, "a"), true, "after two failures")
        equal(world:lines("backend a is unhealthy; its probe failed: status 500", "warn"), 1)
    end)

    it("that succeeds unmarks the backend", function()
        local world = setup({ "a" }, { status = 500 }, { status = 500 }, HEALTHY)
        world:advance(5)
        equal({ is_unhealthy(world, "a"), world:lines("is healthy again", "warn") }, { false, 1 })
    end)

    it("that failed once and then succeeds says nothing", function()
        local world = setup({ "a" }, { status = 500 }, HEALTHY)
        world:advance(20)
        equal({ is_unhealthy(world, "a"), #world.logged }, { false, 0 })
    end)

    local FAILURES = {
        { "refuses the connection", { refuses = "connection refused" }, "connection refused" },
        { "does not answer in time", { times_out = true }, "timeout" },
        { "takes the connection and hangs", { hangs = "connect" }, "timeout" },
        { "answers too slowly", { takes = 0.75, status = 200, pieces = {} }, nil },
    }
    for _, case in ipairs(FAILURES) do
        local about, answer, reason = unpack(case, 1, 3)
        it("finds a backend that " .. about .. " " .. (reason and "unhealthy" or "healthy"), function()
            local world = setup({ "a" }, answer)
            world:advance(6)
            equal(is_unhealthy(world, "a"), reason ~= nil)
            equal(world:lines("is unhealthy; its probe failed: " .. (reason or "?"), "warn"),
                  reason and 1 or 0)
        end)
    end

    it("finds a backend unhealthy whose name does not resolve", function()
        local world = setup({ "a" })
        world.addresses.a = false
        world:advance(3)
        local why = "a cannot be resolved: the name does not exist"
        equal(world:lines("is unhealthy; its probe failed: " .. why, "warn"), 1)
    end)

    it("that fails inside the gateway says nothing of the backend", function()
        local world, worker = setup({ "a" })
        worker.require("gateway.exchange.upstream").send = function()
            error("broken for the test")
        end
        world:advance(3)
        equal({ is_unhealthy(world, "a"), world:lines("failed inside the gateway", "error") > 0 },
              { false, true })
    end)
end)


describe("workers", function()
    it("leave the probes to one of them", function()
        local world = setup({ "a" })
        start(world)
        world:advance(25)
        equal(probed(world, "a"), 3)
    end)

    it("take over within seconds when the one that probes dies, and know what it found", function()
        local world, first = setup({ "a" }, { status = 500 })
        start(world)
        world:advance(5)
        world:kill(first)
        world.network:serve("a", HEALTHY)
        world:advance(5)
        equal(is_unhealthy(world, "a"), false)
    end)

    it("take over at once when it is to end", function()
        local world, first = setup({ "a" })
        start(world)
        world:advance(1)
        first.is_exiting = true
        world:advance(1)
        equal(world.state:get("health-leader"), 101)
    end)

    it("see the mark, and send requests elsewhere", function()
        local world = setup({ "a", "b" }, { status = 500 })
        world:advance(3)
        local gateway = test_gateway.new({ world = world, backends = { "a", "b" },
                                           proxy = { health_checks = CHECKS } })
        equal(gateway:post().var.genai_attempts, "b:200:ok:0")
    end)

    it("take a mark for old when nobody probes any more", function()
        local world, worker = setup({ "a" }, { status = 500 })
        world:advance(3)
        world:kill(worker)
        world:advance(15)
        equal(is_unhealthy(world, "a"), true, "after 15 seconds")
        world:advance(3)
        equal(is_unhealthy(world, "a"), false, "after 18 seconds")
    end)
end)


describe("another configuration", function()
    it("is followed: a new backend is probed, and one that is gone leaves no mark", function()
        local world = setup({ "a", "b" }, { status = 500 })
        world:advance(3)
        equal(is_unhealthy(world, "a"), true)
        world.network:serve("c", HEALTHY)
        configure(world, { "b", "c" })
        local before = probed(world, "a")
        world:advance(3)
        equal({ is_unhealthy(world, "a"), probed(world, "a") - before, probed(world, "c") }, { false, 0, 1 })
    end)

    it("leaves the times of backends whose probes are the same", function()
        local world = setup({ "a" })
        world:advance(5)
        configure(world, { "a" })
        world:advance(4)
        equal(probed(world, "a"), 1)
    end)

    it("begins anew with backends whose probes have changed", function()
        local world = setup({ "a" })
        world:advance(5)
        local other = { path = "/other" }
        for name, value in pairs(CHECKS) do
            other[name] = other[name] or value
        end
        configure(world, { "a" }, other)
        world:advance(1)
        equal(world.network.sent[2].target, "/other")
    end)

    it("without probes has none", function()
        local world = setup({ "a" })
        world.services["azure-openai"].value.plugins["azure-openai-proxy"].health_checks = nil
        world:advance(20)
        equal(probed(world, "a"), 0)
    end)
end)
