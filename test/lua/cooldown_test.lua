local cooldown = require("genai.balancing.cooldown")
local shared_dict = require("shared_dict")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NOW = 1700000000

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


describe("cooldown: a fixed length", function()
    local conf = { default_ms = 10000, max_ms = 60000, fixed_ms = 3000 }

    it("replaces what is named, the default, and the short one of a refused connection", function()
        equal({ cooldown.duration_ms(nil, conf), cooldown.duration_ms(50000, conf) }, { 3000, 3000 })
        equal({ cooldown.unreachable_ms(false, false, conf), cooldown.unreachable_ms(true, true, conf) },
              { 3000, 3000 })
    end)

    it("may be nothing", function()
        local none = { default_ms = 10000, max_ms = 60000, fixed_ms = 0 }
        equal({ cooldown.duration_ms(5000, none), cooldown.unreachable_ms(true, false, none) }, { 0, 0 })
    end)
end)


describe("cooldown: begun by a request", function()
    local function entry_of(dict, now)
        local view = cooldown.view(dict)
        view:refresh()
        return view:cooldown("a", nil, now)
    end

    it("does not shorten one that lasts longer, if it is of a pool with a length of its own", function()
        local dict = shared_dict.new(NOW)
        equal(cooldown.start(dict, "a", nil, NOW, 5000, "throttled", true), true)
        equal(cooldown.start(dict, "a", nil, NOW, 1000, "failing", false, { keeps_longer = true }), false)
        equal({ entry_of(dict, NOW).till - NOW, entry_of(dict, NOW).reason }, { 5000, "throttled" })
        equal(cooldown.start(dict, "a", nil, NOW, 9000, "failing", false, { keeps_longer = true }), true)
        equal(entry_of(dict, NOW).till - NOW, 9000)
        equal(cooldown.start(dict, "a", nil, NOW, 1000, "failing", false, { lane = "high" }), true)
        equal(entry_of(dict, NOW).till - NOW, 1000)
    end)

    it("of the low lane holds for the low lane only", function()
        local dict = shared_dict.new(NOW)
        cooldown.start(dict, "a", nil, NOW, 5000, "throttled", true, { lane = "low" })
        local entry = entry_of(dict, NOW)
        equal({ cooldown.holds(entry, "low", NOW), cooldown.holds(entry, "high", NOW),
                cooldown.holds(entry, nil, NOW) }, { true, false, true })
    end)

    it("of the high lane holds for both, until it would have ended without the low lane", function()
        local dict = shared_dict.new(NOW)
        cooldown.start(dict, "a", nil, NOW, 5000, "throttled", true, { lane = "high" })
        cooldown.start(dict, "a", nil, NOW, 9000, "throttled", true, { lane = "low" })
        local entry = entry_of(dict, NOW)
        equal({ cooldown.holds(entry, "high", NOW + 4999), cooldown.holds(entry, "high", NOW + 5000),
                cooldown.holds(entry, "low", NOW + 8999) }, { true, false, true })
        -- A third one of the low lane does not move that end.
        cooldown.start(dict, "a", nil, NOW + 6000, 9000, "throttled", true, { lane = "low" })
        equal(cooldown.holds(entry_of(dict, NOW + 6000), "high", NOW + 6000), false)
        cooldown.start(dict, "a", nil, NOW + 7000, 1000, "throttled", true, { lane = "high" })
        equal(cooldown.holds(entry_of(dict, NOW + 7000), "high", NOW + 7000), true)
    end)

    it("that is a guess holds for nobody", function()
        local dict = shared_dict.new(NOW)
        cooldown.start(dict, "a", nil, NOW, 5000, "failing", false, { lane = "low" })
        equal(cooldown.holds(entry_of(dict, NOW), "low", NOW), false)
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
    local ID, SCOPE = "east|https://east", "gpt-4o"
    local key = cooldown.key(ID, SCOPE)

    local function state(dict)
        local name, left, reason = cooldown.state(dict, key, dict.now)
        return { name, left, reason }
    end

    it("begins, ends, and is forgotten a minute later", function()
        local dict = shared_dict.new(NOW * 1000 + 0.5)
        equal(state(dict), { "usable" })
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "throttled")
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
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "failing")
        equal(cooldown.take_probe(dict, key), true)
        cooldown.stop(dict, ID, SCOPE)
        equal(state(dict), { "usable" })
        equal(cooldown.take_probe(dict, key), true)
    end)

    it("lets one request try at a time", function()
        local dict = shared_dict.new(NOW * 1000)
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "failing")
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
        cooldown.start(dict, ID, SCOPE, dict.now, 10, "failing")
        dict.now = dict.now + 10
        equal(cooldown.take_probe(dict, key), true)
        cooldown.start(dict, ID, SCOPE, dict.now, 20, "throttled")
        equal(state(dict), { "cooling", 20, "throttled" })
        dict.now = dict.now + 20
        equal(state(dict), { "ended", 0, "throttled" })
        equal(cooldown.take_probe(dict, key), true)
    end)

    it("of a whole backend can be ended for its reason only", function()
        local dict = shared_dict.new(NOW * 1000)
        local function whole()
            return (cooldown.state(dict, cooldown.key(ID), dict.now))
        end
        cooldown.start(dict, ID, nil, dict.now, 5000, "unreachable")
        cooldown.stop_for(dict, ID, "credentials")
        equal(whole(), "cooling")
        cooldown.start(dict, ID, nil, dict.now, 5000, "credentials")
        cooldown.stop_for(dict, ID, "credentials")
        equal(whole(), "usable")
        cooldown.stop_for(dict, ID, "credentials")
        equal(whole(), "usable")
    end)

    it("keeps cool-downs of others apart", function()
        local dict = shared_dict.new(NOW * 1000)
        local other = cooldown.key("east|https://east")
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "throttled")
        equal(cooldown.state(dict, other, dict.now), "usable")
        equal(cooldown.take_probe(dict, key), true)
        equal(cooldown.take_probe(dict, other), true)
    end)
