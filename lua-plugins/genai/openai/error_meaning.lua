--- The meaning of an answer's error in any spelling: the status that would fit it.
--
-- Azure, OpenAI, API Management and servers of models behind them name the same failures in many
-- ways: `too_many_requests`, `TooManyRequests`, `Too Many Requests`, 429, "429", in `code`, `type`,
-- `status` or only in the message. Words are compared without case and punctuation.

local find = string.find
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

-- A longer code is treated as a text.
local MAX_WORD = 256

-- A longer message is treated as a sentence.
local MAX_NAME = 40

-- Only the beginning of a longer message is examined.
local MAX_MESSAGE = 4096

-- The client's fault: no other backend would answer differently.
local FAULT = "fault"

-- The fields of an error that may name it, the most precise first.
local FIELDS = { "code", "type", "status", "status_code", "statusCode", "http_status",
                 "httpStatus" }

-- Parts of codes and their meanings; the first match counts.
local WORDS = {
    -- Faults of the prompt. Their type may be that of a backend's failure.
    { FAULT, { "contentfilter", "contentpolicy", "contentmanagement", "policyviolation",
               "responsibleai", "moderation", "safety", "guardrail", "jailbreak", "cyberpolicy",
               "contextlength", "contextwindow", "invalidprompt", "stringabovemax", "toolong",
               "toolarge", "toosmall", "todownload" } },
    { 401, { "invalidapikey", "unauthorized", "unauthenticated", "authentication",
             "invalidtoken" } },
    { 403, { "forbidden", "accessdenied", "permission", "authorizationfailed",
             "notauthorized" } },
    { 429, { "ratelimit", "toomanyrequest", "toomanyconcurrent", "throttl", "quota", "capacity",
             "resourceexhausted", "requestlimit", "concurrencylimit", "usagelimit", "slowdown" } },
    { 503, { "overload", "unavailable", "nokvspace", "serverbusy", "enginebusy", "modelbusy",
             "notready", "insufficientresource" } },
    { 408, { "requesttimeout" } },
    { 504, { "timeout", "timedout", "deadlineexceeded" } },
    { 502, { "badgateway", "upstreamerror" } },
    { 500, { "servererror", "internalerror", "internalfailure", "internalserver", "engineerror",
             "backenderror", "backendfailure", "serviceerror", "modelerror", "apierror" } },
    { FAULT, { "usererror", "clienterror", "badrequest", "unprocessable", "invalid",
               "unsupported", "notsupported", "notfound", "unknownparameter", "conflict" } },
}

local PROMPT_WORDS = { WORDS[1] }

-- Phrases in messages about filtered prompts; they count whatever code the error has.
local FILTER_PHRASES = { { FAULT, { "content management policy" } } }

-- Phrases in messages of throttled and failing backends; they count if no field names the error.
local PHRASES = {
    { FAULT, { "content management policy", "content filter", "content policy",
               "context length" } },
    { 429, { "too many requests", "rate limit", "exceeded call rate", "exceeded token rate",
             "exceeded your current quota", "maximum usage size allowed during peak",
             "experiencing high demand", "try again in", "retry after" } },
    { 503, { "overloaded", "temporarily unavailable", "service unavailable", "no capacity",
             "server is busy", "no healthy upstream", "currently unable to" } },
    { 502, { "upstream connect error" } },
    { 504, { "timed out", "gateway timeout", "operation was timeout" } },
    { 500, { "internal server error", "internal error", "server had an error",
             "error occurred while processing your request" } },
}


-- A code in its form for comparison: "TooManyRequests", "too-many_requests" and "Too many requests"
-- are equal.
local function plain(text)
    return (gsub(lower(sub(text, 1, MAX_WORD)), "[^%w]+", ""))
end


local function found_in(text, list)
    for _, each in ipairs(list) do
        for _, words in ipairs(each[2]) do
            if find(text, words, 1, true) then
                return each[1]
            end
        end
    end
    return nil
end


local function of_number(number)
    if number == 401 or number == 403 or number == 408 or number == 429
       or number >= 500 and number < 600
    then
        return number
    end
    return number >= 400 and number < 500 and FAULT or nil
end


-- The meaning of a field's value: a status, FAULT, or nil.
local function of_value(value)
    local number = tonumber(value)
    if number then
        return of_number(number)
    elseif type(value) ~= "string" then
        return nil
    end
    local word = plain(value)
    local meaning = found_in(word, WORDS)
    if meaning then
        return meaning
    elseif word == "internal" then
        return 500
    end
    -- "http_503", "429 - busy"
    local digits = match(word, "^%a*([45]%d%d)%a*$")
    return digits and of_number(tonumber(digits)) or nil
end


local function inner_of(err)
    local inner = err.innererror or err.inner_error or err.innerError
    return type(inner) == "table" and inner or nil
end


-- The details of an error, if they are an error as well.
local function detail_of(err)
    local details = err.details
    return type(details) == "table" and type(details[1]) == "table" and details[1] or nil
end


--- Whether a code names a fault of the prompt, which takes precedence over other fields.
function _M.is_prompt_fault(value)
    return type(value) == "string" and found_in(plain(value), PROMPT_WORDS) == FAULT
end


local is_prompt_fault = _M.is_prompt_fault


--- Whether a list of content filter results contains a blocking one.
function _M.has_blocked(filters)
    for _, each in ipairs(type(filters) == "table" and filters or {}) do
        if type(each) == "table" and each.blocked == true then
            return true
        end
    end
    return false
end


-- Whether an error or its details are about the prompt.
local function is_about_prompt(err)
    return is_prompt_fault(err.code) or is_prompt_fault(err.type)
           or err.content_filter_result ~= nil or _M.has_blocked(err.content_filters)
           or type(err.message) == "string"
              and found_in(lower(sub(err.message, 1, MAX_MESSAGE)), FILTER_PHRASES) == FAULT
end


--- The meaning of an error.
-- @tparam table err the member `error` of an answer or an event, or a flat one
-- @tparam table|nil outer the object that contains it, which may have a status as well
-- @treturn number|nil the status that fits the error; nil: it is the client's fault, or unknown
-- @treturn boolean whether the client is at fault
function _M.of(err, outer)
    local sources, count = { err }, 1
    for _, each in ipairs({ inner_of(err) or false, detail_of(err) or false,
                            outer ~= err and outer or false }) do
        if each then
            count = count + 1
            sources[count] = each
        end
    end
    for _, each in ipairs(sources) do
        if each ~= outer and is_about_prompt(each) then
            return nil, true
        end
    end
    for _, each in ipairs(sources) do
        for _, field in ipairs(FIELDS) do
            local meaning = of_value(each[field])
            if meaning == FAULT then
                return nil, true
            elseif meaning then
                return meaning, false
            end
        end
    end
    local message = err.message or outer and outer.message
    local meaning
    if type(message) == "string" then
        -- A short message may be just the name of the error.
        meaning = found_in(lower(sub(message, 1, MAX_MESSAGE)), PHRASES)
                  or #message <= MAX_NAME and of_value(message)
    end
    if meaning == FAULT then
        return nil, true
    end
    return meaning or nil, false
end


--- Whether a code equals a word in any spelling.
-- @tparam any code
-- @tparam string word in lower case, without punctuation
function _M.is(code, word)
    return type(code) == "string" and plain(code) == word
end


return _M
