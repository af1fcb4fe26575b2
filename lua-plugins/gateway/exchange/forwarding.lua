--- Passes a backend's answer on to the client, and reads its usage.

local core = require("apisix.core")
local turns = require("gateway.exchange.turns")
local stream_end = require("genai.openai.stream_end")
local stream_events = require("genai.openai.stream_events")
local http_headers = require("genai.http.http_headers")
local json_scan = require("genai.util.json_scan")
local served_by = require("genai.openai.served_by")
local sse = require("genai.openai.sse")
local token_usage = require("genai.openai.token_usage")
local ngx = ngx
local ngx_now = ngx.now
local ngx_flush = ngx.flush
local ngx_print = ngx.print
local concat = table.concat
local find = string.find
local ipairs = ipairs
local huge = math.huge
local lower = string.lower
local max = math.max
local min = math.min
local sub = string.sub

local _M = {}

--- A comment that is sent while a stream is silent. No client takes it for an event.
_M.HEARTBEAT = ": ping\n\n"

-- How long a complete stream may stay open. Some backends send the last chunk late or never.
local LINGER_MS = 500

local BYTE_ORDER_MARK = "\239\187\191"

-- What the scan of a JSON answer looks for if nothing else is needed from it.
local ANSWER = json_scan.plan(token_usage.WANTED)


local function decode(text)
    return (core.json.decode(text))
end


local function set_header(name, value)
    ngx.header[name] = value
end


--- Sends the backend's status and headers.
function _M.send_head(exchange)
    local headers = exchange.headers
    ngx.status = exchange.status
    http_headers.to_client(headers, set_header)
    if not headers["content-type"] then
        -- Otherwise nginx would add a content type of its own.
        ngx.header["Content-Type"] = ""
    end
end


local function note_event(answer, event)
    local usage = token_usage.of_event(event)
    answer.usage = usage or answer.usage
    if usage and answer.images then
        answer.images_done = (answer.images_done or 0) + 1
    end
    served_by.note_event(answer, event)
end


local function note_usage(answer, complete)
    if not sse.mentions_usage(complete) then
        return
    end
    local position = 1
    while true do
        local next_position, data = sse.next_event(complete, position)
        if not next_position then
            return
        end
        position = next_position
        if data and find(data, '"usage"', 1, true) then
            note_event(answer, stream_events.of_data(data, decode))
        end
    end
end


local function count_events(complete)
    local count, from = 0, 1
    while true do
        local _, last = find(complete, "data:", from, true)
        if not last then
            return count
        end
        count = count + 1
        from = last + 1
    end
end


--- Sends bytes; waits if the client is slower than the backend.
-- @treturn boolean|nil nil: the client has disconnected
-- @treturn nil|string the error
function _M.pass_on(bytes, is_last)
    local ok, err = ngx_print(bytes)
    -- The last bytes are flushed when the request ends.
    if ok and not is_last then
        ok, err = ngx_flush(true)
    end
    return ok, err
end


local pass_on = _M.pass_on


-- Sends bytes, and goes on without a client that has left if others wait for the answer.
local function deliver(options, bytes, is_last)
    local cache = options.cache
    -- nginx may take bytes for a client that it knows to have left.
    if options.is_gone or cache and cache.is_abandoned then
        options.is_gone = true
        return cache:stays() or nil, "it went away"
    end
    local ok, err = pass_on(bytes, is_last)
    if not ok and cache and cache:stays() then
        options.is_gone = true
        return true
    end
    return ok, err
end


--- Sends the head before the first byte of the body.
function _M.flush_head()
    ngx.send_headers()
    return ngx_flush(true)
end


--- Whether comments may be sent between the events of a stream.
function _M.takes_comments(exchange)
    local headers = exchange.headers
    local content_type = headers["content-type"]
    return content_type ~= nil and not http_headers.is_encoded(headers)
           and find(lower(content_type), "text/event-stream", 1, true) ~= nil
end


local function note_first_output(answer, on_first_output)
    answer.first_output_at = ngx_now()
    if on_first_output then
        on_first_output(answer)
    end
end


-- Reads usage and model from complete events. Returns the number of events.
local function note_complete(answer, complete, watch)
    local count = count_events(complete)
    answer.events = answer.events + count
    note_usage(answer, complete)
    served_by.keep_tail(answer, complete)
    if watch then
        watch:events(complete)
    end
    return count
end


-- Reads usage and model from a long event.
local function note_long(answer, long, watch)
    answer.events = answer.events + 1
    if long.scan.members.usage or long.scan.members["response.usage"] then
        note_event(answer, stream_events.of_scan(long.scan, decode))
    end
    if watch then
        watch:event(long.scan)
    end
end


