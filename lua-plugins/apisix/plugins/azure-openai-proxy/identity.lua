--- Tokens of Entra ID for backends that know no key, and for Azure Monitor: asked for in the
-- background, by one worker at a time, and kept by all of them.

local core = require("apisix.core")
local upstream = require("apisix.plugins.azure-openai-proxy.upstream")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local endpoints = require("genai.endpoint")
local headers_mod = require("genai.headers")
local http_head = require("genai.http_head")
local identity_mod = require("genai.identity")
local ngx = ngx
local encode_args = ngx.encode_args
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local spawn = ngx.thread.spawn
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local io_open = io.open
local kill = ngx.thread.kill
local concat = table.concat
local gsub = string.gsub
local ipairs = ipairs
local pairs = pairs
local pcall = pcall
local random = math.random
local setmetatable = setmetatable
local tostring = tostring
local wait = ngx.thread.wait

local _M = {}

-- For all of a request for a token, whatever it waits for.
local TIMEOUT_S = 5

-- A request that needs a token waits for it a little longer than that takes at most.
local PATIENCE_S = 6

-- Between two looks at what another worker is asking for.
local WAIT_S = 0.02

-- Between two looks at whether a token has to be replaced.
local WATCH_S = 1

local MAX_ANSWER = 65536

local TIMEOUTS = { connect_ms = TIMEOUT_S * 1000, send_ms = TIMEOUT_S * 1000,
                   read_ms = TIMEOUT_S * 1000 }

local NOT_KEPT = { keepalive = false }

local dict = ngx.shared["genai-gateway-state"]

-- Those of the pools that are in use, by their keys.
local known = setmetatable({}, { __mode = "v" })

local environment, is_watching


-- APISIX's own view of it: what nginx leaves to its workers is less.
local function read_environment()
    local env = {}
    for _, name in ipairs(identity_mod.VARIABLES) do
        env[name] = core.env.get(name)
    end
    return env
end


