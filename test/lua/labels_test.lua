local harness = require("harness")
local labels = require("genai.telemetry.labels")
local shared_dict = require("shared_dict")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function at_start()
    return 0
end


local function new_names(backends, models)
    return labels.names(backends, models, shared_dict.new(0), at_start)
end


describe("what an answer says of itself, in labels", function()
    it("is the name of its model, learnt whatever the settings list", function()
        local names = new_names({ { deployments = { a = "b" } } }, { "Priced" })
        equal({ labels.answer_model(names, "GPT-5-mini-2025-08-07"),
                labels.answer_model(names, "Priced"), labels.answer_model(names, nil) },
              { "gpt-5-mini-2025-08-07", "priced", "" })
    end)

    it("is other beyond a number of names, and for strange ones", function()
        local names = new_names({ {} })
        local found = {}
        for i = 1, 1000 do
            found[labels.answer_model(names, "model-" .. i)] = true
        end
        local count = 0
        for _ in pairs(found) do
            count = count + 1
        end
        equal(count, labels.MAX_LEARNT + 1)
        equal(labels.answer_model(names, "model-1"), "model-1")
        local others = new_names({ {} })
        equal({ labels.answer_model(others, ("x"):rep(129)), labels.answer_model(others, "a\nb"),
                labels.answer_model(others, "\195\188") }, { "other", "other", "other" })
    end)

    it("is other where it repeats a name of the client's that is no label", function()
        local names = new_names({ { deployments = { a = "b" } } }, { "a" })
        local function label(name, asked)
            return labels.answer_model(names, name, asked, labels.model(names, asked))
        end
        equal({ label("Secret", "secret"), label("secret-2024-07-18", "secret"),
                label("ft:secret", "secret"), label("gpt-5", "secret"), label("a-2024", "a") },
              { "other", "other", "other", "gpt-5", "a-2024" })
    end)

    it("takes no room from names that clients may use", function()
        local names = new_names({ {} })
        for i = 1, 1000 do
            labels.answer_model(names, "model-" .. i)
        end
        labels.learn(names, "deployment")
        equal(labels.model(names, "deployment"), "deployment")
    end)

    it("is one of the service tiers that are known", function()
        for _, tier in ipairs({ "default", "priority", "flex", "auto", "scale", "standard", "batch" })
        do
            equal({ labels.service_tier(tier), labels.service_tier(tier:upper()) }, { tier, tier })
        end
        equal({ labels.service_tier("vip"), labels.service_tier(nil) }, { "other", nil })
    end)
end)


describe("names of models in labels", function()
    it("are those of deployments, on both sides, in lower case", function()
        local names = new_names({ { deployments = { ["GPT-4o"] = "Big" } } })
        labels.learn(names, "learnt")
        equal({ labels.model(names, "gpt-4o"), labels.model(names, "big"),
                labels.model(names, "learnt") }, { "gpt-4o", "big", "other" })
    end)

    it("are learnt where a backend serves any", function()
        local names = new_names({ { deployments = { a = "b" } }, {} })
        equal(labels.model(names, "c"), "other")
        labels.learn(names, "c")
        equal({ labels.model(names, "a"), labels.model(names, "c") }, { "a", "c" })
    end)

    it("are not learnt where the settings have a list", function()
        local names = new_names({ { deployments = { a = "b" } }, {} }, { "Priced" })
        labels.learn(names, "c")
        equal({ labels.model(names, "priced"), labels.model(names, "a"),
                labels.model(names, "c") }, { "priced", "a", "other" })
    end)

    it("are no more than so many, for all workers together", function()
        local dict = shared_dict.new(0)
        local workers = { labels.names({ {} }, nil, dict, at_start),
                          labels.names({ {} }, nil, dict, at_start) }
        local found = {}
        for i = 1, 1000 do
            local names = workers[i % 2 + 1]
            labels.learn(names, "name-" .. i)
            found[labels.model(names, "name-" .. i)] = true
        end
        local count = 0
        for _ in pairs(found) do
            count = count + 1
        end
        equal(count, labels.MAX_LEARNT + 1)
        equal(labels.model(workers[1], "name-1"), "name-1")
        equal(labels.model(workers[2], "name-1"), "name-1")
    end)

    it("make room when no backend has answered by them for a day", function()
        local dict = shared_dict.new(0)
        local names = labels.names({ {} }, nil, dict, function()
            return dict.now / 1000
        end)
        labels.learn(names, "real")
        for i = 1, 1000 do
            labels.learn(names, "made-up-" .. i)
        end
        labels.learn(names, "real-too")
        equal({ labels.model(names, "real"), labels.model(names, "real-too") }, { "real", "other" })

        dict.now = 23 * 3600 * 1000
        labels.learn(names, "real")
        dict.now = 24 * 3600 * 1000 + 1
        labels.learn(names, "real-too")
        equal({ labels.model(names, "real"), labels.model(names, "real-too"),
                labels.model(names, "made-up-1") }, { "real", "real-too", "other" })
    end)

    it("are ASCII without control characters, and not too long", function()
        local names = new_names({ {} })
        for _, name in ipairs({ "a\nb", "a\0", ("x"):rep(129), "a\255", "mod\195\168le" }) do
            labels.learn(names, name)
            equal(labels.model(names, name), "other")
        end
        labels.learn(names, ("x"):rep(128))
        equal(labels.model(names, ("x"):rep(128)), ("x"):rep(128))
    end)
end)


describe("outcomes of attempts", function()
    local function of(failure, outcome)
        equal(labels.outcome(failure), outcome)
    end

    it("are told apart by what failed", function()
        of({ reason = "throttled", status = 429 }, "throttled")
        of({ reason = "credentials", status = 401 }, "credentials")
        of({ reason = "failing", status = 503 }, "server_error")
        of({ reason = "failing", status = 504 }, "server_error")
        of({ reason = "failing", status = 504, err = "timeout" }, "timeout")
        of({ reason = "failing", status = 502, err = "closed" }, "connect_error")
        of({ reason = "unreachable", status = 502, err = "refused" }, "connect_error")
        of({ reason = "failing", status = 502, err = "closed", is_of_stream = true },
           "stream_error")
    end)

    it("say why nobody served a request", function()
        equal(labels.unserved({ reason = "failing", status = 500 }, 500, nil), "server_error")
        equal(labels.unserved(nil, 429, nil), "throttled")
        equal(labels.unserved(nil, 502, "upstream_credentials"), "credentials")
        equal(labels.unserved(nil, 503, "upstream_unavailable"), "unavailable")
    end)
end)
