--- Secret references such as `$env://NAME`, and how APISIX resolves them.

local contract = require("apisix_internals.contract")
local pcall = pcall
local sub = string.sub

local need = contract.part("secrets")
local fetch_by_uri = need("apisix.secret", "fetch_by_uri")
local fetch_env = need("apisix.core", "env.fetch_by_uri")
local fetch_secrets = need("apisix.secret", "fetch_secrets")
local is_secret_ref = need("apisix.secret", "is_secret_ref")

local _M = {}

local MANAGER_PREFIX = "$secret://"


--- Whether a value is a reference.
function _M.is_reference(value)
    return is_secret_ref(value)
end


--- The value of a reference; nil if it cannot be resolved, which APISIX logs.
function _M.resolve(reference)
    local value = fetch_secrets({ key = reference }, false).key
    -- APISIX returns a reference that it cannot resolve unchanged. A reference must never be used
    -- as a secret.
    return value ~= reference and not is_secret_ref(value) and value or nil
end


--- The value of a reference, without logging, for checks that run again and again. A value that is
-- not a reference, or cannot be resolved, is returned unchanged.
function _M.resolved_silently(value)
    if not is_secret_ref(value) then
        return value
    end
    local is_managed = sub(value, 1, #MANAGER_PREFIX) == MANAGER_PREFIX
    local ok, found = pcall(is_managed and fetch_by_uri or fetch_env, value)
    return ok and found or value
end


return _M
