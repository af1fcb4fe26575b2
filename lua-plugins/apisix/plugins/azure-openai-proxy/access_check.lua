--- Asks a backend itself whether it accepts the gateway's credential, after it refused a client's
-- request: what one request is refused for says nothing about others.

local availability = require("apisix.plugins.azure-openai-proxy.availability")
local identities = require("apisix.plugins.azure-openai-proxy.identity")
local upstream = require("apisix.plugins.azure-openai-proxy.upstream")
local core = require("apisix.core")
local headers_mod = require("genai.headers")
local http_head = require("genai.http_head")
local verdict = require("genai.verdict")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local pcall = pcall
local timer_at = ngx.timer.at

local _M = {}

-- A list that every Azure OpenAI resource has, and that costs nothing.
local PATH = "/openai/v1/models"

-- The time limit of each step of the question.
local STEP_MS = 3000

-- An answer holds this long: refused requests, however many, cause one question in this time.
local KNOWN_S = 2

-- A question that is never answered, because its worker ended, is asked again after this.
local ASKING_S = 20

local WAIT_S = 0.02

local MAX_ANSWER = 65536

local ASKING = "asking"

local dict = ngx.shared["genai-gateway-state"]


local function key_of(backend)
    return "access|" .. backend.id
end


-- One question. Gives what the backend answers: "accepted", "refused", "blocked" (by a firewall or
-- a private network) or "unknown"; its status; and of a refusal the line that signed it in.
local function ask(backend, pool)
    local authorization = identities.authorization(backend.identity)
    if backend.identity and not authorization then
        return "unknown"
    end
    local head = http_head.request("GET", backend.prefix .. PATH, backend.query,
                                   backend.lines .. headers_mod.line("accept", "*/*")
                                   .. headers_mod.line("user-agent", "genai-gateway-access-check"),
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
    if answer == "refused" and authorization and identities.replace(backend.identity, authorization)
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


local function run(premature, backend, pool)
    local answer = "unknown"
    if not premature then
        local ok, found = pcall(find_out, backend, pool)
        if ok then
            answer = found
        else
            core.log.error("backend ", backend.name, " could not be asked for access: ", found)
        end
    end
    dict:set(key_of(backend), answer, KNOWN_S)
end


--- Asks a backend in the background, unless it was asked a moment ago.
-- @tparam table backend of the pool
-- @tparam table pool
function _M.begin(backend, pool)
    local key = key_of(backend)
    if not dict:add(key, ASKING, ASKING_S) then
        return
    end
    local ok, err = timer_at(0, run, backend, pool)
    if not ok then
        dict:delete(key)
        core.log.error("backend ", backend.name, " cannot be asked for access: ", err)
    end
end


--- What a backend answered, or answers soon.
-- @tparam number patience_s how long to wait for it, in seconds
-- @treturn string|nil "accepted", "refused", "blocked" or "unknown"; nil: nothing yet
function _M.answer(backend, patience_s)
    local key = key_of(backend)
    local deadline = ngx_now() + patience_s
    local answer = dict:get(key)
    while answer == ASKING and ngx_now() < deadline do
        ngx_sleep(WAIT_S)
        answer = dict:get(key)
    end
    return answer ~= ASKING and answer or nil
end


return _M
