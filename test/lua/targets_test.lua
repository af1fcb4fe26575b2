local paths = require("genai.openai.paths")
local targets = require("genai.openai.targets")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- As nginx reads a path once it is in its form, for those without dot segments.
local function parse(uri, normalized, method)
    local path = uri:match("^[^?]*")
    return targets.parse(uri, normalized or paths.decoded(paths.normal(path) or path),
                         method or "POST")
end


local function reads(uri, expected, method)
    local found, err = parse(uri, nil, method)
    equal(err, nil, uri)
    for name, value in pairs(expected) do
        if value == "none" then
            value = nil
        end
        equal(found[name], value, uri .. ": " .. name)
    end
    return found
end


describe("target: what is asked for", function()
    it("reads the operations of v1", function()
        for path, operation in pairs({
            ["chat/completions"] = "chat_completions",
            ["completions"] = "completions",
            ["embeddings"] = "embeddings",
            ["responses"] = "responses",
            ["responses/resp_1"] = "responses",
            ["responses/resp_1/input_items"] = "responses",
            ["conversations/conv_1/items"] = "conversations",
            ["images/generations"] = "images_generations",
            ["images/edits"] = "images_edits",
            ["images/variations"] = "images_variations",
            ["audio/transcriptions"] = "audio_transcriptions",
            ["audio/translations"] = "audio_translations",
            ["audio/speech"] = "audio_speech",
            ["models"] = "models",
            ["models/gpt-4o"] = "models",
            ["files/file-1/content"] = "files",
            ["uploads/u/parts"] = "uploads",
            ["batches/b/cancel"] = "batches",
            ["vector_stores/vs/files"] = "vector_stores",
            ["fine_tuning/jobs"] = "fine_tuning",
            ["assistants"] = "assistants",
            ["threads/t/runs"] = "threads",
            ["evals"] = "evals",
            ["containers/c/files"] = "containers",
            ["videos"] = "videos",
            ["realtime/client_secrets"] = "realtime",
            [""] = "other",
            ["chat"] = "other",
            ["chat/other"] = "other",
            ["audio"] = "other",
            ["made-up/label"] = "other",
        }) do
            reads("/openai/v1/" .. path, { api = "v1", operation = operation,
                                           deployment = "none" })
        end
    end)

    it("reads the older form with a deployment", function()
        reads("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", {
            api = "classic", operation = "chat_completions", deployment = "gpt-4o",
            path = "/openai/deployments/gpt-4o/chat/completions",
            query = "api-version=2024-10-21", generates = true, names_model = false,
        })
        reads("/openai/deployments/gpt%2D4o%20mini/embeddings", {
            deployment = "gpt-4o mini", operation = "embeddings",
            path = "/openai/deployments/gpt%2D4o%20mini/embeddings",
        })
        reads("/openai/deployments/x/", { deployment = "x", operation = "other" })
        reads("/openai/deployments/x", { deployment = "none", operation = "other" })
        reads("/openai/deployments", { deployment = "none", operation = "other" })
        reads("/openai/deployments/v1/responses", { deployment = "v1", api = "classic" })
    end)

    it("reads the older form without one", function()
        reads("/openai/responses?api-version=x", { api = "classic", operation = "responses",
                                                   deployment = "none", names_model = true,
                                                   generates = true })
        reads("/openai/files", { operation = "files", names_model = false })
        reads("/openai/", { operation = "other" })
        reads("/openai/models", { operation = "models" })
    end)

    it("tells which requests a model answers, and whose body names it", function()
        reads("/openai/v1/chat/completions", { generates = true, names_model = true })
        reads("/openai/v1/embeddings", { generates = true, names_model = true })
        reads("/openai/v1/responses", { generates = true, names_model = true })
        reads("/openai/v1/responses/", { generates = true, names_model = true })
        reads("/openai/v1/images/generations", { generates = false, names_model = true })
        reads("/openai/v1/audio/transcriptions", { generates = false, names_model = true })
        reads("/openai/v1/responses/resp_1/cancel", { generates = false, names_model = false })
        reads("/openai/v1/files", { generates = false, names_model = false })
        reads("/openai/v1/nothing", { generates = false, names_model = false })
        for _, method in ipairs({ "GET", "HEAD", "DELETE", "OPTIONS", "PUT" }) do
            reads("/openai/v1/chat/completions", { generates = false, names_model = false }, method)
        end
    end)

    it("knows an operation however it is spelled", function()
        for _, path in ipairs({ "/openai/v1/chat%2Fcompletions", "/openai/v1/chat/complet%69ons" }) do
            reads(path, { operation = "chat_completions", generates = true, names_model = true,
                          path = path, api = "v1" })
        end
        for _, path in ipairs({ "/openai/v1/Chat/Completions", "/openai/V1/chat/completions",
                                "/OpenAI/v1/chat/completions", "/openai/v1/chat/completions/",
                                "//openai/v1//chat/completions", "/v1/chat/completions" }) do
            reads(path, { operation = "chat_completions", generates = true, names_model = true,
                          path = "/openai/v1/chat/completions", api = "v1" })
        end
        reads("/openai/Deployments/GPT-4o/Chat/completions", {
            operation = "chat_completions", deployment = "GPT-4o", generates = true,
            path = "/openai/deployments/GPT-4o/chat/completions",
        })
    end)

    it("keeps the query string byte for byte", function()
        for _, query in ipairs({ "", "a=b", "a=b?c=d", "a=%2F%2f+%", "&&", "a=b//../c\\d",
                                 "key=\195\164" }) do
            local found = reads("/openai/v1/models?" .. query, {})
            equal(found.query, query)
            equal(found.path, "/openai/v1/models")
        end
        equal(reads("/openai/v1/models", {}).query, nil)
    end)
end)


