local paths = require("genai.openai.paths")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function becomes(forms)
    for path, form in pairs(forms) do
        equal({ paths.normal(path) }, { form }, path)
    end
end


describe("path: without the prefix of a pool", function()
    it("is what follows the prefix and a slash", function()
        for path, rest in pairs({
            ["/a/openai/v1/models"] = "/openai/v1/models",
            ["/a/"] = "/",
            ["/a//openai"] = "//openai",
            ["///a/openai"] = "/openai",
            ["/a/b%2Fc?x=/a/"] = "/b%2Fc?x=/a/",
        }) do
            equal(paths.without_prefix(path, "/a"), rest, path)
        end
        equal(paths.without_prefix("/teams/search/v1", "/teams/search"), "/v1")
    end)

    it("does not exist if the path spells the prefix in another way", function()
        for _, path in ipairs({
            "", "/", "/a", "/ab/openai", "/A/openai", "/%61/openai", "/b/a/openai", "a/openai",
            "/teams//search/v1", "/a%2Fopenai", "/a?/openai",
        }) do
            equal(paths.without_prefix(path, "/a"), nil, path)
        end
        equal(paths.without_prefix("/teams//search/v1", "/teams/search"), nil)
    end)
end)


describe("path: the form", function()
    it("is that of a path that has it already", function()
        for _, path in ipairs({
            "/openai/v1/chat/completions", "/openai/v1/responses/resp_A/Cancel", "/openai/v1",
            "/openai/v1/", "/openai/", "/openai/v1/files/", "/openai/v1/files/a%20b/content",
            "/openai/v1/of/next/year", "/openai/v1/chat/completions/chatcmpl-1/messages",
            "/openai/deployments/m/chat/completions", "/openai/deployments/m",
            "/openai/deployments/m/", "/openai/deployments", "/openai/deployments/",
            "/openai/deployments/openai/chat/completions", "/openai/deployments/v1/embeddings",
            "/openai/deployments/org%2Fm/embeddings", "/openai/assistants",
            "/openai/v1/files/deployments", "/openai/v1/responses/v1",
        }) do
            becomes({ [path] = path })
        end
    end)

    it("has one slash where no name is missing between two", function()
        becomes({
            ["//openai/v1/chat/completions"] = "/openai/v1/chat/completions",
            ["/openai//v1///chat//completions"] = "/openai/v1/chat/completions",
            ["///openai/deployments/m//chat/completions"] = "/openai/deployments/m/chat/completions",
            ["/openai//deployments/m/embeddings"] = "/openai/deployments/m/embeddings",
            ["//openai/v1/files/file-1"] = "/openai/v1/files/file-1",
        })
    end)

    it("has the API and the operation in lower case, and names as they are", function()
        becomes({
            ["/OpenAI/V1/Chat/Completions"] = "/openai/v1/chat/completions",
            ["/OPENAI/DEPLOYMENTS/GPT-4o/CHAT/completions"] =
                "/openai/deployments/GPT-4o/chat/completions",
            ["/Openai/v1/Responses/resp_A"] = "/openai/v1/responses/resp_A",
            ["/openai/V1/Images/Generations"] = "/openai/v1/images/generations",
            ["/Openai/v1/Of/Next"] = "/openai/v1/Of/Next",
        })
    end)

    it("has the API's prefix once", function()
        becomes({
            ["/v1/chat/completions"] = "/openai/v1/chat/completions",
            ["/V1/models/gpt-4o"] = "/openai/v1/models/gpt-4o",
            ["/openai/v1/v1/responses"] = "/openai/v1/responses",
            ["/openai/openai/v1/responses"] = "/openai/v1/responses",
            ["/openai/v1/openai/v1/responses"] = "/openai/v1/responses",
            ["/v1/openai/v1/embeddings"] = "/openai/v1/embeddings",
            ["/openai/openai/deployments/m/embeddings"] = "/openai/deployments/m/embeddings",
            ["/openai/v1/openai/deployments/m/embeddings"] = "/openai/deployments/m/embeddings",
            ["/openai/v1/deployments/m/embeddings"] = "/openai/deployments/m/embeddings",
            ["/deployments/m/chat/completions"] = "/openai/deployments/m/chat/completions",
            ["/chat/completions"] = "/openai/v1/chat/completions",
            ["/responses/resp_1"] = "/openai/v1/responses/resp_1",
            ["/models"] = "/openai/v1/models",
        })
    end)

    it("has no slash after an operation that is whole", function()
        becomes({
            ["/openai/v1/chat/completions/"] = "/openai/v1/chat/completions",
            ["/openai/v1/responses//"] = "/openai/v1/responses",
            ["/openai/deployments/m/embeddings/"] = "/openai/deployments/m/embeddings",
        })
    end)
end)


describe("path: refused", function()
    local function refused(list, words)
        for _, path in ipairs(list) do
            local form, err = paths.normal(path)
            equal(form, nil, path)
            equal(err ~= nil and err:find(words, 1, true) ~= nil, true, path .. ": " .. tostring(err))
        end
    end

    it("where a name is missing", function()
        refused({ "/openai/deployments//chat/completions", "/deployments//embeddings" },
                "/openai/deployments/<deployment>/<operation>")
        refused({ "/openai/v1/files//content", "/openai/v1/files//", "/openai/v1/responses//cancel",
                  "/openai/v1/of//next" }, "a name or an id is missing")
    end)

    it("where the operation or the API is named twice, with the base URL to set", function()
        refused({ "/openai/v1/chat/completions/chat/completions",
                  "/openai/v1/responses/chat/completions", "/openai/v1/chat/completions/responses",
                  "/openai/deployments/m/chat/completions/chat/completions",
                  "/openai/deployments/m/openai/deployments/m/chat/completions",
                  "/openai/deployments/m/openai/v1/responses" },
                "https://<gateway>/openai/v1")
    end)

    it("where it would go elsewhere than it reads", function()
        refused({ "/openai/v1/../v1/models", "/openai/v1/./models", "/v1/%2e%2e/models", "/v1/..",
                  "/v1/models/..%2fx", "/v1/a\\b", "/v1/models%00", "/v1/models#x", "/v1/files/a%5cb",
                  "/v1/files/a%2F%2Fb", "openai/v1/models", "*", "" },
                "would change its meaning")
    end)

    it("without a reason where there is nothing", function()
        for _, path in ipairs({
            "/", "/openai", "/v1", "/v1/", "/nowhere", "/v1/messages", "/anthropic/v1/messages",
            "/models/chat/completions", "/models/gpt-4o", "/api/projects/p/openai/v1/responses",
            "/genai/openai/v1/models", "/%6fpenai/v1/models", "/openaix/v1/models",
        }) do
            equal({ paths.normal(path) }, {}, path)
        end
    end)
end)


describe("path: at a glance", function()
    it("is known only where it is in its form", function()
        for _, path in ipairs({ "/openai/v1/chat/completions", "/openai/models",
                                "/openai/deployments/m/chat/completions" }) do
            equal(paths.is_usual(path), true, path)
            equal(paths.normal(path), path)
        end
        for _, path in ipairs({
            "/openai/v1/Chat/Completions", "/openai/deployments//chat/completions",
            "/openai/deployments/m/chat/completions/", "/openai/v1/responses/resp_1", "/",
            "/openai/deployments/m", "/v1/chat/completions",
        }) do
            equal(paths.is_usual(path), false, path)
        end
    end)
end)
