local log_words = require("genai.telemetry.log_words")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("telemetry", function()
    it("names operations as OpenTelemetry does, and others by their own names", function()
        equal({ log_words.gen_ai_operation("chat_completions") }, { "chat", "chat_completions" })
        equal({ log_words.gen_ai_operation("responses") }, { "chat", "responses" })
        equal({ log_words.gen_ai_operation("completions") }, { "text_completion" })
        equal({ log_words.gen_ai_operation("embeddings") }, { "embeddings" })
        equal({ log_words.gen_ai_operation("images_generations") }, { "images_generations" })
    end)

    it("tells attempts in order, each with its backend, status, outcome and time", function()
        equal(log_words.attempts_text({}), "")
        equal(log_words.attempts_text({
            { backend = { name = "a" }, outcome = "timeout", started = 1, ended = 2.0014 },
            { backend = { name = "b" }, status = 429, outcome = "throttled", started = 2,
              ended = 2.0001 },
            { backend = { name = "c" }, status = 200, outcome = "ok", started = 3, ended = 2 },
        }), "a::timeout:1001 b:429:throttled:0 c:200:ok:0")
    end)

    it("shows versions of the API, and nothing else that stands in their place", function()
        for query, shown in pairs({
            ["api-version=2024-10-21"] = "2024-10-21",
            ["a=b&api-version=2025-04-01-preview&c"] = "2025-04-01-preview",
            ["api-version=preview"] = "preview",
            ["api-version=latest&api-version=key"] = "latest",
            ["api-version=v1"] = "v1",
            ["api-version="] = "",
            ["my-api-version=2024-10-21"] = "",
            [""] = "",
            ["api-version=a-key"] = "other",
            ["api-version=2024-10-21-key"] = "other",
            ["api-version=2024-10-21%20"] = "other",
            ["api-version=9999-10-21"] = "other",
        }) do
            equal(log_words.api_version(query), shown)
        end
        equal(log_words.api_version(nil), "")
    end)
end)
