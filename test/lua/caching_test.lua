local answers = require("genai.caching.answers")
local harness = require("harness")
local json = require("json")
local json_scan = require("genai.util.json_scan")
local requests = require("genai.caching.requests")
local targets = require("genai.openai.targets")
local describe, it, equal = harness.describe, harness.it, harness.equal

local random = math.random


local function effects(operation, text)
    local scan = json_scan.new(requests.PLAN)
    scan:feed(text)
    equal(scan:finish(), true, text)
    return requests.has_effects(operation, scan)
end


describe("a request whose answer may be stored", function()
    it("asks for an answer and nothing else", function()
        for _, each in ipairs({
            { "chat_completions", '{"messages":[{"role":"user","content":"file_id"}]}' },
            { "chat_completions", '{"store":false,"messages":[]}' },
            { "chat_completions", '{"store":null,"background":false,"audio":null}' },
            { "chat_completions", '{"tools":[{"type":"function","function":{"name":"f","parameters":'
                                  .. '{"type":"object","properties":{"file_id":{"type":"string"}}}}},'
                                  .. '{"type":"custom","custom":{"name":"g"}}]}' },
            { "chat_completions", '{"messages":[{"role":"assistant","tool_calls":[{"id":"call_1",'
                                  .. '"type":"function"}]}]}' },
            { "completions", '{"prompt":"Hello"}' },
            { "embeddings", '{"input":["a","b"]}' },
            { "responses", '{"store":false,"input":[{"type":"message","content":"a"}]}' },
            { "responses", '{"store":false,"input":"a","include":["reasoning.encrypted_content"]}' },
        }) do
            equal(effects(each[1], each[2]), false, each[2])
        end
    end)

    it("has no effect, and refers to nothing that the backend stores", function()
        for _, each in ipairs({
            { "chat_completions", '{"store":true}' },
            { "chat_completions", '{"st\\u006fre":true}' },
            { "chat_completions", '{"web_search_options":{}}' },
            { "chat_completions", '{"data_sources":[{"type":"azure_search"}]}' },
            { "chat_completions", '{"audio":{"voice":"alloy"}}' },
            { "chat_completions", '{"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}' },
            { "chat_completions", '{"messages":[{"content":[{"file":{"file_id":"file-1"}}]}]}' },
            { "chat_completions", '{"tools":[{"type":"function"},{"type":"web_search"}]}' },
            { "responses", '{"input":"a"}' },
            { "responses", '{"store":null,"input":"a"}' },
            { "responses", '{"store":"false","input":"a"}' },
            { "responses", '{"store":false,"background":true}' },
            { "responses", '{"store":false,"previous_response_id":"resp_1"}' },
            { "responses", '{"store":false,"conversation":{"id":"conv_1"}}' },
            { "responses", '{"store":false,"prompt":{"id":"pmpt_1"}}' },
            { "responses", '{"store":false,"input":[{"type":"item_reference","id":"rs_1"}]}' },
            { "responses", '{"store":false,"input":[{"content":[{"type":"input_file","file_url":"x"}]}]}' },
            { "responses", '{"store":false,"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}' },
            { "responses", '{"store":false,"tools":[{"type":"code_interpreter","container":"cntr_1"}]}' },
            { "responses", '{"store":false,"tools":[{"type":"mcp"}]}' },
            { "responses", '{"store":false,"tools":[{"type":"a_tool_of_tomorrow"}]}' },
        }) do
            equal(effects(each[1], each[2]), true, each[2])
        end
    end)

    it("has a path that ends with its operation", function()
        local all = { chat_completions = true, responses = true, completions = true, embeddings = true }
        for path, expected in pairs({
            ["/openai/v1/chat/completions"] = true,
            ["/openai/deployments/a/chat/completions"] = true,
            ["/openai/deployments/a/completions"] = true,
            ["/openai/v1/responses"] = true,
            ["/openai/v1/responses/compact"] = false,
            ["/openai/v1/responses/input_tokens"] = false,
            ["/openai/v1/responses/resp_1/cancel"] = false,
            ["/openai/v1/chat/completions/chatcmpl-1"] = false,
            ["/openai/v1/images/generations"] = false,
            ["/openai/v1/files"] = false,
        }) do
            equal(requests.is_operation(targets.parse(path, path, "POST"), all), expected, path)
        end
        local chat = targets.parse("/openai/v1/chat/completions", "/openai/v1/chat/completions", "POST")
        equal(requests.is_operation(chat, { embeddings = true }), false)
        local read = targets.parse("/openai/v1/responses", "/openai/v1/responses", "GET")
        equal(requests.is_operation(read, all), false)
    end)
end)


