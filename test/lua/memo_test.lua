local harness = require("harness")
local memo = require("genai.util.memo")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("memo", function()
    it("calls the function once for a key, for false as well", function()
        local calls = 0
        local is_long = memo.of(function(text)
            calls = calls + 1
            return #text > 2
        end)
        equal({ is_long("a"), is_long("abc"), is_long("a"), is_long("abc") },
              { false, true, false, true })
        equal(calls, 2)
    end)

    it("forgets all when there are too many", function()
        local calls = 0
        local same = memo.of(function(key)
            calls = calls + 1
            return key
        end)
        for key = 1, 1001 do
            equal(same(key), key)
        end
        equal(same(1001), 1001)
        equal(calls, 1001)
        equal(same(1), 1)
        equal(calls, 1002)
    end)
end)
