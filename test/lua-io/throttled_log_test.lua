--- Lines of the error log that would repeat with each request.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function setup()
    local world = world_module.new()
    local lines = {}
    local function log(...)
        lines[#lines + 1] = table.concat({ ... })
    end
    return world, world:worker().require("gateway.mechanisms.throttled_log"), log, lines
end


describe("a throttled line of the log", function()
    it("is written once in ten seconds, with all of its parts", function()
        local world, throttled_log, log, lines = setup()
        throttled_log.write(log, "kind", "subject", "first ", 1)
        world:advance(9)
        throttled_log.write(log, "kind", "subject", "second")
        equal(lines, { "first 1" })
        world:advance(1)
        throttled_log.write(log, "kind", "subject", "third")
        equal(lines, { "first 1", "third" })
    end)

    it("about another subject, or of another kind, is a line of its own", function()
        local _, throttled_log, log, lines = setup()
        throttled_log.write(log, "kind", "one", "a")
        throttled_log.write(log, "kind", "two", "b")
        throttled_log.write(log, "other", "one", "c")
        equal(lines, { "a", "b", "c" })
    end)

    it("is written at once again after its trouble is over", function()
        local _, throttled_log, log, lines = setup()
        throttled_log.write(log, "kind", "subject", "first")
        throttled_log.forget("kind", "subject")
        throttled_log.write(log, "kind", "subject", "second")
        equal(lines, { "first", "second" })
    end)

    it("is written by one of all workers", function()
        local world, throttled_log, log, lines = setup()
        local other = world:worker().require("gateway.mechanisms.throttled_log")
        throttled_log.write(log, "kind", "subject", "first")
        other.write(log, "kind", "subject", "second")
        equal(lines, { "first" })
    end)
end)
