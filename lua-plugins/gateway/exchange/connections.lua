--- Connections to hosts. They are opened to one of a host's addresses, kept after use, and closed
-- when they are too old or the host has other addresses.

local addresses = require("gateway.exchange.addresses")
local socket_numbers = require("apisix_internals.socket_numbers")
local tls_problems = require("gateway.exchange.tls_problems")
local concat = table.concat
local max = math.max
local ngx_now = ngx.now
local random = math.random
local tcp = ngx.socket.tcp
local tostring = tostring

local _M = {}

-- Kept connections should not all end at once: each lives for at least this share of the maximum
-- lifetime.
local SHORTEST_LIFE = 0.8

local DEFAULT_MAX_AGE_MS = 5 * 60 * 1000

-- By the number of an open connection: its `address`, and `ends`, the time after which it is not
-- kept any more. A new connection with the number of a closed one replaces its entry.
local open = {}


local function prepare(target)
    target.name = addresses.of(target.host)
    target.options = {
        pool = target.pool or concat({ "genai-gateway", target.scheme, target.host, target.port,
                                       target.ssl_server_name or "",
                                       tostring(target.ssl_verify) }, "|"),
        pool_size = target.pool_size,
    }
    target.is_tls = target.scheme == "https"
    target.max_age_s = (target.max_age_ms or DEFAULT_MAX_AGE_MS) / 1000
end


-- Whether a kept connection may be used.
local function is_usable(target, socket)
    local number = socket_numbers.of(socket)
    local known = number and open[number]
    return not known or ngx_now() < known.ends and target.name.addresses[known.address]
end


local function remember(target, socket, address)
    local number = socket_numbers.of(socket)
    if number then
        local age = target.max_age_s * (SHORTEST_LIFE + (1 - SHORTEST_LIFE) * random())
        open[number] = { address = address, ends = ngx_now() + age }
    end
end


-- Starts TLS on a new connection. Returns true; or nil, the error, and whether another address of
-- the host would fail the same way.
local function begin_tls(target, socket, address, timeouts, deadline)
    local left = (deadline - ngx_now()) * 1000
    socket:settimeouts(max(1, left), timeouts.send_ms, timeouts.read_ms)
    -- The first argument is false because no session is reused.
    local ok, err = socket:sslhandshake(false, target.ssl_server_name, target.ssl_verify)
    if ok then
        return true
    end
    socket:close()
    local is_of_host
    err, is_of_host = tls_problems.of_handshake(target, address, err)
    return nil, err, is_of_host
end


-- Connects to an address, or reuses a kept connection. Returns true and whether the connection was
-- reused; or nil, the error, and whether another address would fail the same way.
local function connect(target, socket, address, timeouts, deadline, is_fresh)
    while true do
        local ok, err = socket:connect(address, target.port, target.options)
        if not ok then
            return nil, err
        elseif socket:getreusedtimes() == 0 then
            local is_of_host
            if target.is_tls then
                ok, err, is_of_host = begin_tls(target, socket, address, timeouts, deadline)
                if not ok then
                    return nil, err, is_of_host
                end
            end
            remember(target, socket, address)
            return true, false
        elseif not is_fresh and is_usable(target, socket) then
            return true, true
        end
        socket:close()
    end
end


-- Tries the addresses of a host in turn, within the total time left.
local function connect_in_turn(target, socket, list, timeouts, deadline, is_fresh)
    local name = target.name
    local tried, left, err, is_of_host
    for untried = #list, 1, -1 do
        local address = addresses.next(name, list, tried)
        left = (deadline - ngx_now()) * 1000
        if left < 1 then
            return nil, err or "timeout"
        end
        -- The time left is divided among the addresses that remain.
        left = max(1, left / untried)
        socket:settimeouts(left, timeouts.send_ms, timeouts.read_ms)
        local ok, result
        ok, result, is_of_host = connect(target, socket, address, timeouts,
                                         ngx_now() + left / 1000, is_fresh)
        if ok then
            addresses.worked(name, address)
            return true, result
        end
        err = result
        if is_of_host then
            break
        end
        addresses.failed(name, address)
        tried = tried or {}
        tried[address] = true
    end
    return nil, err
end


--- Opens a connection, or reuses a kept one.
-- @tparam table target `scheme`, `host`, `port`, `ssl_server_name`, `ssl_verify`, and optionally
--   `pool` (the name of the pool of kept connections), `pool_size` and `max_age_ms`; this module
--   adds private fields
-- @tparam table timeouts `connect_ms` (for resolving the name, connecting and TLS together),
--   `send_ms`, `read_ms`
-- @tparam boolean is_fresh true: do not reuse a connection
-- @treturn table|nil the socket
-- @treturn boolean|string whether it was reused; the error
function _M.open(target, timeouts, is_fresh)
    if not target.options then
        prepare(target)
    end
    local deadline = ngx_now() + timeouts.connect_ms / 1000
    local list, err = addresses.find(target.name, deadline)
    if not list then
        return nil, target.host .. " cannot be resolved: " .. err
    end
    local socket = tcp()
    local ok, result = connect_in_turn(target, socket, list, timeouts, deadline, is_fresh)
    if not ok then
        return nil, result
    end
    return socket, result
end


--- Keeps a connection for the next request, unless it is too old.
function _M.keep(socket, timeout_ms, pool_size)
    local number = socket_numbers.of(socket)
    local known = number and open[number]
    if known and ngx_now() >= known.ends then
        socket:close()
    else
        socket:setkeepalive(timeout_ms, pool_size)
    end
end


return _M
