--- What a backend's answer means for the request.

local find = string.find
local ipairs = ipairs
local pairs = pairs
local tonumber = tonumber
local tostring = tostring
local type = type

local _M = {}

-- Events that come before there is any output. Everything else, known or not, is output.
local PRELUDE = {
    ["response.created"] = true,
    ["response.queued"] = true,
    ["response.in_progress"] = true,
    ["response.output_item.added"] = true,
    ["response.content_part.added"] = true,
}

local THROTTLED = { too_many_requests = true, rate_limit_exceeded = true }
local FAILED = { server_error = true, internal_error = true, internal_server_error = true,
                 service_unavailable = true, timeout = true }


--- The statuses after which another backend is tried.
-- @tparam table statuses list of the exact ones
-- @tparam string|table strategy ai-proxy-multi's words for families of them
-- @treturn table set
function _M.retry_set(statuses, strategy)
    local families = {}
    for _, each in ipairs(type(strategy) == "table" and strategy or { strategy }) do
        families[each] = true
    end

    local set = {}
    for _, status in ipairs(statuses) do
        if families[status < 500 and "http_429" or "http_5xx"] then
            set[status] = true
        end
    end
    return set
end


--- What a status means.
-- @treturn string "answer": the client's; "throttled", "failing", "credentials": the next backend's
--   turn, with the reason for a cool-down
function _M.of_status(status, retry_set)
    if status < 400 then
        return "answer"
    end
    if status == 401 or status == 403 then
        return "credentials"
    end
    if not retry_set[status] then
        return "answer"
    end
    return status == 429 and "throttled" or "failing"
end


-- The status that an error in a stream would have had as an answer of its own; nil: it is the
-- client's, as a filtered prompt is.
local function status_of_error(err)
    for _, field in ipairs({ "code", "type", "status" }) do
        local value = err[field]
        local number = tonumber(value)
        if number then
            if number == 429 or number == 408 or number >= 500 and number < 600 then
                return number
            end
        elseif type(value) == "string" then
            if THROTTLED[value] or find(value, "rate_limit", 1, true) then
                return 429
            elseif FAILED[value] then
                return 500
            end
        end
    end
    return nil
end


local function has_output(choices)
    for _, choice in ipairs(choices) do
        if type(choice) ~= "table" then
            return true
        end
        local delta = choice.delta
        if type(delta) == "table" then
            for name, value in pairs(delta) do
                -- A role, an empty text and nulls are what a stream begins with.
                if name ~= "role" and value ~= "" and (type(value) == "string"
                                                       or type(value) == "table") then
                    return true
                end
            end
        end
        if type(choice.text) == "string" and choice.text ~= "" then
            return true
        end
        if type(choice.finish_reason) == "string" then
            return true
        end
    end
    return false
end


--- What an event at the beginning of a stream means.
-- @tparam string|nil name of the event
-- @tparam any event its data, decoded; nil where that could not be
-- @treturn string "prelude", "output" or "error"
-- @treturn number|nil of an error: the status that it stands for
-- @treturn string|nil of an error: its message
function _M.of_event(name, event)
    if type(event) ~= "table" then
        return "output"
    end

    local kind = type(event.type) == "string" and event.type or name
    local err
    if kind == "error" then
        err = type(event.error) == "table" and event.error or event
    elseif kind == "response.failed" then
        local response = event.response
        err = type(response) == "table" and response.error
        if type(err) ~= "table" then
            -- The error itself comes as an event of its own, or not at all.
            return "error", 500, nil
        end
    elseif type(event.error) == "table" then
        err = event.error
    end

    if err then
        local status = status_of_error(err)
        if not status then
            return "output"
        end
        return "error", status, type(err.message) == "string" and tostring(err.message) or nil
    end

    if kind and PRELUDE[kind] then
        return "prelude"
    end
    if type(event.choices) == "table" and not has_output(event.choices)
       and type(event.usage) ~= "table"
    then
        return "prelude"
    end
    return "output"
end


--- How much a failure tells the client, to choose among several: a throttled backend before a
-- failing one before one that could not be reached.
-- @tparam table failure `reason`, and `err` where there was no answer
function _M.rank(failure)
    if failure.reason == "throttled" then
        return 4
    elseif failure.reason == "credentials" then
        return 0
    end
    if failure.err then
        return failure.status == 504 and 2 or 1
    end
    return 3
end


return _M
