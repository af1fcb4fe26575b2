--- Leads requests to the one resource that has what they name: from memory, and else by asking.

local availability = require("apisix.plugins.azure-openai-proxy.availability")
local backend_keys = require("apisix.plugins.azure-openai-proxy.backend_keys")
local core = require("apisix.core")
local delay = require("genai.delay")
local http_head = require("genai.http_head")
local identities = require("apisix.plugins.azure-openai-proxy.identity")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local events = require("genai.events")
local json_scan = require("genai.json_scan")
local sse = require("genai.sse")
local places = require("apisix.plugins.azure-openai-proxy.places")
local stored = require("genai.stored")
local targets = require("genai.target")
local upstream = require("apisix.plugins.azure-openai-proxy.upstream")
local usage = require("genai.usage")
local ngx = ngx
local ngx_now = ngx.now
local insert = table.insert
local ipairs = ipairs
local match = string.match
local parse_http_time = ngx.parse_http_time
local setmetatable = setmetatable

local _M = {}

-- So long one backend may take to say whether it has something, and all of them together.
local ASK_MS = 5000
local SEARCH_S = 15

-- What is there may be long; a connection whose answer is longer is not used again.
local MAX_ANSWER = 65536

-- Where a stream's first events do not say what is made, its later ones do not either.
local MAX_EVENTS = 8

