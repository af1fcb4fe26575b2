--- Tokens of Entra ID: one worker asks for all of them, ahead of time, and failures pause.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local CONF = { resource = "https://cognitiveservices.azure.com", client_id = "client-1" }
local SERVICE = "169.254.169.254"


local function token(name, seconds, takes)
    return { status = 200, takes = takes,
             body = ('{"access_token":"%s","expires_in":%d}'):format(name, seconds or 3600) }
end


local function line_of(name)
    return "authorization: Bearer " .. name .. "\r\n\r\n"
end


-- A world with workers; each has the module and its identity.
local function setup(count, env, conf)
    local world = world_module.new({ worker_count = count, env = env })
    local workers = {}
    for i = 1, count do
        local worker = world:worker()
        worker.require("gateway.metrics").start()
        worker.tokens = worker.require("gateway.credentials.entra_tokens")
        worker.identity = worker.tokens.of(conf or CONF)
        workers[i] = worker
    end
    return world, unpack(workers)
end


-- Begins requests that need a token. Each gets `done`, with what they got and when.
local function begin(world, worker, count)
    local requests = {}
    for i = 1, count do
        local request = {}
        requests[i] = request
        world.scheduler:start(nil, nil, function()
            request.line, request.err, request.pause_ms = worker.tokens.authorization(worker.identity)
            request.at = world:clock()
        end)
    end
    return requests
end


-- What one request gets now: the line or the error, and the seconds that it waited.
local function authorization(world, worker)
    local began = world:clock()
    local line, err, pause_ms = world:call(worker.tokens.authorization, worker.identity)
    return line or err, world:clock() - began, pause_ms
end


local function asked(world)
    return #world.network.sent
end


describe("a token", function()
    it("is asked for once for many requests in two workers", function()
        local world, first, second = setup(2)
        world.network:serve(SERVICE, token("one", 3600, 1))
        local requests = begin(world, first, 5)
        for _, each in ipairs(begin(world, second, 5)) do
            requests[#requests + 1] = each
        end
        world:advance(2)
        for i, each in ipairs(requests) do
            equal({ each.line, each.at <= 1.03 }, { line_of("one"), true }, "request " .. i)
        end
        equal(asked(world), 1)
    end)

    it("is there for a worker that starts later", function()
        local world, first = setup(1)
        world.network:serve(SERVICE, token("one", 3600, 1))
        authorization(world, first)
        local later = world:worker()
        later.tokens = later.require("gateway.credentials.entra_tokens")
        later.identity = later.tokens.of(CONF)
        equal({ authorization(world, later) }, { line_of("one"), 0 })
        equal(asked(world), 1)
    end)

    it("is not asked for where another worker has stored one a moment ago", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("two"))
        local entra = worker.require("genai.identity.entra")
        local add = world.state.add
        world.state.add = function(self, key, ...)
            -- It did so between the look of this worker and its lock.
            if key == entra.lock_key(worker.identity) then
                entra.store(self, worker.identity, { token = "one", ends_at = world.scheduler.now + 3600 },
                            world.scheduler.now, 0)
            end
            return add(self, key, ...)
        end
        equal({ authorization(world, worker), asked(world) }, { line_of("one"), 0 })
    end)

    it("is asked for as the instance metadata service wants it", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"))
        authorization(world, worker)
        local request = world.network.sent[1]
        equal({ request.method, request.target, request.headers.metadata, request.headers.host }, {
            "GET", "/metadata/identity/oauth2/token?api-version=2018-02-01&client_id=client-1"
                   .. "&resource=https%3A%2F%2Fcognitiveservices.azure.com", "true", SERVICE })
        equal(request.connection, "closed")
    end)

    it("is asked for with the platform's secret where it names an endpoint", function()
        local world, worker = setup(1, { IDENTITY_ENDPOINT = "http://platform:42/token",
                                         IDENTITY_HEADER = "s3" })
        world.network:serve("platform", token("one"))
        authorization(world, worker)
        equal(world.network.sent[1].headers["x-identity-header"], "s3")
        equal(world:lines("s3"), 0, "lines of the log with the secret")
    end)

    it("is asked for with what the file of a workload identity holds then", function()
        local world, worker = setup(1, { AZURE_FEDERATED_TOKEN_FILE = "/token", AZURE_TENANT_ID = "tenant" })
        world.network:serve("login.microsoftonline.com", { status = 400, body = '{"error":"invalid_grant"}' },
                            token("one"))
        world.files:write("/token", "assertion-1\n")
        authorization(world, worker)
        world.files:write("/token", "assertion-2\n")
        world:advance(3)
        equal(authorization(world, worker), line_of("one"))
        local bodies = {}
        for i, each in ipairs(world.network.sent) do
            bodies[i] = each.body:match("client_assertion=([^&]*)")
        end
        equal(bodies, { "assertion-1", "assertion-2" })
        equal(world.network.sent[1].path, "/tenant/oauth2/v2.0/token")
    end)

    it("is never written to the log", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("very-secret"))
        authorization(world, worker)
        equal({ world:lines("very-secret"), world:lines("fetched a token for", "info") }, { 0, 1 })
    end)

    it("is used by its worker though it does not fit into the shared memory", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"))
        world.state.set = function(self, key, ...)
            if key == worker.identity.key then
                return nil, "no memory"
            end
            return getmetatable(self).__index.set(self, key, ...)
        end
        equal(authorization(world, worker), line_of("one"))
        equal(world:lines("a token cannot be stored in the shared memory: no memory", "error"), 1)
    end)
