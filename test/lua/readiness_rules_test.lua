local readiness_rules = require("genai.readiness_rules")
local json = require("json")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local ITEMS = {
    routes = { "openai", "not-found" },
    services = { "azure-openai" },
    secrets = { "file/settings", "file/more" },
}


local function loaded(version, changes)
    local resources = {
        routes = { version = version, has = { openai = 1, ["not-found"] = 2 } },
        services = { version = version, has = { ["azure-openai"] = 1 } },
        secrets = { version = version, has = { ["file/settings"] = 1, ["file/more"] = 2 } },
        plugin_metadata = { version = version, has = {} },
    }
    for resource, change in pairs(changes or {}) do
        resources[resource] = change
    end
    return resources
end


describe("the manifest", function()
    it("is a comment with JSON", function()
        local manifest = readiness_rules.manifest('# genai-gateway manifest: {"digest": "0123", "items":'
                                            .. ' {"routes": ["a"]}}', json.decode)
        equal(manifest, { digest = "0123", items = { routes = { "a" } } })
    end)

    it("is nothing else", function()
        for _, line in ipairs({
            "", "# genai-gateway manifest:", "# genai-gateway manifest: ", "services:",
            "# genai-gateway manifest: {", "# genai-gateway manifest: []",
            '# genai-gateway manifest: {"digest": "0123"}',
            '# genai-gateway manifest: {"items": {}}',
            '# genai-gateway manifest: {"digest": "0123", "items": {}, "clients": 5}',
            '# genai-gateway manifest: {"digest": "0123", "items": {}, "clients": {"count": 5}}',
            '# genai-gateway manifest: {"digest": "0123", "items": {}, "clients": {"digest": "4"}}',
            '# genai-gateway manifest: {"digest": "0123", "items": 5}',
            ' # genai-gateway manifest: {"digest": "0123", "items": {}}',
        }) do
            equal(readiness_rules.manifest(line, json.decode), nil, line)
        end
    end)

    it("stands after comments only", function()
        for _, line in ipairs({ "# Rendered by", "#", "", "  # more", "\r" }) do
            equal(readiness_rules.is_comment(line), true, line)
        end
        for _, line in ipairs({ "services:", "{}", "foo # bar" }) do
            equal(readiness_rules.is_comment(line), false, line)
        end
    end)
end)


describe("the clients that a worker has read", function()
    local function problem(clients, changes)
        local list = { count = 2, digest = "0123456789abcdef", invalid = {} }
        for field, value in pairs(changes or {}) do
            list[field] = value
        end
        return readiness_rules.client_problem(clients, list)
    end

    it("are those of the manifest", function()
        equal(problem({ count = 2, digest = "0123456789abcdef" }), nil)
        equal(problem(nil, { count = 0 }), nil)
    end)

    it("are others than those of the manifest", function()
        equal(problem({ count = 2, digest = "0123456789abcdee" }),
              "clients in apisix.yaml were changed after it was rendered: render the file with genai-gateway")
        equal(problem({ count = 3, digest = "0123456789abcdef" }),
              "apisix.yaml has 2 clients, but its manifest counts 3: render the file with genai-gateway")
        equal(problem(nil),
              "apisix.yaml has 2 clients, but its manifest counts 0: render the file with genai-gateway")
    end)

    it("lack those that are not valid", function()
        equal(problem({ count = 2, digest = "0123456789abcdef" }, { invalid = { { name = "app" } } }),
              "clients not loaded, see the error log: app")
    end)
end)


describe("what a worker has loaded", function()
    it("is what was rendered", function()
        equal(readiness_rules.item_problems(ITEMS, 5, loaded(5)), {})
    end)

    it("may be more than that", function()
        local more = loaded(5, { plugin_metadata = { version = 5, has = { prometheus = 1 } } })
        equal(readiness_rules.item_problems(ITEMS, 5, more), {})
    end)

    it("lacks what was dropped, by name and resource", function()
        local fewer = loaded(5, {
            routes = { version = 5, has = { ["not-found"] = 1 } },
            secrets = { version = 5, has = {} },
        })
        equal(readiness_rules.item_problems(ITEMS, 5, fewer), {
            "routes not loaded, see the error log: openai",
            "secrets not loaded, see the error log: file/settings, file/more",
        })
    end)

    it("names the first of many only", function()
        local ids = {}
        for i = 1, 10000 do
            ids[i] = "client-" .. i
        end
        local problem = readiness_rules.item_problems({ secrets = ids }, 5, {
            secrets = { version = 5, has = { ["client-1"] = 1 } },
        })[1]
        equal(problem:match(": (client%-2, .*)$"), "client-2, client-3, client-4, client-5,"
              .. " client-6, client-7, client-8, client-9, client-10, client-11 and 9989 more")
    end)

    it("lacks all of a resource that is not there at all", function()
        equal(readiness_rules.item_problems({ upstreams = { "a" } }, 5, loaded(5)),
              { "upstreams not loaded, see the error log: a" })
        equal(readiness_rules.item_problems(ITEMS, 5, loaded(5, { services = { version = 5 } })),
              { "services not loaded, see the error log: azure-openai" })
    end)

    it("is of the file before when one resource is, though nothing of it is missing", function()
        local stale = loaded(5, { plugin_metadata = { version = 4, has = {} } })
        equal(readiness_rules.item_problems(ITEMS, 5, stale), { readiness_rules.STALE })
        equal(readiness_rules.item_problems(ITEMS, 5, loaded(6)), { readiness_rules.STALE })
    end)

    it("is for good only when all of it is of this file", function()
        local function is_settled(...)
            return (select(2, readiness_rules.item_problems(ITEMS, 5, loaded(...))))
        end
        equal(is_settled(5), true)
        equal(is_settled(5, { secrets = { version = 5, has = {} } }), true)
        equal(is_settled(5, { secrets = { version = 4, has = {} } }), false)
        equal(is_settled(0), false)
    end)

    it("is nothing before there was a file that is good", function()
        equal(
              readiness_rules.item_problems(ITEMS, 5, loaded(0)), { readiness_rules.NOTHING_LOADED })
    end)
end)


