--- Credentials of clients, wherever they put them, and paths and upgrades that the gateway mends or
-- refuses before a backend is asked.

local harness = require("harness")
local json_text = require("json_text")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal

local KEY = test_gateway.CLIENT_KEY


local function new_gateway(options)
    options = options or {}
    options.backends = { "a" }
    return test_gateway.new(options)
end


-- What the backend got, as text; nil: it got nothing.
local function received(gateway)
    local sent = gateway:sent_to("a")[1]
    return sent and sent.target .. " " .. json_text.encode(sent.headers)
end


local function is_nowhere(gateway, request)
    local text = received(gateway)
    equal({ text ~= nil, text:find(KEY, 1, true) }, { true }, text)
    equal(json_text.encode(request.var):find('"args":"[^"]*' .. KEY), nil)
end


describe("a key of the gateway", function()
    it("is accepted in each header that is for it, and goes no further", function()
        for _, header in ipairs({ "api-key", "x-api-key", "ocp-apim-subscription-key" }) do
            local gateway = new_gateway()
            local request = gateway:post({ headers = { ["api-key"] = false, [header] = KEY } })
            equal({ request.status, request.var.genai_client }, { 200, "app" }, header)
            is_nowhere(gateway, request)
        end
    end)

    it("goes no further in any other header, and is none there", function()
        for header, value in pairs({
            ["x-goog-api-key"] = KEY, apikey = KEY, ["x-anything"] = KEY,
            ["x-token"] = "Bearer " .. KEY, cookie = "a=b; key=" .. KEY,
            referer = "https://app/?key=" .. KEY, ["user-agent"] = KEY,
            ["x-twice"] = { "other-value", KEY },
        }) do
            local gateway = new_gateway()
            local request = gateway:post({ headers = { [header] = value } })
            equal(request.status, 200)
            is_nowhere(gateway, request)
            equal(new_gateway():post({ headers = { ["api-key"] = false, [header] = value } }).status,
                  401, header)
        end
    end)

    it("goes no further in the query, whose rest stays as it is", function()
        local gateway = new_gateway()
        local path = "/openai/deployments/m/chat/completions"
        local request = gateway:post({ path = path .. "?a=%2F&code=" .. KEY .. "&api-version=2024-10-21" })
        equal(request.status, 200)
        is_nowhere(gateway, request)
        equal(gateway:sent_to("a")[1].target, path .. "?a=%2F&api-version=2024-10-21")
        equal(gateway:apim_record().Url, path .. "?api-version=2024-10-21")
    end)

    it("in the query alone is refused with what to do, and without a call", function()
        local gateway = new_gateway()
        local request = gateway:post({ path = "/openai/v1/responses?api-key=" .. KEY,
                                       headers = { ["api-key"] = false } })
        equal({ request.status, request.json.error.code }, { 401, "invalid_api_key" })
        equal(request.json.error.message:find("A key in the query is not accepted", 1, true) ~= nil,
              true)
        equal(gateway:called(), "")
    end)

    it("is taken off where nobody has to have one", function()
        local gateway = new_gateway({ auth = { required = false } })
        local request = gateway:post({ headers = { ["api-key"] = false, ["x-anything"] = KEY } })
        equal({ request.status, request.var.genai_client }, { 200 })
        is_nowhere(gateway, request)
    end)
end)


describe("a path that is nearly right", function()
    it("is served, logged and sent on in its form", function()
        for path, form in pairs({
            ["/v1/chat/completions"] = "/openai/v1/chat/completions",
            ["//openai/v1/chat/completions"] = "/openai/v1/chat/completions",
            ["/OpenAI/V1/Chat/Completions/"] = "/openai/v1/chat/completions",
            ["/deployments/m/chat/completions?a=b"] = "/openai/deployments/m/chat/completions?a=b",
        }) do
            local gateway = new_gateway()
            local request = gateway:post({ path = path })
            equal({ request.status, gateway:sent_to("a")[1].target }, { 200, form }, path)
            equal(request.var.uri, (form:gsub("%?.*", "")))
        end
    end)

    it("is held to the client's list of models", function()
        for _, path in ipairs({ "/v1/chat/completions", "/OpenAI/v1/CHAT/completions",
                                "/openai/v1//chat/completions/" }) do
            local gateway = new_gateway({ models = { "gpt-4o-mini" } })
            equal(gateway:post({ path = path }).status, 403, path)
        end
    end)

    it("keeps a key in its query from the backend", function()
        local gateway = new_gateway()
        local request = gateway:post({ path = "/v1/responses?key=" .. KEY .. "&a=b" })
        equal(gateway:sent_to("a")[1].target, "/openai/v1/responses?a=b")
        is_nowhere(gateway, request)
    end)

    it("that leaves out a name is refused with what to write", function()
        local gateway = new_gateway()
        local request = gateway:post({ path = "/openai/deployments//chat/completions",
                                       read_as = "/openai/deployments/chat/completions" })
        equal({ request.status, request.json.error.code }, { 400, "invalid_request_target" })
        equal(gateway:called(), "")
    end)
end)


describe("an upgrade to a WebSocket", function()
    it("is refused at once with what to do", function()
        for _, upgrade in ipairs({ "websocket", "WebSocket", "h2c, websocket" }) do
            local gateway = new_gateway()
            local request = gateway:post({
                method = "GET", path = "/openai/v1/responses",
                headers = { upgrade = upgrade, connection = "keep-alive, Upgrade" },
            })
            equal({ request.status, request.json.error.code, request.response_headers.upgrade },
                  { 426, "websocket_not_supported", "HTTP/1.1" })
            equal({ request.var.genai_error, request.var.genai_error_source,
                    request.var.genai_operation },
                  { "websocket_not_supported", "gateway", "responses" })
            equal(gateway:called(), "")
        end
    end)

    it("needs a key, which may be among its protocols", function()
        local headers = { ["api-key"] = false, upgrade = "websocket" }
        local function answer(protocols)
            headers["sec-websocket-protocol"] = protocols
            return new_gateway():post({ method = "GET", path = "/openai/realtime", headers = headers })
                .status
        end
        equal(answer(nil), 401)
        equal(answer("realtime, openai-insecure-api-key.wrong"), 401)
        equal(answer("realtime, openai-insecure-api-key." .. KEY), 426)
    end)

    it("of another kind is ignored", function()
        equal(new_gateway():post({ headers = { upgrade = "h2c" } }).status, 200)
    end)
end)
