--- Keys of an OIDC issuer: one worker fetches them for all, they are renewed in the background, and
-- failures pause. And the tokens that are checked with them.

local harness = require("harness")
local json_text = require("json_text")
local libraries = require("libraries")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local ISSUER = "https://issuer"
local DISCOVERY = ISSUER .. "/.well-known/openid-configuration"
local CONF = { discovery = DISCOVERY, audiences = { "gateway" } }

local RSA_SIZE = 342


local function modulus(name)
    return name .. ("n"):rep(RSA_SIZE - #name)
end


local function encoded(value)
    return libraries.encode_base64url(json_text.encode(value))
end


-- A token of the issuer, signed with the key of a name.
local function token(world, options)
    options = options or {}
    local key = options.key or "key-1"
    local signed = encoded({ alg = "RS256", kid = options.kid or key }) .. "." .. encoded({
        iss = options.issuer or ISSUER, aud = options.audience or "gateway",
        sub = options.subject or "user-1", exp = world.scheduler.now + (options.seconds or 3600),
    })
    local signature = libraries.signature(signed, modulus(options.signed_by or key))
    return signed .. "." .. libraries.encode_base64url(signature)
end


-- Scripts the issuer: its keys by their names, the seconds that each document takes, or a failure.
local function serve(world, keys, takes, broken)
    world.network:serve("issuer", broken or function(request)
        if request.path ~= "/keys" then
            return { status = 200, takes = takes,
                     body = json_text.encode({ issuer = ISSUER, jwks_uri = ISSUER .. "/keys" }) }
        end
        local list = {}
        for i, name in ipairs(keys) do
            list[i] = { kty = "RSA", kid = name, n = modulus(name), e = "AQAB" }
        end
        return { status = 200, takes = takes, body = json_text.encode({ keys = list }) }
    end)
end


local function setup(count, ...)
    local world = world_module.new({ worker_count = count })
    local workers = {}
    for i = 1, count do
        workers[i] = world:worker()
        workers[i].oidc = workers[i].require("gateway.credentials.oidc_tokens")
    end
    serve(world, ...)
    return world, unpack(workers)
end


-- What a token comes to now: its subject, why it is refused or "unknown", and the seconds that the
-- request waited.
local function check(world, worker, text)
    local began = world:clock()
    local subject, reason, retry_ms = world:call(worker.oidc.subject, CONF, text or token(world))
    local waited = math.floor((world:clock() - began) * 1000 + 0.5) / 1000
    return subject or reason or "unknown", waited, retry_ms
end


local function fetched(world)
    return #world.network.sent / 2
end


describe("the keys of an issuer", function()
    it("are fetched once for many requests in two workers", function()
        local world, first, second = setup(2, { "key-1" }, 1)
        local subjects = {}
        for _, worker in ipairs({ first, second, first, second }) do
            world.scheduler:start(nil, nil, function()
                local subject = worker.oidc.subject(CONF, token(world))
                subjects[#subjects + 1] = subject
            end)
        end
        world:advance(3)
        equal(subjects, { "user-1", "user-1", "user-1", "user-1" })
        equal(fetched(world), 1)
    end)

    it("are there for a worker that starts later", function()
        local world, first = setup(1, { "key-1" }, 1)
        check(world, first)
        local later = world:worker()
        later.oidc = later.require("gateway.credentials.oidc_tokens")
        equal({ check(world, later) }, { "user-1", 0 })
        equal(fetched(world), 1)
    end)

    it("are fetched again after ten minutes, and no request waits", function()
        local world, worker = setup(1, { "key-1" })
        check(world, worker)
        world:advance(599)
        check(world, worker)
        world:advance(0)
        equal(fetched(world), 1, "before ten minutes")
        world:advance(2)
        serve(world, { "key-1", "key-2" }, 1)
        equal({ check(world, worker) }, { "user-1", 0 })
        world:advance(3)
        equal({ check(world, worker, token(world, { key = "key-2" })) }, { "user-1", 0 })
    end)

    it("are fetched again for a key that is not known, and the request waits", function()
        local world, worker = setup(1, { "key-1" })
        check(world, worker)
        world:advance(20)
        serve(world, { "key-1", "key-2" }, 0.5)
        local subject, waited = check(world, worker, token(world, { key = "key-2" }))
        equal({ subject, waited >= 1 and waited < 1.1 }, { "user-1", true })
    end)

    it("are not asked for more often than every ten seconds for keys that do not exist", function()
        local world, worker = setup(1, { "key-1" })
        check(world, worker)
        for _ = 1, 5 do
            equal({ check(world, worker, token(world, { key = "made-up" })) },
                  { "its issuer has no key with this id", 0 })
        end
        equal(fetched(world), 1)
        world:advance(10)
        equal((check(world, worker, token(world, { key = "made-up" }))), "its issuer has no key with this id")
        equal(fetched(world), 2)
    end)

    it("count no more when the issuer has withdrawn them, also for tokens that were seen before", function()
        local world, worker = setup(1, { "key-1" })
        local text = token(world, { seconds = 10000 })
        equal((check(world, worker, text)), "user-1")
        serve(world, { "key-2" })
        world:advance(600)
        check(world, worker, text)
        world:advance(1)
        equal((check(world, worker, text)), "its issuer has no key with this id")
    end)
end)


describe("an issuer that cannot be asked", function()
    it("leaves the token open, with the seconds until it is asked again", function()
        local world, worker = setup(1, {}, 0, { refuses = "connection refused" })
        equal({ check(world, worker) }, { "unknown", 0.02, 4980 })
        equal(world:lines("the keys of the token issuer cannot be fetched: " .. DISCOVERY
                          .. ": connection refused; clients with a token get 503 until they are", "error"), 1)
    end)

    it("is asked again after five seconds, by one worker", function()
        local world, first, second = setup(2, {}, 0, { status = 503 })
        check(world, first)
        world:advance(2)
        local _, waited, retry_ms = check(world, second)
        world:advance(0)
        equal({ waited, retry_ms < 3001, #world.network.sent }, { 0, true, 1 }, "during the pause")
        world:advance(5)
        serve(world, { "key-1" })
        equal((check(world, second)), "user-1")
    end)

    it("leaves the last known keys in use for a day", function()
        local world, worker = setup(1, { "key-1" })
        check(world, worker)
        serve(world, {}, 0, { status = 500 })
        world:advance(86000)
        equal((check(world, worker)), "user-1")
        world:advance(1)
        equal(world:lines("the keys fetched before stay in use", "warn"), 1)
        world:advance(500)
        equal((check(world, worker)), "unknown")
    end)

    it("lets a request wait for five seconds at most, and others not as long", function()
        local world, worker = setup(1, { "key-1" }, 0, { hangs = true })
        local _, waited = check(world, worker)
        equal(waited >= 5 and waited < 5.1, true)
        equal({ check(world, worker) }, { "unknown", 0, 5000 })
    end)

    local CASES = {
        { "no discovery document", { status = 404 }, "the answer has status 404" },
        { "a document that is no JSON", { status = 200, body = "<html>" }, "the answer is not JSON" },
        { "a document without a jwks_uri", { status = 200, body = '{"issuer":"x"}' },
          "it has no issuer or no jwks_uri" },
        { "a long document", { status = 200, body = ("x"):rep(600000) }, "the answer is too long" },
    }
    for _, case in ipairs(CASES) do
        it("is reported where there is " .. case[1], function()
            local world, worker = setup(1, {}, 0, case[2])
            check(world, worker)
            world:advance(0)
            equal(world:lines(case[3], "error"), 1)
        end)
    end

    it("is reported where it has no key that can be used", function()
        local world, worker = setup(1, {})
        check(world, worker)
        equal(world:lines("it has no usable key", "error"), 1)
    end)

    it("is fetched from by another worker where the one that fetches dies", function()
        local world, first, second = setup(2, { "key-1" }, 2)
        world.scheduler:start(nil, nil, function()
            first.oidc.subject(CONF, token(world))
        end)
        world:advance(1)
        world:kill(first)
        serve(world, { "key-1" })
        equal((check(world, second)), "unknown")
        world:advance(30)
        equal((check(world, second)), "user-1")
    end)
end)


describe("a token", function()
    local REFUSED = {
        { "a wrong signature", { signed_by = "key-2" }, "its signature is wrong" },
        { "another audience", { audience = "other" }, "its audience is not the expected one" },
        { "another issuer", { issuer = "https://other" }, "its issuer is not the expected one" },
        { "an end that has passed", { seconds = -61 }, "it has expired" },
    }
    for _, case in ipairs(REFUSED) do
        it("is refused for " .. case[1], function()
            local world, worker = setup(1, { "key-1" })
            equal((check(world, worker, token(world, case[2]))), case[3])
        end)
    end

    it("is refused where its key cannot be read", function()
        local world, worker = setup(1, { "broken" })
        equal((check(world, worker, token(world, { key = "broken" }))), "its signature is wrong")
        equal(world:lines("a key of the token issuer cannot be used", "warn"), 1)
    end)

    it("is checked once, and refused when it ends", function()
        local world, worker = setup(1, { "key-1" })
        local text = token(world, { seconds = 100 })
        check(world, worker)
        check(world, worker, text)
        worker.require("genai.identity.jwt").split = function()
            error("it is checked again")
        end
        equal((check(world, worker, text)), "user-1")
        worker.require("genai.identity.jwt").split = function()
            return nil, "checked again"
        end
        world:advance(161)
        equal((check(world, worker, text)), "checked again")
    end)
end)


describe("a client with a token", function()
    local function new_gateway(broken)
        local world = world_module.new()
        serve(world, { "key-1" }, 0, broken)
        return test_gateway.new({ world = world, backends = { "a" }, auth = { oidc = CONF } }), world
    end

    local function bearer(text)
        return { headers = { ["api-key"] = false, authorization = "Bearer " .. text } }
    end

    it("is named by its subject in the log, and as one of all in metrics", function()
        local gateway, world = new_gateway()
        local request = gateway:post(bearer(token(world)))
        equal({ request.status, request.var.genai_client }, { 200, "oidc:user-1" })
        equal(gateway:metric("http_status"), "200 openai-v1 oidc:* high upstream=1")
        equal(gateway:sent_to("a")[1].headers.authorization, nil, "what the backend gets")
    end)

    it("is refused with a challenge that says why", function()
        local gateway, world = new_gateway()
        local request = gateway:post(bearer(token(world, { audience = "other" })))
        equal({ request.status, request.json.error.code, request.response_headers["www-authenticate"] }, {
            401, "invalid_token", 'Bearer realm="genai-gateway", error="invalid_token",'
                                  .. ' error_description="its audience is not the expected one"' })
    end)

    it("gets 503 with a delay while the issuer cannot be asked", function()
        local gateway, world = new_gateway({ status = 500 })
        local request = gateway:post(bearer(token(world)))
        equal({ request.status, request.json.error.code, request.response_headers["retry-after"] },
              { 503, "token_issuer_unavailable", "5" })
    end)

    it("needs no issuer where it has a key as well", function()
        local gateway, world = new_gateway({ status = 500 })
        local request = gateway:post({ headers = { authorization = "Bearer " .. token(world) } })
        equal({ request.status, request.var.genai_client }, { 200, "app" })
        equal(#world.network.sent, 1, "requests to servers: the backend's")
    end)
end)
