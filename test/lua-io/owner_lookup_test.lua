--- Stored objects and encrypted reasoning: which backend a request goes to that names one, and how
-- the gateway knows.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream, OK = test_gateway.failure, test_gateway.stream, test_gateway.OK

local RESPONSES = "/openai/v1/responses"
local STORED = RESPONSES .. "/resp_1"
local THREE = { "a", "b", "c" }
local NOT_FOUND = failure(404, nil, "not_found")
local THROTTLED = failure(429, { ["retry-after"] = "20" })


local function answer(body)
    return { status = 200, headers = OK.headers, body = body }
end


local MADE = answer('{"id":"resp_1","object":"response"}')


local function new_gateway(options)
    options = options or {}
    options.backends = options.backends or THREE
    return test_gateway.new(options)
end


-- Backend b makes a response: a is not asked, for it failed a moment ago.
local function make(gateway, made, request)
    gateway:serve("a", failure(503), OK)
    gateway:serve("b", made or MADE, OK)
    request = request or {}
    request.path = request.path or RESPONSES
    local done = gateway:post(request)
    gateway.world:advance(100)
    gateway.world.network.connected = {}
    return done
end


-- What became of a request: the backends that were called, how the owner was found, and the status.
local function outcome(gateway, request)
    gateway.world.network.connected = {}
    local done = gateway:post(request)
    return { gateway:called(), done.var.genai_affinity or "not looked for", done.status }, done
end


local function get(path, headers)
    return { method = "GET", path = path or STORED, headers = headers }
end


describe("a stored response that this gateway has seen made", function()
    it("is asked for at the backend that made it", function()
        local gateway = new_gateway()
        make(gateway)
        local result = outcome(gateway, get())
        equal(result, { "b", "memory", 200 })
        equal(gateway:metric("genai_affinity_lookups_total"), "memory=1")
    end)

    it("is known by the first events of a stream", function()
        local gateway = new_gateway()
        make(gateway, stream({ '{"type":"response.created","response":{"id":"resp_1"}}',
                               '{"type":"response.output_text.delta","delta":"x"}' }), { stream = true })
        equal((outcome(gateway, get())), { "b", "memory", 200 })
    end)

    it("leads a request whose body names it", function()
        local gateway = new_gateway()
        make(gateway)
        equal((outcome(gateway, { path = RESPONSES,
                                  body = { model = "gpt-4o", previous_response_id = "resp_1" } })),
              { "b", "memory", 200 })
    end)

    it("leads by the first of several objects that is known", function()
        local gateway = new_gateway()
        make(gateway)
        equal((outcome(gateway, { path = RESPONSES, body = {
            model = "gpt-4o", previous_response_id = "unknown", conversation = "resp_1",
        } })), { "b", "memory", 200 })
    end)

    it("is known to another worker", function()
        local gateway = new_gateway()
        make(gateway)
        local other = new_gateway({ world = gateway.world })
        equal((outcome(other, get())), { "b", "memory", 200 })
    end)

    it("is not another client's", function()
        local gateway = new_gateway()
        make(gateway)
        gateway.world:write_file({ { name = "other", key = "key-of-other" } })
        gateway.world:advance(1)
        for _, name in ipairs(THREE) do
            gateway:serve(name, NOT_FOUND)
        end
        local request = get()
        request.headers = { ["api-key"] = "key-of-other" }
        equal((outcome(gateway, request)), { "a b c a", "none", 404 })
    end)

    it("is forgotten an hour after it was used last", function()
        local world = world_module.new()
        local memory = world:worker().require("gateway.affinity.owner_memory")
        local pool = { conf = { affinity = { ttl_s = 3600 } }, origins = { ["https://b"] = {} } }
        memory.remember(pool.conf.affinity, { "key" }, "https://b")
        for _ = 1, 2 do
            world:advance(3500)
            equal(memory.in_memory(pool, "key"), "https://b")
        end
        world:advance(3601)
        equal(memory.in_memory(pool, "key"), nil)
    end)

    it("is looked for anew where its backend is no longer there", function()
        local gateway = new_gateway()
        make(gateway)
        local other = new_gateway({ backends = { "a", "c" }, world = gateway.world })
        other:serve("a", NOT_FOUND)
        other:serve("c", OK)
        equal((outcome(other, get())), { "a c c", "search", 200 })
    end)

    it("is served by its backend when that is drained", function()
        local gateway = new_gateway()
        make(gateway)
        local drained = new_gateway({ backends = { "a", { name = "b", weight = 0 } }, world = gateway.world })
        equal((outcome(drained, get())), { "b", "memory", 200 })
    end)

    it("is served by another backend of the same resource", function()
        local gateway = new_gateway({ backends = { "a", { name = "b", endpoint = "https://one" },
                                                   { name = "c", endpoint = "https://one" } } })
        gateway:serve("a", failure(503), OK)
        gateway:serve("one", MADE, failure(500), OK)
        gateway:post({ path = RESPONSES })
        gateway.world:advance(100)
        local done = gateway:post(get())
        equal(done.var.genai_attempts, "b:500:server_error:0 c:200:ok:0")
    end)

    it("gets 429 with the delay of its backend, without a call, while that is throttled", function()
        local gateway = new_gateway()
        make(gateway)
        gateway:serve("b", THROTTLED)
        equal((outcome(gateway, get())), { "b", "memory", 429 })
        gateway.world:advance(5)
        local result, done = outcome(gateway, get())
        equal(result, { "", "memory", 429 })
        equal(done.response_headers["retry-after"], "15")
    end)

    it("gets the error of its backend, and no other backend is tried", function()
        local gateway = new_gateway()
        make(gateway)
        gateway:serve("b", failure(500))
        equal((outcome(gateway, get())), { "b", "memory", 500 })
    end)

    it("gets 404 where its backend does not have the deployment", function()
        local only_4o = { ["gpt-4o"] = "gpt-4o" }
        local gateway = new_gateway({ backends = { "a", { name = "b", deployments = only_4o } } })
        make(gateway)
        local result, done = outcome(gateway, { path = RESPONSES, body = {
            model = "o3", previous_response_id = "resp_1",
        } })
        equal({ result, done.json.error.code }, { { "", "memory", 404 }, "DeploymentNotFound" })
    end)
end)


