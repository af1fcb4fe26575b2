--- Answers of backends that break off, streams and others.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local stream, OK = test_gateway.stream, test_gateway.OK
local PREAMBLE, OUTPUT, USAGE = test_gateway.PREAMBLE, test_gateway.OUTPUT, test_gateway.USAGE

local AUDIO = { ["content-type"] = "audio/mpeg" }
local LONG = ("x"):rep(70000)


local function new_gateway(answer, ...)
    local gateway = test_gateway.new({ backends = { "a", ... }, limiters = {
        ["ai-rate-limiting"] = { limit_strategy = "total_tokens", rejected_code = 429 },
    } })
    gateway:serve("a", answer)
    return gateway
end


local function event(data)
    return "data: " .. data .. "\n\n"
end


-- What the client got when its connection was cut.
local CUT = {
    { "a stream, closed after its output", { stream = true }, stream({ PREAMBLE, OUTPUT }, "closed"),
      event(PREAMBLE) .. event(OUTPUT) },
    { "a stream, reset after its output", { stream = true },
      stream({ OUTPUT }, "connection reset by peer"), event(OUTPUT) },
    { "a stream that goes on too late", { stream = true }, stream({ OUTPUT }, "timeout"), event(OUTPUT) },
    { "a stream without a chunk of length 0 at its end", { stream = true },
      stream({ OUTPUT, USAGE }, "closed"), event(OUTPUT) .. event(USAGE) },
    { "an answer that is no JSON", {}, { status = 200, headers = AUDIO, body = "half", length = 8 }, "half" },
    { "a long JSON answer", {}, { status = 200, headers = OK.headers, body = LONG, length = 90000 }, LONG },
}


describe("an answer that breaks off after a part was sent is cut:", function()
    for _, case in ipairs(CUT) do
        local about, options, answer, text = unpack(case)
        it(about, function()
            local gateway = new_gateway(answer, "b")
            local request = gateway:post(options)
            equal({ request.status, request.is_cut, request.text }, { 200, true, text })
            equal(gateway:called(), "a")
            equal({ request.var.genai_error, request.var.genai_error_source, request.var.genai_failover },
                  { "stream_error", "backend", "" })
            equal(gateway:metric("genai_attempts_total"), "a gpt-4o stream_error=1")
            equal(gateway:sent_to("a")[1].connection, "closed", "the backend's connection")
            equal(gateway.world:lines("the answer of backend a broke off", "error"), 1, "lines in the log")
            equal(gateway:apim_record().LastErrorReason, "BackendConnectionFailure")
            local _, span = gateway:spans()
            equal(span.error, "stream_error")
        end)
    end

    it("and is charged for by its events where it did not say what it used", function()
        local request = new_gateway(stream({ OUTPUT, OUTPUT }, "closed")):post({ stream = true })
        equal(request.charged.usage.completion_tokens, 2)
    end)

    it("and is charged for by its usage where it said so", function()
        local request = new_gateway(stream({ OUTPUT, USAGE }, "closed")):post({ stream = true })
        equal(request.charged.usage.total_tokens, 10)
    end)
end)


-- The status and the code of the answer where there is no other backend.
local NOT_SENT = {
    { "a stream, closed before its output", { stream = true }, stream({ PREAMBLE }, "closed"), 502,
      "upstream_unreachable" },
    { "a stream without any event", { stream = true }, stream({}, "closed"), 502, "upstream_unreachable" },
    { "a JSON answer, closed", {}, { status = 200, headers = OK.headers, body = "{", length = 9 }, 502,
      "upstream_unreachable" },
    { "a JSON answer that goes on too late", {},
      { status = 200, headers = OK.headers, pieces = { "{" }, breaks = "timeout" }, 504, "upstream_timeout" },
}


describe("an answer that breaks off before anything was sent goes to another backend:", function()
    for _, case in ipairs(NOT_SENT) do
        local about, options, answer, status, code = unpack(case)
        it(about, function()
            local gateway = new_gateway(answer, "b")
            local request = gateway:post(options)
            equal({ request.status, request.text, request.is_cut }, { 200, OK.body, nil })
            equal({ gateway:called(), request.var.genai_failover }, { "a b", "saved" })
            equal(gateway:metric("genai_failovers_total"), "b gpt-4o stream_error=1")
        end)

        it(about .. ", or is an error of its own", function()
            local gateway = new_gateway(answer)
            local request = gateway:post(options)
            equal({ request.status, request.json.error.code, request.var.genai_error_source },
                  { status, code, "gateway" })
            equal(request.charged.usage.total_tokens, 0, "tokens that are charged")
            equal(request.var.llm_time_to_first_token, nil, "time to the first token")
        end)
    end
end)
