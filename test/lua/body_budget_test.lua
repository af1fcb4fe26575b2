local body_budget = require("genai.http.body_budget")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local KIB = 1024
local LIMIT, BUFFER = 4096 * KIB, 128 * KIB


local function place(length, used)
    return { body_budget.place(length, used, LIMIT, BUFFER) }
end


describe("body_budget: place", function()
    it("counts a body in memory three times, and one in a file by its buffers", function()
        equal(place(10 * KIB, 0), { "memory", 30 * KIB })
        equal(place(128 * KIB, 0), { "memory", 384 * KIB })
        equal(place(128 * KIB + 1, 0), { "memory", 256 * KIB })
        equal(place(1e9, 0), { "memory", 256 * KIB })
        equal(place(nil, 0), { "memory", 256 * KIB })
        equal(place(0, 0), { "memory", 0 })
    end)

    it("puts large bodies into files when three quarters of the budget are used", function()
        equal(place(128 * KIB, 3072 * KIB - 384 * KIB)[1], "memory")
        equal(place(128 * KIB, 3072 * KIB - 383 * KIB), { "file", 144 * KIB })
        equal(place(1e9, 3000 * KIB), { "file", 144 * KIB })
    end)

    it("takes small bodies, and those in files, as long as there is room", function()
        equal(place(10 * KIB, 4066 * KIB)[1], "memory")
        equal(place(10 * KIB, 4067 * KIB)[1], nil)
        equal(place(1e9, 3952 * KIB)[1], "file")
        equal(place(1e9, 3953 * KIB)[1], nil)
        equal(place(nil, 3073 * KIB)[1], nil)
        equal(place(0, LIMIT)[1], "memory")
    end)

    it("takes one body whatever the limit is", function()
        equal({ body_budget.place(1e9, 0, 1, BUFFER) }, { "memory", 256 * KIB })
        equal({ body_budget.place(1e9, 1, 1, BUFFER) }, { nil, 144 * KIB })
    end)
end)
