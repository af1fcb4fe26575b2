--- What a backend's answer means for the request.

local error_meaning = require("genai.openai.error_meaning")
local find = string.find
local ipairs = ipairs
local lower = string.lower
local match = string.match
local next = next
local pairs = pairs
local sub = string.sub
local type = type

local _M = {}

-- Events of the preamble, before any output. All other events, known or not, count as output.
-- Events that open an output item must not occur twice, because SDKs count items.
local PRELUDE = {
    ["response.created"] = true,
    ["response.queued"] = true,
    ["response.in_progress"] = true,
    ["response.output_item.added"] = "item",
    ["response.content_part.added"] = "item",
    ["response.reasoning_summary_part.added"] = "item",
    ["message_start"] = "item",
    ["content_block_start"] = "item",
    ["ping"] = true,
    ["keepalive"] = true,
    ["keep-alive"] = true,
    ["keep_alive"] = true,
    ["heartbeat"] = true,
}

-- Events after which a stream is complete.
local TERMINAL = {
    ["response.completed"] = true,
    ["response.failed"] = true,
    ["response.incomplete"] = true,
    ["response.cancelled"] = true,
    ["response.done"] = true,
    ["image_generation.completed"] = true,
    ["image_edit.completed"] = true,
    ["transcript.text.done"] = true,
    ["speech.audio.done"] = true,
    ["message_stop"] = true,
    ["error"] = true,
    ["done"] = true,
}

-- Prefixes of the event names of streams that end with one of those.
local FAMILIES = { response = true, image_generation = true, image_edit = true, transcript = true,
                   speech = true }

-- The members in which an answer has its content.
local CONTENT = { "choices", "data", "output" }

-- The values of a response's status if it has not failed.
local UNFAILED = { completed = true, in_progress = true, queued = true, incomplete = true,
                   cancelled = true }

-- The error for a blocked prompt if the answer itself gives none.
local BLOCKED = { code = "content_filter" }

-- The names of events about an output item.
local OF_ITEM = "^[^.]+%.[^.]+%."

-- The end marker of a stream of completions.
local DONE = "^%s*%[DONE%]%s*$"


--- The statuses after which another backend is tried.
-- @tparam table statuses list of the exact ones
-- @tparam string|table strategy ai-proxy-multi's names for families of statuses
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


--- The meaning of a status.
-- @treturn string "answer": for the client; "throttled", "failing": another backend is tried, and
--   this is the reason for a cooldown; "refusal": `of_refusal` decides
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


-- Only the beginning of a longer text is examined.
local MAX_TEXT = 8192

