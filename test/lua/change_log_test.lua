local change_log = require("genai.balancing.change_log")
local shared_dict = require("shared_dict")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function read(log)
    local entries = {}
    log:follow(function(list, entry)
        list[#list + 1] = entry
    end, entries)
    return entries
end


describe("changes", function()
    it("are read once by each worker, in their order", function()
        local dict = shared_dict.new(0)
        local first, second = change_log.new(dict, "log"), change_log.new(dict, "log")
        equal(read(first), {})
        first:append("a", 10)
        second:append("b", 10)
        equal(read(first), { "a", "b" })
        equal(read(first), {})
        first:append("c", 10)
        equal(read(second), { "a", "b", "c" })
        equal(read(first), { "c" })
    end)

    it("that have expired are left out", function()
        local dict = shared_dict.new(0)
        local log = change_log.new(dict, "log")
        log:append("short", 1)
        log:append("long", 100)
        log:append("short again", 1)
        dict.now = 2000
        equal(read(log), { "long" })
        log:append("next", 1)
        equal(read(log), { "next" })
    end)

    it("are found by a worker that is far behind", function()
        local dict = shared_dict.new(0)
        local writer, late = change_log.new(dict, "log"), change_log.new(dict, "log")
        for i = 1, change_log.MAX_BEHIND + 100 do
            writer:append("entry " .. i, 1)
            if i % 500 == 0 then
                dict.now = dict.now + 500
            end
        end
        writer:append("last", 1)
        local entries = read(late)
        equal(entries[#entries], "last")
        equal(read(late), {})
    end)

    it("go on when the memory has lost them", function()
        local dict = shared_dict.new(0)
        local log = change_log.new(dict, "log")
        for i = 1, 200 do
            log:append("entry " .. i, 10)
        end
        equal(#read(log), 200)
        local empty = shared_dict.new(0)
        log.dict = empty
        change_log.new(empty, "log"):append("new", 10)
        equal(read(log), { "new" })
    end)
end)
