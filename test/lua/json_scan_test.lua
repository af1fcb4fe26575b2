local json_scan = require("genai.util.json_scan")
local decode = require("json").decode
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local PLAN = json_scan.plan({ "model", "stream", "conversation", "conversation.id" })
local WORDS = json_scan.plan({ "model" }, {
    { name = "file_ids" },
    { name = "file_id" },
    { name = "container", prefix = "cntr_" },
    { name = "sealed", length = 8, limit = 2, is_recent = true },
    { name = "id", key = "input.id", within = "input", depth = 3, may_repeat = true },
    { name = "id", key = "messages.audio.id", within = "messages", depth = 4 },
})


-- A scan of a text, in pieces of a size.
local function scanned(text, plan, size)
    local scan = json_scan.new(plan or PLAN)
    size = size or #text
    for position = 1, #text, math.max(size, 1) do
        if not scan:feed(text:sub(position, position + size - 1)) then
            break
        end
    end
    return scan, scan:finish()
end


local function members(text, size)
    return (scanned(text, PLAN, size)).members
end


-- The value, and that it stands where the scan says; whole and a byte at a time alike.
local function value_of(text, name)
    local member = members(text)[name or "model"]
    equal(members(text, 1)[name or "model"], member, "a byte at a time")
    if not member then
        return nil
    end
    local literal = text:sub(member.first, member.last)
    if member.kind == "literal" then
        equal(literal, member.value)
    elseif member.value then
        equal(decode(literal), member.value)
    end
    return member.value
end