-- Phrases of refusals in lower case and their meanings; the first match counts. Sources for each:
-- Azure's documentation and public issues.
local REFUSALS = {
    -- Firewalls, virtual networks and private endpoints block all requests to the resource.
    { "unreachable", { "virtual network", "firewall", "private endpoint", "private link",
                       "public access is disabled", "public network access",
                       "trafficdenied", "is not in the allowed", "ip address is not allowed",
                       "client ip", "networkaclrule", "network acl" } },
    -- Used-up quotas of any period.
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
    -- The request asks for something that is not permitted.
    { "request", { "ephemeral authentication", "ephemeral token", "ephemeral key" } },
    -- The credential itself is refused.
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
--   "permission": the gateway's identity lacks a permission; "request": the request asks for
--   something not permitted; "credentials": the gateway's credential may be wrong
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
    -- A 403 means that the caller is known but may not use a feature; a 401 means that it is not
    -- known.
    return status == 403 and "request" or "credentials"
end


--- Whether an error says that a backend does not have the deployment.
-- @tparam any err the member `error` of an answer or of an event of a stream, or a flat answer
function _M.is_missing_deployment(err)
    if type(err) ~= "table" then
        return false
    elseif error_meaning.is(err.code, "deploymentnotfound")
           or error_meaning.is(err.type, "deploymentnotfound")
    then
        return true
    end
    local message = type(err.message) == "string" and lower(sub(err.message, 1, MAX_TEXT)) or ""
    return find(message, "could not find an existing deployment", 1, true) ~= nil
           or find(message, "the api deployment for this resource does not exist", 1, true) ~= nil
end


-- The status that would fit an error; nil: the error goes to the client, for example a filtered
-- prompt. Also returns whether the client is at fault.
local function status_of_error(err, outer)
    if _M.is_missing_deployment(err) then
        return 404, false
    end
    return error_meaning.of(err, outer)
end


local function is_named(err)
    return type(err.code) == "string" or type(err.code) == "number" or type(err.type) == "string"
end


-- The value of `error` as a table; nil: no error.
local function error_in(value, outer)
    if type(value) == "table" then
        if type(value[1]) == "table" then
            value = value[1]
        end
        -- Some backends wrap the body of an error once more.
        local inner = value.error
        if type(inner) == "table" and not is_named(value) then
            value = inner
        end
        return next(value) ~= nil and value or nil
    elseif type(value) == "string" and value ~= "" or type(value) == "number" and value ~= 0 then
        return { code = value, message = outer.message or value, type = outer.type,
                 headers = outer.headers }
    elseif value == true then
        return outer
    end
    return nil
end


-- The error of an answer, an event or a response, under any of its names; nil: none.
local function error_within(body)
    local details = body.status_details
    return error_in(body.error, body)
           or type(body.errors) == "table" and type(body.errors[1]) == "table" and body.errors[1]
           or type(details) == "table" and error_in(details.error, details) or nil
end


-- Some backends send a list with a single error.
local function unlisted(body)
    return type(body) == "table" and type(body[1]) == "table" and body[1] or body
end


-- Members in which an error has a text.
local WORDED = { "code", "message", "status", "status_code", "statusCode", "innererror", "detail",
                 "details" }


-- Whether an error contains any text.
local function has_words(err)
    for _, field in ipairs(WORDED) do
        local value = err[field]
        if type(value) == "number" or type(value) == "string" and value ~= ""
           or type(value) == "table" and next(value) ~= nil
        then
            return true
        end
    end
    local kind = type(err.type) == "string" and lower(err.type) or ""
    return kind ~= "" and kind ~= "error" and not find(kind, "response.", 1, true)
end


-- Whether a failed answer reports, outside of its error, that the prompt was blocked.
local function is_blocked(body)
    local details = body.incomplete_details
    return type(details) == "table" and error_meaning.is_prompt_fault(details.reason)
           or error_meaning.has_blocked(body.content_filters)
end


-- An error without an enclosing `error` member, as API Management writes it.
local function bare_error(body)
    local is_error = body.object == "error"
    local has_text = type(body.message) == "string" or type(body.title) == "string"
                     or body.statusCode ~= nil
    if not is_error and (not has_text or body.object ~= nil) or body.choices ~= nil
       or body.response ~= nil or type(body.type) == "string" and find(body.type, ".", 1, true)
    then
        return nil
    end
    for _, field in ipairs({ "code", "type", "status", "statusCode", "status_code" }) do
        if body[field] ~= nil and error_meaning.of({ [field] = body[field] }) then
            return body
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
                -- The first event of a stream contains only a role, an empty text and nulls.
                if name ~= "role" and value ~= "" and (type(value) == "string"
                                                       or type(value) == "table"
                                                          and next(value) ~= nil) then
                    return true
                end
            end
        end
        if type(choice.text) == "string" and choice.text ~= "" or type(choice.message) == "table"
        then
            return true
        end
        if type(choice.finish_reason) == "string" then
            return true
        end
    end
    return false
end


-- Whether the status of a response or an answer has this value.
local function has_status(body, status)
    return type(body.status) == "string" and lower(body.status) == status
end


-- The name of an event: its own, or the type in its data.
local function kind_of(name, event)
    local kind = type(event) == "table" and type(event.type) == "string" and event.type or name
    return kind and lower(kind)
end


-- The error in an event; nil: not an error. The second result is true if the event reports a
-- failure without any text; the third if the prompt was blocked.
local function error_of(name, event, data)
    local is_error = name and lower(name) == "error"
    if type(event) ~= "table" then
        return is_error and { message = type(event) == "string" and event or data or "" } or nil
    end
    local kind = kind_of(name, event)
    if kind and find(kind, OF_ITEM) then
        -- An error of a tool, for example, is not an error of the answer.
        return nil
    end
    local response = type(event.response) == "table" and event.response or nil
    local err = error_within(event) or response and error_within(response)
    is_error = is_error or kind == "error" or kind == "response.error"
    local has_failed = kind == "response.failed" or response and has_status(response, "failed")
    if (err or is_error or has_failed) and (is_blocked(event) or response and is_blocked(response))
    then
        return err or BLOCKED, false, true
    elseif err then
        return err, has_failed and not has_words(err)
    elseif is_error then
        return event
    elseif has_failed then
        return nil, true
    end
    return bare_error(event)
end


--- The meaning of an event at the beginning of a stream.
-- @tparam string|nil name of the event
-- @tparam any event its data, decoded; nil if that failed
-- @tparam string|nil data as they were sent
-- @treturn string "prelude", "output", "end" (nothing follows) or "error"
-- @treturn number|nil for an error: the status that fits it
-- @treturn table|nil the content of an error, if it has any; with "output" the error goes to the
--   client
-- @treturn boolean|nil with such an error: whether the client is at fault
function _M.of_event(name, event, data)
    event = unlisted(event)
    local err, is_wordless, is_blocked_prompt = error_of(name, event, data)
    if is_wordless then
        return "error", 500
    elseif is_blocked_prompt then
        return "output", nil, err, true
    elseif err then
        local status, is_fault = status_of_error(err, type(event) == "table" and event or nil)
        if not status then
            return "output", nil, err, is_fault
        end
        return "error", status, err
    end

    local kind = kind_of(name, event)
    if kind and PRELUDE[kind] then
        return "prelude"
    elseif type(event) ~= "table" then
        if data and find(data, DONE) then
            return "end"
        elseif data and not find(data, "%S") then
            return "prelude"
        end
        return "output"
    end
    if type(event.choices) == "table" and not has_output(event.choices)
       and type(event.usage) ~= "table"
    then
        return "prelude"
    end
    return "output"
end


--- Whether an event before the first output may occur again, from another backend.
function _M.may_be_repeated(name, event)
    local kind = kind_of(name, event)
    return not kind or PRELUDE[kind] ~= "item"
end


--- Whether an event only shows that its stream is alive.
function _M.is_ping(name, event, data)
    local kind = kind_of(name, event)
    return kind ~= nil and PRELUDE[kind] == true and not find(kind, ".", 1, true)
           or event == nil and data ~= nil and not find(data, "%S")
end


--- Whether a stream may end after an event, and whether it has to go on.
-- @tparam string|nil name of the event
-- @tparam any event its data, decoded
-- @tparam string|nil data as they were sent
-- @treturn boolean whether the stream may end here
-- @treturn boolean whether the stream is incomplete without a later event; after a finish reason or
--   the usage, "[DONE]" may be missing
function _M.is_terminal(name, event, data)
    local kind = kind_of(name, event)
    if kind and TERMINAL[kind] then
        return true, false
    elseif type(event) ~= "table" then
        return data ~= nil and find(data, DONE) ~= nil, false
    end
    local is_of_family = kind ~= nil and FAMILIES[match(kind, "^[^.]*")] == true
    if not is_of_family and event.error ~= nil and error_in(event.error, event) then
        return true, false
    elseif type(event.choices) ~= "table" then
        return false, is_of_family
    end
    if event.choices[1] == nil then
        return false, type(event.usage) ~= "table"
    end
    for _, choice in ipairs(event.choices) do
        if type(choice) == "table" and type(choice.finish_reason) == "string" then
            return false, false
        end
    end
    return false, true
end


--- The failure in the body of a JSON answer with a status of success, such as a response with
-- status "failed".
-- @tparam any body decoded
-- @treturn number|nil the status that fits the failure; nil: the answer goes to the client
-- @treturn table|nil its error, also if the client is at fault; nil: none
function _M.of_body(body)
    body = unlisted(body)
    if type(body) ~= "table" then
        return nil
    end
    for _, field in ipairs(CONTENT) do
        if type(body[field]) == "table" and body[field][1] ~= nil then
            return nil
        end
    end
    if UNFAILED[body.status] or is_blocked(body) then
        return nil
    end
    local err = error_within(body) or bare_error(body)
    if not err or err ~= body and not has_words(err) then
        return has_status(body, "failed") and 500 or nil
    end
    return status_of_error(err, err ~= body and body or nil) or nil, err
end


-- Reasons in ascending order of use to the client. A refusal or a missing deployment is returned
-- only if no backend had another problem, because the others might have answered.
local RANKS = { deployment_not_found = 1, refused = 2, credentials = 3, unreachable = 4,
                failing = 6, throttled = 9 }


--- How useful a failure is to the client, to choose among several: first a throttled backend, then
-- a failing one, then an unreachable one; and an answer before none.
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
