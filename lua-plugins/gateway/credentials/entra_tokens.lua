--- Tokens of Entra ID for backends without a key, and for Azure Monitor. One worker at a time
-- fetches them in the background; all workers use them.

local core = require("apisix.core")
local deadline = require("gateway.mechanisms.deadline")
local process_config = require("apisix_internals.process_config")
local shared_memory = require("gateway.mechanisms.shared_memory")
local single_flight = require("gateway.mechanisms.single_flight")
local upstream = require("gateway.exchange.upstream")
local metrics = require("gateway.metrics")
local endpoints = require("genai.http.endpoints")
local http_headers = require("genai.http.http_headers")
local http_head = require("genai.http.http_head")
local entra = require("genai.identity.entra")
local ngx = ngx
local encode_args = ngx.encode_args
local ngx_now = ngx.now
local timer_every = ngx.timer.every
local io_open = io.open
local concat = table.concat
local gsub = string.gsub
local ipairs = ipairs
local pairs = pairs
local random = math.random
local setmetatable = setmetatable

local _M = {}

-- Time limit for a whole request for a token.
local TIMEOUT_S = 5

-- How long a request waits for a token: a little longer than one fetch takes at most.
local PATIENCE_S = 6

-- Interval of the check whether a token must be replaced.
local WATCH_S = 1

local MAX_ANSWER = 65536

local TIMEOUTS = { connect_ms = TIMEOUT_S * 1000, send_ms = TIMEOUT_S * 1000,
                   read_ms = TIMEOUT_S * 1000 }

local NOT_KEPT = { keepalive = false }

local state = shared_memory.state

-- Identities of the pools in use, by key.
local known = setmetatable({}, { __mode = "v" })

local environment, is_watching


-- Read through APISIX, because nginx passes fewer variables to its workers.
local function read_environment()
    local env = {}
    for _, name in ipairs(entra.VARIABLES) do
        env[name] = process_config.env(name)
    end
    return env
end


-- Read each time: the platform replaces the file's content about every hour.
local function read_assertion(source)
    local file = io_open(source.file, "r")
    local text = file and file:read(MAX_ANSWER)
    if file then
        file:close()
    end
    text = text and gsub(text, "%s+$", "")
    if not text or text == "" then
        return nil, "the file that AZURE_FEDERATED_TOKEN_FILE names cannot be read, or is empty"
    end
    return text
end


