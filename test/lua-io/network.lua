--- Servers that answer as a test scripts them, and `resty.http` in front of them. The gateway's own
-- HTTP runs on it: what servers get and give are bytes.
--
-- An answer is a table. Before there is an answer: `refuses` (the error of connecting, after
-- `takes` seconds), `is_stale` (a kept connection that the server has closed), `resets`, `times_out`
-- or `hangs` (not even a time limit ends it). Else `status`, `headers`, `takes` (seconds to its
-- head), and `body`, a text that arrives with the head, or `pieces`, texts that arrive one by one;
-- a number among them is seconds until the next piece. `breaks` is how the body breaks off after
-- them: "closed", "timeout" or another error. An answer that is `raw` has its `text` for a body, which
-- ends with the connection.

local concat = table.concat
local error = error
local format = string.format
local gmatch = string.gmatch
local insert = table.insert
local ipairs = ipairs
local lower = string.lower
local match = string.match
local max = math.max
local pairs = pairs
local remove = table.remove
local setmetatable = setmetatable
local tostring = tostring
local type = type

local _M = {}
local mt = { __index = _M }

local OK = { status = 200, headers = { ["content-type"] = "application/json" }, body = "{}" }

-- What reading from a connection that nobody uses any more gives.
local CLOSED = "closed"


--- @tparam table scheduler
function _M.new(scheduler)
    return setmetatable({ scheduler = scheduler, servers = {}, sent = {}, connected = {},
                          numbers = 0 }, mt)
end


--- Scripts a server. It gives the answers in turn, and the last one from then on.
-- @tparam string name "host" or "host:port"
-- @param ... answers, or one function that gets each request and returns its answer
function _M:serve(name, ...)
    local answers = { ... }
    if type(answers[1]) == "function" then
        answers = answers[1]
    end
    self.servers[name] = { name = name, answers = answers, open = 0 }
end


local function server_of(self, host, port)
    local server = self.servers[host .. ":" .. port] or self.servers[host]
    return server or error("the test has no server " .. host .. ":" .. port, 3)
end


local function next_answer(server)
    local answers = server.answers
    if type(answers) == "function" then
        return nil
    end
    return #answers > 1 and remove(answers, 1) or answers[1] or OK
end


