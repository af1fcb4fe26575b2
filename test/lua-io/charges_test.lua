--- What requests are charged with, and what is reported of them, whichever plugin has its turn first
-- when they end.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream, OK = test_gateway.failure, test_gateway.stream, test_gateway.OK
local OUTPUT, USAGE = test_gateway.OUTPUT, test_gateway.USAGE

local BUDGET = { limit_strategy = "total_tokens", rejected_code = 429, rejected_msg = "rate limited" }
local BY_REQUESTS = { limit_strategy = "expression", cost_expr = "requests", rejected_code = 429,
                      rejected_msg = "rate limited" }

local WITHOUT_USAGE = { status = 200, headers = OK.headers, body = '{"id":"x","choices":[]}' }

-- Of the body that `post` sends: a token for four bytes.
local PROMPT = 15


local function new_gateway(options)
    options = options or {}
    options.backends = options.backends or { "a", "b" }
    options.limiters = options.limiters or { ["ai-rate-limiting"] = BUDGET }
    return test_gateway.new(options)
end


local function tokens(prompt, completion, total)
    return { prompt_tokens = prompt, completion_tokens = completion, total_tokens = total }
end


describe("the budget of tokens is charged", function()
    local function charged(answer, request)
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", answer)
        return gateway:post(request).charged
    end

    it("with the usage of an answer", function()
        equal(charged(OK), { usage = tokens(10, 5, 15) })
    end)

    it("with the usage at the end of a stream", function()
        equal(charged(stream({ OUTPUT, USAGE }), { stream = true }), { usage = tokens(7, 3, 10) })
    end)

    it("with an estimate of an answer without usage", function()
        equal(charged(WITHOUT_USAGE), { usage = tokens(PROMPT, 0, PROMPT) })
    end)

    it("with an estimate of a stream without usage: an event is a token", function()
        local body = { model = "gpt-4o", stream = true }
        local length = #require("json_text").encode(body)
        local prompt = math.floor(length / 4)
        equal(charged(stream({ OUTPUT, OUTPUT, "[DONE]" }), { body = body }),
              { usage = tokens(prompt, 3, prompt + 3) })
    end)

    it("with nothing for an error of the backend", function()
        equal(charged(failure(400)), { usage = tokens(0, 0, 0) })
    end)

    it("with nothing where no backend answered", function()
        equal(charged(failure(500)), { usage = tokens(0, 0, 0) })
    end)

    it("with the usage of an image", function()
        equal(charged(OK, { path = "/openai/v1/images/generations" }), { usage = tokens(10, 5, 15) })
    end)

    it("with no estimate of what is no text", function()
        equal(charged(WITHOUT_USAGE, { path = "/openai/v1/images/generations" }), { usage = tokens(0, 0, 0) })
    end)

    it("not at all for what costs nothing, such as fetching a response", function()
        equal(charged(OK, { path = "/openai/v1/responses/resp_1", method = "GET" }), nil)
    end)

    it("not at all for a client without a budget of its own", function()
        local limiter = { limit_strategy = "total_tokens", rules = { { key = "${genai_client_minute}" } } }
        local gateway = new_gateway({ limiters = { ["ai-rate-limiting"] = limiter } })
        equal(gateway:post().charged, nil)
    end)
end)


describe("a budget of requests is charged", function()
    local function charged(answer, request)
        local gateway = new_gateway({ backends = { "a" }, limiters = { ["ai-rate-limiting"] = BY_REQUESTS } })
        gateway:serve("a", answer)
        return gateway:post(request).charged.raw
    end

    it("with one for an answer", function()
        equal(charged(OK), { requests = 1 })
    end)

    it("with one for an answer that costs no tokens", function()
        equal(charged(OK, { path = "/openai/v1/responses/resp_1", method = "GET" }), { requests = 1 })
    end)

    it("with one for an error of the client", function()
        equal(charged(failure(400)), { requests = 1 })
    end)

    it("with none where no backend answered", function()
        equal(charged(failure(503)), { requests = 0 })
    end)
end)


