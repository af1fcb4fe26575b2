--- Authenticates clients by key, or by a token of a configured OIDC issuer.

local authentication_failures = require("gateway.credentials.authentication_failures")
local client_index = require("gateway.credentials.client_index")
local core = require("apisix.core")
local metrics = require("gateway.metrics")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local oidc_tokens = require("gateway.credentials.oidc_tokens")
local secret_files = require("gateway.credentials.secret_files")
local errors = require("genai.openai.errors")
local presented = require("gateway.credentials.presented")
local ngx = ngx

local schema = {
    type = "object",
    properties = {
        required = { type = "boolean" },
        -- With this setting, `Authorization: Bearer` carries a token of this issuer and never a
        -- key.
        oidc = {
            type = "object",
            properties = {
                discovery = { type = "string", minLength = 1 },
                audiences = {
                    type = "array",
                    minItems = 1,
                    items = { type = "string", minLength = 1 },
                },
            },
            required = { "discovery", "audiences" },
            additionalProperties = false,
        },
    },
    required = { "required" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    priority = 2510,
    name = "azure-openai-auth",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.init()
    secret_files.start()
    client_index.start()
end


local function attach(ctx, client)
    local record = request_record.of(ctx)
    record.client, record.client_name = client, client.name
    request_context.attach_consumer(ctx, client.name)
end


-- The number of subjects is unbounded, so metrics use one name for all of them. No client can be
-- named like a subject or like that name.
local function attach_subject(ctx, subject)
    request_record.of(ctx).client_name = "oidc:" .. subject
    request_context.attach_consumer(ctx, "oidc:*")
end


local CHALLENGE = 'Bearer realm="genai-gateway"'

local NO_KEY_OR_TOKEN =
    "Access denied: no valid key and no token. Send a token of the issuer as `Authorization:"
    .. " Bearer`, or the gateway's key as `api-key`, `x-api-key` or `ocp-apim-subscription-key`."

local IN_QUERY =
    "Access denied: no valid key. A key in the query is not accepted, because queries are kept in"
    .. " many logs. Send it as `api-key`, or as `Authorization: Bearer`."


local TOO_MANY_FAILURES =
    "Too many requests without a valid key come from this address. A valid key is still accepted."


-- Retry delay for clients while a new worker waits for apisix.yaml, which is just being written.
local NOT_LOADED_RETRY_MS = 1000


-- The answer while the gateway cannot check credentials.
local function unavailable(message, code, retry_ms)
    ngx.header["Retry-After"], ngx.header["retry-after-ms"] = errors.retry_after(retry_ms)
    return 503, errors.body(503, message, code)
end


-- The answer to a client without a valid credential. `credential` is what the client sent: "none",
-- "key" or "token".
local function refuse(ctx, record, oidc, credential, reason)
    metrics.authentication_failed(credential)
    local wait_ms = credential ~= "none"
                    and authentication_failures.count(ctx.var.binary_remote_addr)
    if wait_ms then
        ngx.header["Retry-After"], ngx.header["retry-after-ms"] = errors.retry_after(wait_ms)
        return 429, errors.body(429, TOO_MANY_FAILURES, errors.CODE.too_many_failed_authentications)
    elseif reason then
        core.log.info("a token is rejected: ", reason)
        core.response.set_header("WWW-Authenticate", CHALLENGE .. ', error="invalid_token",'
                                 .. ' error_description="' .. reason .. '"')
        return 401, errors.body(401, "Access denied: the token is rejected: " .. reason .. ".",
                                errors.CODE.invalid_token)
    end

    core.response.set_header("WWW-Authenticate", CHALLENGE)
    return 401, errors.body(401, record.has_key_in_query and IN_QUERY
                                 or oidc and NO_KEY_OR_TOKEN or nil)
end


function _M.rewrite(conf, ctx)
    local record = presented.take(ctx)
    local oidc, token = conf.oidc, record.bearer
    if token == "" then
        token = nil
    end
    local client = not oidc and token and client_index.find(token) or record.key_client
    if client then
        -- A valid key needs no issuer, so check keys first.
        attach(ctx, client)
        return
    end

    local credential = record.has_credential and "key" or "none"
    local reason, retry_ms
    if oidc and token then
        local subject
        credential = "token"
        subject, reason, retry_ms = oidc_tokens.subject(oidc, token)
        if subject then
            attach_subject(ctx, subject)
            return
        end
    end

    if not conf.required then
        return
    elseif not client_index.is_loaded() then
        return unavailable("The gateway has not loaded its clients yet.",
                           errors.CODE.clients_not_loaded, NOT_LOADED_RETRY_MS)
    elseif retry_ms then
        return unavailable("The token cannot be checked, because the token issuer cannot be"
                           .. " reached now.", errors.CODE.token_issuer_unavailable, retry_ms)
    end
    return refuse(ctx, record, oidc, credential, reason)
end


return _M
