--- Clients that send a wrong key again and again.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal

local LIMIT = 1000


-- Sends some requests with a wrong key, and returns the status of the next one.
local function after(gateway, count, options)
    options = options or {}
    options.headers = options.headers or { ["api-key"] = "wrong" }
    for _ = 1, count do
        gateway:post(options)
    end
    local request = gateway:post(options)
    return request.status, request
end


local function new_gateway()
    return test_gateway.new({ backends = { "a" } })
end


describe("an address that sends wrong keys", function()
    it("gets 429 with the rest of the minute after a thousand of them", function()
        local gateway = new_gateway()
        equal((after(gateway, LIMIT - 1)), 401, "the hundredth")
        gateway.world:advance(10)
        local status, request = after(gateway, 0)
        equal({ status, request.json.error.code, request.response_headers["retry-after"] },
              { 429, "too_many_failed_authentications", "50" })
        equal(request.var.genai_error, "too_many_failed_authentications")
        equal(gateway:metric("genai_authentication_failures_total"), "key=" .. LIMIT + 1)
    end)

    it("gets 401 again after a minute", function()
        local gateway = new_gateway()
        after(gateway, LIMIT)
        gateway.world:advance(60)
        equal((after(gateway, 0)), 401)
    end)

    it("is served with a valid key all the time", function()
        local gateway = new_gateway()
        equal((after(gateway, LIMIT)), 429)
        equal(gateway:post().status, 200)
    end)

    it("is counted by all workers together", function()
        local gateway = new_gateway()
        after(gateway, LIMIT - 1)
        equal((after(test_gateway.new({ world = gateway.world, backends = { "a" } }), 0)), 429)
    end)

    it("says nothing about another address", function()
        local gateway = new_gateway()
        after(gateway, LIMIT)
        equal((after(gateway, 0, { address = "\192\0\2\2" })), 401)
    end)

    it("is the same as the others of its IPv6 network", function()
        local gateway = new_gateway()
        local network = ("\32\1\13\184"):rep(2)
        after(gateway, LIMIT, { address = network .. ("a"):rep(8) })
        equal((after(gateway, 0, { address = network .. ("b"):rep(8) })), 429)
        equal((after(gateway, 0, { address = ("x"):rep(16) })), 401)
    end)

    it("is not counted for requests without any credential", function()
        local gateway = new_gateway()
        equal((after(gateway, LIMIT + 1, { headers = { ["api-key"] = false } })), 401)
        equal(gateway:metric("genai_authentication_failures_total"), "none=" .. LIMIT + 2)
    end)
end)
