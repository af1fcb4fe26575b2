--- The access phase: determines what a request asks for, and the pool that can serve it. Limiters
-- run later in this phase; no backend is chosen yet.

local core = require("apisix.core")
local errors = require("genai.openai.errors")
local metrics = require("gateway.metrics")
local paths = require("genai.openai.paths")
local pools = require("gateway.backends.pools")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local targets = require("genai.openai.targets")
local token_budget = require("apisix_internals.token_budget")
local ngx = ngx
local get_method = ngx.req.get_method
local find = string.find
local sub = string.sub

local _M = {}

-- The plugin whose configuration lists the backends. The plugin itself never runs, because this
-- gateway answers.
local POOL_PLUGIN = "ai-proxy-multi"

local NOT_YOURS = "This client may not use the backends at this path."


-- The target and the routed path of a request, both without the prefix of its pool. Returns nil if
-- the client spelt the prefix with escapes.
local function without_prefix(uri, path, prefix)
    if not prefix then
        return uri, path
    end
    return paths.without_prefix(uri, prefix), sub(path, #prefix + 1)
end


--- What a request asks for.
-- @tparam table ctx
-- @tparam table record
-- @tparam string method
-- @treturn table|nil as `genai.openai.targets` reads it
-- @treturn nil|string why the target is rejected; nil: nothing exists there
function _M.target_of(ctx, record, method)
    local var = ctx.var
    -- The target exactly as sent: APISIX's own `request_uri` is decoded and resolved.
    local uri, path = without_prefix(var.real_request_uri, var.uri, record.path_prefix)
    if not uri then
        return nil, paths.ELSEWHERE
    end
    return targets.parse(uri, path, method)
end


-- Whether a client may use a pool. Subjects of tokens have names with `oidc:` before them.
local function may_use(clients, name)
    return name ~= nil
           and (clients[name] or clients["oidc:*"] and find(name, "oidc:", 1, true) == 1) or false
end


--- Admits a request, or ends it.
-- @tparam table conf of azure-openai-proxy
-- @tparam table ctx
-- @treturn number|nil the status of an error
-- @treturn nil|table its body
function _M.admit(conf, ctx)
    local method = get_method()
    local var = ctx.var
    local record = request_record.of(ctx)
    local target, err = _M.target_of(ctx, record, method)
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
    record.method, record.target, record.pool = method, target, pool
    record.attempts = {}
    record.answer = request_record.new("answer", {})
    record.choice = request_record.new("choice", {
        tried = {},
        names = metrics.names(pool),
        pool_name = pool.name,
        keeps_longer = pool.keeps_longer,
    })

    var.apisix_upstream_response_time = 0
    if target.generates then
        var.request_type = "ai_chat"
    end
    if pool.clients and not may_use(pool.clients, record.client_name) then
        return 403, errors.body(403, NOT_YOURS, errors.CODE.pool_not_allowed)
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