describe("an answer makes nothing that is remembered where", function()
    local CASES = {
        { "it is an error", failure(400), {} },
        { "it has no id", answer("{}"), {} },
        { "its operation stores nothing", MADE, { path = "/openai/v1/chat/completions" } },
    }
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local gateway = new_gateway()
            make(gateway, case[2], case[3])
            for _, name in ipairs(THREE) do
                gateway:serve(name, NOT_FOUND)
            end
            equal((outcome(gateway, get())), { "a b c a", "none", 404 })
        end)
    end

    it("there is one resource only", function()
        local gateway = new_gateway({ backends = { "a" } })
        gateway:serve("a", MADE, OK)
        gateway:post({ path = RESPONSES })
        equal((outcome(gateway, get())), { "a", "not looked for", 200 })
    end)
end)


describe("files of a client", function()
    it("are made at one backend, and listed there", function()
        local gateway = new_gateway({ backends = { { name = "a", priority = 1 }, { name = "b", priority = 1 },
                                                   { name = "c", priority = 1 } } })
        local first = outcome(gateway, { path = "/openai/v1/files", body = "x" })
        for _ = 1, 3 do
            equal((outcome(gateway, { path = "/openai/v1/files", method = "GET" })), first)
            equal((outcome(gateway, { path = "/openai/v1/files", body = "x" })), first)
        end
    end)
end)


