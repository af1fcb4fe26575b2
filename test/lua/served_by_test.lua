local json = require("json")
local json_scan = require("genai.util.json_scan")
local served_by = require("genai.openai.served_by")
local token_usage = require("genai.openai.token_usage")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local decode = json.decode


local function of_events(...)
    local answer = {}
    for _, event in ipairs({ ... }) do
        served_by.note_event(answer, decode(event))
    end
    return { answer.model or false, answer.service_tier or false }
end


local function of_body(body)
    local scan = json_scan.new(json_scan.plan(token_usage.WANTED))
    scan:feed(body)
    scan:finish()
    local answer = {}
    served_by.note_scan(answer, scan)
    return { answer.model or false, answer.service_tier or false }
end


local function of_tail(tail, usage)
    local answer = { usage = usage }
    served_by.keep_tail(answer, tail)
    local model, tier = served_by.of_answer(answer, decode)
    return { model or false, tier or false }
end


describe("who served: the model and the service tier", function()
    it("are those of a chat's event and of a response's last event", function()
        equal(of_events('{"model":"a","service_tier":"flex","usage":{}}'), { "a", "flex" })
        equal(of_events('{"response":{"model":"a","service_tier":"auto"}}',
                        '{"response":{"model":"b","service_tier":"priority"}}'),
              { "b", "priority" })
        equal(of_events('{"model":"a","service_tier":"flex"}', '{"usage":{}}'), { "a", "flex" })
    end)

    it("are those of a JSON answer", function()
        equal(of_body('{"model":"a","usage":{},"service_tier":"default"}'), { "a", "default" })
        equal(of_body('{"usage":{"model":"b","service_tier":"x"}}'), { false, false })
    end)

    it("are none where they are no texts, or empty", function()
        equal(of_events('{"model":"","service_tier":null}'), { false, false })
        equal(of_events('{"model":1,"service_tier":{}}'), { false, false })
        equal(of_events('[]', '1', 'null'), { false, false })
        equal(of_body('{"model":["a"],"service_tier":3}'), { false, false })
    end)

    it("are those of the last event of a stream without usage", function()
        local chunk = 'data: {"model":"%s","service_tier":"%s","choices":[{"delta":{}}]}\n\n'
        local text = chunk:format("a", "flex") .. chunk:format("b", "default")
        equal(of_tail(text .. "data: [DONE]\n\n"), { "b", "default" })
        equal(of_tail(text:gsub("\n", "\r\n"), nil), { "b", "default" })
        equal(of_tail(text, { prompt = 1 }), { false, false }, "with usage that is known")
        equal(of_tail("data: [DONE]\n\n"), { false, false })
        equal(of_tail('data: {"model": this is no JSON at all}\n\n'), { false, false })
    end)

    it("of a stream are kept when its end comes alone", function()
        local answer = {}
        served_by.keep_tail(answer, 'data: {"model":"a","service_tier":"flex"}\n\n')
        served_by.keep_tail(answer, "data: [DONE]\n\n")
        equal({ served_by.of_answer(answer, decode) }, { "a", "flex" })
    end)
end)


describe("who served: a spilled request", function()
    it("is one whose answer names where it came from, or says so", function()
        equal(served_by.is_spilled({ ["x-ms-spillover-from-deployment"] = "ptu" }), true)
        equal(served_by.is_spilled({ ["x-ms-is-spilled-over"] = "true" }), true)
        equal(served_by.is_spilled({ ["x-ms-is-spilled-over"] = " True" }), true)
        equal(served_by.is_spilled({ ["x-ms-is-spilled-over"] = { "TRUE", "true" } }), true)
    end)

    it("is none otherwise", function()
        equal(served_by.is_spilled({}), false)
        equal(served_by.is_spilled({ ["x-ms-deployment-name"] = "ptu" }), false)
        equal(served_by.is_spilled({ ["x-ms-is-spilled-over"] = "false" }), false)
        equal(served_by.is_spilled({ ["x-ms-is-spilled-over"] = "untrue" }), false)
        equal(served_by.is_spilled({ ["x-ms-spillover-from-deployment"] = " " }), false)
    end)
end)
