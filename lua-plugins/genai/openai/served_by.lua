--- What an answer reports about its cost: the model, the service tier, and whether Azure spilled
-- over from a provisioned to a standard deployment.

local sse = require("genai.openai.sse")
local stream_events = require("genai.openai.stream_events")
local token_usage = require("genai.openai.token_usage")
local find = string.find
local lower = string.lower
local match = string.match
local type = type

local _M = {}

-- A shorter text of a stream contains only its end, `data: [DONE]`.
local MIN_TAIL = 32


local function text(value)
    return type(value) == "string" and value ~= "" and value or nil
end


--- Reads a decoded event. Later events win, because the first ones of a response repeat the
-- requested tier.
-- @tparam table answer gets `model` and `service_tier`
-- @tparam any event
function _M.note_event(answer, event)
    if type(event) ~= "table" then
        return
    end
    local response = type(event.response) == "table" and event.response or event
    answer.model = text(token_usage.model_of_event(event)) or answer.model
    answer.service_tier = text(response.service_tier) or answer.service_tier
end


--- Reads a scanned JSON answer.
-- @tparam table answer
-- @tparam table scan for what `token_usage.WANTED` names
function _M.note_scan(answer, scan)
    local tier = scan.members.service_tier
    answer.model = text(token_usage.model_of_scan(scan))
    answer.service_tier = tier and tier.kind == "string" and text(tier.value) or nil
end


--- Keeps the last complete events of a stream that has not reported its usage yet.
-- @tparam table answer
-- @tparam string complete
function _M.keep_tail(answer, complete)
    if not answer.usage and #complete > MIN_TAIL then
        answer.tail = complete
    end
end


--- The model and tier of an answer at the end of the request, including the kept events.
-- @tparam table answer
-- @tparam function decode returns nil on invalid JSON
-- @treturn string|nil the model
-- @treturn string|nil the service tier
function _M.of_answer(answer, decode)
    local tail = answer.tail
    if answer.usage or not tail then
        return answer.model, answer.service_tier
    end
    local position, last = 1, nil
    while true do
        local next_position, data = sse.next_event(tail, position)
        if not next_position then
            break
        end
        if data and find(data, '"model"', 1, true) then
            last = data
        end
        position = next_position
    end
    local said = {}
    if last then
        _M.note_event(said, stream_events.of_data(last, decode))
    end
    return said.model, said.service_tier
end


local function first(value)
    if type(value) == "table" then
        return value[1]
    end
    return value
end


--- Whether Azure spilled a request over.
-- @tparam table headers of the answer, by names in lower case
function _M.is_spilled(headers)
    local from, flag = first(headers["x-ms-spillover-from-deployment"]),
                       first(headers["x-ms-is-spilled-over"])
    if from and match(from, "%S") then
        return true
    end
    return flag ~= nil and match(lower(flag), "^%s*true%s*$") ~= nil
end


return _M