end)


describe("ahead of its end, a token", function()
    -- Four fifths of an hour.
    local DUE_S = 2880

    it("is replaced by one worker, and the other one takes it over", function()
        local world, first, second = setup(2)
        world.network:serve(SERVICE, token("one"), token("two", 3600, 2))
        authorization(world, first)
        authorization(world, second)
        world:advance(DUE_S - 1)
        equal(asked(world), 1, "questions before it is due")
        world:advance(5)
        equal(asked(world), 2, "questions after it is due")
        equal({ authorization(world, first) }, { line_of("two"), 0 })
        equal({ authorization(world, second) }, { line_of("two"), 0 })
    end)

    it("is replaced up to a twentieth of that time sooner, not by all gateways at once", function()
        local world, worker = setup(1)
        world.random = 1
        world.network:serve(SERVICE, token("one"))
        authorization(world, worker)
        world:advance(DUE_S * 0.95 - 1)
        equal(asked(world), 1)
        world:advance(2)
        equal(asked(world), 2)
    end)

    it("lets no request wait while it is replaced", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), token("two", 3600, 4))
        authorization(world, worker)
        world:advance(DUE_S + 2)
        equal(asked(world), 2)
        equal({ authorization(world, worker) }, { line_of("one"), 0 })
    end)

    it("is kept where it cannot be replaced, with a warning", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), { status = 500 })
        authorization(world, worker)
        world:advance(DUE_S + 2)
        equal({ authorization(world, worker) }, { line_of("one"), 0 })
        equal({ world:lines("no token for", "warn") > 0, world:lines("no token for", "error") }, { true, 0 })
    end)

    it("is not used in its last 30 seconds", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), { status = 500 })
        authorization(world, worker)
        world:advance(3571)
        equal((authorization(world, worker)):find("no token from the instance metadata service", 1, true), 1)
        equal(worker.tokens.is_without_token(worker.identity), true)
    end)
end)


describe("a failure to get a token", function()
    it("pauses for 1, 2, 4 and 8 seconds", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, { status = 500 })
        begin(world, worker, 1)
        world:advance(20)
        local times = {}
        for i, each in ipairs(world.network.sent) do
            times[i] = each.at - world.network.sent[1].at
        end
        -- The worker looks once a second whether one is due.
        equal(times, { 0, 1, 3, 7, 15 })
    end)

    it("is told to requests at once during the pause, with the rest of it", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, { status = 400, body = '{"error":"invalid_resource"}' })
        authorization(world, worker)
        world:advance(0.5)
        local err, waited, pause_ms = authorization(world, worker)
        equal({ err, waited, pause_ms < 1000 },
              { "no token from the instance metadata service: it answered 400 (invalid_resource)", 0, true })
        equal(asked(world), 1)
    end)

    it("pauses for all workers", function()
        local world, first, second = setup(2)
        world.network:serve(SERVICE, { status = 500 })
        authorization(world, first)
        authorization(world, second)
        equal(asked(world), 1)
    end)

    it("is over when a token comes", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, { status = 500 }, token("one"))
        authorization(world, worker)
        world:advance(2)
        equal(authorization(world, worker), line_of("one"))
        equal(worker.tokens.problem(CONF), nil)
    end)

    it("is a problem of readiness until a token comes", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, { status = 500 })
        equal(worker.tokens.problem(CONF), nil, "before anybody asked")
        authorization(world, worker)
        equal(worker.tokens.problem(CONF), "there is no token from the instance metadata service")
    end)

    local CASES = {
        { "hangs", { hangs = true }, "no answer in 5 seconds", 5 },
        { "refuses connections", { refuses = "connection refused" },
          "it cannot be reached: connection refused", 0 },
        { "closes the connection", { resets = true }, "no answer: connection reset by peer", 0 },
        { "answers no JSON", { status = 200, body = "x" }, "its answer is not a JSON object", 0 },
        { "answers too slowly", { status = 200, takes = 3, pieces = { 3, "{}" } },
          "no answer in 5 seconds", 5 },
    }
    for _, case in ipairs(CASES) do
        local about, answer, reason, seconds = unpack(case)
        it("says what is wrong where its source " .. about, function()
            local world, worker = setup(1)
            world.network:serve(SERVICE, answer)
            local err, waited = authorization(world, worker)
            equal({ err, waited >= seconds and waited < seconds + 0.1 },
                  { "no token from the instance metadata service: " .. reason, true })
            equal(world:lines("no token for https://cognitiveservices.azure.com as client-1", "error"), 1)
        end)
    end

    it("of the gateway itself pauses as well", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, function()
            error("broken for the test")
        end)
        local err = authorization(world, worker)
        equal(err:find("the request failed inside the gateway", 1, true) ~= nil, true)
    end)

    it("is counted", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, { status = 500 }, token("one"))
        authorization(world, worker)
        world:advance(2)
        local out = {}
        worker.require("gateway.metrics").render(out)
        local text = table.concat(out)
        equal({ text:match('genai_entra_token_requests_total{outcome="failed"} (%d+)'),
                text:match('genai_entra_token_requests_total{outcome="ok"} (%d+)') }, { "1", "1" })
    end)
