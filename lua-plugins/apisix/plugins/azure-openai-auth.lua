--- Knows clients by their keys or by tokens of an issuer, and keeps their credentials from
-- everything behind it.

local core = require("apisix.core")
local consumer_mod = require("apisix.consumer")
local tokens = require("apisix.plugins.azure-openai-auth.tokens")
local secret = require("apisix.secret")
local secret_files = require("apisix.secret.file")
local errors = require("genai.errors")
local headers_mod = require("genai.headers")
local ngx = ngx
local get_headers = ngx.req.get_headers
local ipairs = ipairs
local pairs = pairs
local type = type
local lower = string.lower
local match = string.match
local sub = string.sub

local plugin_name = "azure-openai-auth"


local schema = {
    type = "object",
    properties = {
        required = { type = "boolean" },
        -- With it, `Authorization: Bearer` is a token of this issuer, and no key.
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


local limit_schema = { type = "integer", minimum = 1 }

local consumer_schema = {
    type = "object",
    properties = {
        key = { type = "string", minLength = 1 },
        lane = { type = "string", enum = { "high", "low" } },
        models = {
            type = "array",
            minItems = 1,
            items = { type = "string", minLength = 1 },
        },
        tokens_per_minute = limit_schema,
        tokens_per_day = limit_schema,
        requests_per_minute = limit_schema,
    },
    required = { "key" },
    encrypt_fields = { "key" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    priority = 2510,
    type = "auth",
    name = plugin_name,
    schema = schema,
    consumer_schema = consumer_schema,
}


function _M.check_schema(conf, schema_type)
    if schema_type == core.schema.TYPE_CONSUMER then
        return core.schema.check(consumer_schema, conf)
    end

    return core.schema.check(schema, conf)
end


function _M.init()
    secret_files.start()
end


-- Keys of all clients, first and second ones, by value. APISIX's own index holds 4,096 of them in
-- a cache and is made anew every 300 s; this one lives as long as the file does, and keys that
-- stand in files do.
local index = { version = nil, clients = {} }


-- A key, and whether it stands in a file.
local function resolved(key)
    if not secret.is_secret_ref(key) then
        return key, false
    end
    if secret_files.is_reference(key) then
        return secret_files.resolve(key), true
    end

    local value = secret.fetch_secrets({ key = key }, false).key
    -- What cannot be resolved comes back as it was: a reference must never be somebody's key.
    return value ~= key and not secret.is_secret_ref(value) and value or nil, false
end


-- Whether a consumer has plugins that APISIX must merge into the route. Without any, APISIX is not
-- told of the consumer: it would make a copy of the route's configuration for each client.
local function has_other_plugins(consumer)
    for name in pairs(consumer.plugins or {}) do
        if name ~= plugin_name then
            return true
        end
    end
    return false
end


local function build_index(conf)
    -- Files may change while it is made.
    local files_version = secret_files.version()
    local clients, shared = {}, {}
    local has_files = false
    for _, consumer in ipairs(conf.nodes) do
        local key, is_from_file = resolved(consumer.auth_conf.key)
        has_files = has_files or is_from_file
        local name = consumer.consumer_name
        if type(key) == "string" and match(key, "%S") then
            local other = clients[key]
            if other and other.name ~= name then
                shared[key] = true
                core.log.error("clients ", other.name, " and ", name, " have the same key:",
                               " it is nobody's until they have not")
            end
            clients[key] = {
                consumer = consumer,
                name = name,
                -- A credential carries a key only: lane, models and limits are its consumer's.
                conf = consumer.plugins and consumer.plugins[plugin_name] or consumer.auth_conf,
                merged = has_other_plugins(consumer),
            }
        else
            core.log.error("a key of client ", name,
                           " cannot be resolved: it is nobody's key until it can")
        end
    end
    for key in pairs(shared) do
        clients[key] = nil
    end
    return {
        version = conf.conf_version,
        clients = clients,
        files_version = has_files and files_version or nil,
    }
end


local function find_client(key)
    local conf = consumer_mod.consumers_conf(plugin_name)
    if not conf then
        return nil
    end
    local files_version = index.files_version
    if index.version ~= conf.conf_version
       or files_version and files_version ~= secret_files.version()
    then
        index = build_index(conf)
    end
    return index.clients[key], conf
end


local function bearer(value)
    return lower(sub(value, 1, 7)) == "bearer " and match(value, "^ *(.*)$", 8) or nil
end


-- The client that a header's value is a key of.
local function identify(name, value)
    if type(value) == "table" then
        for _, each in ipairs(value) do
            local client, conf = identify(name, each)
            if client then
                return client, conf
            end
        end
        return nil
    end
    if type(value) ~= "string" then
        return nil
    end

    -- nginx leaves no space around values.
    local key = value
    if name == "authorization" then
        key = bearer(value)
    end
    if not key or key == "" then
        return nil
    end
    return find_client(key)
end


local function attach(ctx, client, conf)
    ctx.consumer_name = client.name
    ctx.genai_client_name = client.name
    ctx.genai_client = client.conf
    if client.merged then
        ctx.consumer = client.consumer
        ctx.consumer_ver = conf.conf_version
    end
end


-- Subjects are as many as they like, so metrics have one name for all of them. No client can have
-- either name.
local function attach_subject(ctx, subject)
    ctx.consumer_name = "oidc:*"
    ctx.genai_client_name = "oidc:" .. subject
end


local CHALLENGE = 'Bearer realm="genai-gateway"'

local NO_KEY_OR_TOKEN =
    "Access denied: no valid key and no token. Send a token of the issuer as `Authorization:"
    .. " Bearer`, or the gateway's key as `api-key` or `ocp-apim-subscription-key`."


local function refuse(oidc, reason, retry_ms)
    if retry_ms then
        ngx.header["Retry-After"], ngx.header["retry-after-ms"] = errors.retry_after(retry_ms)
        return 503, errors.body(503, "The issuer of tokens cannot be reached now, so the token"
                                     .. " cannot be checked.", "token_issuer_unavailable")
    end
    if reason then
        core.log.info("a token is refused: ", reason)
        core.response.set_header("WWW-Authenticate", CHALLENGE .. ', error="invalid_token",'
                                 .. ' error_description="' .. reason .. '"')
        return 401, errors.body(401, "Access denied: the token is refused: " .. reason .. ".",
                                "invalid_token")
    end

    core.response.set_header("WWW-Authenticate", CHALLENGE)
    return 401, errors.body(401, oidc and NO_KEY_OR_TOKEN or nil)
end


function _M.rewrite(conf, ctx)
    -- All of them: by default headers beyond the hundredth would not be seen.
    local headers = get_headers(0)
    ctx.headers = headers
    local oidc = conf.oidc
    local client, consumers, authorization
    for _, name in ipairs(headers_mod.CREDENTIALS) do
        local value = headers[name]
        if value then
            if oidc and name == "authorization" then
                -- nginx takes one only.
                authorization = value
            elseif not client then
                client, consumers = identify(name, value)
            end
            core.request.set_header(ctx, name, nil)
        end
    end
    -- Only this plugin says who a client is.
    for name in pairs(headers) do
        if sub(name, 1, 11) == "x-consumer-" or name == "x-credential-identifier" then
            core.request.set_header(ctx, name, nil)
        end
    end

    if client then
        -- Whatever becomes of the issuer, a key is enough.
        attach(ctx, client, consumers)
        return
    end

    local reason, retry_ms
    local token = authorization and bearer(authorization)
    if token then
        local subject
        subject, reason, retry_ms = tokens.subject(oidc, token)
        if subject then
            attach_subject(ctx, subject)
            return
        end
    end

    if conf.required then
        return refuse(oidc, reason, retry_ms)
    end
end


return _M
