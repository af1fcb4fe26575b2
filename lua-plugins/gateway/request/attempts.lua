--- The attempts of a request. `record.attempts` is the only list, and one function ends an attempt.
-- Metrics, the access log, APIM-style records, traces and response headers only read the list.

local metrics = require("gateway.metrics")
local request_record = require("gateway.record.request_record")
local upstream_state = require("apisix_internals.upstream_state")
local ngx_now = ngx.now
local floor = math.floor
local remove = table.remove

local _M = {}

--- Outcomes of attempts that did not fail; `genai.telemetry.labels` has those of failures.
_M.OK = "ok"
_M.CLIENT_ABORT = "client_abort"
_M.STREAM_ERROR = "stream_error"
_M.GATEWAY_ERROR = "gateway_error"


local function milliseconds_since(seconds)
    return floor((ngx_now() - seconds) * 1000)
end


--- Starts an attempt.
-- @tparam table record
-- @tparam table backend
-- @treturn table the attempt
function _M.begin(record, backend)
    local attempts, trace = record.attempts, record.trace
    local attempt = request_record.new("attempt", {
        backend = backend,
        started = ngx_now(),
        span_id = trace and trace.new_span_id() or nil,
    })
    attempts[#attempts + 1] = attempt
    local memory = backend.memory
    memory.in_flight = (memory.in_flight or 0) + 1
    metrics.attempt_begins(backend)
    return attempt
end


--- The last attempt: the current one, or the one whose answer the client got. nil: there was none.
function _M.last(record)
    local attempts = record.attempts
    return attempts and attempts[#attempts]
end


--- Whether an attempt is in progress.
function _M.is_open(record)
    local last = _M.last(record)
    return last ~= nil and not last.ended
end


--- Records the backend's name of the requested deployment.
function _M.asks_for(record, served_as)
    _M.last(record).served_as = served_as
end


--- Adds an entry to nginx's upstream variables after a backend has answered or failed.
-- @tparam table record
-- @tparam number status of the answer, or the status that represents the failure
-- @tparam boolean is_answer whether the backend sent that status
function _M.responded(record, status, is_answer)
    local attempt = _M.last(record)
    upstream_state.push(attempt.backend.address, status, milliseconds_since(attempt.started))
    attempt.has_state = true
    if is_answer then
        attempt.status = status
    end
end


--- Ends the current attempt: in the list (from which the access log, headers, APIM-style records
-- and spans are made), in nginx's variables, and in metrics.
-- @tparam table record
-- @tparam string|nil outcome nil: the request could not be sent, so no backend received it
-- @tparam boolean|nil is_repeated whether the same backend is tried again: the attempt then does
--   not count against the maximum
function _M.ends(record, outcome, is_repeated)
    local attempts = record.attempts
    local attempt = attempts[#attempts]
    local memory = attempt.backend.memory
    memory.in_flight = memory.in_flight - 1
    metrics.attempt_ends(attempt.backend)
    if not outcome then
        remove(attempts)
        return
    end
    attempt.ended = ngx_now()
    attempt.outcome = outcome
    attempt.is_repeated = is_repeated or nil
    metrics.attempt(record, attempt)
    if attempt.has_state then
        upstream_state.close(milliseconds_since(attempt.started))
    end
end


--- The number of attempts that count against the maximum.
function _M.counted(record)
    local attempts = record.attempts
    local count = 0
    for i = 1, #attempts do
        if not attempts[i].is_repeated then
            count = count + 1
        end
    end
    return count
end


local NO_FAILURE = { [_M.OK] = true, [_M.CLIENT_ABORT] = true, [_M.GATEWAY_ERROR] = true }


--- The first failed attempt after which another backend was tried; nil: none.
function _M.first_failed(record)
    local attempts = record.attempts
    local last = #attempts
    if record.is_answered then
        last = last - 1
    end
    for i = 1, last do
        local attempt = attempts[i]
        if attempt.outcome and not NO_FAILURE[attempt.outcome] and not attempt.is_repeated then
            return attempt
        end
    end
    return nil
end


return _M
