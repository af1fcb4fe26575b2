local endpoints = require("genai.http.endpoints")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("endpoint", function()
    it("is taken apart, with the port of its scheme", function()
        equal(endpoints.parse("https://east.openai.azure.com"),
              { scheme = "https", host = "east.openai.azure.com", port = 443,
                authority = "east.openai.azure.com",
                origin = "https://east.openai.azure.com", path = "" })
        equal(endpoints.parse("http://10.0.0.4:42356/msi/token/"),
              { scheme = "http", host = "10.0.0.4", port = 42356, authority = "10.0.0.4:42356",
                origin = "http://10.0.0.4:42356",
                path = "/msi/token/" })
        equal(endpoints.parse("http://a/b?c=d&e"),
              { scheme = "http", host = "a", port = 80, authority = "a",
                origin = "http://a", path = "/b",
                query = "c=d&e" })
        equal(endpoints.parse("HTTPS://A.example/").scheme, "https")
    end)

    it("may be of IPv6", function()
        equal(endpoints.parse("http://[fd00::1]/x"),
              { scheme = "http", host = "[fd00::1]", port = 80, authority = "[fd00::1]",
                origin = "http://[fd00::1]",
                path = "/x" })
        equal(endpoints.parse("http://[fd00::1]:8080").port, 8080)
        equal(endpoints.parse("http://[fd00::1]:8080").host, "[fd00::1]")
    end)

    it("is no other text", function()
        for _, text in ipairs({ "", "east.openai.azure.com", "ftp://a", "https://", "https:///a",
                                "http:/a", "https://a/b#c", "https://a/b?c#d", "/a", "a://b" }) do
            equal(endpoints.parse(text), nil, text)
        end
    end)
end)
