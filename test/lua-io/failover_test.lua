--- The attempt loop: which backends a request is sent to, in order, and what the client gets; and
-- that everything which reports the attempts of a request reports the same ones.

local harness = require("harness")
local reports = require("reports")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream = test_gateway.failure, test_gateway.stream
local OK, PREAMBLE, OUTPUT, USAGE = test_gateway.OK, test_gateway.PREAMBLE, test_gateway.OUTPUT,
                                    test_gateway.USAGE

local THREE = { "a", "b", "c" }
local SEVEN = { "a", "b", "c", "d", "e", "f", "g" }

local IDENTITY = { resource = "https://cognitiveservices.azure.com" }

local RESPONSES = "/openai/v1/responses"

local FIREWALL = failure(403, nil, "Forbidden")
FIREWALL.body = '{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}'

local NO_PERMISSION = failure(401, nil, "PermissionDenied")

local NO_DEPLOYMENT = failure(404, nil, "DeploymentNotFound")

local FOREIGN_REASONING = failure(400, nil, "invalid_encrypted_content")

local A_FAILED_RESPONSE = {
    status = 200, headers = OK.headers,
    body = '{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"no"}}',
}

local HALF_AN_ANSWER = { status = 200, headers = OK.headers, pieces = { '{"id":"x",' }, breaks = "closed" }


-- A key in a file, which its backend refuses; the file has another one by then.
local function replace_key(gateway)
    local world = gateway.world
    gateway:serve("a", function(request)
        if request.headers["api-key"] ~= "old" then
            return OK
        end
        world.files:write("/secrets/a", "new")
        return failure(401, nil, "invalid_api_key")
    end)
end


local function with_key_in_file()
    local world = require("world").new()
    world:load("secrets", { { id = "file/settings", files = { KEY_A = "/secrets/a" } } }, 1)
    world.files:write("/secrets/a", "old", world.scheduler.now - 100)
    return { world = world, backends = { { name = "a", key_setting = "KEY_A" }, "b" } }
end


local function serve_all(names, answer)
    return function(gateway)
        for _, name in ipairs(names) do
            gateway:serve(name, answer)
        end
    end
end


local function only_a(...)
    local answers = { ... }
    return function(gateway)
        gateway:serve("a", unpack(answers))
    end
end


-- A configuration that is newer than the request, in which some backends are drained.
local function drained(...)
    local names = " " .. table.concat({ ... }, " ") .. " "
    return function(gateway)
        local instances = {}
        for i, each in ipairs(gateway.conf["ai-proxy-multi"].instances) do
            local is_drained = names:find(" " .. each.name .. " ", 1, true)
            instances[i] = { name = each.name, weight = is_drained and 0 or 1, override = each.override }
        end
        gateway.world.services["azure-openai"] = {
            modifiedIndex = 2,
            value = { plugins = { ["ai-proxy-multi"] = { instances = instances } } },
        }
    end
end


-- A response that backend b has made and stored.
local function make_response(gateway)
    gateway:serve("a", failure(503), OK)
    gateway:serve("b", { status = 200, headers = OK.headers, body = '{"id":"resp_of_b"}' }, OK)
    gateway:post({ path = RESPONSES })
end


-- Encrypted reasoning that only b can read, and nobody remembers that.
local function make_reasoning(gateway)
    gateway:serve("a", FOREIGN_REASONING)
end


local SEALED_INPUT = { model = "gpt-4o",
                       input = { { type = "reasoning", encrypted_content = "sealed by b" } } }


