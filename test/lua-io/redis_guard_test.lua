--- The guard around each call of a limiter's Redis: while it fails, requests pass uncounted and wait
-- for nothing.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local DOWN = "connection refused"


-- A worker whose plugin of limits has patched APISIX's limiters.
local function new_worker(world)
    local worker = world:worker()
    worker.require("gateway.metrics").start()
    worker.require("apisix.plugins.azure-openai-limits").init()
    return worker
end


local function conf_of(host)
    return { redis_host = host or "redis", redis_port = 6379, redis_database = 0, allow_degradation = true }
end


-- A limiter of a worker, as APISIX makes it of a configuration. Its Redis works unless `redis.down`.
local function new_limiter(worker, redis, conf, name)
    local class = worker.require("apisix.plugins.limit-count.limit-count-redis")
    return setmetatable({
        plugin_name = "plugin-" .. (name or "limit-count"),
        conf = conf or conf_of(),
        calls = redis.calls,
        answer = function(_, cost)
            if redis.down then
                return nil, redis.down, 0
            elseif redis.is_full and cost > 0 then
                return nil, "rejected", 30
            end
            return 0, 9, 60
        end,
    }, { __index = class })
end


local function setup(conf)
    local world = world_module.new()
    local worker, redis = new_worker(world), { calls = {} }
    return world, new_limiter(worker, redis, conf), redis, worker
end


local function degraded(worker)
    local out = {}
    worker.require("gateway.metrics").render(out)
    return tonumber(table.concat(out):match('genai_limiter_degraded_total{limiter="limit%-count"} (%d+)'))
end


