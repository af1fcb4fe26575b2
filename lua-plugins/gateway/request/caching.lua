--- The answer cache as a request meets it: the answer is stored already, another request is getting
-- it, or this request gets it and others wait.

local answers = require("genai.caching.answers")
local core = require("apisix.core")
local courier = require("gateway.cache.courier")
local flights = require("gateway.cache.flights")
local forwarding = require("gateway.exchange.forwarding")
local local_store = require("gateway.cache.local_store")
local metrics = require("gateway.metrics")
local random = require("resty.random")
local redis_store = require("gateway.cache.redis_store")
local request_body = require("gateway.exchange.request_body")
local request_context = require("apisix_internals.request_context")
local requests = require("genai.caching.requests")
local sha256 = require("resty.sha256")
local to_hex = require("resty.string").to_hex
local ngx = ngx
local ngx_exit = ngx.exit
local ngx_now = ngx.now
local on_abort = ngx.on_abort
local worker_count = ngx.worker.count
local concat = table.concat
local ipairs = ipairs
local setmetatable = setmetatable
local sub = string.sub
local type = type

local _M = {}
local Caching = {}
local mt = { __index = Caching }

-- The status that nginx logs after a client disconnects.
local CLIENT_CLOSED = 499

-- Longest wait for a change of an arriving answer before the request looks again.
local WAIT_S = 5

-- After this many answers that cannot be shared, those that wait no longer wait for each other.
local MAX_FAILURES = 2

-- Ends of flights after which one of the waiting requests takes over: its leader is gone.
local TAKEN_OVER = { gone = true, unfollowed = true, redis = true }

-- So many leaders that are gone in a row are none: what the store says of them is not true.
local MAX_GONE = 20

-- Failures of a store after which the requests of one worker still share an answer.
local LOCAL_ONLY = { redis = true, no_memory = true }

-- Ends after which an equal request would fail the same way at most a second time.
local FAILURES = { error = true }

-- A long stored answer is sent in pieces of this size, each when the client has taken the last one.
local PIECE = 65536


local function decode(text)
    return (core.json.decode(text))
end


-- What is derived from the configuration, by its table.
local compiled = setmetatable({}, { __mode = "k" })


local function compile(conf)
    local operations = {}
    for _, each in ipairs(conf.operations) do
        operations[each] = true
    end
    return {
        operations = operations,
        scope = conf.scope,
        ttl_s = conf.ttl_ms / 1000,
        counts_tokens = conf.counts_tokens or false,
        limits = { max_entry = conf.max_entry, memory = conf.arriving_memory / worker_count() },
        store = conf.redis and redis_store.of(conf) or local_store,
    }
end


local function settings_of(conf)
    local settings = compiled[conf]
    if not settings then
        settings = compile(conf)
        compiled[conf] = settings
    end
    return settings
end


-- Why the answer to a request is neither looked up nor stored; nil: it is.
local function why_bypassed(record, settings, wishes)
    local body = record.body
    if not requests.is_operation(record.target, settings.operations) then
        return "operation"
    elseif wishes.no_store then
        return "no_store"
    elseif not body.length or body.length == 0 or body.is_multipart or body.is_doubtful then
        return "body"
    end
    local scan, err = request_body.scan(body, requests.PLAN)
    if err or scan.duplicate or scan.problem or not scan:finish() then
        return "body"
    elseif requests.has_effects(record.target.operation, scan) then
        return "effects"
    end
    return nil
end


-- The digest that identifies a request; nil: its body cannot be read.
local function digest_of(record, settings)
    local hash = sha256:new()
    hash:update(requests.identity({
        scope = settings.scope,
        client = record.client_name,
        -- Pools do not share answers. The field exists only in a gateway with several pools.
        pool = record.pool_name,
        target = record.target,
        lines = record.passed_lines,
    }))
    local source, err = request_body.source(record.body)
    if type(source) == "string" then
        hash:update(source)
    elseif source then
        for piece in source do
            hash:update(piece)
        end
    else
        core.log.error("the request body cannot be read: ", err)
        return nil
    end
    return hash:final()
end


