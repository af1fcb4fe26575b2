--- One attempt: writes the request for one backend, sends it and checks the answer.

local answer_check = require("gateway.request.answer_check")
local attempts = require("gateway.request.attempts")
local backend_keys = require("gateway.backends.backend_keys")
local entra_tokens = require("gateway.credentials.entra_tokens")
local http_head = require("genai.http.http_head")
local picking = require("genai.balancing.picking")
local request_body = require("gateway.exchange.request_body")
local shared_budgets = require("gateway.limits.shared_budgets")
local targets = require("genai.openai.targets")
local upstream = require("gateway.exchange.upstream")
local ngx_now = ngx.now

local _M = {}


-- Head and body of the request for a backend. `authorization` is the header line for backends
-- without a key.
local function written_for(record, backend, authorization)
    local target, body = record.target, record.body
    local deployment = record.choice.deployment
    local path = target.path
    local served_as = picking.served_as(backend.deployments, deployment) or nil
    attempts.asks_for(record, served_as)
    if served_as and served_as ~= deployment then
        if target.deployment then
            path = targets.renamed_path(target, served_as)
        else
            body = request_body.with_model(body, served_as)
        end
    end

    local query = target.query
    if backend.query then
        query = query and query ~= "" and query .. "&" .. backend.query or backend.query
    end

    local length = body.length or record.empty_length
    local lines = {
        backend.lines,
        record.passed_lines,
        length and "content-length: " .. length .. "\r\n" or "",
        record.trace and record.trace:line(attempts.last(record).span_id),
    }
    local head, err = http_head.request(record.method, backend.prefix .. path, query, lines,
                                        authorization)
    if not head then
        return nil, nil, err
    end
    local source
    source, err = request_body.source(body)
    return head, source, err
end


-- The failure of a backend that sent no answer.
local function unanswered(record, phase, err, began)
    attempts.responded(record, phase == "timeout" and 504 or 502, false)
    if phase == "stale" then
        return { reason = phase, err = err }
    elseif phase == "timeout" then
        return { reason = "failing", status = 504, err = err }
    end
    return { reason = phase == "connect" and "unreachable" or "failing", status = 502, err = err,
             took_ms = (ngx_now() - began) * 1000 }
end


--- Sends the request to a backend. `attempts.begin` must be called first.
-- @tparam table ctx
-- @tparam table record
-- @tparam table backend
-- @tparam boolean is_fresh true: over a new connection
-- @treturn table|nil the exchange whose answer goes to the client, positioned at the start of its
--   body
-- @treturn nil|table the failure, as `answer_check` describes it; additional values of `reason`:
--   "stale" (a kept connection was closed) and "request" (the request cannot be written); also
--   `has_new_key`, `lasts_ms`, `took_ms` and `signed_in_by` (the header lines with the credential)
-- @treturn nil|table the preamble of a stream that has had output
-- @treturn nil|boolean whether the answer is a stream
function _M.send(ctx, record, backend, is_fresh)
    local pool = record.pool
    local authorization, err, pause_ms = entra_tokens.authorization(backend.identity)
    if err then
        return nil, { reason = "credentials", err = err, lasts_ms = pause_ms }
    end

    local head, source
    local signed_in_by = backend.lines
    head, source, err = written_for(record, backend, authorization)
    if err then
        return nil, { reason = "request", err = err }
    end

    local exchange, phase
    local began = ngx_now()
    exchange, phase, err = upstream.send(backend, record.method, head, source, pool.conf.timeouts,
                                         is_fresh)
    if not exchange then
        return nil, unanswered(record, phase, err, began)
    end

    attempts.responded(record, exchange.status, true)
    if record.reservation then
        shared_budgets.answered(record, backend, exchange.status, exchange.headers)
    end
    if authorization and exchange.status == 401 then
        entra_tokens.refused(backend.identity, authorization)
    end
    if record.cache then
        record.cache:tap(exchange)
    end
    local failure = answer_check.of_head(record, exchange)
    local preamble
    local is_stream = exchange:is_event_stream(record.wants_stream)
    if failure and exchange.status == 401 and backend_keys.is_replaced(backend, signed_in_by) then
        failure.has_new_key = true
    elseif not failure then
        record.answer.answered_at = ngx_now()
        failure, preamble = answer_check.of_body(ctx, record, exchange, is_stream)
    end
    if failure then
        failure.signed_in_by = signed_in_by .. (authorization or "")
        exchange:finish(pool)
        return nil, failure
    end
    return exchange, nil, preamble, is_stream
end


return _M
