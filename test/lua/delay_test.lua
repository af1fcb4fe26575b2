local delay = require("genai.openai.delay")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NOW = 1700000000
local DATES = {
    ["Wed, 21 Oct 2026 07:28:00 GMT"] = NOW + 90,
    ["Wed, 21 Oct 2015 07:28:00 GMT"] = 1,
    ["an hour ago"] = NOW - 3600,
    ["an hour ago and 15 seconds later"] = NOW - 3585,
}


local function named(headers, message, is_not_throttled)
    return delay.named_ms(headers, NOW, function(text)
        return DATES[text]
    end, message, not is_not_throttled)
end


describe("delay: what an answer names", function()
    it("is in retry-after-ms first", function()
        equal(named({ ["retry-after-ms"] = "43" }), 43)
        equal(named({ ["retry-after-ms"] = "43.5", ["retry-after"] = "1" }), 43.5)
        equal(named({ ["retry-after-ms"] = "0", ["retry-after"] = "2" }), 2000)
        equal(named({ ["retry-after-ms"] = "-1", ["retry-after"] = "2" }), 2000)
    end)

    it("is in retry-after, as seconds or as a date", function()
        equal(named({ ["retry-after"] = "33" }), 33000)
        equal(named({ ["retry-after"] = "0.5" }), 500)
        equal(named({ ["retry-after"] = " 7 " }), 7000)
        equal(named({ ["retry-after"] = "86400" }), 86400000)
        equal(named({ ["retry-after"] = "Wed, 21 Oct 2026 07:28:00 GMT" }), 90000)
    end)

    it("is in the resets of every era where there is nothing better", function()
        equal(named({ ["x-ratelimit-reset-requests"] = "4" }), 4000)
        equal(named({ ["x-ratelimit-reset-tokens"] = "5" }), 5000)
        equal(named({ ["x-rate-limit-reset-tokens"] = "55" }), 55000)
        equal(named({ ["x-rate-limit-reset-requests"] = "6" }), 6000)
        equal(named({ ["x-ratelimit-reset-requests"] = "4", ["x-ratelimit-reset-tokens"] = "9" }),
              9000)
        equal(named({ ["retry-after"] = "1", ["x-ratelimit-reset-tokens"] = "9" }), 1000)
        equal(named({ ["retry-after"] = "Wed, 21 Oct 2015 07:28:00 GMT",
                      ["x-ratelimit-reset-tokens"] = "9" }), 9000)
        equal(named({ ["retry-after"] = "soon", ["x-ratelimit-reset-tokens"] = "9" }), 9000)
    end)

    it("may be in units", function()
        for text, milliseconds in pairs({
            ["20ms"] = 20, ["1s"] = 1000, ["1.5s"] = 1500, ["6m0s"] = 360000, ["1h2m3s"] = 3723000,
            ["1m"] = 60000, ["2d"] = 172800000, ["1m20ms"] = 60020, ["0s20ms"] = 20,
        }) do
            equal(named({ ["x-ratelimit-reset-tokens"] = text }), milliseconds, text)
        end
    end)

    it("is not known where a number is missing, zero, negative or none", function()
        equal(named({}), nil)
        for _, text in ipairs({ "0", "-1", "", " ", "soon", "0s", "0ms", "-5s", "1y", "5 s", "1e3",
                                "0x10", "nan", "inf", "1.2.3s", "s", "5s-1", "1,5" }) do
            equal(named({ ["retry-after-ms"] = text, ["retry-after"] = text,
                          ["x-ratelimit-reset-requests"] = text,
                          ["x-rate-limit-reset-tokens"] = text }), nil, text)
        end
        -- November 2025: a limit of -1, a rest of -1, a reset of 0
        equal(named({ ["x-ratelimit-limit-tokens"] = "-1", ["x-ratelimit-remaining-tokens"] = "-1",
                      ["x-ratelimit-reset-tokens"] = "0" }), nil)
    end)

    it("is the first of several", function()
        equal(named({ ["retry-after"] = { "3", "9" } }), 3000)
        equal(named({ ["retry-after"] = "5, 9" }), 5000)
        equal(named({ ["retry-after"] = "5s" }), 5000)
    end)

    it("is measured by the backend's clock where it is a date", function()
        local date = "an hour ago and 15 seconds later"
        equal(named({ ["retry-after"] = date, date = "an hour ago" }), 15000)
        equal(named({ ["retry-after"] = date }), nil)
        DATES["a second ago"] = NOW - 1
        equal(named({ ["retry-after"] = "Wed, 21 Oct 2026 07:28:00 GMT", date = "a second ago" }),
              90000)
        equal(named({ ["retry-after"] = date, date = "nonsense" }), nil)
        equal(named({ ["retry-after"] = date,
                      date = "Wed, 21 Oct 2026 07:28:00 GMT" }), nil)
    end)

    it("is in resets only where the answer is about a rate limit", function()
        equal(named({ ["x-ratelimit-reset-tokens"] = "50" }, nil, true), nil)
        equal(named({ ["retry-after"] = "2", ["x-ratelimit-reset-tokens"] = "50" }, nil, true),
              2000)
    end)

    it("is in the message where no header says better", function()
        equal(named({}, "Please retry after 26 seconds."), 26000)
        equal(named({ ["retry-after"] = "7" }, "Please retry after 26 seconds."), 7000)
        equal(named({ ["retry-after"] = "-1" }, "Please retry after 26 seconds."), 26000)
        equal(named({}, "Please retry after 26 seconds.", true), 26000)
    end)
end)


