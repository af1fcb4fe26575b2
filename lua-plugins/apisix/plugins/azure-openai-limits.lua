--- Says which of APISIX's limiters count a request, and what a client is told when one refuses it.

local core = require("apisix.core")
local plugin = require("apisix.plugin")
local limiters = require("apisix.plugins.azure-openai-limits.limiters")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local rejection = require("apisix.plugins.azure-openai-limits.rejection")
local ipairs = ipairs
local resolve_var = core.utils.resolve_var

local plugin_name = "azure-openai-limits"


local schema = {
    type = "object",
    properties = {
        -- the setting whose file holds the password of the limiters' Redis
        redis_password_setting = { type = "string", pattern = "^[A-Z][A-Z0-9_]*$" },
    },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- after azure-openai-proxy, which knows what is asked for, and before the limiters
    priority = 1040,
    name = plugin_name,
    schema = schema,
}


limiters.mend()


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


-- Whether one of a limiter's rules is for this request; the limiter itself would answer 500 where
-- none is.
local function has_rule(conf, ctx)
    if not conf.rules then
        return true
    end
    for _, rule in ipairs(conf.rules) do
        local _, _, resolved = resolve_var(rule.key, ctx.var)
        if resolved > 0 then
            return true
        end
    end
    return false
end


function _M.access(conf, ctx)
    core.response.exit_insert_callback(rejection.explain, ctx)
    local state, plugins = ctx.genai, ctx.plugins
    local password_setting = conf.redis_password_setting
    -- Those that look at this request, in their order.
    local asked = {}
    state.limiters = asked
    for i = 1, #plugins, 2 do
        local name, limiter = plugins[i].name, plugins[i + 1]
        if password_setting then
            limiters.sign_in_by(limiter, password_setting)
        end
        if name == "ai-rate-limiting" then
            -- Budgets of tokens are no business of requests that cost none: what a client has paid
            -- for it may still fetch when its budget is used up.
            state.counts_requests = limiter.limit_strategy == "expression"
            if not (state.counts_requests or state.target.spends) or not has_rule(limiter, ctx) then
                -- Without it the limiter does nothing, now or when the request is logged.
                ctx.picked_ai_instance_name = nil
            else
                asked[#asked + 1] = name
            end
        elseif name == "limit-count" and not has_rule(limiter, ctx) then
            plugin.skip_plugin(ctx, name)
        elseif name == "limit-count" or name == "limit-req" then
            asked[#asked + 1] = name
        end
    end
end


-- What an expression is made of: requests that a backend answered, whatever they were for. And what
-- the limiters decided.
function _M.log(conf, ctx)
    local state = ctx.genai
    if state and state.counts_requests then
        ctx.llm_raw_usage = { requests = state.is_answered and 1 or 0 }
    end
    if state and state.limiters then
        metrics.limited(ctx, state, state.limiters, state.refused_by)
    end
end


return _M
