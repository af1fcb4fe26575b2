--- Requests that a limiter rejects: who rejected them, with which code, and what the limiters look at.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal

local MESSAGES = { ["ai-rate-limiting"] = "rate limited", ["limit-count"] = "Request quota exceeded.",
                   ["limit-req"] = "Too many requests. Please retry after some time." }

-- In the order in which they have their turn.
local ORDER = { "ai-rate-limiting", "limit-count", "limit-req" }

-- What each of them sends along, and the delay that follows.
local HEADERS = {
    ["ai-rate-limiting"] = { ["X-AI-high-RateLimit-Remaining"] = "0", ["X-AI-high-RateLimit-Reset"] = "30" },
    ["limit-count"] = { ["X-quota-RateLimit-Remaining"] = "0", ["X-quota-RateLimit-Reset"] = "45" },
    ["limit-req"] = {},
}
local RETRY_MS = { ["ai-rate-limiting"] = "30010", ["limit-count"] = "45010", ["limit-req"] = "2000" }


local function limiters(code)
    return {
        ["ai-rate-limiting"] = { limit_strategy = "total_tokens", rejected_code = code,
                                 rejected_msg = MESSAGES["ai-rate-limiting"],
                                 rules = { { key = "${genai_lane_high}", header_prefix = "high" },
                                           { key = "${genai_lane_low}", header_prefix = "low" } } },
        ["limit-count"] = { rejected_code = code, rejected_msg = MESSAGES["limit-count"],
                            rules = { { key = "quota#${genai_client}" } } },
        ["limit-req"] = { rejected_code = code, rejected_msg = MESSAGES["limit-req"], rate = 0.5 },
    }
end


local function rejecting(name, code)
    local gateway = test_gateway.new({ backends = { "a" }, limiters = limiters(code) })
    gateway.rejects[name] = HEADERS[name]
    return gateway
end


