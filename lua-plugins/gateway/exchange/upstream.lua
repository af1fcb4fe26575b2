--- One exchange with one backend: connects, sends the request, reads the head of the answer, then
-- its body as it arrives.

local chunked = require("genai.http.chunked")
local connections = require("gateway.exchange.connections")
local http_head = require("genai.http.http_head")
local tls_problems = require("gateway.exchange.tls_problems")
local wrong_scheme = require("genai.http.wrong_scheme")
local concat = table.concat
local find = string.find
local lower = string.lower
local min = math.min
local ngx_now = ngx.now
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}
local mt = { __index = _M }

-- The maximum size of one read: whatever has arrived is passed on in one piece.
local READ_SIZE = 65536

-- Maximum number of interim answers (status 1xx).
local MAX_INTERIM = 20

-- Time limit for the head of an answer as a whole, counted from its first byte.
local HEAD_MS = 10000

-- Errors of a kept connection that the server closed just as it was reused.
local STALE = { ["closed"] = true, ["connection reset by peer"] = true, ["broken pipe"] = true }

-- How long to wait for the rest of an answer that began while the body was still being sent.
local EARLY_MS = 1000

-- Limits for reading a TLS port's answer to plain HTTP, which is short.
local COMPLAINT_BYTES, COMPLAINT_MS = 4096, 500


local function frame(self, method, response)
    local status, headers = response.status, response.headers
    local coding, length = headers["transfer-encoding"], headers["content-length"]
    if method == "HEAD" or status == 204 or status == 304 then
        self.framing, self.done = "none", true
    elseif coding then
        if lower(coding) ~= "chunked" then
            return nil, "its transfer-encoding is not supported"
        end
        self.framing, self.decoder = "chunked", chunked.new()
    elseif length then
        if find(length, "%D") or length == "" then
            return nil, "its content-length is not a number"
        end
        self.left = tonumber(length)
        self.framing = "length"
        self.done = self.left == 0
    else
        self.framing = "close"
    end

    local connection = lower(headers["connection"] or "")
    self.may_be_kept = self.framing ~= "close" and not find(connection, "close", 1, true)
                       and (response.version == "1.1" or find(connection, "keep-alive", 1, true))
    self.rest = response.rest ~= "" and response.rest or nil
    self.has_surplus = self.done and self.rest ~= nil
    return true
end


-- Writes head and body at once if the body is a string.
local function write(socket, head, body)
    if type(body) ~= "function" then
        return socket:send(body and { head, body } or head)
    end

    local ok, err = socket:send(head)
    while ok do
        local piece = body()
        if not piece then
            return true
        end
        ok, err = socket:send(piece)
    end
    return nil, err
end


-- Sets the time limit of the next read, once the first bytes of a head have arrived.
local function limit_read(socket, timeouts, deadline)
    local left = (deadline - ngx_now()) * 1000
    if left < 1 then
        return false
    end
    socket:settimeouts(timeouts.connect_ms, timeouts.send_ms, min(left, timeouts.read_ms))
    return true
end


