-- What a client or a backend sends costs as much as it is long, and no piece of it holds a worker.

local chunked = require("genai.http.chunked")
local client_lines = require("genai.identity.client_lines")
local content_codings = require("genai.http.content_codings")
local credential_places = require("genai.http.credential_places")
local stream_events = require("genai.openai.stream_events")
local http_headers = require("genai.http.http_headers")
local http_head = require("genai.http.http_head")
local json_scan = require("genai.util.json_scan")
local model_lists = require("genai.openai.model_lists")
local multipart = require("genai.http.multipart")
local paths = require("genai.openai.paths")
local sse = require("genai.openai.sse")
local stored_objects = require("genai.openai.stored_objects")
local decode = require("json").decode
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal
local clock = os.clock

local PIECE = 65536

-- Four times as much may cost so many times as much: sixteen would be quadratic.
local TIMES, MOST = 4, 8

-- One piece holds a worker for less than this.
local STRETCH_S = 0.05


-- CPU seconds of the cheapest of some runs, and of the longest piece in it.
local function cost(run, input)
    local least, stretch = math.huge, math.huge
    for _ = 1, 3 do
        collectgarbage()
        local started = clock()
        local longest = run(input)
        local spent = clock() - started
        least = math.min(least, spent)
        stretch = math.min(stretch, longest or spent)
    end
    return least, stretch
end


-- Other programs on the machine slow down one measurement, not each of some.
local TRIES = 5


-- Expects the cost to grow as the input does. Inputs that cost next to nothing are made longer.
local function is_linear(make, run, size)
    local small, stretch, large, large_stretch
    for _ = 1, TRIES do
        repeat
            small, stretch = cost(run, make(size))
            size = size * 2
        until small >= 0.004 or size > 1e6
        size = size / 2
        large, large_stretch = cost(run, make(size * TIMES))
        stretch = math.max(stretch, large_stretch)
        if large <= MOST * small + 0.004 and stretch < STRETCH_S then
            return
        end
    end
    equal(large <= MOST * small + 0.004, true,
          ("%.1f ms, and %.1f ms for %d times as much"):format(small * 1e3, large * 1e3, TIMES))
    equal(stretch < STRETCH_S, true, ("%.1f ms at a stretch"):format(stretch * 1e3))
end


-- A function that feeds a text to what `new` makes, in pieces.
local function feeding(new, piece)
    return function(text)
        local reader, longest = new(), 0
        for position = 1, #text, piece or PIECE do
            local started = clock()
            local bytes = text:sub(position, position + (piece or PIECE) - 1)
            if reader:feed(bytes) == false or reader.duplicate then
                break
            end
            longest = math.max(longest, clock() - started)
        end
        if reader.finish then
            reader:finish()
        end
        return longest
    end
end


