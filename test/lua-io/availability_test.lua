--- Cooldowns: what a failed attempt means for later requests, in all workers.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, OK = test_gateway.failure, test_gateway.OK

local THREE = { "a", "b", "c" }
local FOR_FIVE_SECONDS = failure(429, { ["retry-after"] = "5" })


-- The answer of a model after some seconds.
local function taking(seconds)
    return { takes = seconds, status = 200, body = OK.body, headers = OK.headers }
end


local function new_gateway(options)
    options = options or {}
    options.backends = options.backends or { "a", "b" }
    return test_gateway.new(options)
end


-- The backends that a request calls.
local function called(gateway, options)
    gateway.world.network.connected = {}
    gateway:post(options)
    return gateway:called()
end


describe("a backend that named a delay", function()
    it("is skipped until then, by all workers, and counted as skipped", function()
        local gateway = new_gateway()
        local other = new_gateway({ world = gateway.world })
        gateway:serve("a", FOR_FIVE_SECONDS, OK)
        gateway:serve("b", OK)
        equal(called(gateway), "a b")
        gateway.world:advance(4.9)
        equal({ called(gateway), called(other) }, { "b", "b" })
        gateway.world:advance(0.2)
        equal(called(other), "a")
        equal(gateway:metric("genai_attempts_total"):find("a gpt-4o skipped_cooling=2", 1, true) ~= nil, true)
    end)

    it("is skipped for its deployment only", function()
        local gateway = new_gateway()
        gateway:serve("a", FOR_FIVE_SECONDS, OK)
        called(gateway)
        equal({ called(gateway, { model = "o3" }), called(gateway, { model = "GPT-4O" }) }, { "a", "b" })
    end)

    it("is not tried for want of another one", function()
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", FOR_FIVE_SECONDS, OK)
        called(gateway)
        gateway.world:advance(2)
        local request = gateway:post()
        equal({ request.status, request.response_headers["retry-after-ms"] }, { 429, "3000" })
    end)

    it("is skipped no longer than the settings allow", function()
        local gateway = new_gateway({ proxy = { cooldown = { default_ms = 1000, max_ms = 2000 } } })
        gateway:serve("a", FOR_FIVE_SECONDS, OK)
        called(gateway)
        gateway.world:advance(2.1)
        equal(called(gateway), "a")
    end)
end)


describe("a cooldown that has ended", function()
    local function ended()
        local gateway = new_gateway()
        gateway:serve("a", FOR_FIVE_SECONDS, taking(1))
        called(gateway)
        gateway.world:advance(6)
        return gateway
    end

    it("is tried by one request, while others go elsewhere", function()
        local gateway = ended()
        local first = gateway:start()
        equal(called(gateway), "b")
        gateway:finish(first)
        equal(first.var.genai_backend, "a")
        equal(called(gateway), "a", "when it has shown that it works")
    end)

    it("is waited for by those that have no other backend", function()
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", FOR_FIVE_SECONDS, taking(1), OK)
        called(gateway)
        gateway.world:advance(6)
        local first = gateway:start()
        local began = gateway.world:clock()
        equal(gateway:post().status, 200)
        local waited = gateway.world:clock() - began
        equal(waited > 0.9 and waited < 1.1, true, "seconds")
        gateway:finish(first)
    end)

    it("is waited for no longer than two seconds", function()
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", FOR_FIVE_SECONDS, taking(6), OK)
        called(gateway)
        gateway.world:advance(6)
        gateway:start()
        local began = gateway.world:clock()
        equal(gateway:post().status, 200)
        local waited = gateway.world:clock() - began
        equal(waited > 1.9 and waited < 2.1, true, "seconds")
    end)
end)