-- The end of a stream as far as it is known. Only the last events are kept: they are examined when
-- the stream is silent or has ended.
local function new_tail(exchange, events, options)
    local beat_ms = options.heartbeat_ms
    local read_ms = exchange.timeouts.read_ms
    local first_ms = min(LINGER_MS, read_ms, beat_ms or read_ms)
    exchange:set_read_timeout(first_ms)
    return { events = events, read_ms = read_ms, first_ms = first_ms, wait_ms = first_ms,
             silent_ms = 0, beat_ms = beat_ms, beaten_ms = 0, options = options }
end


-- Whether a stream is complete, and whether its end marker is missing.
local function state_of(tail, answer)
    local is_over, is_unfinished = false, false
    local events = tail.events
    local is_between = events:is_between_events()
    local rest = not is_between and events:rest()
    if rest then
        -- The empty line after the last event may be missing.
        is_over = stream_end.of_text(rest .. "\n\n", decode, true)
        is_unfinished = true
    elseif not is_between then
        return false, true
    elseif tail.long then
        is_over, is_unfinished = stream_end.of_long(tail.long, decode)
    elseif tail.last then
        is_over, is_unfinished = stream_end.of_text(tail.last, decode)
    end
    if is_over and answer.images and (answer.images_done or 0) < answer.images then
        return false, true
    end
    return is_over, is_unfinished or not is_between
end


-- Whether a complete stream is kept open by comments alone.
local function is_kept_open(tail, answer)
    if not tail.over_at then
        tail.over_at = state_of(tail, answer) and ngx_now() + LINGER_MS / 1000 or huge
        return false
    end
    return ngx_now() >= tail.over_at
end


