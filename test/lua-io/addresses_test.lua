--- Addresses of hosts: who waits for a look-up, for how long, and what is used while none succeeds.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local HOST = "a.test"


-- A world whose name server answers as the test says: `answers(host)` returns addresses and their
-- time to live; nil and an error; it may wait.
local function setup(answers)
    local world = world_module.new()
    local worker = world:worker()
    local setting = { answers = answers, asked = 0, world = world, ngx = worker.ngx }
    worker.stubs["apisix.core.dns.client"].new = function()
        return {
            resolve = function(_, host)
                setting.asked = setting.asked + 1
                local list, ttl = setting.answers(host)
                if not list then
                    return nil, ttl
                end
                local records = { expire = world.scheduler.now + ttl }
                for i, address in ipairs(list) do
                    records[i] = { address = address, type = address:find("[", 1, true) and 28 or 1 }
                end
                return records
            end,
        }
    end
    setting.addresses = worker.require("gateway.exchange.addresses")
    setting.name = setting.addresses.of(HOST)
    return setting
end


-- What a request gets that waits for so many seconds at most, and how long it waited.
local function found(setting, patience_s)
    local world = setting.world
    return world:call(function()
        local began = world:clock()
        local list, err = setting.addresses.find(setting.name, world.scheduler.now + patience_s)
        return { list and table.concat(list, " ") or err, world:clock() - began }
    end)
end


local function silent(world, seconds)
    return function()
        world.scheduler:sleep(seconds)
        return nil, "failed to query the DNS server: dns lookup pool exceeded retries (1): timeout"
    end
end


local function serves(...)
    local list = { ... }
    return function()
        return list, 10
    end
end


local function fails()
    return nil, "failed to query the DNS server: dns server error: 2 server failure"
end


local UNANSWERED = "the name server does not answer"
local SERVFAIL = "the name server fails (SERVFAIL)"


describe("addresses", function()
    it("of a host that is an address are at hand", function()
        local setting = setup(fails)
        for _, host in ipairs({ "10.0.0.1", "[::1]" }) do
            setting.name = setting.addresses.of(host)
            equal(found(setting, 5), { host, 0 })
        end
        equal(setting.asked, 0)
    end)

    it("are looked up once for all requests that wait", function()
        local setting = setup()
        local world = setting.world
        setting.answers = function()
            world.scheduler:sleep(0.25)
            return { "10.0.0.1", "10.0.0.2" }, 10
        end
        local lists = {}
        for _ = 1, 3 do
            setting.ngx.timer.at(0, function()
                local list = setting.addresses.find(setting.name, world.scheduler.now + 5)
                lists[#lists + 1] = table.concat(list, " ")
            end)
        end
        world:advance(0.25)
        equal(lists, { "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2" })
        equal(setting.asked, 1)
    end)

    it("are used while they are looked up again, and followed", function()
        local setting = setup(serves("10.0.0.1"))
        found(setting, 5)
        setting.answers = serves("10.0.0.2")
        setting.world:advance(9)
        equal({ found(setting, 5)[1], setting.asked }, { "10.0.0.1", 1 })
        setting.world:advance(1)
        equal({ found(setting, 5)[1], found(setting, 5)[1] }, { "10.0.0.1", "10.0.0.1" })
        setting.world:advance(0)
        equal({ found(setting, 5)[1], setting.asked }, { "10.0.0.2", 2 })
        equal({ setting.name.addresses["10.0.0.1"], setting.name.addresses["10.0.0.2"] }, { nil, true })
    end)

    it("that are out of date for long are waited for, but not long", function()
        local setting = setup(serves("10.0.0.1"))
        found(setting, 5)
        setting.world:advance(60)
        setting.answers = serves("10.0.0.2")
        equal(found(setting, 5), { "10.0.0.2", 0 })
        setting.world:advance(60)
        setting.answers = silent(setting.world, 60)
        equal(found(setting, 5), { "10.0.0.2", 0.5 })
    end)

    it("of a silent name server are waited for once, for five seconds or less", function()
        local setting = setup()
        setting.answers = silent(setting.world, 60)
        equal(found(setting, 2), { UNANSWERED, 2 })
        equal(found(setting, 9), { UNANSWERED, 3 })
        equal({ found(setting, 9), found(setting, 9) }, { { UNANSWERED, 0 }, { UNANSWERED, 0 } })
        equal(setting.asked, 1)
        equal(setting.world:lines("the host a.test cannot be resolved: " .. UNANSWERED, "error"), 1)
    end)

    it("of a failing name server are not waited for, and asked for once a second", function()
        local setting = setup(fails)
        for _ = 1, 4 do
            equal(found(setting, 5), { SERVFAIL, 0 })
        end
        equal(setting.asked, 1)
        setting.world:advance(1)
        equal({ found(setting, 5), setting.asked }, { { SERVFAIL, 0 }, 2 })
        setting.world:advance(1)
        setting.answers = serves("10.0.0.1")
        equal(found(setting, 5), { "10.0.0.1", 0 })
        equal(setting.world:lines("the host a.test can be resolved again", "warn"), 1)
    end)

    it("stay while the name server fails, with a line a minute", function()
        local setting = setup(serves("10.0.0.1"))
        found(setting, 5)
        setting.answers = fails
        for _ = 1, 120 do
            setting.world:advance(1)
            equal(found(setting, 5), { "10.0.0.1", 0 })
        end
        equal(setting.world:lines("Its last known addresses are used: 10.0.0.1", "warn"), 2)
    end)

    it("take turns, and come last while they are dead", function()
        local setting = setup(serves("10.0.0.1", "10.0.0.2", "10.0.0.3"))
        local addresses, name = setting.addresses, setting.name
        found(setting, 5)
        local list = name.list
        equal({ addresses.next(name, list), addresses.next(name, list), addresses.next(name, list),
                addresses.next(name, list) },
              { "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1" })
        addresses.failed(name, "10.0.0.2")
        equal(addresses.next(name, list), "10.0.0.3")
        equal(addresses.next(name, list, { ["10.0.0.1"] = true, ["10.0.0.3"] = true }), "10.0.0.2")
        equal(addresses.next(name, list, { ["10.0.0.1"] = true, ["10.0.0.2"] = true,
                                           ["10.0.0.3"] = true }), nil)
        setting.world:advance(10)
        equal({ addresses.next(name, list), addresses.next(name, list) }, { "10.0.0.1", "10.0.0.2" })
    end)

    it("are dead for longer each time, until they accept a connection", function()
        local setting = setup(serves("10.0.0.1", "10.0.0.2"))
        local addresses, name = setting.addresses, setting.name
        found(setting, 5)
        local lasts = {}
        for i = 1, 6 do
            addresses.failed(name, "10.0.0.1")
            lasts[i] = name.dead["10.0.0.1"].lasts
        end
        equal(lasts, { 10, 20, 40, 80, 160, 160 })
        addresses.worked(name, "10.0.0.1")
        addresses.failed(name, "10.0.0.1")
        equal(name.dead["10.0.0.1"].lasts, 10)
    end)
end)
