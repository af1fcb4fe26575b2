--- Reads the number of tokens that an answer used.

local huge = math.huge
local type = type

local _M = {}

--- The plan for the scan of a JSON answer.
_M.WANTED = { "model", "service_tier", { "usage", is_raw = true } }


local function count(value)
    return type(value) == "number" and value >= 0 and value < huge and value or nil
end


--- Converts the usage of any API into one form.
-- @tparam any raw the `usage` of an answer of any API
-- @treturn table|nil `prompt`, `completion`, `total`; `cached`, `reasoning` or nil; `seconds` of
--   sound, if they are billed; nil: none
function _M.of(raw)
    if type(raw) ~= "table" then
        return nil
    end

    local prompt = count(raw.prompt_tokens) or count(raw.input_tokens)
    local completion = count(raw.completion_tokens) or count(raw.output_tokens)
    local total = count(raw.total_tokens)
    if not prompt and not completion and not total then
        local seconds = raw.type == "duration" and count(raw.seconds)
        return seconds and { prompt = 0, completion = 0, total = 0, seconds = seconds } or nil
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


--- The model that a decoded event or answer names.
function _M.model_of_event(event)
    if type(event) ~= "table" then
        return nil
    end
    local model = event.model or type(event.response) == "table" and event.response.model
    return type(model) == "string" and model or nil
end


--- Usage of a scanned JSON answer; only the usage is decoded.
-- @tparam table scan for what `WANTED` names
-- @tparam function decode returns nil on invalid JSON
function _M.of_scan(scan, decode)
    local member = scan.members.usage
    return member and member.kind == "object" and member.value and _M.of(decode(member.value))
           or nil
end


--- The model that a scanned JSON answer names.
function _M.model_of_scan(scan)
    local model = scan.members.model
    return model and model.kind == "string" and model.value or nil
end


return _M
