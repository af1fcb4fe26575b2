--
-- Test stand-in: only carries the schema, and logs nothing.
-- It stands in until lua-plugins/ has the real plugin of this name.
--
local core = require("apisix.core")

local plugin_name = "apim-gateway-logger"


local text_schema = { type = "string", minLength = 1 }

local schema = {
    type = "object",
    properties = {
        dcr_ingest_uri = { type = "string", pattern = "^https?://" },
        stream = text_schema,
        gateway_id = text_schema,
        product_id = text_schema,
        include_req_body = { type = "boolean" },
        batch_max_size = { type = "integer", minimum = 1 },
        batch_flush_interval = { type = "integer", minimum = 1 },
        batch_max_retry = { type = "integer", minimum = 0 },
        timeout_ms = { type = "integer", minimum = 1 },
        msi_client_id = text_schema,
        msi_endpoint = { type = "string", pattern = "^https?://" },
        msi_secret = text_schema,
    },
    required = { "dcr_ingest_uri", "stream", "gateway_id", "include_req_body", "batch_max_size",
                 "batch_flush_interval", "batch_max_retry", "timeout_ms" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    priority = 900,
    name = plugin_name,
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


return _M
