--- The names of the limiters' counters. APISIX names a counter after a checksum of its plugin's
-- whole configuration, so that adding a client or changing a limit would reset every budget. APISIX
-- also logs that configuration at level info, twice a request, including the password of Redis. The
-- name of a rule identifies its counter, so the checksum is not needed.
-- This is a separate part, so that the password stays out of the log even if the terms of
-- `limiters` do not hold.

local contract = require("apisix_internals.contract")

local need = contract.part("counter_names")
local plugin = need("apisix.plugin")

local _M = {}

local VERSION = "1"


--- Replaces the checksum of limiters. `contract.open` calls it once in each process.
function _M.install()
    local conf_version = plugin.conf_version
    plugin.conf_version = function(conf)
        -- Only configurations of limiters have this field.
        if conf.allow_degradation ~= nil then
            return VERSION
        end
        return conf_version(conf)
    end
end


return _M
