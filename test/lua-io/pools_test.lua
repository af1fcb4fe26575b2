--- Pools: paths with a prefix, clients, cooldowns over pools and lanes, and the order of backends.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, OK = test_gateway.failure, test_gateway.OK

local V1 = "/openai/v1/chat/completions"
local FOR_FIVE_SECONDS = failure(429, { ["retry-after"] = "5" })
local LOW = { ["x-priority"] = "low" }


-- A gateway whose only route is that of a pool.
local function pool(name, options)
    options = options or {}
    options.backends = options.backends or { "a", "b" }
    options.proxy = options.proxy or {}
    options.proxy.pool = { name = name, clients = options.clients }
    local gateway = test_gateway.new(options)
    gateway.conf["azure-openai-errors"] = { pool = name, prefix = options.prefix or "/" .. name }
    return gateway
end


local function called(gateway, options)
    gateway.world.network.connected = {}
    gateway:post(options)
    return gateway:called()
end


describe("the path of a pool", function()
    it("loses its prefix on the way to a backend, and nowhere else", function()
        local gateway = pool("search")
        local request = gateway:post({ path = "/search" .. V1 .. "?api-version=preview" })
        equal({ request.status, request.record.target.path, request.record.target.query, request.var.uri },
              { 200, V1, "api-version=preview", "/search" .. V1 })
        equal({ request.var.genai_pool, gateway:apim_record().Pool }, { "search", "search" })
        equal(gateway:apim_record().Url, "/search" .. V1 .. "?api-version=preview")
    end)

    it("is corrected as any other", function()
        local gateway = pool("search", { prefix = "/teams/search" })
        for _, path in ipairs({ "/teams/search/v1/chat/completions",
                                "//teams/search//openai/v1/chat/completions/" }) do
            equal(gateway:post({ path = path, read_as = "/teams/search" .. V1 }).record.target.path, V1, path)
        end
    end)

    it("is rejected if its prefix has escapes, and not found if nothing follows", function()
        local gateway = pool("search")
        local request = gateway:post({ path = "/se%61rch" .. V1, read_as = "/search" .. V1 })
        equal({ request.status, request.json.error.code }, { 400, "invalid_request_target" })
        equal(gateway:post({ path = "/search/", read_as = "/search/" }).status, 404)
        equal(gateway:called(), "")
    end)

    it("is in redirects", function()
        local gateway = pool("search", { backends = { "a" } })
        gateway:serve("a", { status = 307, headers = { location = "https://a" .. V1 }, body = "" })
        equal(gateway:post({ path = "/search" .. V1 }).response_headers.location, "/search" .. V1)
        gateway:serve("a", { status = 307, headers = { location = "next" }, body = "" })
        equal(gateway:post({ path = "/search" .. V1 }).response_headers.location, "next")
    end)
end)


describe("the clients of a pool", function()
    local path = "/search" .. V1

    it("are those that it names; others get 403 and reach no backend", function()
        equal(pool("search", { clients = { "other", "app" } }):post({ path = path }).status, 200)
        local gateway = pool("search", { clients = { "other" } })
        local request = gateway:post({ path = path })
        equal({ request.status, request.json.error.code, request.var.genai_pool, gateway:called() },
              { 403, "pool_not_allowed", "search", "" })
    end)

    it("may be nobody in particular only if it names none", function()
        local nobody = { path = path, headers = { ["api-key"] = false } }
        equal(pool("search", { auth = { required = false } }):post(nobody).status, 200)
        equal(pool("search", { clients = { "app", "oidc:*" }, auth = { required = false } })
                  :post(nobody).status, 403)
    end)
end)


describe("cooldowns of pools", function()
    local function request(name, more)
        more = more or {}
        more.path = "/" .. name .. V1
        return more
    end

    it("are shared, because a backend's quota is", function()
        local one = pool("one")
        local two = pool("two", { world = one.world, backends = { "a", "b" } })
        one:serve("a", FOR_FIVE_SECONDS, OK)
        equal({ called(one, request("one")), called(two, request("two")) }, { "a b", "b" })
    end)

    it("last as long as the pool says, and are a guess beyond the delay that the backend named", function()
        local long = { default_ms = 1000, max_ms = 60000, fixed_ms = 20000 }
        local gateway = pool("one", { backends = { "a" }, proxy = { cooldown = long } })
        gateway:serve("a", FOR_FIVE_SECONDS, FOR_FIVE_SECONDS, OK)
        equal(called(gateway, request("one")), "a")
        -- It has no other backend, and after the named delay nothing is known.
        equal(called(gateway, request("one")), "a")
        local brief = { default_ms = 1000, max_ms = 60000, fixed_ms = 2000 }
        local short = pool("short", { proxy = { cooldown = brief } })
        short:serve("a", FOR_FIVE_SECONDS, OK)
        equal(called(short, request("short")), "a b")
        equal(called(short, request("short")), "b")
        short.world:advance(2.1)
        equal(called(short, request("short")), "a")
    end)

    it("of the low lane hold for the high lane only while another backend is there", function()
        local gateway = pool("one", { backends = { "a" } })
        gateway:serve("a", FOR_FIVE_SECONDS, OK, OK, FOR_FIVE_SECONDS)
        equal(called(gateway, request("one", { headers = LOW })), "a")
        equal(called(gateway, request("one", { headers = LOW })), "")
        equal({ called(gateway, request("one")), called(gateway, request("one")) }, { "a", "a" })
        -- A success of the high lane does not disprove the delay that the low lane was given.
        equal(called(gateway, request("one", { headers = LOW })), "")
        equal(called(gateway, request("one")), "a")
        equal({ called(gateway, request("one")), gateway:post(request("one")).status }, { "", 429 })

        local other = pool("two", { backends = { "a", "b" } })
        other:serve("a", FOR_FIVE_SECONDS, OK)
        equal(called(other, request("two", { headers = LOW })), "a b")
        equal(called(other, request("two")), "b")
    end)
end)