local function new_token()
    return to_hex(random.bytes(8))
end


-- Makes this request the leader of a flight.
local function lead(self, flight, token)
    self.flight = flight
    flights.register(flight, token, true)
    courier.lead(flight)
    -- While others wait for the answer, the request goes on without its client.
    on_abort(function()
        if not self:stays() then
            ngx_exit(CLIENT_CLOSED)
        end
        self.is_abandoned = true
    end)
end


-- Makes this request the leader of a flight that no other request may join.
local function lead_alone(self)
    local flight = flights.new(self.settings.store, self.request, self.settings.limits)
    flight.token = new_token()
    self.flight = flight
end


-- Joins the flight of another request.
local function join(self, flight)
    self.follower = flight:join()
    return self.follower
end


local function leave(self)
    if self.follower then
        flights.leave(self.follower)
        self.follower = nil
    end
end


local function is_too_old(entry, wishes)
    return wishes.max_age ~= nil and ngx_now() - entry.created > wishes.max_age
end


-- Ends the search of this request, for those of its worker that wait for its result.
local function end_search(self, reason)
    local flight = self.searching
    self.searching = nil
    if flight and reason then
        flight:abandon(reason)
    end
    return flight
end


-- Applies the reply of the store.
local function apply(self, wishes, how, value)
    local entry = how == "hit" and answers.decode(value, decode)
    if entry and not is_too_old(entry, wishes) then
        local flight = end_search(self)
        flight:finish(entry, entry)
        flight:unregister()
        return "hit", entry
    elseif how == "lead" then
        lead(self, end_search(self), value)
        return "miss"
    elseif how == "follow" then
        local flight = end_search(self)
        flight.token = value
        join(self, flight)
        if courier.relay(flight) then
            return "follow"
        end
        leave(self)
        flight:abandon("alone")
    elseif LOCAL_ONLY[value] then
        -- The requests of this worker still share one answer.
        self.reason = value
        lead(self, end_search(self), new_token())
        return "miss"
    else
        self.reason = entry and "max_age" or ""
        end_search(self, "alone")
    end
    lead_alone(self)
    return "miss"
end


-- Looks for the answer. Returns "hit" and the entry; "follow"; or "miss": this request has to get
-- the answer.
local function look(self, wishes)
    local store = self.settings.store
    local flight = flights.find(store, self.request)
    if not flight then
        -- Other requests of this worker wait for the result of this search.
        flight = flights.new(store, self.request, self.settings.limits)
        flights.register(flight, nil, false)
        self.searching = flight
        return apply(self, wishes, store:begin(self.request))
    elseif not flight.entry then
        join(self, flight)
        return "follow"
    elseif is_too_old(flight.entry, wishes) then
        self.reason = "max_age"
        lead_alone(self)
        return "miss"
    end
    return "hit", flight.entry
end


local function set_header(name, value)
    ngx.header[name] = value
end


-- Sends the head of a stored or arriving answer.
local function send_head(self, head, age_s)
    ngx.status = 200
    for i = 1, #head.headers, 2 do
        set_header(head.headers[i], head.headers[i + 1])
    end
    set_header("x-gateway-cache", "hit")
    set_header("Age", age_s)
    self.age_s = age_s
    self.is_sending = true
end


-- Ends the request if its client has left.
local function expect_client(self, is_sent)
    if not is_sent then
        leave(self)
        ngx_exit(CLIENT_CLOSED)
    end
end


-- Sends a stored answer.
local function replay(self, record, entry, result)
    leave(self)
    self.result, self.reason, self.hit = result, "", entry
    record.status = 200
    send_head(self, entry, answers.age(entry, ngx_now()))
    local body = entry.body
    if not entry.is_stream then
        ngx.header["Content-Length"] = #body
    end
    if #body <= PIECE then
        expect_client(self, forwarding.pass_on(body, true))
    else
        for from = 1, #body, PIECE do
            expect_client(self, forwarding.pass_on(sub(body, from, from + PIECE - 1)))
        end
    end
    self.is_sending = nil
    return ngx_exit(ngx.HTTP_OK)
end


