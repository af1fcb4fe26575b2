local limit_reset = require("genai.openai.limit_reset")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- Found by name in any case, as nginx has them.
local function headers(list)
    return setmetatable(list, { __index = function(all, name)
        for each, value in next, all do
            if each:lower() == name:lower() then
                return value
            end
        end
    end })
end


describe("refusal: when to come again", function()
    it("is told by the limit that has nothing left", function()
        equal(limit_reset.reset_ms(headers({
            ["X-AI-client-day-RateLimit-Remaining"] = "5",
            ["X-AI-client-day-RateLimit-Reset"] = "86000",
            ["X-AI-high-RateLimit-Remaining"] = "0",
            ["X-AI-high-RateLimit-Reset"] = "12.5",
        })), 12510)
    end)

    it("is the latest where several have nothing left", function()
        equal(limit_reset.reset_ms(headers({
            ["X-quota-RateLimit-Remaining"] = "0", ["X-quota-RateLimit-Reset"] = "3",
            ["X-client-requests-RateLimit-Remaining"] = "0",
            ["X-client-requests-RateLimit-Reset"] = "40",
        })), 40010)
    end)

    it("is not told by headers of others, or without sense", function()
        equal(limit_reset.reset_ms(headers({})), nil)
        equal(limit_reset.reset_ms(headers({ ["x-ratelimit-reset-tokens"] = "4",
                                         ["X-RateLimit-Reset"] = "5" })), nil)
        equal(limit_reset.reset_ms(headers({ ["X-RateLimit-Remaining"] = "0",
                                         ["X-RateLimit-Reset"] = "soon" })), nil)
    end)

    it("is one interval of a rate", function()
        equal(limit_reset.interval_ms(4), 250)
        equal(limit_reset.interval_ms(0.5), 2000)
    end)
end)
