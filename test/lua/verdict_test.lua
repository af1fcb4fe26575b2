local json = require("json")
local verdict = require("genai.openai.verdict")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function of_event(data, name)
    local kind, status, err = verdict.of_event(name, json.decode(data))
    local message = err and err.message
    return { kind, status, kind == "error" and type(message) == "string" and message or nil }
end


describe("verdict: statuses", function()
    local all = { 408, 429, 500, 502, 503, 504 }

    it("are retried by ai-proxy-multi's families", function()
        equal(verdict.retry_set(all, { "http_429", "http_5xx" }),
              { [408] = true, [429] = true, [500] = true, [502] = true, [503] = true,
                [504] = true })
        equal(verdict.retry_set(all, "http_429"), { [408] = true, [429] = true })
        equal(verdict.retry_set(all, { "http_5xx" }),
              { [500] = true, [502] = true, [503] = true, [504] = true })
        equal(verdict.retry_set({ 503 }, { "http_429", "http_5xx" }), { [503] = true })
        equal(verdict.retry_set(all, nil), {})
        equal(verdict.retry_set(all, "rate_limiting"), {})
        equal(verdict.retry_set({}, { "http_429" }), {})
    end)

    it("mean an answer, or the next backend's turn", function()
        local set = verdict.retry_set(all, { "http_429", "http_5xx" })
        for status, meaning in pairs({
            [200] = "answer", [204] = "answer", [302] = "answer", [400] = "answer",
            [404] = "answer", [409] = "answer", [413] = "answer", [422] = "answer",
            [501] = "answer", [401] = "refusal", [403] = "refusal",
            [408] = "failing", [429] = "throttled", [500] = "failing", [502] = "failing",
            [503] = "failing", [504] = "failing",
        }) do
            equal(verdict.of_status(status, set), meaning, status)
        end
        equal(verdict.of_status(429, {}), "answer")
        equal(verdict.of_status(503, {}), "answer")
        equal(verdict.of_status(401, {}), "refusal")
    end)
end)


describe("verdict: a refused stream", function()
    local MESSAGE = "Your requests to X for X in West Europe have exceeded rate limit."

    it("has a nested error", function()
        for _, code in ipairs({ "rate_limit_exceeded", "too_many_requests" }) do
            local data = '{"type":"error","error":{"type":"too_many_requests","code":"' .. code
                         .. '","headers":{"x-ms-fe-error":"true"},"message":"' .. MESSAGE
                         .. '","param":null},"sequence_number":2}'
            equal(of_event(data, "error"), { "error", 429, MESSAGE })
            equal(of_event(data), { "error", 429, MESSAGE })
        end
    end)

    it("has a flat error", function()
        equal(of_event('{"type":"error","code":"rate_limit_exceeded","message":"m","param":null,'
                       .. '"sequence_number":1}'), { "error", 429, "m" })
        equal(of_event('{"type":"error","code":"server_error","message":"m"}'),
              { "error", 500, "m" })
        equal(of_event('{"code":"too_many_requests","message":"m"}', "error"),
              { "error", 429, "m" })
    end)

    it("has a response that failed, with its error or without", function()
        equal(of_event('{"type":"response.failed","response":{"status":"failed","error":{"code":'
                       .. '"rate_limit_exceeded","message":"m"}},"sequence_number":3}'),
              { "error", 429, "m" })
        equal(of_event('{"type":"response.failed","response":{"error":{"code":"server_error",'
                       .. '"message":"m"}}}'), { "error", 500, "m" })
        equal(of_event('{"type":"response.failed","response":{"error":null}}'), { "error", 500 })
        equal(of_event('{"type":"response.failed"}'), { "error", 500 })
        equal(of_event('{"response":{"error":null}}', "response.failed"), { "error", 500 })
    end)

    it("has an error alone, as chat completions do", function()
        for code, status in pairs({ ['"429"'] = 429, ["429"] = 429, ['"500"'] = 500, ["503"] = 503,
                                    ['"408"'] = 408, ['"rate_limit_exceeded"'] = 429,
                                    ['"tokens_rate_limit"'] = 429, ['"internal_error"'] = 500,
                                    ['"internal_server_error"'] = 500, ['"timeout"'] = 504,
                                    ['"service_unavailable"'] = 503 }) do
            equal(of_event('{"error":{"code":' .. code .. ',"message":"m"}}'),
                  { "error", status, "m" }, code)
        end
        equal(of_event('{"error":{"type":"server_error","code":null,"message":"The server had an'
                       .. ' error","param":null}}'), { "error", 500, "The server had an error" })
        equal(of_event('{"error":{"code":null,"type":null,"status":429}}'), { "error", 429 })
        equal(of_event('{"error":{"code":"429","message":{}}}'), { "error", 429 })
    end)

    it("is not one whose error is the client's", function()
        for _, data in ipairs({
            '{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter",'
                .. '"status":400}}',
            '{"error":{"code":"400","message":"m"}}', '{"error":{"code":400}}', '{"error":{}}',
            '{"error":{"code":{},"type":[]}}', '{"error":{"code":600}}', '{"error":{"code":-429}}',
            '{"type":"error","error":{"type":"invalid_request_error","code":"invalid_prompt"}}',
            '{"type":"error","error":{"type":"user_error","message":"Could not find"}}',
            '{"type":"error"}',
            '{"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}',
        }) do
            equal(of_event(data), { "output" }, data)
        end
    end)

    it("is not one that has null for an error", function()
        equal(of_event('{"error":null,"choices":[]}'), { "prelude" })
        equal(of_event('{"type":"response.created","response":{"error":null}}'), { "prelude" })
    end)
end)


