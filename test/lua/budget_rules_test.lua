local budget_rules = require("genai.limits.budget_rules")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function members(values)
    local all = {}
    for name, value in pairs(values) do
        all[name] = type(value) == "table" and value or { kind = "literal", value = tostring(value) }
    end
    return all
end


describe("a request reserves", function()
    local function estimate(length, values, limit)
        return budget_rules.estimate(limit or 1000000, length, values ~= nil, members(values or {}))
    end

    it("a token for each four bytes", function()
        equal({ estimate(1030), estimate(3), estimate(nil) }, { 257, 1, 1 })
    end)

    it("the longest answer that it allows, by each name", function()
        for _, name in ipairs({ "max_tokens", "max_completion_tokens", "max_output_tokens" }) do
            equal(estimate(400, { [name] = 50 }), 150, name)
        end
        equal(estimate(400, { max_tokens = 50, max_completion_tokens = 70 }), 170)
    end)

    it("an ordinary answer if it does not say", function()
        equal(estimate(400, {}), 356)
        equal(estimate(400, { max_tokens = { kind = "string", value = "50" } }), 356)
        equal(estimate(400, { max_tokens = "null" }), 356)
        equal(estimate(400, { max_tokens = -5 }), 356)
    end)

    it("as many answers as it asks for", function()
        equal(estimate(0, { max_tokens = 10, n = 3 }), 30)
        equal(estimate(0, { max_tokens = 10, best_of = 4, n = 2 }), 40)
    end)

    it("a finite number, whatever it asks for", function()
        for _, name in ipairs({ "max_tokens", "max_completion_tokens", "max_output_tokens", "n",
                                "best_of" })
        do
            for _, value in ipairs({ "nan", "-nan", "inf", "1e999", "-1e999", "1e300" }) do
                local tokens = budget_rules.estimate(nil, 400, true, members({ [name] = value }))
                equal(tokens >= 101 and tokens < 2 ^ 40, true, name .. " " .. value)
                equal(estimate(400, { [name] = value }, 1000), 100, name .. " " .. value)
            end
        end
        local both = members({ max_tokens = 1e300, n = 1e300 })
        equal(budget_rules.estimate(nil, 400, true, both) < 2 ^ 40, true)
    end)

    it("at most a tenth of the budget, at least one token, and whole tokens", function()
        equal(estimate(8000000, nil, 100000), 10000)
        equal(estimate(400, { max_tokens = 1e9 }, 100000), 10000)
        equal({ estimate(400, nil, 5), estimate(0, { max_tokens = 1.5 }) }, { 1, 1 })
    end)

    it("what it asks for if no budget is known", function()
        equal(budget_rules.estimate(nil, 400, true, members({ max_tokens = 5000 })), 5100)
    end)
end)


describe("a request is rejected", function()
    local bound = budget_rules.bound

    it("in the low lane while less than the reserve is left", function()
        -- With 70,000 of 100,000 used, exactly the reserve is left.
        equal(bound("low", 100000, 30000), 70001)
    end)

    it("in the high lane while nothing is left", function()
        equal(bound("high", 100000, 30000), 100000)
    end)

    it("alike in both lanes without a reserve", function()
        equal({ bound("low", 100, 0), bound("high", 100, 0) }, { 100, 100 })
    end)

    it("in the low lane by any use, if all is reserved", function()
        equal(bound("low", 100, 100), 1)
    end)
end)
