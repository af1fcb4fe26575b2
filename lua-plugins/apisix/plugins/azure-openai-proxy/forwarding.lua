--- Hands a backend's answer on to the client, and reads from it what it used.

local core = require("apisix.core")
local latency = require("apisix.plugins.azure-openai-proxy.latency")
local headers_mod = require("genai.headers")
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
local lower = string.lower
local min = math.min
local sub = string.sub

local _M = {}

-- A stream that failed without a word says more in its next event, or not at all.
local ERROR_WAIT_S = 0.1

-- Leading events beyond this are sent whatever they are.
local MAX_HELD = 1024 * 1024

-- Of a longer JSON answer only the end is kept, where its usage stands.
local MAX_JSON_KEPT = 1024 * 1024


local function decode(text)
    return (core.json.decode(text))
end


--- Reads the leading events of a stream, until there is output, an error or no time left.
-- @tparam table exchange
-- @tparam number hold_ms
-- @treturn table `held` (what was read, to be sent), `events` (the reader to go on with); of a
--   refused stream `status` and `error`; of one that broke off `err`
function _M.read_leading(exchange, hold_ms)
    local events = sse.new()
    local result = { held = {}, events = events }
    local deadline = ngx_now() + hold_ms / 1000
    local read_ms = exchange.timeouts.read_ms
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
        local complete = events:feed(bytes)
        local position = 1
        while complete do
            local next_position, data, name = sse.next_event(complete, position)
            if not next_position then
                break
            end
            position = next_position
            if data then
                local kind, status, said = verdict.of_event(name, decode(data))
                if kind == "error" then
                    result.status, result.error = status, said
                    if said and said.message then
                        return result
                    end
                    -- What the error is may come as an event of its own.
                    deadline = min(deadline, ngx_now() + ERROR_WAIT_S)
                elseif kind == "output" and not result.status then
                    result.has_output = true
                end
            end
        end
        if complete then
            result.complete = result.complete and result.complete .. complete or complete
        end
        if result.has_output or size > MAX_HELD then
            break
        end
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
            local event = decode(data)
            seen.usage = usage_mod.of_event(event) or seen.usage
            if seen.wants_model then
                seen.model = usage_mod.model_of_event(event)
            end
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


local function forward_events(exchange, seen, leading, watch)
    local events = leading and leading.events or sse.new()
    seen.events = 0
    if leading then
        local held = concat(leading.held)
        if leading.complete then
            seen.events = count_events(leading.complete)
            note_usage(seen, leading.complete)
            if watch then
                watch:events(leading.complete)
            end
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
        local complete = events:feed(bytes)
        if complete then
            seen.events = seen.events + count_events(complete)
            note_usage(seen, complete)
            if watch then
                watch:events(complete)
            end
        end
    end
end


local function forward_body(exchange, seen, watch)
    local content_type = exchange.headers["content-type"]
    local kept, size = nil, 0
    if content_type and find(lower(content_type), "json", 1, true) then
        kept = {}
    end

    while true do
        local bytes, err = exchange:read()
        if not bytes then
            if not err and kept and kept[1] then
                local text = kept[2] and concat(kept) or kept[1]
                seen.usage = usage_mod.of_body(text, decode)
                if seen.wants_model and size <= MAX_JSON_KEPT then
                    seen.model = usage_mod.model_of_body(text, decode)
                end
            end
            return err and "backend" or nil, err
        end
        seen.has_begun = true
        if watch then
            watch:piece(bytes, exchange.done)
        end
        local ok
        ok, err = pass_on(bytes, exchange.done)
        if not ok then
            return "client", err
        end
        if kept then
            kept[#kept + 1] = bytes
            size = size + #bytes
            if size > MAX_JSON_KEPT then
                kept = { sub(concat(kept), -usage_mod.TAIL) }
                size = usage_mod.TAIL
            end
        end
    end
end


--- Hands the body on as it arrives.
-- @tparam table exchange
-- @tparam table seen filled with `usage`, `first_output_at` (seconds) and `has_begun`, and with
--   `model` where it has `wants_model`
-- @tparam table|nil leading of a stream, as `read_leading` gave it
-- @tparam boolean is_stream
-- @tparam table|nil watch looks on: `piece(bytes, is_last)` of a body, `events(complete)` of a
--   stream
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
