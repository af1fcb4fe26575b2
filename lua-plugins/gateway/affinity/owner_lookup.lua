--- Finds the owner of the stored objects that a request names: the one resource that has them.
-- Looks in memory first, then asks the backends.

local availability = require("gateway.backends.availability")
local backend_keys = require("gateway.backends.backend_keys")
local core = require("apisix.core")
local delay = require("genai.openai.delay")
local entra_tokens = require("gateway.credentials.entra_tokens")
local errors = require("genai.openai.errors")
local http_head = require("genai.http.http_head")
local metrics = require("gateway.metrics")
local owner_memory = require("gateway.affinity.owner_memory")
local request_record = require("gateway.record.request_record")
local stored_objects = require("genai.openai.stored_objects")
local targets = require("genai.openai.targets")
local upstream = require("gateway.exchange.upstream")
local concat = table.concat
local insert = table.insert
local ipairs = ipairs
local ngx = ngx
local ngx_now = ngx.now
local parse_http_time = ngx.parse_http_time
local type = type

local _M = {}

-- Time limits of one query to a backend, and of the search over all backends.
local ASK_MS = 5000
local SEARCH_S = 15

-- Limit for reading the answer to a query. The connection of a longer answer is closed.
local MAX_ANSWER = 65536

-- Time limit for reading the rest of a refused stream, which is an event or two.
local STREAM_MS = 100

local NONE = {}


-- Asks whether a backend has an object. Returns true or false; or nil and a failure if the backend
-- could not answer.
local function ask(record, backend, named, is_again)
    local pool, target = record.pool, record.target
    local version = targets.api_version(target.query)
    local query = version and "api-version=" .. version
    if backend.query then
        query = query and query .. "&" .. backend.query or backend.query
    end
    local path = backend.prefix .. targets.stored_path(target, named.collection, named.id)
    local authorization, err, pause_ms = entra_tokens.authorization(backend.identity)
    if err then
        return nil, { reason = "credentials", err = err, named_ms = pause_ms }
    end
    local head
    local signed_in_by = backend.lines
    head, err = http_head.request("GET", path, query, { signed_in_by, record.passed_lines },
                                  authorization)
    if not head then
        core.log.warn("backend ", backend.name, " cannot be searched for a stored object: ", err)
        return false
    end

    local exchange, phase
    exchange, phase, err = upstream.get(backend, head, pool.conf.timeouts, ASK_MS)
    if not exchange then
        return nil, { reason = phase == "connect" and "unreachable" or "failing", err = err }
    end

    local status = exchange.status
    exchange:read_short(MAX_ANSWER)
    exchange:finish(pool)
    if status == 429 then
        return nil, { reason = "throttled", headers = exchange.headers, err = "status 429" }
    elseif status == 401 and authorization then
        entra_tokens.refused(backend.identity, authorization)
    elseif status == 401 and not is_again and backend_keys.is_replaced(backend, signed_in_by) then
        return ask(record, backend, named, true)
    elseif status == 408 or status >= 500 then
        return nil, { reason = "failing", err = "status " .. status }
    end
    -- A 401 or 403 counts as "does not have it", because no request could use the object there.
    return status < 400
end


-- Whether a backend that cannot be queried now may be the owner. A backend without a usable key is
-- not a candidate.
local function may_own(backend, reason)
    return reason ~= "credentials" or entra_tokens.is_without_token(backend.identity)
           or backend.key_setting and backend.is_broken
end


-- Queries one backend. Returns whether it is the owner, and the failure if that is still unknown.
local function ask_and_learn(record, backend, named)
    local has_it, failure = ask(record, backend, named)
    if failure then
        core.log.warn("the search for a stored object (", named.collection, ") failed at backend ",
                      backend.name, ": ", failure.err)
        if failure.reason == "unreachable" then
            availability.close_unreachable(backend, nil, failure.err == "timeout",
                                           record.pool.conf.cooldown)
        end
    end
    return has_it, failure
end


-- Queries the resources one after another for an object. Returns the origin of the owner; or nil,
-- and the failure of a possible owner that could not be queried.
local function search(record, named)
    local pool = record.pool
    local asked, open_failure = {}, nil
    local deadline = ngx_now() + SEARCH_S
    for _, tier in ipairs(pool.all_tiers) do
        for _, backend in ipairs(tier) do
            local is_unavailable, reason, left_ms = availability.is_unavailable(pool, backend)
            if asked[backend.origin] then
                -- A backend of the same resource was queried already; its result counts for both.
                is_unavailable = true
            elseif is_unavailable and may_own(backend, reason) then
                open_failure = open_failure or { reason = reason, err = "it is cooling down",
                                                 named_ms = left_ms }
            end
            if not is_unavailable then
                if ngx_now() > deadline then
                    return nil, { reason = "failing", err = "the search took too long" }
                end
                asked[backend.origin] = true
                local has_it, failure = ask_and_learn(record, backend, named)
                if has_it then
                    return backend.origin
                elseif failure and (not open_failure or failure.reason == "throttled") then
                    open_failure = failure
                end
            end
        end
    end
    return nil, open_failure
