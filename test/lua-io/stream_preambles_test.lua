--- Streams until their first output: which backend's the client gets, and what it gets where none has
-- output.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream, OK = test_gateway.failure, test_gateway.stream, test_gateway.OK
local PREAMBLE, OUTPUT, USAGE = test_gateway.PREAMBLE, test_gateway.OUTPUT, test_gateway.USAGE
local THROTTLED = test_gateway.THROTTLED

local RESPONSES = "/openai/v1/responses"
local DONE = "[DONE]"
local CREATED = '{"type":"response.created","response":{"id":"resp_a","error":null}}'
local ITEM = '{"type":"response.output_item.added","output_index":0,"item":{}}'
local DELTA = '{"type":"response.output_text.delta","delta":"Hi"}'
local COMPLETED = '{"type":"response.completed","response":{"id":"resp_b"}}'
local FAILED = '{"type":"response.failed","response":{"error":null}}'
local FILTERED = '{"type":"error","error":{"type":"server_error","code":"content_filter","message":"No."}}'
local CREATED_B = CREATED:gsub("resp_a", "resp_b")


local function event(data)
    return "data: " .. data .. "\n\n"
end


local function text_of(...)
    local events = { ... }
    for i, each in ipairs(events) do
        events[i] = event(each)
    end
    return table.concat(events)
end


-- A gateway whose backend "a" answers so, and "b" with a good stream, or so.
local function new_gateway(a, b, options)
    options = options or {}
    options.backends = { "a", "b" }
    local gateway = test_gateway.new(options)
    gateway:serve("a", a)
    gateway:serve("b", b or stream({ PREAMBLE, OUTPUT, DONE }))
    return gateway
end


local GOOD = text_of(PREAMBLE, OUTPUT, DONE)


-- The same bytes, a byte at a time.
local function bytewise(pieces)
    local text, list = text_of(unpack(pieces)), {}
    for i = 1, #text do
        list[i] = text:sub(i, i)
    end
    return list
end


local function raw(text, breaks)
    return { status = 200, headers = { ["content-type"] = "text/event-stream" }, pieces = { text },
             breaks = breaks }
end


describe("a stream that is silent until its end goes to another backend:", function()
    local cases = {
        ["no byte"] = stream({}),
        ["no byte, and a length of 0"] = { status = 200, headers = stream({}).headers, body = "" },
        ["no byte, then closed"] = stream({}, "closed"),
        ["no byte, then reset"] = stream({}, "connection reset by peer"),
        ["a preamble"] = stream({ PREAMBLE }),
        ["a preamble and its end"] = stream({ PREAMBLE, DONE }),
        ["its end alone"] = stream({ DONE }),
        ["comments"] = raw(": hello\n\n: again\n\n"),
        ["pings"] = raw("event: ping\ndata: {}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\ndata:\n\n"),
        ["half an event"] = raw('data: {"choices":[{"delta":{"content":"Hi"'),
        ["items without content"] = stream({ CREATED, ITEM }),
    }
    for about, answer in pairs(cases) do
        it(about, function()
            local gateway = new_gateway(answer)
            local request = gateway:post({ stream = true })
            equal({ request.status, request.text, request.is_cut }, { 200, GOOD, nil })
            equal({ gateway:called(), request.var.genai_failover }, { "a b", "saved" })
        end)

        it(about .. ", or is an error with a status", function()
            local gateway = new_gateway(answer, answer)
            local request = gateway:post({ stream = true })
            equal({ request.status, request.is_cut }, { 502, nil })
            equal(type(request.json.error.message), "string")
        end)
    end
end)


