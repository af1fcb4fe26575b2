local decode = require("json").decode
local fnv1a = require("genai.util.fnv1a")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local cases = decode(io.open(here .. "/fnv1a_cases.json"):read("*a"))


local function of(...)
    local digest = fnv1a.new()
    for i = 1, select("#", ...) do
        digest:update((select(i, ...)))
    end
    return digest:final()
end


describe("the digest of the manifest", function()
    it("is the one that the compiler computes", function()
        local count = 0
        for text, digest in pairs(cases) do
            count = count + 1
            equal(of(text), digest, text)
        end
        equal(count > 4, true)
    end)

    it("does not depend on how the text is cut", function()
        equal(of("foo", "", "bar"), of("foobar"))
    end)
end)
