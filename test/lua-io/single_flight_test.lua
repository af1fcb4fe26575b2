--- Work that one worker does for all.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- Work that takes two seconds, and how often it was done.
local function setup()
    local world = world_module.new()
    local worker = world:worker()
    local done, failures = {}, {}
    local function work(argument)
        worker.ngx.sleep(2)
        done[#done + 1] = argument
    end
    local function failed(argument, err)
        failures[#failures + 1] = { argument, err }
    end
    return world, worker.require("gateway.mechanisms.single_flight"), work, failed, done, failures, worker
end


describe("work for all workers", function()
    it("is done once while it goes on, in the background", function()
        local world, single_flight, work, failed, done = setup()
        local other = world:worker().require("gateway.mechanisms.single_flight")
        equal(single_flight.begin("lock", 30, work, failed, "first"), true)
        equal(single_flight.begin("lock", 30, work, failed, "second"), false)
        equal(other.begin("lock", 30, work, failed, "third"), false)
        equal(done, {}, "before anybody waits")
        world:advance(2)
        equal(done, { "first" })
    end)

    it("can be done again when it has ended", function()
        local world, single_flight, work, failed, done = setup()
        single_flight.begin("lock", 30, work, failed, "first")
        world:advance(2)
        equal(single_flight.begin("lock", 30, work, failed, "second"), true)
        world:advance(2)
        equal(done, { "first", "second" })
    end)

    it("of another kind goes on at the same time", function()
        local world, single_flight, work, failed, done = setup()
        single_flight.begin("lock", 30, work, failed, "first")
        equal(single_flight.begin("other", 30, work, failed, "second"), true)
        world:advance(2)
        equal(done, { "first", "second" })
    end)

    it("that throws is reported, and can be done again", function()
        local world, single_flight, work, failed, _, failures = setup()
        local function broken()
            error("broken for the test", 0)
        end
        single_flight.begin("lock", 30, broken, failed, "subject")
        world:advance(0)
        equal(failures, { { "subject", "broken for the test" } })
        equal(single_flight.begin("lock", 30, work, failed, "second"), true)
    end)

    it("can be done by another worker when its lock ends, where its worker has died", function()
        local world, single_flight, work, failed, done, _, worker = setup()
        single_flight.begin("lock", 30, work, failed, "first")
        world:advance(1)
        world:kill(worker)
        local other = world:worker().require("gateway.mechanisms.single_flight")
        world:advance(28)
        equal(other.begin("lock", 30, work, failed, "second"), false)
        world:advance(1)
        equal(other.begin("lock", 30, work, failed, "third"), true)
        world:advance(2)
        equal(done, { "third" })
    end)

    it("leaves no lock if its timer cannot start", function()
        local world = world_module.new()
        local worker = world:worker()
        local single_flight = worker.require("gateway.mechanisms.single_flight")
        worker.has_no_timers = true
        equal(single_flight.begin("lock", 30, error, error) or false, false)
        equal(world:lines("cannot start a timer for background work of the gateway", "error"), 1)
        worker.has_no_timers = false
        equal(single_flight.begin("lock", 30, function() end, error), true)
    end)

    it("is not done by a worker that is to end, which leaves no lock", function()
        local world, single_flight, work, failed, done = setup()
        local ending = world:worker()
        ending.require("gateway.mechanisms.single_flight").begin("lock", 30, work, failed, "first")
        ending.is_exiting = true
        world:advance(5)
        equal(done, {})
        equal(single_flight.begin("lock", 30, work, failed, "second"), true)
    end)
end)


describe("waiting for a result", function()
    local function wait(patience_s, look)
        local world, single_flight = setup()
        local began = world:clock()
        local first, second, third = world:call(single_flight.wait, patience_s, look, "argument")
        return { first, second, third }, math.floor((world:clock() - began) * 100 + 0.5) / 100
    end

    it("ends with the first result that is not nil", function()
        local looks = 0
        local result, seconds = wait(5, function(argument)
            looks = looks + 1
            if looks == 4 then
                return false, argument, looks
            end
        end)
        equal({ result, seconds }, { { false, "argument", 4 }, 0.06 })
    end)

    it("takes no time where the result is there", function()
        local result, seconds = wait(5, function()
            return "there"
        end)
        equal({ result[1], seconds }, { "there", 0 })
    end)

    it("ends when the patience is over", function()
        local result, seconds = wait(1, function() end)
        equal({ result, seconds }, { {}, 1 })
    end)
end)
