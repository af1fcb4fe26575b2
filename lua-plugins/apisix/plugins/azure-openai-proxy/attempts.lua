--- What was tried at which backend, in order: the one list that logs and traces read.
--
-- `state.tries` holds of each attempt `backend`, `started` and `ended` (seconds), `status` (of the
-- backend's answer), `outcome` and, where the request is traced, `span_id` and `served_as`.

local labels = require("genai.labels")
local ngx_now = ngx.now
local remove = table.remove

local _M = {}


--- An attempt begins.
function _M.begin(state, backend)
    local tries = state.tries
    if not tries then
        tries = {}
        state.tries = tries
    end
    local trace = state.trace
    tries[#tries + 1] = {
        backend = backend,
        started = ngx_now(),
        span_id = trace and trace.new_span_id() or nil,
    }
end


--- A backend has answered.
function _M.answered(state, status)
    local tries = state.tries
    tries[#tries].status = status
end


--- An attempt ended that the client sees nothing of.
-- @tparam table|nil failure nil: an answer that was put aside
function _M.ended(state, failure)
    local tries = state.tries
    if failure and failure.reason == "request" then
        -- No backend saw it.
        remove(tries)
        return
    end
    local last = tries[#tries]
    last.ended = ngx_now()
    if not failure then
        last.outcome = "ok"
    else
        last.outcome = failure.reason == "stale" and "stale_connection" or labels.outcome(failure)
    end
end


--- The last attempt ends with the request, where nothing ended it before.
function _M.finish(state)
    local tries = state.tries
    local last = tries and tries[#tries]
    if not last or last.ended then
        return
    end
    last.ended = ngx_now()
    if state.is_broken then
        last.outcome = "gateway_error"
    elseif state.broken_by == "backend" then
        last.outcome = "stream_error"
    elseif state.is_sent and not state.broken_by then
        last.outcome = "ok"
    else
        last.outcome = "client_abort"
    end
end


--- The line of the head of a traced request that tells a backend which span it is called from.
function _M.trace_line(state)
    local tries = state.tries
    local last = tries[#tries]
    last.served_as = state.served_as
    return state.trace:line(last.span_id)
end


return _M
