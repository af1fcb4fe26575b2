local record_queue = require("genai.telemetry.record_queue")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function queue(limits)
    limits = limits or {}
    return record_queue.new({
        waiting_bytes = limits.waiting_bytes or 1000,
        batch_records = limits.batch_records or 100,
        batch_bytes = limits.batch_bytes or 1000,
    })
end


describe("record_queue: batches", function()
    it("are JSON arrays of the oldest records", function()
        local waiting = queue({ batch_records = 2 })
        for _, each in ipairs({ "1", "2", "3" }) do
            equal(waiting:push(each), 0)
        end
        equal({ waiting:take() }, { "[1,2]", 2 })
        equal({ waiting:take() }, { "[3]", 1 })
        equal({ waiting:take() }, {})
        equal(waiting:count(), 0)
    end)

    it("are no longer than they may be, with all that stands around records", function()
        for size = 1, 40 do
            for limit = size + 2, 100 do
                local waiting = queue({ batch_bytes = limit })
                for _ = 1, 100 / size do
                    waiting:push(("x"):rep(size))
                end
                while waiting:count() > 0 do
                    local before = waiting:count()
                    local text, number = waiting:take()
                    equal(#text <= limit, true, "at most " .. limit)
                    equal(waiting:count(), before - number)
                    -- one more would not have gone into it
                    equal(waiting:count() == 0 or #text + 1 + size > limit, true)
                end
            end
        end
    end)

    it("are there when enough records wait, or enough bytes", function()
        local waiting = queue({ batch_records = 2, batch_bytes = 20 })
        equal(waiting:has_batch(), false)
        waiting:push("1")
        equal(waiting:has_batch(), false)
        waiting:push("2")
        equal(waiting:has_batch(), true)
        waiting:take()
        equal(waiting:has_batch(), false)
        waiting:push(("x"):rep(18))
        equal(waiting:has_batch(), true)
    end)
end)


describe("record_queue: what waits", function()
    it("is bounded: the oldest are given up", function()
        local waiting = queue({ waiting_bytes = 10 })
        waiting:push("aaaa")
        waiting:push("bbbb")
        equal(waiting:push("cccc"), 1)
        equal(waiting:count(), 2)
        equal(waiting:push("dddddddddd"), 2)
        equal({ waiting:take() }, { "[dddddddddd]", 1 })
    end)

    it("is never a record that no batch could hold", function()
        local waiting = queue({ batch_bytes = 10 })
        equal(waiting:push(("x"):rep(8)), 0)
        equal(waiting:push(("x"):rep(9)), nil)
        equal(waiting:count(), 1)
        equal(queue({ waiting_bytes = 5 }):push("123456"), nil)
    end)
end)
