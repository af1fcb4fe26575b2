--- Rules for backends' health probes.

local shared_keys = require("genai.util.shared_keys")
local match = string.match

local _M = {}

--- A failed probe is repeated after this time, before the backend counts as unhealthy.
_M.CONFIRMED_AFTER_MS = 1000

-- The mark of an unhealthy backend expires after this many missed probes, so that it does not stay
-- when no worker probes any more.
local MISSED_PROBES = 3
local MARK_MS = 10 * 1000

local DEFAULT_PORTS = { http = 80, https = 443 }


--- The key of the mark of an unhealthy backend. The id includes the endpoint, so a backend with a
-- new endpoint does not inherit the mark.
-- @tparam string id the backend's id: its name and endpoint
function _M.key(id)
    return shared_keys.UNHEALTHY .. id
end


--- Whether the status of a probe shows a working backend. Probes carry no credential, so most get a
-- 401.
function _M.is_healthy(status)
    return status < 500
end


--- The address for the probes of a backend.
-- @tparam table endpoint `scheme`, `host`, `port`, `authority`
-- @tparam string|nil scheme of the probes; nil: the endpoint's
-- @treturn table `scheme`, `host`, `port`, `authority`. The port is the endpoint's if it names one,
--   else the scheme's default
function _M.address(endpoint, scheme)
    scheme = scheme or endpoint.scheme
    local names_port = match(endpoint.authority, ":%d+$")
    return {
        scheme = scheme,
        host = endpoint.host,
        port = names_port and endpoint.port or DEFAULT_PORTS[scheme],
        authority = endpoint.authority,
    }
end


--- Updates a backend's state by the result of a probe.
-- @tparam table state of a backend: `is_unhealthy`, and `failures` in a row
-- @tparam boolean is_healthy the result of the probe
-- @tparam table conf `healthy_interval_ms`, `unhealthy_interval_ms`
-- @treturn number milliseconds from the start of this probe to the next one
-- @treturn boolean whether `is_unhealthy` changed
function _M.judge(state, is_healthy, conf)
    local was_unhealthy = state.is_unhealthy
    if is_healthy then
        state.failures, state.is_unhealthy = 0, false
        return conf.healthy_interval_ms, was_unhealthy
    end

    state.failures = state.failures + 1
    if not was_unhealthy and state.failures == 1 then
        return _M.CONFIRMED_AFTER_MS, false
    end
    state.is_unhealthy = true
    return conf.unhealthy_interval_ms, not was_unhealthy
end


--- How long a mark lasts without renewal by another probe, in seconds.
function _M.mark_s(conf)
    return (MISSED_PROBES * conf.unhealthy_interval_ms + conf.timeout_ms + MARK_MS) / 1000
end


return _M