-- Sends what has arrived of a stream. Returns the last piece.
local function send_pieces(self, follower)
    local last
    while true do
        local piece = not follower.is_cut and flights.next_piece(follower)
        if not piece then
            return last
        end
        last = piece
        expect_client(self, forwarding.pass_on(piece))
    end
end


-- Ends the request after an arriving answer broke off.
local function break_off(self)
    self.broken_by, self.is_sending = "backend", nil
    leave(self)
    return ngx_exit(ngx.ERROR)
end


-- Waits for a flight to change; meanwhile, comments keep the client's connection open.
local function wait(self, record, follower, has_begun, last)
    local beat_ms = record.pool.conf.stream_heartbeat_ms
    local beats = has_begun and beat_ms and last and answers.ends_event(last)
    local seconds = beats and beat_ms / 1000 < WAIT_S and beat_ms / 1000 or WAIT_S
    if not flights.wait(follower, seconds) and beats and follower.flight.state == "live" then
        expect_client(self, forwarding.pass_on(forwarding.HEARTBEAT))
    end
end


-- Follows the answer that another request gets. Does not return if the client has its answer;
-- returns why the answer cannot be used.
local function follow(self, record, wishes)
    local follower = self.follower
    local flight = follower.flight
    local has_begun, last = false, nil
    while true do
        if flight.entry and not has_begun then
            if is_too_old(flight.entry, wishes) then
                leave(self)
                return "max_age"
            end
            return replay(self, record, flight.entry, "coalesced")
        end
        if flight.head and flight.state ~= "failed" and not has_begun then
            has_begun = true
            self.result, self.reason, self.hit = "coalesced", "", flight.head
            record.status = 200
            send_head(self, flight.head, 0)
        end
        if has_begun then
            last = send_pieces(self, follower) or last
            if follower.is_cut or flight.state == "failed" then
                return break_off(self)
            elseif flight.state == "done" and follower.position > flight.count then
                self.hit, self.is_sending = flight.meta, nil
                leave(self)
                return ngx_exit(ngx.HTTP_OK)
            end
        elseif flight.state == "failed" or flight.state == "done" then
            leave(self)
            return flight.reason or "not_stored"
        end
        if flight.state == "waiting" or flight.state == "live" then
            wait(self, record, follower, has_begun, last)
        end
    end
end


--- Answers a request from the cache, or lets it go on.
-- @tparam table ctx
-- @tparam table record prepared
-- @tparam function proceed gets the answer from a backend; called with `ctx` and `record`
-- @treturn number|nil what `proceed` returns
-- @treturn nil|table
function _M.serve(ctx, record, proceed)
    if not record.target.generates then
        return proceed(ctx, record)
    end
    local settings = settings_of(record.pool.conf.cache)
    local self = setmetatable({ settings = settings, result = "bypass", reason = "" }, mt)
    record.cache = self
    local headers = request_context.headers(ctx)
    local wishes = requests.control(headers["cache-control"], headers["pragma"])
    local reason = why_bypassed(record, settings, wishes)
    self.request = not reason and digest_of(record, settings) or nil
    if not self.request then
        self.reason = reason or "body"
        self:add_headers()
        return proceed(ctx, record)
    end

    self.result = "miss"
    if wishes.no_cache then
        self.reason = "no_cache"
        lead_alone(self)
    else
        local failures, gone = 0, 0
        while true do
            local how, entry = look(self, wishes)
            if how == "hit" then
                return replay(self, record, entry, "hit")
            elseif how == "miss" then
                break
            end
            local why = follow(self, record, wishes)
            failures = failures + (FAILURES[why] and 1 or 0)
            gone = gone + (TAKEN_OVER[why] and 1 or 0)
            if gone >= MAX_GONE
               or not TAKEN_OVER[why] and (not FAILURES[why] or failures >= MAX_FAILURES)
            then
                lead_alone(self)
                break
            end
        end
    end
    self:add_headers()
    return proceed(ctx, record)
end


--- Adds the header that reports the result.
function Caching:add_headers()
    ngx.header["x-gateway-cache"] = self.result
    ngx.header["Age"] = nil
end


