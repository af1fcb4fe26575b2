--- Soft affinity: requests with the same value go to the same backend while that can be used.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure = test_gateway.failure

local EQUAL = { { name = "a", priority = 1 }, { name = "b", priority = 1 }, { name = "c", priority = 1 } }
local THROTTLED = failure(429, { ["retry-after"] = "20" })
local RESPONSES, CHAT = "/openai/v1/responses", "/openai/v1/chat/completions"


local function gateway_by(soft_affinity, options)
    options = options or {}
    options.backends = options.backends or EQUAL
    options.proxy = { soft_affinity = soft_affinity, balancer = options.balancer }
    return test_gateway.new(options)
end


local function place_of(gateway, request)
    gateway.world.network.connected = {}
    gateway:post(request)
    return gateway:called()
end


local function keyed(key, path, more)
    local body = { model = "gpt-4o", input = "x", messages = {}, prompt_cache_key = key }
    for name, value in pairs(more or {}) do
        body[name] = value
    end
    return { path = path or RESPONSES, body = body }
end


-- The places of some requests, each once.
local function places(gateway, make, count)
    local seen, list = {}, {}
    for i = 1, count do
        local place = place_of(gateway, make(i))
        if not seen[place] then
            seen[place] = true
            list[#list + 1] = place
        end
    end
    return list
end


describe("requests with the same prompt_cache_key", function()
    local BY_KEY = { on = "prompt_cache_key" }

    it("go to one backend, of each API and with each model", function()
        local gateway = gateway_by(BY_KEY)
        local place = place_of(gateway, keyed("session 1"))
        for _, request in ipairs({
            keyed("session 1"), keyed("session 1", CHAT), keyed("session 1", nil, { stream = true }),
            keyed("session 1", nil, { model = "o3" }),
            keyed("session 1", "/openai/deployments/gpt-4o/chat/completions?api-version=1"),
            keyed("session 1", RESPONSES .. "/compact"),
        }) do
            equal(place_of(gateway, request), place)
        end
    end)

    it("go to the same one in another worker and another replica", function()
        local gateway = gateway_by(BY_KEY)
        local worker, replica = gateway_by(BY_KEY, { world = gateway.world }), gateway_by(BY_KEY)
        for i = 1, 20 do
            local place = place_of(gateway, keyed("session " .. i))
            equal({ place_of(worker, keyed("session " .. i)), place_of(replica, keyed("session " .. i)) },
                  { place, place })
        end
    end)

    it("are spread over all backends by their keys", function()
        local gateway = gateway_by(BY_KEY)
        equal(#places(gateway, function(i)
            return keyed("session " .. i)
        end, 30), 3)
    end)

    it("go elsewhere together while their backend is throttled, and back afterwards", function()
        local gateway = gateway_by(BY_KEY)
        local home = place_of(gateway, keyed("k"))
        gateway:serve(home, THROTTLED, test_gateway.OK)
        local both = place_of(gateway, keyed("k"))
        local next_one = both:match("^" .. home .. " (%a)$")
        for _ = 1, 5 do
            equal(place_of(gateway, keyed("k")), next_one)
        end
        gateway.world:advance(21)
        equal(place_of(gateway, keyed("k")), home)
    end)

    it("go only to backends that serve the deployment, and by priority", function()
        local gateway = gateway_by(BY_KEY, { backends = {
            { name = "a", priority = 1, deployments = { o3 = "o3" } }, { name = "b", priority = 1 },
            { name = "c", priority = 0 }, { name = "d", priority = 1, weight = 0 },
        } })
        equal(places(gateway, function(i)
            return keyed("session " .. i)
        end, 12), { "b" })
    end)

    it("go elsewhere while their backend has far more in flight than its share", function()
        local gateway = gateway_by(BY_KEY)
        local home = place_of(gateway, keyed("hot"))
        gateway:serve(home, { takes = 100, status = 200, headers = test_gateway.OK.headers,
                              body = test_gateway.OK.body })
        local waiting = {}
        for i = 1, 12 do
            waiting[i] = gateway:start(keyed("hot"))
        end
        gateway.world:advance(1)
        local memory
        for _, each in ipairs(waiting[1].ctx.genai.pool.backends) do
            memory = each.name == home and each.memory or memory
        end
        equal(memory.in_flight >= 2 and memory.in_flight <= 12 * 1.25 / 3 + 3, true,
              "in flight: " .. memory.in_flight)
        for _, each in ipairs(waiting) do
            gateway:finish(each)
        end
        equal(memory.in_flight, 0, "at the end")
    end)

    it("are balanced like others where they have none, or none that is a text", function()
        local gateway = gateway_by(BY_KEY)
        for _, request in ipairs({ keyed(nil), keyed(""), keyed(7), keyed(nil, CHAT, { x = {
            prompt_cache_key = "nested" } }), { path = "/openai/v1/models", method = "GET" } }) do
            equal(#places(gateway, function()
                return request
            end, 3), 3)
        end
    end)

    it("send their bytes unchanged, a repeated key too", function()
        local gateway = gateway_by(BY_KEY)
        local body = '{"prompt_cache_key":"a","model":"gpt-4o","prompt_cache_key": "b" ,"messages":[]}'
        local place = place_of(gateway, { path = CHAT, body = body })
        local sent = gateway:sent_to(place)
        equal(sent[#sent].body, body)
    end)
end)


describe("soft affinity", function()
    it("goes by the client", function()
        local gateway = gateway_by({ on = "client" })
        equal(#places(gateway, function(i)
            return { model = "model-" .. i }
        end, 6), 1)
    end)

    it("goes by a header, and without it by LB_ALG", function()
        local gateway = gateway_by({ on = "header", header = "x-session" })
        equal(#places(gateway, function()
            return { headers = { ["X-Session"] = "s1" } }
        end, 6), 1)
        equal(#places(gateway, function()
            return {}
        end, 3), 3)
    end)

    it("comes after the owner of what a request names", function()
        local gateway = gateway_by({ on = "prompt_cache_key" })
        gateway:serve("a", { status = 200, headers = test_gateway.OK.headers, body = '{"id":"resp_1"}' })
        gateway:serve("b", { status = 200, headers = test_gateway.OK.headers, body = '{"id":"resp_2"}' })
        gateway:serve("c", { status = 200, headers = test_gateway.OK.headers, body = '{"id":"resp_3"}' })
        local owner = place_of(gateway, keyed("k1"))
        local id = ({ a = "resp_1", b = "resp_2", c = "resp_3" })[owner]
        for i = 1, 8 do
            equal(place_of(gateway, keyed("other " .. i, nil, { previous_response_id = id })), owner)
        end
    end)

    it("goes together with LB_ALG=latency", function()
        local gateway = gateway_by({ on = "prompt_cache_key" }, { balancer = "latency" })
        equal(#places(gateway, function()
            return keyed("k")
        end, 6), 1)
    end)
end)
