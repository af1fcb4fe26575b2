--- The end of a request: what is still under way ends, once, whichever plugin asks first.

local harness = require("harness")
local mutants = require("mutants")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, OK = test_gateway.failure, test_gateway.OK

local HANGS = { times_out = true }


local function after_a_refused_client(sources)
    local gateway = test_gateway.new({ backends = { "a" }, sources = sources })
    local request = gateway:post({ headers = { ["api-key"] = "wrong" } })
    equal({ request.status, request.var.genai_error }, { 401, "invalid_api_key" })
end


local function gives_the_memory_of_the_body_back(sources)
    local gateway = test_gateway.new({ backends = { "a" }, sources = sources })
    gateway:serve("a", { times_out = true })
    local request = gateway:start()
    local memory = gateway.worker.require("gateway.exchange.body_memory")
    equal(memory.used() > 0, true, "memory is counted while the request lasts")
    gateway:finish(request)
    equal({ memory.used(), gateway.world.state:get("body-memory|0") }, { 0, 0 }, "memory at the end")
end


local function ends_the_open_attempt(sources)
    local gateway = test_gateway.new({ backends = { "a", "b" }, sources = sources })
    gateway:serve("a", failure(500))
    gateway:serve("b", HANGS)
    local request = gateway:post({ leaves_at = 2 })
    equal(request.var.genai_attempts, "a:500:server_error:0 b::client_abort:2000")
    equal(gateway:metric("llm_active_connections"), "", "active connections")
    equal(gateway:metric("genai_attempts_total"), "a other server_error=1, b other client_abort=1")
end


local function ends_no_attempt_twice(sources)
    local gateway = test_gateway.new({ backends = { "a" }, sources = sources })
    gateway:post()
    equal(gateway:metric("genai_attempts_total"), "a gpt-4o ok=1")
end


-- The backend's cooldown has ended, and one request tries it. Its client goes away.
local function gives_the_probe_back(sources)
    local gateway = test_gateway.new({ backends = { "a" }, sources = sources })
    gateway:serve("a", failure(429, { ["retry-after"] = "5" }), HANGS, OK)
    gateway:post()
    gateway.world:advance(6)
    gateway:post({ leaves_at = 1 })
    local began = gateway.world:clock()
    equal(gateway:post().status, 200)
    equal(gateway.world:clock() - began, 0, "seconds that the next request waits")
end


local function stops_waiting_for_latency(sources)
    local gateway = test_gateway.new({ backends = { "a", "b" }, proxy = { balancer = "latency" },
                                       sources = sources })
    gateway:serve("a", { takes = 0.25, status = 200, body = OK.body, headers = OK.headers }, HANGS)
    local record = gateway:post().record
    local backend = record.pool.backends[1]
    local known = backend.memory.known("whole|gpt-4o")
    equal({ known.waiting, gateway.world.state:get(known.key) ~= nil }, { 0, true }, "after an answer")
    gateway:post({ leaves_at = 1 })
    equal(known.waiting, 0, "after a client that went away")
end


local function counts_skipped_backends(sources)
    local gateway = test_gateway.new({ backends = { "a", "b" }, sources = sources })
    gateway:serve("a", failure(429, { ["retry-after"] = "5" }))
    gateway:post()
    gateway:post()
    equal(gateway:metric("genai_attempts_total"),
          "a gpt-4o skipped_cooling=1, a gpt-4o throttled=1, b gpt-4o ok=2")
end


-- One request waits for the answer of another one, whose client goes away.
local function ends_its_part_in_the_cache(sources)
    local gateway = test_gateway.new({
        backends = { "a" }, sources = sources,
        proxy = { cache = { ttl_ms = 60000, scope = "client", operations = { "chat_completions" },
                            max_entry = 65536, arriving_memory = 1048576 } },
    })
    gateway:serve("a", HANGS, { takes = 0.25, status = 200, body = OK.body, headers = OK.headers })
    local first = gateway:start({ leaves_at = 1 })
    local second = gateway:start({ leaves_at = 0.5 })
    local third = gateway:start()
    gateway:finish(first)
    equal(gateway:finish(second).status, 499)
    equal(gateway:finish(third).status, 200)
    equal(gateway:called(), "a a", "the third takes over when the first has failed")
end


local CHECKS = {
    { "ends its part in the cache", ends_its_part_in_the_cache },
    { "settles a request of a client that is not known", after_a_refused_client },
    { "gives the memory of the body back", gives_the_memory_of_the_body_back },
    { "ends the attempt that is under way when the client goes away", ends_the_open_attempt },
    { "ends no attempt a second time", ends_no_attempt_twice },
    { "gives the right to try a backend back", gives_the_probe_back },
    { "stops waiting for a backend's first byte", stops_waiting_for_latency },
    { "counts the backends that were skipped", counts_skipped_backends },
}


describe("settling a request", function()
    for _, each in ipairs(CHECKS) do
        it(each[1], function()
            each[2]({})
        end)
    end

    it("fails a check without any one of the statements that close it", function()
        mutants.are_caught("gateway.request.settlement", "local function close(record)", CHECKS, {
            ["always `if record.pool.by_latency then`"] = "without the setting, nothing is waited for",
        })
    end)
end)
