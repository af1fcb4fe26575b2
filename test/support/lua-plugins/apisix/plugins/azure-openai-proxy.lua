--
-- Test stand-in: only carries the schema, and answers itself instead of sending to a backend.
-- It stands in until lua-plugins/ has the real plugin of this name.
--
local core = require("apisix.core")
local plugin = require("apisix.plugin")
local tostring = tostring

local plugin_name = "azure-openai-proxy"
local auth_plugin_name = "azure-openai-auth"


local milliseconds_schema = { type = "integer", minimum = 0 }

local status_schema = { type = "integer", minimum = 400, maximum = 599 }

local name_schema = { type = "string", minLength = 1 }

local identity_schema = {
    type = "object",
    properties = {
        resource = name_schema,
        client_id = name_schema,
    },
    required = { "resource" },
    additionalProperties = false,
}

local backend_schema = {
    type = "object",
    properties = {
        name = name_schema,
        region = name_schema,
        -- the client's name of a deployment to the backend's
        deployments = {
            type = "object",
            minProperties = 1,
            additionalProperties = name_schema,
        },
        identity = identity_schema,
    },
    required = { "name" },
    additionalProperties = false,
}

local health_checks_schema = {
    type = "object",
    properties = {
        scheme = { type = "string", enum = { "http", "https" } },
        path = { type = "string", pattern = "^/" },
        timeout_ms = milliseconds_schema,
        verify_certificate = { type = "boolean" },
        healthy_interval_ms = milliseconds_schema,
        unhealthy_interval_ms = milliseconds_schema,
    },
    required = { "path", "timeout_ms", "verify_certificate",
                 "healthy_interval_ms", "unhealthy_interval_ms" },
    additionalProperties = false,
}

local redis_schema = {
    type = "object",
    properties = {
        host = name_schema,
        port = { type = "integer", minimum = 1, maximum = 65535 },
        username = name_schema,
        password = name_schema,
        database = { type = "integer", minimum = 0 },
        tls = { type = "boolean" },
        timeout_ms = { type = "integer", minimum = 1 },
    },
    required = { "host", "port", "database", "tls", "timeout_ms" },
    additionalProperties = false,
}

local schema = {
    type = "object",
    properties = {
        timeouts = {
            type = "object",
            properties = {
                connect_ms = milliseconds_schema,
                send_ms = milliseconds_schema,
                read_ms = milliseconds_schema,
            },
            required = { "connect_ms", "send_ms", "read_ms" },
            additionalProperties = false,
        },
        retry_statuses = { type = "array", uniqueItems = true, items = status_schema },
        cooldown = {
            type = "object",
            properties = {
                default_ms = milliseconds_schema,
                max_ms = milliseconds_schema,
            },
            required = { "default_ms", "max_ms" },
            additionalProperties = false,
        },
        stream_hold_ms = milliseconds_schema,
        deadline_ms = milliseconds_schema,
        balancer = { type = "string", enum = { "latency" } },
        backend_header = { type = "boolean" },
        e2e_test_mode = { type = "boolean" },
        e2e_path_prefixes = {
            type = "array",
            minItems = 1,
            items = { type = "string", pattern = "^/" },
        },
        backends = { type = "array", minItems = 1, items = backend_schema },
        health_checks = health_checks_schema,
        affinity = {
            type = "object",
            properties = {
                ttl_seconds = { type = "integer", minimum = 1 },
                redis = redis_schema,
            },
            required = { "ttl_seconds" },
            additionalProperties = false,
        },
    },
    required = { "timeouts", "retry_statuses", "cooldown", "stream_hold_ms", "affinity" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    priority = 1045,
    name = plugin_name,
    schema = schema,
}


-- A credential of a consumer carries a key only, so limits are read from the consumer itself.
local function client_conf(ctx)
    local plugins = ctx.consumer and ctx.consumer.plugins
    return plugins and plugins[auth_plugin_name]
end


local function lane(ctx)
    local conf = client_conf(ctx)
    if conf and conf.lane == "low" then
        return "low"
    end

    local asked = core.request.header(ctx, "x-priority")
    if asked and asked:lower() == "low" then
        return "low"
    end

    return "high"
end


local function register_lane(which)
    core.ctx.register_var("genai_lane_" .. which, function(ctx)
        return lane(ctx) == which and which or nil
    end)
    core.ctx.register_var("genai_lane_" .. which .. "_client", function(ctx)
        return lane(ctx) == which and ctx.consumer_name
               and which .. "#" .. ctx.consumer_name or nil
    end)
end


-- A rule's key and its count, both nil for a client without that limit. Rules with the same
-- resolved key would share a counter, hence the prefix.
local function register_limit(key_name, count_name, field)
    core.ctx.register_var(key_name, function(ctx)
        local conf = client_conf(ctx)
        return conf and conf[field] and field .. "#" .. ctx.consumer_name or nil
    end)
    core.ctx.register_var(count_name, function(ctx)
        local conf = client_conf(ctx)
        return conf and conf[field] and tostring(conf[field]) or nil
    end)
end


core.ctx.register_var("genai_client", function(ctx)
    return ctx.consumer_name
end)
register_lane("high")
register_lane("low")
register_limit("genai_client_day", "genai_client_day_tokens", "tokens_per_day")
register_limit("genai_client_minute", "genai_client_minute_tokens", "tokens_per_minute")
register_limit("genai_client_requests", "genai_client_requests_limit", "requests_per_minute")


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.access(conf, ctx)
    plugin.skip_plugin(ctx, "ai-proxy-multi")
    -- ai-rate-limiting, whose turn comes later in this phase, acts only when this is set
    ctx.picked_ai_instance_name = "test"
    ctx.ai_token_usage = { prompt_tokens = 1, completion_tokens = 1, total_tokens = 2 }
    ctx.llm_raw_usage = ctx.ai_token_usage
    ctx.bypass_nginx_upstream = true
end


-- Not in `access`: the limiters have to be passed first.
function _M.before_proxy(conf, ctx)
    core.response.set_header("Content-Type", "application/json")
    return 200, {
        consumer = ctx.consumer_name or core.json.null,
        credential = ctx.consumer and ctx.consumer.credential_id or core.json.null,
    }
end


return _M
