--- How a configured Redis reaches APISIX's client.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("a Redis that replicas share", function()
    -- Runs `check(call, world)`: `call` calls a Redis, and returns a copy of what APISIX's client gets.
    local function with_client(check)
        local world = world_module.new()
        local worker = world:worker()
        local got
        worker.require("apisix.utils.redis").new = function(conf)
            got = {}
            for name, value in pairs(conf) do
                got[name] = value
            end
            return { set_keepalive = function() end }
        end
        local shared_redis = worker.require("gateway.shared_redis")
        check(function(redis)
            equal(shared_redis.with(redis, function(_, argument) return argument end, "done"), "done")
            return got
        end, world)
    end

    it("is called as its configuration says, in the names of APISIX's client", function()
        with_client(function(call)
            equal(call({ host = "redis", port = 6380, username = "u", password = "p", database = 2,
                         tls = true, timeout_ms = 500 }),
                  { redis_host = "redis", redis_port = 6380, redis_username = "u", redis_password = "p",
                    redis_database = 2, redis_ssl = true, redis_ssl_verify = true, redis_timeout = 500 })
            equal(call({ host = "other", port = 6379, database = 0, tls = false, timeout_ms = 100 }),
                  { redis_host = "other", redis_port = 6379, redis_database = 0, redis_ssl = false,
                    redis_ssl_verify = false, redis_timeout = 100 })
        end)
    end)

    it("is signed in to with the password that its file holds at each call", function()
        with_client(function(call, world)
            local redis = { host = "redis", port = 6379, database = 0, tls = false, timeout_ms = 500,
                            password_setting = "PASSWORD" }
            equal(call(redis).redis_password, nil)
            world:load("secrets", { { id = "file/settings", files = { PASSWORD = "/secrets/x" } } }, 1)
            world.files:write("/secrets/x", "first", world.scheduler.now - 100)
            equal(call(redis).redis_password, "first")
            world.files:write("/secrets/x", "second", world.scheduler.now)
            world:advance(5)
            equal(call(redis).redis_password, "second")
        end)
    end)
end)
