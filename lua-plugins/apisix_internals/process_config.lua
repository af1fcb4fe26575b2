--- Settings of the process: config.yaml and the environment, as APISIX reads them.

local contract = require("apisix_internals.contract")

local need = contract.part("process_config")
local env = need("apisix.core", "env.get")
local local_conf = need("apisix.core", "config.local_conf")
local plugin_attr = need("apisix.plugin", "plugin_attr")
local try_read_attr = need("apisix.core", "table.try_read_attr")

local _M = {}

local EMPTY = {}


--- A plugin's own settings in config.yaml.
-- @treturn table perhaps empty
function _M.plugin_attr(name)
    -- Modules read settings while they are loaded, which must not fail.
    return plugin_attr and plugin_attr(name) or EMPTY
end


--- A directive of nginx's http block as set in config.yaml; nil if it is not set.
function _M.nginx_http(directive)
    return try_read_attr(local_conf(), "nginx_config", "http", directive)
end


--- An environment variable as APISIX was started with it. nginx passes fewer variables to its
-- workers.
function _M.env(name)
    return env(name)
end


return _M
