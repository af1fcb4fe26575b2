--- Which backend a request goes to next, given what it has tried, what cools down, and what another
-- request is trying again.

local backend_keys = require("apisix.plugins.azure-openai-proxy.backend_keys")
local latency = require("apisix.plugins.azure-openai-proxy.latency")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local cooldown = require("genai.cooldown")
local picking = require("genai.picking")
local ngx = ngx
local ngx_now = ngx.now
local ipairs = ipairs
local next = next
local math_max = math.max
local math_min = math.min

local _M = {}

-- Poll interval while another request tries the only backend that is left.
local WAIT_S = 0.05

-- A request that has no other backend tries this many whose cooldowns are guesses.
local MAX_LAST_RESORTS = 3

-- A backend that cannot be reached is tried no more often than this for want of another. Where that
-- takes long, as a name that does not resolve, the requests between are told at once.
local AGAIN_S, COSTLY_AGAIN_S = 0.1, 5

-- How soon a request looks at such a backend: the sooner, the likelier it answers. Whatever is not
-- here has a delay that holds.
local LAST_RESORT = { failing = 1, refused = 1, throttled = 2, deployment_not_found = 3,
                      unreachable = 4 }

local dict = ngx.shared["genai-gateway-state"]
local view = cooldown.view(dict)


local function milliseconds()
    return ngx_now() * 1000
end


-- Whether a backend has no credential.
local function is_broken(backend)
    return backend.is_broken and not backend_keys.is_mended(backend)
end


local function is_unhealthy(backend, now)
    return backend.health_key ~= nil and view:is_unhealthy(backend.id, now)
end


-- Whether a backend may be used: "usable"; "ended", its cooldown has and one request may try it;
-- "guess", it cools down and that is a guess; or "firm". With the cooldown that counts.
local function look(backend, request, now)
    local id = backend.id
    if not view.backends[id] then
        return "usable"
    end

    local state, counts = "usable", nil
    -- Of the whole backend, of the deployment, and of the permission for the operation.
    for i = 1, 3 do
        local scope = i == 2 and request.cooldown_scope or i == 3 and request.permission_scope
                      or nil
        local entry = (i == 1 or scope) and view:cooldown(id, scope, now)
        if entry then
            local each = entry.till <= now and "ended" or entry.is_firm and "firm" or "guess"
            local is_worse = state == "usable" or state == "ended" and each ~= "ended"
                             or state == "guess" and each == "firm"
                             or state == each and entry.till > counts.till
            if is_worse then
                state, counts = each, entry
            end
        end
    end
    return state, counts
end


local function note_held(seen, entry, now)
    seen.reasons = seen.reasons or {}
    seen.reasons[entry.reason] = true
    if entry.is_firm then
        local told = cooldown.told_ms(entry.till - now, entry.duration)
        seen.soonest = math_min(told, seen.soonest or told)
    end
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
           and (not backend.deployments
                or picking.served_as(backend.deployments, request.deployment) ~= false)
end


