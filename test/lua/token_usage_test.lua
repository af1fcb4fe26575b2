local json = require("json")
local json_scan = require("genai.util.json_scan")
local token_usage = require("genai.openai.token_usage")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local decode = json.decode

local CHAT = '{"completion_tokens":10,"completion_tokens_details":{"accepted_prediction_tokens":0,'
             .. '"reasoning_tokens":4},"prompt_tokens":20,"prompt_tokens_details":'
             .. '{"cached_tokens":16},"total_tokens":30}'
local READ = { prompt = 20, completion = 10, total = 30, cached = 16, reasoning = 4 }


local PLAN = json_scan.plan(token_usage.WANTED)


local function scanned(body)
    local scan = json_scan.new(PLAN)
    scan:feed(body)
    scan:finish()
    return scan
end


local function of_body(body)
    return token_usage.of_scan(scanned(body), decode)
end


describe("usage: the words of all APIs", function()
    it("of chat completions", function()
        equal(token_usage.of(decode(CHAT)), READ)
        equal(token_usage.of({ prompt_tokens = 1, completion_tokens = 2, total_tokens = 3 }),
              { prompt = 1, completion = 2, total = 3 })
    end)

    it("of responses", function()
        equal(
              token_usage.of(decode('{"input_tokens":20,"input_tokens_details":{"cached_tokens":16},'
                              .. '"output_tokens":10,"output_tokens_details":'
                              .. '{"reasoning_tokens":4},"total_tokens":30}')), READ)
    end)

    it("of embeddings, transcriptions and images", function()
        equal(token_usage.of({ prompt_tokens = 5, total_tokens = 5 }),
              { prompt = 5, completion = 0, total = 5 })
        equal(token_usage.of(decode('{"type":"tokens","input_tokens":14,"input_token_details":'
                              .. '{"audio_tokens":14},"output_tokens":45,"total_tokens":59}')),
              { prompt = 14, completion = 45, total = 59 })
        equal(token_usage.of(decode('{"type":"duration","seconds":3.5}')),
              { prompt = 0, completion = 0, total = 0, seconds = 3.5 })
        equal(token_usage.of(decode('{"type":"duration","seconds":"3"}')), nil)
    end)

    it("without a total is summed", function()
        equal(token_usage.of({ input_tokens = 2, output_tokens = 3 }).total, 5)
        equal(token_usage.of({ output_tokens = 3 }), { prompt = 0, completion = 3, total = 3 })
        equal(token_usage.of({ total_tokens = 7 }), { prompt = 0, completion = 0, total = 7 })
    end)

    it("are no counts where they are no numbers, or negative", function()
        for _, bad in ipairs({ "5", -1, true, json.null, {}, 1 / 0, 0 / 0 }) do
            equal(
                  token_usage.of({ prompt_tokens = bad, completion_tokens = bad, total_tokens = bad }),
                  nil)
            equal(token_usage.of({ prompt_tokens = bad, completion_tokens = 2 }),
                  { prompt = 0, completion = 2, total = 2 })
        end
        equal(token_usage.of({ prompt_tokens = -1, input_tokens = 3 }).prompt, 3)
        equal(token_usage.of({ total_tokens = 0 }), { prompt = 0, completion = 0, total = 0 })
    end)

    it("may have details of any kind", function()
        for _, details in ipairs({ 1, "x", json.null, true, {} }) do
            local found = token_usage.of({ prompt_tokens = 1, prompt_tokens_details = details,
                                     completion_tokens_details = details })
            equal(found, { prompt = 1, completion = 0, total = 1 })
        end
        equal(token_usage.of({ prompt_tokens = 1, prompt_tokens_details = { cached_tokens = "1" },
                         completion_tokens_details = { reasoning_tokens = -1 } }),
              { prompt = 1, completion = 0, total = 1 })
    end)

    it("are none where there are none", function()
        for _, raw in ipairs({ 1, "x", true, json.null, {} }) do
            equal(token_usage.of(raw), nil)
        end
        equal(token_usage.of(nil), nil)
    end)
end)