-- Seconds at which the Redis was called.
local function times(world, redis, seconds)
    local began, list = world:clock(), {}
    local known = #redis.calls
    while world:clock() - began < seconds do
        world:advance(0.25)
        for _ = known + 1, #redis.calls do
            list[#list + 1] = world:clock() - began
        end
        known = #redis.calls
    end
    return list
end


describe("a Redis of limits that works", function()
    it("counts a request, and the limiter gets what it said", function()
        local world, limiter, redis, worker = setup()
        equal({ limiter:incoming("client", 2) }, { 0, 9, 60 })
        equal(redis.calls, { { "client", 2 } })
        equal({ degraded(worker), #world.logged }, { 0, 0 }, "degraded requests and log lines")
    end)

    it("rejects a request", function()
        local world, limiter, redis = setup()
        redis.is_full = true
        equal({ limiter:incoming("client", 1) }, { nil, "rejected", 30 })
        equal(#world.logged, 0, "log lines")
    end)
end)


describe("a Redis of limits that fails", function()
    it("lets requests pass, and is not asked by others that come meanwhile", function()
        local world, limiter, redis, worker = setup()
        redis.down = DOWN
        equal({ limiter:incoming("client", 1) }, { 0 })
        equal({ limiter:incoming("client", 1) }, { 0 })
        equal({ #redis.calls, degraded(worker) }, { 1, 2 }, "calls and degraded requests")
        equal(world:lines("the Redis of the limits at redis:6379/0 fails: connection refused", "error"), 1)
    end)

    it("fails the request where the setting says so", function()
        local conf = conf_of()
        conf.allow_degradation = false
        local _, limiter, redis = setup(conf)
        redis.down = DOWN
        equal({ limiter:incoming("client", 1) }, { nil, DOWN, 0 })
        equal({ limiter:incoming("client", 1) }, { nil, DOWN, 0 })
        equal(#redis.calls, 2)
    end)

    it("is checked at once and then less and less often, with a call that counts nothing", function()
        local world, limiter, redis = setup()
        redis.down = DOWN
        limiter:incoming("client", 1)
        equal(times(world, redis, 14), { 0.25, 0.5, 2, 5.5, 9.5, 13.5 })
        equal(redis.calls[2], { "probe", 0 })
    end)

    it("counts again as soon as a check finds that it works", function()
        local world, limiter, redis, worker = setup()
        redis.down = DOWN
        limiter:incoming("client", 1)
        redis.down = nil
        world:advance(0)
        equal({ limiter:incoming("client", 1) }, { 0, 9, 60 })
        equal({ world:lines("works again", "warn"), degraded(worker) }, { 1, 1 })
    end)

    it("works again where a check is rejected", function()
        local world, limiter, redis = setup()
        redis.down = DOWN
        limiter:incoming("client", 1)
        redis.down, redis.is_full = nil, true
        limiter.answer = function()
            return nil, "rejected", 1
        end
        world:advance(0)
        equal(world:lines("works again", "warn"), 1)
    end)

    it("is reported again when it fails again", function()
        local world, limiter, redis = setup()
        for _ = 1, 2 do
            redis.down = DOWN
            limiter:incoming("client", 1)
            redis.down = nil
            world:advance(1)
        end
        equal(world:lines("fails: connection refused", "error"), 2)
    end)

    it("is not called by another worker, which checks nothing by itself", function()
        local world, limiter, redis = setup()
        local other = new_limiter(new_worker(world), redis)
        redis.down = DOWN
        limiter:incoming("client", 1)
        equal({ other:incoming("client", 1) }, { 0 })
        equal(#redis.calls, 1)
        redis.down = nil
        world:advance(0)
        equal({ other:incoming("client", 1) }, { 0, 9, 60 }, "when it works again")
    end)

    it("counts again after 30 seconds where the worker that checks it dies", function()
        local world, limiter, redis, worker = setup()
        local other = new_limiter(new_worker(world), redis)
        redis.down = DOWN
        limiter:incoming("client", 1)
        world:kill(worker)
        redis.down = nil
        world:advance(29)
        equal({ other:incoming("client", 1) }, { 0 }, "after 29 seconds")
        world:advance(2)
        equal({ other:incoming("client", 1) }, { 0, 9, 60 }, "after 31 seconds")
    end)

    it("is called by the next request if the timer that checks it cannot start", function()
        local world, limiter, redis, worker = setup()
        redis.down, worker.has_no_timers = DOWN, true
        limiter:incoming("client", 1)
        redis.down = nil
        equal({ limiter:incoming("client", 1) }, { 0, 9, 60 })
        equal(world:lines("cannot start the timer that checks the Redis of the limits", "error"), 1)
    end)

    it("is checked by another worker where the one that checks it is to end", function()
        local world, limiter, redis, worker = setup()
        local other = new_limiter(new_worker(world), redis)
        redis.down = DOWN
        limiter:incoming("client", 1)
        redis.down, worker.is_exiting = nil, true
        world:advance(0)
        equal({ other:incoming("client", 1) }, { 0, 9, 60 })
    end)

    it("says nothing about another Redis", function()
        local world, limiter, redis, worker = setup()
        local second = { calls = {} }
        local other = new_limiter(worker, second, conf_of("redis-2"))
        redis.down = DOWN
        limiter:incoming("client", 1)
        equal({ other:incoming("client", 1) }, { 0, 9, 60 })
        equal(world:lines("redis-2", "error"), 0)
    end)
end)


describe("the password of a limiter's Redis", function()
    it("is the one that its file holds when the Redis is called", function()
        local world, limiter, _, worker = setup()
        world:load("secrets", { { id = "file/settings", files = { REDIS_PASSWORD = "/secrets/redis" } } }, 1)
        world.files:write("/secrets/redis", "first", world.scheduler.now - 100)
        limiter.conf.redis_password = "$secret://file/settings/REDIS_PASSWORD"
        worker.require("gateway.limits.redis_guard").sign_in_by(limiter.conf, "REDIS_PASSWORD")
        limiter:incoming("client", 1)
        equal(limiter.conf.redis_password, "first")

        world.files:write("/secrets/redis", "second")
        world:advance(3)
        limiter:incoming("client", 1)
        equal(limiter.conf.redis_password, "second")
    end)
end)