-- Reads until the head is complete. The pieces are joined once, not after each read. The socket's
-- limit counts until the first bytes.
local function read_head(socket, timeouts)
    local parts, size, tail, interim = {}, 0, "", 0
    local deadline
    while true do
        if deadline and not limit_read(socket, timeouts, deadline) then
            return nil, "timeout"
        end
        local data, err = socket:receiveany(READ_SIZE)
        if not data then
            return nil, err
        elseif size == 0 and not wrong_scheme.may_be_http(data) then
            return nil, wrong_scheme.is_tls(data) and "tls" or "its first line is not HTTP"
        end
        parts[#parts + 1] = data
        size = size + #data
        local seam = tail .. data
        tail = sub(seam, -2)
        if size > http_head.MAX or find(seam, "\n\r\n", 1, true) or find(seam, "\n\n", 1, true) then
            local text = concat(parts)
            local response
            response, err = http_head.response(text)
            -- An interim answer only announces the final one, which may take its time.
            while response and response.status < 200 do
                interim = interim + 1
                if interim > MAX_INTERIM then
                    return nil, "it sent too many answers with status 1xx"
                end
                deadline = nil
                text = response.rest
                response, err = http_head.response(text)
            end
            if response or err then
                return response, err
            end
            parts, size, tail = { text }, #text, sub(text, -2)
            socket:settimeouts(timeouts.connect_ms, timeouts.send_ms,
                               timeouts.first_byte_ms or timeouts.read_ms)
        end
        if size > 0 then
            deadline = deadline or ngx_now() + HEAD_MS / 1000
        end
    end
end


-- Sends the request and reads the head of the answer. A server may answer and close the connection
-- before it has read the whole body; its answer then counts, not the failed write. Returns the
-- response, or nil and the error; and whether the body was sent.
local function converse(socket, head, body, timeouts)
    local ok, write_err = write(socket, head, body)
    if ok then
        local first_byte_ms = timeouts.first_byte_ms
        if first_byte_ms then
            socket:settimeouts(timeouts.connect_ms, timeouts.send_ms, first_byte_ms)
        end
        local response, err = read_head(socket, timeouts)
        if first_byte_ms and response then
            socket:settimeouts(timeouts.connect_ms, timeouts.send_ms, timeouts.read_ms)
        end
        return response, err, true
    end
    local early = { connect_ms = timeouts.connect_ms, send_ms = timeouts.send_ms,
                    read_ms = min(timeouts.read_ms, EARLY_MS) }
    socket:settimeouts(early.connect_ms, early.send_ms, early.read_ms)
    return read_head(socket, early), write_err, false
end


-- Whether an answer says that the port speaks TLS.
local function is_complaint(self, target)
    if self.status ~= 400 or target.is_tls then
        return false
    end
    local content_type = self.headers["content-type"]
    if content_type and find(lower(content_type), "json", 1, true) then
        return false
    end
    local text = self:read_short(COMPLAINT_BYTES, COMPLAINT_MS)
    if wrong_scheme.asks_for_https(text) then
        return true
    end
    self:put_back(text)
    return false
end


--- Sends a request to a backend.
-- @tparam table backend of the pool
-- @tparam string method
-- @tparam string|table head the request's head, possibly in pieces
-- @tparam string|function|nil body
-- @tparam table timeouts `connect_ms`, `send_ms`, `read_ms`; `first_byte_ms`, if the first byte of
--   the answer has a limit of its own
-- @tparam boolean is_fresh true: over a new connection
-- @treturn table|nil the exchange: `status`, `headers`, and its methods
-- @treturn string|nil what failed: "connect", "stale" (a kept connection was closed), "reset" or
--   "timeout"
-- @treturn string|nil the error
function _M.send(backend, method, head, body, timeouts, is_fresh)
    local target = backend.connection
    local socket, is_reused = connections.open(target, timeouts, is_fresh)
    if not socket then
        return nil, "connect", is_reused
    end

    local response, err, is_sent = converse(socket, head, body, timeouts)
    if not response then
        socket:close()
        if err == "timeout" then
            return nil, "timeout", err
        elseif err == "tls" then
            return nil, "connect", tls_problems.of_plain_http(target)
        end
        return nil, is_reused and STALE[err] and "stale" or "reset", err
    end

    local self = setmetatable({
        socket = socket,
        status = response.status,
        headers = response.headers,
        timeouts = timeouts,
        done = false,
    }, mt)
    local ok
    ok, err = frame(self, method, response)
    if not ok then
        socket:close()
        return nil, "reset", err
    end
    if not is_sent then
        self.may_be_kept = false
        self:set_read_timeout(timeouts.read_ms)
    elseif is_complaint(self, target) then
        socket:close()
        return nil, "connect", tls_problems.of_plain_http(target)
    end
    return self
end


--- Sends a request; repeats it over a new connection if the server has closed a kept one.
function _M.send_again_if_stale(backend, method, head, body, timeouts)
    local exchange, phase, err = _M.send(backend, method, head, body, timeouts, false)
    if phase == "stale" then
        return _M.send(backend, method, head, body, timeouts, true)
    end
    return exchange, phase, err
end


--- Sends a request of the gateway itself, without body.
-- @tparam table backend
-- @tparam string head
-- @tparam table timeouts those of client requests
-- @tparam number step_ms the longest time for each step, in milliseconds
-- @treturn table|nil the exchange, and what failed, as `send` returns them
function _M.get(backend, head, timeouts, step_ms)
    return _M.send_again_if_stale(backend, "GET", head, nil, {
        connect_ms = min(timeouts.connect_ms, step_ms),
        send_ms = min(timeouts.send_ms, step_ms),
        read_ms = min(timeouts.read_ms, step_ms),
    })
end


--- Changes the time limit of reads.
function _M:set_read_timeout(milliseconds)
    local timeouts = self.timeouts
    self.socket:settimeouts(timeouts.connect_ms, timeouts.send_ms, milliseconds)
end


--- The next bytes of the body, as soon as there are any.
-- @treturn string|nil nil: the body is complete
-- @treturn nil|string "timeout", or the error
function _M:read()
    if self.pushed then
        local bytes = self.pushed
        self.pushed = nil
        return bytes
    end
    while not self.done do
        local data, err = self.rest, nil
        if data then
            self.rest = nil
        else
            data, err = self.socket:receiveany(READ_SIZE)
        end
        if not data then
            if err == "closed" and self.framing == "close" then
                self.done = true
                return nil
            end
            return nil, err
        end

        if self.framing == "length" then
            local left = self.left - #data
            if left < 0 then
                data = sub(data, 1, self.left)
                left = 0
                self.has_surplus = true
            end
            self.left = left
            self.done = left == 0
            return data
        elseif self.framing == "close" then
            return data
        end

        local payload
        payload, err = self.decoder:feed(data)
        if err then
            return nil, err
        end
        self.done = self.decoder.done
        self.has_surplus = self.done and self.decoder.rest ~= nil
        if payload then
            return payload
        end
    end
    return nil
end


--- Puts bytes back, so that the next read returns them again.
function _M:put_back(bytes)
    self.pushed = bytes ~= "" and bytes or nil
end


--- Reads the rest of a short body, usually an error's.
-- @tparam number limit in bytes; the rest of a longer body is not read
-- @tparam number|nil within_ms the time limit of all reads together; nil: each read has its own
-- @treturn string the bytes that arrived; the body may be longer
-- @treturn nil|string "timeout", or the error
function _M:read_short(limit, within_ms)
    local pieces, size, err = {}, 0, nil
    local deadline = within_ms and ngx_now() + within_ms / 1000
    while size < limit do
        if deadline then
            local left = (deadline - ngx_now()) * 1000
            if left < 1 then
                break
            end
            self:set_read_timeout(min(left, self.timeouts.read_ms))
        end
        local data
        data, err = self:read()
        if not data then
            break
        end
        pieces[#pieces + 1] = data
        size = size + #data
    end
    if deadline then
        self:set_read_timeout(self.timeouts.read_ms)
    end
    return concat(pieces), err
end


--- Ends the exchange. A connection whose answer was read completely is kept.
function _M:finish(pool)
    if self.done and self.may_be_kept and not self.has_surplus and pool.keepalive then
        connections.keep(self.socket, pool.keepalive_timeout, pool.keepalive_pool)
    else
        self.socket:close()
    end
end


--- Ends the exchange without reading the rest of the answer.
function _M:close()
    self.socket:close()
end


--- Whether an answer is a stream of events. Some backends send streams without a content type.
function _M:is_event_stream(was_asked_for)
    local content_type = self.headers["content-type"]
    if not content_type then
        return was_asked_for and self.status == 200
    end
    return find(lower(content_type), "text/event-stream", 1, true) ~= nil
end


return _M
