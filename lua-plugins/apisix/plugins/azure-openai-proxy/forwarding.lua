--- Hands a backend's answer on to the client, and reads from it what it used.

local core = require("apisix.core")
local latency = require("apisix.plugins.azure-openai-proxy.latency")
local turns = require("apisix.plugins.azure-openai-proxy.turns")
local events_mod = require("genai.events")
local headers_mod = require("genai.headers")
local json_scan = require("genai.json_scan")
local sse = require("genai.sse")
local usage_mod = require("genai.usage")
local verdict = require("genai.verdict")
local ngx = ngx
local clear_request_header = ngx.req.clear_header
local ngx_now = ngx.now
local ngx_flush = ngx.flush
local ngx_print = ngx.print
local concat = table.concat
local find = string.find
local ipairs = ipairs
local lower = string.lower
local min = math.min

local _M = {}

-- A stream that failed without a word says more in its next event, or not at all.
local ERROR_WAIT_S = 0.1

-- Leading events beyond this are sent whatever they are.
local MAX_HELD = 1024 * 1024

-- What the scan of a JSON answer looks for, where nothing else is to be found in it.
local ANSWER = json_scan.plan(usage_mod.WANTED)


local function decode(text)
    return (core.json.decode(text))
end


-- What one of the leading events means for the stream. Gives true where no more has to be read.
local function note_leading(result, name, event)
    local kind, status, said = verdict.of_event(name, event)
    if kind == "error" then
        result.status, result.error = status, said
        return said ~= nil and said.message ~= nil
    elseif kind == "output" then
        if said and not result.error then
            -- What had failed without a word was the client's fault.
            result.status = nil
        end
        result.has_output = not result.status or nil
    end
    return false
end


-- The same for all events of a text.
local function note_all_leading(result, complete)
    local position = 1
    while true do
        local next_position, data, name = sse.next_event(complete, position)
        if not next_position then
            return false
        end
        position = next_position
        if data and note_leading(result, name, events_mod.of_data(data, decode)) then
            return true
        end
    end
end


