--- Which backend a request goes to next, given what is tried, cooling or being tried again.

local backend_keys = require("apisix.plugins.azure-openai-proxy.backend_keys")
local latency = require("apisix.plugins.azure-openai-proxy.latency")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local cooldown = require("genai.cooldown")
local picking = require("genai.picking")
local ngx = ngx
local ngx_now = ngx.now
local ipairs = ipairs
local next = next
local math_min = math.min

local _M = {}

-- Between two looks at a backend that another request is trying.
local WAIT_S = 0.05

local dict = ngx.shared["genai-gateway-state"]


local function milliseconds()
    return ngx_now() * 1000
end


-- Two cool-downs count: that of the backend as a whole and that of the deployment.
local function keys_of(backend, scope)
    return backend.key, backend.key_of(scope)
end


-- Whether probes say of a backend that it does not work.
local function is_unhealthy(backend)
    return backend.health_key and dict:get(backend.health_key)
end


-- Whether a backend has no credential.
local function is_broken(backend)
    return backend.is_broken and not backend_keys.is_mended(backend)
end


-- Fills `seen` with what holds a backend back.
local function look(backend, request, now, seen)
    if is_broken(backend) then
        seen.is_broken = true
        return false
    end
    if is_unhealthy(backend) and not request.ignores_health then
        seen.is_unhealthy = true
        seen.reasons = seen.reasons or {}
        seen.reasons.unreachable = true
        if not seen.is_afterwards then
            metrics.skipped(request, backend, "skipped_unhealthy")
        end
        return false
    end

    local whole, part = keys_of(backend, request.cooldown_scope)
    local state, left, reason = cooldown.state(dict, whole, now)
    local part_state, part_left, part_reason = cooldown.state(dict, part, now)
    if state == "usable" and part_state == "usable" then
        return true
    end

    if state ~= "cooling" and part_state ~= "cooling" then
        return true, { state == "ended" and whole or part,
                       state == "ended" and part_state == "ended" and part or nil }
    end

    if part_state == "cooling" and (state ~= "cooling" or part_left > left) then
        left, reason = part_left, part_reason
    end
    seen.soonest = math_min(left, seen.soonest or left)
    seen.reasons = seen.reasons or {}
    seen.reasons[reason] = true
    if not seen.is_afterwards then
        metrics.skipped(request, backend, "skipped_cooling")
    end
    return false
end


local function pick(candidates, pool, request)
    if #candidates == 1 then
        return candidates[1]
    end
    if request.hash_key then
        return picking.consistent_hash(candidates, request.hash_key)
    end
    if pool.by_latency then
        return latency.pick(candidates, request)
    end
    return picking.round_robin(candidates)
end


