--- Clients, by the keys that they send.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("a client", function()
    local function new_gateway(clients, env)
        local world = world_module.new({ env = env })
        world:write_file(clients)
        return test_gateway.new({ world = world, backends = { "a" } }), world
    end

    local function client(name, key, more)
        local all = { name = name, key = key }
        for field, value in pairs(more or {}) do
            all[field] = value
        end
        return all
    end

    local function status(gateway, headers)
        headers["api-key"] = headers["api-key"] or false
        local request = gateway:post({ headers = headers })
        return request.status, request.var.genai_client
    end

    it("is known by its key in each of three headers", function()
        local gateway = new_gateway({ client("one", "key-1") })
        for _, headers in ipairs({ { ["api-key"] = "key-1" }, { authorization = "bearer  key-1" },
                                   { ["ocp-apim-subscription-key"] = "key-1" } }) do
            equal({ status(gateway, headers) }, { 200, "one" })
        end
        equal({ status(gateway, { authorization = "Basic key-1" }) }, { 401 })
        equal({ status(gateway, {}) }, { 401 })
    end)

    it("is known by its second key as well, with the policy of the client", function()
        local gateway = new_gateway({ client("one", "key-1", { secondary_key = "key-2", lane = "low" }) })
        local request = gateway:post({ headers = { ["api-key"] = "key-2" } })
        equal({ request.var.genai_client, request.var.genai_lane }, { "one", "low" })
    end)

    it("keeps its credentials from the backend, and cannot name itself another one", function()
        local gateway = new_gateway({ client("one", "key-1") })
        gateway:post({ headers = { ["api-key"] = "key-1", ["x-consumer-username"] = "root",
                                   authorization = "Bearer other", ["x-own"] = "1" } })
        local headers = gateway:sent_to("a")[1].headers
        equal({ headers["api-key"], headers["x-consumer-username"], headers.authorization, headers["x-own"] },
              { "key-of-a", nil, nil, "1" })
    end)

    it("is not known by a key that two clients have", function()
        local gateway, world = new_gateway({ client("one", "same", { secondary_key = "own" }),
                                             client("two", "same") })
        equal({ status(gateway, { ["api-key"] = "same" }) }, { 401 })
        equal({ status(gateway, { ["api-key"] = "own" }) }, { 200, "one" })
        equal(world:lines("clients one and two have the same key", "error"), 1)
        equal(world:lines("same key: the key is disabled", "error"), 1)
    end)

    it("is known by a key of the environment, and not while that cannot be resolved", function()
        local gateway, world = new_gateway({ client("one", "$env://KEY_1"), client("two", "$env://KEY_2") },
                                           { KEY_1 = "key-1" })
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 200, "one" })
        equal({ status(gateway, { ["api-key"] = "$env://KEY_2" }) }, { 401 })
        equal(world:lines("a key of client two cannot be resolved", "error"), 1)
    end)

    it("is known by the key that its file holds now, and no longer by the one before", function()
        local gateway, world = new_gateway({ client("one", "$secret://file/settings/KEY") })
        world:load("secrets", { { id = "file/settings", files = { KEY = "/secrets/KEY" } } }, 1)
        world.files:write("/secrets/KEY", "first", world.scheduler.now - 100)
        world:advance(3)
        equal({ status(gateway, { ["api-key"] = "first" }) }, { 200, "one" })
        world.files:write("/secrets/KEY", "second")
        world:advance(3)
        equal({ status(gateway, { ["api-key"] = "first" }) }, { 401 })
        equal({ status(gateway, { ["api-key"] = "second" }) }, { 200, "one" })
    end)

    it("is known by the key of a file that its own line names", function()
        local gateway, world = new_gateway({
            client("one", "$secret://file/settings/KEY", { key_file = "/secrets/KEY" }),
        })
        world.files:write("/secrets/KEY", "first", world.scheduler.now - 100)
        world:advance(3)
        equal({ status(gateway, { ["api-key"] = "first" }) }, { 200, "one" })
        world.files:write("/secrets/KEY", "second")
        world:advance(3)
        equal({ status(gateway, { ["api-key"] = "first" }) }, { 401 })
        equal({ status(gateway, { ["api-key"] = "second" }) }, { 200, "one" })
        world.files:write("/secrets/OTHER", "third", world.scheduler.now - 100)
        world:write_file({ client("one", "$secret://file/settings/KEY", { key_file = "/secrets/OTHER" }) })
        world:advance(1)
        equal({ status(gateway, { ["api-key"] = "third" }) }, { 200, "one" })
        equal({ status(gateway, { ["api-key"] = "second" }) }, { 401 })
    end)

    -- Whether APISIX has loaded the file of a version.
    local function load_version(world, version)
        world:load("services", {}, version)
        world:load("secrets", {}, version)
    end

    it("is known when APISIX has loaded its file, and not before", function()
        local gateway, world = new_gateway({ client("one", "key-1") })
        load_version(world, world.scheduler.now)
        status(gateway, { ["api-key"] = "key-1" })
        world:advance(5)
        local version = world:write_file({ client("two", "key-2") })
        world:advance(5)
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 200, "one" })
        equal({ status(gateway, { ["api-key"] = "key-2" }) }, { 401 })
        world:load("services", {}, version)
        world:advance(5)
        equal({ status(gateway, { ["api-key"] = "key-2" }) }, { 401 })
        load_version(world, version)
        world:advance(0.25)
        equal({ status(gateway, { ["api-key"] = "key-2" }) }, { 200, "two" })
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 401 })
    end)

    it("is not known by a file that has no end yet", function()
        local gateway, world = new_gateway({ client("one", "key-1") })
        status(gateway, { ["api-key"] = "key-1" })
        world:advance(5)
        world.files:write(world_module.FILE, '# genai-gateway client: {"name": "two", "key": "key-2"}\n')
        world:advance(5)
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 200, "one" })
        equal({ status(gateway, { ["api-key"] = "key-2" }) }, { 401 })
    end)

    it("gets 503 and no 401 where a worker could not load any clients", function()
        local world = world_module.new()
        world.files:write(world_module.FILE, "services:\n")
        local gateway = test_gateway.new({ world = world, backends = { "a" } })
        local request = gateway:post({ headers = { ["api-key"] = "key-1" } })
        equal({ request.status, request.response_headers["retry-after"] }, { 503, "1" })
        equal(#gateway:sent_to("a"), 0)
        world:write_file({ client("one", "key-1") })
        world:advance(1)
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 200, "one" })
    end)

    it("is dropped with a line in the log where its line is not valid", function()
        local gateway, world = new_gateway({ client("one", "key-1"),
                                             client("two", "key-2", { lane = "fast" }) })
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 200, "one" })
        equal({ status(gateway, { ["api-key"] = "key-2" }) }, { 401 })
        equal(world:lines("the client two is not loaded: its lane is not valid", "error"), 1)
        equal(world:lines("key-2"), 0)
    end)

    it("is not read again where its line has not changed", function()
        local gateway, world = new_gateway({ client("one", "key-1") })
        status(gateway, { ["api-key"] = "key-1" })
        local core = gateway.worker.require("apisix.core")
        local decode, decoded = core.json.decode, 0
        core.json.decode = function(text)
            decoded = decoded + (text:sub(1, 1) == "[" and 1 or 0)
            return decode(text)
        end
        world:advance(5)
        world:write_file({ client("one", "key-1") })
        world:advance(5)
        core.json.decode = decode
        equal(decoded, 0)
        equal({ status(gateway, { ["api-key"] = "key-1" }) }, { 200, "one" })
    end)
end)


describe("many clients", function()
    it("are read while others have their turn", function()
        local world = world_module.new()
        world:write_file({ { name = "one", key = "key-1" } })
        local gateway = test_gateway.new({ world = world, backends = { "a" } })
        gateway:post({ headers = { ["api-key"] = "key-1" } })
        world:advance(5)
        local clients = {}
        for i = 1, 2000 do
            clients[i] = { name = "client-" .. i, key = "key-" .. i }
        end
        local core = gateway.worker.require("apisix.core")
        local decode, times, last = core.json.decode, 0, nil
        core.json.decode = function(text)
            if text:sub(1, 1) == "[" then
                times, last = times + (last ~= world:clock() and 1 or 0), world:clock()
            end
            return decode(text)
        end
        world:write_file(clients)
        world:advance(1)
        equal(gateway:post({ headers = { ["api-key"] = "key-2000" } }).status, 200)
        equal(times >= 5, true)
    end)
end)
