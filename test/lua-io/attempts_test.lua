--- The end of an attempt. One function ends it for the list of attempts, metrics and nginx's
-- variables: a mutation test removes each of its statements.

local harness = require("harness")
local mutants = require("mutants")
local reports = require("reports")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, OK = test_gateway.failure, test_gateway.OK

local THROTTLED = failure(429, { ["retry-after"] = "7" })
local IDENTITY = { resource = "https://cognitiveservices.azure.com" }


local function taking(seconds, answer)
    local copy = { takes = seconds }
    for name, value in pairs(answer) do
        copy[name] = value
    end
    return copy
end


-- All reports of the attempts agree, and the list is this one.
local function check_reports(gateway, options, attempts)
    local request, found, expected = reports.of(gateway, function()
        return gateway:post(options)
    end)
    equal(found.record, attempts, "attempts")
    for name, text in pairs(expected) do
        if name ~= "header x-gateway-attempts" then
            equal(found[name], text, name)
        end
    end
    return request
end


local function after_a_failover(sources)
    local gateway = test_gateway.new({ backends = { "a", "b" }, sources = sources })
    gateway:serve("a", taking(0.25, THROTTLED))
    gateway:serve("b", taking(0.5, OK))
    local request = check_reports(gateway, {}, "a:429:throttled b:200:ok")
    equal(reports.durations(request), { 250, 500 }, "milliseconds in the access log")
    equal(request.upstream_states, {
        { addr = "a:443", status = 429, header_time = 250, response_time = 250 },
        { addr = "b:443", status = 200, header_time = 500, response_time = 500 },
    }, "nginx's entries")
    equal(request.var.genai_failover, "saved", "failover")
    local in_flight = {}
    for i, each in ipairs(request.record.pool.backends) do
        in_flight[i] = each.memory.in_flight
    end
    equal(in_flight, { 0, 0 }, "requests in flight")
end


local function of_a_request_that_cannot_be_sent(sources)
    local gateway = test_gateway.new({ backends = { "a" }, sources = sources })
    local request = check_reports(gateway, { path = "/openai/v1/chat/completions?x=a b" }, "")
    equal(request.status, 400, "status")
end


local function of_a_closed_connection(sources)
    local gateway = test_gateway.new({ backends = { "a" }, pool = { max_retries = 0 }, sources = sources })
    gateway:serve("a", { is_stale = true }, OK)
    local request = check_reports(gateway, {}, "a::stale_connection a:200:ok")
    equal(request.var.genai_failover, "", "failover")
end


local function without_a_token(sources)
    local gateway = test_gateway.new({ backends = { { name = "a", identity = IDENTITY }, "b" },
                                       sources = sources })
    gateway:serve("169.254.169.254", failure(400))
    check_reports(gateway, {}, "a::credentials b:200:ok")
end


local CHECKS = {
    { "the reports after a failover", after_a_failover },
    { "no attempt of a request that cannot be sent", of_a_request_that_cannot_be_sent },
    { "an attempt over a closed connection does not count", of_a_closed_connection },
    { "no entry of nginx without a token", without_a_token },
}


describe("the end of an attempt", function()
    for _, each in ipairs(CHECKS) do
        it(each[1], function()
            each[2]({})
        end)
    end

    it("fails a check without any one of its statements", function()
        mutants.are_caught("gateway.request.attempts",
                           "function _M.ends(record, outcome, is_repeated)", CHECKS)
    end)
end)


describe("the list of attempts", function()
    local function attempts_of(options)
        local gateway = test_gateway.new({ backends = { "a", "b", "c" } })
        for name, answer in pairs(options) do
            gateway:serve(name, answer)
        end
        return gateway.worker.require("gateway.request.attempts"), gateway:post().record
    end

    it("has no first failure where the first backend answered", function()
        local attempts, record = attempts_of({ a = failure(400) })
        equal(attempts.first_failed(record), nil)
    end)

    it("names the first failure after which another backend was tried", function()
        local attempts, record = attempts_of({ a = failure(500), b = THROTTLED })
        equal(attempts.first_failed(record).outcome, "server_error")
        equal(attempts.last(record).backend.name, "c")
        equal(attempts.counted(record), 3)
        equal(attempts.is_open(record), false)
    end)

    it("names the first failure where no backend answered", function()
        local attempts, record = attempts_of({ a = failure(500), b = failure(500), c = failure(500) })
        equal(attempts.first_failed(record).backend.name, "a")
    end)

    it("is nil for a request that ended before", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        local attempts = gateway.worker.require("gateway.request.attempts")
        local record = gateway:post({ headers = { ["api-key"] = "wrong" } }).record
        equal({ attempts.last(record), attempts.is_open(record) }, { nil, false })
    end)
end)
