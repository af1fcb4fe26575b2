local latency_stats = require("genai.balancing.latency_stats")
local shared_dict = require("shared_dict")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local START = 1700000000000
local KIND = latency_stats.kind("gpt-4o", false)


-- The same numbers in each run.
local function random_of(seed)
    return function()
        seed = (seed * 16807) % 2147483647
        return seed / 2147483647
    end
end


-- Backends as one worker sees them; workers share the memory of figures.
local function workers_of(count, weights)
    local workers = {}
    for worker = 1, count do
        workers[worker] = {}
        for i, weight in ipairs(weights) do
            local name = ("abcdefgh"):sub(i, i)
            workers[worker][i] = { name = name, weight = weight,
                                   memory = { known = latency_stats.known_of(name) }, turns = {} }
        end
    end
    return workers
end


-- Requests at even distances, and what becomes of each.
-- @tparam table run `weights`; `rate` (a second), `seconds`, `took(name, ms)` (how long a backend
--   takes at a time, and whether it fails); `workers`, 2 by default
-- @treturn table {name = count} of each second
local function simulate(run)
    local dict, random = shared_dict.new(START), random_of(run.seed or 42)
    local workers = workers_of(run.workers or 2, run.weights)
    local ends, seconds = {}, { last = run.seconds }
    for i = 1, run.rate * run.seconds do
        local now = START + math.floor((i - 1) * 1000 / run.rate)
        table.sort(ends, function(a, b) return a.at < b.at end)
        while ends[1] and ends[1].at <= now do
            local last = table.remove(ends, 1)
            dict.now = last.at
            last.known.waiting = last.known.waiting - 1
            latency_stats[last.outcome](dict, last.known, last.at, last.took)
        end

        dict.now = now
        local backends = workers[math.floor(random() * #workers) + 1]
        local candidates = {}
        for _, each in ipairs(backends) do
            if not run.is_there or run.is_there(each.name, now - START) then
                candidates[#candidates + 1] = each
            end
        end
        local picked = latency_stats.pick(candidates, KIND, dict, now, random)
        local known = picked.memory.known(KIND)
        local took, outcome = run.took(picked.name, now - START, random)
        known.waiting = known.waiting + 1
        ends[#ends + 1] = { at = now + took, took = took, known = known,
                            outcome = outcome or "answered" }
        local second = math.floor((now - START) / 1000) + 1
        seconds[second] = seconds[second] or {}
        seconds[second][picked.name] = (seconds[second][picked.name] or 0) + 1
    end
    return seconds
end


-- The share of a backend from one second to another.
local function share(seconds, name, from, to)
    local count, total = 0, 0
    for second = from or 1, to or seconds.last do
        for each, requests in pairs(seconds[second] or {}) do
            total = total + requests
            count = count + (each == name and requests or 0)
        end
    end
    return count / total
end


local function between(value, low, high, about)
    equal(value >= low and value <= high, true,
          ("%s: %.3f is between %.3f and %.3f"):format(about or "share", value, low, high))
end


local function always(times)
    return function(name)
        return times[name]
    end
end


describe("latency: what is measured together", function()
    it("is a deployment, of streams apart from what is not", function()
        local names = {}
        for _, scope in ipairs({ "gpt-4o", "gpt-4o-mini" }) do
            for _, is_stream in ipairs({ true, false }) do
                names[latency_stats.known_of("a")(latency_stats.kind(scope, is_stream)).key] = true
                names[latency_stats.known_of("b")(latency_stats.kind(scope, is_stream)).key] = true
            end
        end
        local count = 0
        for _ in pairs(names) do
            count = count + 1
        end
        equal(count, 8)
    end)

    it("has a name of a bounded length", function()
        equal(#latency_stats.kind(("x"):rep(10000), true), #"stream|" + 128)
    end)
end)


describe("latency: figures", function()
    local function run(steps)
        local dict, known = shared_dict.new(START), latency_stats.known_of("a")(KIND)
        for _, step in ipairs(steps) do
            local how, took, after = step[1], step[2], step[3] or 0
            dict.now = dict.now + after
            latency_stats[how](dict, known, dict.now, took)
        end
        return dict:get(known.key), dict, known
    end

    it("begin with the first answer, and follow the newest ones", function()
        equal(run({ { "answered", 500 } }), 500)
        between(run({ { "answered", 500 }, { "answered", 50, 100 } }), 480, 490, "at once")
        between(run({ { "answered", 500 }, { "answered", 50, 3000 } }), 210, 220, "later")
        between(run({ { "answered", 500 }, { "answered", 50, 60000 } }), 50, 50.1, "much later")
    end)

    it("weigh answers by time, not by number", function()
        local steps = { { "answered", 500 } }
        for i = 1, 100 do
            steps[i + 1] = { "answered", 50, 30 }
        end
        between(run(steps), 210, 220, "100 answers in three seconds")
    end)

    it("are forgotten after ten minutes without an answer", function()
        local _, dict, known = run({ { "answered", 500 }, { "answered", 500, 60000 } })
        dict.now = dict.now + 599999
        equal(dict:get(known.key), 500)
        dict.now = dict.now + 1
        equal(dict:get(known.key), nil)
    end)

    it("count a failure as slow, however soon it came", function()
        between(run({ { "answered", 50 }, { "failed", 1, 10 } }), 1500, 1600, "one")
        between(run({ { "answered", 50 }, { "failed", 1, 10 }, { "failed", 1, 10 },
                      { "failed", 1, 10 } }), 3000, 5000, "three")
        equal(run({ { "failed", 1 } }), 5000)
        between(run({ { "answered", 50 }, { "failed", 60000, 60000 } }), 59999, 60000, "late")
    end)

    it("of what never answered are forgotten after a minute", function()
        for _, how in ipairs({ "failed", "unanswered" }) do
            local _, dict, known = run({ { how, 20000 } })
            equal(dict:get(known.key), 20000)
            dict.now = dict.now + 60000
            equal(dict:get(known.key), nil)
        end
    end)

    it("learn from a request that ended too early only that it would have taken longer", function()
        equal(run({ { "unanswered", 3 } }), nil)
        equal(run({ { "answered", 500 }, { "unanswered", 100, 3000 } }), 500)
        between(run({ { "answered", 50 }, { "unanswered", 10000, 3000 } }), 6000, 6500)
    end)

    it("of answers in one piece leave their length out", function()
        equal(latency_stats.without_length(300, nil), 300)
        equal(latency_stats.without_length(300, 0), 300)
        -- 200 ms, and then 20 a token
        local short, long = latency_stats.without_length(200 + 10 * 20, 10),
                            latency_stats.without_length(200 + 4000 * 20, 4000)
        between(long / short, 0.5, 3, "of 10 tokens and of 4,000")
    end)

    it("are of their own time when the clock of their flags begins anew", function()
        local turn = math.ceil(START / 2 ^ 32) * 2 ^ 32
        for _, before in ipairs({ 1, 1000, 2999 }) do
            local dict, known = shared_dict.new(turn - before), latency_stats.known_of("a")(KIND)
            latency_stats.answered(dict, known, dict.now, 500)
            dict.now = turn - before + 3000
            latency_stats.answered(dict, known, dict.now, 50)
            between(dict:get(known.key), 210, 220)
        end
    end)
end)


describe("latency: the choice", function()
    it("goes to the faster one, and tries the slower one now and then", function()
        for _, rate in ipairs({ 2, 20, 200 }) do
            local seconds = simulate({ weights = { 1, 1 }, rate = rate, seconds = 60,
                                       took = always({ a = 50, b = 500 }) })
            between(share(seconds, "b", 3), 0.0001, 0.06, rate .. " a second")
        end
    end)

    it("sends at most a twentieth to a slow one where there is little to do", function()
        for _, rate in ipairs({ 0.1, 1, 5 }) do
            local seconds = simulate({ weights = { 1, 1 }, rate = rate, seconds = 400 / rate,
                                       workers = 1, took = always({ a = 200, b = 2000 }) })
            between(share(seconds, "b"), 0.01, 0.055, rate .. " a second")
        end
    end)

    it("sends at most a twentieth to several slow ones", function()
        local seconds = simulate({ weights = { 1, 1, 1, 1, 1 }, rate = 10, seconds = 120,
                                   took = always({ a = 50, b = 500, c = 500, d = 900, e = 900 }) })
        between(share(seconds, "a", 3), 0.94, 0.999)
        for _, name in ipairs({ "b", "c", "d", "e" }) do
            between(share(seconds, name, 3), 0.001, 0.03, name)
        end
    end)

    it("shares out by weight among equals, whose answers take longer or shorter", function()
        local function took(_, _, random)
            return math.floor(40 + 40 * random())
        end
        for _, case in ipairs({ { { 1, 1 }, 0.5 }, { { 3, 1 }, 0.75 }, { { 8, 1, 1 }, 0.8 } }) do
            for _, rate in ipairs({ 1, 20, 100 }) do
                local seconds = simulate({ weights = case[1], rate = rate, seconds = 60,
                                           took = took })
                between(share(seconds, "a"), case[2] - 0.12, case[2] + 0.12,
                        case[2] .. " at " .. rate .. " a second")
            end
        end
    end)

    it("keeps a little one to its weight", function()
        local seconds = simulate({ weights = { 99, 1 }, rate = 5, seconds = 400,
                                   took = always({ a = 50, b = 50 }) })
        between(share(seconds, "b"), 0.005, 0.02)
    end)

    it("moves within ten seconds when the fast one turns slow, and back", function()
        for _, rate in ipairs({ 5, 20, 100 }) do
            for seed = 1, 20 do
                local seconds = simulate({
                    weights = { 1, 1 }, rate = rate, seconds = 60, seed = seed,
                    took = function(name, at)
                        return ((at < 20000 or at >= 40000) == (name == "a")) and 50 or 500
                    end,
                })
                between(share(seconds, "a", 5, 20), 0.9, 1, "before")
                between(share(seconds, "b", 26, 40), 0.9, 1, "turned at " .. rate)
                between(share(seconds, "a", 46, 60), 0.9, 1, "turned back at " .. rate)
            end
        end
    end)

    it("finds a slow one that has become the fastest", function()
        local seconds = simulate({
            weights = { 1, 1 }, rate = 20, seconds = 40,
            took = function(name, at)
                return name == "a" and 300 or at < 20000 and 900 or 100
            end,
        })
        between(share(seconds, "a", 5, 20), 0.9, 1)
        between(share(seconds, "b", 30, 40), 0.9, 1)
    end)

    it("takes a failing one for no fast one", function()
        local seconds = simulate({
            weights = { 1, 1 }, rate = 20, seconds = 60,
            took = function(name)
                if name == "b" then
                    return 2, "failed"
                end
                return 200
            end,
        })
        between(share(seconds, "b", 2), 0, 0.06)
    end)

    it("leaves one that does not answer at all, before anybody knows", function()
        local seconds = simulate({
            weights = { 1, 1 }, rate = 20, seconds = 30,
            took = function(name, at)
                return name == "b" and at > 10000 and 300000 or 50
            end,
        })
        local hanging = 0
        for second = 11, 30 do
            hanging = hanging + (seconds[second].b or 0)
        end
        between(hanging, 1, 12, "requests to it in twenty seconds")
    end)

    it("moves away from one where many wait", function()
        local seconds = simulate({ weights = { 1, 1 }, rate = 400, seconds = 20, workers = 1,
                                   took = always({ a = 100, b = 200 }) })
        -- 40 wait for the fast one: the other one is worth more than being tried.
        between(share(seconds, "b", 3), 0.08, 0.45)
    end)

    it("tries all at the beginning", function()
        local seconds = simulate({ weights = { 1, 1, 1, 1 }, rate = 4, seconds = 1, workers = 1,
                                   took = always({ a = 50, b = 500, c = 50, d = 50 }) })
        equal(seconds[1], { a = 1, b = 1, c = 1, d = 1 })
    end)

    it("tries one that is new, and one that comes back", function()
        local seconds = simulate({
            weights = { 1, 1 }, rate = 20, seconds = 20, took = always({ a = 200, b = 50 }),
            is_there = function(name, at)
                return name == "a" or at >= 10000
            end,
        })
        between(share(seconds, "b", 12), 0.9, 1)
    end)

    it("gives one that is new its share and no more, until it has answered", function()
        local seconds = simulate({
            weights = { 1, 1 }, rate = 20, seconds = 12, took = always({ a = 50, b = 3000 }),
            is_there = function(name, at)
                return name == "a" or at >= 10000
            end,
        })
        between(share(seconds, "b", 11, 12), 0.1, 0.5)
    end)

    it("knows nothing any more after a long rest", function()
        local dict, random = shared_dict.new(START), random_of(1)
        local backends = workers_of(1, { 1, 1 })[1]
        for i, took in ipairs({ 50, 500 }) do
            latency_stats.answered(dict, backends[i].memory.known(KIND), dict.now, took)
        end
        local function picks()
            local names = ""
            for _ = 1, 4 do
                names = names .. latency_stats.pick(backends, KIND, dict, dict.now, random).name
            end
            return names
        end
        equal(picks(), "aaaa")
        dict.now = dict.now + 600000
        equal(picks(), "abab")
    end)

    it("is one of drained backends as well, for what they alone can do", function()
        for _, weights in ipairs({ { 0, 0 }, { 0, 3 } }) do
            local seconds = simulate({ weights = weights, rate = 20, seconds = 10,
                                       took = always({ a = 50, b = 500 }) })
            between(share(seconds, "a", 2), 0.9, 1)
        end
    end)

    it("measures deployments apart", function()
        local dict, random = shared_dict.new(START), random_of(1)
        local backends = workers_of(1, { 1, 1 })[1]
        local other = latency_stats.kind("gpt-4o-mini", false)
        for i, took in ipairs({ 50, 500 }) do
            latency_stats.answered(dict, backends[i].memory.known(KIND), dict.now, took)
            latency_stats.answered(dict, backends[3 - i].memory.known(other), dict.now, took)
        end
        for _ = 1, 5 do
            equal(latency_stats.pick(backends, KIND, dict, dict.now, random).name, "a")
            equal(latency_stats.pick(backends, other, dict, dict.now, random).name, "b")
        end
    end)
end)