describe("an answer in one piece that is silent goes to another backend:", function()
    local cases = {
        { "no byte of JSON", { status = 200, headers = OK.headers, body = "" } },
        { "blanks", { status = 200, headers = OK.headers, body = " \r\n" } },
        { "no byte in chunks", { status = 200, headers = OK.headers, pieces = {} } },
        { "no content type", { status = 200, body = "" } },
        { "no sound", { status = 200, headers = { ["content-type"] = "audio/mpeg" }, pieces = {} },
          "/openai/v1/audio/speech" },
        { "no image", { status = 200, headers = OK.headers, body = "" }, "/openai/v1/images/generations" },
    }
    for _, case in ipairs(cases) do
        local about, answer, path = unpack(case)
        it(about, function()
            local gateway = new_gateway(answer, OK)
            local request = gateway:post({ path = path })
            equal({ request.status, request.text, gateway:called() }, { 200, OK.body, "a b" })
            gateway = new_gateway(answer, answer)
            request = gateway:post({ path = path })
            equal({ request.status, request.json.error.code }, { 502, "upstream_empty" })
        end)
    end

    local kept = {
        { "the content of an empty file", { path = "/openai/v1/files/f/content", method = "GET" } },
        { "a deletion", { path = "/openai/v1/files/f", method = "DELETE" } },
        { "an unknown operation", { path = "/openai/v1/new" } },
        { "the text of silence", { path = "/openai/v1/audio/transcriptions" },
          { ["content-type"] = "text/plain" } },
    }
    for _, case in ipairs(kept) do
        local about, options, headers = unpack(case)
        it("but not " .. about, function()
            local gateway = new_gateway({ status = 200, headers = headers or OK.headers, body = "" }, OK)
            local request = gateway:post(options)
            equal({ request.status, request.text }, { 200, "" })
        end)
    end
end)


