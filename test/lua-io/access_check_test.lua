--- The question to a backend itself whether it accepts the gateway's credential, after it refused a
-- client's request.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, OK = test_gateway.failure, test_gateway.OK

local PATH = "/openai/v1/models"
local REFUSAL = failure(401, nil, "invalid_api_key")
local FIREWALL = failure(403)
FIREWALL.body = '{"error":{"message":"Access denied due to Virtual Network/Firewall rules."}}'


-- A backend that refuses requests with one answer, and answers the question with another.
local function refusing(refusal, said, backends)
    local gateway = test_gateway.new({ backends = backends or { "a" } })
    gateway:serve("a", function(request)
        if request.path == PATH then
            return said
        end
        return refusal
    end)
    return gateway
end


local function questions(gateway)
    local list = {}
    for _, request in ipairs(gateway:sent_to("a")) do
        if request.path == PATH then
            list[#list + 1] = request
        end
    end
    return list
end


describe("a backend that refuses a request", function()
    it("is asked for its models, with the backend's own key and nothing of the client", function()
        local gateway = refusing(REFUSAL, OK)
        gateway:post({ headers = { ["x-own"] = "secret" } })
        local question = questions(gateway)[1]
        equal({ question.method, question.headers["api-key"], question.headers["user-agent"],
                question.headers["x-own"], question.body },
              { "GET", "key-of-a", "genai-gateway-access-check", nil, "" })
        equal(question.connection, "kept")
    end)

    it("is asked once in two seconds, however many requests it refuses", function()
        local gateway = refusing(REFUSAL, OK, { "a", "b" })
        for _ = 1, 5 do
            gateway:post()
            gateway.world:advance(0)
        end
        equal(#questions(gateway), 1)
        gateway.world:advance(2)
        gateway:post()
        gateway.world:advance(0)
        equal(#questions(gateway), 2)
    end)

    it("goes on with other requests where it accepts the key, and the client gets its refusal", function()
        local gateway = refusing(REFUSAL, OK)
        local request = gateway:post()
        equal({ request.status, request.json.error.message }, { 401, "the backend's words" })
        equal(gateway:metric("genai_cooldowns_total"), "")
        equal(gateway:called(), "a a")
    end)

    it("gets no more requests where it refuses the key, and the client gets 502", function()
        local gateway = refusing(REFUSAL, REFUSAL)
        local request = gateway:post()
        equal({ request.status, request.json.error.code }, { 502, "upstream_credentials" })
        equal(gateway.world:lines("backend a refuses the gateway's credential with status 401; it gets no"
                                  .. " requests for 120000 ms", "error"), 1)
        gateway.world.network.connected = {}
        gateway.world:advance(119)
        equal({ gateway:post().status, gateway:called() }, { 502, "" })
        gateway:serve("a", OK)
        gateway.world:advance(2)
        equal(gateway:post().status, 200)
    end)

    it("is skipped as unreachable where the question meets the firewall too", function()
        local gateway = refusing(FIREWALL, FIREWALL, { "a", "b" })
        gateway:post()
        gateway.world:advance(0)
        equal(gateway:metric("genai_cooldowns_total"), "a * unreachable=1")
        equal(gateway.world:lines("is behind a firewall or in a private network", "error"), 1)
        equal(gateway:post().var.genai_attempts, "b:200:ok:0")
    end)

    local SILENT = {
        { "is throttled", failure(429) },
        { "fails", failure(500) },
        { "does not answer in time", { times_out = true } },
        { "closes the connection", { resets = true } },
    }
    for _, case in ipairs(SILENT) do
        it("is left alone where the question " .. case[1], function()
            local gateway = refusing(REFUSAL, case[2])
            local request = gateway:post()
            equal({ request.status, gateway:metric("genai_cooldowns_total") }, { 401, "" })
        end)
    end

    it("lets its client wait three seconds at most for the outcome", function()
        local gateway = refusing(REFUSAL, { takes = 2.75, status = 200, pieces = { "{", 2.75, "}" } })
        local began = gateway.world:clock()
        equal(gateway:post().status, 401)
        local waited = gateway.world:clock() - began
        equal(waited > 2.9 and waited < 3.1, true)
    end)

    it("is no reason to fail where the question fails inside the gateway", function()
        local gateway = refusing(REFUSAL, OK)
        gateway.worker.require("genai.openai.verdict").of_refusal = function()
            return "credentials"
        end
        gateway.worker.require("gateway.exchange.upstream").get = function()
            error("broken for the test")
        end
        equal(gateway:post().status, 401)
        equal(gateway.world:lines("the access check of backend a failed inside the gateway", "error"), 1)
    end)
end)


describe("a backend that refuses a token", function()
    local SERVICE = "169.254.169.254"

    local function token(name)
        return { status = 200, body = ('{"access_token":"%s","expires_in":3600}'):format(name) }
    end

    local function with_identity(accepts)
        local gateway = test_gateway.new({ backends = {
            { name = "a", identity = { resource = "https://cognitiveservices.azure.com" } } } })
        gateway:serve(SERVICE, token("one"), token("two"))
        gateway:serve("a", function(request)
            return request.headers.authorization == accepts and OK or REFUSAL
        end)
        return gateway
    end

    it("is in use again with another one", function()
        local gateway = with_identity("Bearer two")
        gateway:post()
        equal({ gateway:post().status, gateway:metric("genai_cooldowns_total") }, { 200, "" })
    end)

    it("gets no requests where it refuses the other one as well", function()
        local gateway = with_identity("Bearer three")
        equal({ gateway:post().status, gateway:metric("genai_cooldowns_total") },
              { 502, "a * credentials=1" })
    end)

    it("gets no requests where its source gives the same token again", function()
        local gateway = with_identity("Bearer two")
        gateway:serve(SERVICE, token("one"))
        local request = gateway:post()
        equal({ request.status, request.json.error.code }, { 502, "upstream_credentials" })
        equal(gateway:metric("genai_cooldowns_total"), "a * credentials=1")
    end)

    it("gets no requests where no other token can be had", function()
        local gateway = with_identity("Bearer two")
        gateway:serve(SERVICE, token("one"), { takes = 1, status = 500 })
        local request = gateway:post()
        equal({ request.status, request.json.error.code }, { 502, "upstream_credentials" })
    end)
end)