describe("verdict: the beginning of a stream", function()
    it("has no output, of chat completions", function()
        for _, data in ipairs({
            '{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
                .. '[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}]}',
            '{"choices":[],"prompt_annotations":[{}]}',
            '{"choices":[],"usage":null}',
            '{"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,'
                .. '"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],'
                .. '"object":"chat.completion.chunk","usage":null}',
            '{"choices":[{"delta":{"role":"assistant","content":null}}]}',
            '{"choices":[{"delta":{}}]}',
            '{"choices":[{"index":0,"content_filter_offsets":{"check_offset":0}}]}',
            '{"choices":[{"text":"","finish_reason":null}]}',
        }) do
            equal(of_event(data), { "prelude" }, data)
        end
    end)

    it("has output, of chat completions", function()
        for _, data in ipairs({
            '{"choices":[{"delta":{"content":"Hi"}}]}',
            '{"choices":[{"delta":{"content":" "}}]}',
            '{"choices":[{"delta":{"refusal":"No"}}]}',
            '{"choices":[{"delta":{"role":"assistant","tool_calls":[{"index":0}]}}]}',
            '{"choices":[{"delta":{"reasoning_content":"Hm"}}]}',
            '{"choices":[{"delta":{},"finish_reason":"stop"}]}',
            '{"choices":[{"delta":{}},{"delta":{"content":"Hi"}}]}',
            '{"choices":[{"text":"Hi"}]}', '{"choices":[1]}',
            '{"choices":[],"usage":{"prompt_tokens":1}}',
        }) do
            equal(of_event(data), { "output" }, data)
        end
    end)

    it("has no output, of responses", function()
        for _, kind in ipairs({ "created", "queued", "in_progress", "output_item.added",
                                "content_part.added" }) do
            local data = '{"type":"response.' .. kind .. '","sequence_number":0,"response":{}}'
            equal(of_event(data, "response." .. kind), { "prelude" }, kind)
            equal(of_event(data), { "prelude" }, kind)
            equal(of_event("{}", "response." .. kind), { "prelude" }, kind)
        end
    end)

    it("has output, of responses", function()
        for _, kind in ipairs({ "output_text.delta", "output_item.done", "completed", "incomplete",
                                "reasoning_summary_text.delta", "function_call_arguments.delta",
                                "refusal.delta", "made_up" }) do
            equal(of_event('{"type":"response.' .. kind .. '"}'), { "output" }, kind)
        end
    end)

    it("is output where it is nothing known", function()
        for _, data in ipairs({ "[DONE]", "", "null", "1", '"text"', "[]", "{}", '{"type":1}',
                                '{"choices":null}', '{"choices":"x"}' }) do
            equal(of_event(data), { "output" }, data)
        end
        equal({ verdict.of_event("news", nil) }, { "output" })
    end)
end)


