--- Bodies of requests: read once, counted as memory, sent as often as there are attempts.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure = test_gateway.failure

local FORM = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n"
             .. "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n%s\r\n--x--\r\n"
local FORM_TYPE = "multipart/form-data; boundary=x"
local TRANSCRIPTIONS = "/openai/v1/audio/transcriptions"

-- As the backend has deployments under names of its own.
local RENAMED = { { name = "a", deployments = { ["gpt-4o"] = "four", whisper = "w" } },
                  { name = "b", deployments = { ["gpt-4o"] = "a-longer-name", whisper = "whisper-2" } } }


-- Sends a body that nginx has put into a file.
local function post_file(gateway, options)
    local path = os.tmpname()
    local file = io.open(path, "wb")
    file:write(options.body)
    file:close()
    gateway.world.files:share(path)
    options.body_file = path
    local request = gateway:post(options)
    os.remove(path)
    return request
end


local function json_body(size)
    return '{"messages":["' .. ("é"):rep(size / 2) .. '"], "model" : "gpt-4o","x":1.0}'
end


describe("a body that is in memory", function()
    it("goes to each backend as it is", function()
        local gateway = test_gateway.new({ backends = { "a", "b" } })
        gateway:serve("a", failure(500))
        local body = json_body(100)
        gateway:post({ body = body })
        equal({ gateway:sent_to("a")[1].body, gateway:sent_to("b")[1].body }, { body, body })
        equal(gateway:sent_to("b")[1].headers["content-length"], tostring(#body))
    end)

    it("goes to each backend with its own name of the deployment", function()
        local gateway = test_gateway.new({ backends = RENAMED })
        gateway:serve("a", failure(500))
        local body = json_body(100)
        gateway:post({ body = body })
        equal(gateway:sent_to("a")[1].body, (body:gsub('"gpt%-4o"', '"four"')))
        equal(gateway:sent_to("b")[1].body, (body:gsub('"gpt%-4o"', '"a-longer-name"')))
    end)

    it("of a form goes to its backend with the other name in its field", function()
        local gateway = test_gateway.new({ backends = RENAMED })
        local body = FORM:format("audio")
        gateway:post({ path = TRANSCRIPTIONS, body = body, headers = { ["content-type"] = FORM_TYPE } })
        equal(gateway:sent_to("a")[1].body, (body:gsub("whisper", "w")))
    end)

    it("is empty where the client sent an empty one, and none where it sent none", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        gateway:post({ path = "/openai/v1/files", body = "" })
        gateway:post({ path = "/openai/v1/files", method = "DELETE", body = false })
        local sent = gateway:sent_to("a")
        equal({ sent[1].headers["content-length"], sent[2].headers["content-length"] }, { "0", nil })
    end)
end)


describe("a body that is in a file", function()
    it("goes to each backend in pieces, with its own name of the deployment", function()
        local gateway = test_gateway.new({ backends = RENAMED })
        gateway:serve("a", failure(500))
        local body = json_body(200000)
        equal(post_file(gateway, { body = body }).status, 200)
        for name, deployment in pairs({ a = "four", b = "a-longer-name" }) do
            local expected = body:gsub('"gpt%-4o"', '"' .. deployment .. '"')
            local sent = gateway:sent_to(name)[1]
            equal({ sent.body == expected, sent.headers["content-length"] },
                  { true, tostring(#expected) }, name)
        end
    end)

    it("of a form goes to its backend with the other name in its field", function()
        local gateway = test_gateway.new({ backends = RENAMED })
        local body = FORM:format(("\0\1"):rep(100000))
        post_file(gateway, { path = TRANSCRIPTIONS, body = body, headers = { ["content-type"] = FORM_TYPE } })
        equal(gateway:sent_to("a")[1].body == body:gsub("whisper", "w"), true)
    end)

    it("that cannot be read is an error of the gateway", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        local request = gateway:post({ body = "{}", body_file = "/gone" })
        equal({ request.status, gateway:called() }, { 500, "" })
        equal(gateway.world:lines("the request body cannot be read", "error"), 1)
    end)
end)


-- Bodies that no backend gets, and why.
local REFUSED = {
    { "has its model twice", '{"model":"a","model":"b"}', "duplicate_member" },
    { "is nested too deeply", ("["):rep(2000) .. ("]"):rep(2000), "nesting_too_deep" },
    { "has a member with a very long name", '{"' .. ("x"):rep(70000) .. '":1}', "name_too_long" },
}


describe("a body is refused that", function()
    for _, case in ipairs(REFUSED) do
        it(case[1], function()
            local gateway = test_gateway.new({ backends = { "a" } })
            local request = gateway:post({ body = case[2] })
            equal({ request.status, request.json.error.code, gateway:called() }, { 400, case[3], "" })
        end)
    end

    it("is longer than the settings allow", function()
        local settings = { nginx_config = { http = { client_max_body_size = "10" } } }
        local gateway = test_gateway.new({ backends = { "a" }, settings = settings })
        local request = gateway:post()
        equal({ request.status, request.json.error.code, request.response_headers.connection },
              { 413, "request_too_large", "close" })
    end)
end)


describe("the memory of bodies", function()
    local LIMIT = 800

    local function limited()
        return test_gateway.new({ backends = { "a" }, settings = { plugin_attr = {
            ["azure-openai-proxy"] = { body_memory = LIMIT, body_buffer = 300 } } } })
    end

    it("is counted three times the length, and given back at the end", function()
        local gateway = limited()
        gateway:serve("a", { takes = 1, status = 200 })
        local memory = gateway.worker.require("gateway.exchange.body_memory")
        local request = gateway:start({ body = ("x"):rep(100) })
        equal(memory.used(), 300)
        gateway:finish(request)
        equal(memory.used(), 0)
    end)

    it("that is used up makes clients come again later", function()
        local gateway = limited()
        gateway:serve("a", { takes = 1, status = 200, body = "{}" })
        for _ = 1, 2 do
            gateway:start({ body = ("x"):rep(100) })
        end
        local request = gateway:post({ body = ("x"):rep(100) })
        equal({ request.status, request.json.error.code, request.response_headers["retry-after"] },
              { 503, "body_memory_exhausted", "1" })
        equal(gateway.world:lines("raise GATEWAY_BODY_MEMORY", "warn"), 1)
        gateway.world:advance(2)
        equal(gateway:post({ body = ("x"):rep(100) }).status, 200)
    end)

    it("is that of all workers, and free again when one dies", function()
        local first = limited()
        first.world.worker_count = 2
        local second = test_gateway.new({ world = first.world, backends = { "a" } })
        first:serve("a", { takes = 60, status = 200 })
        first:start({ body = ("x"):rep(100) })
        local memory = second.worker.require("gateway.exchange.body_memory")
        equal(memory.used(), 300)
        first.world:kill(first.worker)
        -- The one that takes its place has its number.
        first.world.workers = 0
        test_gateway.new({ world = first.world, backends = { "a" } })
        equal(memory.used(), 0)
    end)
end)