describe("a stream that is refused", function()
    local cases = {
        { "with a reason", { THROTTLED } },
        { "without one", { CREATED, FAILED } },
        { "with its reason in another event", { CREATED, FAILED, THROTTLED } },
        { "after pings", { '{"type":"ping"}', THROTTLED } },
    }
    for _, case in ipairs(cases) do
        local about, pieces = unpack(case)
        it(about .. " goes to another backend, however it is cut", function()
            for _, each in ipairs({ pieces, { text_of(unpack(pieces)):sub(7, -3) }, bytewise(pieces) }) do
                local answer = stream(each)
                if each ~= pieces then
                    answer.pieces = each[2] and each or { text_of(unpack(pieces)) }
                end
                local gateway = new_gateway(answer)
                local request = gateway:post({ stream = true })
                equal({ request.text, gateway:called() }, { GOOD, "a b" })
            end
        end)
    end

    it("for the prompt is the client's after one call, whichever event brings the reason", function()
        for _, pieces in ipairs({ { CREATED, FAILED, FILTERED }, { FILTERED }, { FILTERED, FAILED },
                                  { THROTTLED, FILTERED } }) do
            for _, each in ipairs({ pieces, bytewise(pieces) }) do
                local answer = stream(pieces)
                answer.pieces = each == pieces and answer.pieces or each
                local gateway = new_gateway(answer)
                local request = gateway:post({ stream = true, path = RESPONSES })
                equal({ request.status, request.text, gateway:called() },
                      { 200, text_of(unpack(pieces)), "a" })
                equal(gateway:metric("genai_cooldowns_total"), "")
            end
        end
    end)

    it("without an empty line behind its last event, or with no event at all", function()
        for _, text in ipairs({ "data: " .. THROTTLED, "data: " .. THROTTLED .. "\n", THROTTLED,
                                "event: error\ndata: Too many requests\n\n" }) do
            equal(new_gateway(raw(text)):post({ stream = true }).text, GOOD)
            equal(new_gateway(raw(text, "closed")):post({ stream = true }).text, GOOD)
        end
    end)

    it("behind a long event with a byte order mark, in one read or in many", function()
        local long = '{"type":"response.created","response":{"instructions":"' .. ("x"):rep(70000)
                     .. '","error":null}}'
        local text = "\239\187\191" .. text_of(long, THROTTLED)
        local pieces = {}
        for i = 1, #text, 1000 do
            pieces[#pieces + 1] = text:sub(i, i + 999)
        end
        for _, each in ipairs({ { text }, pieces, { text:sub(1, 1), text:sub(2) } }) do
            local answer = raw("")
            answer.pieces = each
            equal(new_gateway(answer):post({ stream = true }).text, GOOD)
        end
    end)

    it("as forbidden is judged as a 403", function()
        local forbidden = '{"type":"error","error":{"type":"forbidden","message":"No."}}'
        local gateway = new_gateway(stream({ forbidden }))
        local request = gateway:post({ stream = true })
        equal({ request.text, request.var.genai_attempts }, { GOOD, "a:200:refused:0 b:200:ok:0" })
        equal(gateway:metric("genai_cooldowns_total"), "")
    end)

    it("is told with the delay that its headers or its words name", function()
        for delay, text in pairs({
            ["26000"] = '{"error":{"code":"429","message":"Try again in 26 seconds."}}',
            ["7000"] = '{"error":{"code":"429","headers":{"Retry-After":"7"},"message":"No."}}',
            ["1500"] = '{"error":{"code":"429","headers":{"retry-after-ms":1500},"message":"No."}}',
        }) do
            local gateway = new_gateway(stream({ text }), stream({ text }))
            local request = gateway:post({ stream = true })
            equal(request.status, 429)
            local told = tonumber(request.response_headers["retry-after-ms"])
            equal(told <= tonumber(delay) and told > tonumber(delay) - 500, true, told)
        end
    end)
end)


describe("a stream that is silent for longer than it is held", function()
    it("has its head sent, and what another backend may repeat", function()
        local gateway = new_gateway(stream({ CREATED, 0.5, ITEM, 5, DELTA, COMPLETED }))
        local request = gateway:start({ stream = true, path = RESPONSES })
        gateway.world:advance(0.9)
        equal({ request.is_sent, #request.chunks }, { nil, 0 })
        gateway.world:advance(0.2)
        equal({ request.is_sent, table.concat(request.chunks) }, { true, event(CREATED) })
        gateway:finish(request)
        equal({ request.text, request.is_cut, gateway:called() },
              { text_of(CREATED, ITEM, DELTA, COMPLETED), nil, "a" })
    end)

    it("has its head sent where not a byte has come", function()
        local gateway = new_gateway(stream({ 4, OUTPUT }))
        local request = gateway:start({ stream = true })
        gateway.world:advance(1.1)
        equal({ request.is_sent, #request.chunks }, { true, 0 })
        gateway:finish(request)
        equal(request.text, event(OUTPUT))
    end)

    local failing = {
        ["is refused"] = stream({ CREATED, 2, ITEM, THROTTLED }),
        ["breaks off"] = stream({ CREATED, 2, ITEM }, "closed"),
        ["ends"] = stream({ CREATED, 2, ITEM }),
        ["says nothing more"] = stream({ CREATED, 2, ITEM }, "timeout"),
    }
    for about, answer in pairs(failing) do
        it("and then " .. about .. " goes on with another backend's, whole", function()
            local gateway = new_gateway(answer, stream({ CREATED_B, ITEM, DELTA, COMPLETED }))
            local request = gateway:post({ stream = true, path = RESPONSES })
            equal({ request.status, request.is_cut }, { 200, nil })
            equal(request.text, text_of(CREATED, CREATED_B, ITEM, DELTA, COMPLETED))
            equal({ gateway:called(), request.var.genai_failover, request.var.genai_backend },
                  { "a b", "saved", "b" })
            equal(gateway:metric("genai_failovers_total"):match("^b gpt%-4o %w+") ~= nil, true)
        end)

        it("and then " .. about .. " ends with an error where no backend goes on", function()
            local gateway = new_gateway(answer, failure(429, { ["retry-after"] = "7" }))
            local request = gateway:post({ stream = true, path = RESPONSES })
            equal({ request.status, request.is_cut, request.var.genai_error_source },
                  { 200, true, "gateway" })
            local last = request.text:match("event: error\ndata: ({.*})\n\n$")
            local said = require("json").decode(last)
            equal({ said.type, said.error.message }, { "error", said.message })
            equal(said.message:match("^the backend's words Try again in %d+ seconds%.$") ~= nil, true)
            equal(gateway.world.network:open(), 0, "open connections")
        end)
    end

    it("ends a chat with an error in its own shape", function()
        local gateway = new_gateway(stream({ PREAMBLE, 2 }), failure(503))
        local request = gateway:post({ stream = true })
        equal(request.is_cut, true)
        local said = require("json").decode(request.text:match("\n\ndata: ({\"error\".*})\n\n$"))
        equal(said.error.message, "the backend's words")
    end)

    it("ends with the error of a backend that takes the request for faulty", function()
        local gateway = new_gateway(stream({ PREAMBLE, 2 }), failure(400, nil, "content_filter"))
        local request = gateway:post({ stream = true })
        equal({ request.is_cut, request.var.genai_error, request.var.genai_error_source },
              { true, "400", "backend" })
        equal(request.text:find("content_filter", 1, true) ~= nil, true)
    end)

    it("does not go on with an answer that is no stream", function()
        local gateway = new_gateway(stream({ PREAMBLE, 2 }), OK)
        local request = gateway:post({ stream = true })
        equal({ request.is_cut, request.text:find("gpt-4o-2024", 1, true) }, { true, nil })
        equal(gateway:called(), "a b")
    end)

    it("leaves nothing behind where its client goes away", function()
        local gateway = new_gateway(stream({ CREATED, 5, DELTA }))
        local request = gateway:post({ stream = true, path = RESPONSES, leaves_at = 3 })
        equal(request.var.genai_attempts, "a:200:client_abort:3000")
        equal(gateway.world.network:open(), 0, "open connections")
    end)
end)


describe("a stream that is complete", function()
    local open = {
        ["a chat"] = { PREAMBLE, OUTPUT, DONE },
        ["a response"] = { CREATED, DELTA, COMPLETED },
        ["a response that failed late"] = { DELTA, '{"type":"response.failed","response":{}}' },
        ["a response that is incomplete"] = { DELTA, '{"type":"response.incomplete","response":{}}' },
        ["an image"] = { '{"type":"image_generation.completed","usage":{"input_tokens":1}}' },
        ["an edited image"] = { '{"type":"image_edit.completed","usage":{"input_tokens":1}}' },
        ["a transcription"] = { '{"type":"transcript.text.done","text":"Hi"}' },
    }
    for about, pieces in pairs(open) do
        it("ends though its backend keeps it open: " .. about, function()
            local gateway = new_gateway(stream(pieces, "timeout"))
            local request = gateway:start({ stream = true })
            gateway.world:advance(0.6)
            equal({ request.is_done, request.is_cut }, { true, nil })
            equal(table.concat(request.chunks), text_of(unpack(pieces)))
            equal(request.var.genai_attempts:match("^a:200:ok:%d+$") ~= nil, true)
            equal(gateway:sent_to("a")[1].connection, "closed", "the backend's connection")
        end)

        it("is whole however its connection ends: " .. about, function()
            local gateway = new_gateway(stream(pieces, "connection reset by peer"))
            local request = gateway:post({ stream = true })
            equal({ request.is_cut, request.text }, { nil, text_of(unpack(pieces)) })
        end)
    end

    it("has what comes soon behind its last event", function()
        local gateway = new_gateway(stream({ DELTA, COMPLETED, 0.25, DONE }))
        equal(gateway:post({ stream = true }).text, text_of(DELTA, COMPLETED, DONE))
    end)

    it("is not one that has finished a choice and has yet to tell its usage", function()
        local finished = '{"choices":[{"delta":{},"finish_reason":"stop"}]}'
        local gateway = new_gateway(stream({ OUTPUT, finished, 3, USAGE, DONE }))
        equal(gateway:post({ stream = true }).text, text_of(OUTPUT, finished, USAGE, DONE))
    end)
end)


describe("an answer without a length", function()
    local function closing(headers, text)
        local answer = { status = 200, headers = headers, raw = true, text = text }
        return answer
    end

    it("that ends in the middle of a stream is cut", function()
        for _, pieces in ipairs({ { OUTPUT }, { DELTA } }) do
            local gateway = new_gateway(closing(stream({}).headers, text_of(unpack(pieces))))
            local request = gateway:post({ stream = true })
            equal({ request.is_cut, request.text }, { true, text_of(unpack(pieces)) })
        end
    end)

    it("that ends a stream is whole", function()
        for _, pieces in ipairs({ { OUTPUT, DONE }, { OUTPUT, USAGE }, { DELTA, COMPLETED },
                                  { '{"type":"news"}' } }) do
            local gateway = new_gateway(closing(stream({}).headers, text_of(unpack(pieces))))
            equal(gateway:post({ stream = true }).is_cut, nil)
        end
    end)

    it("that ends in the middle of JSON goes to another backend, and is cut where it is long", function()
        local gateway = new_gateway(closing(OK.headers, '{"choices":[1'), OK)
        equal({ gateway:post().text, gateway:called() }, { OK.body, "a b" })
        local long = '{"choices":["' .. ("x"):rep(70000)
        gateway = new_gateway(closing(OK.headers, long), OK)
        local request = gateway:post()
        equal({ request.is_cut, request.text }, { true, long })
        gateway = new_gateway(closing(OK.headers, long .. '"]}'), OK)
        equal(gateway:post().is_cut, nil)
    end)
end)


describe("a heartbeat", function()
    local function beating(answer)
        return new_gateway(answer, nil, { proxy = { stream_heartbeat_ms = 2000 } })
    end
    local PING = ": ping\n\n"

    it("is sent for each time of silence, between events, and never behind the last", function()
        local gateway = beating(stream({ OUTPUT, 5, OUTPUT, 1, OUTPUT, DONE }, "timeout"))
        local request = gateway:post({ stream = true })
        equal(request.text, event(OUTPUT) .. PING .. PING .. event(OUTPUT) .. event(OUTPUT) .. event(DONE))
    end)

    it("is sent while there is no output, once a head was sent", function()
        local gateway = beating(stream({ 6, OUTPUT }))
        equal(gateway:post({ stream = true }).text, PING .. PING .. event(OUTPUT))
    end)

    it("is not sent within an event", function()
        local answer = raw("")
        answer.pieces = { event(OUTPUT) .. "data: {", 5, "}\n\n" }
        equal(beating(answer):post({ stream = true }).text, event(OUTPUT) .. "data: {}\n\n")
    end)

    it("is sent between the halves of a line end", function()
        local answer = raw("")
        answer.pieces = { "data: 1\r\n\r", "\n", 3, "data: 2\r\n\r\n" }
        equal(beating(answer):post({ stream = true }).text,
              "data: 1\r\n\r\n" .. PING .. "data: 2\r\n\r\n")
    end)

    it("does not keep a stream that has died", function()
        local request = beating(stream({ OUTPUT }, "timeout")):post({ stream = true })
        equal({ request.is_cut, request.text }, { true, event(OUTPUT) .. PING .. PING .. PING })
    end)

    it("is not sent in what is no stream of events, or encoded", function()
        local answer = stream({ OUTPUT, 5, OUTPUT })
        answer.headers = { ["content-type"] = "text/event-stream", ["content-encoding"] = "gzip" }
        equal(beating(answer):post({ stream = true }).text, text_of(OUTPUT, OUTPUT))
        answer = { status = 200, headers = { ["content-type"] = "audio/mpeg" }, pieces = { "a", 5, "b" } }
        equal(beating(answer):post().text, "ab")
    end)
end)