describe("the search for an owner", function()
    it("asks the backends by their priority until one has the object, and remembers it", function()
        local gateway = new_gateway()
        gateway:serve("a", NOT_FOUND)
        equal((outcome(gateway, get())), { "a b b", "search", 200 })
        equal((outcome(gateway, get())), { "b", "memory", 200 })
    end)

    it("asks with the object's own path, the client's version and the backend's key", function()
        local gateway = new_gateway()
        outcome(gateway, { path = RESPONSES .. "?api-version=preview&x=1",
                           body = { model = "gpt-4o", previous_response_id = "resp/1" } })
        local question = gateway:sent_to("a")[1]
        equal({ question.method, question.target, question.headers["api-key"], question.body },
              { "GET", RESPONSES .. "/resp%2F1?api-version=preview", "key-of-a", "" })
    end)

    it("asks each resource once", function()
        local gateway = new_gateway({ backends = { { name = "a", endpoint = "https://one" },
                                                   { name = "b", endpoint = "https://one" }, "c" } })
        gateway:serve("one", NOT_FOUND)
        gateway:serve("c", NOT_FOUND)
        gateway:post(get())
        equal({ #gateway:sent_to("one"), #gateway:sent_to("c") }, { 2, 1 }, "questions, and the request")
    end)

    it("lets the request go where it would go if no backend has the object", function()
        local gateway = new_gateway()
        for _, name in ipairs(THREE) do
            gateway:serve(name, NOT_FOUND)
        end
        equal((outcome(gateway, get())), { "a b c a", "none", 404 })
    end)

    it("is not made for what cannot be read by its id", function()
        local gateway = new_gateway()
        equal((outcome(gateway, { path = "/openai/v1/uploads/upload_1/parts", body = "x" })),
              { "a", "none", 200 })
    end)

    it("ends after 15 seconds with 503", function()
        local gateway = new_gateway({ backends = { "a", "b", "c", "d", "e" } })
        for _, name in ipairs({ "a", "b", "c", "d", "e" }) do
            gateway:serve(name, { times_out = true })
        end
        local began = gateway.world:clock()
        equal((outcome(gateway, get())), { "a b c d", "failed", 503 })
        equal(gateway.world:clock() - began, 20, "seconds")
    end)

    it("asks again with the new key where a key was replaced", function()
        local world = world_module.new()
        world:load("secrets", { { id = "file/settings", files = { KEY_A = "/secrets/a" } } }, 1)
        world.files:write("/secrets/a", "old", world.scheduler.now - 100)
        local backends = { { name = "a", key_setting = "KEY_A" }, "b" }
        local gateway = new_gateway({ world = world, backends = backends })
        gateway:serve("a", function(request)
            if request.headers["api-key"] == "old" then
                world.files:write("/secrets/a", "new")
                return failure(401, nil, "invalid_api_key")
            end
            return OK
        end)
        equal((outcome(gateway, get())), { "a a a", "search", 200 })
    end)

    it("takes a refusal for an object that is not there", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(401, nil, "invalid_api_key"))
        equal((outcome(gateway, get())), { "a b b", "search", 200 })
    end)
end)


-- A backend that may be the owner and cannot say so: how it answers the question, and what the
-- client gets.
local DOUBTS = {
    { "is throttled", THROTTLED, 429, "rate_limit_exceeded", "20000" },
    { "fails", failure(500), 503, "upstream_unavailable", nil },
    { "does not answer in time", { times_out = true }, 503, "upstream_unavailable", nil },
    { "refuses connections", { refuses = "connection refused" }, 503, "upstream_unavailable", nil },
}


describe("where a backend that may be the owner", function()
    for _, case in ipairs(DOUBTS) do
        local about, said, status, code, retry_ms = unpack(case, 1, 5)
        it(about .. ", the client gets " .. status .. " and not 404", function()
            local gateway = new_gateway()
            gateway:serve("a", NOT_FOUND)
            gateway:serve("b", said)
            gateway:serve("c", NOT_FOUND)
            local result, done = outcome(gateway, get())
            equal(result, { "a b c", "failed", status })
            equal({ done.json.error.code, done.response_headers["retry-after-ms"] }, { code, retry_ms })
            equal({ done.var.genai_attempts, done.response_headers["x-gateway-attempts"] }, { nil, "0" })
        end)

        it(about .. ", another one that has the object is found", function()
            local gateway = new_gateway()
            gateway:serve("a", said)
            equal((outcome(gateway, get())), { "a b b", "search", 200 })
        end)
    end

    it("is cooling down, the client gets 429 with the rest of its delay", function()
        local gateway = new_gateway()
        gateway:serve("a", OK, NOT_FOUND)
        gateway:serve("c", NOT_FOUND)
        local availability = gateway.worker.require("gateway.backends.availability")
        local record = gateway:post({ path = "/openai/v1/models", method = "GET" }).record
        availability.cool(record.pool.backends[2], nil, nil, "throttled", 30000, true)
        gateway.world:advance(10)
        local result, done = outcome(gateway, get())
        equal(result, { "a c", "failed", 429 })
        equal(done.response_headers["retry-after-ms"], "20000")
    end)

    it("refuses connections, requests skip it for a second", function()
        local gateway = new_gateway()
        gateway:serve("a", { refuses = "connection refused" }, OK)
        outcome(gateway, get())
        equal((outcome(gateway, {})), { "b", "not looked for", 200 })
        gateway.world:advance(1)
        equal((outcome(gateway, {})), { "a", "not looked for", 200 })
    end)

    it("has no credential at all, it is none", function()
        local gateway = new_gateway({ backends = { { name = "a", key = "$env://MISSING" }, "b" } })
        gateway:serve("b", NOT_FOUND)
        equal((outcome(gateway, get())), { "b b", "none", 404 })
    end)

    it("has no token now, the client gets 502 with the delay until the next attempt", function()
        local gateway = new_gateway({ backends = {
            { name = "a", identity = { resource = "https://cognitiveservices.azure.com" } }, "b" } })
        gateway:serve("169.254.169.254", failure(500))
        gateway:serve("b", NOT_FOUND)
        local result, done = outcome(gateway, get())
        equal(result, { "b", "failed", 502 })
        equal({ done.json.error.code, done.response_headers["retry-after-ms"] },
              { "upstream_credentials", "980" })
    end)
end)


local REDIS = { host = "redis", port = 6379, database = 0, tls = true, timeout_ms = 1000, password = "p" }


local function with_redis(more)
    return new_gateway({ backends = THREE, proxy = { affinity = { ttl_s = 3600, redis = more or REDIS } } })
end


-- Another replica: its own memory, the same Redis.
local function replica_of(gateway)
    local world = world_module.new()
    world.redis["redis:6379"] = gateway.world.redis["redis:6379"]
    return new_gateway({ world = world, proxy = { affinity = { ttl_s = 3600, redis = REDIS } } })
end


describe("the Redis of affinity", function()
    it("tells a replica which backend made a response", function()
        local gateway = with_redis()
        make(gateway)
        local replica = replica_of(gateway)
        equal((outcome(replica, get())), { "b", "redis", 200 })
        equal((outcome(replica, get())), { "b", "memory", 200 }, "the next time")
        equal(gateway.world.redis["redis:6379"].open, 0, "open connections")
    end)

    it("gets no id of a client's object as it is, and lets no request wait", function()
        local gateway = with_redis()
        gateway.world.redis["redis:6379"].takes = 3
        gateway:serve("a", MADE)
        local began = gateway.world:clock()
        equal(gateway:post({ path = RESPONSES }).status, 200)
        equal(gateway.world:clock(), began)
        gateway.world:advance(10)
        equal(gateway.world.redis["redis:6379"].data,
              { ["responses_affinity:md5 of app\nresp_1"] = "https://a" })
    end)

    it("is left alone for five seconds after a failure, and backends are asked", function()
        local gateway = with_redis()
        local redis = gateway.world.redis["redis:6379"]
        redis.down = "connection refused"
        gateway:serve("a", NOT_FOUND)
        equal((outcome(gateway, get(STORED))), { "a b b", "search", 200 })
        gateway:serve("a", NOT_FOUND)
        redis.down = nil
        equal((outcome(gateway, get(RESPONSES .. "/resp_2"))), { "a b b", "search", 200 })
        equal(#redis.calls, 0, "calls within five seconds")
        gateway.world:advance(5)
        outcome(gateway, get(RESPONSES .. "/resp_3"))
        equal(redis.calls[1][1], "mget")
        equal(gateway:metric("genai_affinity_redis_failures_total"), "=1")
        equal(gateway.world:lines("the Redis of affinity fails: connection refused", "warn"), 1)
    end)

    it("is not believed where it names a backend that is not there", function()
        local gateway = with_redis()
        gateway.world.redis["redis:6379"].data["responses_affinity:md5 of app\nresp_1"] = "https://gone"
        gateway:serve("a", NOT_FOUND)
        equal((outcome(gateway, get())), { "a b b", "search", 200 })
    end)

    it("counts as failing where it takes no entries", function()
        local gateway = with_redis()
        gateway.world.redis["redis:6379"].refuses_writes = "OOM"
        make(gateway)
        equal(gateway.world:lines("the Redis of affinity fails: OOM", "warn"), 1)
        equal((outcome(gateway, get())), { "b", "memory", 200 })
    end)

    it("is connected to under its name where TLS is on", function()
        local gateway = with_redis()
        gateway.worker.require("apisix.plugins.azure-openai-limits").init()
        outcome(gateway, get())
        equal(gateway.world.redis["redis:6379"].tls_names[1], "redis")
    end)
end)


local SEALED = '"encrypted_content":"sealed by b"'
local FOREIGN = failure(400, nil, "invalid_encrypted_content")


local function sends(input, more)
    local body = { model = "gpt-4o", input = input }
    for name, value in pairs(more or {}) do
        body[name] = value
    end
    return { path = RESPONSES, body = body }
end


local function with_reasoning(...)
    local input = {}
    for i, each in ipairs({ ... }) do
        input[i] = { type = "reasoning", encrypted_content = each }
    end
    return sends(input[1] and input or { { type = "reasoning", encrypted_content = "sealed by b" } })
end


describe("encrypted reasoning", function()
    local MADE_REASONING = answer('{"id":"resp_1","output":[{' .. SEALED .. '}]}')

    it("goes back to the backend that encrypted it", function()
        local gateway = new_gateway()
        make(gateway, MADE_REASONING)
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 200 })
    end)

    it("of a stream goes back to the backend that encrypted it", function()
        local gateway = new_gateway()
        make(gateway, stream({ '{"type":"response.created","response":{"id":"resp_1"}}',
                               '{"type":"response.output_item.done","item":{' .. SEALED .. '}}' }),
             { stream = true })
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 200 })
    end)

    it("of a compacted conversation goes back as well", function()
        local gateway = new_gateway()
        make(gateway, answer('{"id":"resp_1","object":"response.compaction","output":[{"type":"compaction",'
                             .. SEALED .. '}]}'), { path = RESPONSES .. "/compact" })
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 200 })
    end)

    it("goes to no other backend where its own one fails, and the client gets that", function()
        local gateway = new_gateway()
        make(gateway, MADE_REASONING)
        gateway:serve("b", failure(500))
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 500 })
    end)

    it("gets 429 with the delay of its own backend while that is throttled", function()
        local gateway = new_gateway()
        make(gateway, MADE_REASONING)
        gateway:serve("b", THROTTLED)
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 429 })
        gateway.world:advance(5)
        local result, done = outcome(gateway, with_reasoning())
        equal(result, { "", "memory", 429 })
        equal(done.response_headers["retry-after"], "15")
    end)

    it("that its own backend refuses gets that answer", function()
        local gateway = new_gateway()
        make(gateway, MADE_REASONING)
        gateway:serve("b", FOREIGN)
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 400 })
    end)

    it("of another client is nothing to this one", function()
        local gateway = new_gateway()
        make(gateway, MADE_REASONING)
        gateway.world:write_file({ { name = "other", key = "key-of-other" } })
        gateway.world:advance(1)
        local request = with_reasoning()
        request.headers = { ["api-key"] = "key-of-other" }
        equal((outcome(gateway, request)), { "a", "none", 200 })
    end)
