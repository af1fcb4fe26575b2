local harness = require("harness")
local json = require("json")
local stream_end = require("genai.openai.stream_end")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function decode(text)
    local ok, value = pcall(json.decode, text)
    return ok and value or nil
end


local function is_over(text, may_be_cut)
    return (stream_end.of_text(text, decode, may_be_cut))
end


local ENDS = {
    'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r"}}\n\n',
    'event: error\ndata: {"type":"error","message":"m"}\n\n',
    'data: {"type":"image_generation.completed","b64_json":"AA=="}\n\n',
    'data: {"type":"transcript.text.done","text":"x"}\n\n',
    'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    'event: done\ndata: [DONE]\n\n',
    'data: [DONE]\n\n',
}


describe("the end of a stream", function()
    it("is its terminal event, also without the empty line behind it", function()
        for _, text in ipairs(ENDS) do
            equal(is_over(text), true, text)
            equal(is_over(text, true), true, text)
        end
    end)

    it("is no terminal event that breaks off, wherever", function()
        for _, text in ipairs(ENDS) do
            for i = 1, #text - 3 do
                equal(is_over(text:sub(1, i) .. "\n\n", true), false, text:sub(1, i))
            end
        end
    end)

    it("is no event that has nothing in its error", function()
        for _, text in ipairs({
            'data: {"choices":[{"delta":{"content":"x"}}],"error":""}\n\n',
            'data: {"choices":[],"error":{}}\n\n',
            'data: {"type":"response.in_progress","error":{}}\n\n',
            'data: {"type":"response.mcp_call.failed","error":{"code":"429"}}\n\n',
        }) do
            equal(is_over(text), false, text)
        end
    end)
end)
