--- The patches of APISIX's limiters.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function patched()
    local worker = world_module.new():worker()
    worker.require("apisix.plugins.azure-openai-limits").init()
    return worker
end


local function limiter_of(worker, class, fields, ...)
    local answer = { ... }
    fields.calls = {}
    fields.answer = function()
        return unpack(answer, 1, 3)
    end
    return setmetatable(fields, { __index = worker.require(class) })
end


describe("the name of a limiter's counter", function()
    it("does not change with the limiter's configuration", function()
        local plugin = patched().require("apisix.plugin")
        local first = plugin.conf_version({ count = 1, allow_degradation = true })
        equal(plugin.conf_version({ count = 2, allow_degradation = false }), first)
    end)

    it("of any other plugin is APISIX's", function()
        equal(patched().require("apisix.plugin").conf_version({ x = 1 }), 'version of {"x":1}')
    end)
end)


describe("the reset of a window in memory", function()
    local CLASS = "apisix.plugins.limit-count.limit-count-local"

    it("is the time until its counter ends", function()
        local limiter = limiter_of(patched(), CLASS, { limit_count = { dict = {
            ttl = function(_, key)
                return key == "client" and 12 or nil
            end,
        } } }, 0, 5, 60)
        equal({ limiter:incoming("client", 1) }, { 0, 5, 12 })
    end)

    it("is APISIX's where there is no counter", function()
        local limiter = limiter_of(patched(), CLASS, { limit_count = {} }, 0, 5, 60)
        equal({ limiter:incoming("client", 1) }, { 0, 5, 60 })
    end)
end)


describe("the state of a slow rate in Redis", function()
    local expiries

    local function incoming(fields, commit, ...)
        expiries = {}
        local redis = {
            expire = function(_, key, seconds)
                expiries[#expiries + 1] = { key, seconds }
            end,
        }
        local limiter = limiter_of(patched(), "apisix.plugins.limit-req.util", fields, ...)
        return { limiter:incoming(redis, "client", commit) }
    end

    it("is kept for as long as the rate makes its client wait", function()
        equal(incoming({ rate = 100, burst = 2000 }, true, 0, 1), { 0, 1 })
        equal(expiries, { { "limit_req:client", 31 } })
    end)

    it("of one request in a second or more is APISIX's", function()
        incoming({ rate = 1000, burst = 0 }, true, 0, 1)
        equal(expiries, {})
    end)

    it("is left alone where a request is rejected, or only looked at", function()
        incoming({ rate = 100, burst = 0 }, true, nil, "rejected")
        equal(expiries, {})
        incoming({ rate = 100, burst = 0 }, false, 0, 1)
        equal(expiries, {})
    end)
end)


describe("the patches", function()
    it("are applied once, also where APISIX loads the plugins again", function()
        local worker = patched()
        local redis = worker.require("apisix.plugins.limit-req.limit-req-redis")
        local before = redis.incoming
        worker.require("apisix.plugins.azure-openai-limits").init()
        equal(redis.incoming == before, true)
    end)

    it("guard the calls of both limiters that count in Redis", function()
        local worker = patched()
        for class, name in pairs({ ["apisix.plugins.limit-req.limit-req-redis"] = "limit-req",
                                   ["apisix.plugins.limit-count.limit-count-redis"] = "limit-count" }) do
            local limiter = limiter_of(worker, class, {
                plugin_name = "plugin-" .. name,
                conf = { redis_host = name, redis_port = 1, redis_database = 0, allow_degradation = true },
            }, nil, "closed")
            equal({ limiter:incoming("client", true) }, { 0 }, name)
        end
    end)
end)