describe("objects that a pool of one backend creates", function()
    it("are found at once by a pool with more", function()
        local part = pool("part", { backends = { "b" } })
        local services = { { value = { plugins = {
            ["azure-openai-proxy"] = { pool = { name = "default" } },
            ["ai-proxy-multi"] = { instances = {
                { name = "a", override = { endpoint = "https://a" } },
                { name = "b", override = { endpoint = "https://b" } },
            } },
        } } } }
        part.worker.require("apisix_internals.loaded_config").services = function()
            return services, 1
        end
        part:serve("b", { status = 200, headers = OK.headers, body = '{"id":"resp_1","object":"response"}' })
        part:post({ path = "/part/openai/v1/responses" })
        local whole = test_gateway.new({ world = part.world, backends = { "a", "b" } })
        whole.world.network.connected = {}
        local request = whole:post({ method = "GET", path = "/openai/v1/responses/resp_1" })
        equal({ whole:called(), request.var.genai_affinity }, { "b", "memory" })
    end)
end)


local REDIS = { host = "redis", port = 6379, database = 0, tls = false, timeout_ms = 500, password = "p" }


local function ordered(options)
    options = options or {}
    options.backends = options.backends or { "a", "b", "c" }
    options.proxy = { balancer = "preferred", preferred = options.redis and { redis = options.redis } }
    return test_gateway.new(options)
end


local function set(gateway, names, redis)
    gateway.world:call(gateway.worker.require("gateway.backends.preferred_order").set, names, redis)
end


describe("the order of backends", function()
    it("is followed by all workers, until it ends after 12,000 seconds", function()
        local gateway = ordered()
        local other = ordered({ world = gateway.world })
        equal(called(gateway), "a")
        set(gateway, { "c" })
        equal({ called(gateway), called(other) }, { "c", "c" })
        gateway.world:advance(11999)
        equal(called(other), "c")
        gateway.world:advance(2)
        equal({ called(gateway), called(other) }, { "a", "a" })
    end)

    it("goes on with the next backend after a failure, and then as usual", function()
        local gateway = ordered()
        set(gateway, { "c", "b" })
        gateway:serve("c", FOR_FIVE_SECONDS)
        gateway:serve("b", FOR_FIVE_SECONDS)
        equal(called(gateway), "c b a")
    end)

    it("comes to another replica within a second of its next request", function()
        local first = ordered({ redis = REDIS })
        equal(called(first), "a")
        local world = world_module.new()
        world.redis["redis:6379"] = first.world.redis["redis:6379"]
        local second = ordered({ world = world, redis = REDIS })
        set(first, { "b" }, REDIS)
        world:advance(10)
        equal(called(second), "b", "after a long pause")
        set(first, { "c" }, REDIS)
        world:advance(1.1)
        called(second)
        world:advance(0.1)
        equal(called(second), "c")
    end)

    it("stays while Redis is down, and is shared afterwards", function()
        local gateway = ordered({ redis = REDIS })
        local redis = gateway.world.redis["redis:6379"]
        set(gateway, { "b" }, REDIS)
        redis.down = "connection refused"
        gateway.world:advance(5)
        equal(called(gateway), "b")
        set(gateway, { "c" }, REDIS)
        equal(called(gateway), "c")
        redis.down = nil
        gateway.world:advance(10)
        equal(called(gateway), "c")
        equal(redis.data["genai_gateway:preferred_backends"]:match("\n(.*)$"), "c")
    end)

    it("that another replica has deleted or replaced is replaced here", function()
        local gateway = ordered({ redis = REDIS })
        local redis = gateway.world.redis["redis:6379"]
        set(gateway, { "b" }, REDIS)
        redis.data["genai_gateway:preferred_backends"] = nil
        gateway.world:advance(10)
        equal(called(gateway), "a")
        redis.data["genai_gateway:preferred_backends"] = "nonsense"
        gateway.world:advance(10)
        equal(called(gateway), "a")
    end)

    it("costs one question a second for all workers", function()
        local gateway = ordered({ redis = REDIS })
        local redis = gateway.world.redis["redis:6379"]
        gateway.world:advance(10)
        called(gateway)
        local calls = #redis.calls
        for _ = 1, 20 do
            called(gateway)
        end
        equal(#redis.calls, calls)
    end)
end)


describe("limiters of pools", function()
    it("count with those of the plain paths", function()
        local worker = world_module.new():worker()
        worker.require("apisix.plugins.azure-openai-limits").init()
        local counter_names = worker.require("apisix_internals.counter_names")
        local conf = { _meta = setmetatable({}, { __index = {
            parent = { resource_key = "/services/pool-search" },
        } }) }
        for _ = 1, 2 do
            counter_names.count_with(conf, "azure-openai")
            equal(conf._meta.parent.resource_key, "/services/azure-openai")
        end
    end)
end)
