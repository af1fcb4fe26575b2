--- Knows clients by their keys, and keeps their credentials from everything behind it.

local core = require("apisix.core")
local consumer_mod = require("apisix.consumer")
local secret = require("apisix.secret")
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


-- Keys of all clients, first and second ones, by value. APISIX's own index holds 4,096 of them in
-- a cache and is made anew every 300 s; this one lives as long as the file does.
local index = { version = nil, clients = {} }


local function resolved(key)
    if not secret.is_secret_ref(key) then
        return key
    end

    local value = secret.fetch_secrets({ key = key }, false).key
    -- What cannot be resolved comes back as it was: a reference must never be somebody's key.
    return value ~= key and not secret.is_secret_ref(value) and value or nil
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
    local clients = {}
    for _, consumer in ipairs(conf.nodes) do
        local key = resolved(consumer.auth_conf.key)
        if type(key) == "string" and match(key, "%S") then
            clients[key] = {
                consumer = consumer,
                name = consumer.consumer_name,
                -- A credential carries a key only: lane, models and limits are its consumer's.
                conf = consumer.plugins and consumer.plugins[plugin_name] or consumer.auth_conf,
                merged = has_other_plugins(consumer),
            }
        else
            core.log.error("a key of client ", consumer.consumer_name,
                           " cannot be resolved: it is nobody's key until it can")
        end
    end
    return clients
end


local function find_client(key)
    local conf = consumer_mod.consumers_conf(plugin_name)
    if not conf then
        return nil
    end
    if index.version ~= conf.conf_version then
        index = { version = conf.conf_version, clients = build_index(conf) }
    end
    return index.clients[key], conf
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
        if lower(sub(value, 1, 7)) ~= "bearer " then
            return nil
        end
        key = match(value, "^ *(.*)$", 8)
    end
    if key == "" then
        return nil
    end
    return find_client(key)
end


local function attach(ctx, client, conf)
    ctx.consumer_name = client.name
    ctx.genai_client = client.conf
    if client.merged then
        ctx.consumer = client.consumer
        ctx.consumer_ver = conf.conf_version
    end
end


function _M.rewrite(conf, ctx)
    -- All of them: by default headers beyond the hundredth would not be seen.
    local headers = get_headers(0)
    ctx.headers = headers
    local client, consumers
    for _, name in ipairs(headers_mod.CREDENTIALS) do
        local value = headers[name]
        if value then
            if not client then
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
        attach(ctx, client, consumers)
        return
    end

    if conf.required then
        core.response.set_header("WWW-Authenticate", 'Bearer realm="genai-gateway"')
        return 401, errors.body(401)
    end
end


return _M
