--- Clients that close their connection, in each phase of a request.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream, OK = test_gateway.failure, test_gateway.stream, test_gateway.OK
local PREAMBLE, OUTPUT = test_gateway.PREAMBLE, test_gateway.OUTPUT

local RESPONSES = "/openai/v1/responses"
local IDENTITY = { resource = "https://cognitiveservices.azure.com" }
local TOKEN = { status = 200, body = '{"access_token":"t","expires_in":"3600"}', takes = 4 }


local function backend_a(...)
    local answers = { ... }
    return function(gateway)
        gateway:serve("a", unpack(answers))
    end
end


-- The only backend has just ended its cooldown, and another request tries it.
local function probed_by_another(gateway)
    gateway:serve("a", failure(429, { ["retry-after"] = "5" }), { times_out = true })
    gateway:post()
    gateway.world:advance(6)
    gateway:start({ leaves_at = 4 })
end


-- Both backends are asked for a response that nobody remembers.
local function search(gateway)
    gateway:serve("a", { times_out = true })
    gateway:serve("b", { times_out = true })
end


-- `attempts` are those of the access log, `error` is what it says went wrong.
local CASES = {
    { "its body arrives", request = { upload_takes = 5 }, leaves_at = 2, attempts = nil },
    { "the gateway waits for a token", gateway = { backends = { { name = "a", identity = IDENTITY } } },
      script = function(gateway)
        gateway:serve("169.254.169.254", TOKEN)
    end, leaves_at = 2, attempts = "a::client_abort:2000" },
    { "a connection is made", script = backend_a({ refuses = "timeout", takes = 5 }), leaves_at = 2,
      attempts = "a::client_abort:2000" },
    { "the backend has not answered", script = backend_a({ times_out = true }), leaves_at = 2,
      attempts = "a::client_abort:2000" },
    { "the second backend has not answered", script = function(gateway)
        gateway:serve("a", failure(500))
        gateway:serve("b", { times_out = true })
    end, leaves_at = 2, attempts = "a:500:server_error:0 b::client_abort:2000" },
    { "the body of an error arrives",
      script = backend_a({ status = 503, headers = OK.headers, pieces = { "{", 5, "}" } }), leaves_at = 1,
      attempts = "a:503:client_abort:1000" },
    { "the first events of a stream are held back", request = { stream = true },
      script = backend_a(stream({ PREAMBLE, 0.75, OUTPUT })), leaves_at = 0.5,
      attempts = "a:200:client_abort:500" },
    { "a stream is sent", request = { stream = true },
      script = backend_a(stream({ OUTPUT, 5, OUTPUT })), leaves_at = 2, status = 200,
      attempts = "a:200:client_abort:2000" },
    { "an answer in one piece is sent",
      script = backend_a({ status = 200, headers = { ["content-type"] = "audio/mpeg" },
                           pieces = { "one", 5, "two" } }), leaves_at = 2, status = 200,
      attempts = "a:200:client_abort:2000" },
    { "another request tries the only backend", gateway = { backends = { "a" } },
      script = probed_by_another, leaves_at = 1, attempts = nil },
    { "the owner of a stored response is looked for", script = search, leaves_at = 2,
      request = { method = "GET", path = RESPONSES .. "/resp_1" }, attempts = nil },
    { "the gateway asks whether its key is accepted", script = function(gateway)
        local refusal = failure(401, nil, "invalid_api_key")
        gateway:serve("a", refusal, { times_out = true })
        gateway:serve("b", failure(403, nil, "denied"))
    end, leaves_at = 2, attempts = "a:401:credentials:0 b:403:refused:0" },
}


describe("a client that goes away while", function()
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local options = case.gateway or {}
            options.backends = options.backends or { "a", "b" }
            local gateway = test_gateway.new(options)
            if case.script then
                case.script(gateway)
            end
            local cooldowns = gateway:metric("genai_cooldowns_total")
            local request = case.request or {}
            request.leaves_at = case.leaves_at
            local done = gateway:post(request)
            equal({ status = done.status, attempts = done.var.genai_attempts, error = done.var.genai_error,
                    source = done.var.genai_error_source, failover = done.var.genai_failover },
                  { status = case.status or 499, attempts = case.attempts, error = "client_abort",
                    source = "client",
                    failover = case.attempts and (case.attempts:find(" ") and "failed" or "") or nil })

            -- It leaves nothing behind: no connection, no memory, nothing under way, no cooldown.
            gateway.world:advance(10)
            local memory = gateway.worker.require("gateway.exchange.body_memory")
            equal({ gateway:metric("llm_active_connections"), memory.used() }, { "", 0 })
            equal(gateway.world.network:open(), 0, "open connections")
            equal(gateway:metric("genai_cooldowns_total"), cooldowns, "cooldowns")
            local _, span = gateway:spans()
            equal({ span.attributes["error.type"], span.error }, { "client_abort", nil }, "span")
            local record = gateway:apim_record()
            equal(record.LastErrorReason, "ClientConnectionFailure", "APIM-style record")
        end)
    end

    it("a chunk is written to it", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        gateway:serve("a", stream({ OUTPUT, OUTPUT, OUTPUT }))
        local request = gateway:post({ stream = true, leaves_after = 1 })
        equal({ request.exit_code, request.var.genai_attempts }, { 499, "a:200:client_abort:0" })
        equal(#request.chunks, 1)
        equal(gateway.world.network:open(), 0, "open connections")
    end)
end)


describe("a client that went away", function()
    it("leaves its backend to the next request at once", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        gateway:serve("a", { times_out = true }, OK)
        gateway:post({ leaves_at = 2 })
        equal({ gateway:post().status, gateway:metric("genai_cooldowns_total") }, { 200, "" })
    end)

    it("pays for what it got of an answer", function()
        local gateway = test_gateway.new({ backends = { "a" }, limiters = {
            ["ai-rate-limiting"] = { limit_strategy = "total_tokens", rejected_code = 429 },
        } })
        gateway:serve("a", stream({ OUTPUT, OUTPUT, 5, OUTPUT }))
        local request = gateway:post({ stream = true, leaves_at = 2 })
        equal(request.charged.usage.completion_tokens, 2)
    end)

    it("pays nothing for an answer that had not begun", function()
        local gateway = test_gateway.new({ backends = { "a" }, limiters = {
            ["ai-rate-limiting"] = { limit_strategy = "total_tokens", rejected_code = 429 },
        } })
        gateway:serve("a", { times_out = true })
        equal(gateway:post({ leaves_at = 2 }).charged.usage.total_tokens, 0)
    end)
end)
