--- The world itself: its stubs have the shape of what they stand for, and its clock, timers and
-- servers behave as nginx's.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

-- Modules that have no stub, for the world replaces what uses them.
local WITHOUT_STUB = { prometheus = true, ["resty.core.base"] = true, ["resty.core.var"] = true,
                       ["resty.limit.count"] = true }


-- The parameters of a function, as the contract counts them.
local function shape_of(value)
    local info = type(value) == "function" and debug.getinfo(value, "u")
    return info and info.nparams .. (info.isvararg and " or more" or "") or "none"
end


local function expected_shape(signature)
    local count, is_open = 0, ""
    for name in signature:gmatch("[^%s,]+") do
        if name == "..." then
            is_open = " or more"
        else
            count = count + 1
        end
    end
    return count .. is_open
end


local function member(value, path)
    for name in path:gmatch("[^.]+") do
        value = type(value) == "table" and value[name] or nil
    end
    return value
end


describe("the world's stubs", function()
    local worker = world_module.new():worker()
    local terms = worker.require("apisix_internals.contract_terms")

    it("have the functions and fields that the contract with APISIX names", function()
        for _, entries in pairs(terms) do
            for _, entry in ipairs(entries) do
                local module = worker.stubs[entry.module]
                for _, functions in ipairs({ entry.functions or {}, entry.replaced or {} }) do
                    for path, signature in pairs(WITHOUT_STUB[entry.module] and {} or functions) do
                        equal(shape_of(member(module, path)), expected_shape(signature),
                              entry.module .. "." .. path)
                    end
                end
                for name, kind in pairs(entry.fields or {}) do
                    equal(type(module[name]), kind, entry.module .. "." .. name)
                end
            end
        end
    end)

    it("behave as the contract says", function()
        for _, entries in pairs(terms) do
            for _, entry in ipairs(entries) do
                for about, holds in pairs(WITHOUT_STUB[entry.module] and {} or entry.behaviour or {}) do
                    -- The terms require other modules in their own way.
                    setfenv(holds, worker.environment)
                    equal(holds(worker.stubs[entry.module]), true, entry.module .. ": " .. about)
                end
            end
        end
    end)
end)


describe("the world's clock", function()
    it("moves only while everybody waits, to each event in turn", function()
        local world = world_module.new()
        local ngx = world:worker().ngx
        local seen = {}
        local function at(about)
            seen[#seen + 1] = about .. " " .. world:clock()
        end
        ngx.timer.at(2, function()
            at("timer")
            ngx.sleep(2)
            at("awake")
        end)
        ngx.timer.every(3, function()
            at("again")
        end)
        world:advance(7)
        equal(seen, { "timer 2", "again 3", "awake 4", "again 6" })
        equal({ ngx.now() - 1700000000, ngx.time() }, { 7, 1700000007 })
    end)

    it("ends entries of the shared memory", function()
        local world = world_module.new()
        world.state:set("key", 1, 5)
        world:advance(4.9)
        equal({ world.state:get("key"), world.state:ttl("key") > 0 }, { 1, true })
        world:advance(0.1)
        equal(world.state:get("key"), nil)
    end)

    it("fails a test that waits for what never comes", function()
        local world = world_module.new()
        local ok, err = pcall(world.call, world, function()
            world.scheduler:hang()
        end)
        equal({ ok, err:find("never comes", 1, true) ~= nil }, { false, true })
    end)

    it("does not move for who cannot wait", function()
        local ngx = world_module.new():worker().ngx
        equal(pcall(ngx.sleep, 1), false)
    end)
end)


describe("the world's workers", function()
    it("have modules of their own and share the memory", function()
        local world = world_module.new()
        local first, second = world:worker(), world:worker()
        local name = "gateway.mechanisms.shared_memory"
        equal(first.require(name) == second.require(name), false)
        equal(first.require(name) == first.require(name), true)
        equal(first.require(name).state == second.require(name).state, true)
    end)

    it("fail for a module that has no stub", function()
        local ok, err = pcall(world_module.new():worker().require, "apisix.unheard_of")
        equal({ ok, err:find("the world has no stub of apisix.unheard_of", 1, true) ~= nil }, { false, true })
    end)

    it("know no request outside of one", function()
        equal(pcall(function()
            return world_module.new():worker().ngx.var.uri
        end), false)
    end)
end)
