--- Counts the requests of a route, in place of APISIX's plugin prometheus, whose series have all
-- labels of a request on each metric.

local core = require("apisix.core")
local page = require("apisix.plugins.azure-openai-metrics.page")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")

local plugin_name = "azure-openai-metrics"

local schema = {
    type = "object",
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- after all plugins that note something of a request in the log phase
    priority = 500,
    name = plugin_name,
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.init()
    metrics.start()
    page.start()
end


function _M.log(conf, ctx)
    metrics.request_ended(ctx)
end


return _M