local function flat(value, parts)
    if type(value) == "table" then
        for _, each in ipairs(value) do
            flat(each, parts)
        end
    else
        parts[#parts + 1] = tostring(value)
    end
    return parts
end


-- A request as its server reads it; nil while it is not complete.
local function parse(text)
    local head, body = match(text, "^(.-\r\n)\r\n(.*)$")
    if not head then
        return nil
    end
    local method, target = match(head, "^(%S+) (%S+) HTTP/1.1\r\n")
    local headers = {}
    for name, value in gmatch(head, "([^:\r\n]+): ([^\r\n]*)\r\n") do
        headers[lower(name)] = value
    end
    return { method = method, target = target, path = match(target, "^[^?]*"),
             query = match(target, "%?(.*)$"), headers = headers, body = body }
end


-- An answer's bytes: a list of texts and of pauses in seconds.
local function bytes_of(answer)
    local lines = { format("HTTP/1.1 %d %s\r\n", answer.status, "X") }
    for name, value in pairs(answer.headers or {}) do
        for _, each in ipairs(type(value) == "table" and value or { value }) do
            lines[#lines + 1] = name .. ": " .. each .. "\r\n"
        end
    end
    if answer.raw then
        return { concat(lines) .. "\r\n", answer.text }
    end
    if not answer.pieces then
        local body = answer.body or ""
        lines[#lines + 1] = "content-length: " .. (answer.length or #body) .. "\r\n\r\n"
        return { concat(lines) .. body }
    end
    lines[#lines + 1] = "transfer-encoding: chunked\r\n\r\n"
    local list = { concat(lines) }
    for _, piece in ipairs(answer.pieces) do
        list[#list + 1] = type(piece) == "number" and piece
                          or format("%x\r\n%s\r\n", #piece, piece)
    end
    if not answer.breaks then
        list[#list + 1] = "0\r\n\r\n"
    end
    return list
end


local Socket = {}
local socket_mt = { __index = Socket }


function Socket:settimeouts(_, _, read_ms)
    self.read_ms = read_ms
end


function Socket:send(data)
    self.written = self.written .. concat(flat(data, {}))
    return true
end


-- Waits for something that comes at a time; nil and "timeout" where that is too late.
local function wait_till(self, at)
    local scheduler = self.network.scheduler
    local left = at - scheduler.now
    if left > self.read_ms / 1000 then
        scheduler:sleep(self.read_ms / 1000)
        return nil, "timeout"
    elseif left > 0 then
        scheduler:sleep(left)
    end
    return true
end


-- The request has been sent: it is recorded, and the answer is on its way.
local function take_request(self)
    local network = self.network
    local request = parse(self.written) or error("a server got no complete request: " .. self.written)
    local answer = self.answer or self.server.answers(request)
    request.to, request.at, request.answer = self.server.name, network.scheduler.now, answer
    request.is_fresh = not answer.is_stale
    insert(network.sent, request)
    self.request, self.answer = request, answer
    self.bytes = answer.status and bytes_of(answer) or {}
    self.next_at = network.scheduler.now + (answer.takes or 0)
end


function Socket:receiveany()
    if not self.request then
        take_request(self)
    end
    local answer = self.answer
    if answer.hangs then
        self.network.scheduler:hang()
    elseif answer.times_out then
        return wait_till(self, 1 / 0)
    end
    local ok, err = wait_till(self, self.next_at)
    if not ok then
        return nil, err
    elseif answer.is_stale then
        return nil, CLOSED
    elseif answer.resets then
        return nil, "connection reset by peer"
    end
    local piece = remove(self.bytes, 1)
    if type(piece) == "number" then
        self.next_at = self.next_at + piece
        return self:receiveany()
    elseif not piece and answer.breaks == "timeout" then
        return wait_till(self, 1 / 0)
    end
    return piece, not piece and (answer.breaks or CLOSED) or nil
end


local Client = {}
local client_mt = { __index = Client }


function Client:set_timeouts(connect_ms, _, read_ms)
    self.connect_ms, self.read_ms = connect_ms, read_ms
end


function Client:set_timeout(milliseconds)
    self:set_timeouts(milliseconds, milliseconds, milliseconds)
end


function Client:connect(options)
    local network = self.network
    local server = server_of(network, options.host, options.port)
    local answer = next_answer(server)
    insert(network.connected, { to = server.name, options = options, answer = answer })
    if answer and answer.refuses then
        network.scheduler:sleep(answer.takes or 0)
        return nil, answer.refuses
    elseif answer and answer.hangs == "connect" then
        network.scheduler:hang()
    end
    server.open = server.open + 1
    self.server, self.answer, self.is_ended = server, answer, false
    local task = network.scheduler.task
    if task and task.context then
        insert(task.context.connections, self)
    end
    self.sock = setmetatable({ network = network, server = server, answer = answer, written = "",
                               read_ms = self.read_ms }, socket_mt)
    return true
end


function Client:get_reused_times()
    return self.answer and self.answer.is_stale and 1 or 0
end


local function ended(self, how)
    local server = self.server
    if not self.is_ended then
        self.is_ended = true
        server.open = server.open - 1
        if self.sock.request then
            self.sock.request.connection = how
        end
    end
    return true
end


function Client:set_keepalive()
    return ended(self, "kept")
end


function Client:close()
    return ended(self, CLOSED)
end


-- A socket of `ngx.socket.tcp`: a client and its socket in one.
local Tcp = { send = Socket.send, receiveany = Socket.receiveany, getreusedtimes =
              Client.get_reused_times }
local tcp_mt = { __index = Tcp }


function Tcp:settimeouts(connect_ms, _, read_ms)
    self.connect_ms, self.read_ms = connect_ms, read_ms
end


function Tcp:connect(host, port, options)
    self.written, self.request, self.bytes = "", nil, nil
    local known = {}
    for name, value in pairs(options) do
        known[name] = value
    end
    known.host, known.port = host, port
    self.options = known
    local ok, err = Client.connect(self, known)
    self.sock = self
    self.network.numbers = self.network.numbers + 1
    self.number = self.network.numbers
    return ok, err
end


function Tcp:sslhandshake(_, server_name, verify)
    self.options.ssl_server_name, self.options.ssl_verify = server_name, verify
    return true
end


-- Each connection has another one: those that were kept are not known.
function Tcp:getfd()
    return self.number
end


function Tcp:setkeepalive()
    return ended(self, "kept")
end


function Tcp:close()
    return ended(self, CLOSED)
end


--- A socket of `ngx.socket.tcp`.
function _M:tcp()
    return setmetatable({ network = self, connect_ms = 60000, read_ms = 60000, written = "" },
                        tcp_mt)
end


--- A whole request, as lua-resty-http makes it of a URL.
function Client:request_uri(url, options)
    local scheme, host, port, path = match(url, "^(%a+)://([^:/]+):?(%d*)(.*)$")
    port = port ~= "" and port or scheme == "https" and 443 or 80
    local ok, err = self:connect({ scheme = scheme, host = host, port = port })
    if not ok then
        return nil, err
    end
    local lines = { (options.method or "GET") .. " " .. path .. " HTTP/1.1\r\n" }
    for name, value in pairs(options.headers or {}) do
        lines[#lines + 1] = name .. ": " .. value .. "\r\n"
    end
    self.sock:send({ lines, "\r\n", options.body or "" })
    ok, err = self.sock:receiveany()
    self:close()
    if not ok then
        return nil, err
    end
    local answer = self.sock.answer
    return { status = answer.status, headers = answer.headers or {}, body = answer.body or "" }
end


--- The module `resty.http`.
function _M:http()
    return {
        new = function()
            return setmetatable({ network = self, connect_ms = 60000, read_ms = 60000 }, client_mt)
        end,
    }
end


--- The names of the servers that got requests, in order.
-- @tparam string|nil path only those with this path
function _M:asked(path)
    local names = {}
    for _, request in ipairs(self.sent) do
        if not path or request.path == path then
            names[#names + 1] = request.to
        end
    end
    return names
end


--- Connections that are open now.
function _M:open()
    local count = 0
    for _, server in pairs(self.servers) do
        count = count + max(0, server.open)
    end
    return count
end


return _M
