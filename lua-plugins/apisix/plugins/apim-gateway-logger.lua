--- Sends a record of each request to Azure Monitor, in the form of API Management's gateway logs.

local apim_records = require("gateway.telemetry.apim_records")
local core = require("apisix.core")
local record_sender = require("gateway.telemetry.record_sender")
local settlement = require("gateway.request.settlement")
local pcall = pcall


local name_schema = { type = "string", minLength = 1 }

local schema = {
    type = "object",
    properties = {
        dcr_ingest_uri = { type = "string", pattern = "^https?://[^ ]+$" },
        -- the resource (audience) that the gateway requests tokens for
        resource = { type = "string", pattern = "^https://" },
        gateway_id = name_schema,
        product_id = name_schema,
        include_req_body = { type = "boolean" },
        batch_max_size = { type = "integer", minimum = 1 },
        batch_flush_interval = { type = "integer", minimum = 1 },
        batch_max_retry = { type = "integer", minimum = 0 },
        timeout_ms = { type = "integer", minimum = 1 },
        msi_client_id = name_schema,
        msi_endpoint = name_schema,
        msi_secret = name_schema,
    },
    required = { "dcr_ingest_uri", "resource", "gateway_id", "batch_max_size",
                 "batch_flush_interval", "batch_max_retry", "timeout_ms" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    priority = 900,
    name = "apim-gateway-logger",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


local function write(conf, ctx)
    local sender, err = record_sender.of(conf)
    if not sender then
        return record_sender.failed(err)
    end
    local text
    text, err = apim_records.text_of(conf, ctx, settlement.settle(ctx))
    if not text then
        return record_sender.failed("a record cannot be written as JSON: " .. err)
    end
    sender:add(text)
end


function _M.log(conf, ctx)
    -- APISIX must still run the log phase of other plugins when this one fails.
    local ok, err = pcall(write, conf, ctx)
    if not ok then
        record_sender.failed("writing a record failed inside the gateway: " .. err)
    end
end


return _M
