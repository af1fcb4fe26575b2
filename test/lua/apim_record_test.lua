local apim_record = require("genai.telemetry.apim_record")
local targets = require("genai.openai.targets")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local CONF = { gateway_id = "east", product_id = "genai" }


local function record(more)
    local seen = {
        started_at = 1700000000.0625,
        total_ms = 120,
        status = 200,
        method = "POST",
        path = "/openai/v1/chat/completions",
        client_ip = "10.0.0.1",
        correlation_id = "c",
        request_id = "r",
        client = "app",
        target = targets.parse("/openai/v1/chat/completions", "/openai/v1/chat/completions",
                               "POST"),
        lane = "high",
        request_headers = {},
        response_headers = {},
    }
    for name, value in pairs(more or {}) do
        seen[name] = value
    end
    return apim_record.of(seen, CONF)
end


describe("apim_record: columns", function()
    it("are there for what never came to a backend", function()
        equal(record(), {
            TimeGenerated = "2023-11-14T22:13:20.062Z", OperationName = "chat_completions",
            ApiId = "openai-chat", ProductId = "genai", SubscriptionId = "app",
            ResponseCode = 200, TotalTime = 120, Method = "POST",
            Url = "/openai/v1/chat/completions", GatewayId = "east",
            CallerIpAddress = "10.0.0.1", CorrelationId = "c", RequestId = "r",
            RequestHeaders = {}, ResponseHeaders = {}, Lane = "high",
        })
    end)

    it("name the operation and its API", function()
        for request, expected in pairs({
            ["POST /openai/v1/responses"] = { "responses", "openai-responses" },
            ["DELETE /openai/v1/responses/resp_1"] = { "responses_manage", "openai-responses" },
            ["POST /openai/v1/responses/resp_1/cancel"] = { "responses_manage",
                                                           "openai-responses" },
            ["POST /openai/deployments/d/embeddings"] = { "embeddings", "openai-embeddings" },
            ["POST /openai/v1/images/edits"] = { "images_edits", "openai-images-edits" },
            ["GET /openai/v1/what-is-this"] = { "other", "openai-other" },
        }) do
            local method, path = request:match("^(%S+) (%S+)$")
            local found = record({ target = targets.parse(path, path, method) })
            equal({ found.OperationName, found.ApiId }, expected, request)
        end
        equal(record({ target = false }).OperationName, "other")
    end)

    it("tell of the query no more than a version of the API", function()
        for query, expected in pairs({
            ["api-version=2024-10-21"] = "?api-version=2024-10-21",
            ["a=b&api-version=2024-08-01-preview&key=c"] = "?api-version=2024-08-01-preview",
            ["api-version=preview"] = "?api-version=preview",
            ["api-version=key-0123456789"] = "",
            ["api-version=2024-10-21-key"] = "",
            ["xapi-version=2024-10-21"] = "",
            ["api-key=2024-10-21"] = "",
            [""] = "",
        }) do
            equal(record({ query = query }).Url, "/openai/v1/chat/completions" .. expected, query)
        end
    end)
end)


describe("apim_record: the backend", function()
    local function backend(more)
        more.reached_pool = true
        more.backend_ms = 7
        local found = record(more)
        return { found.BackendId, found.BackendResponseCode, found.BackendTime }
    end

    it("is the one that answered", function()
        equal(backend({ attempts = 2, is_answered = true, last_backend = "b",
                        gateway_status = 404 }), { "b", 404, 7 })
    end)

    it("is the one whose failure the client is told of", function()
        local failure = { backend = { name = "a" }, status = 429, headers = {} }
        equal(backend({ attempts = 2, last_backend = "b", gateway_status = 429,
                        failure = failure }), { "a", 429, 7 })
        failure = { backend = { name = "a" }, status = 502, err = "connection refused" }
        equal(backend({ attempts = 2, last_backend = "b", gateway_status = 502,
                        failure = failure }), { "a", nil, 7 })
    end)

    it("is the one that was waited for when the client went away", function()
        equal(backend({ attempts = 2, last_backend = "b", status = 499,
                        failure = { backend = { name = "a" }, status = 429, headers = {} } }),
              { "b", nil, 7 })
    end)

    it("is the pool where none was called", function()
        equal(backend({ attempts = 0 }), { "pool" })
    end)
end)


describe("apim_record: headers", function()
    it("pass by name, and no other", function()
        local found = record({
            request_headers = {
                ["authorization"] = "Bearer x", ["api-key"] = "x", ["cookie"] = "x",
                ["ocp-apim-subscription-key"] = "x", ["x-api-key"] = "x", ["referer"] = "x",
                ["proxy-authorization"] = "x", ["x-something"] = "x", ["forwarded"] = "x",
                ["x-gw-priority"] = "x", ["x-priority"] = "low", ["User-Agent"] = "a\255",
                ["x-stainless-lang"] = "js", ["accept"] = { "a", "b" }, ["host"] = true,
            },
            response_headers = {
                ["set-cookie"] = "x", ["www-authenticate"] = "x", ["location"] = "x",
                ["x-gw-priority"] = "low", ["x-ratelimit-remaining-tokens"] = "7",
                ["x-ai-high-ratelimit-limit"] = "9", ["retry-after"] = 3,
            },
        })
        equal(found.RequestHeaders, { ["x-priority"] = "low", ["user-agent"] = "a\239\191\189",
                                      ["x-stainless-lang"] = "js", ["accept"] = "a" })
        equal(found.ResponseHeaders, { ["x-gw-priority"] = "low", ["retry-after"] = "3",
                                       ["x-ratelimit-remaining-tokens"] = "7",
                                       ["x-ai-high-ratelimit-limit"] = "9" })
    end)

    it("are bounded, each and all", function()
        local many = {}
        for i = 1, 500 do
            many["x-stainless-" .. i] = ("x"):rep(5000)
        end
        local kept, longest = 0, 0
        for _, value in pairs(record({ request_headers = many }).RequestHeaders) do
            kept, longest = kept + 1, math.max(longest, #value)
        end
        equal({ kept, longest }, { 64, 1024 })
    end)
end)


describe("apim_record: who broke off", function()
    it("is told where somebody did", function()
        local function reason(more)
            return record(more).LastErrorReason
        end
        equal(reason({ status = 499 }), "ClientConnectionFailure")
        equal(reason({ is_answered = true, broken_by = "client" }), "ClientConnectionFailure")
        equal(reason({ is_answered = true, broken_by = "backend" }), "BackendConnectionFailure")
        equal(reason({ is_answered = true }), nil)
        equal(reason({ status = 429 }), nil)
    end)
end)


describe("who served a request, in a record", function()
    it("is the model that a router chose, not a version of the deployment's own", function()
        local function named(answered, asked)
            return record({ answer_model = answered, model = asked }).AnswerModelName
        end
        equal(named("claude-sonnet-4-5", "model-router"), "claude-sonnet-4-5")
        equal(named("gpt-4o-2024-11-20", "chat"), "gpt-4o-2024-11-20")
        equal(named("gpt-4o-2024-11-20", "other"), "gpt-4o-2024-11-20")
        equal({ named("GPT-4o-2024-11-20", "gpt-4o"), named("gpt-4o", "gpt-4o"),
                named(nil, "gpt-4o") }, {})
        equal(named("a", nil), "a")
    end)

    it("is the tier, and whether it was spilled over", function()
        local seen = record({ service_tier = "flex", is_spilled = true })
        equal({ seen.ServiceTier, seen.IsSpilledOver }, { "flex", true })
        equal({ record().ServiceTier, record().IsSpilledOver }, {})
    end)
end)
