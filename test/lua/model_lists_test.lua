local model_lists = require("genai.openai.model_lists")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function refuses(list, request)
    return model_lists.refusal(list, request.method or "POST",
                          { operation = request.operation or "chat_completions",
                            stored_id = request.stored_id },
                          request.model, request.headers or {}) ~= nil
end


describe("models: is_allowed", function()
    it("takes names in any case", function()
        equal(model_lists.is_allowed({ "gpt-4o" }, "gpt-4o"), true)
        equal(model_lists.is_allowed({ "GPT-4o" }, "gpt-4O"), true)
        equal(model_lists.is_allowed({ "gpt-4o" }, "gpt-4o-mini"), false)
        equal(model_lists.is_allowed({ "gpt-4o" }, "xgpt-4o"), false)
        equal(model_lists.is_allowed({ "gpt-4o" }, ""), false)
    end)

    it("takes stars for anything", function()
        equal(model_lists.is_allowed({ "gpt-4o*" }, "gpt-4o-mini"), true)
        equal(model_lists.is_allowed({ "*mini" }, "gpt-4o-mini"), true)
        equal(model_lists.is_allowed({ "gpt-*-mini" }, "gpt-4o-mini"), true)
        equal(model_lists.is_allowed({ "gpt-*-mini" }, "gpt-4o-mini-2"), false)
        equal(model_lists.is_allowed({ "*" }, "anything at all"), true)
        equal(model_lists.is_allowed({ "a", "**" }, "b"), true)
    end)

    it("takes no other character for a pattern", function()
        equal(model_lists.is_allowed({ "gpt.4*" }, "gpt.4"), true)
        equal(model_lists.is_allowed({ "gpt.4*" }, "gpt-4"), false)
        equal(model_lists.is_allowed({ "gpt-4*" }, "gpt4"), false)
        equal(model_lists.is_allowed({ "gpt-4.1" }, "gpt-4x1"), false)
    end)
end)


describe("models: refusal", function()
    it("is for models that are not in the list", function()
        equal(refuses({ "a" }, { model = "a" }), false)
        equal(refuses({ "a" }, { model = "b" }), true)
    end)

    it("is for what hides its model, or names it elsewhere", function()
        equal(refuses({ "a" }, {}), true)
        equal(refuses({ "a" }, { operation = "batches" }), true)
        equal(refuses({ "a" }, { operation = "assistants" }), true)
        equal(refuses({ "a" }, { operation = "other" }), true)
        equal(refuses({ "a" }, { operation = "other", method = "PUT" }), true)
        equal(refuses({ "a" }, { operation = "responses" }), true)
    end)

    it("is not for what calls none", function()
        equal(refuses({ "a" }, { operation = "files" }), false)
        equal(refuses({ "a" }, { operation = "vector_stores" }), false)
        equal(refuses({ "a" }, { operation = "conversations" }), false)
        equal(refuses({ "a" }, { operation = "responses", stored_id = "resp_1" }), false)
        equal(refuses({ "a" }, { operation = "models", method = "GET" }), false)
        equal(refuses({ "a" }, { operation = "batches", method = "GET" }), false)
        equal(refuses({ "a" }, { operation = "files", method = "DELETE" }), false)
    end)

    it("is for models that headers name", function()
        local function with(headers)
            return refuses({ "a" }, { model = "a", headers = headers })
        end
        equal(with({ ["x-ms-spillover-deployment"] = "a" }), false)
        equal(with({ ["x-ms-spillover-deployment"] = "b" }), true)
        equal(with({ ["x-ms-spillover-deployment"] = { "a", "b" } }), true)
        equal(with({ ["x-ms-oai-image-generation-deployment"] = "b" }), true)
        equal(with({ ["x-ms-client-request-id"] = "b" }), false)
    end)
end)
