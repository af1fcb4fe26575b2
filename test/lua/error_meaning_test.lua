local error_meaning = require("genai.openai.error_meaning")
local harness = require("harness")
local verdict = require("genai.openai.verdict")
local json = require("json")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- How a word in snake case is spelled elsewhere.
local function spellings(word)
    local camel = word:gsub("_(%l)", string.upper)
    return { word, word:upper(), camel, camel:gsub("^%l", string.upper), (word:gsub("_", "-")),
             (word:gsub("_", " ")), (camel:gsub("^%l", string.upper):gsub("(%l)(%u)", "%1 %2")) }
end


local MEANINGS = {
    too_many_requests = 429, rate_limit_exceeded = 429, rate_limit_error = 429, no_capacity = 429,
    insufficient_quota = 429, quota_exceeded = 429, tokens_rate_limit = 429, throttling_error = 429,
    throttled = 429, resource_exhausted = 429,
    server_error = 500, internal_server_error = 500, internal_error = 500, api_error = 500,
    service_unavailable = 503, engine_overloaded = 503, overloaded_error = 503, no_kv_space = 503,
    model_overloaded = 503, bad_gateway = 502, timeout = 504, gateway_timeout = 504,
    request_timeout = 408, vector_store_timeout = 504,
    forbidden = 403, permission_denied = 403, access_denied = 403,
    unauthorized = 401, authentication_error = 401, invalid_api_key = 401,
}

local FAULTS = { "user_error", "content_filter", "content_policy_violation", "invalid_prompt",
                 "context_length_exceeded", "invalid_request_error", "responsible_ai_policy_violation",
                 "bad_request", "image_content_policy_violation", "unsupported_parameter",
                 "cyber_policy", "moderation_blocked", "string_above_max_length",
                 "failed_to_download_image" }


describe("error meaning:", function()
    for word, status in pairs(MEANINGS) do
        it(word .. " is a " .. status .. " in any spelling and field", function()
            for _, each in ipairs(spellings(word)) do
                for _, field in ipairs({ "code", "type", "status" }) do
                    equal({ error_meaning.of({ [field] = each }) }, { status, false }, each)
                end
                equal({ error_meaning.of({}, { type = each }) }, { status, false }, each)
            end
        end)
    end

    for _, word in ipairs(FAULTS) do
        it(word .. " is the client's in any spelling", function()
            for _, each in ipairs(spellings(word)) do
                equal({ error_meaning.of({ code = each }) }, { nil, true }, each)
                equal({ error_meaning.of({ type = each, message = "rate limit" }) }, { nil, true }, each)
            end
        end)
    end

    it("a fault of the prompt counts whatever the rest says", function()
        equal({ error_meaning.of({ type = "server_error", code = "content_filter" }) }, { nil, true })
        equal({ error_meaning.of({ code = "server_error", innererror = {
            code = "ResponsibleAIPolicyViolation" } }) }, { nil, true })
        equal({ error_meaning.of({ code = 500, type = "context_length_exceeded" }) }, { nil, true })
    end)

    it("a code says more than a type", function()
        equal(error_meaning.of({ type = "server_error", code = "rate_limit_exceeded" }), 429)
        equal(error_meaning.of({ type = "too_many_requests", code = "no_capacity" }), 429)
        equal(error_meaning.of({ type = "server_error", code = "made_up" }), 500)
    end)

    it("numbers are statuses, as texts too", function()
        for _, each in ipairs({ 429, 408, 500, 503, 529, 401, 403 }) do
            for _, field in ipairs({ "code", "status", "status_code", "statusCode" }) do
                equal(error_meaning.of({ [field] = each }), each)
                equal(error_meaning.of({ [field] = tostring(each) }), each)
            end
        end
        equal({ error_meaning.of({ code = "400" }) }, { nil, true })
        equal({ error_meaning.of({ code = 422 }) }, { nil, true })
        equal({ error_meaning.of({ code = 200 }) }, { nil, false })
        equal({ error_meaning.of({ code = "429 Too Many Requests" }) }, { 429, false })
        equal({ error_meaning.of({ code = "http_503" }) }, { 503, false })
    end)

    it("a message counts where nothing names the error", function()
        equal(error_meaning.of({ message = "Rate limit is exceeded. Try again in 26 seconds." }), 429)
        equal(error_meaning.of({ code = json.null, message = "The engine is currently overloaded." }), 503)
        equal(error_meaning.of({ message = "The server had an error while processing." }), 500)
        equal({ error_meaning.of({ message = "No." }) }, { nil, false })
        equal({ error_meaning.of({ type = "invalid_request_error", message = "rate limit" }) },
              { nil, true })
    end)
end)


