--- Sets the variables that fields of the access log are made of, and that only Lua knows.

local telemetry = require("genai.telemetry")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local ngx = ngx
local ngx_var = ngx.var
local tostring = tostring

local _M = {}


--- What went wrong with a request.
-- @tparam table ctx
-- @tparam table|nil state nil: it ended before a backend could be looked for
-- @treturn string|nil what: an error's code, the status of a backend's answer, "stream_error" or
--   "client_abort"; nil: nothing
-- @treturn string|nil whose: "gateway", "backend" or "client"
function _M.error_of(ctx, state)
    local status = ngx.status
    if state and state.is_answered then
        if state.broken_by == "backend" then
            return "stream_error", "backend"
        elseif not state.is_sent or state.broken_by then
            return "client_abort", "client"
        elseif state.status >= 400 then
            return tostring(state.status), "backend"
        end
        return nil
    end
    local code = ctx.genai_error or state and state.error
    if code then
        return code, "gateway"
    elseif state and state.started or status == 499 then
        return "client_abort", "client"
    elseif status >= 400 then
        return tostring(status), "gateway"
    end
    return nil
end


--- Whether another backend was tried after one had failed, and whether that helped: "saved",
-- "failed" or nil.
function _M.failover_of(state)
    local tries = state.tries
    if not state.first_failure or not tries[2] then
        return nil
    end
    return state.is_answered and state.status < 400 and "saved" or "failed"
end


--- Sets them, when all else is known of the request.
-- @tparam table ctx
-- @tparam table|nil state
function _M.write(ctx, state)
    if ctx.genai_client_name then
        ngx_var.genai_client = ctx.genai_client_name
    end
    ngx_var.genai_route = ctx.route_name or ""
    if ctx.genai_trace_id then
        ngx_var.genai_trace_id = ctx.genai_trace_id
    end
    local err, source = _M.error_of(ctx, state)
    if err then
        ngx_var.genai_error, ngx_var.genai_error_source = err, source
    end
    if not state then
        return
    end

    local target = state.target
    ngx_var.genai_operation = target.operation
    ngx_var.genai_lane = variables.lane(ctx)
    if target.query then
        ngx_var.genai_api_version = telemetry.api_version(target.query)
    end
    if state.shown_request_model then
        ngx_var.genai_requested_model = state.shown_request_model
        ngx_var.genai_model = state.shown_model
    end
    if state.refused_by then
        ngx_var.genai_limiter = state.refused_by
    end
    if state.affinity and state.affinity.found then
        ngx_var.genai_affinity = state.affinity.found
    end

    local tries = state.tries
    if not tries or not tries[1] then
        return
    end
    ngx_var.genai_attempts = telemetry.attempts_text(tries)
    if state.is_answered then
        local backend = tries[#tries].backend
        ngx_var.genai_backend = backend.name
        ngx_var.genai_region = backend.region or ""
    end
    ngx_var.genai_failover = _M.failover_of(state) or ""
end


return _M