end)


describe("encrypted reasoning that nobody remembers", function()
    it("is tried at the other backends once, and the one that accepts it is remembered", function()
        local gateway = new_gateway()
        gateway:serve("a", FOREIGN, OK)
        gateway:serve("b", FOREIGN, OK)
        local result, done = outcome(gateway, with_reasoning("s1", "s2"))
        equal(result, { "a b c", "none", 200 })
        equal(done.var.genai_attempts, "a:400:ok:0 b:400:ok:0 c:200:ok:0")
        equal((outcome(gateway, with_reasoning("s2"))), { "c", "memory", 200 })
        equal((outcome(gateway, with_reasoning("s1"))), { "c", "memory", 200 }, "its sibling")
    end)

    it("is remembered where the first backend accepts it", function()
        local gateway = new_gateway()
        outcome(gateway, with_reasoning())
        equal((outcome(gateway, with_reasoning())), { "a", "memory", 200 })
    end)

    it("is not remembered by an answer that says something else", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(400, nil, "content_filter"), OK)
        equal((outcome(gateway, with_reasoning())), { "a", "none", 400 })
        equal((outcome(gateway, with_reasoning())), { "a", "none", 200 })
    end)

    it("gets the first backend's answer where all refuse it, and is not tried again at once", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(400, { ["x-request-id"] = "of a" }, "invalid_encrypted_content"))
        gateway:serve("b", FOREIGN)
        gateway:serve("c", FOREIGN)
        local result, done = outcome(gateway, with_reasoning())
        equal(result, { "a b c", "none", 400 })
        equal({ done.json.error.code, done.response_headers["x-request-id"],
                done.response_headers["x-gateway-backend"], done.response_headers["retry-after"] },
              { "invalid_encrypted_content", "of a", "a", nil })
        equal({ gateway:metric("genai_unserved_requests_total"), done.record.facts.error,
                done.record.facts.error_source }, { "", "400", "backend" })
        equal((outcome(gateway, with_reasoning())), { "a", "none", 400 })
        gateway.world:advance(11)
        equal((outcome(gateway, with_reasoning())), { "a b c", "none", 400 })
    end)

    it("gets 429 with the delay of a backend that may have encrypted it and is throttled", function()
        for _, said in ipairs({ THROTTLED, failure(429, { ["retry-after-ms"] = "20000" }) }) do
            local gateway = new_gateway({ backends = { "a", "b" } })
            gateway:serve("a", said)
            gateway:serve("b", FOREIGN)
            local result, done = outcome(gateway, with_reasoning())
            equal({ result, done.response_headers["retry-after"] }, { { "a b", "none", 429 }, "20" })
            result, done = outcome(gateway, with_reasoning())
            equal({ result, done.response_headers["retry-after"] }, { { "b", "none", 429 }, "20" })
        end
    end)

    it("gets the error of a backend that may have encrypted it and fails", function()
        local gateway = new_gateway({ backends = { "a", "b" } })
        gateway:serve("a", failure(500))
        gateway:serve("b", FOREIGN)
        equal((outcome(gateway, with_reasoning())), { "a b", "none", 500 })
    end)

    it("is tried at a drained backend, and once at each resource", function()
        local gateway = new_gateway({ backends = { { name = "a", endpoint = "https://one" },
                                                   { name = "b", endpoint = "https://one" },
                                                   { name = "c", weight = 0 } } })
        gateway:serve("one", FOREIGN)
        local done = gateway:post(with_reasoning())
        equal(done.var.genai_attempts, "a:400:ok:0 c:200:ok:0")
    end)

    it("is tried no more often than the settings let it be", function()
        local gateway = new_gateway({ pool = { max_retries = 0 } })
        gateway:serve("a", FOREIGN)
        equal((outcome(gateway, with_reasoning())), { "a", "none", 400 })
    end)

    it("is tried elsewhere where a stream refuses it", function()
        local gateway = new_gateway()
        local refused = stream({ '{"type":"error","error":{"type":"invalid_request_error",'
                                 .. '"code":"invalid_encrypted_content","message":"x"}}' })
        gateway:serve("a", refused, OK)
        gateway:serve("b", stream({ '{"type":"response.created","response":{"id":"resp_1"}}',
                                    '{"type":"response.output_text.delta","delta":"x"}' }), OK)
        local request = with_reasoning()
        request.body.stream = true
        equal((outcome(gateway, request)), { "a b", "none", 200 })
        equal((outcome(gateway, with_reasoning())), { "b", "memory", 200 })
    end)

    it("gets the first backend's stream where all refuse it in one", function()
        local gateway = new_gateway({ backends = { "a", "b" } })
        for _, name in ipairs({ "a", "b" }) do
            gateway:serve(name, stream({ '{"type":"error","error":{"code":"invalid_encrypted_content",'
                                         .. '"message":"' .. name .. '"}}' }))
        end
        local request = with_reasoning()
        request.body.stream = true
        local result, done = outcome(gateway, request)
        equal(result, { "a b", "none", 200 })
        equal(done.text, 'data: {"type":"error","error":{"code":"invalid_encrypted_content",'
                         .. '"message":"a"}}\n\n')
    end)
