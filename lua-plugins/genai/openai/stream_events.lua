--- The few relevant members of a stream's event.
-- Decoding takes tens of times as long as reading, creates garbage, and cannot be interrupted. So
-- only short data are decoded completely. In longer data a scan finds the relevant members, and the
-- result has the same form as a decoded event.

local json_scan = require("genai.util.json_scan")
local stored_objects = require("genai.openai.stored_objects")
local ipairs = ipairs
local type = type

local _M = {}

-- Longer data are scanned.
local MAX_DECODED = 8192

local MEMBERS = { "type", "model", "error", "usage", "choices", "code", "message", "param",
                  "status", "service_tier" }
local OF_RESPONSE = { "id", "model", "error", "usage", "status", "service_tier",
                      "incomplete_details", "content_filters" }

local RAW = { error = true, usage = true, choices = true, incomplete_details = true,
              content_filters = true }

-- Placeholder for choices that are too long to be decoded: they contain output.
local MANY_CHOICES = { true }


local function plan_of()
    local members = { "response" }
    for _, name in ipairs(MEMBERS) do
        members[#members + 1] = { name, is_raw = RAW[name] }
    end
    for _, name in ipairs(OF_RESPONSE) do
        members[#members + 1] = { "response." .. name, is_raw = RAW[name] }
    end
    local more, words = stored_objects.event_wanted()
    for _, each in ipairs(more) do
        members[#members + 1] = each
    end
    return json_scan.plan(members, words)
end


--- The plan for the scan of an event's data.
_M.PLAN = plan_of()


local function value_of(member, decode)
    if not member then
        return nil
    elseif member.kind == "string" then
        return member.value
    end
    return member.value and decode(member.value)
end


--- The event that a scan has read.
-- @tparam table scan for `PLAN`, at its end
-- @tparam function decode decodes one JSON value; returns nil on invalid JSON
-- @treturn table with the relevant members
function _M.of_scan(scan, decode)
    local members = scan.members
    local event = {}
    for _, name in ipairs(MEMBERS) do
        event[name] = value_of(members[name], decode)
    end
    if members.choices and not event.choices then
        event.choices = MANY_CHOICES
    end
    if members.response and members.response.kind == "object" then
        local response = {}
        for _, name in ipairs(OF_RESPONSE) do
            response[name] = value_of(members["response." .. name], decode)
        end
        event.response = response
    end
    return event
end


-- The members of a JSON answer that show whether it has failed.
local OF_ANSWER = { "type", "status", "statusCode", "code", "message", "object",
                    { "error", is_raw = true }, { "output", is_raw = true }, "choices", "data",
                    { "incomplete_details", is_raw = true },
                    { "content_filters", is_raw = true } }
local ANSWER = json_scan.plan(OF_ANSWER)


--- The members of a JSON answer that show whether it has failed.
-- @tparam string text
-- @tparam function decode as for `of_scan`
-- @treturn any nil: invalid JSON
function _M.of_answer(text, decode)
    if #text <= MAX_DECODED then
        return decode(text)
    end
    local scan = json_scan.new(ANSWER)
    scan:feed(text)
    if not scan:finish() then
        return nil
    end
    local answer = {}
    for _, each in ipairs(OF_ANSWER) do
        local name = type(each) == "table" and each[1] or each
        local member = scan.members[name]
        if member and (member.kind == "array" or member.kind == "object") and not member.value then
            answer[name] = MANY_CHOICES
        else
            answer[name] = value_of(member, decode)
        end
    end
    return answer
end


--- The event for some data: complete, or its relevant members.
-- @tparam string data
-- @tparam function decode as for `of_scan`
-- @treturn any nil: invalid JSON
function _M.of_data(data, decode)
    if #data <= MAX_DECODED then
        return decode(data)
    end
    local scan = json_scan.new(_M.PLAN)
    scan:feed(data)
    if not scan:finish() then
        return nil
    end
    return _M.of_scan(scan, decode)
end


return _M
