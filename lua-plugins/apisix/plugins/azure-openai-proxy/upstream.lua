--- One exchange with one backend: connects, sends, reads the answer's head, and then its body as it
-- arrives.

local chunked = require("genai.chunked")
local http = require("resty.http")
local http_head = require("genai.http_head")
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

-- As much as one read takes: whatever has arrived goes on in one piece.
local READ_SIZE = 65536

-- Heads of answers that only announce another one.
local MAX_INTERIM = 20

-- A connection that was kept alive may have been closed just when it was used.
local STALE = { ["closed"] = true, ["connection reset by peer"] = true, ["broken pipe"] = true }


local function frame(self, method, response)
    local status, headers = response.status, response.headers
    local coding, length = headers["transfer-encoding"], headers["content-length"]
    if method == "HEAD" or status == 204 or status == 304 then
        self.framing, self.done = "none", true
    elseif coding then
        if lower(coding) ~= "chunked" then
            return nil, "its transfer coding is not known"
        end
        self.framing, self.decoder = "chunked", chunked.new()
    elseif length then
        if find(length, "%D") or length == "" then
            return nil, "its length is no number"
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


-- Head and body in one write where the body is at hand.
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


-- Reads until the head is complete. What arrives is put together once, not once for each read.
local function read_head(socket)
    local parts, size, tail, interim = {}, 0, "", 0
    while true do
        local data, err = socket:receiveany(READ_SIZE)
        if not data then
            return nil, err
        end
        parts[#parts + 1] = data
        size = size + #data
        local seam = tail .. data
        tail = sub(seam, -2)
        if size > http_head.MAX or find(seam, "\n\r\n", 1, true) or find(seam, "\n\n", 1, true) then
            local text = concat(parts)
            local response
            response, err = http_head.response(text)
            -- Answers that only announce the real one.
            while response and response.status < 200 do
                interim = interim + 1
                if interim > MAX_INTERIM then
                    return nil, "it announces its answer too often"
                end
                text = response.rest
                response, err = http_head.response(text)
            end
            if response or err then
                return response, err
            end
            parts, size, tail = { text }, #text, sub(text, -2)
        end
    end
end


--- Sends a request to a backend.
-- @tparam table backend of the pool
-- @tparam string method
-- @tparam string|table head the request's head, perhaps in pieces
-- @tparam string|function|nil body
-- @tparam table timeouts `connect_ms`, `send_ms`, `read_ms`
-- @tparam boolean is_fresh over a connection that was not used before
-- @treturn table|nil the exchange: `status`, `headers`, and its methods
-- @treturn string|nil what failed: "connect", "stale" (a connection that had been kept alive),
--   "reset" or "timeout"
-- @treturn string|nil the error
function _M.send(backend, method, head, body, timeouts, is_fresh)
    local client, err = http.new()
    if not client then
        return nil, "connect", err
    end
    client:set_timeouts(timeouts.connect_ms, timeouts.send_ms, timeouts.read_ms)

    local ok
    repeat
        ok, err = client:connect(backend.connection)
        if not ok then
            return nil, "connect", err
        end
    -- Others that were kept from the same time have most likely gone the same way.
    until not is_fresh or client:get_reused_times() == 0 or not client:close()

    local socket = client.sock
    local response
    ok, err = write(socket, head, body)
    if ok then
        response, err = read_head(socket)
    end
    if not response then
        local is_reused = client:get_reused_times() ~= 0
        client:close()
        if err == "timeout" then
            return nil, "timeout", err
        end
        return nil, is_reused and STALE[err] and "stale" or "reset", err
    end

    local self = setmetatable({
        client = client,
        socket = socket,
        status = response.status,
        headers = response.headers,
        timeouts = timeouts,
        done = false,
    }, mt)
    ok, err = frame(self, method, response)
    if not ok then
        client:close()
        return nil, "reset", err
    end
    return self
end


--- Sends a request of the gateway's own, which has no body: over a fresh connection where one that
-- was kept alive had gone stale.
-- @tparam table backend
-- @tparam string head
-- @tparam table timeouts those of clients' requests
-- @tparam number step_ms the longest time for each step, in milliseconds
-- @treturn table|nil the exchange, and what failed, as `send` gives them
function _M.get(backend, head, timeouts, step_ms)
    local capped = {
        connect_ms = min(timeouts.connect_ms, step_ms),
        send_ms = min(timeouts.send_ms, step_ms),
        read_ms = min(timeouts.read_ms, step_ms),
    }
    local exchange, phase, err = _M.send(backend, "GET", head, nil, capped, false)
    if phase == "stale" then
        return _M.send(backend, "GET", head, nil, capped, true)
    end
    return exchange, phase, err
end


--- Changes how long a read may take.
function _M:set_read_timeout(milliseconds)
    local timeouts = self.timeouts
    self.socket:settimeouts(timeouts.connect_ms, timeouts.send_ms, milliseconds)
end


--- The next bytes of the body, as soon as there are any.
-- @treturn string|nil nil when it is complete
-- @treturn nil|string "timeout", or how it broke off
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


--- Gives bytes back that were read: they are read again.
function _M:put_back(bytes)
    self.pushed = bytes ~= "" and bytes or nil
end


--- The rest of a short body, an error's mostly.
-- @tparam number limit bytes; of a longer body no more than that is read
-- @tparam number|nil within_ms the time limit of all reads together; nil: each has its own
-- @treturn string what has arrived, and the body may go on
-- @treturn nil|string "timeout", or how it broke off
function _M:read_short(limit, within_ms)
    local pieces, size, err = {}, 0, nil
    local deadline = within_ms and ngx_now() + within_ms / 1000
    while size < limit do
        if deadline then
            local left = (deadline - ngx_now()) * 1000
            if left < 1 then
                break
            end
            self:set_read_timeout(left)
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


--- Ends the exchange. A connection whose answer was read to its end is kept for the next one.
function _M:finish(pool)
    if self.done and self.may_be_kept and not self.has_surplus and pool.keepalive then
        self.client:set_keepalive(pool.keepalive_timeout, pool.keepalive_pool)
    else
        self.client:close()
    end
end


--- Whether an answer is a stream of events. Some come without a content type.
function _M:is_event_stream(was_asked_for)
    local content_type = self.headers["content-type"]
    if not content_type then
        return was_asked_for and self.status == 200
    end
    return find(lower(content_type), "text/event-stream", 1, true) ~= nil
end


return _M
