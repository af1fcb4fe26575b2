--- Calls a Redis that replicas share, as azure-openai-proxy's configuration describes it.

local redis_clients = require("apisix_internals.redis_clients")
local secret_files = require("gateway.credentials.secret_files")
local setmetatable = setmetatable

local _M = {}

-- Each Redis in the field names of APISIX's client, by its configuration.
local known = setmetatable({}, { __mode = "k" })


local function client_conf(redis)
    local conf = known[redis]
    if not conf then
        conf = {
            redis_host = redis.host,
            redis_port = redis.port,
            redis_username = redis.username,
            redis_password = redis.password,
            redis_database = redis.database,
            redis_ssl = redis.tls,
            redis_ssl_verify = redis.tls,
            redis_timeout = redis.timeout_ms,
        }
        known[redis] = conf
    end
    if redis.password_setting then
        conf.redis_password = secret_files.value(redis.password_setting)
    end
    return conf
end


--- Calls `work` as `redis_clients.with` does. The password of a file is the current one.
-- @tparam table redis `host`, `port`, `username`, `password` or `password_setting`, `database`,
--   `tls`, `timeout_ms`
-- @tparam function work
-- @param ... further arguments of `work`
-- @return the result of `work`; nil: Redis fails
-- @treturn nil|string the error
function _M.with(redis, work, ...)
    return redis_clients.with(client_conf(redis), work, ...)
end


return _M