local function without(list, backend)
    local rest = {}
    for _, each in ipairs(list) do
        if each ~= backend then
            rest[#rest + 1] = each
        end
    end
    return rest
end


-- What is stored in one resource only its own backends can serve, drained ones too.
local function tiers_for(pool, request)
    return request.pinned and pool.all_tiers or pool.tiers
end


local function may_serve(backend, request)
    return (not request.pinned or backend.origin == request.pinned)
           and picking.served_as(backend.deployments, request.deployment) ~= false
end


-- One look at all backends.
local function look_around(pool, request, seen)
    local now = milliseconds()
    for _, tier in ipairs(tiers_for(pool, request)) do
        local candidates, ended = {}, {}
        for _, backend in ipairs(tier) do
            if not request.tried[backend] and may_serve(backend, request) then
                local is_usable, keys = look(backend, request, now, seen)
                if is_usable then
                    candidates[#candidates + 1] = backend
                    ended[backend] = keys
                end
            end
        end

        while #candidates > 0 do
            local backend = pick(candidates, pool, request)
            local keys = ended[backend]
            if not keys or cooldown.take_probe(dict, keys[1]) then
                request.probing = keys
                return backend
            end
            seen.probed = seen.probed or backend
            candidates = without(candidates, backend)
        end
    end
    return nil
end


--- The backend for the next attempt.
-- @tparam table pool
-- @tparam table request `tried` (a set), `deployment`, `cooldown_scope`, `hash_key`,
--   `asks_for_stream`; `pinned`, the one origin that can serve it, or `preferred`, the one to begin
--   with if it can be used; its `probing` is set where it is the first after a cool-down: to the
--   cool-downs to end when the backend works
-- @treturn table|nil the backend
-- @treturn nil|table what holds all of them back: `soonest` (ms), `reasons`, `is_broken`
function _M.next(pool, request)
    if request.preferred then
        request.pinned, request.preferred = request.preferred, nil
        local backend = look_around(pool, request, {})
        request.pinned = nil
        if backend then
            return backend
        end
    end

    local waited = 0
    while true do
        local seen = {}
        local backend = look_around(pool, request, seen)
        if backend then
            return backend
        end
        if not seen.probed then
            if not seen.is_unhealthy or seen.soonest or next(request.tried) then
                return nil, seen
            end
            -- Nothing but probes speaks against any of them: better to see than to refuse.
            request.ignores_health = true
        elseif waited * 1000 >= cooldown.PROBE_MS then
            return seen.probed
        else
            -- Only a backend that another request is trying is left: its outcome is worth a moment.
            ngx.sleep(WAIT_S)
            waited = waited + WAIT_S
        end
    end
end


local function are_all_unhealthy(backends)
    for _, each in ipairs(backends) do
        if not is_unhealthy(each) then
            return false
        end
    end
    return true
end


--- Whether a backend of a pool as a whole is left alone, whatever it is asked for.
-- @treturn boolean
-- @treturn string|nil why
function _M.is_left_alone(pool, backend)
    if is_broken(backend) then
        return true, "credentials"
    end
    if is_unhealthy(backend) and not are_all_unhealthy(pool.backends) then
        return true, "unreachable"
    end
    local state, _, reason = cooldown.state(dict, backend.key, milliseconds())
    return state == "cooling", reason
end


--- Forgets cool-downs.
function _M.forget(keys)
    for _, key in ipairs(keys) do
        cooldown.stop(dict, key)
    end
end


--- Gives the right to try a backend back, where the request ended without showing anything.
function _M.release(request)
    if request.probing then
        cooldown.release_probe(dict, request.probing[1])
        request.probing = nil
    end
end


--- Remembers that a backend failed.
-- @tparam table request as for `next`
-- @tparam string reason
-- @tparam number duration_ms 0: not at all
-- @tparam boolean|nil is_of_operation what was refused is the operation, whatever the reason
-- @treturn string|nil the name of the cool-down that began
function _M.failed(backend, request, reason, duration_ms, is_of_operation)
    if request.awaited then
        latency.failed(request, duration_ms > 0)
    end
    local whole, part = keys_of(backend, request.cooldown_scope)
    local is_whole = (reason == "unreachable" or reason == "credentials") and not is_of_operation
    local key = is_whole and whole or part
    local probing = request.probing
    if probing and (key == part or duration_ms == 0) then
        -- What answers for a deployment is there as a whole.
        _M.forget(probing)
        request.probing = nil
    end
    _M.release(request)
    if duration_ms == 0 then
        return nil
    end
    cooldown.start(dict, key, milliseconds(), duration_ms, reason)
    metrics.cooling(backend, request, key, reason)
    return key
end


--- When the first of all backends that a request could go to is usable again, in milliseconds;
-- nil where none is cooling.
function _M.soonest(pool, request)
    local seen = { is_afterwards = true }
    local now = milliseconds()
    for _, tier in ipairs(tiers_for(pool, request)) do
        for _, backend in ipairs(tier) do
            if may_serve(backend, request)
               and look(backend, request, now, seen)
            then
                return 0
            end
        end
    end
    return seen.soonest
end


return _M
