local harness = require("harness")
local decode = require("json").decode
local secret_file = require("genai.identity.secret_file")
local describe, it, equal = harness.describe, harness.it, harness.equal

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local cases = decode(io.open(here .. "/secret_file_cases.json"):read("*a"))


-- What a look at a file found at a time, and what came of taking it.
local function step(file, now, value, problem)
    secret_file.found(file, value, problem, now)
    return secret_file.take(file, now)
end


describe("a file of a secret", function()
    for _, case in ipairs(cases) do
        local content, expected = case[2], case[3]
        it("may be, or not, as for the compiler: " .. case[1], function()
            local value, problem = secret_file.value_of(content)
            equal(value, type(expected) == "string" and expected or nil)
            equal(type(problem), value and "nil" or "string")
        end)
    end

    it("is 512 characters long at most", function()
        equal(secret_file.value_of(("k"):rep(512) .. "\n"), ("k"):rep(512))
        equal(secret_file.value_of(("k"):rep(513)), nil)
    end)

    it("is never shown where it cannot be used", function()
        for _, case in ipairs(cases) do
            local value, problem = secret_file.value_of(case[2])
            if not value then
                equal(problem:find("key", 1, true), nil, problem)
            end
        end
    end)
end)


describe("a reference to a file", function()
    it("names an item and a setting", function()
        equal({ secret_file.parse("$secret://file/settings/AZURE_OPENAI_KEY_0") },
              { "settings", "AZURE_OPENAI_KEY_0" })
    end)

    it("never has a path in it", function()
        for _, reference in ipairs({
            "$secret://file/settings/../../etc/passwd",
            "$secret://file/settings//etc/passwd",
            "$secret://file/../etc/passwd",
            "$secret://file/settings/KEY/../KEY",
            "$secret://file/settings/KEY%2f..",
            "$secret://file/settings/KEY\0/etc/passwd",
            "$secret://file/settings/key",
            "$secret://file/settings/",
            "$secret://file//KEY",
            "$secret://file/KEY",
            "$secret://vault/settings/KEY",
            "$SECRET://file/settings/KEY",
            " $secret://file/settings/KEY",
            "",
        }) do
            equal(secret_file.parse(reference), nil, reference)
        end
    end)
end)


describe("what counts of a file", function()
    it("is its first value, and each that is another one", function()
        local file = secret_file.new("/a")
        equal(step(file, 0, "one"), "value")
        equal(file.value, "one")
        equal(step(file, 1, "one"), nil)
        equal(step(file, 2, "two"), "value")
        equal(file.value, "two")
    end)

    it("is its last value for a while", function()
        local file = secret_file.new("/a")
        step(file, 0, "one")
        equal(step(file, 10, nil, "it does not exist"), "problem")
        equal(file.value, "one")
        equal(step(file, 10 + secret_file.GRACE_S - 0.1, nil, "it does not exist"), nil)
        equal(file.value, "one")
        equal(step(file, 10 + secret_file.GRACE_S, nil, "it does not exist"), "lost")
        equal({ file.value, file.problem }, { nil, "it does not exist" })
        equal(step(file, 100, nil, "it does not exist"), nil)
        equal(step(file, 101, "one"), "value")
        equal({ file.value, file.problem }, { "one", nil })
    end)

    it("is its last value no longer where one problem follows another", function()
        local file = secret_file.new("/a")
        step(file, 0, "one")
        equal(step(file, 1, nil, "it does not exist"), "problem")
        equal(step(file, 3, nil, "it is empty"), "problem")
        equal(step(file, 1 + secret_file.GRACE_S, nil, "it does not exist"), "lost")
    end)

    it("is its last value anew after it was good in between", function()
        local file = secret_file.new("/a")
        step(file, 0, "one")
        step(file, 1, nil, "it is empty")
        equal(step(file, 4, "one"), nil)
        equal(step(file, 6, nil, "it is empty"), "problem")
        equal(step(file, 6 + secret_file.GRACE_S - 1, nil, "it is empty"), nil)
        equal(file.value, "one")
    end)

    it("is nothing where there was never anything, which is said once", function()
        local file = secret_file.new("/a")
        equal(step(file, 0, nil, "it does not exist"), "problem")
        equal({ file.value, file.problem }, { nil, "it does not exist" })
        equal(step(file, 1, nil, "it does not exist"), nil)
        equal(step(file, 2, nil, "it is empty"), "problem")
        equal(file.problem, "it is empty")
    end)
end)


describe("looks at files", function()
    it("tell what is something else than before", function()
        local file = secret_file.new("/a")
        equal(secret_file.found(file, "one", nil, 0), true)
        equal(secret_file.found(file, "one", nil, 1), false)
        equal(secret_file.found(file, nil, "it is empty", 2), true)
        equal(secret_file.found(file, nil, "it is empty", 3), false)
        equal(secret_file.found(file, nil, "it does not exist", 4), true)
    end)

    it("count when two in a row find the same", function()
        local looks = {}
        equal(secret_file.is_settled(looks, true, 0), false)
        equal(secret_file.is_settled(looks, true, 1), false)
        equal(secret_file.is_settled(looks, false, 2), true)
        equal(secret_file.is_settled(looks, true, 3), false)
    end)

    it("count after a while all the same", function()
        local looks = {}
        for now = 0, 3 do
            equal(secret_file.is_settled(looks, true, now), false)
        end
        equal(secret_file.is_settled(looks, true, 4), true)
        equal(secret_file.is_settled(looks, true, 5), false)
    end)
end)