describe("delay: what a message names", function()
    it("is a number with its unit", function()
        for message, milliseconds in pairs({
            ["Rate limit is exceeded. Try again in 26 seconds."] = 26000,
            ["Please retry after 1 second."] = 1000,
            ["Please retry after 86400 seconds. Please go here: https://aka.ms/x"] = 86400000,
            ["PLEASE RETRY AFTER 3 SECONDS"] = 3000,
            ["please try again in 20ms."] = 20,
            ["Please try again in 6m0s."] = 360000,
            ["Please try again in 1m2.5s. Visit"] = 62500,
            ["Retry after 2 minutes"] = 120000,
            ["try again in 1 hour, 2 minutes and 30 seconds"] = 3750000,
            ["Please retry after approximately 5 seconds"] = 5000,
            ["Please wait 20 seconds"] = 20000,
            ["Please retry after  4  seconds"] = 4000,
            ["Please retry after: 4 seconds"] = 4000,
            ["Retry after 33"] = 33000,
            ["retry after 26.5 seconds"] = 26500,
            ["Quota will be replenished in 07:01:20."] = 25280000,
            ["You may retry after some time. Try again in 9 s."] = 9000,
            ["Wait 26 seconds before the next request"] = 26000,
            ["Please retry your request after 10 seconds"] = 10000,
            ["Try your request again in 5 s"] = 5000,
            ["The limit will reset in 20s"] = 20000,
            ["try again in less than 30 seconds"] = 30000,
            ["retry in ~7s"] = 7000,
            ['{"detail":"busy","retry_after": 30}'] = 30000,
            ["Please try\nagain  in 4 seconds"] = 4000,
            ["try again in 1,000 ms"] = 1000,
            ["retry after 1,500 seconds"] = 1500000,
        }) do
            equal(delay.of_message(message), milliseconds, message)
        end
    end)

    it("is nothing where there is none", function()
        for _, message in ipairs({
            "", "Too many requests", "Please retry after a while", "try again in 0 seconds",
            "Please retry after -1 seconds", "Please retry after 26 requests", "26 seconds",
            "retry after 2024-10-21", "try again in 00:00:00",
        }) do
            equal(delay.of_message(message), nil, message)
        end
        equal(delay.of_message(nil), nil)
        equal(delay.of_message({}), nil)
    end)
end)
