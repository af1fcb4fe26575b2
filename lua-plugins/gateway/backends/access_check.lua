--- Checks whether a backend accepts the gateway's credential after it refused a client's request. A
-- refused request alone does not prove that the credential is wrong.

local availability = require("gateway.backends.availability")
local entra_tokens = require("gateway.credentials.entra_tokens")
local upstream = require("gateway.exchange.upstream")
local core = require("apisix.core")
local http_headers = require("genai.http.http_headers")
local http_head = require("genai.http.http_head")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local single_flight = require("gateway.mechanisms.single_flight")
local verdict = require("genai.openai.verdict")

local _M = {}

-- A list that every Azure OpenAI resource serves for free.
local PATH = "/openai/v1/models"

-- Time limit of each step of the check.
local STEP_MS = 3000

-- How long a result is reused: refused requests, however many, cause one check in this time.
local KNOWN_S = 2

-- Lock time of a check. If the worker that runs it dies, another worker may start one after this
-- time.
local ASKING_S = 20

local MAX_ANSWER = 65536

local state = shared_memory.state


local function key_of(backend)
    return shared_keys.ACCESS .. backend.id
end


local function lock_key_of(backend)
    return shared_keys.ACCESS_LOCK .. backend.id
end


-- Runs one check. Returns "accepted", "refused", "blocked" (by a firewall or a private network) or
-- "unknown"; the status; and after a refusal, the authorization line that was sent.
local function ask(backend, pool)
    local authorization = entra_tokens.authorization(backend.identity)
    if backend.identity and not authorization then
        return "unknown"
    end
    local head = http_head.request("GET", backend.prefix .. PATH, backend.query,
                                   backend.lines .. http_headers.line("accept", "*/*")
                                   .. http_headers.line("user-agent", "genai-gateway-access-check"),
                                   authorization)
    if not head then
        return "unknown"
    end

    local exchange = upstream.get(backend, head, pool.conf.timeouts, STEP_MS)
    if not exchange then
        return "unknown"
    end
    local status = exchange.status
    local text = exchange:read_short(MAX_ANSWER, STEP_MS)
    exchange:finish(pool)
    if status ~= 401 and status ~= 403 then
        local is_silent = status == 408 or status == 429 or status >= 500
        return is_silent and "unknown" or "accepted", status
    end

    local why = verdict.of_refusal(status, exchange.headers, text)
    if why == "credentials" then
        return "refused", status, authorization
    end
    return why == "unreachable" and "blocked" or "accepted", status
end


local function find_out(backend, pool)
    local answer, status, authorization = ask(backend, pool)
    if answer == "refused" and authorization
       and entra_tokens.replace(backend.identity, authorization)
    then
        answer, status = ask(backend, pool)
    end
    if answer == "refused" then
        local lasts = pool.conf.cooldown.max_ms
        availability.cool(backend, nil, nil, "credentials", lasts, true)
        core.log.error("backend ", backend.name, " refuses the gateway's credential with status ",
                       status, "; it gets no requests for ", lasts, " ms. Set a valid key, or give"
                       .. " the gateway's identity a role on that resource")
    elseif answer == "blocked" then
        local lasts = availability.close_unreachable(backend, nil, true, pool.conf.cooldown)
        core.log.error("backend ", backend.name, " is behind a firewall or in a private network"
                       .. " that does not let the gateway in; it is skipped for ", lasts,
                       " ms. Allow the gateway's address or network at that resource")
    end
    return answer
end


local function check(subject)
    state:set(key_of(subject.backend), find_out(subject.backend, subject.pool), KNOWN_S)
end


local function failed(subject, err)
    state:set(key_of(subject.backend), "unknown", KNOWN_S)
    core.log.error("the access check of backend ", subject.backend.name,
                   " failed inside the gateway: ", err)
end


--- Starts a check in the background, unless there is a recent result.
-- @tparam table backend of the pool
-- @tparam table pool
function _M.begin(backend, pool)
    if not state:get(key_of(backend)) then
        single_flight.begin(lock_key_of(backend), ASKING_S, check, failed,
                            { backend = backend, pool = pool })
    end
end


-- The result; false if no check runs; nil while one runs.
local function look(backend)
    return state:get(key_of(backend)) or not state:get(lock_key_of(backend)) and false or nil
end


--- The result of the latest check; waits for a running check.
-- @tparam number patience_s the longest wait, in seconds
-- @treturn string|nil "accepted", "refused", "blocked" or "unknown"; nil: no result yet
function _M.answer(backend, patience_s)
    return single_flight.wait(patience_s, look, backend) or nil
end


return _M
