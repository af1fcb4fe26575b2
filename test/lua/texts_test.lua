local texts = require("genai.util.texts")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local MARK = "\239\191\189"


describe("text: what may stand in JSON", function()
    it("is what it was where it is short and valid", function()
        for _, text in ipairs({ "", "abc", "\0\t\"", "ü€", "\240\159\152\128" }) do
            equal(texts.of(text, 100), text)
        end
    end)

    it("is cut between characters", function()
        equal(texts.of("abcdef", 3), "abc")
        equal(texts.of("aüb", 1), "a")
        equal(texts.of("aüb", 2), "a")
        equal(texts.of("aüb", 3), "aü")
        equal(texts.of("€€", 5), "€")
        equal(texts.of("abc", 0), "")
    end)

    it("has a mark for each byte that is no character", function()
        for text, expected in pairs({
            ["a\255b"] = "a" .. MARK .. "b",
            ["\195"] = MARK,
            ["\195("] = MARK .. "(",
            -- longer than need be, halves of pairs, beyond the last one
            ["\192\175"] = MARK:rep(2),
            ["\224\128\175"] = MARK:rep(3),
            ["\237\160\128"] = MARK:rep(3),
            ["\240\128\128\175"] = MARK:rep(4),
            ["\244\144\128\128"] = MARK:rep(4),
            ["\226\130"] = MARK:rep(2),
        }) do
            equal(texts.of(text, 100), expected)
        end
    end)
end)
