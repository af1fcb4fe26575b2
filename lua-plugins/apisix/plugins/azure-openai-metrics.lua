--- Counts the requests of a route. It replaces APISIX's plugin prometheus, whose metrics have all
-- labels of a request on each series.

local contract = require("apisix_internals.contract")
local core = require("apisix.core")
local metrics = require("gateway.metrics")
local settlement = require("gateway.request.settlement")

local schema = {
    type = "object",
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- after all plugins that write to the request's record in the log phase
    priority = 500,
    name = "azure-openai-metrics",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


function _M.init()
    metrics.start()
    contract.open("metrics_page", metrics.render)
end


function _M.log(conf, ctx)
    metrics.request_ended(ctx, settlement.settle(ctx))
end


return _M