describe("target: paths that go elsewhere than they read", function()
    local function refused(uri, normalized)
        local found, err = parse(uri, normalized)
        equal(found, nil, uri)
        -- Without a reason where there is nothing at such a path.
        equal(err == nil or type(err) == "string", true)
    end

    it("are those with dot segments, in every encoding", function()
        for _, dots in ipairs({ "..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..%2f", "%2e%2e%2F",
                                "%2e%2e/" }) do
            refused("/openai/v1/" .. dots .. "/admin", "/openai/admin")
            refused("/openai/v1/files/" .. dots, "/openai/v1/")
            refused("/openai/deployments/a/" .. dots .. "/b/chat/completions",
                    "/openai/deployments/b/chat/completions")
            refused("/openai/deployments/" .. dots .. "/v1/responses", "/openai/v1/responses")
        end
        refused("/openai/v1/./models", "/openai/v1/models")
        refused("/openai/v1/%2e/models", "/openai/v1/models")
    end)

    it("are those with repeated slashes where a name is missing", function()
        refused("/openai/v1/files/%2Fx", "/openai/v1/files/x")
        refused("/openai/v1/files//", "/openai/v1/files/")
        refused("/openai/deployments//chat/completions", "/openai/deployments/chat/completions")
    end)

    it("are those with an encoded slash in what routes", function()
        refused("/openai%2Fv1/models")
        refused("/openai/v1%2fmodels")
        refused("/openai%2fdeployments/a/chat/completions")
        refused("/openai/deployments%2Fa/chat/completions")
        refused("/openai/deployments/a%2Fchat/completions")
        refused("/openai/deployments/a%2Fchat%2fcompletions")
        refused("/openai/deployments/%2F/chat/completions", "/openai/deployments/chat/completions")
    end)

    it("are those that spell what routes in escapes", function()
        refused("/openai/%76%31/models")
        refused("/openai/v%31/models")
        refused("/%6fpenai/v1/models")
        refused("/openai/%64eployments/a/chat/completions")
        refused("/openai/%44eployments/a/chat/completions")
        refused("/%6fpenai/files")
    end)

    it("are those with a backslash, a # or control characters", function()
        refused("/openai/v1\\models", "/openai/v1\\models")
        refused("/openai/v1/%5cmodels")
        refused("/openai/v1/models#x", "/openai/v1/models")
        refused("/openai/v1/models?a=b#x", "/openai/v1/models")
        for _, escape in ipairs({ "%00", "%0a", "%0D", "%09", "%1f", "%7f" }) do
            refused("/openai/v1/models/" .. escape)
        end
    end)

    it("are not those with escapes elsewhere", function()
        for _, path in ipairs({ "/openai/v1/files/a%20b", "/openai/v1/files/a%2Fb",
                                "/openai/v1/files/%23", "/openai/v1/files/a%3Fb",
                                "/openai/v1/files/%C3%A4", "/openai/v1/files/%252e%252e",
                                "/openai/v1/files/a..b", "/openai/v1/files/...",
                                "/openai/deployments/a%20b/images/x%2Fy" }) do
            equal(reads(path, {}).path, path)
        end
    end)
end)