-- Reads from a backend, and adds the bytes to the flight. This is no closure, because LuaJIT does
-- not compile functions that create closures.
local function tapped_read(exchange)
    -- Bytes that were put back are kept already.
    local is_again = exchange.pushed ~= nil
    local bytes, err = exchange.untapped_read(exchange)
    local self = exchange.tapped_by
    local flight = self.flight
    if bytes and flight and not is_again then
        flight:add(bytes)
        if flight.state == "failed" then
            metrics.cache_stored(flight.left_out)
            self:fails(flight.reason)
        end
    end
    return bytes, err
end


--- Keeps the bytes that are read from a backend.
-- @tparam table exchange before its body is read
function Caching:tap(exchange)
    local flight = self.flight
    if flight and flight.state == "waiting" then
        flight:restart()
        exchange.tapped_by, exchange.untapped_read = self, exchange.read
        exchange.read = tapped_read
    end
end


-- What is known of an answer when it begins.
local function head_of(record, exchange, is_stream, token)
    local attempt = record.attempts[#record.attempts]
    return {
        id = token,
        created = ngx_now(),
        is_stream = is_stream or nil,
        headers = answers.kept_headers(exchange.headers),
        served_as = attempt and attempt.served_as,
    }
end


--- Called when an answer is about to be passed on.
-- @tparam table record
-- @tparam table exchange
-- @tparam table|nil preamble of a stream
-- @tparam boolean is_stream
function Caching:begins(record, exchange, preamble, is_stream)
    local flight = self.flight
    if not flight then
        return
    elseif not answers.is_storable_head(exchange.status, exchange.headers, is_stream)
           or exchange.client_error or preamble and preamble.client_error
    then
        self:fails("error")
        return
    end
    self.head = head_of(record, exchange, is_stream, flight.token)
    if is_stream then
        flight:open(self.head)
    end
end


local function is_good(flight, head, answer)
    local text = concat(flight.pieces, "", flight.first, flight.count)
    if text == "" then
        return nil
    elseif head.is_stream then
        return answer.is_complete and answers.ends_event(text) and answers.is_good_stream(text)
               and text or nil
    end
    return answers.is_good_json(text) and text or nil
end


--- Called when an answer was passed on.
-- @tparam table record
-- @tparam string|nil who broke it off
function Caching:ended(record, who)
    local flight, head, answer = self.flight, self.head, record.answer
    if not flight or not head then
        return
    elseif who then
        self:fails(who == "client" and "gone" or "error")
        return
    end
    head.usage, head.model, head.tier = answer.usage, answer.model, answer.service_tier
    local body = flight.keeps and flight.state ~= "failed" and is_good(flight, head, answer)
    if not body then
        metrics.cache_stored(flight.left_out or "not_whole")
        if flight.keeps or flight.state ~= "live" then
            self:fails("error")
            return
        end
        -- It is whole, but too large to be stored.
        flight:finish(nil, head)
        self.flight = nil
        courier.ended(flight)
        return
    end
    local text = answers.encode(head, body, core.json.encode)
    head.body = body
    flight:finish(head, head)
    self.flight = nil
    courier.ended(flight, text, self.settings.ttl_s)
end


--- Ends the flight of this request without an answer for others.
function Caching:fails(reason)
    local flight = self.flight
    if flight then
        self.flight = nil
        flight:abandon(reason)
        courier.ended(flight)
    end
end


--- The backend's name of the deployment that made a stored answer; nil: it has no other name.
function Caching:served_as()
    return self.hit and self.hit.served_as or nil
end


--- Whether the request goes on without its client, because others wait for its answer.
function Caching:stays()
    local flight = self.flight
    return flight ~= nil and flight.state ~= "failed" and flight:is_followed()
end


--- Ends the part of a request in the cache, however the request ended.
-- @tparam table record
function Caching:close(record)
    leave(self)
    end_search(self, "gone")
    if self.is_sending then
        self.broken_by = "client"
    end
    -- Without an answer: it failed, or the client left before it came.
    local has_failed = record.is_broken or record.status and record.status ~= 200
    self:fails(has_failed and "error" or "gone")
end


return _M
