local json_members = require("genai.json_members")
local decode = require("json").decode
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local WANTED = { model = true, stream = true }


local function find(text)
    return json_members.find(text, WANTED, decode)
end


-- The value, and that it stands where it is said to.
local function value_of(text, name)
    local found = find(text)
    local member = found and found[name or "model"]
    if not member then
        return nil
    end
    local literal = text:sub(member.first, member.last)
    if not member.is_string then
        equal(literal, member.value)
    elseif member.value then
        equal(decode(literal), member.value)
    end
    return member.value
end


describe("json_members: find", function()
    it("says whether it has read all", function()
        local function is_whole(text)
            local _, whole = json_members.find(text, WANTED, decode)
            return whole
        end
        equal(is_whole('{"model":"a"} \n'), true)
        equal(is_whole('{}'), true)
        equal(is_whole('{"model":"a",/**/"model":"b"}'), false)
        equal(is_whole('{"model":"a"}{"model":"b"}'), false)
        equal(is_whole("{\"model\":\"a\",'model':\"b\"}"), false)
    end)

    it("finds a member wherever it stands", function()
        equal(value_of('{"model":"a"}'), "a")
        equal(value_of('{"x":1,"model":"a","y":[]}'), "a")
        equal(value_of('{"messages":[{"content":"hi"}],"model":"a"}'), "a")
        equal(value_of('{}'), nil)
        equal(value_of('{"other":"model"}'), nil)
        equal(value_of('{"x":"model","y":"model"}'), nil)
    end)

    it("says exactly where it stands", function()
        local member = find('{ "model" : "gpt" , "stream" : true }').model
        equal({ member.first, member.last, member.is_string }, { 13, 17, true })
        member = find('{ "model" : "gpt" , "stream" : true\t}').stream
        equal({ member.first, member.last, member.is_string }, { 32, 35, false })
    end)

    it("gives other values as they are written", function()
        for _, literal in ipairs({ "null", "true", "false", "0", "-1.5e+3", "[]", "{}",
                                   '["a",{"b":[1,2]}]', '{"model":"x"}' }) do
            for _, after in ipairs({ "", " ", "\r\n\t" }) do
                local text = '{"stream":' .. literal .. after .. ',"model":"m"}'
                equal(value_of(text, "stream"), literal)
                equal(value_of(text), "m")
                equal(value_of('{"stream":' .. literal .. after .. "}", "stream"), literal)
            end
        end
    end)

    it("takes white space of every kind", function()
        equal(value_of(' \t\r\n{ \n"model"\t:\r\n "a"  \n } \n'), "a")
    end)

    it("skips a byte order mark as readers in backends do", function()
        equal(value_of('\239\187\191{"model":"a"}'), "a")
        equal(value_of('\239\187\191 {"model":"a"}'), "a")
    end)

    it("reads escapes in names and values", function()
        equal(value_of([[{"mod\u0065l":"\u0061\n\"b\\"}]]), 'a\n"b\\')
        equal(value_of([[{"m\odel":"a","x":1}]]), nil)
        equal(value_of([[{"model\u0000":"a"}]]), nil)
        local found = find([[{"model":"\x"}]])
        equal(found.model.value, nil)
        equal(found.model.is_string, true)
    end)

    it("takes the last of two, as readers in backends do", function()
        equal(value_of('{"model":"a","model":"b"}'), "b")
        equal(value_of([[{"model":"a","mod\u0065l":"b"}]]), "b")
        equal(value_of('{"model":"a","x":{"model":"c"},"model":null}'), "null")
    end)

    it("is not led astray by the same name further in", function()
        equal(value_of('{"a":{"model":"x"},"b":[{"model":"y"}],"model":"z"}'), "z")
        equal(value_of('{"a":{"model":"x"},"b":[{"model":"y"}]}'), nil)
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

    it("counts runs of backslashes", function()
        for length = 0, 9 do
            local run = ("\\"):rep(length)
            local text = '{"a":"' .. run .. '","model":"m","z":"'
            local expected = length % 2 == 0 and "m" or nil
            equal(value_of(text .. '"}'), expected, "run of " .. length)
        end
        equal(value_of('{"a":"' .. ("\\"):rep(100000) .. '","model":"m"}'), "m")
        equal(value_of('{"a":"' .. ('\\"'):rep(100000) .. '","model":"m"}'), "m")
    end)

    it("finds nothing in what is no object", function()
        for _, text in ipairs({ "", " ", "null", "1", '"model"', '["model"]', "[]", "model=a",
                                '"{', "\0", "\239\187\191", "--boundary\r\n" }) do
            equal(find(text), nil, text)
        end
    end)

    it("gives up on what breaks off", function()
        local text = '{"a":"b","c":{"d":[1,2]},"stream":true,"model":"m"}'
        for length = 1, #text - 2 do
            local found = find(text:sub(1, length))
            equal(found and found.model, nil, text:sub(1, length))
        end
        for _, broken in ipairs({ '{"model"', '{"model":', '{"model": ', '{"model":}', '{"model":,',
                                  '{"model" "a"}', '{"model":{"a":[}',
                                  '{"model":"a', '{"model":"a\\"' }) do
            local found = find(broken)
            equal(found and found.model, nil, broken)
        end
    end)

    it("goes through a hundred thousand levels", function()
        local depth = 100000
        for _, each in ipairs({ { "[", "]" }, { '{"a":', "}" }, { '[{"b":[],"a":', "}]" } }) do
            local nested = each[1]:rep(depth) .. "1" .. each[2]:rep(depth)
            equal(value_of('{"x":' .. nested .. ',"model":"m"}'), "m")
            equal(find('{"x":' .. each[1]:rep(depth) .. ',"model":"m"}'), nil)
        end
    end)

    it("goes through megabytes of numbers, of brackets in strings and of short members", function()
        local parts = { ("0.5,"):rep(300000) .. "1", ('"]}[{",'):rep(200000) .. "1",
                        ('{"a":[1,{"b":""}]},'):rep(100000) .. "1" }
        for _, part in ipairs(parts) do
            local started = os.clock()
            equal(value_of('{"x":[' .. part .. '],"model":"m"}'), "m")
            equal(os.clock() - started < 2, true, "a search that is linear")
        end
    end)
end)


describe("json_members: value_end and is_outermost", function()
    it("tell where a value ends", function()
        local text = '{"a":{"b":"}"},"c":[[1],"]"],"d":12 }'
        equal(json_members.value_end(text, 6), 14)
        equal(json_members.value_end(text, 20), 28)
        equal(json_members.value_end(text, 11), 13)
        equal(json_members.value_end('{"a":', 1), nil)
        equal(json_members.value_end('"a', 1), nil)
    end)

    it("tell whether a member is one of the outermost object", function()
        local function is_outermost(before, after)
            return json_members.is_outermost(before .. after, #before + 1)
        end
        for _, after in ipairs({ "}", " } \n", ',"a":1}', ' , "a" : {"b":["}"]} , "c":"}" }' }) do
            equal(is_outermost('{"usage":{}', after), true, after)
            equal(is_outermost('rest of a longer one","usage":1', after), true, after)
        end
        for _, after in ipairs({ "", ",", "}}", "}]", "]", '},"a":1}', ',"a"}', ',"a":}', ',"a":1',
                                 ',a:1}', ',"a', ',"a":"', "} x" }) do
            equal(is_outermost('{"usage":{}', after), false, after)
        end
    end)
end)


describe("json_members: first_string", function()
    local function first(text)
        return json_members.first_string(text, "id", decode)
    end

    it("finds a string wherever it stands", function()
        equal(first('{"id":"a"}'), "a")
        equal(first('{ "x" : [{"id":"b"}] , "id" : "a" }'), "a")
        equal(first('{"i\\u0064":"\\u0061"}'), "a")
        equal(first('{"id":"a","id":"b"}'), "a")
    end)

    it("needs no end of the object", function()
        equal(first('{"id":"a"'), "a")
        equal(first('{"x":1,"id":"a","y":['), "a")
        equal(first('{"x":['), nil)
        equal(first('{"id":"a'), nil)
        equal(first('{'), nil)
        equal(first(''), nil)
    end)

    it("takes nothing but a string", function()
        equal(first('{"id":1}'), nil)
        equal(first('{"id":{"id":"a"}}'), nil)
        equal(first('["id","a"]'), nil)
    end)
end)
