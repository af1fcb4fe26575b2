--- One exchange with one backend: connects, sends, reads the answer's head, and then its body as it
-- arrives.

local chunked = require("genai.chunked")
local http = require("resty.http")
local find = string.find
local lower = string.lower
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}
local mt = { __index = _M }

-- As much as one read takes: whatever has arrived goes on in one piece.
local READ_SIZE = 65536

-- A connection that was kept alive may have been closed just when it was used.
local STALE = { ["closed"] = true, ["connection reset by peer"] = true, ["broken pipe"] = true }


local function frame(self, method, status, headers)
    if method == "HEAD" or status == 204 or status == 304 then
        self.framing, self.done = "none", true
    elseif http.transfer_encoding_is_chunked(headers) then
        self.framing, self.decoder = "chunked", chunked.new()
    else
        local length = headers["Content-Length"]
        self.left = tonumber(type(length) == "table" and length[1] or length)
        self.framing = self.left and "length" or "close"
        self.done = self.left == 0
    end
end


--- Sends a request to a backend.
-- @tparam table backend of the pool
-- @tparam table params `method`, `path`, `query`, `headers`, and `body`: a string or a function
-- @tparam table timeouts `connect_ms`, `send_ms`, `read_ms`
-- @treturn table|nil the exchange: `status`, `headers`, and its methods
-- @treturn string|nil what failed: "connect", "request" (it cannot be sent to any backend), "stale"
--   (a connection that had been kept alive), "reset" or "timeout"
-- @treturn string|nil the error
function _M.send(backend, params, timeouts)
    local client, err = http.new()
    if not client then
        return nil, "connect", err
    end
    client:set_timeouts(timeouts.connect_ms, timeouts.send_ms, timeouts.read_ms)

    local ok
    ok, err = client:connect(backend.connection)
    if not ok then
        return nil, "connect", err
    end
    local is_reused = client:get_reused_times() > 0

    local response
    ok, err = client:send_request(params)
    if ok then
        response, err = client:read_response(params)
        -- Answers that only announce the real one.
        while response and response.status >= 100 and response.status < 200 do
            response, err = client:read_response(params)
        end
    end
    if not response then
        client:close()
        if find(err, "invalid characters found", 1, true) then
            return nil, "request", err
        elseif err == "timeout" then
            return nil, "timeout", err
        end
        return nil, is_reused and STALE[err] and "stale" or "reset", err
    end

    local self = setmetatable({
        client = client,
        socket = client.sock,
        status = response.status,
        headers = response.headers,
        timeouts = timeouts,
        done = false,
    }, mt)
    frame(self, params.method, response.status, response.headers)
    return self
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
    while not self.done do
        local data, err = self.socket:receiveany(READ_SIZE)
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


--- The rest of a short body, an error's mostly.
-- @tparam number limit bytes; of a longer body no more than that is read
-- @treturn string what there is, and the body may go on
function _M:read_short(limit)
    local text = ""
    while #text < limit do
        local data = self:read()
        if not data then
            break
        end
        text = text .. data
    end
    return text
end


--- Ends the exchange. A connection whose answer was read to its end is kept for the next one.
function _M:finish(pool)
    if self.done and not self.has_surplus and self.framing ~= "close" and pool.keepalive then
        self.client:set_keepalive(pool.keepalive_timeout, pool.keepalive_pool)
    else
        self.client:close()
    end
end


--- Whether an answer is a stream of events. Some come without a content type.
function _M:is_event_stream(was_asked_for)
    local content_type = self.headers["Content-Type"]
    if not content_type then
        return was_asked_for and self.status == 200
    end
    return type(content_type) == "string"
           and find(lower(content_type), "text/event-stream", 1, true) ~= nil
end


--- The headers of a request to a backend.
-- @tparam table passed headers that may reach it, by lower-case name
function _M.request_headers(backend, passed, length)
    local headers = {}
    for name, value in pairs(passed) do
        headers[name] = value
    end
    headers["host"] = backend.host
    headers["accept-encoding"] = "identity"
    headers["content-length"] = length
    for name, value in pairs(backend.headers or {}) do
        headers[name] = value
    end
    return headers
end


return _M
