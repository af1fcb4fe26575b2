--- What probes of backends say about their health.

local match = string.match

local _M = {}

--- A backend whose probe failed is asked once more after so long, before it counts as unhealthy.
_M.CONFIRMED_AFTER_MS = 1000

-- A backend is not left alone for ever where nobody probes it any more: its mark goes after some
-- probes were missed.
local MISSED_PROBES = 3
local MARK_MS = 10 * 1000

local DEFAULT_PORTS = { http = 80, https = 443 }


--- Name of the mark of an unhealthy backend. One that was pointed elsewhere does not inherit it.
-- @tparam string id the backend's, which says its name and where it is
function _M.key(id)
    return "unhealthy|" .. id
end


--- Whether an answer to a probe shows a backend that works. Probes carry no credential, so that a
-- 401 is what most of them get.
function _M.is_healthy(status)
    return status < 500
end


--- Where the probes of a backend go.
-- @tparam table endpoint `scheme`, `host`, `port`, `authority`
-- @tparam string|nil scheme of the probes; nil: the endpoint's
-- @treturn table `scheme`, `host`, `port`, `authority`. The port is the endpoint's where that names
--   one, and else the scheme's
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


--- Takes note of a probe.
-- @tparam table state of a backend: `is_unhealthy`, and `failures` in a row
-- @tparam boolean is_healthy what the probe says
-- @tparam table conf `healthy_interval_ms`, `unhealthy_interval_ms`
-- @treturn number milliseconds from the beginning of this probe to the next one
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


--- How long a mark lasts without another probe that says the same, in seconds.
function _M.mark_s(conf)
    return (MISSED_PROBES * conf.unhealthy_interval_ms + conf.timeout_ms + MARK_MS) / 1000
end


return _M
