--- The consequences of failed attempts: cooldowns, and the choice of the failure that the client
-- gets. docs/failover.md has the table.

local access_check = require("gateway.backends.access_check")
local availability = require("gateway.backends.availability")
local cooldown = require("genai.balancing.cooldown")
local core = require("apisix.core")
local delay = require("genai.openai.delay")
local latency = require("gateway.backends.latency")
local request_body = require("gateway.exchange.request_body")
local verdict = require("genai.openai.verdict")
local concat = table.concat
local crc32 = ngx.crc32_long
local ipairs = ipairs
local lower = string.lower
local min = math.min
local ngx_now = ngx.now
local pairs = pairs
local parse_http_time = ngx.parse_http_time
local tostring = tostring
local type = type

local _M = {}

-- Azure documents that a new deployment takes up to five minutes to become available.
local MISSING_MS = 5 * 60 * 1000

-- A request that fails at this many backends is probably at fault itself.
local MAX_FAILING = 5

-- An attempt that needs longer than this to find a backend unreachable is costly: connections that
-- time out, names that do not resolve.
local COSTLY_MS = 200

-- The number of bytes of a body that distinguish requests.
local FINGERPRINTED = 65536

-- A failure of lower rank only means that its backend could not serve the request.
local RANK_OF_TROUBLE = verdict.rank({ reason = "unreachable", err = true })


-- Distinguishes requests. A client that repeats a request gets the same fingerprint.
local function fingerprint_of(record)
    local known = record.fingerprint
    if not known then
        local body = record.body
        known = concat({ record.client_name or "", record.method, record.target.path,
                         body.length or 0, crc32(request_body.head(body, FINGERPRINTED)) }, "|")
        record.fingerprint = known
    end
    return known
end


-- Records a cooldown that begins only if the backend turns out to be at fault.
local function suspect(record, backend, scope, reason, duration_ms)
    record.suspects = record.suspects or {}
    record.suspects[#record.suspects + 1] = { backend = backend, scope = scope, reason = reason,
                                            duration_ms = duration_ms }
end


-- Begins such a cooldown, now that the backend is known to be at fault.
local function cool_suspect(record, each)
    if each.duration_ms > 0 then
        availability.cool(each.backend, record.choice, each.scope, each.reason, each.duration_ms)
        core.log.warn("backend ", each.backend.name, " ", each.reason, ": cooling down for ",
                      each.duration_ms, " ms")
    end
end


-- Records the effects of a failure on later requests. A failure caused by this request must have
-- none. Returns the length of a cooldown that begins now, in milliseconds.
local function remember(record, backend, failure)
    local conf, request = record.pool.conf.cooldown, record.choice
    local reason, named = failure.reason, failure.named_ms
    if reason == "throttled" then
        local duration = cooldown.duration_ms(named, conf)
        -- The text of a quota refusal may repeat the client's words, so the named delay is only a
        -- guess.
        if named and failure.status ~= 401 and failure.status ~= 403 then
            -- A fixed cooldown may last longer than the delay.
            availability.cool(backend, request, request.cooldown_scope, reason, duration,
                              not conf.fixed_ms or duration <= named)
            return duration
        end
        suspect(record, backend, request.cooldown_scope, reason, duration)
    elseif reason == "failing" then
        suspect(record, backend, request.cooldown_scope, reason, cooldown.duration_ms(named, conf))
    elseif reason == "deployment_not_found" then
        suspect(record, backend, request.cooldown_scope, reason, MISSING_MS)
    elseif reason == "refused" then
        if failure.is_permission then
            suspect(record, backend, request.permission_scope, reason, conf.max_ms)
        end
    elseif not failure.err then
        -- The backend reports a refused credential or a firewall for this request only.
        access_check.begin(backend, record.pool)
    elseif reason == "unreachable" then
        return availability.close_unreachable(backend, request,
                                              failure.took_ms and failure.took_ms > COSTLY_MS, conf)
    else
        -- The gateway has no credential to send.
        local duration = min(failure.lasts_ms or conf.max_ms, conf.max_ms)
        availability.cool(backend, request, nil, reason, duration, true)
        return duration
    end
    return 0
end


-- The delay in headers that an error inside a body repeats.
local function named_in(headers)
    if not headers then
        return nil
    end
    local by_name = {}
    for name, value in pairs(headers) do
        if type(name) == "string" and (type(value) == "string" or type(value) == "number") then
            by_name[lower(name)] = tostring(value)
        end
    end
    return delay.named_ms(by_name, ngx_now(), parse_http_time)
end


--- Handles a failed attempt.
-- @tparam table record
-- @tparam table backend
-- @tparam table failure as `backend_call.send` returns it; gets `backend` and `named_ms`
function _M.note(record, backend, failure)
    failure.backend = backend
    if failure.headers then
        failure.named_ms = named_in(failure.inner_headers)
                           or delay.named_ms(failure.headers, ngx_now(), parse_http_time,
                                             failure.text or failure.body or failure.message,
                                             failure.reason == "throttled")
    end
    local reason, named = failure.reason, failure.named_ms
    -- A retry cannot help after a refusal or a missing deployment, so their delays do not count.
    if named and verdict.rank(failure) >= RANK_OF_TROUBLE then
        record.named_ms = min(named, record.named_ms or named)
    end
    if reason == "failing" then
        record.failing = (record.failing or 0) + 1
    end
    local best = record.best_failure
    if not best or verdict.rank(failure) >= verdict.rank(best) then
        record.best_failure = failure
    end

    if record.choice.awaited then
        -- A backend with a cooldown gets no requests, so its latency need not record the failure.
        latency.failed(record.choice, reason == "unreachable"
                                      or cooldown.duration_ms(named,
                                                              record.pool.conf.cooldown) > 0)
    end
    availability.failed(record.choice, not failure.err)
    local duration = remember(record, backend, failure)
    -- Other failures pass by themselves; a credential must be replaced by an operator.
    local log = reason == "credentials" and core.log.error or core.log.warn
    log("backend ", backend.name, " ", reason, ": ", failure.err or failure.status,
        duration > 0 and ", cooling down for " .. duration .. " ms" or "")
end


--- Handles a request whose owner cannot be determined, so that no backend is tried.
-- @tparam table record
-- @tparam table failure as `owner_lookup.find` returns it
function _M.found(record, failure)
    record.best_failure = failure
end


--- Whether the request has failed at the maximum number of backends.
function _M.are_enough(record)
    return (record.failing or 0) >= MAX_FAILING
end


--- Another backend has answered, so the backends that failed are at fault.
function _M.another_answered(record)
    for _, each in ipairs(record.suspects or {}) do
        cool_suspect(record, each)
    end
    record.suspects = nil
end


--- No backend has answered. A backend is at fault only if a different request failed there too.
function _M.none_answered(record)
    local lasts = record.pool.conf.cooldown.default_ms
    for _, each in ipairs(record.suspects or {}) do
        if each.reason == "failing" and each.duration_ms > 0
           and availability.has_failed_others(each.backend, each.scope, fingerprint_of(record),
                                              lasts)
        then
            cool_suspect(record, each)
        end
    end
    record.suspects = nil
end


return _M
