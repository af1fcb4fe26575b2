--- APISIX's client for Redis verifies a server's certificate, but not its name, because it passes
-- no server name to the connection. The patch here passes one for every TLS connection to a Redis.

local contract = require("apisix_internals.contract")

local need = contract.part("redis_clients")
local new = need("apisix.utils.redis", "new")
local redis = need("resty.redis")

local _M = {}


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


--- Connects to a Redis, authenticates and selects the database.
-- @tparam table conf `redis_host`, `redis_port`, `redis_username`, `redis_password`,
--   `redis_database`, `redis_ssl`, `redis_ssl_verify`, `redis_timeout` (milliseconds)
-- @treturn table|nil|boolean the client of lua-resty-redis
-- @treturn nil|string the error
function _M.new(conf)
    return new(conf)
end


return _M
