--- Calls that must not take longer than a given time.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- Calls a function with a deadline of five seconds. Gives what came of it, and the seconds it took.
local function call(run)
    local world = world_module.new()
    local worker = world:worker()
    local deadline = worker.require("gateway.mechanisms.deadline")
    local first, second, third = world:call(deadline.call, 5, function(argument)
        return run(worker.ngx, world, argument)
    end, "argument")
    return { first, second, third }, world:clock(), world
end


describe("a call with a deadline", function()
    it("gives its results", function()
        local result, seconds = call(function(_, _, argument)
            return argument, "second"
        end)
        equal({ result, seconds }, { { "argument", "second" }, 0 })
    end)

    it("gives its results when it waited for something", function()
        local result, seconds = call(function(ngx)
            ngx.sleep(4)
            return nil, "an error"
        end)
        equal({ result, seconds }, { { nil, "an error" }, 4 })
    end)

    it("ends after its time though it waits for ever", function()
        local result, seconds = call(function(_, world)
            world.scheduler:hang()
        end)
        equal({ result, seconds }, { { nil, "timeout" }, 5 })
    end)

    it("ends after its time though each of its steps is short", function()
        local steps = 0
        local result, seconds, world = call(function(ngx)
            while true do
                ngx.sleep(1)
                steps = steps + 1
            end
        end)
        equal({ result, seconds }, { { nil, "timeout" }, 5 })
        local before = steps
        world:advance(10)
        equal(steps, before, "steps after its end")
    end)

    it("reports an error that it throws", function()
        local result = call(function()
            error("broken for the test", 0)
        end)
        equal(result, { nil, "broken for the test", true })
    end)
end)
