--- Times that tests must shorten, in seconds. A process can override them under
-- `plugin_attr.azure-openai-proxy.testing.times` in config.yaml; the compiler never writes that.

local process_config = require("apisix_internals.process_config")
local pairs = pairs

local _M = {
    -- How long a key that its OIDC issuer has withdrawn may still be accepted.
    oidc_refresh = 600,

    -- How long the last known keys stay in use while an OIDC issuer cannot be reached.
    oidc_max_age = 86400,

    -- Minimum interval between fetches caused by unknown keys, because tokens can name keys that do
    -- not exist.
    oidc_min_age = 10,

    -- Pause after a failed fetch from an OIDC issuer.
    oidc_pause = 5,

    -- How long a request body may pause, or arrive more slowly than the minimum rate. nginx would
    -- close the connection after 60 seconds without an answer.
    body_grace = 50,

    -- How long a search that found no owner is not repeated.
    unknown_owner = 10,

    -- How long a token counts in a budget that lanes share.
    budget_minute = 60,
}

local testing = process_config.plugin_attr("azure-openai-proxy").testing or {}
for name, seconds in pairs(testing.times or {}) do
    _M[name] = seconds
end

return _M