describe("a failing backend", function()
    it("cools down if another one answers the same request", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(500), OK)
        equal({ called(gateway), called(gateway) }, { "a b", "b" })
        gateway.world:advance(11)
        equal(called(gateway), "a")
    end)

    it("does not cool down for a request that fails everywhere", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(500), failure(500), OK)
        gateway:serve("b", failure(500))
        equal({ called(gateway), called(gateway), called(gateway) }, { "a b", "a b", "a" })
    end)

    it("cools down if a different request fails there as well", function()
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", failure(500))
        called(gateway)
        equal(gateway:metric("genai_cooldowns_total"), "")
        called(gateway, { body = { model = "gpt-4o", other = true } })
        equal(gateway:metric("genai_cooldowns_total"), "a other failing=1")
    end)

    it("is tried for want of another one, at most three of them", function()
        local gateway = new_gateway({ backends = { "a", "b", "c", "d", "e" } })
        for _, name in ipairs({ "a", "b", "c", "d" }) do
            gateway:serve(name, failure(500))
        end
        called(gateway)
        gateway:serve("e", failure(500))
        equal(called(gateway), "e a b c")
    end)

    it("that works when it is tried for want of another one is in use again", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(500), OK)
        gateway:serve("b", OK, { refuses = "connection refused" })
        called(gateway)
        equal({ called(gateway), called(gateway) }, { "b a", "a" })
    end)

    it("never cools down where the settings say so", function()
        local gateway = new_gateway({ proxy = { cooldown = { default_ms = 0, max_ms = 0 } } })
        gateway:serve("a", failure(500), failure(500), OK)
        equal({ called(gateway), called(gateway), called(gateway) }, { "a b", "a b", "a" })
    end)
end)


describe("a backend that cannot be reached", function()
    it("is skipped for one second, then for two at a time", function()
        local gateway = new_gateway()
        gateway:serve("a", { refuses = "connection refused" })
        called(gateway)
        gateway.world:advance(0.9)
        equal(called(gateway), "b", "after 0.9 s")
        gateway.world:advance(0.2)
        equal(called(gateway), "a b", "after 1.1 s")
        gateway.world:advance(1.8)
        equal(called(gateway), "b", "after 1.8 s more")
        gateway.world:advance(0.3)
        equal(called(gateway), "a b", "after 2.1 s")
    end)

    it("is skipped for the default time where it took long to find that out", function()
        local gateway = new_gateway()
        gateway:serve("a", { refuses = "timeout", takes = 5 }, OK)
        called(gateway)
        gateway.world:advance(9.9)
        equal(called(gateway), "b")
        gateway.world:advance(0.2)
        equal(called(gateway), "a")
    end)

    it("is tried ten times a second at most for want of another one", function()
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", { refuses = "connection refused" })
        called(gateway)
        equal({ called(gateway), called(gateway) }, { "a", "" })
        equal(gateway:post().json.error.code, "upstream_unavailable")
        gateway.world:advance(0.125)
        equal(called(gateway), "a")
    end)

    it("is skipped for all of its deployments", function()
        local gateway = new_gateway()
        gateway:serve("a", { refuses = "connection refused" })
        called(gateway)
        equal(called(gateway, { model = "o3" }), "b")
    end)
end)


describe("a backend that refuses", function()
    it("one operation for want of a permission is skipped for that operation", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(401, nil, "PermissionDenied"), OK)
        equal({ called(gateway), called(gateway), called(gateway, { path = "/openai/v1/embeddings" }) },
              { "a b", "b", "a" })
    end)

    it("a deployment that it does not have is skipped for that deployment for five minutes", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(404, nil, "DeploymentNotFound"), OK)
        equal({ called(gateway), called(gateway), called(gateway, { model = "o3" }) }, { "a b", "b", "a" })
        gateway.world:advance(301)
        equal(called(gateway), "a")
    end)

    it("a request for another reason is asked again at once", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(403, nil, "feature_gated"), OK)
        equal({ called(gateway), called(gateway) }, { "a b", "a" })
    end)
end)


