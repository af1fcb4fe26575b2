--- A request as a record of the table that API Management's users know. What may hold a secret is
-- not looked at: headers and parameters pass by name, all others do not.

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

local memo = require("genai.memo")
local texts = require("genai.text")

local _M = {}

-- Columns of the type dynamic hold 64 KB, and a record is to leave room for others in a batch.
_M.MAX_BODY = 32 * 1024

local MAX_PATH = 2048
local MAX_NAME = 256
local MAX_ID = 128
local MAX_HEADER = 1024
local MAX_HEADERS = 64

--- Where no backend was called: the request was for any of them.
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


-- Headers by their names in lower case; of one that came more than once the first value.
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


-- The target without its query, of which only a version of the API is told, and only what looks
-- like one: clients put keys there.
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


-- Whose answer the client got: its backend, and the status it had there. A backend that was called
-- and did not answer has none.
local function backend_of(seen)
    if not seen.reached_pool then
        return nil
    elseif seen.is_answered then
        return seen.last_backend, seen.gateway_status
    end

    local failure = seen.gateway_status and seen.failure
    if failure and failure.backend then
        return failure.backend, failure.headers and failure.status or nil
    end
    return seen.attempts > 0 and seen.last_backend or POOL
end


-- An answer that was not handed on to its end by anybody's fault that could be told was ended with
-- its request: nginx saw the client go.
local function reason_of(seen)
    if seen.broken_by == "client" or seen.status == 499
       or seen.is_answered and seen.broken_by == nil
    then
        return "ClientConnectionFailure"
    elseif seen.broken_by == "backend" then
        return "BackendConnectionFailure"
    end
    return nil
end


--- Makes a record.
-- @tparam table seen what was seen of the request: `started_at` in seconds since the epoch,
--   `total_ms`, `status`, `method`, `path`, `query`, `client_ip`, `correlation_id`, `request_id`,
--   `client`, `target` (as `genai.target` reads it), `request_headers`, `response_headers`,
--   `request_body`, `lane`; `reached_pool`, and then `attempts`, `is_answered`, `broken_by`
--   ("backend", "client", false: nobody), `last_backend`, `gateway_status`, `failure`,
--   `backend_ms`, `deployment`, `model`, `stream`, `first_output_ms`, `usage`, `estimated_tokens`
-- @tparam table conf `gateway_id`, `product_id`
-- @treturn table by the names of columns
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
        -- beyond the accelerator's columns, by the names that API Management has for them
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
        TimeToFirstToken = seen.first_output_ms,
        Attempts = seen.attempts,
        Lane = seen.lane,
    }
end


return _M
