--- Passes a backend's answer on to the client and ends the request.

local answer_check = require("gateway.request.answer_check")
local answer_watch = require("gateway.affinity.answer_watch")
local attempts = require("gateway.request.attempts")
local availability = require("gateway.backends.availability")
local core = require("apisix.core")
local errors = require("genai.openai.errors")
local failures = require("gateway.request.failures")
local forwarding = require("gateway.exchange.forwarding")
local latency = require("gateway.backends.latency")
local metrics = require("gateway.metrics")
local open_stream = require("gateway.request.open_stream")
local request_body = require("gateway.exchange.request_body")
local request_context = require("apisix_internals.request_context")
local match = string.match
local ngx = ngx
local ngx_exit = ngx.exit
local sub = string.sub
local tonumber = tonumber

local _M = {}

-- The status that nginx logs after a client disconnects.
local CLIENT_CLOSED = 499

-- Operations whose streams have an end event for each image; the request names their number.
local IMAGES = { images_generations = true, images_edits = true }
local IMAGES_WITHIN = 65536


-- Sends an error as the last event to a client that already has the head of a stream.
local function fail_with(record, status, text)
    local said = core.json.decode(text)
    return open_stream.fail(record, errors.is_shaped(said) and said or errors.body(status))
end


-- Reads the body of a backend's error and sends the error as the last event of the stream.
local function end_with_error(record, exchange)
    local text = answer_check.read_error(exchange)
    exchange:finish(record.pool)
    attempts.ends(record, attempts.OK)
    return fail_with(record, exchange.status, text)
end


-- The number of images in a stream, if more than one.
local function images_of(record)
    local head = request_body.head(record.body, IMAGES_WITHIN)
    local count = match(head, '"n"%s*:%s*(%d+)') or match(head, 'name="n"\r\n\r\n(%d+)')
    count = tonumber(count)
    return count and count > 1 and count or nil
end


-- The silence after which a comment is sent, in milliseconds; nil: no comments.
local function heartbeat_of(record, exchange)
    local every_ms = record.pool.conf.stream_heartbeat_ms
    return every_ms and forwarding.takes_comments(exchange) and every_ms or nil
end


-- Whether the JSON answers of an operation come from Azure itself. Content that clients have stored
-- may be invalid JSON.
local function has_whole_json(target)
    return target.operation ~= "other" and sub(target.path, -8) ~= "/content"
end


--- Passes the answer on.
-- @tparam table ctx
-- @tparam table record
-- @tparam table exchange
-- @tparam table|nil preamble of a stream that has had output
-- @tparam boolean is_stream
-- @treturn number the final status of the request
function _M.hand_on(ctx, record, exchange, preamble, is_stream)
    local backend, answer = attempts.last(record).backend, record.answer
    availability.worked(record.choice)
    failures.another_answered(record)
    if record.choice.awaited then
        latency.answered(record.choice, answer, exchange.status, is_stream,
                         preamble and preamble.has_output)
    end

    record.status = exchange.status
    record.is_answered = true
    request_context.answered_by_backend(ctx)
    metrics.answered(record, backend, exchange.headers, attempts.first_failed(record))
    if record.is_open then
        if exchange.status ~= 200 then
            return end_with_error(record, exchange)
        end
    else
        forwarding.send_head(exchange)
        open_stream.add_headers(record, backend)
    end
    if is_stream and IMAGES[record.target.operation] then
        answer.images = images_of(record)
    end
    local watch = preamble and preamble.watch
    if watch == nil then
        watch = answer_watch.new(record, backend, exchange)
    end
    local cache = record.cache
    if cache then
        cache:begins(record, exchange, preamble, is_stream)
    end
    local options = {
        on_first_output = answer.awaited_by and latency.first_output,
        heartbeat_ms = heartbeat_of(record, exchange),
        has_whole_json = has_whole_json(record.target),
        cache = cache,
    }
    local who, err = forwarding.send_body(exchange, answer, preamble, is_stream, watch, options)
    if cache then
        cache:ended(record, who)
        who = who or (options.is_gone or cache.is_abandoned) and "client" or nil
    end
    exchange:finish(record.pool)
    if who == "backend" then
        attempts.ends(record, attempts.STREAM_ERROR)
        core.log.error("the answer of backend ", backend.name, " broke off: ", err,
                       "; the gateway closes the client's connection")
        return ngx_exit(ngx.ERROR)
    elseif who == "client" then
        attempts.ends(record, attempts.CLIENT_ABORT)
        return ngx_exit(CLIENT_CLOSED)
    end
    attempts.ends(record, attempts.OK)
    return ngx_exit(ngx.HTTP_OK)
end


--- Sends a kept answer that was read completely, because no other backend had a better one.
-- @tparam table ctx
-- @tparam table record
-- @tparam table refusal `backend`, `status`, `headers` and `body`
-- @treturn number the final status of the request
function _M.hand_back(ctx, record, refusal)
    record.status = refusal.status
    record.is_answered = true
    request_context.answered_by_backend(ctx)
    metrics.answered(record, refusal.backend, refusal.headers, attempts.first_failed(record))
    if record.is_open and refusal.status >= 400 then
        return fail_with(record, refusal.status, refusal.body)
    elseif not record.is_open then
        forwarding.send_head(refusal)
        open_stream.add_headers(record, refusal.backend)
    end
    ngx.print(refusal.body)
    return ngx_exit(ngx.HTTP_OK)
end


return _M
