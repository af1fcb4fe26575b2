--- The preamble of a stream: its events before the first output. While only the preamble has
-- arrived, another backend can still answer instead. Nothing is lost: events that were not sent are
-- sent with the output.

local core = require("apisix.core")
local http_headers = require("genai.http.http_headers")
local sse = require("genai.openai.sse")
local stream_events = require("genai.openai.stream_events")
local turns = require("gateway.exchange.turns")
local verdict = require("genai.openai.verdict")
local concat = table.concat
local find = string.find
local min = math.min
local ngx_now = ngx.now
local setmetatable = setmetatable
local sub = string.sub

local _M = {}
local Preamble = {}
local mt = { __index = Preamble }

-- A refused stream may give the reason in another event. It is read until it has been silent for
-- the first of these times, and for the second one at most.
local REFUSED_S, REFUSED_AT_MOST_S = 0.1, 0.5

-- After this many bytes, events are sent whatever they are.
local MAX_BYTES = 1024 * 1024


local function decode(text)
    return (core.json.decode(text))
end


--- The preamble of a stream that has not been read yet.
-- @tparam table exchange
-- @tparam boolean judges whether to examine its events; else the first byte counts as output
-- @treturn table `events` (the reader for the rest of the stream), `complete` and `long` (lists of
--   texts of complete events, and of long ones), `held` (bytes that have not been sent);
--   `has_output`; for a refused stream `status` and `error`, or `client_error` if the client is at
--   fault; for a broken stream `err`
function _M.new(exchange, judges)
    return setmetatable({
        exchange = exchange,
        judges = judges and not http_headers.is_encoded(exchange.headers),
        events = sse.new(),
        pace = turns.new(),
        held = {},
        complete = {},
        long = {},
        -- numbers of bytes: read, allowed to be sent, and sent
        read_bytes = 0,
        free_bytes = 0,
        sent_bytes = 0,
        read_at = ngx_now(),
    }, mt)
end


-- Updates the state of the stream by one event.
local function note_event(self, name, event, data)
    local kind, status, said, is_fault = verdict.of_event(name, event, data)
    if kind == "error" then
        if not self.refused_at then
            self.refused_at = ngx_now()
        end
        -- A throttle tells the client more than a failure, and both tell more than a failure
        -- without a message.
        if said and (not self.error or status == 429 and self.status ~= 429) then
            self.status, self.error = status, said
        end
        self.status = self.status or status
    elseif kind == "end" then
        self.has_ended = true
    elseif kind == "output" and not self.has_output then
        self.client_error = self.client_error or said
        if said and (not self.error or is_fault) then
            -- The error turned out to be the client's fault.
            self.status, self.error = nil, nil
        end
        self.has_output = not self.status or nil
    end
    return kind == "prelude" and verdict.may_be_repeated(name, event)
end


-- Records whether the events up to a byte may be sent before there is output.
local function set_free(self, may_be_sent, last)
    if self.is_withheld or not may_be_sent then
        self.is_withheld = true
    else
        self.free_bytes = last
    end
end


-- Handles all events of a text that begin after the given number of bytes.
local function note_events(self, complete, before)
    local position = 1
    while true do
        local next_position, data, name = sse.next_event(complete, position)
        if not next_position then
            return
        end
        position = next_position
        local may_be_sent = true
        if data then
            may_be_sent = note_event(self, name, stream_events.of_data(data, decode), data)
        end
        set_free(self, may_be_sent, before + position - 1)
    end
end


-- Handles bytes of the stream.
local function take(self, bytes)
    self.held[#self.held + 1] = bytes
    local events, before = self.events, self.read_bytes
    self.read_bytes = before + #bytes
    self.read_at = ngx_now()
    local begun = before - events.size
    local complete, long = events:feed(bytes)
    self.long[#self.long + 1] = long
    self.complete[#self.complete + 1] = complete
    if not self.judges then
        self.has_output = true
        return
    end
    if long then
        begun = before + long.last
        set_free(self, note_event(self, long.name, stream_events.of_scan(long.scan, decode)), begun)
    end
    if complete then
        note_events(self, complete, begun)
    end
    if self.read_bytes > MAX_BYTES and not self.status then
        self.has_output = true
    end
    self.pace:read(#bytes)
end


-- Handles the end of the stream: the empty line after its last event may be missing, or the body
-- may be an error without the form of an event.
local function take_end(self)
    local rest = self.judges and not self.has_output and self.events:rest()
    if not rest or not find(rest, "%S") then
        return
    end
    local status, said
    if self.read_bytes == #rest then
        status, said = verdict.of_body(decode(rest))
    end
    if status then
        self.status, self.error = status, said
        return
    end
    local _, data, name = sse.next_event(rest .. "\n\n", 1)
    local event = data and stream_events.of_data(data, decode)
    if event ~= nil then
        note_event(self, name, event, data)
    end
end


-- The time limit of the next read in milliseconds, and the meaning of a timeout.
local function next_wait(self, deadline)
    local now = ngx_now()
    local wait_ms = self.exchange.timeouts.read_ms - (now - self.read_at) * 1000
    local why = "timeout"
    if deadline and (deadline - now) * 1000 < wait_ms then
        wait_ms, why = (deadline - now) * 1000, "waiting"
    end
    if self.refused_at then
        local ends = min(self.read_at + REFUSED_S, self.refused_at + REFUSED_AT_MOST_S)
        if (ends - now) * 1000 < wait_ms then
            wait_ms, why = (ends - now) * 1000, "refused"
        end
    end
    return wait_ms, why
end


-- The result so far; nil: the preamble continues.
local function result_of(self)
    if self.has_output then
        return "output"
    end
    return self.has_ended and not self.status and "ended" or nil
end


--- Continues to read the stream.
-- @tparam number|nil deadline when to stop, in seconds
-- @tparam boolean stops_after_read whether to stop as soon as something was read
-- @treturn string "output": the answer is the client's; "refused": the stream failed with `status`;
--   "ended": it ended without output; "broken": it broke off with `err`; "waiting": the deadline
--   has passed; "read": something was read
function Preamble:read(deadline, stops_after_read)
    local exchange, result = self.exchange, nil
    while not result do
        local wait_ms, why = next_wait(self, deadline)
        local bytes, err = nil, "timeout"
        if wait_ms >= 1 then
            exchange:set_read_timeout(wait_ms)
            bytes, err = exchange:read()
        end
        if bytes then
            take(self, bytes)
            result = result_of(self) or not self.refused_at and stops_after_read and "read" or nil
        elseif err == "timeout" and why == "refused" then
            result = self.status and "refused" or "output"
        elseif err == "timeout" and why == "waiting" then
            result = "waiting"
        else
            take_end(self)
            self.err = err
            result = result_of(self) or self.status and "refused" or err and "broken" or "ended"
        end
    end
    exchange:set_read_timeout(exchange.timeouts.read_ms)
    return result
end


--- Takes the bytes that may be sent before the first output. They are whole events that a client
-- may get twice, so another backend can still answer afterwards.
-- @treturn string|nil nil: nothing new
function Preamble:take_free()
    local count = self.free_bytes - self.sent_bytes
    if count <= 0 or self.refused_at then
        return nil
    end
    local text = concat(self.held)
    self.held = { sub(text, count + 1) }
    self.sent_bytes = self.free_bytes
    return sub(text, 1, count)
end


return _M
