--- What an event of a stream says, of which no more than a few members matter.
--
-- Decoding takes time and memory as the bytes want it, tens of times what reading takes, and is not
-- to be interrupted. So only short data are decoded as a whole; of others the members that
-- matter are found by a scan, and make an event that looks the same to all who read it.

local json_scan = require("genai.json_scan")
local stored = require("genai.stored")
local ipairs = ipairs

local _M = {}

-- Data of a longer event are scanned.
local MAX_DECODED = 8192

local MEMBERS = { "type", "model", "error", "usage", "choices" }
local OF_RESPONSE = { "id", "model", "error", "usage" }

local RAW = { error = true, usage = true, choices = true }

-- What stands for choices that are too long to be decoded: they hold output.
local MANY_CHOICES = { true }


local function plan_of()
    local members = { "response" }
    for _, name in ipairs(MEMBERS) do
        members[#members + 1] = { name, is_raw = RAW[name] }
    end
    for _, name in ipairs(OF_RESPONSE) do
        members[#members + 1] = { "response." .. name, is_raw = RAW[name] }
    end
    return json_scan.plan(members, stored.sealed_words())
end


--- What a scan of an event's data has to look for.
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
-- @tparam function decode decodes one JSON value; gives nil where it cannot
-- @treturn table with those members that matter
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


--- The event that data are, as a whole or what matters of it.
-- @tparam string data
-- @tparam function decode as for `of_scan`
-- @treturn any nil: it is no JSON
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
