--- The configuration of azure-openai-proxy in apisix.yaml.

local milliseconds_schema = { type = "integer", minimum = 0 }

local status_schema = { type = "integer", minimum = 400, maximum = 599 }

local name_schema = { type = "string", minLength = 1 }

local setting_schema = { type = "string", pattern = "^[A-Z][A-Z0-9_]*$" }

local redis_schema = {
    type = "object",
    properties = {
        host = name_schema,
        port = { type = "integer", minimum = 1, maximum = 65535 },
        username = name_schema,
        password = name_schema,
        -- the setting whose file contains the password, in place of `password`
        password_setting = setting_schema,
        database = { type = "integer", minimum = 0 },
        tls = { type = "boolean" },
        timeout_ms = { type = "integer", minimum = 1 },
    },
    required = { "host", "port", "database", "tls", "timeout_ms" },
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
        -- the setting whose file contains the instance's key; needed because the value that APISIX
        -- resolves may be minutes old
        key_setting = setting_schema,
        -- the identity whose Entra ID token is sent, if the instance has no credential
        identity = {
            type = "object",
            properties = {
                resource = name_schema,
                client_id = name_schema,
            },
            required = { "resource" },
            additionalProperties = false,
        },
    },
    required = { "name" },
    additionalProperties = false,
}

local metrics_schema = {
    type = "object",
    properties = {
        -- names of models that are label values, in addition to those of the backends' deployments
        models = { type = "array", minItems = 1, items = name_schema },
    },
    additionalProperties = false,
}

local cache_schema = {
    type = "object",
    properties = {
        -- lifetime of an answer
        ttl_ms = { type = "integer", minimum = 1 },
        -- who shares answers
        scope = { type = "string", enum = { "client", "gateway" } },
        operations = {
            type = "array",
            minItems = 1,
            uniqueItems = true,
            items = {
                type = "string",
                enum = { "chat_completions", "completions", "embeddings", "responses" },
            },
        },
        -- bytes of the largest stored answer
        max_entry = { type = "integer", minimum = 1 },
        -- bytes of answers that are arriving, over all workers
        arriving_memory = { type = "integer", minimum = 1 },
        -- whether budgets are charged for stored answers
        counts_tokens = { type = "boolean" },
        -- where answers are stored; default: in shared memory
        redis = redis_schema,
        -- secrets from which keys are derived, or the settings whose files contain them
        encryption = {
            type = "object",
            properties = {
                key = name_schema,
                key_setting = setting_schema,
                previous = name_schema,
                previous_setting = setting_schema,
            },
            additionalProperties = false,
        },
    },
    required = { "ttl_ms", "scope", "operations", "max_entry", "arriving_memory" },
    additionalProperties = false,
}

local interval_schema = { type = "integer", minimum = 1000 }

local health_checks_schema = {
    type = "object",
    properties = {
        -- default: the endpoint's scheme
        scheme = { type = "string", enum = { "http", "https" } },
        path = { type = "string", pattern = "^/[^ ]*$" },
        timeout_ms = { type = "integer", minimum = 1 },
        verify_certificate = { type = "boolean" },
        healthy_interval_ms = interval_schema,
        unhealthy_interval_ms = interval_schema,
    },
    required = { "path", "timeout_ms", "verify_certificate", "healthy_interval_ms",
                 "unhealthy_interval_ms" },
    additionalProperties = false,
}

return {
    type = "object",
    properties = {
        -- the named pool whose requests these are; nil: the plain paths
        pool = {
            type = "object",
            properties = {
                name = { type = "string", pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$" },
                -- the clients that may use it, with `oidc:` before subjects of tokens
                clients = { type = "array", minItems = 1, items = name_schema },
            },
            required = { "name" },
            additionalProperties = false,
        },
        -- an algorithm that ai-proxy-multi lacks
        balancer = { type = "string", enum = { "latency", "preferred" } },
        -- where replicas share the order of backends
        preferred = {
            type = "object",
            properties = { redis = redis_schema },
            required = { "redis" },
            additionalProperties = false,
        },
        -- the value that keeps requests at one backend while it can be used
        soft_affinity = {
            type = "object",
            properties = {
                on = { type = "string", enum = { "prompt_cache_key", "client", "header" } },
                header = { type = "string", pattern = "^[a-z0-9_-]+$" },
            },
            required = { "on" },
            additionalProperties = false,
        },
        timeouts = {
            type = "object",
            properties = {
                connect_ms = milliseconds_schema,
                send_ms = milliseconds_schema,
                read_ms = milliseconds_schema,
                first_byte_ms = { type = "integer", minimum = 1 },
            },
            required = { "connect_ms", "send_ms", "read_ms" },
            additionalProperties = false,
        },
        -- the longest lifetime of a kept connection
        keepalive_max_age_ms = { type = "integer", minimum = 1000 },
        retry_statuses = { type = "array", uniqueItems = true, items = status_schema },
        cooldown = {
            type = "object",
            properties = {
                default_ms = milliseconds_schema,
                max_ms = milliseconds_schema,
                -- the length whatever delay an answer names; 0: no cooldown
                fixed_ms = milliseconds_schema,
            },
            required = { "default_ms", "max_ms" },
            additionalProperties = false,
        },
        stream_hold_ms = milliseconds_schema,
        -- the silence after which a comment is sent
        stream_heartbeat_ms = { type = "integer", minimum = 1 },
        deadline_ms = milliseconds_schema,
        affinity = {
            type = "object",
            properties = {
                ttl_s = { type = "integer", minimum = 1 },
                redis = redis_schema,
            },
            required = { "ttl_s" },
            additionalProperties = false,
        },
        cache = cache_schema,
        backend_header = { type = "boolean" },
        metrics = metrics_schema,
        health_checks = health_checks_schema,
        backends = { type = "array", minItems = 1, items = backend_schema },
    },
    required = { "timeouts", "retry_statuses", "cooldown", "stream_hold_ms", "affinity" },
    additionalProperties = false,
}
