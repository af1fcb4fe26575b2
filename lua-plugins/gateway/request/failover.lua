--- The loop of attempts: tries backends until one returns the client's answer.

local answering = require("gateway.request.answering")
local attempts = require("gateway.request.attempts")
local availability = require("gateway.backends.availability")
local backend_call = require("gateway.request.backend_call")
local errors = require("genai.openai.errors")
local failures = require("gateway.request.failures")
local final_error = require("gateway.request.final_error")
local labels = require("genai.telemetry.labels")
local latency = require("gateway.backends.latency")
local open_stream = require("gateway.request.open_stream")
local owner_lookup = require("gateway.affinity.owner_lookup")
local picking = require("genai.balancing.picking")
local pools = require("gateway.backends.pools")
local preferred_order = require("gateway.backends.preferred_order")
local ngx = ngx
local ngx_now = ngx.now
local pairs = pairs
local start_time = ngx.req.start_time

local _M = {}

-- A younger request uses the current configuration, or one that has just been replaced.
local OUTDATED_S = 1


local function is_past_deadline(record)
    local deadline = record.pool.conf.deadline_ms
    return deadline and (ngx_now() - record.started) * 1000 >= deadline
end


-- The next backend, without those that were drained since the request began, because uploads and
-- attempts take time. Returns the backend; or nil and why the others are skipped.
local function next_backend(ctx, record)
    local pool, choice = record.pool, record.choice
    local drained = ngx_now() - start_time() > OUTDATED_S and not choice.pinned
                    and pools.drained_since(ctx, pool)
    if not drained then
        return availability.next(pool, choice)
    end

    local tried = choice.tried
    for backend in pairs(drained) do
        tried[backend] = true
    end
    local backend, obstacles = availability.next(pool, choice)
    if not backend and attempts.counted(record) == 0 then
        -- If all backends were drained or removed, using one of them is better than failing.
        for each in pairs(drained) do
            tried[each] = nil
        end
        return availability.next(pool, choice)
    end
    return backend, obstacles
end


local function give_up(ctx, record, obstacles)
    local refusal = owner_lookup.refusal(record, obstacles)
    if refusal then
        return answering.hand_back(ctx, record, refusal)
    end
    if not record.is_open then
        open_stream.add_headers(record, nil)
    end
    return final_error.send(ctx, record, obstacles)
end


-- Ends a failed attempt, and updates the state of the loop: the backend whose kept connection was
-- closed, and the backend whose key was replaced.
local function end_failed(record, backend, failure, turns)
    local reason = failure.reason
    if reason == "request" then
        attempts.ends(record, nil)
    elseif reason == "stale" then
        attempts.ends(record, labels.outcome(failure), true)
        availability.release(record.choice)
        turns.stale = backend
    elseif failure.has_new_key and turns.renewed ~= backend then
        -- Its key has changed since the request was sent, so the backend is tried again.
        attempts.ends(record, labels.outcome(failure), true)
        availability.release(record.choice)
        turns.renewed = backend
        record.choice.tried[backend] = nil
    else
        attempts.ends(record, labels.outcome(failure))
        failures.note(record, backend, failure)
    end
end


-- The backend of the next attempt; whether it needs a new connection; and if there is no backend,
-- why all are skipped.
local function take_turn(ctx, record, turns)
    local backend, obstacles = next_backend(ctx, record)
    if not backend and turns.stale then
        -- A closed connection proves nothing about its backend, so it is tried again.
        backend, turns.stale = turns.stale, nil
        return backend, true
    end
    return backend, false, obstacles
end


--- Sends a request to backends until it ends.
-- @tparam table ctx
-- @tparam table record prepared
-- @treturn number the final status
-- @treturn nil|table the body of an error
function _M.run(ctx, record)
    record.started = ngx_now()
    local pool, choice = record.pool, record.choice
    if pool.by_preference then
        preferred_order.follow(pool.conf.preferred and pool.conf.preferred.redis)
    end
    local unknown_owner = owner_lookup.find(ctx, record)
    if unknown_owner then
        failures.found(record, unknown_owner)
        return give_up(ctx, record, nil)
    end
    if choice.pinned and not picking.is_served(pool.backends, choice.deployment, choice.pinned) then
        return 404, errors.body(404, "The API deployment does not exist in the resource that has"
                                     .. " the stored object of this request.",
                                errors.CODE.DeploymentNotFound)
    end

    local turns = {}
    local counted = 0
    while counted < pool.max_attempts and not failures.are_enough(record) do
        if counted > 0 and is_past_deadline(record) then
            break
        end
        local backend, is_fresh, obstacles = take_turn(ctx, record, turns)
        if not backend then
            return give_up(ctx, record, obstacles)
        end

        choice.tried[backend] = true
        if pool.by_latency then
            latency.begin(choice, backend)
        end
        attempts.begin(record, backend)
        local exchange, failure, preamble, is_stream = backend_call.send(ctx, record, backend,
                                                                         is_fresh)
        if failure then
            end_failed(record, backend, failure, turns)
            if failure.reason == "request" then
                local body = errors.body(400, "The request cannot be sent to a backend: "
                                              .. failure.err .. ".", errors.CODE.invalid_request)
                if record.is_open then
                    return open_stream.fail(record, body)
                end
                return 400, body
            end
        elseif owner_lookup.is_refused_here(record, backend, exchange, preamble) then
            exchange:finish(pool)
            attempts.ends(record, attempts.OK)
            availability.worked(choice)
        else
            return answering.hand_on(ctx, record, exchange, preamble, is_stream)
        end
        counted = attempts.counted(record)
    end

    return give_up(ctx, record, nil)
end


return _M