describe("backends of one priority", function()
    local function spread(options, requests)
        local gateway = new_gateway(options)
        local counts = {}
        for i = 1, requests do
            local name = called(gateway, options.request and options.request(i))
            counts[name] = (counts[name] or 0) + 1
        end
        return counts
    end

    it("get requests by their weights", function()
        equal(spread({ backends = { { name = "a", priority = 1, weight = 3 }, { name = "b", priority = 1 },
                                    { name = "c", priority = 1, weight = 0 } } }, 8), { a = 6, b = 2 })
    end)

    it("get those of one client where a consistent hash says so", function()
        local counts = spread({
            backends = { { name = "a", priority = 1 }, { name = "b", priority = 1 } },
            pool = { balancer = { algorithm = "chash", hash_on = "consumer" } },
        }, 5)
        equal(counts.a or counts.b, 5)
    end)

    it("get those of one value of a header where a consistent hash says so", function()
        local counts = spread({
            backends = { { name = "a", priority = 1 }, { name = "b", priority = 1 } },
            pool = { balancer = { algorithm = "chash", hash_on = "header", key = "X-Session" } },
            request = function(i)
                return { headers = { ["x-session"] = "session " .. i % 8 } }
            end,
        }, 16)
        equal({ counts.a % 2, counts.b % 2, counts.a > 0, counts.b > 0 }, { 0, 0, true, true })
    end)

    it("are chosen by their latency where the setting says so", function()
        local gateway = new_gateway({ proxy = { balancer = "latency" }, backends = {
            { name = "a", priority = 1 }, { name = "b", priority = 1 } } })
        gateway:serve("a", taking(2))
        gateway:serve("b", taking(0.25))
        called(gateway)
        called(gateway)
        equal({ called(gateway), called(gateway), called(gateway) }, { "b", "b", "b" })
    end)
end)


describe("a request for a deployment", function()
    local RENAMED = { { name = "a", deployments = { ["gpt-4o"] = "four" } }, "b" }

    it("gets the backend's own name for it, in its body and in its path", function()
        local gateway = new_gateway({ backends = RENAMED })
        gateway:post({ body = '{"model":"gpt-4o","x":1}' })
        gateway:post({ path = "/openai/deployments/gpt-4o/chat/completions?x=1", body = "{}" })
        local sent = gateway:sent_to("a")
        equal({ sent[1].body, sent[1].headers["content-length"], sent[2].target },
              { '{"model":"four","x":1}', "22", "/openai/deployments/four/chat/completions?x=1" })
    end)

    it("goes to the backends that serve it", function()
        local gateway = new_gateway({ backends = RENAMED })
        equal(called(gateway, { model = "o3" }), "b")
    end)

    it("that no backend serves gets 404 without a call", function()
        local gateway = new_gateway({ backends = { RENAMED[1] } })
        local request = gateway:post({ model = "o3" })
        equal({ request.status, request.json.error.code, gateway:called() },
              { 404, "DeploymentNotFound", "" })
        equal(request.var.genai_requested_model, "other", "the name in the log, which may be anything")
    end)

    it("of a client that may not have it gets 403 without a call", function()
        local gateway = new_gateway({ models = { "gpt-4o" } })
        local request = gateway:post({ model = "o3" })
        equal({ request.status, request.json.error.code, gateway:called() }, { 403, "model_not_allowed", "" })
    end)
end)


describe("unhealthy backends", function()
    local function with_unhealthy(...)
        local gateway = new_gateway({ backends = THREE, proxy = { health_checks = {
            path = "/", timeout_ms = 1000, verify_certificate = true, healthy_interval_ms = 60000,
            unhealthy_interval_ms = 60000,
        } } })
        local cooldown = gateway.worker.require("genai.balancing.cooldown")
        for _, name in ipairs({ ... }) do
            local id = name .. "|https://" .. name
            cooldown.mark_health(gateway.world.state, id, "unhealthy|" .. id,
                                 gateway.worker.ngx.now() * 1000, 100)
        end
        return gateway
    end

    it("are skipped", function()
        local gateway = with_unhealthy("a", "b")
        equal(called(gateway), "c")
        equal(gateway:metric("genai_attempts_total"),
              "a gpt-4o skipped_unhealthy=1, b gpt-4o skipped_unhealthy=1, c gpt-4o ok=1")
    end)

    it("are asked where all of them are", function()
        equal(called(with_unhealthy("a", "b", "c")), "a")
    end)
end)
