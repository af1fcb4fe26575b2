local harness = require("harness")
local shared_dict = require("shared_dict")
local slots = require("genai.slots")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("slots", function()
    it("has nothing twice, whoever adds it", function()
        local dict = shared_dict.new(0)
        local mine, others = slots.new(dict, "list", 10), slots.new(dict, "list", 10)
        equal({ mine:add("a"), others:add("a"), others:add("b"), mine:add("b"), mine:add("c") },
              { true, true, true, true, true })
        equal(mine:all(), { "a", "b", "c" })
        equal(others:all(), { "a", "b", "c" })
    end)

    it("sees what others have added", function()
        local dict = shared_dict.new(0)
        local mine, others = slots.new(dict, "list", 10), slots.new(dict, "list", 10)
        equal(mine:has("a"), false)
        others:add("a")
        equal(mine:has("a"), true)
        equal(slots.new(dict, "another", 10):has("a"), false)
    end)

    it("takes no more than its limit", function()
        local dict = shared_dict.new(0)
        local mine, others = slots.new(dict, "list", 2), slots.new(dict, "list", 2)
        equal({ mine:add("a"), others:add("b"), mine:add("c"), others:add("d") },
              { true, true, false, false })
        equal({ mine:has("a"), mine:has("b"), mine:has("c") }, { true, true, false })
        equal(others:all(), { "a", "b" })
    end)

    it("does without what the memory does not take", function()
        local dict = shared_dict.new(0)
        dict.add = function()
            return false, "no memory"
        end
        equal(slots.new(dict, "list", 2):add("a"), false)
    end)
end)
