local redirects = require("genai.http.redirects")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local ORIGIN = "https://one.openai.azure.com"


describe("redirect", function()
    local function leads(location, expected, prefix)
        equal(redirects.target(location, ORIGIN, prefix or "") or "elsewhere", expected, location)
    end

    it("that is relative leads back to the gateway", function()
        for _, location in ipairs({ "/openai/v1/models", "/", "models/", "?a=b", "../models",
                                    "/x?u=https://elsewhere/", "./a:b" }) do
            leads(location, location)
        end
    end)

    it("to the backend that was asked is made relative", function()
        leads("https://one.openai.azure.com/openai/v1/models?a=b", "/openai/v1/models?a=b")
        leads("HTTPS://One.OpenAI.azure.com:443/x", "/x")
        leads("https://one.openai.azure.com/prefix/openai/v1/x", "/openai/v1/x", "/prefix")
    end)

    it("to any other server leads elsewhere", function()
        for _, location in ipairs({
            "https://elsewhere.test/", "http://one.openai.azure.com/x",
            "https://one.openai.azure.com:8443/x", "//elsewhere.test/x", "///elsewhere.test/x",
            "https://one.openai.azure.com@elsewhere.test/x", "https://one.openai.azure.com.evil/x",
            "https://user@one.openai.azure.com/x", "/\\elsewhere.test", "\\\\elsewhere.test",
            "https:/elsewhere.test", "https:elsewhere.test", "javascript:alert(1)", "",
            "https://one.openai.azure.com//elsewhere.test/", "https://one.openai.azure.com", "/a b",
            "https://one.openai.azure.com?x=y",
        }) do
            leads(location, "elsewhere")
        end
        leads("https://one.openai.azure.com/openai/v1/x", "elsewhere", "/prefix")
        leads("https://one.openai.azure.com/prefixed/x", "elsewhere", "/prefix")
    end)

    it("is an answer with certain statuses", function()
        for _, status in ipairs({ 300, 301, 302, 303, 305, 307, 308 }) do
            equal(redirects.is_redirect(status), true, status)
        end
        for _, status in ipairs({ 200, 201, 299, 304, 309, 400 }) do
            equal(redirects.is_redirect(status), false, status)
        end
    end)
end)
