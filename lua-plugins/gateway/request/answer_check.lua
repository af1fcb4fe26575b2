--- Decides whether a backend's answer goes to the client, or is a failure after which another
-- backend is tried: by its status, its body, and the beginning of a stream.

local attempts = require("gateway.request.attempts")
local core = require("apisix.core")
local errors = require("genai.openai.errors")
local forwarding = require("gateway.exchange.forwarding")
local json_scan = require("genai.util.json_scan")
local open_stream = require("gateway.request.open_stream")
local preambles = require("gateway.exchange.preambles")
local redirects = require("genai.http.redirects")
local stream_events = require("genai.openai.stream_events")
local verdict = require("genai.openai.verdict")
local byte = string.byte
local find = string.find
local lower = string.lower
local ngx_now = ngx.now
local sub = string.sub
local type = type

local _M = {}

-- The longest part of an error's body that is read, for its message and to keep the connection
-- usable.
local MAX_ERROR_BODY = 65536

-- Time limit for reading an error's body: some arrive slowly.
local ERROR_MS = 2000

-- The longest part of a JSON answer that is held back while it may still turn out to be a failure.
local MAX_HELD = 1024 * 1024

-- A transcription of silence is empty.
local MAY_BE_EMPTY = { audio_transcriptions = true, audio_translations = true }

local QUOTE, BRACE, BRACKET, SLASH = 34, 123, 91, 47
local BYTE_ORDER_MARK = "\239\187\191"

local ANY_JSON = json_scan.plan({})


local function decode(text)
    return (core.json.decode(text))
end


-- Whether a JSON text is cut off.
local function is_cut(text)
    local scan = json_scan.new(ANY_JSON)
    scan:feed(text)
    return scan:is_cut()
end


-- Parses an error's body if it is JSON: returns its text, its message, and the table with its code.
local function parsed_error(text)
    local decoded = core.json.decode(text)
    if type(decoded) ~= "table" then
        return nil
    end
    local err = decoded.error
    local message = type(err) == "table" and err.message or decoded.message
    return text, type(message) == "string" and message or nil,
           type(err) == "table" and err or decoded
end


-- The failure for a status, wherever in the answer the backend put it; nil: the answer goes to the
-- client.
local function failure_of(record, exchange, status, text, message)
    local meaning = verdict.of_status(status, record.pool.retry)
    if meaning == "answer" then
        return nil
    end
    local failure = { reason = meaning, status = status, headers = exchange.headers, body = text,
                      message = message }
    if meaning == "refusal" then
        local why = verdict.of_refusal(status, exchange.headers, text or "")
        failure.is_permission = why == "permission"
        failure.reason = (why == "permission" or why == "request") and "refused" or why
    end
    return failure
end


--- Reads the beginning of an error's body, for its message and to keep the connection usable.
-- @tparam table exchange
-- @treturn string
function _M.read_error(exchange)
    return (exchange:read_short(MAX_ERROR_BODY, ERROR_MS))
end


-- Checks the status of the answer.
local function failure_of_status(record, exchange)
    local status = exchange.status
    if verdict.of_status(status, record.pool.retry) == "answer" then
        return nil
    end
    local text = _M.read_error(exchange)
    local body, message = parsed_error(text)
    local failure = failure_of(record, exchange, status, text, message)
    failure.body, failure.text = body, text
    return failure
end


-- A missing deployment is a failure, because another backend may have it.
local function missing_deployment(record, exchange)
    local status = exchange.status
    if status ~= 404 and status ~= 400 or not record.choice.deployment then
        return nil
    end
    local text = _M.read_error(exchange)
    local body, message, err = parsed_error(text)
    if not body or not verdict.is_missing_deployment(err) then
        exchange:put_back(text)
        return nil
    end
    return { reason = "deployment_not_found", status = status, headers = exchange.headers,
             body = body, message = message }
end


-- The failure that an answer with a status of success reports in its body, or in a stream before
-- its first output. `err` is nil if the answer gives no reason.
local function failure_inside(record, exchange, status, err)
    local inner = err or {}
    local text = err and core.json.encode({ error = err }) or nil
    local message = type(inner.message) == "string" and inner.message or nil
    local failure
    if status == 404 and record.choice.deployment then
        failure = { reason = "deployment_not_found", status = status, headers = exchange.headers,
                    body = text, message = message }
    else
        failure = failure_of(record, exchange, status, text, message)
    end
    if failure and type(inner.headers) == "table" then
        failure.inner_headers = inner.headers
    end
    return failure