local function repeated(before, each, after)
    return function(size)
        return before .. each:rep(math.ceil(size / #each)) .. (after or "")
    end
end


describe("cost: clients", function()
    -- Lines with clients, of which every `broken`th is no JSON.
    local function lines(broken)
        return function(size)
            local list = {}
            for i = 1, size / 100 do
                list[i] = '# genai-gateway client: {"name": "client-' .. i .. '", "key": "$env://KEY_' .. i
                          .. '", "models": ["gpt-4o"], "lane": "high" ' .. (i % broken == 0 and "" or "}")
            end
            list[#list + 1] = "#END\n"
            return table.concat(list, "\n")
        end
    end

    local function reading(text)
        local position, longest, started = 1, 0, clock()
        local function pause()
            longest = math.max(longest, clock() - started)
            started = clock()
        end
        local list = client_lines.read(function()
            local _, last = text:find("\n", position + client_lines.BLOCK_BYTES, true)
            local block = text:sub(position, last or #text)
            position = position + #block
            return block ~= "" and block or nil
        end, decode, { update = function() end }, pause)
        client_lines.by_key(list.clients, tostring, pause)
        return longest
    end

    it("of a file grows as their number does", function()
        is_linear(lines(math.huge), reading, 1e5)
    end)

    it("of a file with broken ones grows as their number does", function()
        is_linear(lines(7), reading, 1e5)
    end)
end)


describe("cost: JSON", function()
    local members, words = stored_objects.wanted()
    members[#members + 1] = "model"
    members[#members + 1] = "stream"
    local plan = json_scan.plan(members, words)
    local scanning = feeding(function()
        return json_scan.new(plan)
    end)
    local cases = {
        ["a long string"] = repeated('{"model":"', "x", '"}'),
        ["backslashes"] = repeated('{"x":"', "\\", '"}'),
        ["escaped quotes"] = repeated('{"x":"', '\\"', '"}'),
        ["backslashes and escaped quotes"] = repeated('{"x":"', '\\\\\\\\\\\\\\"', '"}'),
        ["empty strings"] = repeated('["', '","', '"]'),
        ["white space"] = repeated("{", " \t\r\n", "}"),
        ["digits"] = repeated('{"x":', "9", "}"),
        ["numbers"] = repeated("[1", ",1", "]"),
        ["numbers between blanks"] = repeated("[1", " ,\t1", "]"),
        ["long numbers between numbers"] =
            repeated("[1", (",1"):rep(40) .. "," .. ("9"):rep(1000), "]"),
        ["empty arrays"] = repeated("[[]", ",[]", "]"),
        ["empty objects"] = repeated("[{}", ",{}", "]"),
        ["deep nests"] = repeated("[1", "," .. ("["):rep(500) .. ("]"):rep(500), "]"),
        ["members"] = repeated('{"a":1', ',"b":2', "}"),
        ["members with escaped names"] = repeated('{"a":1', ',"\\u0062":2', "}"),
        ["names like those looked for"] = repeated('{"a":1', ',"modal":"x"', "}"),
        ["names looked for"] = repeated('[{}', ',{"file_id":"file-1"}', "]"),
        ["names looked for, escaped"] = repeated('[{}', ',{"file\\u005fid":"file-1"}', "]"),
        ["lists of names"] = repeated('{"file_ids":["a"', ',"b"', "]}"),
        ["encrypted reasoning"] = repeated("[{}", ',{"encrypted_content":"xxxxxxxx"}', "]"),
        ["items by id"] = repeated('{"input":[{}', ',{"type":"item_reference","id":"rs_1"}', "]}"),
        ["long names"] = repeated('{"a":1', ',"' .. ("n"):rep(16000) .. '":1', "}"),
        ["no JSON"] = repeated("", "x"),
        ["a name twice"] = repeated('{"model":"m"', ',"model":"m"', "}"),
    }
    for name, make in pairs(cases) do
        it("of " .. name .. " grows as their length does", function()
            is_linear(make, scanning, 500000)
        end)
    end

    it("of a text that comes a byte at a time grows as its length does", function()
        local bytewise = feeding(function()
            return json_scan.new(plan)
        end, 1)
        for _, make in ipairs({ cases["a long string"], cases["backslashes"], cases["members"],
                                cases["long names"], cases["encrypted reasoning"] }) do
            is_linear(make, bytewise, 20000)
        end
    end)
end)


describe("cost: forms", function()
    local PART = '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'

    local function scanning(boundary, piece)
        return feeding(function()
            return multipart.new(boundary or "b", { model = true })
        end, piece)
    end

    local cases = {
        ["an upload"] = repeated(PART, "\0\1\2\3\4\5\6\7"),
        ["line breaks"] = repeated(PART, "\r\n"),
        ["carriage returns"] = repeated(PART, "\r"),
        ["line feeds"] = repeated(PART, "\n"),
        ["beginnings of boundaries"] = repeated(PART, "\r\n--"),
        ["boundaries"] = repeated(PART, "\r\n--b"),
        ["boundaries on lines of their own"] = repeated(PART, "\r\n--b\r\n"),
        ["boundaries in heads"] = repeated("--b\r\n", "--b\r\nX: y\r\n"),
        ["parts"] = repeated("", PART .. "\r\n"),
        ["parts with names like those looked for"] =
            repeated("", '--b\r\nContent-Disposition: form-data; name="models"\r\n\r\nx\r\n'),
        ["long heads"] = repeated("", '--b\r\nContent-Disposition: form-data; name="'
                                      .. ('\\"'):rep(4000) .. '"' .. ("; name=x"):rep(800)
                                      .. "\r\n\r\n\r\n"),
        ["heads of many lines"] = repeated("", "--b\r\n" .. ("c:\r\n"):rep(3000) .. "\r\n\r\n"),
        ["heads that go on"] = repeated("", "--b\r\nc:" .. ("\r\n "):rep(4000) .. "\r\n\r\n\r\n"),
        ["a long field"] = repeated(PART:gsub("file", "model"), "x\r\n"),
    }
    for name, make in pairs(cases) do
        it("of " .. name .. " grows as their length does", function()
            is_linear(make, scanning(), 200000)
        end)
    end

    it("with a boundary of one dash grows as their length does", function()
        is_linear(repeated(PART:gsub("%-%-b", "---"), "\r\n---"), scanning("-"), 200000)
        is_linear(repeated(PART:gsub("%-%-b", "---"), "-"), scanning("-"), 200000)
    end)

    it("that come a byte at a time grows as their length does", function()
        for _, name in ipairs({ "an upload", "boundaries", "parts", "long heads" }) do
            is_linear(cases[name], scanning("b", 1), 20000)
        end
    end)

    it("of the type of a body is small", function()
        for _, each in ipairs({ "; boundary=", '; x="\\"', ";", '"', "; boundary=\"b\"" }) do
            is_linear(repeated("multipart/form-data", each), function(content_type)
                multipart.boundary(content_type)
            end, 8000)
        end
    end)
end)


describe("cost: streams", function()
    -- As forwarding does it.
    local function reading(piece)
        return feeding(function()
            local reader = sse.new()
            return {
                feed = function(_, bytes)
                    local complete = reader:feed(bytes)
                    local position = 1
                    while complete and sse.mentions_usage(complete) do
                        local data
                        position, data = sse.next_event(complete, position)
                        if not position then
                            break
                        end
                        if data then
                            stream_events.of_data(data, decode)
                        end
                    end
                end,
            }
        end, piece)
    end

    local USAGE = 'data: {"usage":{"total_tokens":1}}\n\n'
    local cases = {
        ["short events"] = repeated(USAGE, USAGE),
        ["comments"] = repeated(USAGE, ":\n\n"),
        ["lines without a colon"] = repeated(USAGE, "a\n"),
        ["lines of data"] = repeated(USAGE, "data:\n"),
        ["carriage returns"] = repeated(USAGE, "data:\r"),
        ["empty lines"] = repeated(USAGE, "\n"),
        ["a long event"] = repeated('data: {"usage":{"a":1},"x":"', "x", '"}\n\n'),
        ["long events"] =
            repeated("", 'data: {"usage":{"a":1},"x":"' .. ("x"):rep(100000) .. '"}\n\n'),
        ["a long event of many lines"] = repeated('data: {"x":[1', "\ndata:,[]", "]}\n\n"),
        ["a long event of nests"] = repeated('data: {"usage":{"x":[', "[],", "1]}}\n\n"),
        ["events of nests"] =
            repeated("", 'data: {"usage":{"x":[' .. ("[],"):rep(2600) .. "1]}}\n\n"),
        ["blanks behind a word"] = repeated('data: "usage"', " ", "\n\n"),
        ["a word"] = repeated("data: ", '"usage"', "\n\n"),
    }
    for name, make in pairs(cases) do
        it("of " .. name .. " grows as their length does", function()
            is_linear(make, reading(), 200000)
        end)
    end

    it("that come a byte at a time grows as their length does", function()
        for _, name in ipairs({ "short events", "comments", "a long event", "lines of data",
                                "a long event of many lines" }) do
            is_linear(cases[name], reading(1), 20000)
        end
    end)

    it("of chunks of a byte grows as their number does", function()
        for _, each in ipairs({ "1\r\na\r\n", "1;" .. ("x"):rep(8000) .. "\r\na\r\n" }) do
            is_linear(repeated("", each), feeding(chunked.new), 100000)
        end
        local trailer = ("0\r\n" .. ("a: b\r\n"):rep(20000))
        equal({ chunked.new():feed(trailer) }, { nil, "its trailer is too long" })
    end)
end)


describe("cost: headers", function()
    it("of a request grows as their number does", function()
        is_linear(function(size)
            local sent = { connection = ("x-a, "):rep(size / 5) }
            for i = 1, size / 10 do
                sent["x-" .. i] = i % 2 == 0 and "1" or { "1", "2" }
            end
            return sent
        end, function(sent)
            http_headers.to_backend(sent, {})
            -- nginx bounds the headers of a request: these are more than it ever takes.
            return 0
        end, 20000)
    end)

    it("of an answer are bounded in number", function()
        for _, line in ipairs({ "a: b\r\n", "b\r\n", " c\r\n", "\t\r\n",
                                "a:" .. ("x"):rep(100) .. "\r\n" }) do
            local head = "HTTP/1.1 200 OK\r\n" .. line:rep(1001) .. "\r\n"
            equal({ http_head.response(head) }, { nil, "its head has too many lines" })
            head = "HTTP/1.1 200 OK\r\n" .. line:rep(1000) .. "\r\n"
            local started = clock()
            equal(http_head.response(head).status, 200)
            equal(clock() - started < STRETCH_S, true)
        end
    end)
end)


describe("cost: wildcards", function()
    it("with many asterisks is small", function()
        for _, pattern in ipairs({ "*a*a*a*a*a*b", ("*a"):rep(120) .. "*b", ("*"):rep(250) .. "b",
                                   ("a*"):rep(125) .. "b", "*" .. ("a"):rep(120) .. "b*" }) do
            local list = { pattern }
            for _, length in ipairs({ 60, 120, 256, 32000 }) do
                local started = clock()
                equal(model_lists.is_allowed(list, ("a"):rep(length)), false)
                equal(clock() - started < 0.005, true, pattern)
            end
        end
    end)
end)


describe("cost: targets", function()
    local KEYS = { ["key-of-a-client"] = true }

    -- nginx reads lines of up to 40 KB.
    for name, piece in pairs({ slashes = "/", prefixes = "/openai", ["parts of a prefix"] = "/v1/openai",
                               deployments = "/openai/deployments", escapes = "%2F", words = "/chat",
                               dots = "/x.", ids = "/openai/v1/files/a" }) do
        it("of paths with many " .. name .. " grows as their length does", function()
            is_linear(function(size)
                return "/openai/v1" .. piece:rep(size / #piece)
            end, function(path)
                paths.normal(path)
            end, 40000)
        end)
    end

    for name, piece in pairs({ ampersands = "&", parameters = "&a=b", keys = "&key=key-of-a-client",
                               escapes = "&%41=%42+", semicolons = ";", ["equals signs"] = "=" }) do
        it("of queries with many " .. name .. " grows as their length does", function()
            is_linear(function(size)
                return piece:rep(size / #piece)
            end, function(query)
                credential_places.query_without(query, KEYS)
            end, 40000)
        end)
    end

    for name, piece in pairs({ semicolons = ";", cookies = "a=b; ", keys = "k=key-of-a-client;",
                               quotes = 'a="";', spaces = " ", ["spaces in values"] = "a= b " }) do
        it("of cookies with many " .. name .. " grows as their length does", function()
            is_linear(function(size)
                return piece:rep(size / #piece)
            end, function(value)
                credential_places.cookies_without(value, KEYS)
            end, 40000)
        end)
    end

    for name, ending in pairs({ ["before the end of a cookie"] = "x", ["in a cookie without a value"] = "",
                                ["in a cookie before another one"] = ";b=c" }) do
        it("of blanks " .. name .. " grows as their number does", function()
            is_linear(function(size)
                return "a=" .. (" "):rep(size) .. ending
            end, function(value)
                credential_places.cookies_without(value, KEYS)
            end, 40000)
        end)
    end

    for name, piece in pairs({ blanks = " ", ["equals signs"] = "=", slashes = "/", commas = ",",
                               words = "words-of-a-header,", addresses = "https://a/b?c=d&" }) do
        it("of headers with many " .. name .. " grows as their length does", function()
            is_linear(function(size)
                return piece:rep(size / #piece)
            end, function(value)
                credential_places.holds_key(value, KEYS, "address")
            end, 40000)
        end)
    end

    it("of lists of codings grows as their length does", function()
        is_linear(function(size)
            return ("gzip ,"):rep(size / 12) .. (" "):rep(size / 2) .. "x"
        end, function(value)
            content_codings.of(value)
        end, 40000)
    end)

    it("of lists of codings with nothing but blanks in one grows as their number does", function()
        is_linear(function(size)
            return "," .. (" "):rep(size) .. ",gzip"
        end, function(value)
            content_codings.of(value)
        end, 40000)
    end)
end)