describe("usage: of an event", function()
    it("stands in it, or in its response", function()
        equal(token_usage.of_event(decode('{"choices":[],"usage":' .. CHAT .. "}")), READ)
        equal(
              token_usage.of_event(decode('{"type":"response.completed","response":{"usage":' .. CHAT
                                    .. "}}")), READ)
        equal(
              token_usage.of_event(decode('{"usage":null,"response":{"usage":' .. CHAT .. "}}")), READ)
    end)

    it("is none in any other", function()
        for _, text in ipairs({ "null", "1", '"usage"', "[]", "{}", '{"usage":null}',
                                '{"response":null}', '{"response":"x"}', '{"response":{}}',
                                '{"response":{"usage":null}}', '{"a":{"usage":' .. CHAT .. "}}" })
        do
            equal(token_usage.of_event(decode(text)), nil, text)
        end
        equal(token_usage.of_event(nil), nil)
    end)
end)


describe("usage: of a body", function()
    local long = ('"' .. ("x"):rep(98) .. '",'):rep(400) .. '"x"'

    it("stands at the end of a long answer", function()
        equal(of_body('{"choices":[' .. long .. '],"usage":' .. CHAT .. "}"), READ)
        equal(of_body('{"choices":[' .. long .. '], "usage" : ' .. CHAT .. ' , "user":null}\n'),
              READ)
    end)

    it("stands anywhere", function()
        equal(of_body('{"usage":' .. CHAT .. "}"), READ)
        equal(of_body('{"usage":' .. CHAT .. ',"choices":[]}'), READ)
        equal(of_body('{"usage":' .. CHAT .. ',"choices":[' .. long .. "]}"), READ)
    end)

    it("is not what a client had echoed", function()
        for _, echoed in ipairs({
            '"metadata":{"usage":"none"}', '"metadata":{"usage":{"prompt_tokens":0}}',
            '"tools":[{"parameters":{"properties":{"usage":{"type":"string"}}}}]',
            '"type":"usage"', '"text":"\\"usage\\":{}"', '"text":"\\"usage"',
            '"x\\"usage":{"prompt_tokens":1}',
        }) do
            local before, after = "{" .. echoed .. ",", "," .. echoed .. "}"
            equal(of_body('{"usage":' .. CHAT .. after), READ, echoed)
            equal(of_body(before .. '"usage":' .. CHAT .. "}"), READ, echoed)
            equal(of_body(before .. '"usage":' .. CHAT .. after), READ, echoed)
            equal(of_body("{" .. echoed .. "}"), nil, echoed)
            equal(of_body('{"a":[' .. long .. "]," .. echoed .. "}"), nil, echoed)
            equal(of_body('{"usage":' .. CHAT .. ',"a":[' .. long .. "]" .. after), READ, echoed)
        end
    end)

    it("is none in what has none", function()
        for _, body in ipairs({ "", "{}", "[]", "null", "<html>", '["usage"]', '"usage"',
                                '{"usage"', '{"usage":', '{"usage":{', '{"usage":{"a":}}',
                                '{"usage":null}', '{"usage":1}', '{"usage":{}}',
                                '{"usage":[' .. CHAT .. "]}",
                                '{"usage":{"prompt_tokens":"5"}}' }) do
            equal(of_body(body), nil, body)
        end
        equal(of_body('{"data":[' .. long .. "]}"), nil)
        equal(of_body('{"data":[' .. long .. '],"usage":null}'), nil)
        equal(of_body("[" .. long .. "]"), nil)
    end)
end)


describe("usage: the model of an answer", function()
    it("of an event, whatever API it is of", function()
        equal(token_usage.model_of_event(decode('{"model":"a","choices":[]}')), "a")
        equal(token_usage.model_of_event(decode('{"type":"x","response":{"model":"b"}}')), "b")
        equal(token_usage.model_of_event(decode('{"response":{"model":1}}')), nil)
        equal(token_usage.model_of_event(decode('{"response":[]}')), nil)
        equal(token_usage.model_of_event(nil), nil)
    end)

    it("of a body, where it is one of the outermost members", function()
        local function of(body)
            return token_usage.model_of_scan(scanned(body))
        end
        equal(of('{"metadata":{"model":"x"},"model":"a","usage":{}}'), "a")
        equal(of('{"metadata":{"model":"x"}}'), nil)
        equal(of('{"model":null}'), nil)
        equal(of('{"model":'), nil)
        equal(of('[]'), nil)
        equal(of(''), nil)
    end)
end)