-- The line ends missing after the last event of a complete stream, so that the client recognizes
-- the event; nil: none.
local function missing_end(events)
    local rest = not events:is_between_events() and events:rest()
    if not rest then
        return nil
    end
    local line_end = find(rest, "\r\n", 1, true) and "\r\n" or find(rest, "\n", 1, true) and "\n"
                     or find(rest, "\r", 1, true) and "\r" or "\n"
    local ends_line = sub(rest, -#line_end) == line_end
    return ends_line and line_end or line_end .. line_end
end


-- The next bytes of a stream. Returns nil if it is complete; or nil, who broke it off, and the
-- error.
local function next_bytes(exchange, answer, tail)
    local bytes, err = exchange:read()
    if bytes and tail.silent_ms == 0 then
        return bytes
    end
    while not bytes and err == "timeout" do
        local silent_ms = tail.silent_ms + tail.wait_ms
        tail.silent_ms = silent_ms
        local is_over = state_of(tail, answer)
        if is_over then
            local missing = missing_end(tail.events)
            if missing then
                deliver(tail.options, missing)
            end
            return nil
        elseif silent_ms >= tail.read_ms then
            return nil, "backend", err
        end
        local wait_ms = tail.read_ms - silent_ms
        local beat_ms = tail.beat_ms
        if beat_ms then
            if silent_ms - tail.beaten_ms >= beat_ms then
                tail.beaten_ms = silent_ms
                if tail.events:is_between_events() then
                    local ok
                    ok, err = deliver(tail.options, _M.HEARTBEAT)
                    if not ok then
                        return nil, "client", err
                    end
                end
            end
            wait_ms = min(wait_ms, beat_ms - (silent_ms - tail.beaten_ms))
        end
        tail.wait_ms = max(1, wait_ms)
        exchange:set_read_timeout(tail.wait_ms)
        bytes, err = exchange:read()
    end
    if bytes then
        tail.silent_ms, tail.beaten_ms, tail.wait_ms = 0, 0, tail.first_ms
        exchange:set_read_timeout(tail.first_ms)
        return bytes
    end

    -- A stream whose end has arrived is complete, even if its connection breaks.
    if err then
        if state_of(tail, answer) then
            return nil
        end
        return nil, "backend", err
    elseif exchange.framing == "close" then
        local is_over, is_unfinished = state_of(tail, answer)
        if is_unfinished and not is_over then
            return nil, "backend", "closed before its last event"
        end
    end
    return nil
end


-- Passes on the held part of a stream's preamble.
local function forward_preamble(exchange, answer, preamble, watch, tail, options)
    local pace = turns.new()
    for _, long in ipairs(preamble.long) do
        note_long(answer, long, watch)
        tail.long = long
    end
    for _, complete in ipairs(preamble.complete) do
        if note_complete(answer, complete, watch) > 0 then
            tail.last, tail.long = complete, nil
        end
        pace:read(#complete)
    end
    local held = concat(preamble.held)
    if answer.has_begun and preamble.sent_bytes == 0 and sub(held, 1, 3) == BYTE_ORDER_MARK then
        -- After events of another backend, a byte order mark would become part of the next line.
        held = sub(held, 4)
    end
    if held ~= "" then
        answer.has_begun = true
        local ok, err = deliver(options, held, exchange.done)
        if not ok then
            return "client", err
        end
    end
end


local function forward_events(exchange, answer, preamble, watch, options)
    local events = preamble and preamble.events or sse.new()
    local pace = turns.new()
    answer.events = 0
    local tail = new_tail(exchange, events, options)
    if preamble then
        local who, err = forward_preamble(exchange, answer, preamble, watch, tail, options)
        if who then
            return who, err
        end
        note_first_output(answer, options.on_first_output)
        if preamble.err then
            if state_of(tail, answer) then
                answer.is_complete = options.cache ~= nil or nil
                return nil
            end
            return "backend", preamble.err
        end
    end

    while true do
        local bytes, who, err = next_bytes(exchange, answer, tail)
        if not bytes then
            local rest = not who and not events:is_between_events() and events:rest()
            if rest then
                -- The empty line after the last event is missing.
                note_complete(answer, rest .. "\n\n", watch)
            end
            if options.cache and not who then
                answer.is_complete = (state_of(tail, answer))
            end
            return who, err
        end
        answer.has_begun = true
        if not answer.first_output_at then
            note_first_output(answer, options.on_first_output)
        end
        local ok
        ok, err = deliver(options, bytes, exchange.done)
        if not ok then
            return "client", err
        end
        local complete, long = events:feed(bytes)
        if long then
            note_long(answer, long, watch)
            tail.long = long
        end
        if complete then
            if note_complete(answer, complete, watch) > 0 then
                tail.last, tail.long = complete, nil
                tail.over_at = nil
            elseif is_kept_open(tail, answer) then
                if options.cache then
                    answer.is_complete = true
                end
                return nil
            end
        end
        pace:read(#bytes)
    end
end


-- Reads usage and model from a complete JSON answer.
local function note_answer(answer, scan, watch)
    scan:finish()
    answer.usage = token_usage.of_scan(scan, decode)
    served_by.note_scan(answer, scan)
    if watch then
        watch:ended(scan)
    end
end


local function forward_body(exchange, answer, watch, options)
    local content_type = exchange.headers["content-type"]
    local scan
    if watch or content_type and find(lower(content_type), "json", 1, true) then
        scan = json_scan.new(watch and watch.plan or ANSWER)
    end

    local pace = turns.new()
    while true do
        local bytes, err = exchange:read()
        if not bytes then
            if scan and not err and options.has_whole_json and exchange.framing == "close"
               and scan:is_cut()
            then
                err = "closed before its JSON ended"
            end
            if scan and not err then
                note_answer(answer, scan, watch)
            end
            return err and "backend" or nil, err
        end
        answer.has_begun = true
        -- The owner of a new object must be known before the client can ask for the object.
        if scan then
            scan:feed(bytes)
            if watch then
                watch:scanned(scan)
            end
            if exchange.done then
                note_answer(answer, scan, watch)
                scan = nil
            end
        end
        local ok
        ok, err = deliver(options, bytes, exchange.done)
        if not ok then
            return "client", err
        end
        pace:read(#bytes)
    end
end


--- Passes on the body as it arrives.
-- @tparam table exchange
-- @tparam table answer gets `usage`, `model`, `service_tier`, `first_output_at` (seconds) and
--   `has_begun`; `images` is the expected number of images in a stream
-- @tparam table|nil preamble of a stream that has had output
-- @tparam boolean is_stream
-- @tparam table|nil watch observes the answer: `scanned(scan)` and `ended(scan)` of a JSON body,
--   which is scanned for its `plan`; `events(complete)` and `event(scan)` of a stream
-- @tparam table options `on_first_output`: called with `answer` when a stream's first output is
--   sent; `heartbeat_ms`: the silence after which a comment is sent, or nil; `has_whole_json`: a
--   JSON answer that is cut off is a failure; `cache`: the request's part in the answer cache, or
--   nil. Gets `is_gone` if the client has left and others wait for the answer
-- @treturn string|nil who broke it off: "backend" or "client"
-- @treturn string|nil the error
function _M.send_body(exchange, answer, preamble, is_stream, watch, options)
    if exchange.done and not exchange.pushed and not preamble then
        -- Without this call, nginx would not know that the answer is complete, and would look for a
        -- backend itself.
        ngx.send_headers()
        return nil
    end
    local who, err
    if is_stream then
        if not preamble and not _M.flush_head() then
            if not (options.cache and options.cache:stays()) then
                return "client", "it went away before the head was sent"
            end
            options.is_gone = true
        end
        who, err = forward_events(exchange, answer, preamble, watch, options)
    else
        who, err = forward_body(exchange, answer, watch, options)
    end
    if not who and not answer.has_begun then
        ngx.send_headers()
    end
    return who, err
end


return _M