end


local BROKE_OFF = "The backend's answer broke off before its first output."
local ENDED = "The backend's answer ended without output."


-- The failure of an answer that ended, or broke off, before any of it was sent to the client.
local function no_output(err)
    if err then
        local is_late = err == "timeout"
        return { reason = "failing", status = is_late and 504 or 502, err = err,
                 is_of_stream = true, message = not is_late and BROKE_OFF or nil }
    end
    return { reason = "failing", status = 502, err = "its answer ended without output",
             code = errors.CODE.upstream_empty, is_of_stream = true,
             message = ENDED }
end


-- Whether a JSON text has an error before the given byte.
local function has_error(text, before)
    local first, last = find(text, '"error"', 1, true)
    while first and first < before do
        local _, value = find(text, "^[%s:]*", last + 1)
        local each = byte(text, value + 1)
        if each == BRACE or each == QUOTE then
            return true
        end
        first, last = find(text, '"error"', last + 1, true)
    end
    return false
end


-- The position of a list of that name that is not empty; nil: none.
local function filled_list(text, name)
    local first, last = find(text, name, 1, true)
    if not first then
        return nil
    end
    local _, value = find(text, "^[%s:]*", last + 1)
    if byte(text, value + 1) ~= BRACKET then
        return nil
    end
    local _, blank = find(text, "^%s*", value + 2)
    return byte(text, blank + 1) == BRACE and first or nil
end


-- Whether the beginning of a JSON answer shows that it has not failed; nil: not known yet.
local function has_succeeded(text)
    local content = filled_list(text, '"choices"') or filled_list(text, '"data"')
    if not content then
        local first, last = find(text, '"status"', 1, true)
        if not first or find(text, 'failed"', 1, true) then
            return nil
        end
        local _, value = find(text, "^[%s:]*", last + 1)
        if byte(text, value + 1) ~= QUOTE then
            return nil
        end
        content = first
    end
    return not has_error(text, content)
end


-- The failure that the body of a JSON answer reports.
local function failure_in(record, exchange, text)
    if not find(text, 'ailed"', 1, true) and not find(text, 'error', 1, true)
       and not find(text, 'message"', 1, true) and not find(text, 'Code"', 1, true)
    then
        return nil
    end
    if sub(text, 1, 3) == BYTE_ORDER_MARK then
        text = sub(text, 4)
    end
    local status, said = verdict.of_body(stream_events.of_answer(text, decode))
    if not status then
        exchange.client_error = said
        return nil
    end
    local failure = failure_inside(record, exchange, status, said)
    if failure and #text <= MAX_ERROR_BODY then
        -- The client gets the complete body of the backend.
        failure.body = text
    end
    return failure
end


-- Checks a JSON answer. Most arrive with the first read, and failed ones are short, except that a
-- response repeats its input.
local function failure_of_json(record, exchange)
    local text, err = exchange:read_short(MAX_ERROR_BODY)
    local has_content = has_succeeded(text)
    if not has_content and not exchange.done and not err
       and (has_content == false or record.target.operation == "responses")
    then
        local more
        more, err = exchange:read_short(MAX_HELD)
        text = text .. more
        has_content = has_succeeded(text)
    end
    if err then
        -- The answer broke off before any of it was sent to the client.
        return no_output(err)
    elseif exchange.done and not find(text, "%S") then
        return no_output()
    elseif exchange.done and exchange.framing == "close" and is_cut(text) then
        return no_output("closed before its JSON ended")
    end
    local failure = exchange.done and not has_content and failure_in(record, exchange, text) or nil
    if not failure then
        exchange:put_back(text)
    end
    return failure
end


