--- Chooses the next backend for a request, by the backends it has tried, their cooldowns, and the
-- backends that other requests are probing.

local backend_keys = require("gateway.backends.backend_keys")
local latency = require("gateway.backends.latency")
local metrics = require("gateway.metrics")
local cooldown = require("genai.balancing.cooldown")
local model_lists = require("genai.openai.model_lists")
local picking = require("genai.balancing.picking")
local preferred_order = require("gateway.backends.preferred_order")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local ngx = ngx
local ngx_now = ngx.now
local ipairs = ipairs
local lower = string.lower
local next = next
local pairs = pairs
local huge = math.huge
local math_max = math.max
local math_min = math.min
local sort = table.sort

local _M = {}

-- Poll interval while another request probes the only remaining backend.
local WAIT_S = 0.05

-- A request with no other backend tries at most this many whose cooldowns are guesses.
local MAX_LAST_RESORTS = 3

-- The number of backends with cooldowns that are examined when a new stored object is placed.
local MAX_BUSY = 8

-- Minimum time between attempts on an unreachable backend when there is no other. The second value
-- applies if an attempt is slow, for example because a name does not resolve; other requests fail
-- at once in that time.
local AGAIN_S, COSTLY_AGAIN_S = 0.1, 5

-- The order in which backends with guessed cooldowns are tried as a last resort: lower ranks are
-- likelier to answer. A reason that is not listed has a delay that must be respected.
local LAST_RESORT = { failing = 1, refused = 1, throttled = 2, deployment_not_found = 3,
                      unreachable = 4 }

local state = shared_memory.state
local view = cooldown.view(state)


local function milliseconds()
    return ngx_now() * 1000
end


-- Whether a backend has no credential.
local function is_broken(backend)
    return backend.is_broken and not backend_keys.has_key_now(backend)
end


local function is_unhealthy(backend, now)
    return backend.health_key ~= nil and view:is_unhealthy(backend.id, now)
end


-- State of a backend for a request: "usable"; "ended" (its cooldown has ended and one request may
-- probe it); "guess" (it is cooling down, but a request without another backend may try it); or
-- "firm". Also returns the cooldown that
-- determines the state.
local function look(backend, choice, now)
    local id = backend.id
    if not view.backends[id] then
        return "usable"
    end

    local condition, deciding = "usable", nil
    -- A cooldown affects the whole backend, one deployment, or the permission for one operation.
    for i = 1, 3 do
        local scope = i == 2 and choice.cooldown_scope or i == 3 and choice.permission_scope
                      or nil
        local entry = (i == 1 or scope) and view:cooldown(id, scope, now)
        if entry then
            local each = entry.till <= now and "ended"
                         or cooldown.holds(entry, choice.lane, now) and "firm" or "guess"
            local is_worse = condition == "usable" or condition == "ended" and each ~= "ended"
                             or condition == "guess" and each == "firm"
                             or condition == each and entry.till > deciding.till
            if is_worse then
                condition, deciding = each, entry
            end
        end
    end
    return condition, deciding
end


local function note_skipped(seen, entry, now)
    seen.reasons = seen.reasons or {}
    seen.reasons[entry.reason] = true
    if entry.is_firm then
        local delay_ms = cooldown.client_delay_ms(entry.till - now, entry.duration)
        seen.soonest = math_min(delay_ms, seen.soonest or delay_ms)
    end
end


local function pick(candidates, pool, choice)
    if #candidates == 1 then
        return candidates[1]
    end
    if choice.hash_key then
        return picking.consistent_hash(candidates, choice.hash_key)
    end
    if choice.affinity_key then
        return picking.bounded_hash(candidates, choice.affinity_key)
    end
    if pool.by_latency then
        return latency.pick(candidates, choice)
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


-- The tiers to choose from. They include drained backends only if one of these may have the object
-- that the request names.
local function tiers_for(pool, choice)
    local with_drained = choice.pinned or choice.includes_drained
    if pool.by_preference then
        return preferred_order.tiers(pool, with_drained)
    end
    return with_drained and pool.all_tiers or pool.tiers
end