--- Reads the leading events of a stream, until there is output, an error or no time left.
-- @tparam table exchange
-- @tparam number hold_ms
-- @treturn table `held` (what was read, to be sent), `events` (the reader to go on with),
--   `complete` and `long` (lists of texts of complete events, and of long ones); of a refused
--   stream `status` and `error`; of one that broke off `err`
function _M.read_leading(exchange, hold_ms)
    local events = sse.new()
    local result = { held = {}, events = events, complete = {}, long = {} }
    local deadline = ngx_now() + hold_ms / 1000
    local read_ms = exchange.timeouts.read_ms
    local pace = turns.new()
    local size = 0
    while true do
        local left = (deadline - ngx_now()) * 1000
        if left < 1 then
            break
        end
        exchange:set_read_timeout(min(left, read_ms))
        local bytes, err = exchange:read()
        if not bytes then
            if err ~= "timeout" or left > read_ms then
                result.err = err
            end
            break
        end

        result.held[#result.held + 1] = bytes
        size = size + #bytes
        local had_error = result.status
        local complete, long = events:feed(bytes)
        if long then
            result.long[#result.long + 1] = long
            if note_leading(result, long.name, events_mod.of_scan(long.scan, decode)) then
                return result
            end
        end
        if complete then
            result.complete[#result.complete + 1] = complete
            if note_all_leading(result, complete) then
                return result
            end
        end
        if result.status and not had_error then
            -- What the error is may come as an event of its own.
            deadline = min(deadline, ngx_now() + ERROR_WAIT_S)
        end
        if result.has_output or size > MAX_HELD then
            break
        end
        pace:read(#bytes)
    end
    exchange:set_read_timeout(exchange.timeouts.read_ms)
    return result
end


local function set_header(name, value)
    ngx.header[name] = value
end


-- nginx would compare these with ETag and Last-Modified of the answer, and make a 304 or 412 of a
-- 200; the backend has seen them.
local function leave_conditions_to_backend()
    clear_request_header("if-match")
    clear_request_header("if-none-match")
    clear_request_header("if-modified-since")
    clear_request_header("if-unmodified-since")
end


--- Sends status and headers, which are the backend's.
function _M.send_head(exchange)
    local headers = exchange.headers
    ngx.status = exchange.status
    headers_mod.to_client(headers, set_header)
    if headers["etag"] or headers["last-modified"] then
        leave_conditions_to_backend()
    end
    if not headers["content-type"] then
        -- Else nginx would add one of its own.
        ngx.header["Content-Type"] = ""
    end
end


local function note_event(seen, event)
    seen.usage = usage_mod.of_event(event) or seen.usage
    if seen.wants_model then
        seen.model = usage_mod.model_of_event(event)
    end
end


local function note_usage(seen, complete)
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
            note_event(seen, events_mod.of_data(data, decode))
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


-- Sends bytes; waits for a client that is slower than the backend.
local function pass_on(bytes, is_last)
    local ok, err = ngx_print(bytes)
    -- The end is flushed with the end of the request.
    if ok and not is_last then
        ok, err = ngx_flush(true)
    end
    return ok, err
end


local function note_first_output(seen)
    seen.first_output_at = ngx_now()
    if seen.awaited_by then
        latency.first_output(seen)
    end
end


-- Notes what complete events say.
local function note_complete(seen, complete, watch)
    seen.events = seen.events + count_events(complete)
    note_usage(seen, complete)
    if watch then
        watch:events(complete)
    end
end


-- Notes what a long event says.
local function note_long(seen, long, watch)
    seen.events = seen.events + 1
    if long.scan.members.usage or long.scan.members["response.usage"] then
        note_event(seen, events_mod.of_scan(long.scan, decode))
    end
    if watch then
        watch:event(long.scan)
    end
end


local function forward_events(exchange, seen, leading, watch)
    local events = leading and leading.events or sse.new()
    local pace = turns.new()
    seen.events = 0
    if leading then
        local held = concat(leading.held)
        for _, long in ipairs(leading.long) do
            note_long(seen, long, watch)
        end
        for _, complete in ipairs(leading.complete) do
            note_complete(seen, complete, watch)
            pace:read(#complete)
        end
        if held ~= "" then
            seen.has_begun = true
            local ok, err = pass_on(held, exchange.done)
            if not ok then
                return "client", err
            end
        end
        if leading.has_output then
            note_first_output(seen)
        end
        if leading.err then
            return "backend", leading.err
        end
    end

    while true do
        local bytes, err = exchange:read()
        if not bytes then
            return err and "backend" or nil, err
        end
        seen.has_begun = true
        if not seen.first_output_at then
            note_first_output(seen)
        end
        local ok
        ok, err = pass_on(bytes, exchange.done)
        if not ok then
            return "client", err
        end
        local complete, long = events:feed(bytes)
        if long then
            note_long(seen, long, watch)
        end
        if complete then
            note_complete(seen, complete, watch)
        end
        pace:read(#bytes)
    end
end


-- Notes what a JSON answer says that has come to its end.
local function note_answer(seen, scan, watch)
    scan:finish()
    seen.usage = usage_mod.of_scan(scan, decode)
    if seen.wants_model then
        seen.model = usage_mod.model_of_scan(scan)
    end
    if watch then
        watch:ended(scan)
    end
end


local function forward_body(exchange, seen, watch)
    local content_type = exchange.headers["content-type"]
    local scan
    if watch or content_type and find(lower(content_type), "json", 1, true) then
        scan = json_scan.new(watch and watch.plan or ANSWER)
    end

    local pace = turns.new()
    while true do
        local bytes, err = exchange:read()
        if not bytes then
            if scan and not err then
                note_answer(seen, scan, watch)
            end
            return err and "backend" or nil, err
        end
        seen.has_begun = true
        -- What was made, and where, is known before the client can ask for it.
        if scan then
            scan:feed(bytes)
            if watch then
                watch:scanned(scan)
            end
            if exchange.done then
                note_answer(seen, scan, watch)
                scan = nil
            end
        end
        local ok
        ok, err = pass_on(bytes, exchange.done)
        if not ok then
            return "client", err
        end
        pace:read(#bytes)
    end
end


--- Hands the body on as it arrives.
-- @tparam table exchange
-- @tparam table seen filled with `usage`, `first_output_at` (seconds) and `has_begun`, and with
--   `model` where it has `wants_model`
-- @tparam table|nil leading of a stream, as `read_leading` gave it
-- @tparam boolean is_stream
-- @tparam table|nil watch looks on: `scanned(scan)` and `ended(scan)` of a JSON body, which is
--   scanned for its `plan`; `events(complete)` and `event(scan)` of a stream
-- @treturn string|nil who broke it off: "backend" or "client"
-- @treturn string|nil how
function _M.send_body(exchange, seen, leading, is_stream, watch)
    if exchange.done and not exchange.pushed and not leading then
        -- Nothing would tell nginx that the answer is here, and it would look for a backend itself.
        ngx.send_headers()
        return nil
    end
    local who, err
    if is_stream then
        who, err = forward_events(exchange, seen, leading, watch)
    else
        who, err = forward_body(exchange, seen, watch)
    end
    if not who and not seen.has_begun then
        ngx.send_headers()
    end
    return who, err
end


return _M
