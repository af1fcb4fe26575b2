--- The items that APISIX has loaded from apisix.yaml, and the version with which a request began.

local contract = require("apisix_internals.contract")
local find = string.find

local need = contract.part("loaded_config")
local fetch_created_obj = need("apisix.core", "config.fetch_created_obj")
local profile = need("apisix.core.profile")
local yaml_path = need("apisix.core.profile", "yaml_path")
local service_of = need("apisix.http.service", "get")
local services = need("apisix.http.service", "services")

local _M = {}


--- The path of apisix.yaml; nil if APISIX does not report it.
function _M.path()
    return yaml_path and yaml_path(profile, "apisix")
end


--- The items of a resource such as "routes".
-- @treturn table|nil `version` (the file's time, in seconds), `by_id` and `list`; nil: APISIX does
--   not know the resource yet
function _M.items(resource)
    local object = fetch_created_obj("/" .. resource)
    return object and {
        version = object.conf_version,
        by_id = object.values_hash,
        list = object.values,
    }
end


--- The version of a loaded resource, which changes with each change of the file; nil if APISIX does
-- not know the resource yet.
function _M.version(resource)
    local object = fetch_created_obj("/" .. resource)
    return object and object.conf_version
end


--- The loaded services.
-- @treturn table|nil a list of items with `value`
-- @treturn nil|any the version, which differs after each change
function _M.services()
    return services()
end


--- The currently loaded service of a request, if it is newer than the one with which the request
-- began.
-- @treturn table|nil its value
function _M.newer_service(ctx)
    local item = ctx.service_id and service_of(ctx.service_id)
    -- APISIX composes the version of a request's configuration from those of its items.
    if not item or find(ctx.conf_version, "&" .. item.modifiedIndex, 1, true) then
        return nil
    end
    return item.value
end


return _M