end)


describe("cooldown: of a backend that cannot be reached", function()
    local conf = { default_ms = 10000, max_ms = 120000 }

    it("is short", function()
        equal(cooldown.unreachable_ms(false, false, conf), 1000)
        equal(cooldown.unreachable_ms(false, true, conf), 2000)
    end)

    it("has its whole length where an attempt takes long", function()
        equal(cooldown.unreachable_ms(true, false, conf), 10000)
    end)

    it("keeps to what the settings allow", function()
        equal(cooldown.unreachable_ms(false, false, { default_ms = 300, max_ms = 120000 }), 300)
        equal(cooldown.unreachable_ms(false, false, { default_ms = 0, max_ms = 120000 }), 0)
    end)
end)


describe("cooldown: the delay that a client is told", function()
    it("is what is left, but no less than an honest retry needs", function()
        equal(cooldown.client_delay_ms(7000, 33000), 7000)
        equal(cooldown.client_delay_ms(14, 33000), 1000)
        equal(cooldown.client_delay_ms(14, 600), 600)
        equal(cooldown.client_delay_ms(1, 43), 100)
        equal(cooldown.client_delay_ms(1234.5, 2000), 1235)
    end)
end)


describe("cooldown: what one worker knows of all", function()
    local ID, SCOPE = "east|https://east", "gpt-4o"

    local function known(view, dict, scope)
        view:refresh()
        local entry = view:cooldown(ID, scope, dict.now)
        return entry and { entry.reason, entry.till - dict.now, entry.is_firm, entry.scope }
    end

    it("follows what other workers do", function()
        local dict = shared_dict.new(NOW * 1000)
        local view = cooldown.view(dict)
        equal(known(view, dict, SCOPE), nil)
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "throttled", true)
        cooldown.start(dict, ID, nil, dict.now, 1000, "unreachable")
        equal(known(view, dict, SCOPE), { "throttled", 5000, true, SCOPE })
        equal(known(view, dict), { "unreachable", 1000, false })
        equal(known(view, dict, "another"), nil)
        cooldown.stop(dict, ID)
        equal(known(view, dict), nil)
        equal(known(view, dict, SCOPE), { "throttled", 5000, true, SCOPE })
        cooldown.stop(dict, ID, SCOPE)
        equal(known(view, dict, SCOPE), nil)
        equal(next(view.backends), nil)
    end)

    it("is told of an end by a worker that had no request for longer than a minute", function()
        local dict = shared_dict.new(NOW * 1000)
        local view = cooldown.view(dict)
        cooldown.start(dict, ID, nil, dict.now, 600000, "credentials", true)
        equal(known(view, dict), { "credentials", 600000, true })
        dict.now = dict.now + 10000
        cooldown.stop_for(dict, ID, "credentials")
        dict.now = dict.now + 300000
        equal(known(view, dict), nil)
    end)

    it("is the same for a worker that comes later", function()
        local dict = shared_dict.new(NOW * 1000)
        for i = 1, 50 do
            cooldown.start(dict, ID, "gone-" .. i, dict.now, 10, "throttled", true)
        end
        dict.now = dict.now + 61000
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "throttled", true)
        equal(known(cooldown.view(dict), dict, SCOPE), { "throttled", 5000, true, SCOPE })
        equal(known(cooldown.view(dict), dict, "gone-1"), nil)
    end)

    it("ends a minute after the cooldown, so that its end is probed", function()
        local dict = shared_dict.new(NOW * 1000)
        local view = cooldown.view(dict)
        cooldown.start(dict, ID, SCOPE, dict.now, 5000, "throttled", true)
        dict.now = dict.now + 64999
        equal(known(view, dict, SCOPE) ~= nil, true)
        dict.now = dict.now + 1
        equal(known(view, dict, SCOPE), nil)
        equal(next(view.backends), nil)
    end)

    it("has names that hold line breaks", function()
        local dict = shared_dict.new(NOW * 1000)
        local view = cooldown.view(dict)
        cooldown.start(dict, ID, "a\nb", dict.now, 5000, "throttled", true)
        equal(known(view, dict, "a\nb"), { "throttled", 5000, true, "a\nb" })
        local long = ("x"):rep(1000)
        cooldown.start(dict, ID, long, dict.now, 5000, "throttled", true)
        equal(known(view, dict, long) ~= nil, true)
    end)

    it("has the marks of unhealthy backends, as long as they last", function()
        local dict = shared_dict.new(NOW * 1000)
        local view = cooldown.view(dict)
        local function is_unhealthy()
            view:refresh()
            return view:is_unhealthy(ID, dict.now)
        end
        equal(is_unhealthy(), false)
        cooldown.mark_health(dict, ID, "unhealthy|" .. ID, dict.now, 30)
        equal(is_unhealthy(), true)
        cooldown.mark_health(dict, ID, "unhealthy|" .. ID, dict.now)
        equal(is_unhealthy(), false)
        cooldown.mark_health(dict, ID, "unhealthy|" .. ID, dict.now, 30)
        dict.now = dict.now + 30000
        equal(is_unhealthy(), false)
    end)
end)


describe("cooldown: who is at fault", function()
    it("is the backend where a different request failed before", function()
        local dict = shared_dict.new(NOW * 1000)
        equal(cooldown.suspect(dict, "k", "first", 10000), false)
        equal(cooldown.suspect(dict, "k", "first", 10000), false)
        equal(cooldown.suspect(dict, "other", "second", 10000), false)
        equal(cooldown.suspect(dict, "k", "second", 10000), true)
        dict.now = dict.now + 10000
        equal(cooldown.suspect(dict, "k", "third", 10000), false)
    end)
end)