describe("json_scan: members", function()
    it("reports whether the text is one object", function()
        local function is_whole(text)
            local _, whole = scanned(text)
            local _, bytewise = scanned(text, PLAN, 1)
            equal(bytewise, whole, text)
            return whole
        end
        equal(is_whole('{"model":"a"} \n'), true)
        equal(is_whole('{}'), true)
        equal(is_whole(' [1] '), false)
        equal(is_whole('{"model":"a",/**/"model":"b"}'), false)
        equal(is_whole('{"model":"a"}{"model":"b"}'), false)
        equal(is_whole("{\"model\":\"a\",'model':\"b\"}"), false)
        equal(is_whole('{"x":[1,/*"],"model":"a","y":["*/2]}'), false)
        equal(is_whole('{"x":{/*"*/},"model":"a"}'), false)
        equal(is_whole('{"model":"a" "x":1}'), false)
        equal(is_whole('{"x":[1}],"model":"a"}'), false)
        equal(is_whole('{"model":"a",}'), false)
        equal(is_whole('{"a":NaN,"b":-1.5e+3,"c":[true,null]}'), true)
        equal(is_whole('\239\187\191{}'), true)
        equal(is_whole('\239\187{}'), false)
        equal(is_whole('{"a":1'), false)
        equal(is_whole(''), false)
        equal(is_whole('{\0"\0m\0"\0:\0"\0a\0"\0}\0'), false)
    end)

    it("finds a member wherever it stands", function()
        equal(value_of('{"model":"a"}'), "a")
        equal(value_of('{"x":1,"model":"a","y":[]}'), "a")
        equal(value_of('{"messages":[{"content":"hi"}],"model":"a"}'), "a")
        equal(value_of('{}'), nil)
        equal(value_of('{"other":"model"}'), nil)
        equal(value_of('{"x":"model","y":"model"}'), nil)
        equal(value_of(' \t\r\n{ \n"model"\t:\r\n "a"  \n } \n'), "a")
        equal(value_of('\239\187\191 {"model":"a"}'), "a")
    end)

    it("reports exactly where it stands", function()
        local found = members('{ "model" : "gpt" , "stream" : true\t}')
        equal(found.model, { kind = "string", value = "gpt", first = 13, last = 17 })
        equal(found.stream, { kind = "literal", value = "true", first = 32, last = 35 })
    end)

    it("reports the kind of other values", function()
        for _, literal in ipairs({ "null", "true", "false", "0", "-1.5e+3" }) do
            for _, after in ipairs({ "", " ", "\r\n\t" }) do
                local text = '{"stream":' .. literal .. after .. ',"model":"m"}'
                equal(value_of(text, "stream"), literal)
                equal(value_of(text), "m")
                equal(value_of('{"stream":' .. literal .. after .. "}", "stream"), literal)
            end
        end
        equal(members('{"model":[]}').model.kind, "array")
        equal(members('{"model":{"model":"a"}}').model.kind, "object")
    end)

    it("reads escapes in names and values", function()
        equal(value_of([[{"mod\u0065l":"\u0061\n\"b\\"}]]), 'a\n"b\\')
        equal(value_of([[{"\u006d\u006f\u0064\u0065\u006C":"a"}]]), "a")
        equal(value_of([[{"m\odel":"a","x":1}]]), nil)
        equal(value_of([[{"model\u0000":"a"}]]), nil)
        equal(members([[{"model":"\ud83d\ude00\u00e9"}]]).model.value,
              "\240\159\152\128\195\169")
        for _, bad in ipairs({ [[\x]], [[\u12]], [[\u12g4]], [[\ud83d]], [[\ude00]],
                               [[\ud83d\u0041]] }) do
            local found = members('{"model":"' .. bad .. '"}')
            equal({ found.model.value, found.model.kind }, { nil, "string" }, bad)
        end
    end)

    it("finds a member of a member", function()
        equal(value_of('{"conversation":{"x":{"id":"no"},"id":"c"}}', "conversation.id"), "c")
        equal(value_of('{"x":{"id":"no"}}', "conversation.id"), nil)
        equal(value_of('{"conversation":[{"id":"no"}]}', "conversation.id"), nil)
        equal(value_of('{"conversation":{},"x":{"id":"no"}}', "conversation.id"), nil)
    end)

    it("reports a name that stands twice in one object", function()
        for text, name in pairs({
            ['{"model":"a","model":"a"}'] = "model",
            [ [[{"model":"a","mod\u0065l":"b"}]] ] = "model",
            ['{"model":"a","x":{"model":"c"},"model":null}'] = "model",
            ['{"stream":true,"model":"a","stream":[]}'] = "stream",
            ['{"conversation":{"id":"a","id":"b"}}'] = "conversation.id",
            ['\239\187\191{"model":"a","model":"b"}'] = "model",
        }) do
            equal((scanned(text)).duplicate, name, text)
            equal((scanned(text, PLAN, 1)).duplicate, name, text)
        end
        for _, text in ipairs({ '{"model":"a","x":{"model":"b"}}', '{"x":1,"x":2}',
                                '[{"model":"a"},{"model":"b"}]', '{"model":"\\"model\\":"}' }) do
            equal((scanned(text)).duplicate, nil, text)
        end
    end)

    it("is not led astray by what stands in strings", function()
        for _, content in ipairs({ "}", "{", "]", "[", "{[", ",", ":", [[\"]], [[\\]], [[\\\"]],
                                   [[\\\\]], [[\"model\":\"x\"]], [[\"},\"model\":\"x\"]],
                                   [[\u0022]], "\\\\\\\\\\\\\\\"", "" }) do
            local text = '{"a":"' .. content .. '","b":{"c":"' .. content .. '","d":["' .. content
                         .. '"]},"' .. content .. '":1,"model":"m"}'
            equal(value_of(text), "m", content)
        end
    end)

    it("counts runs of backslashes, wherever a piece ends", function()
        for run = 0, 9 do
            local text = '{"a":"' .. ("\\"):rep(run) .. '","model":"m","z":"'
            local expected = run % 2 == 0 and "m" or nil
            text = text .. '"}'
            for size = 1, #text do
                local found = members(text, size).model
                equal(found and found.value, expected, run .. " in pieces of " .. size)
            end
        end
    end)

    it("finds nothing in what is no object", function()
        for _, text in ipairs({ "", " ", "null", "1", '"model"', '["model"]', "[]", "model=a",
                                '"{', "\0", "\239\187\191", "--boundary\r\n" }) do
            equal(members(text), {}, text)
        end
    end)

    it("gives up on what breaks off", function()
        local text = '{"a":"b","c":{"d":[1,2]},"model":"m","stream":true}'
        for length = 1, #text - 1 do
            equal(members(text:sub(1, length)), {}, text:sub(1, length))
        end
    end)
end)


describe("json_scan: limits", function()
    it("takes objects and arrays 512 deep, and no deeper", function()
        local function nested(depth)
            return '{"model":"m","x":' .. ("["):rep(depth - 1) .. ("]"):rep(depth - 1) .. "}"
        end
        local scan, is_whole = scanned(nested(json_scan.MAX_DEPTH))
        equal({ scan.problem, is_whole }, { nil, true })
        scan, is_whole = scanned(nested(json_scan.MAX_DEPTH + 1))
        equal({ scan.problem, is_whole }, { "nested_too_deeply", false })
        equal((scanned(('{"a":'):rep(100000))).problem, "nested_too_deeply")
        equal((scanned('{"a":"' .. ("["):rep(100000) .. '"}')).problem, nil)
    end)

    it("takes names of 16384 bytes, and no longer", function()
        for size = 1000, 20000, 6333 do
            local function problem(length)
                return (scanned('{"' .. ("n"):rep(length) .. '":1}', PLAN, size)).problem
            end
            equal(problem(json_scan.MAX_NAME), nil)
            equal(problem(json_scan.MAX_NAME + 1), "name_too_long")
            equal((scanned('{"' .. ("n"):rep(100000), PLAN, size)).problem, "name_too_long")
        end
    end)

    it("keeps the beginning of a value that is longer than any name", function()
        for _, size in ipairs({ 100, 1000, 1e6 }) do
            local found = members('{"model":"' .. ("x"):rep(1e5) .. '"}', size).model
            equal(found.value, ("x"):rep(2048))
            equal({ found.first, found.last }, { 10, 10 + 1e5 + 1 })
        end
    end)
end)


describe("json_scan: words", function()
    local function words(text, size)
        return (scanned(text, WORDS, size)).words
    end

    it("are strings, and lists of them, at any depth", function()
        for _, size in ipairs({ 1, 7, 1e6 }) do
            equal(words('{"a":[{"file_ids":["1", "2", 3, "1"]},{"file_id":"3"}],'
                        .. '"container":"cntr_1","b":{"container":"other","file_id":null}}', size),
                  { file_ids = { "1", "2" }, file_id = { "3" }, container = { "cntr_1" } })
            equal(words('{"file_ids":[["1"],{"x":"2"},"3"]}', size), { file_ids = { "3" } })
            equal(words('["file_id"]', size), nil)
            equal(words('[{"file_id":"1"}]', size), { file_id = { "1" } })
            equal(words([[{"x":"{\"file_id\":\"1\"}"}]], size), nil)
        end
    end)

    it("are bounded in number and length, and the last may count", function()
        equal(#words('{"file_ids":["1","2","3","4","5","6","7","8","9","10"]}').file_ids, 8)
        for _, size in ipairs({ 1, 7, 1e6 }) do
            equal(words('{"sealed":"123456789","x":{"sealed":"abc\\n"}}', size).sealed,
                  { "12345678", "abc", count = 2 })
        end
    end)

    it("are duplicates in one object only", function()
        equal((scanned('[{"file_id":"1"},{"file_id":"2"}]', WORDS)).duplicate, nil)
        equal((scanned('[{"file_id":"1","x":{},"file\\u005fid":"2"}]', WORDS)).duplicate, "file_id")
    end)

    it("keep the last ones of many, and give them back in turn", function()
        for _, size in ipairs({ 1, 1e6 }) do
            local scan = scanned('[{"sealed":"1"},{"sealed":"2"},{"sealed":"3"}]', WORDS, size)
            equal(json_scan.recent(scan, "sealed"), { "3", "2" })
            equal(json_scan.recent(scan, "file_id"), {})
        end
        equal(json_scan.recent(scanned('[{"sealed":"1"}]', WORDS), "sealed"), { "1" })
    end)

    it("are found inside one member alone, at one depth", function()
        local text = '{"id":"no","input":[{"id":"1","x":{"id":"no"}},["no",{"id":"no"}],{"id":"2"}],'
                     .. '"other":[{"id":"no"}],"messages":[{"id":"no","audio":{"id":"3"},'
                     .. '"audios":[{"id":"no"}]}],"x":{"input":[{"id":"no"}]}}'
        for _, size in ipairs({ 1, 3, 1e6 }) do
            equal(words(text, size), { ["input.id"] = { "1", "2" }, ["messages.audio.id"] = { "3" } })
            equal(words('{"input":"id","messages":{"a":{"b":{"id":"4"}}}}', size),
                  { ["messages.audio.id"] = { "4" } })
        end
    end)

    it("may stand there twice where that changes nothing", function()
        equal(scanned('{"input":[{"id":"1","id":"2"}],"input":[]}', WORDS).duplicate, nil)
        equal(scanned('{"messages":[{"audio":{"id":"1","id":"2"}}]}', WORDS).duplicate,
              "messages.audio.id")
    end)
end)


describe("json_scan: raw members", function()
    local plan = json_scan.plan({ { "usage", is_raw = true }, { "id", is_first = true },
                                  "response", { "response.usage", is_raw = true },
                                  "response.id" })

    it("are kept as text", function()
        local text = '{"id":"1","id":"2","usage": {"a":[{"usage":1}]} ,'
                     .. '"response":{"id":"r","x":{"usage":{}},"usage":{"b":"}"}}}'
        for size = 1, #text do
            local found = (scanned(text, plan, size)).members
            equal(found.usage.value, '{"a":[{"usage":1}]}')
            equal(found["response.usage"].value, '{"b":"}"}')
            equal({ found.id.value, found["response.id"].value }, { "1", "r" })
        end
    end)

    it("are not kept where they are long", function()
        local text = '{"usage":{"a":"' .. ("x"):rep(70000) .. '"},"id":"1"}'
        local found = (scanned(text, plan)).members
        equal({ found.usage.value, found.usage.kind, found.id.value }, { nil, "object", "1" })
    end)
end)
