--- The answer cache in a world: who gets whose answer, what budgets are charged, and how much memory
-- arriving answers take.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local random = math.random

local CACHE = { ttl_ms = 60000, scope = "client", operations = { "chat_completions" },
                max_entry = 65536, arriving_memory = 1048576 }


local function cache(more)
    local conf = {}
    for name, value in pairs(CACHE) do
        conf[name] = value
    end
    for name, value in pairs(more or {}) do
        conf[name] = value
    end
    return { cache = conf }
end


local CLIENTS = { "anna", "bert", "carl" }

local function key_of(client)
    return "key-of-" .. client
end


local function world_with_clients(options)
    local world = world_module.new(options)
    local list = {}
    for i, name in ipairs(CLIENTS) do
        list[i] = { name = name, key = key_of(name) }
    end
    world:write_file(list)
    return world
end


-- Answers that differ, some of them slow, failing, or streams.
local function numbered_answers(count)
    local list = {}
    for i = 1, count do
        local takes = random(0, 3) / 4
        local kind = random(6)
        if kind == 1 then
            list[i] = test_gateway.failure(400)
        elseif kind == 2 then
            list[i] = test_gateway.stream({ '{"choices":[{"delta":{"content":"answer ' .. i .. '"}}]}',
                                            test_gateway.USAGE, "[DONE]" })
            list[i].takes = takes
        else
            list[i] = { status = 200, takes = takes, headers = { ["content-type"] = "application/json" },
                        body = '{"choices":[{"message":{"content":"answer ' .. i .. '"}}]}' }
        end
    end
    return list
end


