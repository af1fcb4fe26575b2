--- One object for all configurations that say the same.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function setup()
    local by_content = world_module.new():worker().require("gateway.mechanisms.by_content")
    local made = {}
    return by_content.new(function(conf)
        return conf.host
    end, function(conf)
        if conf.host == "none" then
            return nil, "no such host"
        end
        made[#made + 1] = conf.host
        return { host = conf.host }
    end), made
end


describe("objects by what configurations say", function()
    it("are the same for two tables that say the same", function()
        local objects, made = setup()
        local first = objects:of({ host = "a", colour = "red" })
        equal(objects:of({ host = "a", colour = "blue" }) == first, true)
        equal(made, { "a" })
    end)

    it("differ where the configurations do", function()
        local objects, made = setup()
        objects:of({ host = "a" })
        objects:of({ host = "b" })
        equal(made, { "a", "b" })
    end)

    it("are made once for one table", function()
        local objects, made = setup()
        local conf = { host = "a" }
        local first = objects:of(conf)
        conf.host = "changed, which APISIX never does"
        equal({ objects:of(conf) == first, #made }, { true, 1 })
    end)

    it("are tried again where one could not be made", function()
        local objects = setup()
        local conf = { host = "none" }
        equal({ objects:of(conf) }, { nil, "no such host" })
        conf.host = "a"
        equal(objects:of(conf).host, "a")
    end)

    it("live as long as one of their configurations", function()
        local objects, made = setup()
        local second = { host = "a" }
        objects:of({ host = "a" })
        objects:of(second)
        collectgarbage()
        collectgarbage()
        objects:of({ host = "a" })
        equal(made, { "a" }, "while a configuration is in use")
        second = nil
        collectgarbage()
        collectgarbage()
        equal({ second, objects:of({ host = "a" }).host }, { nil, "a" })
        equal(made, { "a", "a" }, "when none is")
    end)
end)