describe("the identity of a request", function()
    local function identity(about)
        local path = about.path or "/openai/v1/embeddings"
        return requests.identity({
            scope = about.scope or "client", client = about.client, pool = about.pool,
            target = targets.parse(path, path:match("^[^?]*"), "POST"), lines = about.lines or {},
        })
    end

    it("does not depend on the order of headers, nor on headers without influence", function()
        local a, b = "x-a: 1\r\n", "x-b: 2\r\n"
        equal(identity({ lines = { a, b } }), identity({ lines = { b, a } }))
        equal(identity({ lines = { a, "User-Agent: x\r\n", "x-stainless-os: Linux\r\n", "traceparent: 00\r\n",
                                   "Cache-Control: no-cache\r\n", "accept: */*\r\n" } }),
              identity({ lines = { a } }))
        equal(identity({ lines = { a } }) ~= identity({ lines = { b } }), true)
        equal(identity({ lines = { "accept: text/event-stream\r\n" } }) ~= identity({}), true)
    end)

    it("has no client in a shared scope", function()
        equal(identity({ scope = "gateway", client = "a" }), identity({ scope = "gateway", client = "b" }))
        equal(identity({ scope = "gateway" }) ~= identity({}), true)
    end)

    it("is never that of another client, whatever clients choose", function()
        local alphabet = { "a", "b", ",", ":", "1", "2", "\r\n", "client", "gateway", "" }
        local function word()
            local parts = {}
            for i = 1, random(0, 4) do
                parts[i] = alphabet[random(#alphabet)]
            end
            return table.concat(parts)
        end
        local owners = {}
        for _ = 1, 20000 do
            local about = { client = word(), pool = word(), lines = { word() .. ": " .. word() .. "\r\n" },
                            path = "/openai/v1/embeddings?" .. word():gsub("[\r\n]", "") }
            local text = identity(about) .. word()
            local owner = owners[text]
            equal(owner == nil or owner == about.client, true, text)
            owners[text] = about.client
        end
    end)
end)


describe("Cache-Control of a request", function()
    it("is read in any spelling", function()
        equal(requests.control(nil, nil), {})
        equal(requests.control("no-store"), { no_store = true })
        equal(requests.control("No-Cache"), { no_cache = true })
        equal(requests.control("max-age=60, no-transform"), { max_age = 60 })
        equal(requests.control('MAX-AGE = "5"'), { max_age = 5 })
        equal(requests.control("max-age=0"), { max_age = 0, no_cache = true })
        equal(requests.control("max-age"), {})
        equal(requests.control({ "max-age=1", "no-store" }), { max_age = 1, no_store = true })
    end)

    it("is that of Pragma where there is no other", function()
        equal(requests.control(nil, "no-cache"), { no_cache = true })
        equal(requests.control("max-age=9", "no-cache"), { max_age = 9 })
    end)
end)


local function headers_of(list)
    local headers = { count = 0, names = {}, lower_names = {}, values = {} }
    for _, each in ipairs(list) do
        local at = headers.count + 1
        headers.count = at
        headers.names[at], headers.lower_names[at], headers.values[at] = each[1], each[1]:lower(), each[2]
        headers[each[1]:lower()] = each[2]
    end
    return headers
end


describe("an answer", function()
    it("keeps the headers that describe it", function()
        equal(answers.kept_headers(headers_of({
            { "Content-Type", "application/json" }, { "Set-Cookie", "a=b" }, { "x-request-id", "1" },
            { "X-MS-Region", "West Europe" }, { "x-ratelimit-remaining-tokens", "9" }, { "api-key", "k" },
            { "content-type", "text/plain" },
        })), { "Content-Type", "application/json", "X-MS-Region", "West Europe" })
    end)

    it("may be stored by its head if it is a plain 200 of a known form", function()
        for _, each in ipairs({
            { 200, "application/json; charset=utf-8", nil, false, true },
            { 200, "text/event-stream", nil, true, true },
            { 200, "text/event-stream", "identity", true, true },
            { 200, "application/json", "gzip", false, false },
            { 201, "application/json", nil, false, false },
            { 400, "application/json", nil, false, false },
            { 200, "text/plain", nil, false, false },
            { 200, "application/json", nil, true, false },
            { 200, nil, nil, true, false },
        }) do
            local headers = { ["content-type"] = each[2], ["content-encoding"] = each[3] }
            equal(answers.is_storable_head(each[1], headers, each[4]), each[5])
        end
    end)

    it("in JSON is a success unless it says otherwise", function()
        for text, expected in pairs({
            ['{"choices":[{"message":{"content":"{\\"error\\":1}"}}]}'] = true,
            ['{"status":"completed","error":null,"output":[{"status":"in_progress"}]}'] = true,
            ['{"status":"incomplete","output":[]}'] = true,
            ['{"data":[{"embedding":[1]}]}'] = true,
            ['{"choices":[{"error":null}]}'] = true,
            ['{"choices":[{"content_filter_result":{"error":{"code":"x"}}}]}'] = false,
            ['{}'] = false,
            ['{"status":"completed"}'] = false,
            ['{"message":"overloaded"}'] = false,
            ['{"status":"failed","error":{"code":"x"}}'] = false,
            ['{"status":"in_progress"}'] = false,
            ['{"status":"queued"}'] = false,
            ['{"error":{"code":"x"}}'] = false,
            ['{"error":"x"}'] = false,
            ['{"choices":['] = false,
            ['[]'] = false,
        }) do
            equal(answers.is_good_json(text), expected, text)
        end
    end)

    it("in a stream is a success unless an event says otherwise", function()
        for text, expected in pairs({
            ['data: {"choices":[{"delta":{"content":"{\\"error\\":{}}"}}]}\n\ndata: [DONE]\n\n'] = true,
            ['data: {"response":{"error":null,"status":"completed"}}\n\n'] = true,
            ['data: {"error":{"message":"x"}}\n\n'] = false,
            ['data: {"error" : "x"}\n\n'] = false,
            ['event: error\ndata: {}\n\n'] = false,
            ['data: {"type": "error"}\n\n'] = false,
            ['event: response.failed\ndata: {}\n\n'] = false,
            ['data: {"type":"response.failed"}\n\n'] = false,
        }) do
            equal(answers.is_good_stream(text), expected, text)
        end
    end)

    it("is the same after it was stored", function()
        local meta = { id = "t", created = 1.5, headers = { "a", "b" },
                       usage = { prompt = 1, completion = 2, total = 3 } }
        local function encode()
            return '{"id":"t","created":1.5,"headers":["a","b"],'
                   .. '"usage":{"prompt":1,"completion":2,"total":3}}'
        end
        for _, body in ipairs({ "", "x", ("\0\255{}"):rep(50000) }) do
            local entry = answers.decode(answers.encode(meta, body, encode), json.decode)
            equal(entry.body == body, true)
            entry.body = nil
            equal(entry, meta)
        end
    end)

    it("is none where an entry is cut or foreign", function()
        local text = answers.encode({}, "body", function()
            return '{"created":1,"headers":[]}'
        end)
        for length = 0, #text - 5 do
            equal(answers.decode(text:sub(1, length), json.decode), nil, length)
        end
        for _, meta in ipairs({ '{"headers":[]}', '{"created":1}', '{"created":1,"headers":[1,2]}',
                                '{"created":1,"headers":["a"]}', "[]", "5",
                                '{"created":1,"headers":[],"usage":{"total":1}}',
                                '{"created":1,"headers":[],"model":{}}',
                                '{"created":1,"headers":[],"tier":5}' })
        do
            equal(answers.decode(answers.encode({}, "body", function()
                return meta
            end), json.decode), nil, meta)
        end
        for _, foreign in ipairs({ "GC1\0\0\0\2{}", "GC1\0\0\0\4null", "GC2" .. text:sub(4), "x" }) do
            equal(answers.decode(foreign, json.decode), nil)
        end
    end)

    it("has an age in whole seconds that is never negative", function()
        equal({ answers.age({ created = 10 }, 12.9), answers.age({ created = 10 }, 9) }, { 2, 0 })
    end)

    it("may be followed by a comment after a complete event", function()
        for text, expected in pairs({ ["a\n\n"] = true, ["a\r\n\r\n"] = true, ["a\r\r"] = true,
                                      ["a\n"] = false,
                                      ["a"] = false, [""] = false })
        do
            equal(answers.ends_event(text), expected)
        end
    end)
end)
