--- Builds a record of a request for the table of API Management's gateway logs. Headers and
-- parameters are included only by name, because others may contain secrets.

local date = os.date
local find = string.find
local floor = math.floor
local gmatch = string.gmatch
local gsub = string.gsub
local lower = string.lower
local ipairs = ipairs
local match = string.match
local pairs = pairs
local tostring = tostring
local type = type

local memo = require("genai.util.memo")
local texts = require("genai.util.texts")

local _M = {}

-- Columns of type dynamic hold 64 KB, and a batch must have room for several records.
_M.MAX_BODY = 32 * 1024

local MAX_PATH = 2048
local MAX_NAME = 256
local MAX_ID = 128
local MAX_HEADER = 1024
local MAX_HEADERS = 64

--- The backend of a record without a call: the whole pool.
local POOL = "pool"


local function set(names)
    local members = {}
    for _, name in ipairs(names) do
        members[name] = true
    end
    return members
end


local REQUEST_HEADERS = set({
    "accept", "accept-language", "content-encoding", "content-length", "content-type", "host",
    "openai-beta", "traceparent", "transfer-encoding", "user-agent", "x-conversation-id",
    "x-correlation-id", "x-forwarded-for", "x-forwarded-proto", "x-ms-client-request-id",
    "x-priority", "x-request-id",
})

local RESPONSE_HEADERS = set({
    "apim-request-id", "azureml-model-session", "content-encoding", "content-length",
    "content-type", "openai-model", "openai-processing-ms", "openai-version", "retry-after",
    "retry-after-ms", "transfer-encoding", "x-envoy-upstream-service-time",
    "x-ms-client-request-id", "x-ms-deployment-name", "x-ms-rai-invoked", "x-ms-region",
    "x-request-id",
})

local is_request_header = memo.of(function(name)
    return REQUEST_HEADERS[name] or find(name, "^x%-stainless%-[%w-]*$") ~= nil
end)

local is_response_header = memo.of(function(name)
    return RESPONSE_HEADERS[name] or find(name, "ratelimit-", 1, true) ~= nil
           or find(name, "^x%-gw%-[%w-]*$") ~= nil or find(name, "^x%-gateway%-[%w-]*$") ~= nil
end)


local function bounded(value, limit)
    return value ~= nil and value ~= "" and texts.of(tostring(value), limit) or nil
end


-- Selected headers by lower-case name; the first value of a repeated header.
local function headers_of(all, is_kept)
    local kept, count = {}, 0
    for name, value in pairs(all) do
        local key = lower(name)
        if count < MAX_HEADERS and #key <= MAX_ID and is_kept(key) then
            value = type(value) == "table" and value[1] or value
            if type(value) ~= "boolean" then
                kept[key] = bounded(value, MAX_HEADER)
                count = count + 1
            end
        end
    end
    return kept
end


-- The URL without its query. Only an API version is kept, and only if it looks like one, because
-- clients put keys into queries.
local function url_of(path, query)
    path = texts.of(path, MAX_PATH)
    for value in gmatch(query or "", "[^&]+") do
        local version = match(value, "^api%-version=([%w-]+)$")
        if version and (find(version, "^%d%d%d%d%-%d%d%-%d%d$")
                        or find(version, "^%d%d%d%d%-%d%d%-%d%d%-preview$")
                        or version == "preview" or version == "latest" or version == "v1")
        then
            return path .. "?api-version=" .. version
        end
    end
    return path
end


local cached_second, cached_text


local function timestamp(seconds)
    local second = floor(seconds)
    if second ~= cached_second then
        cached_second, cached_text = second, date("!%Y-%m-%dT%H:%M:%S", second)
    end
    return ("%s.%03dZ"):format(cached_text, floor((seconds - second) * 1000))
end


local API_IDS = { chat_completions = "openai-chat" }

local api_id = memo.of(function(operation)
    return API_IDS[operation] or "openai-" .. gsub(operation, "_", "-")
end)


local function operation_of(target)
    if not target then
        return "other"
    elseif target.operation == "responses" and not target.generates then
        return "responses_manage"
    end
    return target.operation
