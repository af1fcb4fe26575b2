--- A stream whose head was sent before there was any output. Until the first output, another
-- backend can still answer under that head. If none does, the stream ends with an error event and a
-- closed connection.

local answer_watch = require("gateway.affinity.answer_watch")
local attempts = require("gateway.request.attempts")
local core = require("apisix.core")
local errors = require("genai.openai.errors")
local forwarding = require("gateway.exchange.forwarding")
local http_headers = require("genai.http.http_headers")
local request_context = require("apisix_internals.request_context")
local shared_budgets = require("gateway.limits.shared_budgets")
local ngx = ngx
local ngx_exit = ngx.exit

local _M = {}

-- The status that nginx logs after a client disconnects.
local CLIENT_CLOSED = 499


--- Adds the headers for the backend, the number of attempts, a token budget and the cache, if they
-- are enabled.
-- @tparam table record
-- @tparam table|nil backend nil: no backend answered
function _M.add_headers(record, backend)
    if record.pool.conf.backend_header then
        ngx.header["x-gateway-backend"] = backend and backend.name or nil
        ngx.header["x-gateway-attempts"] = #record.attempts
    end
    if record.reservation then
        shared_budgets.add_headers(record)
    end
    if record.cache then
        record.cache:add_headers()
    end
end


-- Ends the request of a client that has disconnected, unless others wait for its answer.
local function leave(record, exchange)
    if record.cache and record.cache:stays() then
        return
    end
    exchange:close()
    attempts.ends(record, attempts.CLIENT_ABORT)
    ngx_exit(CLIENT_CLOSED)
end


-- Sends bytes.
local function send(record, exchange, bytes)
    if not forwarding.pass_on(bytes) then
        leave(record, exchange)
    end
    record.answer.has_begun = true
end


--- Sends the head of a stream, unless it was already sent.
-- @tparam table ctx
-- @tparam table record
-- @tparam table exchange
function _M.open(ctx, record, exchange)
    if record.is_open then
        return
    end
    record.is_open = true
    request_context.answered_by_backend(ctx)
    forwarding.send_head(exchange)
    -- The stream may be continued by another backend, so its length is not known.
    ngx.header["Content-Length"] = nil
    _M.add_headers(record, attempts.last(record).backend)
    if not forwarding.flush_head() then
        leave(record, exchange)
    end
end


--- Sends the part of a stream's preamble that may be sent before there is output.
-- @tparam table record
-- @tparam table exchange
-- @tparam table preamble as `gateway.exchange.preambles` makes it
-- @treturn boolean whether there was anything
function _M.pass(record, exchange, preamble)
    local bytes = preamble:take_free()
    if not bytes then
        return false
    end
    -- A client that sees the id of a new object may ask for it at once, so its owner must be known
    -- now.
    local watch = preamble.watch
    if watch == nil then
        watch = answer_watch.new(record, attempts.last(record).backend, exchange) or false
        preamble.watch = watch
    end
    if watch then
        watch:events(bytes)
    end
    send(record, exchange, bytes)
    return true
end


--- Sends a comment, so that no proxy takes the silent stream for dead.
function _M.keep_alive(record, exchange)
    send(record, exchange, forwarding.HEARTBEAT)
end


--- Whether an answer can continue a stream whose head was already sent.
function _M.takes(exchange, is_stream)
    return is_stream and exchange.status == 200
           and not http_headers.is_encoded(exchange.headers)
end


--- Ends the stream with an error event, and closes the connection so that no client takes it for
-- complete.
-- @tparam table record
-- @tparam table|nil body the body of an error in OpenAI's shape
-- @treturn number the code that ends the request
function _M.fail(record, body)
    local name, event = errors.event(record.target.operation, body)
    local text = (name and "event: " .. name .. "\n" or "") .. "data: " .. core.json.encode(event)
                 .. "\n\n"
    forwarding.pass_on(text)
    return ngx_exit(ngx.ERROR)
end


return _M
