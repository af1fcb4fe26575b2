--- Failures of the gateway itself, in each step of a request: the client gets an answer or its
-- connection is cut, and the request is reported as failed by the gateway.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- Makes a function of the product throw.
local function breaking(module, name)
    return function(gateway)
        gateway.worker.require(module)[name] = function()
            error("broken for the test")
        end
    end
end


-- `at` is what fails; `attempts` are those of the access log.
local CASES = {
    { "reading the body", at = breaking("gateway.exchange.request_body", "receive") },
    { "looking for an owner", at = breaking("gateway.affinity.owner_lookup", "find") },
    { "choosing a backend", at = breaking("gateway.backends.availability", "next") },
    { "sending the request", at = breaking("gateway.exchange.upstream", "send"),
      attempts = "a::gateway_error:0" },
    { "judging the answer", at = breaking("gateway.request.answer_check", "of_head"),
      attempts = "a:200:gateway_error:0" },
    { "passing the head on", at = breaking("gateway.exchange.forwarding", "send_head"),
      attempts = "a:200:gateway_error:0" },
    { "writing the final error", at = function(gateway)
        gateway:serve("a", test_gateway.failure(500))
        breaking("gateway.request.final_error", "send")(gateway)
    end, attempts = "a:500:server_error:0" },
}


describe("an error of the gateway while", function()
    for _, case in ipairs(CASES) do
        it(case[1], function()
            local gateway = test_gateway.new({ backends = { "a" } })
            case.at(gateway)
            local request = gateway:post()
            equal({ status = request.status, code = request.json.error.code,
                    attempts = request.var.genai_attempts, error = request.var.genai_error,
                    source = request.var.genai_error_source },
                  { status = 500, code = "gateway_error", attempts = case.attempts,
                    error = "gateway_error", source = "gateway" })
            local _, span = gateway:spans()
            equal({ span.attributes["error.type"], span.error }, { "gateway_error", "gateway_error" }, "span")
            equal(gateway.world:lines("a request failed inside the gateway", "error"), 1, "lines in the log")
            equal(gateway:metric("llm_active_connections"), "", "active connections")
            local memory = gateway.worker.require("gateway.exchange.body_memory")
            equal(memory.used(), 0, "memory of bodies")
        end)
    end

    it("sending a body, after the head was sent, cuts the connection", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        gateway:serve("a", test_gateway.stream({ test_gateway.OUTPUT, test_gateway.USAGE }))
        gateway.worker.require("genai.openai.token_usage").of_event = function()
            error("broken for the test")
        end
        local request = gateway:post({ stream = true })
        equal({ status = request.status, is_cut = request.is_cut, attempts = request.var.genai_attempts,
                error = request.var.genai_error, source = request.var.genai_error_source },
              { status = 200, is_cut = true, attempts = "a:200:gateway_error:0", error = "gateway_error",
                source = "gateway" })
        equal(gateway:metric("genai_attempts_total"), "a gpt-4o gateway_error=1")
        equal(gateway:metric("llm_active_connections"), "", "active connections")
        local attempts, span = gateway:spans()
        equal({ span.attributes["genai_gateway.error_source"], span.error, attempts[1].error },
              { "gateway", "gateway_error", "gateway_error" }, "spans")
    end)
end)
