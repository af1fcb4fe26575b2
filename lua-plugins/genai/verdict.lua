--- What a backend's answer means for the request.

local find = string.find
local ipairs = ipairs
local lower = string.lower
local pairs = pairs
local sub = string.sub
local tonumber = tonumber
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

local THROTTLED = { too_many_requests = true, rate_limit_exceeded = true, no_capacity = true }
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
-- @treturn string "answer": the client's; "throttled", "failing": the next backend's turn, with the
--   reason for a cooldown; "refusal": `of_refusal` tells why
function _M.of_status(status, retry_set)
    if status < 400 then
        return "answer"
    end
    if status == 401 or status == 403 then
        return "refusal"
    end
    if not retry_set[status] then
        return "answer"
    end
    return status == 429 and "throttled" or "failing"
end


-- Of a longer text only the beginning is looked at.
local MAX_TEXT = 8192

-- What a refusal says, in lower case, and what that means; the first one that is found counts.
-- Sources: facts of Azure's documentation and public issues on each of them.
local REFUSALS = {
    -- Firewalls, virtual networks and private endpoints: nothing gets through to the resource.
    { "unreachable", { "virtual network", "firewall", "private endpoint", "private link",
                       "public access is disabled", "public network access",
                       "trafficdenied", "is not in the allowed", "ip address is not allowed",
                       "client ip", "networkaclrule", "network acl" } },
    -- Amounts that are used up, of whatever period.
    { "throttled", { "call volume quota", "quota exceeded", "quotaexceeded", "insufficient_quota",
                     "exceeded your current quota", "quota has been exceeded", "exceeded the quota",
                     "quota will be replenished", "out of quota", "quota limit", "rate limit",
                     "exceeded your quota", "over quota" } },
    -- The gateway's own identity lacks a role.
    { "permission", { "permissiondenied", "principal does not have access",
                      "does not have access to api/operation", "lacks the required data action",
                      "authorizationfailed", "does not have authorization to perform",
                      "insufficient permission", "insufficient privileges",
                      "does not have permission", "missing permission" } },
    -- What the request asks for.
    { "request", { "ephemeral authentication", "ephemeral token", "ephemeral key" } },
    -- The credential itself.
    { "credentials", { "invalid subscription key", "missing subscription key",
                       "wrong api endpoint", "access token", "invalid_api_key",
                       "incorrect api key", "invalid api key", "invalidauthenticationtoken",
                       "audience is incorrect", "authentication token", "token has expired",
                       "token is expired", "key authentication is disabled",
                       "authenticationtypedisabled", "invalid token", "invalid key" } },
}


--- Why a backend refused a request with 401 or 403.
-- @tparam number status
-- @tparam table headers of the answer, found by name in any case
-- @tparam string text the answer's body
-- @treturn string "unreachable": a firewall or a private network; "throttled": a quota;
--   "permission": the gateway's identity may not do this; "request": it is about what the request
--   asks for; "credentials": the gateway's credential may be wrong
function _M.of_refusal(status, headers, text)
    local policy = headers["policy-id"]
    local shown = lower(sub(text, 1, MAX_TEXT))
    if type(policy) == "string" then
        shown = shown .. " " .. lower(policy)
    end
    for _, each in ipairs(REFUSALS) do
        for _, words in ipairs(each[2]) do
            if find(shown, words, 1, true) then
                return each[1]
            end
        end
    end
    -- A 403 knows who asks, and a feature may be gated; a 401 does not.
    return status == 403 and "request" or "credentials"
end


--- Whether an error says that a backend does not have the deployment.
-- @tparam any err the member `error` of an answer or of an event of a stream, or a flat answer
function _M.is_missing_deployment(err)
    if type(err) ~= "table" then
        return false
    end
    for _, field in ipairs({ "code", "type" }) do
        if type(err[field]) == "string" and lower(err[field]) == "deploymentnotfound" then
            return true
        end
    end
    local message = type(err.message) == "string" and lower(sub(err.message, 1, MAX_TEXT)) or ""
    return find(message, "could not find an existing deployment", 1, true) ~= nil
           or find(message, "the api deployment for this resource does not exist", 1, true) ~= nil
end


-- The status that an error in a stream would have had as an answer of its own; nil: it is the
-- client's, as a filtered prompt is.
local function status_of_error(err)
    if _M.is_missing_deployment(err) then
        return 404
    end
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
            elseif value == "forbidden" then
                return 403
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
-- @treturn table|nil what an error says, where it says something; with "output" the error is the
--   client's
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
            return "error", 500
        end
    elseif type(event.error) == "table" then
        err = event.error
    end

    if err then
        local status = status_of_error(err)
        if not status then
            return "output", nil, err
        end
        return "error", status, err
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


--- The failure that a JSON answer with a status of success names in its body, as a response with
-- status "failed" does.
-- @tparam any body decoded
-- @treturn number|nil the status that it stands for; nil: it is the client's answer
-- @treturn table|nil its error
function _M.of_body(body)
    if type(body) ~= "table" or type(body.error) ~= "table" then
        return nil
    end
    local has_output = type(body.choices) == "table" or type(body.data) == "table"
                       or type(body.output) == "table" and body.output[1] ~= nil
    if has_output or body.status ~= nil and body.status ~= "failed" then
        return nil
    end
    local status = status_of_error(body.error)
    return status, status and body.error
end


-- What tells a client the most, last. A refusal or a missing deployment is told only where no
-- backend had anything else in its way: the others might have answered.
local RANKS = { deployment_not_found = 1, refused = 2, credentials = 3, unreachable = 4,
                failing = 6, throttled = 9 }


--- How much a failure tells the client, to choose among several: a throttled backend before a
-- failing one before one that could not be reached, and an answer before none.
-- @tparam table failure `reason`, and `err` where there was no answer
function _M.rank(failure)
    local rank = RANKS[failure.reason]
    if failure.reason == "unreachable" then
        return failure.err and rank or rank + 0.5
    elseif failure.reason == "failing" then
        return not failure.err and rank + 2 or failure.status == 504 and rank + 1 or rank
    end
    return rank
end


return _M
