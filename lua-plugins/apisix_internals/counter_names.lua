--- The names of the limiters' counters. APISIX names a counter after a checksum of its plugin's
-- whole configuration, so that adding a client or changing a limit would reset every budget. APISIX
-- also logs that configuration at level info, twice a request, including the password of Redis. The
-- name of a rule identifies its counter, so the checksum is not needed.
-- This is a separate part, so that the password stays out of the log even if the terms of
-- `limiters` do not hold.

local contract = require("apisix_internals.contract")

local need = contract.part("counter_names")
local plugin = need("apisix.plugin")
local gsub = string.gsub

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


--- Lets a limiter count together with that of another service. Counters are named after the item
-- that has the plugin, and without this each pool would have budgets of its own.
-- @tparam table conf of the limiter
-- @tparam string id of the other service
function _M.count_with(conf, id)
    local parent = conf._meta.parent
    if not parent.is_renamed then
        parent.resource_key, parent.is_renamed = gsub(parent.resource_key, "[^/]*$", id, 1), true
    end
end


return _M
