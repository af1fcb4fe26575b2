--- The access phase: determines what a request asks for, and the pool that can serve it. Limiters
-- run later in this phase; no backend is chosen yet.

local core = require("apisix.core")
local errors = require("genai.openai.errors")
local metrics = require("gateway.metrics")
local pools = require("gateway.backends.pools")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local targets = require("genai.openai.targets")
local token_budget = require("apisix_internals.token_budget")
local ngx = ngx
local get_method = ngx.req.get_method

local _M = {}

-- The plugin whose configuration lists the backends. The plugin itself never runs, because this
-- gateway answers.
local POOL_PLUGIN = "ai-proxy-multi"


--- Admits a request, or ends it.
-- @tparam table conf of azure-openai-proxy
-- @tparam table ctx
-- @treturn number|nil the status of an error
-- @treturn nil|table its body
function _M.admit(conf, ctx)
    local method = get_method()
    local var = ctx.var
    -- The target exactly as sent: APISIX's own `request_uri` is decoded and resolved.
    local target, err = targets.parse(var.real_request_uri, var.uri, method)
    if not target then
        if err then
            return 400, errors.body(400, err, errors.CODE.invalid_request_target)
        end
        return 404, errors.body(404)
    end

    local pool_conf = request_context.plugin_conf(ctx, POOL_PLUGIN)
    if not pool_conf then
        core.log.error("the route has azure-openai-proxy but no ", POOL_PLUGIN,
                       ", so it has no backend")
        return 503, errors.body(503)
    end

    local pool = pools.of(pool_conf, conf)
    local record = request_record.of(ctx)
    record.method, record.target, record.pool = method, target, pool
    record.attempts = {}
    record.answer = request_record.new("answer", {})
    record.choice = request_record.new("choice", { tried = {}, names = metrics.names(pool) })

    var.apisix_upstream_response_time = 0
    if target.generates then
        var.request_type = "ai_chat"
    end
    if record.wants_websocket then
        -- RFC 9110: a 426 must name a protocol that the server supports.
        ngx.header["Upgrade"], ngx.header["Connection"] = "HTTP/1.1", "Upgrade"
        return 426, errors.body(426)
    end
    token_budget.include(ctx)
    request_context.skip(ctx, POOL_PLUGIN)
    request_context.answer_by_plugin(ctx)
end


return _M
