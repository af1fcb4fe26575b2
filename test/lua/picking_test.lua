local picking = require("genai.balancing.picking")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function backends(weights)
    local list = {}
    for i, weight in ipairs(weights) do
        list[i] = { name = ("abcdefgh"):sub(i, i), weight = weight, priority = 0, memory = {}, turns = {} }
    end
    return list
end


local function sequence(candidates, count)
    local names = {}
    for i = 1, count do
        names[i] = picking.round_robin(candidates).name
    end
    return table.concat(names)
end


describe("picking: tiers", function()
    local function names(list)
        local tiers = {}
        for i, tier in ipairs(picking.tiers(list)) do
            tiers[i] = ""
            for _, each in ipairs(tier) do
                tiers[i] = tiers[i] .. each.name
            end
        end
        return tiers
    end

    it("begin with the highest priority, in the order given", function()
        local list = backends({ 1, 1, 1, 1, 1 })
        for i, priority in ipairs({ 0, 10, -5, 10, 0 }) do
            list[i].priority = priority
        end
        equal(names(list), { "bd", "ae", "c" })
    end)

    it("leave drained backends out", function()
        equal(names(backends({ 0, 3, 0, 1 })), { "bd" })
        equal(names(backends({ 0, 0 })), {})
        equal(names({}), {})
    end)
end)


describe("picking: round robin", function()
    it("spreads picks as smoothly as nginx does", function()
        equal(sequence(backends({ 5, 1, 1 }), 14), "aabacaaaabacaa")
        equal(sequence(backends({ 1, 1, 1 }), 6), "abcabc")
        equal(sequence(backends({ 3, 1 }), 8), "aabaaaba")
        equal(sequence(backends({ 4, 3, 2 }), 9), "abcabacba")
        equal(sequence(backends({ 7 }), 3), "aaa")
    end)

    it("gives each its share, whatever the weights", function()
        local counts = {}
        for name in sequence(backends({ 70, 20, 10 }), 1000):gmatch(".") do
            counts[name] = (counts[name] or 0) + 1
        end
        equal(counts, { a = 700, b = 200, c = 100 })
    end)

    it("goes on when a backend comes and goes", function()
        local list = backends({ 1, 1, 1 })
        equal(sequence(list, 3), "abc")
        equal(sequence({ list[2], list[3] }, 4), "bcbc")
        local counts = {}
        for name in sequence(list, 300):gmatch(".") do
            counts[name] = (counts[name] or 0) + 1
        end
        equal(counts, { a = 100, b = 100, c = 100 })
    end)
end)


describe("picking: consistent hash", function()
    local KEYS = 10000

    local function spread(candidates, prefix)
        local where, counts = {}, {}
        for i = 1, KEYS do
            local name = picking.consistent_hash(candidates, prefix .. i).name
            where[i] = name
            counts[name] = (counts[name] or 0) + 1
        end
        return where, counts
    end

    it("shares keys out by weight, within a few percent", function()
        for _, prefix in ipairs({ "user-", "", "10.0.0.", "3f2504e0-4f89-11d3-9a0c-0305e82c33" }) do
            local _, counts = spread(backends({ 1, 1, 1, 1 }), prefix)
            for name, count in pairs(counts) do
                equal(math.abs(count - KEYS / 4) < KEYS * 0.02, true, name .. " has " .. count)
            end
            _, counts = spread(backends({ 5, 3, 2 }), prefix)
            for name, share in pairs({ a = 0.5, b = 0.3, c = 0.2 }) do
                equal(math.abs(counts[name] - KEYS * share) < KEYS * 0.02, true,
                      name .. " has " .. counts[name])
            end
        end
    end)

    it("keeps a key where it is", function()
        local list = backends({ 1, 2, 3 })
        local where = spread(list, "user-")
        equal(spread(list, "user-"), where)
        equal(spread({ list[3], list[1], list[2] }, "user-"), where)
    end)

    it("moves only the keys of the backend that goes", function()
        local list = backends({ 2, 1, 1 })
        local before = spread(list, "user-")
        local after, counts = spread({ list[1], list[2] }, "user-")
        for i = 1, KEYS do
            equal(before[i] == "c" or before[i] == after[i], true)
        end
        equal(math.abs(counts.a - KEYS * 2 / 3) < KEYS * 0.02, true)
    end)

    it("moves to a heavier backend only what it gains", function()
        local before = spread(backends({ 1, 1, 1 }), "user-")
        local after = spread(backends({ 2, 1, 1 }), "user-")
        local moved = 0
        for i = 1, KEYS do
            if before[i] ~= after[i] then
                equal(after[i], "a")
                moved = moved + 1
            end
        end
        equal(math.abs(moved - KEYS / 6) < KEYS * 0.02, true, "moved " .. moved)
    end)

    it("takes any key", function()
        local list = backends({ 1, 1 })
        for _, key in ipairs({ "", "\0", ("x"):rep(100000), "\255\254", "ä", 12345 }) do
            equal(type(picking.consistent_hash(list, key).name), "string")
        end
    end)
end)