local OURS = { "azure-openai-proxy", "azure-openai-limits", "apim-gateway-logger", "azure-openai-metrics" }


-- All orders of a list.
local function permutations(list)
    if #list == 0 then
        return { {} }
    end
    local result = {}
    for i, each in ipairs(list) do
        local rest = {}
        for k, other in ipairs(list) do
            rest[#rest + 1] = k ~= i and other or nil
        end
        for _, order in ipairs(permutations(rest)) do
            table.insert(order, 1, each)
            result[#result + 1] = order
        end
    end
    return result
end


local function increase(before, after)
    local changes = {}
    for key, value in pairs(after) do
        -- The page itself, and records of earlier requests that were sent meanwhile.
        local is_other = key:find("^genai_metrics_") or key:find("^genai_apim_records_")
        if value ~= before[key] and not is_other then
            changes[key] = value - (before[key] or 0)
        end
    end
    return changes
end


-- What spans say, without what differs from one request to the next.
local function without_ids(spans, first)
    local list = {}
    for i = first, #spans do
        local span = spans[i]
        list[#list + 1] = { span.name, span.kind, span.attributes, span.error or "none",
                            span.ended - span.started }
    end
    return list
end


-- Everything that is reported of one request; and the metrics after it.
local function reported(gateway, options, before)
    local first = #gateway.world.spans + 1
    local request = gateway:post(options)
    local after = gateway:metrics()
    local changes = increase(before, after)
    local record = gateway:apim_record()
    record.TimeGenerated = nil
    request.var.genai_trace_id = nil
    return { variables = request.var, charged = request.charged or "nothing", metrics = changes,
             spans = without_ids(gateway.world.spans, first), record = record,
             summary = request.ctx.llm_summary or "none" }, after
end


local function served(...)
    local answers = { ... }
    return function(gateway)
        gateway:serve("a", unpack(answers))
    end
end


-- What ends in each order of the log phases.
local ENDS = {
    { "an answer", served(OK), {} },
    { "an answer without usage", served(WITHOUT_USAGE), {} },
    { "a stream after a failover", function(gateway)
        gateway:serve("a", failure(500))
        gateway:serve("b", stream({ OUTPUT, USAGE }))
    end, { stream = true } },
    { "a client that goes away", served({ times_out = true }), { leaves_at = 2 } },
    { "a stream that breaks off", served(stream({ OUTPUT }, "closed")), { stream = true } },
    { "no answer", function(gateway)
        gateway:serve("a", failure(500))
        gateway:serve("b", failure(503))
    end, {} },
    { "a client that is not known", served(OK), { headers = { ["api-key"] = "wrong" } } },
    { "a rejection by a limiter", function(gateway)
        gateway.rejects["ai-rate-limiting"] = {}
    end, {} },
}


describe("reports and charges do not depend on the order of the log phases:", function()
    for _, each in ipairs(ENDS) do
        local about, script, options = unpack(each)
        it(about, function()
            local gateway = new_gateway({ proxy = {
                cooldown = { default_ms = 0, max_ms = 0 }, affinity = { ttl_s = 1 }, stream_hold_ms = 1000,
                retry_statuses = { 500, 503 }, backend_header = true,
            } })
            script(gateway)
            -- The first request learns the name of the model, for instance.
            gateway:post(options)
            gateway:apim_record()
            local expected, metrics = reported(gateway, options, gateway:metrics())
            for _, order in ipairs(permutations(OURS)) do
                -- APISIX's limiter charges when one of them has had its turn.
                table.insert(order, 2, "ai-rate-limiting")
                options.log_order = order
                local found
                found, metrics = reported(gateway, options, metrics)
                equal(found, expected, table.concat(order, ", "))
            end
        end)
    end
end)