end


-- The backend whose answer the client got, and its status. A backend that did not answer has no
-- status.
local function backend_of(seen)
    if not seen.reached_pool then
        return nil
    elseif seen.is_answered then
        return seen.last_backend, seen.gateway_status
    end

    local failure = seen.gateway_status and seen.failure
    if failure and failure.backend then
        return failure.backend.name, failure.headers and failure.status or nil
    end
    return seen.attempts > 0 and seen.last_backend or POOL
end


local function reason_of(seen)
    if seen.broken_by == "client" or seen.status == 499 then
        return "ClientConnectionFailure"
    elseif seen.broken_by == "backend" then
        return "BackendConnectionFailure"
    end
    return nil
end


-- The model that an answer names, if it is neither `ModelName` nor a version of it: a router chose
-- it.
local function other_model(answered, asked)
    if answered and asked and find(lower(answered), lower(asked), 1, true) == 1 then
        return nil
    end
    return answered
end


--- Makes a record.
-- @tparam table seen the request's data: `started_at` in seconds since the epoch, `total_ms`,
--   `status`, `method`, `path`, `query`, `client_ip`, `correlation_id`, `request_id`, `client`,
--   `target` (as `genai.openai.targets` reads it), `request_headers`, `response_headers`,
--   `request_body`, `lane`, `pool`; `reached_pool`, and then `attempts`, `is_answered`, `broken_by`
--   ("backend", "client", nil: not broken), `last_backend`, `gateway_status`, `failure`,
--   `backend_ms`, `deployment`, `model`, `stream`, `first_output_ms`, `usage`, `estimated_tokens`,
--   `answer_model`, `service_tier`, `is_spilled`, `cache`, `saved_prompt_tokens`,
--   `saved_completion_tokens`
-- @tparam table conf `gateway_id`, `product_id`
-- @treturn table by column name
function _M.of(seen, conf)
    local operation = operation_of(seen.target)
    local backend, backend_status = backend_of(seen)
    local usage = seen.usage or {}
    return {
        TimeGenerated = timestamp(seen.started_at),
        OperationName = operation,
        ApiId = api_id(seen.target and seen.target.operation or operation),
        ProductId = conf.product_id,
        SubscriptionId = bounded(seen.client, MAX_NAME),
        BackendId = backend,
        ResponseCode = seen.status,
        BackendResponseCode = backend_status,
        TotalTime = seen.total_ms,
        BackendTime = seen.attempts and seen.attempts > 0 and seen.backend_ms or nil,
        Method = seen.method,
        Url = url_of(seen.path, seen.query),
        GatewayId = conf.gateway_id,
        CallerIpAddress = seen.client_ip,
        CorrelationId = bounded(seen.correlation_id, MAX_ID),
        RequestId = seen.request_id,
        RequestHeaders = headers_of(seen.request_headers, is_request_header),
        ResponseHeaders = headers_of(seen.response_headers, is_response_header),
        RequestBody = seen.request_body,
        -- in addition to the accelerator's columns, by API Management's names
        LastErrorReason = reason_of(seen),
        DeploymentName = bounded(seen.deployment, MAX_NAME),
        ModelName = bounded(seen.model, MAX_NAME),
        IsStreamCompletion = seen.stream,
        PromptTokens = usage.prompt,
        CompletionTokens = usage.completion,
        TotalTokens = usage.total,
        CachedTokens = usage.cached,
        ReasoningTokens = usage.reasoning,
        EstimatedTokens = seen.estimated_tokens,
        AnswerModelName = bounded(other_model(seen.answer_model, seen.model), MAX_NAME),
        ServiceTier = seen.service_tier,
        IsSpilledOver = seen.is_spilled,
        TimeToFirstToken = seen.first_output_ms,
        Cache = seen.cache,
        SavedPromptTokens = seen.saved_prompt_tokens,
        SavedCompletionTokens = seen.saved_completion_tokens,
        Attempts = seen.attempts,
        Lane = seen.lane,
        Pool = seen.pool,
    }
end


return _M
