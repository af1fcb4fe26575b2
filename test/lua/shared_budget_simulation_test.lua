--- The toolkit's prioritization runs against the shared budget, by a simulated clock: who gets which
-- share of it, and that a backend with the same limit throttles nobody.

local budget_rules = require("genai.limits.budget_rules")
local harness = require("harness")
local shared_dict = require("shared_dict")
local sliding_minute = require("genai.limits.sliding_minute")
local describe, it, equal = harness.describe, harness.it, harness.equal

local START = 1700000000
local LIMIT, RESERVE = 100000, 30000

-- An embedding of the toolkit: 974 characters, of which the simulator reports 262 tokens and counts
-- 244 in its own limit.
local BODY, TOKENS, BACKEND_COST = 1010, 262, 244
local LATENCY, REJECTION, THINKING = 0.12, 0.01, 1

-- Phases of the toolkit's cycle: seconds at their end, users, and whether both lanes are present.
local CYCLE = {
    { till = 120, users = 9, lanes = { "low" } },
    { till = 240, users = 18, lanes = { "high", "low" } },
    { till = 360, users = 9, lanes = { "high" } },
    { till = 480, users = 18, lanes = { "high", "low" } },
    { till = 600, users = 9, lanes = { "low" } },
}


-- A backend with a sliding log: tokens in 60 seconds, requests in 10.
local function new_backend()
    local log, tokens_from, requests_from, tokens = {}, 1, 1, 0
    return function(now)
        while log[tokens_from] and log[tokens_from] <= now - 60 do
            tokens_from, tokens = tokens_from + 1, tokens - BACKEND_COST
        end
        while log[requests_from] and log[requests_from] <= now - 10 do
            requests_from = requests_from + 1
        end
        if tokens + BACKEND_COST > LIMIT or #log - requests_from + 1 >= LIMIT / 1000 then
            return false
        end
        log[#log + 1], tokens = now, tokens + BACKEND_COST
        return true
    end
end


-- Runs users, who each send a request, wait for the answer, and think for a second. Returns what
-- happened: `at`, `lane` and `status` of each request.
local function simulate(phases)
    local dict = shared_dict.new(START * 1000)
    local minute = sliding_minute.new(dict, "budget|", 60)
    local backend = new_backend()
    local waiting, events = {}, {}
    local random = 1
    local function jitter()
        random = random * 16807 % 2147483647
        return random / 2147483647
    end

    -- What happens at which time, in order; there are few, so a list will do.
    local function later(at, work)
        local i = #waiting
        while i > 0 and waiting[i].at < at do
            i = i - 1
        end
        table.insert(waiting, i + 1, { at = at, work = work })
    end

    local function user(lane, till)
        local function send(now)
            if now >= till then
                return
            end
            local tokens = budget_rules.estimate(LIMIT, BODY, false, {})
            local second = minute:reserve(START + now, tokens, budget_rules.bound(lane, LIMIT, RESERVE))
            local event = { at = now, lane = lane, status = second and 200 or 429 }
            events[#events + 1] = event
            if not second then
                return later(now + REJECTION + THINKING, send)
            end
            local answered = now + LATENCY * (0.75 + jitter() / 2)
            later(answered, function(at)
                local is_served = backend(at)
                event.by_backend = true
                event.status = is_served and 200 or 429
                minute:correct(START + at, second, (is_served and TOKENS or 0) - tokens)
            end)
            later(answered + THINKING, send)
        end
        return send
    end

    local began = 0
    for _, phase in ipairs(phases) do
        -- A user a second, as locust starts them.
        for i = 1, phase.users do
            later(began + i, user(phase.lanes[i % #phase.lanes + 1], phase.till))
        end
        began = phase.till
    end
    while #waiting > 0 do
        local nearest = table.remove(waiting)
        dict.now = (START + nearest.at) * 1000
        nearest.work(nearest.at)
    end
    return events
end


local function served(events, lane, from, till)
    local count = 0
    for _, each in ipairs(events) do
        if each.lane == lane and each.status == 200 and each.at >= from and each.at < till then
            count = count + 1
        end
    end
    return count
end


-- The most tokens of a lane in any minute.
local function most_in_a_minute(events, lane, from, till)
    local most = 0
    for at = from, till - 60 do
        most = math.max(most, served(events, lane, at, at + 60) * TOKENS)
    end
    return most
end


local function check(condition, about)
    equal(condition, true, about)
end


-- Requests that the budget let through and the backend did not take.
local function throttled(events)
    local count = 0
    for _, each in ipairs(events) do
        count = count + (each.status ~= 200 and each.by_backend and 1 or 0)
    end
    return count
end


local function check_mixed(events, from, till, alone)
    local high, low = served(events, "high", from, till), served(events, "low", from, till)
    check(high >= 0.9 * alone, "high gets " .. high .. " of " .. alone .. " alone")
    check(low < 0.1 * (high + low), "low gets " .. low .. ", high " .. high)
end


describe("one budget of both lanes, in the toolkit's cycle", function()
    local events = simulate(CYCLE)
    local alone = served(events, "high", 240, 360)

    it("gives the high lane alone up to 100,000 tokens a minute", function()
        local most = most_in_a_minute(events, "high", 240, 360)
        check(most > 0.93 * LIMIT and most <= LIMIT + TOKENS, "high alone: " .. most)
    end)

    it("gives the low lane alone up to 70,000 tokens a minute", function()
        for _, from in ipairs({ 0, 480 }) do
            local most = most_in_a_minute(events, "low", from, from + 120)
            check(most > 0.93 * (LIMIT - RESERVE) and most <= LIMIT - RESERVE + TOKENS, "low alone: " .. most)
        end
    end)

    it("gives the high lane what it gets alone, and the low lane nearly nothing", function()
        check_mixed(events, 120, 240, alone)
        check_mixed(events, 360, 480, alone)
    end)

    it("lets nobody be throttled by the backend", function()
        equal(throttled(events), 0)
    end)
end)


describe("one budget of both lanes, after a pause", function()
    -- Nothing is used yet, so nothing keeps the low lane out until all but the reserve is used.
    local events = simulate({ { till = 600, users = 18, lanes = { "high", "low" } } })

    it("gives the low lane a share of the first minute only", function()
        check(served(events, "low", 0, 60) > 50, "low in the first minute: " .. served(events, "low", 0, 60))
        local alone = simulate({ { till = 600, users = 9, lanes = { "high" } } })
        check_mixed(events, 120, 600, served(alone, "high", 120, 600))
    end)

    it("rejects the high lane only when all is used", function()
        for _, each in ipairs(events) do
            -- The backend has a limit of requests, too.
            if each.lane == "high" and each.status == 429 and not each.by_backend then
                local used = (served(events, "high", each.at - 61, each.at)
                              + served(events, "low", each.at - 61, each.at)) * TOKENS
                check(used > LIMIT - 18 * TOKENS, "used " .. used .. " at " .. each.at)
            end
        end
    end)
end)


describe("a low lane that would like more", function()
    for _, users in ipairs({ 5, 50, 200 }) do
        it("gets no more with " .. users .. " users, while 9 of the high lane are there", function()
            local lanes = {}
            for i = 1, 9 + users do
                lanes[i] = i <= 9 and "high" or "low"
            end
            local events = simulate({
                { till = 60, users = 9, lanes = { "high" } },
                { till = 300, users = 9 + users, lanes = lanes },
            })
            local alone = simulate({
                { till = 60, users = 9, lanes = { "high" } },
                { till = 300, users = 9, lanes = { "high" } },
            })
            check_mixed(events, 60, 300, served(alone, "high", 60, 300))
        end)
    end
end)
