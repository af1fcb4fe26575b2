--
-- Test stand-in: only carries the schemas, and knows a client by its `api-key` header.
-- It stands in until lua-plugins/ has the real plugin of this name.
--
local core = require("apisix.core")
local consumer_mod = require("apisix.consumer")

local plugin_name = "azure-openai-auth"


local schema = {
    type = "object",
    properties = {
        required = { type = "boolean" },
        bearer = { type = "string", enum = { "openid-connect" } },
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
            uniqueItems = true,
            items = { type = "string", minLength = 1 },
        },
        tokens_per_minute = limit_schema,
        tokens_per_day = limit_schema,
        requests_per_minute = limit_schema,
    },
    required = { "key" },
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


function _M.rewrite(conf, ctx)
    local key = core.request.header(ctx, "api-key")
    if key then
        local consumer, consumer_conf = consumer_mod.find_consumer(plugin_name, "key", key)
        if consumer then
            consumer_mod.attach_consumer(ctx, consumer, consumer_conf)
            return
        end
    end

    if conf.required then
        return 401, { error = { code = "401", message = "unknown key" } }
    end
end


return _M
