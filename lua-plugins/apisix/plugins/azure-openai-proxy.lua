--- Sends a request to Azure OpenAI: picks a backend of ai-proxy-multi's pool, fails over to other
-- backends, streams the answer, and ends the request.

local access_log = require("gateway.telemetry.access_log")
local admission = require("gateway.request.admission")
local body_memory = require("gateway.exchange.body_memory")
local caching = require("gateway.request.caching")
local contract = require("apisix_internals.contract")
local core = require("apisix.core")
local errors = require("genai.openai.errors")
local failover = require("gateway.request.failover")
local metrics = require("gateway.metrics")
local preparation = require("gateway.request.preparation")
local probes = require("gateway.backends.probes")
local proxy_schema = require("gateway.proxy_schema")
local readiness = require("gateway.readiness")
local request_record = require("gateway.record.request_record")
local settlement = require("gateway.request.settlement")
local shared_budgets = require("gateway.limits.shared_budgets")
local variables = require("gateway.limits.variables")
local ngx = ngx
local ngx_exit = ngx.exit
local pcall = pcall


local _M = {
    version = 0.1,
    priority = 1045,
    name = "azure-openai-proxy",
    schema = proxy_schema,
}


function _M.check_schema(conf)
    return core.schema.check(proxy_schema, conf)
end


function _M.init()
    contract.open("config_loader")
    contract.open("secret_cache")
    contract.open("redis_clients")
    variables.register()
    body_memory.start()
    probes.start()
    readiness.start()
    metrics.start()
end


function _M.access(conf, ctx)
    return admission.admit(conf, ctx)
end


local function run_within_budget(ctx, record)
    if record.budget then
        local code, body = shared_budgets.admit(ctx, record)
        if code then
            return code, body
        end
    end
    return failover.run(ctx, record)
end


local function serve(ctx, record)
    local code, body = preparation.prepare(record, ctx)
    if code then
        return code, body
    end
    local cache = record.pool.conf.cache
    if not cache then
        return run_within_budget(ctx, record)
    elseif not cache.counts_tokens or not record.budget then
        return caching.serve(ctx, record, run_within_budget)
    end
    -- Stored answers count as well, so the budget comes before the cache.
    code, body = shared_budgets.admit(ctx, record)
    if code then
        return code, body
    end
    return caching.serve(ctx, record, failover.run)
end


-- This phase runs after plugins that check or change prompts.
function _M.before_proxy(conf, ctx)
    local record = request_record.of(ctx)
    local ok, code, body = pcall(serve, ctx, record)
    if ok then
        return code, body
    end

    -- If nginx handled the error, the log phase would not run, and the current attempt would count
    -- as active for ever.
    core.log.error("a request failed inside the gateway: ", code)
    record.is_broken = true
    if ngx.headers_sent then
        return ngx_exit(ngx.ERROR)
    end
    return 500, errors.body(500)
end


-- APISIX lists the statuses of all attempts in a header if the last attempt failed.
function _M.header_filter(conf)
    if not conf.backend_header then
        ngx.header["X-APISIX-Upstream-Status"] = nil
    end
end


function _M.log(conf, ctx)
    local record = settlement.settle(ctx)
    access_log.write(ctx, record)
    if record.trace then
        record.trace:finish(ctx, record)
    end
end


return _M
