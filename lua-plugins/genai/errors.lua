--- The one shape of all errors that the gateway itself makes: OpenAI's.

local ceil = math.ceil
local find = string.find
local max = math.max
local type = type

-- What JSON's null is to the encoder; plain LuaJIT has none.
local null = ngx and ngx.null

local _M = {}

local TYPES = {
    [400] = "invalid_request_error",
    -- As the SDKs that look at it know it. `invalid_request_error` is taken for a refused prompt.
    [401] = "authentication_error",
    [403] = "permission_error",
    [404] = "not_found_error",
    [405] = "invalid_request_error",
    [408] = "timeout_error",
    [413] = "invalid_request_error",
    [414] = "invalid_request_error",
    [429] = "rate_limit_error",
    [431] = "invalid_request_error",
}

local CODES = {
    [400] = "bad_request",
    [401] = "invalid_api_key",
    [403] = "forbidden",
    [404] = "not_found",
    [405] = "method_not_allowed",
    [408] = "request_timeout",
    [413] = "request_too_large",
    [414] = "request_target_too_long",
    [429] = "rate_limit_exceeded",
    [431] = "request_headers_too_large",
    [500] = "gateway_error",
    [502] = "upstream_unreachable",
    [503] = "unavailable",
    [504] = "upstream_timeout",
}

local MESSAGES = {
    [400] = "The request could not be understood.",
    [401] = "Access denied: no valid key. Send the gateway's key as `Authorization: Bearer`,"
            .. " `api-key` or `ocp-apim-subscription-key`.",
    [403] = "This is not allowed.",
    [404] = "There is nothing at this path. The gateway serves /openai/v1/… and /openai/….",
    [408] = "The request took too long to arrive.",
    [413] = "The request body is larger than this gateway takes.",
    [429] = "Too many requests.",
    [500] = "The gateway failed to handle the request.",
    [502] = "No backend could be reached.",
    [503] = "The gateway cannot take this request now.",
    [504] = "No backend answered in time.",
}


--- An error's body.
-- @tparam number status
-- @tparam string|nil message a sentence for whoever reads it; by default what the status says
-- @tparam string|nil code for programs
function _M.body(status, message, code)
    return {
        error = {
            message = message or MESSAGES[status] or "The request failed.",
            type = TYPES[status] or (status >= 500 and "server_error" or "invalid_request_error"),
            param = null,
            code = code or CODES[status] or "error",
        },
    }
end


--- Whether a body has the shape already.
function _M.is_shaped(body)
    return type(body) == "table" and type(body.error) == "table"
           and type(body.error.message) == "string"
end


--- An error of any plugin in the shape. What a plugin says is kept where it is said to a client.
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


--- Statuses after which a client may try again.
function _M.is_retryable(status)
    return status == 408 or status == 429 or status == 502 or status == 503 or status == 504
end


--- Headers that say when to try again.
-- @tparam number milliseconds
-- @treturn string `Retry-After`, in whole seconds, at least one
-- @treturn string `retry-after-ms`
function _M.retry_after(milliseconds)
    local whole = max(1, ceil(milliseconds))
    return ("%d"):format(ceil(whole / 1000)), ("%d"):format(whole)
end


return _M