-- What an answer says to a watch, by whether it looks for what is encrypted.
local ANSWERS = {}
for _, wants_seals in ipairs({ true, false }) do
    local wanted = { { "id", is_first = true } }
    for _, each in ipairs(usage.WANTED) do
        wanted[#wanted + 1] = each
    end
    ANSWERS[wants_seals] = json_scan.plan(wanted, wants_seals and stored.sealed_words() or nil)
end


local function api_version(query)
    return query and match("&" .. query, "&(api%-version=[^&]*)")
end


-- Whether a backend has something: true or false, or nil and what kept it from saying so.
local function ask(state, backend, named, is_again)
    local pool, target = state.pool, state.target
    local query = api_version(target.query)
    if backend.query then
        query = query and query .. "&" .. backend.query or backend.query
    end
    local path = backend.prefix .. targets.stored_path(target, named.collection, named.id)
    local authorization, err, pause_ms = identities.authorization(backend.identity)
    if err then
        return nil, { reason = "credentials", err = err, named_ms = pause_ms }
    end
    local head
    local signed_in_by = backend.lines
    head, err = http_head.request("GET", path, query, signed_in_by .. state.passed, authorization)
    if not head then
        core.log.warn("backend ", backend.name, " cannot be asked: ", err)
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
        identities.refused(backend.identity, authorization)
    elseif status == 401 and not is_again and backend_keys.is_replaced(backend, signed_in_by) then
        return ask(state, backend, named, true)
    elseif status == 408 or status >= 500 then
        return nil, { reason = "failing", err = "status " .. status }
    end
    -- 401 and 403 too: what no request gets at is as good as not there.
    return status < 400
end


-- Asks the resources in turn which of them has something.
-- Gives its origin; or nil, and what kept one from being asked that may be the one.
local function search(state, named)
    local pool = state.pool
    local asked, doubt = {}, nil
    local deadline = ngx_now() + SEARCH_S
    for _, tier in ipairs(pool.all_tiers) do
        for _, backend in ipairs(tier) do
            local is_left_alone, reason, left_ms = availability.is_left_alone(pool, backend)
            local is_asked = asked[backend.origin]
            local may_have_it = reason ~= "credentials"
                                or identities.is_without_token(backend.identity)
                                or backend.key_setting and backend.is_broken
            if not is_asked and is_left_alone and may_have_it then
                doubt = doubt or { reason = reason, err = "left alone", named_ms = left_ms }
            elseif not is_asked and not is_left_alone then
                if ngx_now() > deadline then
                    return nil, { reason = "failing", err = "the search took too long" }
                end
                asked[backend.origin] = true
                local has_it, failure = ask(state, backend, named)
                if has_it then
                    return backend.origin
                elseif failure then
                    core.log.warn("backend ", backend.name, " does not say whether it has one of ",
                                  named.collection, ": ", failure.err)
                    if not doubt or failure.reason == "throttled" then
                        doubt = failure
                    end
                    if failure.reason == "unreachable" then
                        availability.close_unreachable(backend, nil, failure.err == "timeout",
                                                       pool.conf.cooldown)
                    end
                end
            end
        end
    end
    return nil, doubt
end


-- What the client is told where one could not be asked that may have what the request names: not
-- that there is no such thing.
local function as_answer(doubt)
    local is_throttled = doubt.reason == "throttled"
    local named = doubt.named_ms
    if not named and doubt.headers then
        named = delay.named_ms(doubt.headers, ngx_now(), parse_http_time, nil, is_throttled)
    end
    return {
        reason = doubt.reason,
        status = is_throttled and 429 or 503,
        code = not is_throttled and "upstream_unavailable" or nil,
        message = is_throttled and "A backend that may have what this request names is throttled."
                  or "A backend that may have what this request names cannot be asked now.",
        headers = doubt.headers,
        named_ms = named,
        err = doubt.reason == "credentials" and doubt.err or nil,
    }
end


-- What a request names, in its path and in its body; and the scan of the body, where it is JSON.
local function names_of(state)
    local target = state.target
    local scan = state.method == "POST" and state.body.scan or nil
    local named = scan and stored.of_scan(scan) or {}
    if target.stored_id then
        insert(named, 1, { collection = target.collection, id = target.stored_id })
    end
    return named, scan
end


-- How it was found what a request names, or that it was not.
local function note_found(affinity, result)
    affinity.found = result
    metrics.looked_up(result)
end


--- Finds out where a request has to go, and sets `pinned`, `preferred` or `hash_key` of it.
-- @tparam table ctx
-- @tparam table state of the request, with its body
-- @treturn table|nil a failure: where it has to go cannot be found out now
function _M.lead(ctx, state)
    local pool, target, request = state.pool, state.target, state.request
    local known_by
    if not target.collection or pool.origin_count < 2 then
        return nil
    end

    local scope = ctx.var.genai_client or ""
    local named, scan = names_of(state)
    local affinity = { scope = scope }
    state.affinity = affinity
    if scan and target.collection == "responses" then
        affinity.keeps_seals = scan.is_mentioned or false
    end

    if not named[1] then
        if stored.is_kept_together(target.collection) then
            request.hash_key = scope
            return nil
        end
        local sealed = scan and stored.last_sealed(scan)
        if sealed then
            affinity.sealed_at, known_by = places.recall(pool, { places.key_of(scope, sealed) })
            request.preferred = affinity.sealed_at
            note_found(affinity, known_by or "none")
        end
        return nil
    end

    local keys = {}
    for i, each in ipairs(named) do
        keys[i] = places.key_of(scope, each.id)
    end
    request.pinned, known_by = places.recall(pool, keys)
    if request.pinned then
        note_found(affinity, known_by)
        return nil
    end

    for i, each in ipairs(named) do
        if stored.is_readable(each.collection) then
            local origin, doubt = search(state, each)
            if origin then
                places.remember(pool.affinity, { keys[i] }, origin)
                request.pinned = origin
            end
            note_found(affinity, origin and "search" or doubt and "failed" or "none")
            return not origin and doubt and as_answer(doubt) or nil
        end
    end
    note_found(affinity, "none")
    return nil
end


--- Whether a backend refused what another one had encrypted, and that one is known: the request is
-- then pinned to it, for one more try.
-- @tparam table state
-- @tparam table backend
-- @tparam table exchange its answer; of a 400 the body is read, and put back
function _M.is_sealed_elsewhere(state, backend, exchange)
    local owner = state.affinity and state.affinity.sealed_at
    if not owner or exchange.status ~= 400 or owner == backend.origin or state.request.pinned
       or state.attempts >= state.pool.max_attempts
    then
        return false
    end
    local text = exchange:read_short(MAX_ANSWER)
    if not stored.is_foreign_seal(text) then
        exchange:put_back(text)
        return false
    end
    state.request.pinned = owner
    return true
end


local Watch = {}
local watch_mt = { __index = Watch }


--- What looks on while an answer passes, and remembers what was made where; nil where nothing is.
-- @tparam table state
-- @tparam table backend
-- @tparam table exchange
function _M.watch(state, backend, exchange)
    local affinity = state.affinity
    if not affinity or state.method ~= "POST" or exchange.status < 200 or exchange.status > 299 then
        return nil
    end
    local wants_id = not state.target.stored_id
    if not wants_id and not affinity.keeps_seals then
        return nil
    end
    return setmetatable({
        conf = state.pool.affinity,
        scope = affinity.scope,
        origin = backend.origin,
        wants_id = wants_id,
        wants_seals = affinity.keeps_seals,
        events_left = MAX_EVENTS,
        seals = {},
        seals_left = stored.MAX_SEALS,
        -- what the scan of a JSON answer has to look for
        plan = ANSWERS[affinity.keeps_seals or false],
    }, watch_mt)
end


function Watch:note(ids)
    local keys = {}
    for i, id in ipairs(ids) do
        keys[i] = places.key_of(self.scope, id)
    end
    if keys[1] then
        places.remember(self.conf, keys, self.origin)
    end
end


function Watch:note_seals(scan)
    local ids = {}
    for _, sealed in ipairs(stored.all_sealed(scan)) do
        -- It comes with its item, and again with the whole response.
        if not self.seals[sealed] and self.seals_left > 0 then
            self.seals[sealed] = true
            self.seals_left = self.seals_left - 1
            ids[#ids + 1] = sealed
        end
    end
    self:note(ids)
end


--- Looks at the scan of a JSON answer, which has read what is about to be sent.
function Watch:scanned(scan)
    if self.wants_id and scan.members.id then
        self.wants_id = false
        self:note({ stored.made(scan) })
    end
end


--- Looks at the scan of a JSON answer that has come to its end.
function Watch:ended(scan)
    if self.wants_seals then
        self:note_seals(scan)
    end
end


local function scan_of(data)
    local scan = json_scan.new(events.PLAN)
    scan:feed(data)
    scan:finish()
    return scan
end


--- One event of a stream, scanned.
function Watch:event(scan)
    if self.wants_id and self.events_left > 0 then
        local id = stored.made(scan, "response.id")
        self.events_left = self.events_left - 1
        self.wants_id = not id and self.events_left > 0
        self:note({ id })
    end
    if self.wants_seals then
        self:note_seals(scan)
    end
end


--- Complete events of a stream.
function Watch:events(complete)
    local wants_seals = self.wants_seals and stored.mentions_sealed(complete)
    local position = 1
    while self.wants_id or wants_seals do
        local next_position, data = sse.next_event(complete, position)
        if not next_position then
            break
        end
        position = next_position
        if data then
            self:event(scan_of(data))
        end
    end
end


return _M
