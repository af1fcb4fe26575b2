--- A limit for the first byte of an answer that is not the one between bytes.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local OK = test_gateway.OK
local EVENTS = { ["content-type"] = "text/event-stream" }
local READ_S = 8


-- A pool with both limits; the first byte has this one, in seconds.
local function new_gateway(first_byte_s, answer, ...)
    local gateway = test_gateway.new({ backends = { "a", ... }, proxy = {
        timeouts = { connect_ms = 5000, send_ms = 60000, read_ms = READ_S * 1000,
                     first_byte_ms = first_byte_s * 1000 },
    } })
    gateway:serve("a", answer)
    return gateway
end


local function taking(seconds)
    return { takes = seconds, status = 200, headers = OK.headers, body = OK.body }
end


describe("the limit for the first byte", function()
    it("ends an attempt before the limit between bytes would, and the next backend answers", function()
        local gateway = new_gateway(3, taking(4), "b")
        local before = gateway.world:clock()
        local request = gateway:post()
        equal({ request.status, gateway:called() }, { 200, "a b" })
        equal(gateway.world:clock() - before, 3, "seconds")
    end)

    it("is a 504 where no other backend is left", function()
        local request = new_gateway(3, taking(4)):post()
        equal({ request.status, request.var.genai_error }, { 504, "upstream_timeout" })
    end)

    it("may be longer than the one between bytes", function()
        local gateway = new_gateway(20, taking(15))
        local request = gateway:post()
        equal({ request.status, gateway:called() }, { 200, "a" })
    end)

    it("does not count once a stream has begun", function()
        local answer = { status = 200, headers = EVENTS, pieces = {
            "data: " .. test_gateway.PREAMBLE .. "\n\n", READ_S - 1,
            "data: " .. test_gateway.OUTPUT .. "\n\n", READ_S - 1, "data: [DONE]\n\n",
        } }
        local request = new_gateway(3, answer):post({ stream = true })
        equal({ request.status, request.is_cut }, { 200, nil })
        equal(request.text:sub(-14), "data: [DONE]\n\n")
    end)

    it("does not lengthen the silence in a body", function()
        local answer = { status = 200, headers = OK.headers, pieces = { "{", READ_S + 1, "}" } }
        local request = new_gateway(60, answer):post()
        equal(request.status ~= 200 or request.is_cut, true, "it ended")
    end)
end)