describe("picking: bounded hash", function()
    local KEYS = 2000

    local function is_within(list)
        local total, weights = 0, 0
        for _, each in ipairs(list) do
            total, weights = total + each.memory.in_flight, weights + each.weight
        end
        for _, each in ipairs(list) do
            -- A request is counted with those in flight when it is placed.
            local most = picking.OVERLOAD * total * each.weight / weights + 3
            equal(each.memory.in_flight <= most, true,
                  each.name .. " has " .. each.memory.in_flight .. " of " .. total)
        end
    end

    local function idle(weights)
        local list = backends(weights)
        for _, each in ipairs(list) do
            each.memory.in_flight = 0
        end
        return list
    end

    it("goes where the consistent hash goes while little is in flight", function()
        local list = idle({ 3, 1, 1 })
        for i = 1, KEYS do
            equal(picking.bounded_hash(list, "key-" .. i), picking.consistent_hash(list, "key-" .. i))
        end
        list[1].memory.in_flight, list[2].memory.in_flight, list[3].memory.in_flight = nil, nil, nil
        equal(picking.bounded_hash(list, "key"), picking.consistent_hash(list, "key"))
    end)

    it("goes the same way in another worker, whatever the order of its backends", function()
        local list, other = idle({ 1, 1, 1, 1 }), idle({ 1, 1, 1, 1 })
        other = { other[4], other[2], other[1], other[3] }
        for i = 1, KEYS do
            equal(picking.bounded_hash(list, "key-" .. i).name, picking.bounded_hash(other, "key-" .. i).name)
        end
    end)

    it("leaves no backend far above its share, for one hot key and for many", function()
        for _, keys in ipairs({ 1, 2, 1000 }) do
            for _, weights in ipairs({ { 1, 1 }, { 1, 1, 1, 1 }, { 5, 3, 2 }, { 100, 1 } }) do
                local list = idle(weights)
                for i = 1, 400 do
                    local memory = picking.bounded_hash(list, "key-" .. i % keys).memory
                    memory.in_flight = memory.in_flight + 1
                    is_within(list)
                end
            end
        end
    end)

    it("goes on to the next backend of the key's own order, and back", function()
        local list = idle({ 1, 1, 1 })
        local first = picking.bounded_hash(list, "hot")
        first.memory.in_flight = 10
        local second = picking.bounded_hash(list, "hot")
        local rest = {}
        for _, each in ipairs(list) do
            rest[#rest + 1] = each ~= first and each or nil
        end
        equal(second, picking.consistent_hash(rest, "hot"))
        first.memory.in_flight = 1
        equal(picking.bounded_hash(list, "hot"), first)
    end)

    it("takes drained backends, and long keys by their beginning", function()
        equal(type(picking.bounded_hash(backends({ 0, 0 }), "key").name), "string")
        local list = idle({ 1, 1, 1, 1 })
        for i = 1, 20 do
            local key = ("k"):rep(255) .. i % 10
            equal(picking.bounded_hash(list, key), picking.bounded_hash(list, key .. ("x"):rep(100000)))
        end
    end)
end)


describe("picking: the better of two", function()
    -- A generator that always draws the first, or the last, of the others.
    local function first() return 0 end
    local function last() return 0.999999 end

    local function names(weights, scores, random, count)
        local candidates, text = backends(weights), ""
        for _ = 1, count or 6 do
            text = text .. picking.better_of_two(candidates, scores, 0.8, 2, random).name
        end
        return text
    end

    it("is the one whose turn it is among equals", function()
        equal(names({ 1, 1 }, { 100, 100 }, first), "ababab")
        equal(names({ 3, 1 }, { 100, 100 }, first, 8), "aabaaaba")
        equal(names({ 1, 1 }, { 100, 81 }, first), "ababab")
        equal(names({ 1 }, { 100 }, first, 2), "aa")
    end)

    it("is the other one where that is clearly better", function()
        equal(names({ 1, 1 }, { 100, 79 }, first), "bbbbbb")
        equal(names({ 1, 1 }, { 79, 100 }, first), "aaaaaa")
        equal(names({ 1, 100 }, { 10, 19 }, first), "aaaaaa")
    end)

    it("is not always the best of all: the second is drawn", function()
        equal(names({ 1, 1, 1 }, { 150, 100, 100 }, first, 3), "bbc")
        equal(names({ 1, 1, 1 }, { 150, 110, 100 }, last, 3), "cbc")
        equal(names({ 1, 1, 1 }, { 200, 150, 100 }, last, 3), "ccc")
        equal(names({ 1, 1, 1 }, { 200, 150, 100 }, first, 3), "bbc")
    end)

    it("leaves out what is far behind the best, however it is drawn", function()
        equal(names({ 1, 1, 1 }, { 201, 100, 201 }, first, 3), "bbb")
        equal(names({ 100, 1, 100 }, { 201, 100, 100 }, last, 4), "cccc")
    end)

    it("draws by weight", function()
        local candidates = backends({ 1, 1, 8 })
        local seed = 7
        local function random()
            seed = (seed * 16807) % 2147483647
            return seed / 2147483647
        end
        local counts = { a = 0, b = 0, c = 0 }
        for _ = 1, 3000 do
            -- It is the turn of the third mostly; what it is compared with is another one.
            local name = picking.better_of_two(candidates, { 100, 100, 150 }, 0.8, 2, random).name
            counts[name] = counts[name] + 1
        end
        equal(counts.c, 0)
        equal(math.abs(counts.a - counts.b) < 300, true, counts.a .. " and " .. counts.b)
    end)
end)


describe("picking: deployments", function()
    local renamed = { ["gpt-4o"] = "gpt-4o-2024", other = "other" }

    it("are served as the backend names them", function()
        equal(picking.served_as(renamed, "gpt-4o"), "gpt-4o-2024")
        equal(picking.served_as(renamed, "gpt-4"), false)
        equal(picking.served_as(renamed, nil), nil)
        equal(picking.served_as(nil, "gpt-4o"), "gpt-4o")
        equal(picking.served_as(nil, nil), nil)
    end)

    it("are found in any case, and sent as they are written there", function()
        local found = picking.in_any_case({ ["GPT-4o"] = "Deployed", ["mini"] = "MINI" })
        for _, name in ipairs({ "GPT-4o", "gpt-4o", "GPT-4O", "gPt-4o" }) do
            equal(picking.served_as(found, name), "Deployed", name)
        end
        equal(picking.served_as(found, "Mini"), "MINI")
        equal(picking.served_as(found, "deployed"), false)
        equal(picking.in_any_case(nil), nil)
    end)

    it("are served by a pool where any backend serves them", function()
        local pool = { { deployments = { a = "a" } }, { deployments = { b = "x" } } }
        equal(picking.is_served(pool, "a"), true)
        equal(picking.is_served(pool, "b"), true)
        equal(picking.is_served(pool, "x"), false)
        equal(picking.is_served(pool, nil), true)
        pool[3] = {}
        equal(picking.is_served(pool, "x"), true)
        equal(picking.is_served({}, "a"), false)
    end)
end)