-- `gateway` are options of the gateway, `script` is how its backends answer, `attempts` what must be
-- reported, `status` and `code` the client's answer ("x" is a backend's own), `retry_ms` the delay
-- that the client is told, `calls` the backends that were called, where that is not one for each
-- attempt.
local CASES = {
    { "an answer", script = only_a(OK), attempts = "a:200:ok", status = 200 },
    { "an error of the client", script = only_a(failure(400)),
      attempts = "a:400:ok", status = 400, code = "x" },
    { "a throttled backend", script = only_a(failure(429, { ["retry-after"] = "7" })),
      attempts = "a:429:throttled b:200:ok", status = 200 },
    { "all throttled", script = function(gateway)
        gateway:serve("a", failure(429, { ["retry-after"] = "7" }))
        gateway:serve("b", failure(429, { ["retry-after-ms"] = "2500" }))
        gateway:serve("c", failure(429, { ["retry-after"] = "30" }))
    end, attempts = "a:429:throttled b:429:throttled c:429:throttled", status = 429, code = "x",
      retry_ms = "2500" },
    { "failing backends", script = function(gateway)
        gateway:serve("a", failure(500))
        gateway:serve("b", failure(408))
    end, attempts = "a:500:server_error b:408:server_error c:200:ok", status = 200 },
    { "a refused connection", script = only_a({ refuses = "connection refused" }),
      attempts = "a::connect_error b:200:ok", status = 200 },
    { "refused connections only", script = serve_all(THREE, { refuses = "connection refused" }),
      attempts = "a::connect_error b::connect_error c::connect_error", status = 502,
      code = "upstream_unreachable" },
    { "a connection that takes too long", script = only_a({ refuses = "timeout", takes = 5 }),
      attempts = "a::connect_error b:200:ok", status = 200 },
    { "no answer in time", script = only_a({ times_out = true }), attempts = "a::timeout b:200:ok",
      status = 200 },
    { "no answer in time from any", script = serve_all(THREE, { times_out = true }),
      attempts = "a::timeout b::timeout c::timeout", status = 504, code = "upstream_timeout" },
    { "a connection that is reset", script = only_a({ resets = true }),
      attempts = "a::connect_error b:200:ok", status = 200 },
    { "a kept connection that was closed, with another backend", script = only_a({ is_stale = true }, OK),
      attempts = "a::stale_connection b:200:ok", status = 200 },
    { "a kept connection that was closed, without another backend", gateway = { backends = { "a" } },
      script = only_a({ is_stale = true }, OK),
      attempts = "a::stale_connection a:200:ok", status = 200 },
    { "kept connections that were closed, one after another", gateway = { backends = { "a" } },
      script = only_a({ is_stale = true }, { is_stale = true }, OK),
      attempts = "a::stale_connection a:200:ok", status = 200, calls = "a a a" },
    { "a key that was replaced", gateway = with_key_in_file, script = replace_key,
      attempts = "a:401:credentials a:200:ok", status = 200 },
    { "a key that is wrong", script = only_a(failure(401, nil, "invalid_api_key")),
      attempts = "a:401:credentials b:200:ok", status = 200 },
    { "a firewall", script = only_a(FIREWALL), attempts = "a:403:blocked b:200:ok", status = 200 },
    { "a missing permission", script = only_a(NO_PERMISSION), attempts = "a:401:refused b:200:ok",
      status = 200 },
    { "a missing deployment", script = only_a(NO_DEPLOYMENT),
      attempts = "a:404:deployment_not_found b:200:ok", status = 200 },
    { "a deployment that none has", script = serve_all(THREE, NO_DEPLOYMENT),
      attempts = "a:404:deployment_not_found b:404:deployment_not_found c:404:deployment_not_found",
      status = 404, code = "DeploymentNotFound" },
    { "a stream", script = only_a(stream({ PREAMBLE, OUTPUT, USAGE })), request = { stream = true },
      attempts = "a:200:ok", status = 200 },
    { "a stream that is refused", script = only_a(stream({ test_gateway.THROTTLED })),
      request = { stream = true }, attempts = "a:200:throttled b:200:ok", status = 200 },
    { "a stream that breaks off before its output", script = only_a(stream({ PREAMBLE }, "closed")),
      request = { stream = true }, attempts = "a:200:stream_error b:200:ok", status = 200 },
    { "a stream that breaks off after its output", script = only_a(stream({ OUTPUT }, "closed")),
      request = { stream = true }, attempts = "a:200:stream_error", status = 200 },
    { "an answer that breaks off before its first byte is sent", script = only_a(HALF_AN_ANSWER),
      attempts = "a:200:stream_error b:200:ok", status = 200 },
    { "a response with status failed", script = only_a(A_FAILED_RESPONSE), request = { path = RESPONSES },
      attempts = "a:200:server_error b:200:ok", status = 200 },
    { "reasoning that another backend encrypted", script = make_reasoning,
      request = { path = RESPONSES, body = SEALED_INPUT }, attempts = "a:400:ok b:200:ok", status = 200 },
    { "reasoning that no backend encrypted", script = serve_all(THREE, FOREIGN_REASONING),
      request = { path = RESPONSES, body = SEALED_INPUT }, attempts = "a:400:ok b:400:ok c:400:ok",
      status = 400, code = "invalid_encrypted_content" },
    { "a stored response", script = make_response,
      request = { path = RESPONSES .. "/resp_of_b", method = "GET" }, attempts = "b:200:ok", status = 200 },
    { "a stored response, while its owner fails", script = function(gateway)
        make_response(gateway)
        gateway:serve("b", failure(500))
    end, request = { path = RESPONSES .. "/resp_of_b", method = "GET" }, attempts = "b:500:server_error",
      status = 500, code = "x" },
    { "a deadline", gateway = { proxy = { deadline_ms = 3000 } },
      script = serve_all(THREE, { times_out = true }), attempts = "a::timeout", status = 504,
      code = "upstream_timeout" },
    { "a maximum of attempts", gateway = { pool = { max_retries = 1 } },
      script = serve_all(THREE, failure(503)),
      attempts = "a:503:server_error b:503:server_error", status = 503, code = "x" },
    { "a repeated attempt, which does not count against the maximum",
      gateway = { backends = { "a" }, pool = { max_retries = 0 } }, script = only_a({ is_stale = true }, OK),
      attempts = "a::stale_connection a:200:ok", status = 200 },
    { "seven failing backends, of which five are called", gateway = { backends = SEVEN },
      script = serve_all(SEVEN, failure(500)),
      attempts = "a:500:server_error b:500:server_error c:500:server_error d:500:server_error"
                 .. " e:500:server_error", status = 500, code = "x" },
    { "a backend that was drained while the body arrived", script = drained("a"),
      request = { upload_takes = 2 }, attempts = "b:200:ok", status = 200 },
    { "a pool that was drained while the body arrived", script = drained("a", "b", "c"),
      request = { upload_takes = 2 }, attempts = "a:200:ok", status = 200 },
    { "no token", gateway = { backends = { { name = "a", identity = IDENTITY }, "b" } },
      script = function(gateway)
        gateway:serve("169.254.169.254", failure(400))
    end, attempts = "a::credentials b:200:ok", status = 200, calls = "b" },
    { "no token for any", gateway = { backends = { { name = "a", identity = IDENTITY } } },
      script = function(gateway)
        gateway:serve("169.254.169.254", failure(400))
    end, attempts = "a::credentials", status = 502, code = "upstream_credentials", retry_ms = "980",
      calls = "" },
    { "a request that cannot be sent", request = { path = "/openai/v1/chat/completions?x=a b" },
      attempts = "", status = 400, code = "invalid_request", calls = "", has_no_header = true },
    { "a client that goes away before the answer", script = only_a({ times_out = true }),
      request = { leaves_at = 2 }, attempts = "a::client_abort", status = 499, has_no_header = true },
    { "a client that goes away in the middle of a stream",
      script = only_a(stream({ OUTPUT, OUTPUT, OUTPUT })), request = { stream = true, leaves_after = 1 },
      attempts = "a:200:client_abort", status = 200 },
    { "a request while all backends are throttled", script = function(gateway)
        serve_all(THREE, failure(429, { ["retry-after"] = "60" }))(gateway)
        gateway:post()
    end, attempts = "", status = 429, code = "rate_limit_exceeded", retry_ms = "60000" },
}