-- Head and body of a request for a token.
local function written(request, endpoint)
    local arguments = encode_args(request.arguments)
    local is_form = request.method == "POST"
    local lines = { http_headers.line("host", endpoint.authority) }
    for name, value in pairs(request.headers) do
        local line = http_headers.line(name, value)
        if not line then
            return nil, "its header " .. name .. " would hold a line break"
        end
        lines[#lines + 1] = line
    end
    if is_form then
        lines[#lines + 1] = http_headers.line("content-length", #arguments)
    end
    local query = endpoint.query
    if not is_form then
        query = query and query .. "&" .. arguments or arguments
    end
    local head = http_head.request(request.method, endpoint.path, query, concat(lines))
    if not head then
        return nil, "its address is not a valid URL"
    end
    return head, is_form and arguments or nil
end


-- Fetches a token. Returns nil and the reason on failure.
local function ask(identity)
    local source = identity.source
    if source.problem then
        return nil, source.problem
    end
    local assertion, err
    if source.file then
        assertion, err = read_assertion(source)
        if not assertion then
            return nil, err
        end
    end

    local request = entra.request(identity, assertion)
    local endpoint = endpoints.parse(request.address)
    if not endpoint then
        return nil, "its address is not a valid URL"
    end
    local head, body = written(request, endpoint)
    if not head then
        return nil, body
    end

    local exchange, phase
    exchange, phase, err = upstream.send({
        connection = {
            scheme = endpoint.scheme,
            host = endpoint.host,
            port = endpoint.port,
            ssl_server_name = endpoint.scheme == "https" and endpoint.host or nil,
            ssl_verify = true,
        },
    }, request.method, head, body, TIMEOUTS)
    if not exchange then
        return nil, phase == "connect" and "it cannot be reached: " .. err or "no answer: " .. err
    end
    local text = exchange:read_short(MAX_ANSWER)
    exchange:finish(NOT_KEPT)
    return entra.answer(exchange.status, core.json.decode(text), ngx_now())
end


-- Requests a token from its source, within a time limit.
local function ask_in_time(identity)
    local answer, reason, is_broken = deadline.call(TIMEOUT_S, ask, identity)
    if is_broken then
        return nil, "the request failed inside the gateway: " .. reason
    elseif reason == "timeout" then
        return nil, "no answer in " .. TIMEOUT_S .. " seconds"
    end
    return answer, reason
end


-- Keeps a token for requests of this worker.
local function keep(identity, stored)
    if identity.token ~= stored.token then
        identity.token = stored.token
        identity.line = http_headers.line("authorization", "Bearer " .. stored.token) .. "\r\n"
    end
    identity.usable_until = stored.usable_until
end


-- Whether a token must be fetched now.
local function is_due(identity, now)
    local stored = entra.stored(state, identity, now)
    return not (stored and now < stored.refresh_at and stored.token ~= identity.refused)
           and not entra.pause(state, identity, now)
end


-- Fetches a token, and stores the result for all workers.
local function renew(identity)
    -- Another worker may have just fetched one.
    if not is_due(identity, ngx_now()) then
        return
    end
    local answer, reason = ask_in_time(identity)
    metrics.token_asked_for(answer and "ok" or "failed")
    local now = ngx_now()
    if answer then
        local stored, ok, err = entra.store(state, identity, answer, now, random())
        keep(identity, stored)
        if not ok then
            core.log.error("a token cannot be stored in the shared memory: ", err)
        end
        core.log.info("fetched a token for ", identity.label, " from ", identity.source.name)
        return
    end

    local pause = entra.failed(state, identity, now, reason)
    -- While the old token is valid, no request fails, so this is only a warning.
    local log = now < identity.usable_until and core.log.warn or core.log.error
    log("no token for ", identity.label, " from ", identity.source.name, ": ", reason,
        "; the next attempt is in ", pause, " ms")
end


local function failed(identity, err)
    entra.failed(state, identity, ngx_now(), "the gateway failed")
    core.log.error("a request for a token failed inside the gateway: ", err)
end


-- Starts fetching a token, unless a worker already does or the last attempt was too recent.
local function begin(identity)
    if is_due(identity, ngx_now()) then
        single_flight.begin(entra.lock_key(identity), entra.LOCK_S, renew, failed, identity)
    end
end


-- Replaces tokens before they expire, and adopts tokens that other workers fetched.
local function watch(premature)
    if premature then
        return
    end
    local now = ngx_now()
    for _, identity in pairs(known) do
        local stored = entra.stored(state, identity, now)
        if stored then
            keep(identity, stored)
        end
        if not stored or now >= stored.refresh_at then
            begin(identity)
        end
    end
end


--- The identity of a configuration; configurations that lead to the same token share one.
-- @tparam table conf `resource`, and perhaps `client_id`, `endpoint`, `secret`
function _M.of(conf)
    environment = environment or read_environment()
    local identity = entra.of(conf, environment)
    if known[identity.key] then
        return known[identity.key]
    end

    identity.usable_until = 0
    known[identity.key] = identity
    if not is_watching then
        is_watching = timer_every(WATCH_S, watch)
    end
    return identity
end


-- The authorization line; or false, the reason, and milliseconds until the next attempt to get a
-- token; nil: not known yet.
local function look(identity)
    local now = ngx_now()
    if now < identity.usable_until then
        return identity.line
    end
    local stored = entra.stored(state, identity, now)
    if stored then
        keep(identity, stored)
        return identity.line
    end
    local reason, left = entra.pause(state, identity, now)
    if reason then
        return false, reason, left
    end
    begin(identity)
    return nil
end


--- The authorization header of a request. Waits for a token if there is none yet.
-- @tparam table|nil identity the backend's; nil: it has a key
-- @treturn string|nil the last line of the request's head, with the empty line that follows
-- @treturn nil|string why there is none, without anything secret
-- @treturn nil|number milliseconds until the next attempt to get one
function _M.authorization(identity)
    if not identity then
        return nil
    elseif ngx_now() < identity.usable_until then
        return identity.line
    end
    local line, reason, left = single_flight.wait(PATIENCE_S, look, identity)
    if line then
        return line
    end
    return nil, "no token from " .. identity.source.name .. ": " .. (reason or "it takes too long"),
           left or WATCH_S * 1000
end


--- Whether there is currently no token.
-- @tparam table|nil identity a backend's; nil: it has a key
function _M.is_without_token(identity)
    local now = ngx_now()
    return identity ~= nil and now >= identity.usable_until
           and not entra.stored(state, identity, now)
end


--- The known problem with an identity, if any. Does not request a token.
-- @tparam table conf `resource`, and perhaps `client_id`
-- @treturn string|nil a text without anything secret
function _M.problem(conf)
    environment = environment or read_environment()
    local identity = entra.of(conf, environment)
    if identity.source.problem then
        return identity.source.problem
    end
    if entra.has_failed(state, identity)
       and not entra.stored(state, identity, ngx_now())
    then
        return "there is no token from " .. identity.source.name
    end
    return nil
end


--- A backend refused a token: fetches another one, unless that was done recently.
-- @tparam table identity
-- @tparam string line the refused line of `authorization`
function _M.refused(identity, line)
    if line == identity.line and entra.may_replace(state, identity) then
        core.log.warn("a backend rejects the token for ", identity.label,
                      ": the gateway requests a new one")
        identity.refused = identity.token
        begin(identity)
    end
end


-- Whether there is a different token; false if none is being fetched; nil: not known yet.
local function is_replaced(waiting)
    local identity = waiting.identity
    local stored = entra.stored(state, identity, ngx_now())
    if stored then
        keep(identity, stored)
    end
    if identity.line ~= waiting.line then
        return true
    elseif state:get(entra.lock_key(identity)) then
        return nil
    end
    return false
end


--- Waits for a token that replaces a refused one. Requests must not call it, because it can take
-- long.
-- @tparam table identity
-- @tparam string line the refused line of `authorization`
-- @treturn boolean whether there is a different token
function _M.replace(identity, line)
    _M.refused(identity, line)
    return single_flight.wait(PATIENCE_S, is_replaced, { identity = identity, line = line }) == true
end


return _M
