local credential_places = require("genai.http.credential_places")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local KEY = "key-of-a-client-0123"
local BASE64 = "AB+CD/efgh+0123456789=="
local KEYS = { [KEY] = { name = "app" }, ["with +/=& signs-01"] = { name = "odd" },
               [BASE64] = { name = "base64" } }


describe("credential in a query", function()
    local function becomes(query, expected)
        equal({ credential_places.query_without(query, KEYS) },
              { expected or query, expected ~= nil }, query)
    end

    it("is a parameter that is for one, whatever is in it", function()
        for _, name in ipairs({ "api-key", "API-Key", "api%2Dkey", "apikey", "api_key", "x-api-key",
                                "subscription-key", "Ocp-Apim-Subscription-Key", "access_token" }) do
            becomes(name .. "=anything", "")
            becomes("a=b&" .. name .. "=&c=d", "a=b&c=d")
            becomes(name, "")
        end
    end)

    it("is a key of a client, whatever the parameter is called", function()
        for _, name in ipairs({ "key", "code", "k", "headers[api-key]" }) do
            becomes(name .. "=" .. KEY, "")
            becomes(name .. "=" .. KEY:gsub("%-", "%%2d"), "")
            becomes(name .. "=Bearer+" .. KEY, "")
            becomes(name .. "=bearer%20" .. KEY, "")
        end
        becomes(KEY, "")
        becomes(KEY .. "=x", "")
        becomes("x=with+%2B%2F%3D%26+signs-01", "")
    end)

    it("is a key in Base64 as it reads, whose signs mean something else in a query", function()
        for _, query in ipairs({ "key=" .. BASE64, BASE64, "key=Bearer%20" .. BASE64,
                                 "key=" .. BASE64:gsub("%+", "%%2B"):gsub("=", "%%3D") }) do
            becomes(query, "")
            becomes("a=+%2B&" .. query .. "&b==", "a=+%2B&b==")
        end
    end)

    it("is a key inside an address or a list, too", function()
        for _, value in ipairs({ "https://app.test/?key=" .. KEY, "https%3A%2F%2Fapp.test%2F%3Fk%3D" .. KEY,
                                 "a," .. KEY, "%22" .. KEY .. "%22", KEY .. "%20", "Token+" .. KEY }) do
            becomes("a=b&next=" .. value, "a=b")
        end
    end)

    it("goes without a trace, and everything else stays byte for byte", function()
        becomes("api-version=1&key=" .. KEY, "api-version=1")
        becomes("key=" .. KEY .. "&api-version=1", "api-version=1")
        becomes("a=1&&x=%zz&key=" .. KEY .. "&b=%2F%2f+&", "a=1&&x=%zz&b=%2F%2f+&")
        becomes("a;b;key=" .. KEY .. ";c", "a;b;c")
        becomes("key=" .. KEY .. "&api-key=" .. KEY, "")
    end)

    it("is none that only looks like one", function()
        for _, query in ipairs({ "", "api-version=2024-10-21", "key=other", "code=1", "&&", "=", "%",
                                 "q=api-key=x", "api-keys=x", "x=" .. KEY .. "x", "prompt_cache_key=k" }) do
            becomes(query)
        end
    end)
end)


describe("credential in a cookie", function()
    it("is taken out, and no other", function()
        for cookie, expected in pairs({
            ["k=" .. KEY] = "none",
            ["a=b; k=" .. KEY .. "; c=d"] = "a=b; c=d",
            ["k=\"" .. KEY .. "\"; c=d"] = "c=d",
            ["k=" .. KEY:gsub("%-", "%%2D") .. ";c=d"] = "c=d",
            ["a=b; c = d;;"] = "a=b; c = d;;",
            ["k=other"] = "k=other",
            [KEY] = "none",
            [BASE64] = "none",
            ["a=b; k=" .. BASE64 .. " ;c=d"] = "a=b;c=d",
            ["a=b; k=%22" .. KEY .. "%22"] = "a=b",
            ["k='" .. KEY .. "'; " .. KEY .. "=x; c"] = "c",
            ["k=\"with +/=& signs-01\" ; c"] = "c",
            ["k=" .. KEY .. "x; c"] = "k=" .. KEY .. "x; c",
            [""] = "",
        }) do
            equal(credential_places.cookies_without(cookie, KEYS) or "none", expected, cookie)
        end
    end)
end)


describe("credential in another header", function()
    it("is a key, alone or with a scheme, or in an address", function()
        for _, value in ipairs({ KEY, "Bearer " .. KEY, "bearer   " .. KEY, "Bearer\t" .. KEY,
                                 "Token " .. KEY, "ApiKey " .. BASE64, "a, " .. KEY .. ", b",
                                 '"' .. KEY .. '"', "key=" .. KEY, "a=b,key=" .. BASE64 .. ";c",
                                 "client/" .. KEY, "with +/=& signs-01" }) do
            equal(credential_places.holds_key(value, KEYS, false), true, value)
        end
        equal(credential_places.holds_key("https://app.test/?key=" .. KEY, KEYS, "address"), true)
        for _, value in ipairs({ "", "x", "Bearer", "Bearer ", KEY .. "x", "bearer-" .. KEY,
                                 "application/json; charset=utf-8", "========", "////////" }) do
            equal(credential_places.holds_key(value, KEYS, false), false, value)
        end
        equal(credential_places.holds_key("https://app.test/", KEYS, "address"), false)
    end)

    it("is known by the keys that there are now, also in a value that held none before", function()
        local value = "Token key-of-tomorrow"
        for _ = 1, 2 do
            equal(credential_places.holds_key(value, KEYS, false), false)
            equal(credential_places.holds_key(value, { ["key-of-tomorrow"] = {} }, false), true)
        end
        for i = 1, 3000 do
            equal(credential_places.holds_key("value " .. i, KEYS, false), false)
        end
        equal(credential_places.holds_key("Token " .. KEY, KEYS, false), true)
    end)

    it("is one of the protocols of a WebSocket", function()
        equal(credential_places.protocol_key("realtime, openai-insecure-api-key." .. KEY
                                             .. ", openai-beta.realtime-v1"), KEY)
        equal(credential_places.protocol_key("openai-insecure-api-key." .. KEY), KEY)
        equal(credential_places.protocol_key("realtime"), nil)
        equal(credential_places.protocol_key("openai-insecure-api-key."), nil)
    end)
end)


describe("upgrade to a WebSocket", function()
    it("is read in any case and list", function()
        for _, value in ipairs({ "websocket", "WebSocket", "WEBSOCKET", "h2c, websocket",
                                 "websocket/13" }) do
            equal(credential_places.is_websocket(value), true, value)
        end
        equal(credential_places.is_websocket({ "h2c", "WebSocket" }), true)
        equal(credential_places.is_websocket("h2c"), false)
    end)
end)
