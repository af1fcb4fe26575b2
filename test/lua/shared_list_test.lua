local harness = require("harness")
local shared_dict = require("shared_dict")
local shared_list = require("genai.telemetry.shared_list")
local describe, it, equal = harness.describe, harness.it, harness.equal

local DAY = 86400


-- Sets of two workers over one memory, and a function that lets time pass.
local function new(limit)
    local dict = shared_dict.new(0)
    local function now()
        return dict.now / 1000
    end
    local function pass(seconds)
        dict.now = dict.now + seconds * 1000
    end
    return shared_list.new(dict, "set", limit, DAY, now),
           shared_list.new(dict, "set", limit, DAY, now), pass,
           dict
end


local function sorted(list)
    local copy = { unpack(list) }
    table.sort(copy)
    return copy
end


describe("slots", function()
    it("has nothing twice, whichever worker adds it", function()
        local mine, others = new(10)
        equal({ mine:add("a"), others:add("a"), others:add("b"), mine:add("b"), mine:add("c") },
              { true, true, true, true, true })
        equal(sorted(mine:all()), { "a", "b", "c" })
        equal(sorted(others:all()), { "a", "b", "c" })
    end)

    it("sees what another worker has added", function()
        local mine, others, _, dict = new(10)
        equal(mine:has("a"), false)
        others:add("a")
        equal(mine:has("a"), true)
        equal(shared_list.new(dict, "another", 10, DAY, function() return 0 end):has("a"), false)
    end)

    it("takes no more than its limit", function()
        local mine, others = new(2)
        equal({ mine:add("a"), others:add("b"), mine:add("c"), others:add("d") },
              { true, true, false, false })
        equal({ mine:has("a"), mine:has("b"), mine:has("c") }, { true, true, false })
        equal(sorted(others:all()), { "a", "b" })
    end)

    it("gives the place of an entry that was not added for a day to another one", function()
        local mine, others, pass = new(2)
        mine:add("unused")
        others:add("used")
        equal(mine:add("new"), false)
        for _ = 1, 24 do
            pass(DAY / 24 + 1)
            mine:add("used")
        end
        equal({ mine:has("unused"), others:has("unused") }, { false, false })
        equal({ mine:has("used"), others:has("used") }, { true, true })
        equal({ others:add("new"), mine:has("new") }, { true, true })
    end)

    it("looks for a free place again ten seconds after it found none", function()
        local mine, _, pass, dict = new(1)
        mine:add("a")
        equal(mine:add("b"), false)
        dict:delete("set|1")
        equal(mine:add("b"), false)
        pass(61)
        equal({ mine:add("b"), mine:has("a") }, { true, false })
    end)

    it("does without an entry that the memory does not take", function()
        local mine, _, _, dict = new(2)
        dict.add = function()
            return false, "no memory"
        end
        equal(mine:add("a"), false)
    end)
end)
