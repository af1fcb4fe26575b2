--- Reads how many tokens an answer used.

local byte = string.byte
local find = string.find
local huge = math.huge
local sub = string.sub
local max = math.max
local type = type

local json_members = require("genai.json_members")

local _M = {}

--- Usage stands at the end of an answer: in so many bytes of it, where it is at all.
_M.TAIL = 8192


local BACKSLASH, BRACE, COLON = 92, 123, 58


local function count(value)
    return type(value) == "number" and value >= 0 and value < huge and value or nil
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


--- The model that a decoded event or answer says it is of.
function _M.model_of_event(event)
    if type(event) ~= "table" then
        return nil
    end
    local model = event.model or type(event.response) == "table" and event.response.model
    return type(model) == "string" and model or nil
end


--- The model that a JSON answer says it is of.
function _M.model_of_body(body, decode)
    local members = json_members.find(body, { model = true }, decode)
    local model = members and members.model
    model = model and decode(sub(body, model.first, model.last))
    return type(model) == "string" and model or nil
end


-- Where the object stands that a name ending before `position` is the name of, if it is one of the
-- outermost object. Further in, metadata say, the word is the client's, who may be careful to
-- use it.
local function outermost_value(text, position)
    local each
    position, each = json_members.skip_space(text, position)
    if each ~= COLON then
        return nil
    end
    position, each = json_members.skip_space(text, position + 1)
    if each ~= BRACE then
        return nil
    end
    local last = json_members.value_end(text, position)
    if last and json_members.is_outermost(text, last + 1) then
        return position, last
    end
    return nil
end


--- Usage of a JSON answer, of which only the usage is decoded.
-- @tparam string body
-- @tparam function decode gives nil where it cannot
function _M.of_body(body, decode)
    -- What is tried first is what is cheap: nearly always it is one of the last members.
    local from = max(1, #body - _M.TAIL)
    while true do
        local first, last = find(body, '"usage"', from, true)
        if not first then
            break
        end
        if byte(body, first - 1) ~= BACKSLASH then
            local value, value_end = outermost_value(body, last + 1)
            if value then
                return _M.of(decode(sub(body, value, value_end)))
            end
        end
        from = last + 1
    end

    if #body <= _M.TAIL or not find(body, '"usage"', 1, true) then
        return nil
    end
    local members = json_members.find(body, { usage = true }, decode)
    local usage = members and members.usage
    return usage and _M.of(decode(sub(body, usage.first, usage.last))) or nil
end


return _M