-- The platform replaces the file's content every hour or so.
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
    local lines = { headers_mod.line("host", endpoint.authority) }
    for name, value in pairs(request.headers) do
        local line = headers_mod.line(name, value)
        if not line then
            return nil, "its header " .. name .. " would hold a line break"
        end
        lines[#lines + 1] = line
    end
    if is_form then
        lines[#lines + 1] = headers_mod.line("content-length", #arguments)
    end
    local query = endpoint.query
    if not is_form then
        query = query and query .. "&" .. arguments or arguments
    end
    local head = http_head.request(request.method, endpoint.path, query, concat(lines))
    if not head then
        return nil, "its address is none"
    end
    return head, is_form and arguments or nil
end


-- A token, or why there is none.
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

    local request = identity_mod.request(identity, assertion)
    local endpoint = endpoints.parse(request.address)
    if not endpoint then
        return nil, "its address is none"
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
    return identity_mod.answer(exchange.status, core.json.decode(text), ngx_now())
end


local function run_out()
    ngx_sleep(TIMEOUT_S)
    return nil, "no answer in " .. TIMEOUT_S .. " seconds"
end


-- The same, and never later than it may be.
local function ask_in_time(identity)
    local asking, clock = spawn(ask, identity), spawn(run_out)
    local ok, answer, reason = wait(asking, clock)
    kill(clock)
    kill(asking)
    if not ok then
        return nil, "the request failed inside the gateway: " .. tostring(answer)
    end
    return answer, reason
end


-- Keeps a token where requests of this worker find it.
local function keep(identity, stored)
    if identity.token ~= stored.token then
        identity.token = stored.token
        identity.line = headers_mod.line("authorization", "Bearer " .. stored.token) .. "\r\n"
    end
    identity.usable_until = stored.usable_until
end


-- Asks for a token, and lets all workers know what came of it.
local function renew(identity)
    local answer, reason = ask_in_time(identity)
    metrics.token_asked_for(answer and "ok" or "failed")
    local now = ngx_now()
    if answer then
        local stored, ok, err = identity_mod.store(dict, identity, answer, now, random())
        keep(identity, stored)
        if not ok then
            core.log.error("a token does not fit into the shared memory: ", err)
        end
        core.log.info("a token for ", identity.label, " from ", identity.source.name)
        return
    end

    local pause = identity_mod.failed(dict, identity, now, reason)
    -- As long as there is one that is good, nobody is hurt yet.
    local log = now < identity.usable_until and core.log.warn or core.log.error
    log("no token for ", identity.label, " from ", identity.source.name, ": ", reason,
        "; the next try in ", pause, " ms")
end


local function run(premature, identity)
    if not premature then
        local ok, err = pcall(renew, identity)
        if not ok then
            identity_mod.failed(dict, identity, ngx_now(), "the gateway failed")
            core.log.error("a token could not be asked for: ", err)
        end
    end
    identity_mod.unlock(dict, identity)
end


-- Begins to ask for a token where there is none, or it is time for the next one, unless another
-- worker does so or the last try is too short ago.
local function begin(identity, refused)
    if not identity_mod.lock(dict, identity) then
        return
    end

    local now = ngx_now()
    local stored = identity_mod.stored(dict, identity, now)
    if stored and now < stored.refresh_at and stored.token ~= refused
       or identity_mod.pause(dict, identity, now)
    then
        identity_mod.unlock(dict, identity)
        return
    end

    -- Not in the request that waits for it: its client may go away.
    local ok, err = timer_at(0, run, identity)
    if not ok then
        core.log.error("a token cannot be asked for: ", err)
        identity_mod.unlock(dict, identity)
    end
end


-- Replaces tokens ahead of their end, and takes over what other workers have replaced.
local function watch(premature)
    if premature then
        return
    end
    local now = ngx_now()
    for _, identity in pairs(known) do
        local stored = identity_mod.stored(dict, identity, now)
        if stored then
            keep(identity, stored)
        end
        if not stored or now >= stored.refresh_at then
            begin(identity)
        end
    end
end


--- The identity of whoever needs a token; the same one for the same token.
-- @tparam table conf `resource`, and perhaps `client_id`, `endpoint`, `secret`
function _M.of(conf)
    environment = environment or read_environment()
    local identity = identity_mod.of(conf, environment)
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


--- The header that signs a request in. Waits for a token where there is none yet.
-- @tparam table|nil identity a backend's; nil: it has a key
-- @treturn string|nil the last line of the request's head, with the empty one behind it
-- @treturn nil|string why there is none, in words without anything secret
-- @treturn nil|number milliseconds until the next try to get one
function _M.authorization(identity)
    if not identity then
        return nil
    end

    local now = ngx_now()
    local deadline = now + PATIENCE_S
    while now >= identity.usable_until do
        local stored = identity_mod.stored(dict, identity, now)
        if stored then
            keep(identity, stored)
            break
        end

        local reason, left = identity_mod.pause(dict, identity, now)
        if reason or now >= deadline then
            return nil, "no token from " .. identity.source.name .. ": "
                        .. (reason or "it takes too long"), left or WATCH_S * 1000
        end
        begin(identity)
        ngx_sleep(WAIT_S)
        now = ngx_now()
    end
    return identity.line
end


--- Whether there is no token now.
-- @tparam table|nil identity a backend's; nil: it has a key
function _M.is_without_token(identity)
    local now = ngx_now()
    return identity ~= nil and now >= identity.usable_until
           and not identity_mod.stored(dict, identity, now)
end


--- Why a backend cannot be signed in to, as far as that is known: asks for no token by itself.
-- @tparam table conf `resource`, and perhaps `client_id`
-- @treturn string|nil in words without anything secret
function _M.problem(conf)
    environment = environment or read_environment()
    local identity = identity_mod.of(conf, environment)
    if identity.source.problem then
        return identity.source.problem
    end
    if identity_mod.has_failed(dict, identity)
       and not identity_mod.stored(dict, identity, ngx_now())
    then
        return "there is no token from " .. identity.source.name
    end
    return nil
end


--- A token was refused: another one is asked for, where that was not so lately.
-- @tparam table identity
-- @tparam string line that `authorization` gave
function _M.refused(identity, line)
    if line == identity.line and identity_mod.may_replace(dict, identity) then
        core.log.warn("the token for ", identity.label, " is refused: a new one is asked for")
        begin(identity, identity.token)
    end
end


--- Waits for another token in place of one that was refused; not for a request to do.
-- @tparam table identity
-- @tparam string line that `authorization` gave
-- @treturn boolean whether there is another one
function _M.replace(identity, line)
    _M.refused(identity, line)
    local deadline = ngx_now() + PATIENCE_S
    while line == identity.line and ngx_now() < deadline do
        ngx_sleep(WAIT_S)
    end
    return line ~= identity.line
end


return _M
