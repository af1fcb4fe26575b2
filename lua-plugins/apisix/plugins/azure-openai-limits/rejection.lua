--- The answer to a request that a limiter refused.

local errors = require("genai.errors")
local refusal = require("genai.refusal")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local get_response_headers = ngx.resp.get_headers
local type = type

local _M = {}

local LIMITERS = { ["ai-rate-limiting"] = true, ["limit-count"] = true, ["limit-req"] = true }


-- The limiter that an answer comes from, for APISIX does not say; it says what its limiter was
-- configured to say.
local function refused_by(ctx, code, body)
    if ctx.genai.started or type(body) ~= "table" or type(body.error) ~= "table" then
        return nil
    end

    local plugins = ctx.plugins
    for i = 1, #plugins, 2 do
        local conf = plugins[i + 1]
        if LIMITERS[plugins[i].name] and conf.rejected_code == code
           and conf.rejected_msg == body.error.message
        then
            return plugins[i].name, conf
        end
    end
    return nil
end


--- Called by APISIX for every answer that a plugin ends a request with, after it has got the shape
-- of errors.
function _M.explain(code, body, headers, ctx)
    local name, conf = refused_by(ctx, code, body)
    if not name then
        return code, body, headers
    end

    ctx.genai.refused_by = name
    local wait = name == "limit-req" and refusal.interval_ms(conf.rate)
                 or refusal.reset_ms(get_response_headers(0))
    if wait then
        headers["Retry-After"], headers["retry-after-ms"] = errors.retry_after(wait)
    end
    headers["x-gateway-ratelimit-lane"] = variables.lane(ctx)
    return code, errors.body(429, body.error.message), headers
end


return _M
