--- Requests that end before any backend is looked for, whoever ends them.

local harness = require("harness")
local json = require("json")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function new_gateway(without)
    return test_gateway.new({ backends = { "a" }, without = without })
end


-- What the client and the access log are told.
local function outcome(request)
    return { request.status, request.json.error.code, request.var.genai_error,
             request.var.genai_error_source, request.response_headers["content-type"] }
end


local function expected(status, code)
    return { status, code, code, "gateway", "application/json" }
end


describe("a request", function()
    it("whose path would be read as another one is refused", function()
        local gateway = new_gateway()
        local request = gateway:post({ path = "/openai/v1/../deployments/x/chat/completions",
                                       read_as = "/openai/deployments/x/chat/completions" })
        equal(outcome(request), expected(400, "invalid_request_target"))
        equal(gateway:metric("http_status"), "400 openai-v1 app  apisix=1")
    end)

    it("gets 503 where its route has no backends", function()
        local gateway = new_gateway({ ["ai-proxy-multi"] = true })
        equal(outcome(gateway:post()), expected(503, "unavailable"))
        equal(gateway.world:lines("the route has azure-openai-proxy but no ai-proxy-multi", "error"), 1)
    end)

    it("that no route takes gets 404", function()
        local gateway = new_gateway()
        gateway.conf["azure-openai-errors"] = { not_found = true }
        equal(outcome(gateway:post()), expected(404, "not_found"))
    end)

    it("whose client is not known gets 401, a challenge and no word of its key", function()
        local gateway = new_gateway()
        local request = gateway:post({ headers = { ["api-key"] = "wrong-key" } })
        equal(outcome(request), expected(401, "invalid_api_key"))
        equal(request.response_headers["www-authenticate"], 'Bearer realm="genai-gateway"')
        equal(gateway.world:lines("wrong-key"), 0, "lines of the log with the key")
    end)

    it("without a key is served where the settings say so", function()
        local gateway = new_gateway()
        gateway.conf["azure-openai-auth"].required = false
        local request = gateway:post({ headers = { ["api-key"] = false } })
        equal({ request.status, request.var.genai_client }, { 200, nil })
    end)

    it("that another plugin ends gets the shape of errors, with that plugin's words", function()
        local gateway = new_gateway()
        gateway.conf["ip-restriction"] = {}
        table.insert(gateway.plugins, 3, { name = "ip-restriction", priority = 3000, rewrite = function()
            return 403, { message = "Your IP address is not allowed" }
        end })
        local request = gateway:post()
        equal(outcome(request), expected(403, "forbidden"))
        equal(request.json.error.message, "Your IP address is not allowed")
        local _, span = gateway:spans()
        equal(span.attributes["error.type"], "forbidden")
    end)

    it("that can be sent again is told when", function()
        local gateway = new_gateway({ ["ai-proxy-multi"] = true })
        local headers = gateway:post().response_headers
        equal({ headers["retry-after"], headers["retry-after-ms"] }, { "1", "1000" })
    end)
end)


-- The answer that nginx asks for where it ends a request itself.
local function page(status, var, is_full)
    local gateway = new_gateway()
    gateway.worker.require("gateway.exchange.temp_space").is_full = function()
        return is_full
    end
    local request = { response_status = status, var = var or {}, headers = {}, response_headers = {},
                      chunks = {}, connections = {}, ngx_ctx = {} }
    local errors = gateway.worker.require("apisix.plugins.azure-openai-errors")
    gateway.world.scheduler:start(request, nil, errors.page)
    return request, json.decode(table.concat(request.chunks)), gateway.world
end


describe("an error of nginx", function()
    it("has the shape of errors and is in the access log", function()
        local request, body = page(413)
        equal({ request.status, body.error.code, request.var.genai_error, request.var.genai_error_source },
              { 413, "request_too_large", "request_too_large", "gateway" })
    end)

    it("says when to send the request again, where that helps", function()
        equal(page(408).response_headers["retry-after"], "1")
        equal(page(414).response_headers["retry-after"], nil)
    end)

    it("without a status is one of the gateway", function()
        local request, body = page(0)
        equal({ request.status, body.error.code }, { 500, "gateway_error" })
    end)

    it("for a body that found no space says so", function()
        local request, body, world = page(500, { request_body_file = "/tmp/x" }, true)
        equal({ request.status, body.error.code }, { 503, "body_storage_full" })
        equal(world:lines("request bodies cannot be stored", "error"), 1)
    end)
end)