describe("target: a path with another deployment", function()
    it("changes nothing else", function()
        local found = parse("/openai/deployments/a%20b/chat/comp%6cetions?x")
        equal(targets.renamed_path(found, "gpt-4o"),
              "/openai/deployments/gpt-4o/chat/comp%6cetions")
        found = parse("/openai/Deployments/a/")
        equal(targets.renamed_path(found, "b"), "/openai/deployments/b/")
    end)

    it("encodes the name", function()
        local found = parse("/openai/deployments/a/chat/completions")
        equal(targets.renamed_path(found, "a/b c?\195\164.-_~%"),
              "/openai/deployments/a%2Fb%20c%3F%C3%A4.-_~%25/chat/completions")
    end)
end)


describe("target: what is stored", function()
    it("is read of both APIs", function()
        reads("/openai/v1/files/file-aB", { collection = "files", stored_id = "file-aB" }, "GET")
        reads("/openai/responses/resp_1?api-version=x",
              { collection = "responses", stored_id = "resp_1", generates = false }, "GET")
        reads("/openai/v1/responses", { collection = "responses", stored_id = "none" })
        reads("/openai/V1/Responses/resp_A", { collection = "responses", stored_id = "resp_A" })
    end)

    it("is nothing where nothing is stored", function()
        for _, path in ipairs({ "/openai/v1/completions", "/openai/v1/embeddings",
                                "/openai/v1/models", "/openai/v1/",
                                "/openai/deployments/files/embeddings" }) do
            reads(path, { collection = "none", stored_id = "none", names_stored = false })
        end
    end)

    it("may be a chat completion, whose messages and metadata no model answers", function()
        reads("/openai/v1/chat/completions", { collection = "chat/completions", stored_id = "none",
                                               names_stored = true, generates = true })
        reads("/openai/deployments/x/chat/completions", { collection = "chat/completions",
                                                          stored_id = "none", generates = true })
        reads("/openai/v1/chat/completions/chatcmpl-A/messages",
              { collection = "chat/completions", stored_id = "chatcmpl-A" }, "GET")
        reads("/openai/v1/chat/completions/chatcmpl-A",
              { collection = "chat/completions", stored_id = "chatcmpl-A", generates = false,
                names_model = false, spends = false })
        reads("/openai/v1/images/edits", { collection = "none", names_stored = true, names_model = true })
    end)

    it("has a path of its own", function()
        local v1 = parse("/openai/v1/responses")
        equal(targets.stored_path(v1, "files", "file-1"), "/openai/v1/files/file-1")
        local classic = parse("/openai/responses")
        equal(targets.stored_path(classic, "files", "a/../b c"), "/openai/files/a%2F..%2Fb%20c")
    end)
end)


describe("target: what may use up a budget", function()
    it("is whatever is asked for", function()
        for _, path in ipairs({
            "/openai/v1/chat/completions", "/openai/v1/embeddings", "/openai/v1/responses",
            "/openai/v1/responses/compact", "/openai/v1/images/generations", "/openai/v1/batches",
            "/openai/v1/files", "/openai/deployments/cancel/completions?api-version=1",
            "/openai/threads/t/runs", "/openai/v1/anything",
        }) do
            reads(path, { spends = true })
        end
        reads("/openai/v1/responses", { spends = true }, "PUT")
    end)

    it("is not what fetches, deletes, cancels or counts", function()
        for _, method in ipairs({ "GET", "HEAD", "DELETE", "OPTIONS" }) do
            reads("/openai/v1/responses/resp_1", { spends = false }, method)
        end
        reads("/openai/v1/responses/resp_1/cancel", { spends = false })
        reads("/openai/v1/batches/batch_1/Cancel", { spends = false })
        reads("/openai/v1/responses/input_tokens", { spends = false })
    end)
end)
