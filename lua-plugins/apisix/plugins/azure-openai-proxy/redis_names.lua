--- APISIX's client for Redis has its certificate verified, but not whose it is: it tells the
-- connection no name. This does, for everything that speaks TLS to a Redis.

local redis = require("resty.redis")

local connect = redis.connect

redis.connect = function(self, host, port, options)
    if options and options.ssl and not options.server_name then
        options.server_name = host
    end
    return connect(self, host, port, options)
end

return true
