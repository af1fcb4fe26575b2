--- The shape of all errors that the gateway itself makes: OpenAI's.

local ceil = math.ceil
local error = error
local find = string.find
local ipairs = ipairs
local max = math.max
local setmetatable = setmetatable
local tostring = tostring
local type = type

-- JSON's null for the encoder; plain LuaJIT has none.
local null = ngx and ngx.null

local _M = {}

local TYPES = {
    [400] = "invalid_request_error",
    -- The type that SDKs expect. SDKs treat `invalid_request_error` as a refused prompt.
    [401] = "authentication_error",
    [403] = "permission_error",
    [404] = "not_found_error",
    [405] = "invalid_request_error",
    [408] = "timeout_error",
    [413] = "invalid_request_error",
    [414] = "invalid_request_error",
    [415] = "invalid_request_error",
    [426] = "invalid_request_error",
    [429] = "rate_limit_error",
    [431] = "invalid_request_error",
}

--- Every code of an error that the gateway itself makes; compiler/client-errors.ts describes them.
-- Reading an undeclared code is a defect of the caller and throws.
_M.CODE = setmetatable({}, {
    __index = function(_, name)
        error("errors.CODE has no " .. tostring(name), 2)
    end,
})
for _, name in ipairs({
    "bad_request", "invalid_request", "invalid_request_target", "invalid_content_encoding",
    "duplicate_member", "nesting_too_deep", "name_too_long", "invalid_api_key", "invalid_token",
    "forbidden", "model_not_allowed", "pool_not_allowed", "upstream_refused", "not_found",
    "DeploymentNotFound", "model_not_found", "method_not_allowed", "request_timeout",
    "request_too_large",
    "request_target_too_long", "unsupported_content_encoding", "websocket_not_supported",
    "rate_limit_exceeded", "too_many_failed_authentications", "request_headers_too_large",
    "gateway_error", "upstream_unreachable", "upstream_empty", "upstream_redirect",
    "upstream_credentials", "unavailable", "upstream_unavailable", "clients_not_loaded",
    "token_issuer_unavailable", "body_memory_exhausted", "body_storage_full",
    "upstream_timeout", "unknown_backend", "invalid_shared_secret",
}) do
    _M.CODE[name] = name
end
local CODE = _M.CODE

-- The code for a status, if no more precise one is known.
local CODE_OF_STATUS = {
    [400] = CODE.bad_request,
    [401] = CODE.invalid_api_key,
    [403] = CODE.forbidden,
    [404] = CODE.not_found,
    [405] = CODE.method_not_allowed,
    [408] = CODE.request_timeout,
    [413] = CODE.request_too_large,
    [414] = CODE.request_target_too_long,
    [415] = CODE.unsupported_content_encoding,
    [426] = CODE.websocket_not_supported,
    [429] = CODE.rate_limit_exceeded,
    [431] = CODE.request_headers_too_large,
    [500] = CODE.gateway_error,
    [502] = CODE.upstream_unreachable,
    [503] = CODE.unavailable,
    [504] = CODE.upstream_timeout,
}

local MESSAGES = {
    [400] = "The request could not be understood.",
    [401] = "Access denied: no valid key. Send the gateway's key as `Authorization: Bearer`,"
            .. " `api-key`, `x-api-key` or `ocp-apim-subscription-key`.",
    [403] = "This request is not allowed.",
    [404] = "There is nothing at this path. The gateway serves /openai/v1/… and /openai/…."
            .. " Set the base URL of an OpenAI client to https://<gateway>/openai/v1, or the"
            .. " endpoint of an Azure OpenAI client to https://<gateway>.",
    [408] = "The request took too long to arrive.",
    [413] = "The request body is larger than this gateway accepts.",
    [426] = "The gateway does not serve WebSockets. Send the request over HTTP; a stream comes as"
            .. " server-sent events.",
    [429] = "Too many requests.",
    [500] = "The gateway failed to handle the request.",
    [502] = "No backend could be reached.",
    [503] = "The gateway cannot handle this request now.",
    [504] = "No backend answered in time.",
}


--- An error's body.
-- @tparam number status
-- @tparam string|nil message a sentence for people; by default the one of the status
-- @tparam string|nil code for programs
function _M.body(status, message, code)
    return {
        error = {
            message = message or MESSAGES[status] or "The request failed.",
            type = TYPES[status] or (status >= 500 and "server_error" or "invalid_request_error"),
            param = null,
            code = code or CODE_OF_STATUS[status] or "error",
        },
    }
end


--- Whether a body already has this shape.
function _M.is_shaped(body)
    return type(body) == "table" and type(body.error) == "table"
           and type(body.error.message) == "string"
end


--- Converts an error of any plugin into this shape. The plugin's message is kept if it is addressed
-- to a client.
-- @tparam number status
-- @tparam any body a table, a text or nil
function _M.shaped(status, body)
    if _M.is_shaped(body) then
        return body
    end

    local message
    if type(body) == "table" then
        message = body.message or body.error_msg or body.error
    else
        message = body
    end
    if type(message) ~= "string" or message == "" or find(message, "^%s*<")
       or message == "404 Route Not Found"
    then
        message = nil
    end
    return _M.body(status, message)
end


-- Operations whose streams send errors as unnamed events.
local NAMELESS = { chat_completions = true, completions = true }


--- An error as the last event of a stream.
-- @tparam string operation as `genai.openai.targets` names it
-- @tparam table body of an error, as `body` makes it
-- @treturn string|nil the event's name; nil: none
-- @treturn table its data
function _M.event(operation, body)
    local err = body.error
    if NAMELESS[operation] then
        return nil, { error = err }
    end
    -- OpenAI documents a flat error, Azure sends a nested one, and SDKs read either.
    return "error", { type = "error", code = err.code, message = err.message,
                      param = err.param == nil and null or err.param, sequence_number = 0,
                      error = err }
end


--- Whether a client may retry after a status.
function _M.is_retryable(status)
    return status == 408 or status == 429 or status == 502 or status == 503 or status == 504
end


--- Headers that name the delay before a retry.
-- @tparam number milliseconds
-- @treturn string `Retry-After`, in whole seconds, at least one
-- @treturn string `retry-after-ms`
function _M.retry_after(milliseconds)
    local whole = max(1, ceil(milliseconds))
    return ("%d"):format(ceil(whole / 1000)), ("%d"):format(whole)
end


return _M
