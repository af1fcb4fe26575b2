--- The sliding minute, in shared memory and in Redis: both count the same.

local harness = require("harness")
local redis_minute = require("genai.limits.redis_minute")
local redis_scripts = require("redis_scripts")
local shared_dict = require("shared_dict")
local sliding_minute = require("genai.limits.sliding_minute")
local describe, it, equal = harness.describe, harness.it, harness.equal

local START = 1700000000


-- The same steps for both, each with its clock.
local function in_memory()
    local dict = shared_dict.new(START * 1000)
    local minute = sliding_minute.new(dict, "budget|", 60)
    return {
        dict = dict,
        at = function(seconds)
            dict.now = (START + seconds) * 1000
        end,
        reserve = function(tokens, bound)
            return minute:reserve(dict.now / 1000, tokens, bound)
        end,
        correct = function(second, by)
            minute:correct(dict.now / 1000, second, by)
        end,
        used = function()
            return minute:used(dict.now / 1000)
        end,
    }
end


local function in_redis()
    local redis = redis_scripts.new(START * 1000)
    local client = redis:client()
    return {
        redis = redis,
        at = function(seconds)
            redis.now = (START + seconds) * 1000
        end,
        reserve = function(tokens, bound)
            local answer = redis_minute.reserve(client, "x", 60, tokens, bound)
            return answer.second, answer.used, not answer.second and answer.wait_ms or nil
        end,
        correct = function(second, by)
            redis_minute.correct(client, 60, { { key = "x", second = second, by = by } })
        end,
        used = function()
            return redis_minute.reserve(client, "x", 60, 0, 1).used
        end,
    }
end


