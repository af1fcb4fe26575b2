--- Calls a Redis through APISIX's client. That client verifies a server's certificate, but not its
-- name, because it passes no server name to the connection. The patch here passes one for every TLS
-- connection to a Redis.

local contract = require("apisix_internals.contract")

local need = contract.part("redis_clients")
local new = need("apisix.utils.redis", "new")
local redis = need("resty.redis")
local error = error
local pcall = pcall

local _M = {}

-- How long an unused connection is kept, and how many a worker keeps to one Redis.
local IDLE_MS, CONNECTIONS = 60000, 64


--- Patches the client. `contract.open` calls it once in each process.
function _M.install()
    local connect = redis.connect
    redis.connect = function(self, host, port, options)
        if options and options.ssl and not options.server_name then
            options.server_name = host
        end
        return connect(self, host, port, options)
    end
end


--- Calls `work` with a client of a Redis. A new connection is authenticated, and its database is
-- selected. The connection is kept for the next call if `work` returns a result, and closed if it
-- fails: the next call then finds the current server, and reads no reply that is still on its way.
-- @tparam table conf `redis_host`, `redis_port`, `redis_username`, `redis_password`,
--   `redis_database`, `redis_ssl`, `redis_ssl_verify`, `redis_timeout` (milliseconds)
-- @tparam function work gets the client of lua-resty-redis and the further arguments. It returns
--   its result; or, as a command does, nil (the connection failed) or false (Redis replied with an
--   error) and the error. An error that it throws is thrown again.
-- @param ... further arguments of `work`
-- @return the result of `work`; nil: Redis fails
-- @treturn nil|string the error
function _M.with(conf, work, ...)
    local client, err = new(conf)
    if not client then
        return nil, err
    end
    local ok, result
    ok, result, err = pcall(work, client, ...)
    if ok and result then
        client:set_keepalive(IDLE_MS, CONNECTIONS)
        return result
    end
    client:close()
    if not ok then
        error(result, 0)
    end
    return nil, err
end


return _M
