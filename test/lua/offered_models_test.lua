local offered_models = require("genai.openai.offered_models")
local picking = require("genai.balancing.picking")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function backend(deployments, weight)
    return { weight = weight or 1, deployments = picking.in_any_case(deployments) }
end


local function ids(list)
    local found = {}
    for i, each in ipairs(list) do
        found[i] = each.id
    end
    return table.concat(found, " ")
end


describe("offered models", function()
    it("are those of all backends, each once, as they are declared", function()
        equal(offered_models.names({ backend({ b = "x", ["GPT-4o"] = "y" }),
                                     backend({ a = "a", ["gpt-4o"] = "z" }) }),
              { "GPT-4o", "a", "b" })
    end)

    it("are not known where a backend serves whatever it has", function()
        equal(offered_models.names({ backend({ a = "a" }), backend(nil) }), nil)
        equal(offered_models.names({ backend(nil) }), nil)
    end)

    it("are not those of drained backends, unless all are drained", function()
        equal(offered_models.names({ backend({ a = "a" }), backend({ b = "b" }, 0),
                                     backend(nil, 0) }), { "a" })
        equal(offered_models.names({ backend({ b = "b" }, 0) }), { "b" })
    end)

    it("are what the client's list allows", function()
        local names = { "chat", "chat-mini", "embed" }
        equal(ids(offered_models.list("model", names, nil)), "chat chat-mini embed")
        equal(ids(offered_models.list("model", names, { "chat*" })), "chat chat-mini")
        equal(ids(offered_models.list("model", names, { "none" })), "")
        equal(offered_models.one("model", names, { "Chat" }, "CHAT"),
              { id = "chat", object = "model", created = 0, owned_by = "azure-openai" })
        equal(offered_models.one("model", names, { "chat" }, "embed"), nil)
        equal(offered_models.one("deployment", names, nil, "nothing"), nil)
        equal(offered_models.one("deployment", names, nil, "embed").object, "deployment")
    end)

    it("are asked for at certain paths", function()
        for path, expected in pairs({
            ["/openai/v1/models"] = { "model" }, ["/openai/v1/models/"] = { "model" },
            ["/openai/models"] = { "model" }, ["/openai/deployments"] = { "deployment" },
            ["/openai/v1/models/a%20b"] = { "model", "a b" },
            ["/openai/deployments/x"] = { "deployment", "x" },
            ["/openai/v1/modelsx"] = {}, ["/openai/v1/models/a/b"] = {}, ["/openai/v1/files"] = {},
            ["/openai/deployments/x/chat"] = {},
        }) do
            equal({ offered_models.question("GET", path) }, expected, path)
            equal(offered_models.question("DELETE", path), nil)
        end
    end)
end)