describe("verdict: a refusal", function()
    local function why(status, text, headers)
        return verdict.of_refusal(status, headers or {}, text)
    end

    it("of a firewall or a private network is about the way to the backend", function()
        for _, text in ipairs({
            '{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall'
                .. ' rules."}}',
            '{"code":"403","message":"A Virtual Network is configured for this resource. Please use'
                .. ' the correct endpoint for making requests."}',
            '{"error":{"code":"403","message":"Public access is disabled. Please configure private'
                .. ' endpoint."}}',
            '{"error":{"message":"Your IP address is not allowed"}}',
        }) do
            equal(why(403, text), "unreachable", text)
        end
        equal(why(403, "", { ["policy-id"] = "ThrowExceptionDueToTrafficDenied" }), "unreachable")
    end)

    it("of a quota throttles", function()
        for _, text in ipairs({
            '{"statusCode":403,"message":"Out of call volume quota. Quota will be replenished in'
                .. ' 07:01:20."}',
            '{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}',
        }) do
            equal(why(403, text), "throttled", text)
        end
    end)

    it("of a role is about what the gateway's identity may do", function()
        equal(why(401, '{"error":{"code":"PermissionDenied","message":"Principal does not have'
                       .. ' access to API/Operation."}}'), "permission")
        equal(why(401, '{"error":{"code":"PermissionDenied","message":"The principal lacks the'
                       .. ' required data action"}}'), "permission")
        equal(why(403, '{"error":{"code":"AuthorizationFailed"}}'), "permission")
    end)

    it("of a gated feature or a kind of authentication is about the request", function()
        equal(why(403, '{"error":{"message":"Streaming requests are not yet allowed"}}'), "request")
        equal(why(403, ""), "request")
        equal(why(403, "<html>Forbidden</html>"), "request")
        equal(why(401, '{"error":{"code":"Unauthorized","message":"This operation requires'
                       .. ' ephemeral authentication."}}'), "request")
    end)

    it("of a credential is about the credential, as an unknown 401 may be", function()
        equal(why(401, '{"error":{"code":"401","message":"Access denied due to invalid'
                       .. ' subscription key or wrong API endpoint."}}'), "credentials")
        equal(why(401, '{"statusCode":401,"message":"Unauthorized. Access token is missing,'
                       .. ' invalid, audience is incorrect (https://x), or have expired."}'),
              "credentials")
        equal(why(401, ""), "credentials")
        equal(why(403, '{"error":{"code":"AuthenticationTypeDisabled","message":"Key based'
                       .. ' authentication is disabled for this resource."}}'), "credentials")
    end)
end)


describe("verdict: a missing deployment", function()
    it("is known by its code or its words", function()
        equal(verdict.is_missing_deployment({ code = "DeploymentNotFound" }), true)
        equal(verdict.is_missing_deployment({ code = "model_not_found", message = "Could not find"
            .. " an existing deployment to match the model in the request." }), true)
        equal(verdict.is_missing_deployment({ code = "404", message = "Not found" }), false)
        equal(verdict.is_missing_deployment({ message = {} }), false)
        equal(verdict.is_missing_deployment("DeploymentNotFound"), false)
    end)

    it("is a 404 inside a stream", function()
        equal(of_event('{"type":"error","error":{"type":"user_error","message":"Could not find an'
                       .. ' existing deployment to match the model"}}')[2], 404)
        equal(of_event('{"type":"error","error":{"type":"forbidden","message":"m"}}'),
              { "error", 403, "m" })
    end)
end)


describe("verdict: an answer that names its failure in its body", function()
    local function of_body(text)
        return (verdict.of_body(json.decode(text)))
    end

    it("stands for the status that it names", function()
        equal(of_body('{"status":"failed","error":{"code":"server_error"},"output":[]}'), 500)
        equal(of_body('{"status":"failed","error":{"code":"rate_limit_exceeded"}}'), 429)
        equal(of_body('{"error":{"code":"429","message":"m"}}'), 429)
    end)

    it("has no output in empty lists, and none in a list of errors", function()
        for _, text in ipairs({ '{"choices":[],"error":{"code":"429"}}', '[{"error":{"code":"429"}}]',
                                '{"data":[],"error":{"code":"429"}}', '{"errors":[{"code":"429"}]}',
                                '{"object":"error","type":"TooManyRequestsError","code":429}',
                                '{"error":true,"message":"Too many requests"}', '{"statusCode":429}' })
        do
            equal(of_body(text), 429, text)
        end
        equal(of_body('{"status":"Failed","error":{}}'), 500)
        equal(of_body('{"error":{}}'), nil)
    end)

    it("is the client's where it has output, or an error that is the client's", function()
        equal(of_body('{"status":"completed","error":null,"output":[{}]}'), nil)
        equal(of_body('{"status":"completed","error":{"code":"server_error"}}'), nil)
        equal(of_body('{"status":"failed","error":{"code":"server_error"},"output":[{}]}'), nil)
        equal(of_body('{"status":"failed","error":{"code":"invalid_prompt"}}'), nil)
        equal(of_body('{"error":{"code":"429"},"choices":[{}]}'), nil)
        equal(of_body('{"error":{"code":"429"},"data":[{}]}'), nil)
        equal(of_body('[]'), nil)
        equal(of_body('{}'), nil)
    end)
end)


describe("verdict: which failure is told", function()
    it("is a throttled backend, then a failing one, then one out of reach", function()
        local order = {
            { reason = "throttled", status = 429 },
            { reason = "failing", status = 503 },
            { reason = "failing", status = 504, err = "timeout" },
            { reason = "failing", status = 502, err = "closed" },
            { reason = "unreachable", status = 403 },
            { reason = "unreachable", status = 502, err = "refused" },
            { reason = "credentials", status = 401 },
            { reason = "refused", status = 403 },
            { reason = "deployment_not_found", status = 404 },
        }
        for i = 2, #order do
            equal(verdict.rank(order[i - 1]) > verdict.rank(order[i]), true, order[i].reason)
        end
    end)
end)
