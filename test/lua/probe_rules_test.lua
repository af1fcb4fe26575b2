local probe_rules = require("genai.balancing.probe_rules")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local CONF = { healthy_interval_ms = 10000, unhealthy_interval_ms = 5000, timeout_ms = 1000 }


describe("health: an answer to a probe", function()
    it("shows a backend that works whatever it says, unless that is its own failure", function()
        for _, status in ipairs({ 200, 204, 301, 401, 403, 404, 408, 421, 429, 499 }) do
            equal(probe_rules.is_healthy(status), true, status)
        end
        for _, status in ipairs({ 500, 501, 502, 503, 504, 529, 599 }) do
            equal(probe_rules.is_healthy(status), false, status)
        end
    end)
end)


describe("health: probes in a row", function()
    local function run(outcomes)
        local state, told = { failures = 0, is_unhealthy = false }, {}
        for i = 1, #outcomes do
            local after, has_changed = probe_rules.judge(state, outcomes:sub(i, i) == "+", CONF)
            told[i] = after .. (has_changed and (state.is_unhealthy and " down" or " up") or "")
        end
        return told
    end

    it("are far apart while all is well", function()
        equal(run("+++"), { "10000", "10000", "10000" })
    end)

    it("need a second failure, soon after the first, for a backend to be unhealthy", function()
        equal(run("+-"), { "10000", "1000" })
        equal(run("-+-+"), { "1000", "10000", "1000", "10000" })
        equal(run("--"), { "1000", "5000 down" })
    end)

    it("say so once", function()
        equal(run("-----"), { "1000", "5000 down", "5000", "5000", "5000" })
    end)

    it("end it with the first success", function()
        equal(run("---+"), { "1000", "5000 down", "5000", "10000 up" })
        equal(run("--+--+"), { "1000", "5000 down", "10000 up", "1000", "5000 down", "10000 up" })
    end)

    it("go on from what another worker found out", function()
        local state = { failures = 0, is_unhealthy = true }
        equal({ probe_rules.judge(state, false, CONF) }, { 5000, false })
        equal({ probe_rules.judge(state, true, CONF) }, { 10000, true })
    end)
end)


describe("health: a mark", function()
    it("is of a backend where it is now", function()
        equal(probe_rules.key("a|https://one") ~= probe_rules.key("a|https://two"), true)
    end)

    it("outlasts a few probes, and no more", function()
        equal(probe_rules.mark_s(CONF) > 2 * 5 + 1, true)
        equal(probe_rules.mark_s(CONF) < 60, true)
    end)
end)


describe("health: probes go", function()
    local function address(scheme, port, authority, other)
        local endpoint = { scheme = scheme, host = "one", port = port, authority = authority }
        local found = probe_rules.address(endpoint, other)
        return found.scheme .. " " .. found.host .. " " .. found.port .. " " .. found.authority
    end

    it("where requests go", function()
        equal(address("https", 443, "one"), "https one 443 one")
        equal(address("http", 80, "one"), "http one 80 one")
        equal(address("https", 8443, "one:8443"), "https one 8443 one:8443")
        equal(address("https", 443, "one", "https"), "https one 443 one")
    end)

    it("to the port of their own scheme, unless the endpoint names one", function()
        equal(address("https", 443, "one", "http"), "http one 80 one")
        equal(address("http", 80, "one", "https"), "https one 443 one")
        equal(address("https", 8443, "one:8443", "http"), "http one 8443 one:8443")
    end)

    it("to an IPv6 address as well", function()
        local endpoint = { scheme = "https", host = "[::1]", port = 443, authority = "[::1]" }
        equal(probe_rules.address(endpoint, "http").port, 80)
    end)
end)