-- Takes note of why a backend is not a candidate.
local function hold(backend, request, state, entry, now, seen)
    note_held(seen, entry, now)
    metrics.skipped(request, backend, "skipped_cooling")
    if state == "guess" then
        seen.guesses = seen.guesses or {}
        seen.guesses[#seen.guesses + 1] = { backend = backend, entry = entry }
    end
end


-- Whether a backend can be used at once, or with its probe; and its cooldown that has ended.
local function can_be_used(backend, request, now, seen)
    if is_broken(backend) then
        seen.is_broken = true
        return false
    end
    if is_unhealthy(backend, now) and not request.ignores_health then
        seen.is_unhealthy = true
        seen.reasons = seen.reasons or {}
        seen.reasons.unreachable = true
        metrics.skipped(request, backend, "skipped_unhealthy")
        return false
    end
    local state, entry = look(backend, request, now)
    if state == "guess" or state == "firm" then
        hold(backend, request, state, entry, now, seen)
        return false
    end
    return true, entry
end


-- One look at a tier. Fills `seen` with what holds its backends back.
-- Gives the candidates, perhaps the tier itself, and the cooldowns that have ended of some of them.
local function candidates_of(tier, request, now, seen)
    local tried = request.tried
    local candidates, ended = tier, nil
    for i = 1, #tier do
        local backend = tier[i]
        local is_one, entry
        if not tried[backend] and may_serve(backend, request) then
            is_one, entry = can_be_used(backend, request, now, seen)
        end
        if entry then
            ended = ended or {}
            ended[backend] = entry
        end
        if not is_one and candidates == tier then
            candidates = {}
            for k = 1, i - 1 do
                candidates[k] = tier[k]
            end
        elseif is_one and candidates ~= tier then
            candidates[#candidates + 1] = backend
        end
    end
    return candidates, ended
end


-- Takes the right to try a backend whose cooldown has ended.
local function take_probe(request, backend, entry)
    local key = cooldown.key(backend.id, entry.scope)
    if not cooldown.take_probe(dict, key) then
        return false
    end
    request.probing = { backend = backend, key = key }
    return true
end


-- One look at all backends.
local function look_around(pool, request, seen)
    view:refresh()
    local now = milliseconds()
    for _, tier in ipairs(tiers_for(pool, request)) do
        local candidates, ended = candidates_of(tier, request, now, seen)
        while #candidates > 0 do
            local backend = pick(candidates, pool, request)
            local entry = ended and ended[backend]
            if not entry or take_probe(request, backend, entry) then
                return backend
            end
            seen.probed = seen.probed or backend
            candidates = without(candidates, backend)
        end
    end
    return nil
end


-- A backend whose cooldown is a guess, for a request that has no other.
local function last_resort(request, seen)
    request.last_resorts = request.last_resorts or 0
    if not seen.guesses or request.last_resorts >= MAX_LAST_RESORTS then
        return nil
    end

    -- Where a delay is known, the costly and the unlikely are not tried.
    local best, best_rank
    for _, each in ipairs(seen.guesses) do
        local rank = LAST_RESORT[each.entry.reason]
        if rank and not (seen.soonest and rank > 2)
           and (not best or rank < best_rank
                or rank == best_rank and each.entry.till < best.entry.till)
        then
            best, best_rank = each, rank
        end
    end
    if not best then
        return nil
    end
    if best.entry.reason == "unreachable" then
        local is_costly = best.entry.duration > cooldown.REFUSED_AGAIN_MS
        if not dict:add("again|" .. best.backend.key, true,
                        is_costly and COSTLY_AGAIN_S or AGAIN_S)
        then
            return nil
        end
    end
    request.probing = { backend = best.backend }
    request.last_resorts = request.last_resorts + 1
    return best.backend
end


--- The backend for the next attempt.
-- @tparam table pool
-- @tparam table request `tried` (a set), `deployment`, `cooldown_scope`, `permission_scope`,
--   `hash_key`, `asks_for_stream`; `pinned`, the one origin that can serve it, or `preferred`, the
--   one to begin with if it can be used; its `probing` is set where the backend cools down or has
--   just ceased to, and what is remembered of it goes when it works
-- @treturn table|nil the backend
-- @treturn nil|table what holds all of them back: `soonest` (the shortest delay that is known, in
--   milliseconds), `reasons`, `is_broken`
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
        if not backend and not seen.probed then
            backend = last_resort(request, seen)
        end
        if backend then
            return backend
        end
        if not seen.probed then
            if not seen.is_unhealthy or seen.soonest or next(request.tried)
               or request.ignores_health
            then
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


local function are_all_unhealthy(backends, now)
    for _, each in ipairs(backends) do
        if not is_unhealthy(each, now) then
            return false
        end
    end
    return true
end


--- Whether a backend of a pool as a whole is cooling down or out of order, for all requests.
-- @treturn boolean
-- @treturn string|nil why
-- @treturn number|nil for how long, in milliseconds, where that is known
function _M.is_left_alone(pool, backend)
    view:refresh()
    local now = milliseconds()
    if is_broken(backend) then
        return true, "credentials"
    end
    if is_unhealthy(backend, now) and not are_all_unhealthy(pool.backends, now) then
        return true, "unreachable"
    end
    local entry = view:cooldown(backend.id, nil, now)
    if not entry or entry.till <= now then
        return false
    end
    return true, entry.reason, entry.is_firm and entry.till - now or nil
end


--- Gives the right to try a backend back, where the request ended without showing anything.
function _M.release(request)
    local probing = request.probing
    if probing then
        if probing.key then
            cooldown.release_probe(dict, probing.key)
        end
        request.probing = nil
    end
end


-- Ends the cooldowns that a request has shown to be over.
local function forget(request, backend, with_scopes)
    local now = milliseconds()
    local id = backend.id
    if view:cooldown(id, nil, now) then
        cooldown.stop(dict, id)
    end
    for i = 1, with_scopes and 2 or 0 do
        local scope = i == 1 and request.cooldown_scope or request.permission_scope
        if scope and view:cooldown(id, scope, now) then
            cooldown.stop(dict, id, scope)
        end
    end
end


--- The backend of the last attempt works: what speaks against it is forgotten.
function _M.worked(request)
    local probing = request.probing
    if probing then
        forget(request, probing.backend, true)
        _M.release(request)
    end
end


--- The backend of the last attempt failed.
-- @tparam boolean is_reached whether the backend answered: then it can be reached
function _M.failed(request, is_reached)
    local probing = request.probing
    if probing then
        if is_reached then
            forget(request, probing.backend, false)
        end
        _M.release(request)
    end
end


--- Begins a cooldown.
-- @tparam table backend
-- @tparam table|nil request what the backend was asked for, for metrics; nil: nothing in particular
-- @tparam string|nil scope nil: the whole backend
-- @tparam string reason
-- @tparam number duration_ms 0: there is none
-- @tparam boolean|nil is_firm whether the delay is known, not guessed
function _M.cool(backend, request, scope, reason, duration_ms, is_firm)
    if duration_ms <= 0 then
        return
    end
    cooldown.start(dict, backend.id, scope, milliseconds(), duration_ms, reason, is_firm)
    local about = request
    if not request or scope and scope ~= request.cooldown_scope then
        about = { cooldown_label = request and request.permission_label }
    end
    metrics.cooling(backend, about, cooldown.key(backend.id, scope), reason)
end


--- Begins the cooldown of a backend that cannot be reached.
-- @tparam boolean is_costly whether an attempt takes long to show that
-- @tparam table conf `default_ms`, `max_ms`
-- @treturn number its duration in milliseconds
function _M.close_unreachable(backend, request, is_costly, conf)
    view:refresh()
    local before = view:cooldown(backend.id, nil, milliseconds())
    local is_again = before ~= nil and before.reason == "unreachable"
    local duration = cooldown.unreachable_ms(is_costly, is_again, conf)
    _M.cool(backend, request, nil, "unreachable", duration)
    return duration
end


--- Whether a different request failed at the same backend and deployment shortly before.
-- @tparam string fingerprint of this request
-- @tparam number lasts_ms for how long this one is remembered
function _M.has_failed_others(backend, scope, fingerprint, lasts_ms)
    return cooldown.suspect(dict, cooldown.key(backend.id, scope), fingerprint,
                            math_max(lasts_ms, 1000))
end


--- The shortest delay after which one of the backends that a request could go to is known to be
-- usable again, in milliseconds; nil where none is known.
function _M.soonest(pool, request)
    view:refresh()
    local seen = {}
    local now = milliseconds()
    for _, tier in ipairs(tiers_for(pool, request)) do
        for _, backend in ipairs(tier) do
            if may_serve(backend, request) then
                local state, entry = look(backend, request, now)
                if state == "firm" then
                    note_held(seen, entry, now)
                end
            end
        end
    end
    return seen.soonest
end


return _M