-- Checks an answer in one piece.
local function failure_of_body(record, exchange)
    if exchange.status ~= 200 or not record.target.makes_content then
        return nil
    end
    local content_type = lower(exchange.headers["content-type"] or "")
    if find(content_type, "json", 1, true) then
        return failure_of_json(record, exchange)
    elseif MAY_BE_EMPTY[record.target.operation] and find(content_type, "^text/") then
        return nil
    end
    local bytes, err = exchange:read()
    if not bytes then
        return no_output(err)
    end
    exchange:put_back(bytes)
    -- Some backends send JSON without declaring it.
    return find(bytes, "^\239?\187?\191?%s*[[{]") and failure_of_json(record, exchange) or nil
end


-- The failure of a stream that was refused, or ended, before its first output.
local function failure_of_preamble(record, exchange, preamble, result)
    if result == "refused" then
        return failure_inside(record, exchange, preamble.status, preamble.error)
    end
    return no_output(preamble.err)
end


-- Checks a stream. Returns the failure, or the preamble that was read.
local function failure_of_stream(ctx, record, exchange)
    if exchange.status ~= 200 or record.method ~= "POST" then
        return nil
    end
    local conf = record.pool.conf
    local hold_ms, beat_ms = conf.stream_hold_ms, conf.stream_heartbeat_ms
    if beat_ms and not forwarding.takes_comments(exchange) then
        beat_ms = nil
    end
    local preamble = preambles.new(exchange, hold_ms > 0)
    local deadline, is_over = ngx_now() + hold_ms / 1000, false
    while true do
        local result = preamble:read(deadline, is_over)
        if result == "output" then
            return nil, preamble
        elseif result ~= "waiting" and result ~= "read" then
            local failure = failure_of_preamble(record, exchange, preamble, result)
            -- If its status is not retried, the failure goes to the client.
            return failure, preamble
        end

        open_stream.open(ctx, record, exchange)
        if not open_stream.pass(record, exchange, preamble) and is_over and result == "waiting" then
            open_stream.keep_alive(record, exchange)
        end
        is_over = true
        deadline = beat_ms and ngx_now() + beat_ms / 1000
    end
end


-- Handles redirects. A redirect within the backend is rewritten to lead to the gateway. Any other
-- redirect is a failure, because the client would send its key to another server.
local function redirect(record, exchange)
    local headers = exchange.headers
    if not redirects.is_redirect(exchange.status) or not headers["location"] then
        return nil
    end
    local backend = attempts.last(record).backend
    for i = 1, headers.count do
        if headers.lower_names[i] == "location" then
            local target = redirects.target(headers.values[i], backend.origin, backend.prefix)
            if not target then
                core.log.error("backend ", backend.name, " redirects to another server with status "
                               .. exchange.status, ". The gateway does not follow, because it would"
                               .. " send the key there. Set AZURE_OPENAI_ENDPOINT_N to the address"
                               .. " of the resource")
                return { reason = "refused", status = 502, code = errors.CODE.upstream_redirect,
                         message = "The backend redirects to another server, which the gateway does"
                                   .. " not follow." }
            end
            local prefix = record.path_prefix
            if prefix and byte(target, 1) == SLASH then
                target = prefix .. target
            end
            headers.values[i] = target
        end
    end
    return nil
end


--- Checks the head of an answer, and the body of an error.
-- @tparam table record
-- @tparam table exchange
-- @treturn table|nil the failure: `reason`, `status`, `headers`, `body`, `text`, `message`, `err`,
--   `is_permission`, `is_of_stream`; nil: no failure so far
function _M.of_head(record, exchange)
    return redirect(record, exchange) or failure_of_status(record, exchange)
           or missing_deployment(record, exchange)
end


--- Checks the beginning of the body. If a stream has no output within the hold time, its head is
-- sent, and those events that another backend may repeat.
-- @tparam table ctx
-- @tparam table record
-- @tparam table exchange
-- @tparam boolean is_stream
-- @treturn table|nil the failure; nil: the answer goes to the client
-- @treturn nil|table the preamble of a stream, as `gateway.exchange.preambles` makes it
function _M.of_body(ctx, record, exchange, is_stream)
    if record.is_open and exchange.status < 400 and not open_stream.takes(exchange, is_stream) then
        return { reason = "failing", status = 502, is_of_stream = true,
                 err = "its answer is not a stream like the one already begun" }
    elseif is_stream then
        return failure_of_stream(ctx, record, exchange)
    end
    return failure_of_body(record, exchange)
end


return _M