for place, new in pairs({ memory = in_memory, Redis = in_redis }) do
    describe("a sliding minute in " .. place, function()
        it("counts tokens until the bound, and the request that reaches it", function()
            local minute = new()
            equal({ minute.reserve(60, 100) }, { START, 0 })
            equal({ minute.reserve(60, 100) }, { START, 60 })
            equal({ minute.reserve(1, 100) }, { nil, 120, 61000 })
            equal(minute.used(), 120)
        end)

        it("forgets a token after 60 seconds at the earliest, after 61 at the latest", function()
            local minute = new()
            minute.at(0.875)
            minute.reserve(100, 100)
            minute.at(60.875)
            equal(minute.used(), 100)
            minute.at(61)
            equal(minute.used(), 0)
        end)

        it("says when enough tokens are forgotten, as each second is", function()
            local minute = new()
            for second, tokens in ipairs({ 50, 30, 20 }) do
                minute.at(second)
                minute.reserve(tokens, 1000)
            end
            minute.at(10.25)
            local function wait(bound)
                return select(3, minute.reserve(1, bound))
            end
            equal({ wait(100), wait(51), wait(50), wait(20), wait(1) }, { 51750, 51750, 52750, 53750, 53750 })
            minute.at(10.25 + 51.75)
            equal({ (minute.reserve(1, 51)) ~= nil, (minute.reserve(1, 50)) }, { true, nil })
        end)

        it("is never above its budget in any 60 seconds", function()
            local minute = new()
            local passed = {}
            for step = 0, 20 * 200 do
                local now = step / 20
                minute.at(now)
                if minute.reserve(7, 700) then
                    passed[#passed + 1] = now
                end
            end
            local first, most = 1, 0
            for i, at in ipairs(passed) do
                while passed[first] <= at - 60 do
                    first = first + 1
                end
                most = math.max(most, i - first + 1)
            end
            equal(most, 100, "requests in 60 seconds")
            equal(#passed, 400, "requests in 200 seconds")
        end)

        it("gives back what was too much, as long as it counts", function()
            local minute = new()
            local second = minute.reserve(100, 1000)
            minute.at(30)
            minute.correct(second, -70)
            equal(minute.used(), 30)
            minute.at(61)
            equal(minute.used(), 0)
        end)

        it("gives nothing back of a second that is over", function()
            local minute = new()
            local second = minute.reserve(100, 1000)
            minute.at(64)
            minute.reserve(40, 1000)
            minute.correct(second, -100)
            equal(minute.used(), 40)
        end)

        it("counts what was too little from the time when it is known", function()
            local minute = new()
            local second = minute.reserve(10, 1000)
            minute.at(50)
            minute.correct(second, 90)
            equal(minute.used(), 100)
            minute.at(62)
            equal(minute.used(), 90)
            minute.at(111)
            equal(minute.used(), 0)
        end)

        it("counts large numbers", function()
            local minute = new()
            minute.reserve(3000000000, 1e15)
            equal(minute.used(), 3000000000)
        end)
    end)
end


describe("a sliding minute", function()
    it("keeps nothing in memory for tokens that are all given back", function()
        local minute = in_memory()
        local second = minute.reserve(100, 1000)
        minute.correct(second, -100)
        equal({ minute.dict.entries["budget|" .. START % 64], minute.dict:get("budget|sum") }, { nil, 0 })
        minute.at(3)
        equal({ minute.dict:get("budget|sum"), minute.dict:get("budget|at") }, {})
    end)

    it("counts the same in memory and in Redis, whatever is reserved and corrected", function()
        local random = 7
        local function pick(count)
            random = random * 16807 % 2147483647
            return random % count
        end
        local both = { in_memory(), in_redis() }
        local open, now = {}, 0
        for step = 1, 3000 do
            now = now + pick(9) / 8
            local results = {}
            local tokens, bound = pick(50) + 1, pick(2) == 0 and 600 or 1000
            for i, minute in ipairs(both) do
                minute.at(now)
                results[i] = { minute.reserve(tokens, bound) }
            end
            equal(results[1], results[2], "step " .. step)
            if results[1][1] then
                open[#open + 1] = { second = results[1][1], tokens = tokens }
            end
            if #open > 0 and pick(3) > 0 then
                local ended = table.remove(open, pick(#open) + 1)
                local by = pick(2) == 0 and -ended.tokens or ended.tokens
                for _, minute in ipairs(both) do
                    minute.correct(ended.second, by)
                end
            end
        end
    end)

    it("notices a change that its sum has lost after a second", function()
        local minute = in_memory()
        minute.reserve(100, 1000)
        minute.dict:set("budget|sum", 0, 2)
        equal(minute.used(), 0)
        minute.at(1)
        equal(minute.used(), 100)
    end)

    it("takes the sum of a worker whose clock is ahead", function()
        local minute = in_memory()
        minute.at(1)
        minute.reserve(100, 1000)
        minute.at(0.999)
        equal({ minute.used(), minute.dict:get("budget|at") }, { 100, START + 1 })
    end)

    it("does not fail where its memory has dropped a second", function()
        local minute = in_memory()
        local second = minute.reserve(100, 1000)
        minute.dict.entries = {}
        minute.correct(second, -100)
        equal(minute.used(), 0)
    end)

    it("keeps nothing in Redis for longer than 62 seconds, and no second after its minute", function()
        local minute = in_redis()
        minute.reserve(5, 1000)
        minute.at(61)
        minute.reserve(5, 1000)
        local count = 0
        for _ in pairs(minute.redis.hashes["token-budget:x"]) do
            count = count + 1
        end
        equal(count, 1, "seconds")
        equal(minute.redis.expires["token-budget:x"], (START + 61 + 62) * 1000)
    end)

    it("reports an answer of Redis that is no answer of the script", function()
        local client = { eval = function()
            return nil, "NOSCRIPT"
        end }
        equal({ redis_minute.reserve(client, "x", 60, 1, 1) }, { nil, "NOSCRIPT" })
        client.eval = function()
            return false
        end
        equal({ redis_minute.reserve(client, "x", 60, 1, 1) }, { nil, "unexpected answer" })
    end)

    it("reports a correction that Redis refuses", function()
        local client = {
            init_pipeline = function() end,
            eval = function() end,
            commit_pipeline = function()
                return { 1, { false, "READONLY" } }
            end,
        }
        equal({ redis_minute.correct(client, 60, {}) }, { nil, "READONLY" })
        client.commit_pipeline = function()
            return nil, "closed"
        end
        equal({ redis_minute.correct(client, 60, {}) }, { nil, "closed" })
    end)
end)