-- Random requests of three clients at two workers, some at the same time, some of which leave.
local function run_random_traffic(more, world)
    local conf = cache(more)
    local gateways = {
        test_gateway.new({ backends = { "a" }, proxy = conf, world = world }),
        test_gateway.new({ backends = { "a" }, proxy = conf, world = world }),
    }
    gateways[1]:serve("a", unpack(numbered_answers(150)))
    local seen, open = {}, {}
    local function take(index)
        local each = table.remove(open, index)
        each.gateway:finish(each.request)
        local answer = each.request.text:match("answer %d+")
        if answer then
            seen[answer] = seen[answer] or {}
            seen[answer][each.client] = true
        end
    end
    for number = 1, 300 do
        local client, gateway = CLIENTS[random(3)], gateways[random(2)]
        local request = gateway:start({
            headers = { ["api-key"] = key_of(client) }, stream = random(2) == 1 or nil,
            model = "model-" .. random(3), leaves_at = random(8) == 1 and 0.25 or nil,
        })
        open[#open + 1] = { gateway = gateway, request = request, client = client }
        if random(3) == 1 then
            world:advance(0.1)
        end
        while #open > random(6) do
            take(random(#open))
        end
        if number % 100 == 0 then
            world:advance(61)
        end
    end
    while open[1] do
        take(1)
    end
    return seen
end


describe("the answer cache", function()
    for _, redis in ipairs({ false, true }) do
        it("gives no answer of one client to another, in a random order of things"
           .. (redis and ", with Redis" or ""), function()
            for seed = 1, 3 do
                math.randomseed(seed)
                local more = redis and { redis = { host = "redis", port = 6379, database = 0, tls = false,
                                                   timeout_ms = 500 } } or nil
                local shared = 0
                for answer, clients in pairs(run_random_traffic(more, world_with_clients())) do
                    local count = 0
                    for _ in pairs(clients) do
                        count = count + 1
                    end
                    equal(count, 1, answer)
                    shared = shared + 1
                end
                equal(shared > 10, true, "there are answers")
            end
        end)
    end

    it("shares answers of all clients where the settings say so", function()
        math.randomseed(7)
        local most = 0
        for _, clients in pairs(run_random_traffic({ scope = "gateway" }, world_with_clients())) do
            local count = 0
            for _ in pairs(clients) do
                count = count + 1
            end
            most = math.max(most, count)
        end
        equal(most > 1, true)
    end)

    it("charges nothing for a hit, unless the settings say so", function()
        for _, counts in ipairs({ false, true }) do
            local gateway = test_gateway.new({
                backends = { "a" }, proxy = cache({ counts_tokens = counts }),
                limiters = { ["ai-rate-limiting"] = { rules = {}, limit_strategy = "total_tokens" } },
            })
            gateway.conf["ai-rate-limiting"].rules = nil
            equal(gateway:post().charged.usage.total_tokens, 15)
            local hit = gateway:post()
            equal(hit.response_headers["x-gateway-cache"], "hit")
            equal(hit.charged.usage.total_tokens, counts and 15 or 0)
            equal(hit.record.facts.saved.total, 15)
        end
    end)

    it("is in records and spans what it is", function()
        local gateway = test_gateway.new({ backends = { "a" }, proxy = cache() })
        gateway:post()
        gateway:post()
        local record = gateway:apim_record()
        equal({ record.Cache, record.SavedPromptTokens, record.SavedCompletionTokens, record.PromptTokens,
                record.Attempts }, { "hit", 10, 5, nil, 0 })
        local attempts, server = gateway:spans()
        equal(#attempts, 1)
        equal(server.attributes["genai_gateway.cache"], "hit")
        equal(server.attributes["genai_gateway.saved_prompt_tokens"], 10)
        equal(gateway:metric("genai_cache_requests_total"), "hit  gpt-4o=1, miss  gpt-4o=1")
        equal(gateway:metric("genai_cache_saved_tokens_total"),
              "completion app high gpt-4o gpt-4o=5, prompt app high gpt-4o gpt-4o=10")
    end)

    it("calls its Redis not again for five seconds after an error reply, and says so once", function()
        local redis = { host = "redis", port = 6379, database = 0, tls = false, timeout_ms = 500 }
        local gateway = test_gateway.new({ backends = { "a" }, proxy = cache({ redis = redis }) })
        local server = gateway.world.redis["redis:6379"]
        server.refuses = "NOPERM this user has no permissions to run the 'eval' command"
        equal(gateway:post().status, 200)
        local calls = #server.calls
        equal(gateway:post().status, 200)
        equal({ #server.calls, server.open }, { calls, 0 })
        equal(gateway.world:lines("the Redis of the answer cache at redis:6379 fails: NOPERM", "error"), 1)
        equal(gateway:metric("genai_cache_redis_failures_total"), "=1")
        server.refuses = nil
        gateway.world:advance(5)
        gateway:post()
        equal(gateway:post().response_headers["x-gateway-cache"], "hit")
    end)

    it("goes on calling a Redis whose memory is full, but not one that takes no writes", function()
        local redis = { host = "redis", port = 6379, database = 0, tls = false, timeout_ms = 500 }
        local gateway = test_gateway.new({ backends = { "a" }, proxy = cache({ redis = redis }) })
        local server = gateway.world.redis["redis:6379"]
        local asked = 0
        local function calls_of_a_request()
            local before = #server.calls
            asked = asked + 1
            local body = '{"model":"gpt-4o","messages":[{"role":"user","content":"' .. asked .. '"}]}'
            equal(gateway:post({ body = body }).status, 200)
            return #server.calls - before
        end
        server.scripts.refuses_writes = "OOM command not allowed when used memory > 'maxmemory'."
        equal({ calls_of_a_request() > 0, calls_of_a_request() > 0 }, { true, true })
        equal(gateway:metric("genai_cache_redis_failures_total"), "=2")

        server.scripts.refuses_writes = "READONLY You can't write against a read only replica."
        equal({ calls_of_a_request() > 0, calls_of_a_request() }, { true, 0 })
        equal(gateway.world:lines("the Redis of the answer cache at redis:6379 fails: READONLY", "error"), 1)
        equal(gateway:metric("genai_cache_redis_failures_total"), "=3")
    end)

    it("costs nothing where it is off", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        local request = gateway:post()
        equal(request.response_headers["x-gateway-cache"], nil)
        equal(request.record.cache, nil)
    end)
end)


describe("a flight", function()
    local function flight_of(limits)
        local flights = world_module.new():worker().require("gateway.cache.flights")
        return flights.new({}, "name", limits or { max_entry = 10, memory = 100 }), flights
    end

    it("keeps all bytes until it is over, and then none", function()
        local flight, flights = flight_of()
        flight:open({})
        local follower = flight:join()
        flight:add("abc")
        flight:add("def")
        equal(flights.held(), 6)
        equal({ flights.next_piece(follower), flights.next_piece(follower), flights.next_piece(follower) },
              { "abc", "def" })
        flight:finish({}, {})
        equal(flights.held(), 6)
        flights.leave(follower)
        equal(flights.held(), 0)
    end)

    it("that is too large is lost if nobody follows its bytes", function()
        local flight, flights = flight_of()
        flight:add("0123456789a")
        equal({ flight.state, flight.reason, flights.held() }, { "failed", "too_large", 0 })
    end)

    it("that is too large keeps what its followers have not sent, and cuts off the slow ones", function()
        local flight, flights = flight_of()
        flight:open({})
        local quick, slow = flight:join(), flight:join()
        for i = 1, 8 do
            flight:add(i .. "234")
            equal(flights.next_piece(quick), i .. "234")
        end
        equal({ flight.keeps, slow.is_cut, quick.is_cut }, { false, true, nil })
        equal(flights.held() <= 10, true)
        flight:add("last")
        equal(flights.next_piece(quick), "last")
    end)

    it("takes no more memory than all flights of a worker may", function()
        local first, flights = flight_of({ max_entry = 100, memory = 10 })
        first:add("12345678")
        local second = flights.new({}, "other", { max_entry = 100, memory = 10 })
        second:add("abc")
        equal({ second.state, second.reason, flights.held() }, { "failed", "no_memory", 8 })
    end)
end)


describe("what is sealed", function()
    it("opens with the same secret and for the same place only", function()
        local sealing = world_module.new():worker().require("gateway.cache.sealing")
        local secret, other = ("a"):rep(32), ("b"):rep(32)
        local keys = sealing.keys({ key = secret, previous = other })
        local sealed = sealing.seal("the text", keys.current, "here")
        equal(sealed:find("text", 1, true), nil)
        equal(sealing.open(sealed, keys.current, "here"), "the text")
        equal(sealing.open(sealed, keys.current, "there"), nil)
        equal(sealing.open(sealed, keys.previous, "here"), nil)
        equal(sealing.open(sealed, nil, "here"), nil)
        equal(sealing.open("pthe text", keys.current, "here"), nil, "plain in the place of sealed")
        equal(sealing.open(sealing.seal("x", nil, "here"), nil, "here"), "x")
        equal(sealing.name("digest", keys.current) ~= sealing.name("digest", keys.previous), true)
        equal(sealing.keys({ key = "$env://MISSING" }), nil)
        equal(sealing.keys(nil), {})
    end)
end)


describe("a store of answers", function()
    it("keeps large entries in pieces, and forgets an entry that lost one", function()
        local world = world_module.new()
        local store = world:worker().require("gateway.cache.local_store")
        local text = ("0123456789"):rep(10000)
        equal(store:finish({ name = "digest" }, text, 60), "stored")
        local how, found = store:begin("digest")
        equal({ how, found == text }, { "hit", true })
        local dict = world.dicts["genai-gateway-cache"]
        for key in pairs(dict.entries) do
            if key:sub(1, 1) == "p" then
                dict:delete(key)
                break
            end
        end
        equal({ (store:begin("digest")) }, { "lead" })
        for key in pairs(dict.entries) do
            equal(key:sub(1, 1), "l", "only the claim is left")
        end
    end)
end)
