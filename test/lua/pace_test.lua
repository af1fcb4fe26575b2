local pace = require("genai.util.pace")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("pace: read", function()
    local time, looks, turns

    local function begun()
        time, looks, turns = 100, 0, 0
        return pace.new(function()
            looks = looks + 1
            return time
        end, function()
            turns = turns + 1
            time = time + 1
        end)
    end

    it("looks at no clock before 64 KB", function()
        local own = begun()
        for _ = 1, 63 do
            own:read(1024)
        end
        equal({ looks, turns }, { 0, 0 })
    end)

    it("gives way once 5 ms have gone by, and then again", function()
        local own = begun()
        own:read(65536)
        time = time + 0.004
        own:read(65536)
        equal(turns, 0)
        time = time + 0.002
        own:read(65536)
        equal(turns, 1)
        own:read(65536)
        equal(turns, 1)
        time = time + 0.006
        own:read(1)
        equal(turns, 1)
        own:read(65535)
        equal(turns, 2)
    end)
end)
