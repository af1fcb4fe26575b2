local harness = require("harness")
local picking = require("genai.balancing.picking")
local preference = require("genai.balancing.preference")
local describe, it, equal = harness.describe, harness.it, harness.equal

local BACKENDS = {
    { name = "Swe-PTU", endpoint = "https://swe.openai.azure.com" },
    { name = "payg-1", endpoint = "https://one.openai.azure.com" },
    { name = "payg-2", endpoint = "https://two.openai.azure.com" },
}


local function read(list)
    return preference.read({ preferredBackends = list }, BACKENDS)
end


describe("an order of backends", function()
    it("names backends in any case, or their endpoints, each once", function()
        equal({ read({ "PAYG-2", "https://SWE.openai.azure.com/", "payg-2", "swe-ptu" }) },
              { { "payg-2", "Swe-PTU" } })
        equal({ preference.read({ preferred_backends = { "payg-1" } }, BACKENDS) }, { { "payg-1" } })
        equal({ read({}) }, { {} })
    end)

    it("is rejected as a whole for one unknown name, and the message is bounded", function()
        local names, err, is_unknown = read({ "payg-1", ("x"):rep(5000) })
        equal({ names == nil, is_unknown, #err < 400 }, { true, true, true })
    end)

    it("is rejected if it is no list of names", function()
        local many = {}
        for i = 1, 1001 do
            many[i] = "payg-1"
        end
        for _, body in ipairs({
            {}, { preferredBackends = "payg-1" }, { preferredBackends = { first = "payg-1" } },
            { preferredBackends = { 1 } }, { preferredBackends = { "" } },
            { preferredBackends = { "payg-1", false } }, { preferredBackends = many },
        }) do
            local names, err, is_unknown = preference.read(body, BACKENDS)
            equal({ names == nil, type(err), is_unknown == nil }, { true, "string", true })
        end
        for _, body in ipairs({ 1, "text", true }) do
            equal((preference.read(body, BACKENDS)), nil)
        end
        equal((preference.read(nil, BACKENDS)), nil)
    end)

    it("is the same after it was written as text", function()
        equal({ preference.parse(preference.text({ "a", "b c" }, 1700000000123.7)) },
              { 1700000000123, { "a", "b c" } })
        equal({ preference.parse(preference.text({}, 5)) }, { 5, {} })
        for _, text in ipairs({ "", "a", "\n", "12" }) do
            equal({ preference.parse(text) }, { 0 })
        end
        equal({ preference.parse(nil) }, { 0 })
    end)

    it("lasts 12,000 seconds from when it was set, by whatever clock", function()
        equal(preference.left_s(1000, 1000), 12000)
        equal(preference.left_s(0, 11000 * 1000), 1000)
        equal(preference.left_s(0, 13000 * 1000), 1)
        equal(preference.left_s(5000 * 1000, 0), 12000)
    end)
end)


describe("tiers in an order", function()
    local function names_of(tiers)
        local names = {}
        for i, tier in ipairs(tiers) do
            names[i] = {}
            for k, each in ipairs(tier) do
                names[i][k] = each.name
            end
        end
        return names
    end

    local tiers = picking.tiers({
        { name = "a", priority = 9, weight = 1 }, { name = "b", priority = 9, weight = 1 },
        { name = "c", priority = 5, weight = 1 }, { name = "d", priority = 5, weight = 0 },
    })

    it("begin with each preferred backend alone, and go on as usual", function()
        equal(names_of(preference.tiers(tiers, { "c", "b" })), { { "c" }, { "b" }, { "a" } })
        equal(names_of(preference.tiers(tiers, { "a" })), { { "a" }, { "b" }, { "c" } })
    end)

    it("have no backend that is drained or of another pool", function()
        equal(names_of(preference.tiers(tiers, { "d", "z", "c" })), { { "c" }, { "a", "b" } })
    end)

    it("are the usual ones if none is preferred", function()
        equal(preference.tiers(tiers, {}) == tiers, true)
        equal(preference.tiers(tiers, { "z" }) == tiers, true)
    end)
end)