describe("backends", function()
    it("are enough when one has a weight and a credential", function()
        equal(readiness_rules.backend_problem({
            { name = "a", weight = 0 },
            { name = "b", weight = 1, problem = "it has no credential" },
            { name = "c", weight = 1 },
        }), nil)
    end)

    it("are not enough when none has both, and each says why", function()
        equal(readiness_rules.backend_problem({
            { name = "a", weight = 0 },
            { name = "b", weight = 0, problem = "it has no credential" },
            { name = "c", weight = 1, problem = "its credential cannot be resolved" },
        }), "no backend has both a weight and a credential: a (its weight is 0), b (its weight is"
            .. " 0), c (its credential cannot be resolved)")
    end)

    it("are not enough when there are none", function()
        equal(readiness_rules.backend_problem({}), "no backend is loaded")
    end)
end)


describe("reports of workers", function()
    local function report(problems, version, digest)
        return {
            version = version or 5,
            digest = digest or "d",
            problems = problems or {},
            settled = true,
        }
    end

    it("are for good when no worker is on its way to the file", function()
        local function is_settled(first, other)
            return (select(2, readiness_rules.reasons({ [0] = first, other }, 2, 5, "d")))
        end
        local coming = { version = 5, digest = "d", problems = { "x" }, settled = false }
        equal(is_settled(coming, report()), false)
        equal(is_settled(coming, report({}, 4)), false)
        equal(is_settled(report(), report({ "x" }, 4)), false)
        equal(is_settled(report(), nil), false)
    end)

    it("are for good when one worker has loaded the file, and has problems", function()
        local function is_settled(other)
            return (select(2, readiness_rules.reasons({ [0] = report({ "x" }), other }, 2, 5, "d")))
        end
        equal(is_settled(report()), true)
        equal(is_settled(report({ "x" })), true)
        equal(is_settled(report({ "x" }, 4)), true)
        equal(is_settled({ version = 5, digest = "d", problems = { "x" }, settled = false }), true)
        equal(is_settled(nil), true)
    end)

    it("say nothing when all is well", function()
        equal(readiness_rules.reasons({ [0] = report(), report() }, 2, 5, "d"), {})
    end)

    it("are told once where they are the same", function()
        equal(
              readiness_rules.reasons({ [0] = report({ "x", "y" }), report({ "x", "y" }) }, 2, 5, "d"),
              { "x", "y" })
    end)

    it("name the workers where they differ", function()
        local reports = { [0] = report({ "x" }), report({ "x", "y" }), report() }
        equal(readiness_rules.reasons(reports, 3, 5, "d"), { "workers 0, 1: x", "worker 1: y" })
    end)

    it("are missed", function()
        equal(readiness_rules.reasons({ [0] = report() }, 2, 5, "d"),
              { "worker 1: " .. readiness_rules.SILENT })
        equal(readiness_rules.reasons({}, 2, 5, "d"), { readiness_rules.SILENT })
    end)

    it("count for the file that is there only", function()
        equal(readiness_rules.reasons({ [0] = report(), report({ "old" }, 4) }, 2, 5, "d"),
              { "worker 1: " .. readiness_rules.BEHIND })
        equal(readiness_rules.reasons({ [0] = report(), report(nil, 5, "other") }, 2, 5, "d"),
              { "worker 1: " .. readiness_rules.BEHIND })
    end)

    it("of workers that there are no more count for nothing", function()
        equal(readiness_rules.reasons({ [0] = report(), report({ "old" }) }, 1, 5, "d"), {})
    end)

    it("agree on a file that cannot be read", function()
        local lost = { problems = { readiness_rules.UNREADABLE } }
        equal(
              readiness_rules.reasons({ [0] = lost, lost }, 2, nil, nil), { readiness_rules.UNREADABLE })
    end)
end)


describe("readiness on an APISIX that differs", function()
    local function with(contract, settled)
        return { version = 5, digest = "d", problems = { "x" }, settled = settled, contract = contract }
    end

    it("reports each reason once, before all others, whichever process has found it", function()
        equal(readiness_rules.reasons({ [0] = with({ "b", "a" }, true), with({ "a", "c" }, true) }, 2, 5, "d",
                                      { "c", "d" }),
              { "b", "a", "c", "d", "x" })
    end)

    it("reports what only the privileged agent has found", function()
        equal({ readiness_rules.reasons({ [0] = with({}, true) }, 1, 5, "d", { "a" }) },
              { { "a", "x" }, true })
        equal(readiness_rules.reasons({ [0] = with({}, true) }, 1, 5, "d", nil), { "x" })
    end)

    it("is settled, so that a gateway that was ready does not stay so", function()
        local function is_settled(contract, agent_contract)
            return (select(2, readiness_rules.reasons({ [0] = with(contract, false) }, 1, 5, "d",
                                                      agent_contract)))
        end
        equal({ is_settled({}), is_settled({ "a" }), is_settled({}, { "a" }) }, { false, true, true })
    end)

    it("counts the report of a worker that is on its way to another file, too", function()
        local behind = with({ "a" }, true)
        behind.version = 4
        equal({ readiness_rules.reasons({ [0] = behind }, 1, 5, "d") },
              { { "a", readiness_rules.BEHIND }, true })
    end)
end)