end)


-- What an answer makes besides its own id, and how a later request names that.
local ITEM = { { type = "item_reference", id = "rs_1" } }
local CHAT = "/openai/v1/chat/completions"
local OUTPUT = '"output":[{"type":"reasoning","id":"rs_1"},{"type":"message","id":"msg_1"}]'
local RESPONSE = '{"id":"resp_1","object":"response",' .. OUTPUT .. "}"


local function chats(message, more)
    local body = { model = "gpt-4o", messages = { message } }
    for name, value in pairs(more or {}) do
        body[name] = value
    end
    return { path = CHAT, body = body }
end


local NAMES = {
    { "an item by reference", answer(RESPONSE), {}, sends(ITEM) },
    { "an item as a whole", answer(RESPONSE), {},
      sends({ { role = "user", content = "x" }, { type = "message", id = "msg_1", content = {} } }) },
    { "the first of many items", answer(RESPONSE), {},
      sends({ { id = "rs_1" }, { id = "fc_2" }, { id = "ws_3" }, { id = "ig_4" }, { id = "cu_5" } }) },
    { "an item of a stream", stream({ '{"type":"response.created","response":{"id":"resp_1"}}',
                                      '{"type":"response.output_item.done","item":{"id":"rs_1"}}' }),
      { stream = true }, sends(ITEM) },
    { "an item of a stream that has its end alone",
      stream({ '{"type":"response.completed","response":' .. RESPONSE .. "}" }), { stream = true },
      sends(ITEM) },
    { "an item of a long event",
      stream({ '{"type":"response.output_item.done","item":{"x":"' .. ("x"):rep(70000)
               .. '","id":"rs_1"}}' }),
      { stream = true }, sends(ITEM) },
    { "an item of a response that was polled", answer(RESPONSE), { path = STORED, method = "GET" },
      sends(ITEM) },
    { "an item that was put into a conversation", answer('{"object":"list","data":[{"id":"rs_1"}]}'),
      { path = "/openai/v1/conversations/conv_1/items", body = { items = {} } }, sends(ITEM) },
    { "an approval that is asked for", answer('{"id":"resp_1","output":[{"id":"mcpr_1"}]}'), {},
      sends({ { type = "mcp_approval_response", approval_request_id = "mcpr_1", approve = true } }) },
    { "a container that a response has made",
      answer('{"id":"resp_1","output":[{"id":"ci_1","container_id":"cntr_1"}]}'), {},
      { path = "/openai/v1/containers/cntr_1/files/cfile_1/content", method = "GET" } },
    { "a stored chat completion", answer('{"id":"chatcmpl-1"}'),
      chats({ role = "user" }, { store = true }), { path = CHAT .. "/chatcmpl-1/messages", method = "GET" } },
    { "the metadata of a stored chat completion", answer('{"id":"chatcmpl-1"}'),
      chats({ role = "user" }, { store = true }),
      { path = CHAT .. "/chatcmpl-1", body = { metadata = {} } } },
    { "a stored chat completion of the older API", answer('{"id":"chatcmpl-1"}'),
      { path = "/openai/deployments/gpt-4o/chat/completions?api-version=1", body = { store = true } },
      { path = "/openai/chat/completions/chatcmpl-1?api-version=1", method = "DELETE" } },
    { "a stored chat completion of a stream", stream({ '{"id":"","choices":[]}', '{"id":"chatcmpl-1"}' }),
      chats({ role = "user" }, { store = true, stream = true }),
      { path = CHAT .. "/chatcmpl-1", method = "GET" } },
    { "audio of an earlier turn", answer('{"id":"c","choices":[{"message":{"audio":{"id":"audio_1"}}}]}'),
      chats({ role = "user" }, { audio = { voice = "alloy" } }),
      chats({ role = "assistant", audio = { id = "audio_1" } }) },
    { "audio of a stored turn", answer('{"id":"c","choices":[{"message":{"audio":{"id":"audio_1"}}}]}'),
      chats({ role = "user" }, { store = true }), chats({ role = "assistant", audio = { id = "audio_1" } }) },
    { "audio of a stream", stream({ '{"id":"c","choices":[{"delta":{"audio":{"id":"audio_1"}}}]}' }),
      chats({ role = "user" }, { audio = { voice = "alloy" }, stream = true }),
      chats({ role = "assistant", audio = { id = "audio_1" } }) },
    { "a file in a chat", answer('{"id":"file-1"}'), { path = "/openai/v1/files" },
      chats({ role = "user", content = { { type = "file", file = { file_id = "file-1" } } } }) },
    { "a file of an image to edit", answer('{"id":"file-1"}'), { path = "/openai/v1/files" },
      { path = "/openai/v1/images/edits",
        body = { model = "gpt-4o", images = { { file_id = "file-1" } } } } },
    { "an upload", answer('{"id":"upload_1"}'), { path = "/openai/v1/uploads" },
      { path = "/openai/v1/uploads/upload_1/complete", body = { part_ids = { "part_1" } } } },
    { "the file of an upload", answer('{"id":"upload_1","file":{"id":"file-1"}}'),
      { path = "/openai/v1/uploads/upload_1/complete", body = { part_ids = { "part_1" } } },
      { path = "/openai/v1/files/file-1", method = "GET" } },
    { "the results of a batch", answer('{"id":"batch_1","output_file_id":"file-1"}'),
      { path = "/openai/v1/batches/batch_1", method = "GET" },
      { path = "/openai/v1/files/file-1/content", method = "GET" } },
    { "a video to go on with", answer('{"id":"video_1"}'), { path = "/openai/v1/videos" },
      { path = "/openai/v1/videos/edits", body = { video = { id = "video_1" }, prompt = "x" } } },
}