describe("a rejection by", function()
    for position, name in ipairs(ORDER) do
        for _, code in ipairs({ 429, 503 }) do
            it(name .. " with status " .. code .. " has the code rate_limit_exceeded everywhere", function()
                local gateway = rejecting(name, code)
                local request = gateway:post()
                local _, span = gateway:spans()
                local attributes = span.attributes
                equal({
                    status = request.status,
                    answer = request.json.error.code,
                    type = request.json.error.type,
                    message = request.json.error.message,
                    log = request.var.genai_error,
                    source = request.var.genai_error_source,
                    span = attributes["error.type"],
                    status_of_span = attributes["http.response.status_code"],
                    record = gateway:apim_record().ResponseCode,
                }, {
                    status = code, answer = "rate_limit_exceeded", type = "rate_limit_error",
                    message = MESSAGES[name], log = "rate_limit_exceeded", source = "gateway",
                    span = "rate_limit_exceeded", status_of_span = code, record = code,
                })
                equal(gateway:metric("http_status"), code .. " openai-v1 app high apisix=1")
            end)
        end

        it(name .. " names the limiter, the lane and the delay", function()
            local gateway = rejecting(name, 429)
            local request = gateway:post()
            local headers = request.response_headers
            equal({ headers["x-gateway-ratelimit-lane"], headers["retry-after-ms"] },
                  { "high", RETRY_MS[name] }, "headers")
            local _, span = gateway:spans()
            equal({ request.var.genai_limiter, span.attributes["genai_gateway.limiter"] }, { name, name })
        end)

        it(name .. " is counted once, and limiters before it allowed the request", function()
            local gateway = rejecting(name, 429)
            local request = gateway:post()
            local expected = {}
            for i = 1, position do
                expected[i] = ORDER[i] .. " high app " .. (i == position and "rejected" or "allowed") .. "=1"
            end
            equal(gateway:metric("genai_limiter_decisions_total"), table.concat(expected, ", "))
            equal(#request.checked, position, "limiters that had their turn")
        end)

        it(name .. " makes no attempt and costs nothing", function()
            local gateway = rejecting(name, 429)
            local request = gateway:post()
            equal({ gateway:called(), request.var.genai_attempts }, { "", nil })
            equal(request.charged.usage.total_tokens, 0)
        end)
    end
end)


describe("an answer that is no rejection", function()
    it("is that of throttled backends, though its status is the same", function()
        local gateway = test_gateway.new({ backends = { "a" }, limiters = limiters(429) })
        gateway:serve("a", test_gateway.failure(429, { ["retry-after"] = "9" }))
        local request = gateway:post()
        equal({ request.status, request.var.genai_limiter }, { 429, nil })
        equal(gateway:metric("genai_limiter_decisions_total"), "ai-rate-limiting high app allowed=1,"
              .. " limit-count high app allowed=1, limit-req high app allowed=1")
    end)

    it("is that of another plugin with a message of its own", function()
        local gateway = test_gateway.new({ backends = { "a" }, limiters = limiters(413) })
        gateway.world.settings.nginx_config = { http = { client_max_body_size = "10" } }
        local request = gateway:post()
        equal({ request.status, request.json.error.code, request.var.genai_limiter },
              { 413, "request_too_large", nil })
    end)
end)


describe("a limiter", function()
    it("is skipped for a client without such a limit", function()
        local gateway = test_gateway.new({ backends = { "a" }, limiters = { ["limit-count"] = {
            rejected_code = 429, rejected_msg = "no",
            rules = { { key = "${genai_client_requests}", count = "${genai_client_requests_limit}" } },
        } } })
        gateway.rejects["limit-count"] = {}
        local request = gateway:post()
        equal({ request.status, #request.checked }, { 200, 0 })
        equal(gateway:metric("genai_limiter_decisions_total"), "")
    end)

    it("of tokens does not look at what costs nothing", function()
        local gateway = rejecting("ai-rate-limiting", 503)
        local request = gateway:post({ method = "GET", path = "/openai/v1/responses/resp_1" })
        equal(request.status, 200)
    end)

    it("of a lane rejects the lane that the request asks for", function()
        local gateway = rejecting("ai-rate-limiting", 503)
        local request = gateway:post({ headers = { ["x-priority"] = "low" } })
        equal(request.response_headers["x-gateway-ratelimit-lane"], "low")
        equal(gateway:metric("genai_limiter_decisions_total"), "ai-rate-limiting low app rejected=1")
    end)
end)


-- The variables that rules of limiters name, for a client with this policy.
local function variables(policy, request)
    policy.name, policy.key = "app", test_gateway.CLIENT_KEY
    local world = require("world").new()
    world:write_file({ policy })
    local gateway = test_gateway.new({ backends = { "a" }, world = world })
    local var = gateway:post(request).ctx.var
    local values = {}
    for _, name in ipairs({ "client", "lane_high", "lane_low", "lane_high_client", "lane_low_client",
                            "client_day", "client_day_tokens", "client_minute", "client_minute_tokens",
                            "client_requests", "client_requests_limit" }) do
        values[name] = var["genai_" .. name]
    end
    return values
end


describe("the variables of a request for rules of limits", function()
    it("name its client and its lane", function()
        equal(variables({}), { client = "app", lane_high = "high", lane_high_client = "high#app" })
    end)

    it("are of the low lane where the client is in it", function()
        equal(variables({ lane = "low" }, { headers = { ["x-priority"] = "high" } }),
              { client = "app", lane_low = "low", lane_low_client = "low#app" })
    end)

    it("are of the low lane where the request asks for it", function()
        local expected = { client = "app", lane_low = "low", lane_low_client = "low#app" }
        equal(variables({}, { headers = { ["x-priority"] = "LOW" } }), expected)
        equal(variables({}, { path = "/openai/v1/chat/completions?priority=low" }), expected)
    end)

    it("have the limits of its client", function()
        equal(variables({ tokens_per_day = 1, tokens_per_minute = 2, requests_per_minute = 3 }), {
            client = "app", lane_high = "high", lane_high_client = "high#app",
            client_day = "tokens_per_day#app", client_day_tokens = "1",
            client_minute = "tokens_per_minute#app", client_minute_tokens = "2",
            client_requests = "requests_per_minute#app", client_requests_limit = "3",
        })
    end)
end)