local function may_serve(backend, choice)
    return (not choice.pinned or backend.origin == choice.pinned)
           and (not backend.deployments
                or picking.served_as(backend.deployments, choice.deployment) ~= false)
end


-- Records why a backend is skipped.
local function skip_cooling(backend, choice, condition, entry, now, seen)
    note_skipped(seen, entry, now)
    metrics.skipped(choice, backend, "skipped_cooling")
    if condition == "guess" then
        seen.guesses = seen.guesses or {}
        seen.guesses[#seen.guesses + 1] = { backend = backend, entry = entry }
    end
end


-- Whether a backend can be used at once or as a probe; also returns its ended cooldown in the
-- second case.
local function can_be_used(backend, choice, now, seen)
    if is_broken(backend) then
        seen.is_broken = true
        return false
    end
    if is_unhealthy(backend, now) and not choice.ignores_health then
        seen.is_unhealthy = true
        seen.reasons = seen.reasons or {}
        seen.reasons.unreachable = true
        metrics.skipped(choice, backend, "skipped_unhealthy")
        return false
    end
    local condition, entry = look(backend, choice, now)
    if condition == "guess" or condition == "firm" then
        skip_cooling(backend, choice, condition, entry, now, seen)
        return false
    end
    return true, entry
end


-- Examines the backends of a tier once. Adds the reasons for skipped backends to `seen`. Returns
-- the candidates (possibly the tier itself) and the ended cooldowns of candidates that need a
-- probe.
local function candidates_of(tier, choice, now, seen)
    local tried = choice.tried
    local candidates, ended = tier, nil
    for i = 1, #tier do
        local backend = tier[i]
        local is_one, entry
        if not tried[backend] and may_serve(backend, choice) then
            is_one, entry = can_be_used(backend, choice, now, seen)
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


-- Acquires the right to probe a backend whose cooldown has ended.
local function take_probe(choice, backend, entry)
    local key = cooldown.key(backend.id, entry.scope)
    if not cooldown.take_probe(state, key) then
        return false
    end
    choice.probing = { backend = backend, key = key }
    return true
end


local function without_all(list, set)
    local rest = {}
    for i = 1, #list do
        if not set[list[i]] then
            rest[#rest + 1] = list[i]
        end
    end
    return rest
end


-- Examines all backends once, except those in a set.
local function look_around(pool, choice, seen, left_out)
    view:refresh()
    local now = milliseconds()
    for _, tier in ipairs(tiers_for(pool, choice)) do
        local candidates, ended = candidates_of(tier, choice, now, seen)
        if left_out then
            candidates = without_all(candidates, left_out)
        end
        while #candidates > 0 do
            local backend = pick(candidates, pool, choice)
            local entry = ended and ended[backend]
            if not entry or take_probe(choice, backend, entry) then
                return backend
            end
            seen.probed = seen.probed or backend
            candidates = without(candidates, backend)
        end
    end
    return nil
end


-- Whether later requests of the client may be affected by a cooldown of a backend.
local function concerns(choice, scope, entry)
    -- Scopes of operations contain capital letters, scopes of deployments do not.
    if scope == "" or scope ~= lower(scope) or entry.reason == "refused" then
        return false
    elseif choice.client_models then
        return model_lists.is_allowed(choice.client_models, scope)
    end
    -- A missing deployment does not count here: it may have been requested by another client.
    return entry.reason ~= "deployment_not_found"
end


-- Returns what `concerns` returns, and records the deployment that is cooling down: only a backend
-- that has it is a better choice.
local function concerns_and_notes(want, scope, entry)
    if not concerns(want.choice, scope, entry) then
        return false
    end
    want.deployments = want.deployments or {}
    want.deployments[scope] = true
    return true
end


-- Whether a backend serves a model that the client may use, and at least one that is cooling down
-- elsewhere.
local function serves_any(backend, models, wanted)
    if not backend.deployments then
        return true
    end
    local has_allowed, has_wanted = not models, not wanted
    for name in pairs(backend.deployments) do
        has_allowed = has_allowed or model_lists.is_allowed(models, name)
        has_wanted = has_wanted or wanted[lower(name)] == true
    end
    return has_allowed and has_wanted
end


-- The backends that are unsuitable for a new stored object because of cooldowns: a list with the
-- end of their last cooldown. Only requests that create objects call this, so it may examine all
-- backends.
local function busy_backends(pool, choice, now)
    local want, ends = { choice = choice }, {}
    for _, tier in ipairs(pool.tiers) do
        for _, backend in ipairs(tier) do
            ends[backend] = view:latest_end(backend.id, now, concerns_and_notes, want)
        end
    end
    local busy
    for _, tier in ipairs(pool.tiers) do
        for _, backend in ipairs(tier) do
            local till = not serves_any(backend, choice.client_models, want.deployments) and huge
                         or ends[backend]
            if till then
                busy = busy or {}
                busy[#busy + 1] = { backend = backend, till = till, rank = #busy }
            end
        end
    end
    return busy
end


local function is_free_sooner(one, other)
    if one.till == other.till then
        return one.rank < other.rank
    end
    return one.till < other.till
end


-- The backend for a new stored object; later requests that name the object must go there too.
-- Prefers a backend without cooldowns that affect the client, whatever its priority; otherwise the
-- one whose cooldowns end first. nil: all backends are suitable, or none is usable.
local function backend_for_new_object(pool, choice)
    view:refresh()
    local busy = busy_backends(pool, choice, milliseconds())
    if not busy then
        return nil
    end
    local is_busy = {}
    for _, each in ipairs(busy) do
        is_busy[each.backend] = true
    end
    local backend = look_around(pool, choice, {}, is_busy)
    if backend then
        return backend
    end
    sort(busy, is_free_sooner)
    for i = 1, math_min(#busy, MAX_BUSY) do
        is_busy[busy[i].backend] = nil
        backend = look_around(pool, choice, {}, is_busy)
        if backend then
            return backend
        end
    end
    return nil
end


-- A backend with a guessed cooldown, for a request that has no other.
local function last_resort(choice, seen)
    choice.last_resorts = choice.last_resorts or 0
    if not seen.guesses or choice.last_resorts >= MAX_LAST_RESORTS then
        return nil
    end

    -- If the end of a cooldown is known, backends that are slow to fail or unlikely to answer are
    -- not tried.
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
        if not state:add(shared_keys.UNREACHABLE_TRIED .. best.backend.key, true,
                        is_costly and COSTLY_AGAIN_S or AGAIN_S)
        then
            return nil
        end
    end
    -- A success does not disprove a delay that the backend named to the low lane.
    choice.probing = not best.entry.is_firm and { backend = best.backend } or nil
    choice.last_resorts = choice.last_resorts + 1
    return best.backend
end


--- The backend for the next attempt.
-- @tparam table pool
-- @tparam table choice `tried` (a set), `deployment`, `cooldown_scope`, `permission_scope`,
--   `hash_key`, `affinity_key`, `asks_for_stream`; `pinned`: the only origin that can serve the
--   request; `makes_stored`: whether later requests have to go to the same backend;
--   `client_models`: the deployments that those requests may use. Sets `probing` if the chosen
--   backend is cooling down or its cooldown has just ended; `worked` then ends the cooldown
-- @treturn table|nil the backend
-- @treturn nil|table why all backends are skipped: `soonest` (the shortest known delay, in
--   milliseconds), `reasons`, `is_broken`
function _M.next(pool, choice)
    if choice.makes_stored then
        local backend = backend_for_new_object(pool, choice)
        if backend then
            return backend
        end
    end

    local waited = 0
    while true do
        local seen = {}
        local backend = look_around(pool, choice, seen)
        if not backend and not seen.probed then
            backend = last_resort(choice, seen)
        end
        if backend then
            return backend
        end
        if not seen.probed then
            if not seen.is_unhealthy or seen.soonest or next(choice.tried)
               or choice.ignores_health
            then
                return nil, seen
            end
            -- Only probes mark these backends as unavailable, and probes can be wrong: an attempt
            -- is better than an error.
            choice.ignores_health = true
        elseif waited * 1000 >= cooldown.PROBE_MS then
            return seen.probed
        else
            -- Another request is probing the only remaining backend: wait for its outcome.
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


--- Whether a backend of a pool is unavailable for all requests: cooling down as a whole, unhealthy,
-- or without credential.
-- @treturn boolean
-- @treturn string|nil the reason
-- @treturn number|nil for how long, in milliseconds, if known
function _M.is_unavailable(pool, backend)
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


--- Returns the right to probe a backend after a request that ended without a result.
function _M.release(choice)
    local probing = choice.probing
    if probing then
        if probing.key then
            cooldown.release_probe(state, probing.key)
        end
        choice.probing = nil
    end
end


-- Ends the cooldowns that a successful request has disproved.
local function forget(choice, backend, with_scopes)
    local now = milliseconds()
    local id = backend.id
    if view:cooldown(id, nil, now) then
        cooldown.stop(state, id)
    end
    for i = 1, with_scopes and 2 or 0 do
        local scope = i == 1 and choice.cooldown_scope or choice.permission_scope
        if scope and view:cooldown(id, scope, now) then
            cooldown.stop(state, id, scope)
        end
    end
end


--- The backend of the last attempt works: ends its cooldowns.
function _M.worked(choice)
    local probing = choice.probing
    if probing then
        forget(choice, probing.backend, true)
        _M.release(choice)
    end
end


--- Records that the backend of the last attempt failed.
-- @tparam boolean is_reached whether the backend answered, which proves that it can be reached
function _M.failed(choice, is_reached)
    local probing = choice.probing
    if probing then
        if is_reached then
            forget(choice, probing.backend, false)
        end
        _M.release(choice)
    end
end


--- Begins a cooldown.
-- @tparam table backend
-- @tparam table|nil choice of the request that causes it, with the requested model for metrics;
--   nil: none in particular
-- @tparam string|nil scope nil: the whole backend
-- @tparam string reason
-- @tparam number duration_ms 0: no cooldown
-- @tparam boolean|nil is_firm whether the delay is known and not guessed
function _M.cool(backend, choice, scope, reason, duration_ms, is_firm)
    if duration_ms <= 0 then
        return
    end
    local by = choice and { lane = choice.lane, keeps_longer = choice.keeps_longer }
    if not cooldown.start(state, backend.id, scope, milliseconds(), duration_ms, reason, is_firm,
                          by)
    then
        return
    end
    local about = choice
    if not choice or scope and scope ~= choice.cooldown_scope then
        about = {
            cooldown_label = choice and choice.permission_label,
            pool_name = choice and choice.pool_name,
        }
    end
    metrics.cooling(backend, about, cooldown.key(backend.id, scope), reason)
end


--- Begins the cooldown of a backend that cannot be reached.
-- @tparam boolean is_costly whether an attempt to reach it takes long
-- @tparam table conf `default_ms`, `max_ms`
-- @treturn number its duration in milliseconds
function _M.close_unreachable(backend, choice, is_costly, conf)
    view:refresh()
    local before = view:cooldown(backend.id, nil, milliseconds())
    local is_again = before ~= nil and before.reason == "unreachable"
    local duration = cooldown.unreachable_ms(is_costly, is_again, conf)
    _M.cool(backend, choice, nil, "unreachable", duration)
    return duration
end


--- Whether a different request recently failed at the same backend and deployment.
-- @tparam string fingerprint of this request
-- @tparam number lasts_ms how long the failure of this request is remembered
function _M.has_failed_others(backend, scope, fingerprint, lasts_ms)
    return cooldown.suspect(state, cooldown.key(backend.id, scope), fingerprint,
                            math_max(lasts_ms, 1000))
end


--- The shortest known delay until one of the request's backends is usable again, in milliseconds;
-- nil: none is known.
function _M.soonest(pool, choice)
    view:refresh()
    local seen = {}
    local now = milliseconds()
    for _, tier in ipairs(tiers_for(pool, choice)) do
        for _, backend in ipairs(tier) do
            if may_serve(backend, choice) then
                local condition, entry = look(backend, choice, now)
                if condition == "firm" then
                    note_skipped(seen, entry, now)
                end
            end
        end
    end
    return seen.soonest
end


return _M