local function new_gateway(options)
    options = type(options) == "function" and options() or options or {}
    options.backends = options.backends or THREE
    return test_gateway.new(options)
end


-- The backends that attempts were made at.
local function backends_in(attempts)
    local names = {}
    for name in attempts:gmatch("(%w+):[^ ]*") do
        names[#names + 1] = name
    end
    return table.concat(names, " ")
end


local function check(case)
    local gateway = new_gateway(case.gateway)
    if case.script then
        case.script(gateway)
    end
    gateway.world.network.connected = {}
    local calls
    local request, found, expected = reports.of(gateway, function()
        local request = gateway:post(case.request)
        calls = gateway:called()
        return request
    end)

    equal(found.record, case.attempts, "attempts")
    if case.has_no_header then
        expected["header x-gateway-attempts"] = "none"
    end
    for name, text in pairs(expected) do
        equal(found[name], text, name)
    end
    equal(calls, case.calls or backends_in(case.attempts), "called backends")
    equal(request.status, case.status, "status")
    local body = request.json or {}
    equal(body.error and body.error.code, case.code, "code")
    equal(request.response_headers["retry-after-ms"], case.retry_ms, "retry-after-ms")
end


describe("all reports of a request's attempts agree after", function()
    for _, case in ipairs(CASES) do
        it(case[1], function()
            check(case)
        end)
    end
end)