end


-- The error to return when the owner may be a backend that could not be queried. Never a 404.
local function as_answer(open_failure)
    local is_throttled = open_failure.reason == "throttled"
    local named = open_failure.named_ms
    if not named and open_failure.headers then
        named = delay.named_ms(open_failure.headers, ngx_now(), parse_http_time, nil, is_throttled)
    end
    return {
        reason = open_failure.reason,
        status = is_throttled and 429 or 503,
        code = not is_throttled and errors.CODE.upstream_unavailable or nil,
        message = is_throttled
                  and "A backend that may have the stored object of this request is throttled."
                  or "A backend that may have the stored object of this request cannot be asked"
                     .. " now.",
        headers = open_failure.headers,
        named_ms = named,
        err = open_failure.reason == "credentials" and open_failure.err or nil,
    }
end


-- The stored objects that a request names in its path and body. Returns four values: the objects
-- that backends can be queried for; the ids and encrypted reasoning that they cannot be queried
-- for; the position in that second list of the first entry that only its owner accepts, as for all
-- entries after it; and the scan of the body, if it is JSON.
local function names_of(record)
    local target = record.target
    local scan = target.names_stored and record.body.scan or nil
    local named, unreadable, first_proven
    if scan then
        named, unreadable, first_proven = stored_objects.of_scan(scan)
    end
    named = named or {}
    local id, collection = target.stored_id, target.collection
    if id and stored_objects.is_readable(collection) then
        insert(named, 1, { collection = collection, id = id })
    elseif id then
        unreadable = unreadable or {}
        unreadable[#unreadable + 1] = id
        first_proven = first_proven or 1
    end
    return named, unreadable, first_proven, scan
end


-- Records in metrics how the owner was found, or that it was not.
local function note_found(affinity, result)
    affinity.found = result
    metrics.looked_up(result)
end


-- The remembered owner of the first known id of a list. Adds the keys of the ids that it checks.
local function remembered(record, scope, ids, keys)
    for i = 1, #ids do
        local each = ids[i]
        local key = owner_memory.key_of(scope, each.id or each)
        keys[#keys + 1] = key
        local origin = owner_memory.in_memory(record.pool, key)
        if origin then
            return origin
        end
    end
    return nil
end


-- The known owner of the named objects, and the source that knew it. Also returns the keys of all
-- names.
local function recall(record, scope, named, unreadable)
    local keys = {}
    local origin = remembered(record, scope, named, keys)
                   or remembered(record, scope, unreadable or NONE, keys)
    if origin then
        return origin, "memory"
    end
    origin = owner_memory.in_redis(record.pool, keys)
    return origin, "redis", keys
end


-- Searches for the owner of the first named object that backends can be queried for. Returns its
-- origin, or a failure if the owner cannot be determined now.
local function search_named(record, named, keys)
    local key = keys[1]
    if not named[1] or owner_memory.has_none(key) then
        return nil
    end
    local origin, open_failure = search(record, named[1])
    if origin then
        owner_memory.remember(record.pool.conf.affinity, { key }, origin)
    elseif not open_failure then
        owner_memory.remember_none(key)
    end
    return origin, open_failure
end


-- Records the names whose owner only an attempt can reveal, except names that recently had none. A
-- backend may accept whole items without checking their ids. So acceptance proves ownership only
-- after another backend has refused them.
local function note_unknown(affinity, keys, first, first_proven)
    for i = first, #keys do
        local key = keys[i]
        if not owner_memory.has_none(key) then
            affinity.unknown = affinity.unknown or {}
            insert(affinity.unknown, key)
            if i >= first + first_proven - 1 then
                affinity.proven = affinity.proven or {}
                insert(affinity.proven, key)
            end
        end
    end
end


-- Chooses the backend for a request that names nothing. The new object belongs next to other
-- objects of its client, at a backend that is not throttled.
local function prepare_new_object(record, scope)
    local target, choice = record.target, record.choice
    local collection = target.collection
    if not collection or target.generates then
        return
    end
    if stored_objects.is_kept_together(collection) then
        choice.hash_key = scope
    end
    if record.method == "POST" and not choice.deployment then
        choice.makes_stored = true
        choice.client_models = record.client and record.client.models
    end
end


-- What to remember of the answer; nil: nothing.
local function affinity_of(record, scope, scan, has_names)
    local target = record.target
    local is_stored, has_audio
    if scan then
        is_stored = stored_objects.stores(scan)
        has_audio = target.operation == "chat_completions" and stored_objects.asks_for_audio(scan)
    end
    if target.operation == "chat_completions" and target.generates then
        is_stored = is_stored or false
        if not is_stored and not has_audio and not has_names then
            return nil
        end
    end
    return request_record.new("affinity", { scope = scope, is_stored = is_stored,
                                            has_audio = has_audio })
end


--- Finds the owner of the stored objects that a request names, and sets `pinned`, `hash_key` or
-- `makes_stored` of the request's choice.
-- @tparam table ctx
-- @tparam table record with its body
-- @treturn table|nil a failure: the owner cannot be determined now
function _M.find(ctx, record)
    local pool, target, choice = record.pool, record.target, record.choice
    if not target.collection and not target.names_stored or not pool.tracks_owners then
        return nil
    end

    local scope = record.client_name or ""
    local named, unreadable, first_proven, scan = names_of(record)
    local has_names = named[1] ~= nil or unreadable ~= nil
    local affinity = affinity_of(record, scope, scan, has_names)
    record.affinity = affinity
    if pool.origin_count < 2 then
        -- Only requests to other pools need the owner of an object.
        return nil
    end
    if not has_names then
        prepare_new_object(record, scope)
        return nil
    end

    local origin, known_by, keys = recall(record, scope, named, unreadable)
    if origin then
        choice.pinned = origin
        note_found(affinity, known_by)
        return nil
    end
    local open_failure
    origin, open_failure = search_named(record, named, keys)
    choice.pinned = origin
    note_found(affinity, origin and "search" or open_failure and "failed" or "none")
    if not origin and not open_failure and unreadable then
        note_unknown(affinity, keys, #named + 1, first_proven)
    end
    return not origin and open_failure and as_answer(open_failure) or nil
end


-- The error text of an event that is passed to the client.
local function text_of(said)
    local text = ""
    for _, field in ipairs({ "code", "type", "message" }) do
        if type(said[field]) == "string" then
            text = text .. said[field] .. " "
        end
    end
    return text
end


-- Whether an answer says that a named object is in another resource. Returns the whole body.
local function refused_body(record, exchange, preamble)
    local said = preamble and preamble.client_error or exchange.client_error
    if said then
        if not stored_objects.is_elsewhere(400, text_of(said)) then
            return nil
        end
        -- Nothing follows an error, but the backend may keep the connection open, so this read
        -- needs a short limit.
        local rest = exchange:read_short(MAX_ANSWER, STREAM_MS)
        if not exchange.done and (not preamble or #rest >= MAX_ANSWER) then
            exchange:put_back(rest)
            return nil
        end
        return (preamble and concat(preamble.held) or "") .. rest
    elseif exchange.status ~= 400 and exchange.status ~= 404 then
        return nil
    end
    local text = exchange:read_short(MAX_ANSWER)
    local target = record.target
    local is_elsewhere = stored_objects.is_elsewhere(exchange.status, text)
                         or exchange.status == 404 and target.stored_id
                            and not stored_objects.is_readable(target.collection)
    if not is_elsewhere or not exchange.done then
        exchange:put_back(text)
        return nil
    end
    return text
end


--- Whether a backend refused a name that another resource may own, while the owner is unknown. If
-- so, the request goes to each of the other backends once. The first refusal is kept: the client
-- gets it if no backend has the object.
-- @tparam table record
-- @tparam table backend
-- @tparam table exchange the backend's answer; an error's body is read and put back
-- @tparam table|nil preamble of a stream
-- @treturn boolean
function _M.is_refused_here(record, backend, exchange, preamble)
    local affinity = record.affinity
    if not affinity or not affinity.unknown then
        return false
    end
    local body = refused_body(record, exchange, preamble)
    if not body then
        if exchange.status >= 400 or exchange.client_error or preamble and preamble.client_error
        then
            -- This refusal does not reveal the owner.
            affinity.unknown, affinity.proven = nil, nil
        end
        return false
    end

    affinity.refusals = (affinity.refusals or 0) + 1
    affinity.refusal = affinity.refusal or { backend = backend, status = exchange.status,
                                             headers = exchange.headers, body = body }
    local choice = record.choice
    -- The owner may be a drained backend.
    choice.includes_drained = true
    for _, each in ipairs(record.pool.backends) do
        if each.origin == backend.origin then
            choice.tried[each] = true
        end
    end
    if affinity.refusals >= record.pool.origin_count then
        for _, key in ipairs(affinity.unknown) do
            owner_memory.remember_none(key)
        end
    end
    return true
end


--- The kept refusal of a backend, which the client gets because no backend has the named object.
-- @tparam table record
-- @tparam table|nil obstacles why the backends that were not queried are skipped
-- @treturn table|nil `backend`, `status`, `headers` and `body`; nil: there is no refusal, or the
--   object may be at a backend that failed or is skipped
function _M.refusal(record, obstacles)
    local reasons = obstacles and obstacles.reasons or NONE
    if not record.affinity or record.best_failure
       or reasons.throttled or reasons.failing or reasons.unreachable
    then
        return nil
    end
    return record.affinity.refusal
end


return _M