describe("error meaning: events", function()
    local function of(text, name)
        local kind, status = verdict.of_event(name, json.decode(text), text)
        return kind .. " " .. (status or "")
    end

    it("have it in any place", function()
        for _, text in ipairs({
            '{"error":"too_many_requests"}', '{"error":"Too many requests"}',
            '{"error":"Slow down","type":"rate_limit_error"}', '{"error":{"error":{"code":"429"}}}',
            '{"type":"error","status":429,"error":{"message":"No."}}',
            '{"statusCode":429,"message":"Rate limit is exceeded. Try again in 26 seconds."}',
            '{"code":"429","message":"No."}', '{"type":"too_many_requests","message":"No."}',
            '{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}',
            '{"type":"response.error","response":{"error":{"code":"rate_limit_exceeded"}}}',
            '{"response":{"status":"failed","error":{"type":"RateLimitError"}}}',
            '{"error":429,"message":"No."}',
        }) do
            equal(of(text), "error 429", text)
            equal(of(text, "error"), "error 429", text)
        end
        equal(of('{"type":"server_error","message":"m"}', "error"), "error 500")
        equal(of('{"type":"server_error","message":"m"}', "Error"), "error 500")
        equal(of("Too many requests", "error"), "error 429")
        equal(of('"Service unavailable"', "error"), "error 503")
        equal(of("server_error", "error"), "error 500")
    end)

    it("that say nothing of an error are none", function()
        for _, text in ipairs({ '{"message":"rate limit"}', '{"type":"text","message":"hi"}',
                                '{"choices":[{"delta":{"content":"overloaded_error"}}]}',
                                '{"type":"response.mcp_list_tools.failed","error":{"code":429}}',
                                '{"type":"response.warning","code":"rate_limit","message":"m"}',
                                '{"object":"x","code":"429","message":"m"}' }) do
            equal(of(text), "output ", text)
        end
    end)
end)


describe("pings", function()
    local function kind(text, name)
        return (verdict.of_event(name, json.decode(text), text))
    end

    it("and what opens items are no output", function()
        equal(kind('{"type":"ping"}'), "prelude")
        equal(kind('{}', "ping"), "prelude")
        equal(kind('{"type":"keepalive","sequence_number":2}'), "prelude")
        equal(kind(""), "prelude")
        equal(kind('{"type":"message_start","message":{"usage":{"input_tokens":3}}}'), "prelude")
        equal(kind('{"type":"content_block_start","content_block":{"type":"text","text":""}}'), "prelude")
        equal(kind('{"choices":[{"delta":{"tool_calls":[],"content":""}}]}'), "prelude")
        equal(kind("[DONE]"), "end")
    end)

    it("may come again, and what opens items may not", function()
        equal(verdict.may_be_repeated(nil, json.decode('{"type":"response.created"}')), true)
        equal(verdict.may_be_repeated(nil, json.decode('{"choices":[]}')), true)
        equal(verdict.may_be_repeated("response.output_item.added", nil), false)
        equal(verdict.may_be_repeated(nil, json.decode('{"type":"message_start"}')), false)
    end)
end)
