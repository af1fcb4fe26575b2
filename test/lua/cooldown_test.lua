local cooldown = require("genai.cooldown")
local shared_dict = require("shared_dict")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NOW = 1700000000
local DATES = {
    ["Wed, 21 Oct 2026 07:28:00 GMT"] = NOW + 90,
    ["Wed, 21 Oct 2015 07:28:00 GMT"] = 1,
}


local function named(headers)
    return cooldown.named_ms(headers, NOW, function(text)
        return DATES[text]
    end)
end


describe("cooldown: the time that a backend names", function()
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
    end)
end)


describe("cooldown: how long", function()
    local conf = { default_ms = 10000, max_ms = 60000 }

    it("is what is named, else the default, capped", function()
        equal(cooldown.duration_ms(nil, conf), 10000)
        equal(cooldown.duration_ms(43, conf), 43)
        equal(cooldown.duration_ms(0.2, conf), 1)
        equal(cooldown.duration_ms(43.2, conf), 44)
        equal(cooldown.duration_ms(86400000, conf), 60000)
        equal(cooldown.duration_ms(1 / 0, conf), 60000)
        equal(cooldown.duration_ms(nil, { default_ms = 90000, max_ms = 60000 }), 60000)
    end)

    it("is nothing where it is switched off", function()
        equal(cooldown.duration_ms(nil, { default_ms = 0, max_ms = 60000 }), 0)
        equal(cooldown.duration_ms(500, { default_ms = 0, max_ms = 60000 }), 500)
        equal(cooldown.duration_ms(500, { default_ms = 10000, max_ms = 0 }), 0)
        equal(cooldown.duration_ms(nil, { default_ms = 10000, max_ms = 0 }), 0)
    end)
end)


describe("cooldown: its name", function()
    it("tells backends and deployments apart", function()
        local id = "east|https://east.openai.azure.com"
        equal(cooldown.key(id), "cool|" .. id)
        equal(cooldown.key(id, "gpt-4o"), "cool|" .. id .. "|gpt-4o")
        equal(#cooldown.key(id, ("x"):rep(10000)), #cooldown.key(id) + 129)
    end)
end)


describe("cooldown: the memory of it", function()
    local key = cooldown.key("east|https://east", "gpt-4o")

    local function state(dict)
        local name, left, reason = cooldown.state(dict, key, dict.now)
        return { name, left, reason }
    end

    it("begins, ends, and is forgotten a minute later", function()
        local dict = shared_dict.new(NOW * 1000 + 0.5)
        equal(state(dict), { "usable" })
        cooldown.start(dict, key, dict.now, 5000, "throttled")
        equal(state(dict), { "cooling", 5000, "throttled" })
        dict.now = dict.now + 4999
        equal(state(dict), { "cooling", 1, "throttled" })
        dict.now = dict.now + 1
        equal(state(dict), { "ended", 0, "throttled" })
        dict.now = dict.now + 59999
        equal(state(dict), { "ended", 0, "throttled" })
        dict.now = dict.now + 1
        equal(state(dict), { "usable" })
    end)

    it("is stopped by a success", function()
        local dict = shared_dict.new(NOW * 1000)
        cooldown.start(dict, key, dict.now, 5000, "failing")
        equal(cooldown.take_probe(dict, key), true)
        cooldown.stop(dict, key)
        equal(state(dict), { "usable" })
        equal(cooldown.take_probe(dict, key), true)
    end)

    it("lets one request try at a time", function()
        local dict = shared_dict.new(NOW * 1000)
        cooldown.start(dict, key, dict.now, 5000, "failing")
        dict.now = dict.now + 5000
        equal(cooldown.take_probe(dict, key), true)
        equal(cooldown.take_probe(dict, key), false)
        dict.now = dict.now + cooldown.PROBE_MS - 1
        equal(cooldown.take_probe(dict, key), false)
        dict.now = dict.now + 1
        equal(cooldown.take_probe(dict, key), true)
        cooldown.release_probe(dict, key)
        equal(cooldown.take_probe(dict, key), true)
    end)

    it("begins anew when the one that tried failed", function()
        local dict = shared_dict.new(NOW * 1000)
        cooldown.start(dict, key, dict.now, 10, "failing")
        dict.now = dict.now + 10
        equal(cooldown.take_probe(dict, key), true)
        cooldown.start(dict, key, dict.now, 20, "throttled")
        equal(state(dict), { "cooling", 20, "throttled" })
        dict.now = dict.now + 20
        equal(state(dict), { "ended", 0, "throttled" })
        equal(cooldown.take_probe(dict, key), true)
    end)

    it("can be ended for its reason only", function()
        local dict = shared_dict.new(NOW * 1000)
        cooldown.start(dict, key, dict.now, 5000, "throttled")
        cooldown.stop_for(dict, key, "credentials")
        equal(state(dict), { "cooling", 5000, "throttled" })
        cooldown.start(dict, key, dict.now, 5000, "credentials")
        cooldown.stop_for(dict, key, "credentials")
        equal(state(dict), { "usable" })
        cooldown.stop_for(dict, key, "credentials")
        equal(state(dict), { "usable" })
    end)

    it("keeps cool-downs of others apart", function()
        local dict = shared_dict.new(NOW * 1000)
        local other = cooldown.key("east|https://east")
        cooldown.start(dict, key, dict.now, 5000, "throttled")
        equal(cooldown.state(dict, other, dict.now), "usable")
        equal(cooldown.take_probe(dict, key), true)
        equal(cooldown.take_probe(dict, other), true)
    end)
end)