describe("an answer is remembered as the owner of", function()
    for _, case in ipairs(NAMES) do
        local about, made, request, names = unpack(case)
        it(about, function()
            local gateway = new_gateway()
            -- What a path names is found by a search.
            gateway:serve("a", function(each)
                return each.method == "GET" and NOT_FOUND or failure(503)
            end)
            gateway:serve("b", made)
            local first = gateway:post({ method = request.method, path = request.path or RESPONSES,
                                         body = request.body, stream = request.stream })
            equal(first.status, 200)
            gateway.world:advance(200)
            gateway:serve("a", OK)
            local owner = first.record.attempts[#first.record.attempts].backend.name
            equal((outcome(gateway, names)), { owner, "memory", 200 })
        end)
    end
end)


describe("a request that names nothing known", function()
    it("is not looked for where it is a chat", function()
        local gateway = new_gateway()
        equal((outcome(gateway, chats({ role = "user", content = "x" }))), { "a", "not looked for", 200 })
        equal((outcome(gateway, chats({ role = "user" }, { store = false }))), { "a", "not looked for", 200 })
    end)

    it("leads nowhere by an item of a response that was not stored", function()
        local gateway = new_gateway()
        make(gateway, answer(RESPONSE), { body = { model = "gpt-4o", store = false } })
        equal((outcome(gateway, sends(ITEM))), { "a", "none", 200 })
    end)

    it("is tried at the other backends where the first does not have the item", function()
        local gateway = new_gateway()
        local missing = failure(404)
        missing.body = '{"error":{"message":"Item with id \'rs_1\' not found.","param":"input"}}'
        gateway:serve("a", missing, OK)
        equal((outcome(gateway, sends(ITEM))), { "a b", "none", 200 })
        equal((outcome(gateway, sends(ITEM))), { "b", "memory", 200 })
    end)

    it("is led nowhere by ids of its own that a backend has accepted", function()
        local gateway = new_gateway({ backends = { { name = "a", priority = 1 },
                                                   { name = "b", priority = 1 } } })
        for _, place in ipairs({ "a", "b", "a" }) do
            equal((outcome(gateway, sends({ { id = "msg_of_client", role = "user", content = "x" } },
                                          { store = false }))), { place, "none", 200 })
        end
    end)

    it("is tried at the other backends where the first does not have the upload", function()
        local gateway = new_gateway()
        local parts = { path = "/openai/v1/uploads/upload_1/parts", body = "x" }
        gateway:serve("a", NOT_FOUND, OK)
        equal((outcome(gateway, parts)), { "a b", "none", 200 })
        equal((outcome(gateway, parts)), { "b", "memory", 200 })
    end)

    it("gets the answer of a backend that does not understand it", function()
        local gateway = new_gateway()
        gateway:serve("a", failure(400, nil, "invalid_value"))
        equal((outcome(gateway, sends(ITEM))), { "a", "none", 400 })
    end)
end)


describe("a new stored object", function()
    local TWO = { { name = "a", priority = 2 }, { name = "b", priority = 1 } }
    local EQUAL = { { name = "a", priority = 1 }, { name = "b", priority = 1 } }

    -- A gateway that knows that backend a is throttled for a model, and b perhaps longer.
    local function throttled_at(backends, model, also_b, options)
        options = options or {}
        options.backends = backends
        local gateway = new_gateway(options)
        gateway:serve("a", THROTTLED, OK)
        if also_b then
            gateway:serve("b", failure(429, { ["retry-after"] = "60" }), OK)
        end
        gateway:post({ model = model })
        if backends == EQUAL then
            gateway:post({ model = model })
        end
        return gateway
    end

    for _, path in ipairs({ "conversations", "vector_stores", "files", "uploads", "containers", "evals",
                            "threads", "assistants" }) do
        it("of " .. path .. " is made where no deployment is cooling down", function()
            local gateway = throttled_at(TWO, "gpt-4o")
            for _ = 1, 3 do
                equal((outcome(gateway, { path = "/openai/v1/" .. path, body = {} })),
                      { "b", "not looked for", 200 })
            end
            gateway.world:advance(21)
            equal((outcome(gateway, { path = "/openai/v1/conversations", body = {} }))[1], "a", "afterwards")
        end)
    end

    it("is made at any of those where nothing is cooling down", function()
        local gateway = throttled_at(EQUAL, "gpt-4o")
        for _ = 1, 4 do
            equal((outcome(gateway, { path = "/openai/v1/conversations", body = {} }))[1], "b")
        end
    end)

    it("is made where the first cooldown ends, if there is one everywhere", function()
        local gateway = throttled_at(TWO, "gpt-4o", true)
        equal((outcome(gateway, { path = "/openai/v1/conversations", body = {} }))[1], "a")
        gateway = throttled_at({ { name = "a", priority = 1 }, { name = "b", priority = 2 } }, "gpt-4o", true)
        equal((outcome(gateway, { path = "/openai/v1/conversations", body = {} }))[1], "a")
    end)

    it("is made regardless of models that its client may not call", function()
        -- One has a list without the model that is throttled, the other one with it.
        local gateway = throttled_at(TWO, "gpt-4o")
        gateway.world:write_file({ { name = "other", key = "key-of-other", models = { "o3*" } },
                                   { name = "third", key = "key-of-third", models = { "GPT-4*" } } })
        gateway.world:advance(1)
        local function place_of(key)
            return (outcome(gateway, { path = "/openai/v1/conversations", method = "POST", body = {},
                                       headers = { ["api-key"] = key } }))
        end
        equal({ place_of("key-of-other"), place_of("key-of-third") },
              { { "a", "not looked for", 200 }, { "b", "not looked for", 200 } })
    end)

    it("is made at its owner where it names something", function()
        local gateway = throttled_at(TWO, "gpt-4o")
        gateway:serve("b", NOT_FOUND)
        equal((outcome(gateway, { path = "/openai/v1/vector_stores", body = { file_ids = { "file-1" } } })),
              { "a a", "search", 200 })
    end)

    it("goes to the next backend where the one that was chosen fails", function()
        local gateway = throttled_at(TWO, "gpt-4o")
        gateway:serve("b", failure(503))
        equal((outcome(gateway, { path = "/openai/v1/conversations", body = {} })),
              { "b a", "not looked for", 200 })
    end)
end)
