local errors = require("genai.openai.errors")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("errors: a body", function()
    it("has the shape of OpenAI's", function()
        equal(errors.body(429, "Slow down.", "too_fast"),
              { error = { message = "Slow down.", type = "rate_limit_error", code = "too_fast" } })
        equal(errors.body(404, "x").error.type, "not_found_error")
        equal(errors.body(401).error.code, "invalid_api_key")
    end)

    it("has a message, a type and a code for every status", function()
        for status = 400, 599 do
            local err = errors.body(status).error
            equal({ type(err.message), type(err.type), type(err.code) },
                  { "string", "string", "string" }, status)
            equal(errors.is_shaped(errors.body(status)), true)
        end
        equal(errors.body(502).error.type, "server_error")
        equal(errors.body(418).error.type, "invalid_request_error")
    end)
end)


describe("errors: those of plugins", function()
    it("keep the shape that they have", function()
        local body = { error = { message = "m", extra = 1 } }
        equal(errors.shaped(400, body) == body, true)
        for _, other in ipairs({ { error = "x" }, { error = {} }, { error = { message = 1 } }, {},
                                 "x", 1 }) do
            equal(errors.is_shaped(other), false)
        end
        equal(errors.is_shaped(nil), false)
    end)

    it("keep what they say", function()
        for _, body in ipairs({ "Said", { message = "Said" }, { error_msg = "Said" },
                                { error = "Said" } }) do
            equal(errors.shaped(403, body).error.message, "Said")
            equal(errors.shaped(403, body).error.type, "permission_error")
        end
    end)

    it("say what their status does where they say nothing, or a page", function()
        local message = errors.body(404).error.message
        for _, body in ipairs({ "", "<html>404</html>", {}, { message = "" }, { message = {} },
                                { error = {} }, { error_msg = "404 Route Not Found" }, 12,
                                true }) do
            equal(errors.shaped(404, body).error.message, message)
        end
        equal(errors.shaped(404, nil).error.message, message)
    end)
end)


describe("errors: when to come again", function()
    it("is told after some statuses", function()
        for status, expected in pairs({ [400] = false, [401] = false, [404] = false, [408] = true,
                                        [429] = true, [500] = false, [502] = true, [503] = true,
                                        [504] = true }) do
            equal(errors.is_retryable(status), expected, status)
        end
    end)

    it("is told in whole seconds and in milliseconds", function()
        for milliseconds, expected in pairs({
            [0] = { "1", "1" }, [-5] = { "1", "1" }, [1] = { "1", "1" }, [43.2] = { "1", "44" },
            [1000] = { "1", "1000" }, [1000.1] = { "2", "1001" }, [1001] = { "2", "1001" },
            [86400000] = { "86400", "86400000" },
        }) do
            equal({ errors.retry_after(milliseconds) }, expected, milliseconds)
        end
    end)
end)