end)


describe("a worker that dies while it asks for a token", function()
    it("is replaced by another one after 15 seconds", function()
        local world, first, second = setup(2)
        world.network:serve(SERVICE, token("one", 3600, 3), token("two"))
        begin(world, first, 1)
        world:advance(1)
        world:kill(first)
        local request = begin(world, second, 1)[1]
        world:advance(14)
        equal(request.err:find("it takes too long", 1, true) ~= nil, true)
        world:advance(2)
        equal(authorization(world, second), line_of("two"))
    end)
end)


describe("a token that a backend refuses", function()
    it("is replaced, and requests get the new one", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), token("two"))
        authorization(world, worker)
        worker.tokens.refused(worker.identity, line_of("one"))
        world:advance(0)
        equal(authorization(world, worker), line_of("two"))
        equal(world:lines("the gateway requests a new one", "warn"), 1)
    end)

    it("reaches the other worker within a second", function()
        local world, first, second = setup(2)
        world.network:serve(SERVICE, token("one"), token("two"))
        authorization(world, first)
        authorization(world, second)
        first.tokens.refused(first.identity, line_of("one"))
        world:advance(1)
        equal(authorization(world, second), line_of("two"))
    end)

    it("is replaced at most once in five minutes", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), token("two"), token("three"))
        authorization(world, worker)
        for _, name in ipairs({ "one", "two" }) do
            worker.tokens.refused(worker.identity, line_of(name))
            world:advance(1)
        end
        equal(authorization(world, worker), line_of("two"))
        world:advance(300)
        worker.tokens.refused(worker.identity, line_of("two"))
        world:advance(1)
        equal(authorization(world, worker), line_of("three"))
    end)

    it("is not replaced where a newer one is there already", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"))
        authorization(world, worker)
        worker.tokens.refused(worker.identity, line_of("an older one"))
        world:advance(1)
        equal(asked(world), 1)
    end)

    it("is waited for by who can only go on with another one", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), token("two", 3600, 2))
        authorization(world, worker)
        equal(world:call(worker.tokens.replace, worker.identity, line_of("one")), true)
    end)

    it("stays where no other one comes", function()
        local world, worker = setup(1)
        world.network:serve(SERVICE, token("one"), { status = 500 })
        authorization(world, worker)
        equal(world:call(worker.tokens.replace, worker.identity, line_of("one")), false)
        equal(authorization(world, worker), line_of("one"))
    end)
end)


describe("a backend that gets a token", function()
    it("gets another one after it refused the first", function()
        local test_gateway = require("test_gateway")
        local gateway = test_gateway.new({ backends = { { name = "a", identity = CONF }, "b" } })
        gateway:serve(SERVICE, token("one"), token("two"))
        gateway:serve("a", function(request)
            return request.headers.authorization == "Bearer two" and test_gateway.OK
                   or test_gateway.failure(401, nil, "invalid_token")
        end)
        equal(gateway:post().var.genai_attempts:gsub(":%d+%f[ %z]", ""), "a:401:credentials b:200:ok")
        gateway.world:advance(1)
        equal(gateway:post().var.genai_backend, "a")
    end)
end)
