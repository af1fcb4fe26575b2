--- The answer to a request that a limiter rejected.

local errors = require("genai.openai.errors")
local lanes = require("gateway.record.lanes")
local limit_reset = require("genai.openai.limit_reset")
local request_context = require("apisix_internals.request_context")
local get_response_headers = ngx.resp.get_headers
local ipairs = ipairs

local _M = {}


-- The limiter that made an answer. APISIX does not report its name, but each limiter answers with
-- its configured code and message.
local function limiter_of(ctx, record, code, message)
    if record.started or not record.limiters then
        return nil
    end
    for _, name in ipairs(record.limiters) do
        local conf = request_context.plugin_conf(ctx, name)
        if conf and conf.rejected_code == code and conf.rejected_msg == message then
            return name, conf
        end
    end
    return nil
end


--- The answer to a request that a limiter rejected.
-- @tparam table ctx
-- @tparam table record
-- @tparam number code with which a plugin ends the request
-- @tparam table body in the shape of errors
-- @treturn string|nil the limiter's name; nil: no limiter rejected it
-- @treturn nil|table the body of the answer
-- @treturn nil|table its headers
function _M.of(ctx, record, code, body)
    if record.refused_by then
        -- The limiter has written its own answer.
        return nil
    end
    local name, conf = limiter_of(ctx, record, code, body.error.message)
    if not name then
        return nil
    end
    local headers = { ["x-gateway-ratelimit-lane"] = lanes.of(ctx) }
    local wait = name == "limit-req" and limit_reset.interval_ms(conf.rate)
                 or limit_reset.reset_ms(get_response_headers(0))
    if wait then
        headers["Retry-After"], headers["retry-after-ms"] = errors.retry_after(wait)
    end
    return name, errors.body(429, body.error.message), headers
end


return _M
