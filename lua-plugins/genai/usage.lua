--- Reads how many tokens an answer used.

local byte = string.byte
local find = string.find
local sub = string.sub
local max = math.max
local type = type

local json_members = require("genai.json_members")

local _M = {}

--- Usage stands at the end of an answer: in so many bytes of it, where it is at all.
_M.TAIL = 8192


local function count(value)
    return type(value) == "number" and value >= 0 and value or nil
end


--- Usage in the words of all APIs as one.
-- @tparam any raw the `usage` of an answer of any API
-- @treturn table|nil `prompt`, `completion`, `total`, and `cached`, `reasoning` or nil; nil: none
function _M.of(raw)
    if type(raw) ~= "table" then
        return nil
    end

    local prompt = count(raw.prompt_tokens) or count(raw.input_tokens)
    local completion = count(raw.completion_tokens) or count(raw.output_tokens)
    local total = count(raw.total_tokens)
    if not prompt and not completion and not total then
        return nil
    end

    local inputs = raw.prompt_tokens_details or raw.input_tokens_details
    local outputs = raw.completion_tokens_details or raw.output_tokens_details
    prompt, completion = prompt or 0, completion or 0
    return {
        prompt = prompt,
        completion = completion,
        total = total or prompt + completion,
        cached = type(inputs) == "table" and count(inputs.cached_tokens) or nil,
        reasoning = type(outputs) == "table" and count(outputs.reasoning_tokens) or nil,
    }
end


--- Usage of a decoded event.
function _M.of_event(event)
    if type(event) ~= "table" then
        return nil
    end
    local response = event.response
    return _M.of(event.usage) or type(response) == "table" and _M.of(response.usage) or nil
end


-- Position of the last `"usage"` in a text that begins at or after `from`.
local function last_mention(text, from)
    local found
    while true do
        local first, last = find(text, '"usage"', from, true)
        if not first then
            return found
        end
        found = last + 1
        from = found
    end
end


--- Usage of a JSON answer, of which only the usage is decoded.
-- @tparam string body
-- @tparam function decode gives nil where it cannot
function _M.of_body(body, decode)
    local after = last_mention(body, max(1, #body - _M.TAIL))
    if not after and #body > _M.TAIL then
        local members = json_members.find(body, { usage = true }, decode)
        local usage = members and members.usage
        return usage and _M.of(decode(sub(body, usage.first, usage.last))) or nil
    end
    if not after then
        return nil
    end

    local colon, start = find(body, "^%s*:%s*", after)
    if not colon or byte(body, start + 1) ~= 123 then
        return nil
    end
    local last = json_members.value_end(body, start + 1)
    return last and _M.of(decode(sub(body, start + 1, last))) or nil
end


return _M
