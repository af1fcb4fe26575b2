--- What failed attempts lead to: cooldowns, the delay that a client is told, and the answer when no
-- backend is left. docs/failover.md has the table.

local core = require("apisix.core")
local access_check = require("apisix.plugins.azure-openai-proxy.access_check")
local availability = require("apisix.plugins.azure-openai-proxy.availability")
local body_mod = require("apisix.plugins.azure-openai-proxy.body")
local latency = require("apisix.plugins.azure-openai-proxy.latency")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local cooldown = require("genai.cooldown")
local delay = require("genai.delay")
local errors = require("genai.errors")
local headers_mod = require("genai.headers")
local verdict = require("genai.verdict")
local ngx = ngx
local crc32 = ngx.crc32_long
local ngx_exit = ngx.exit
local ngx_now = ngx.now
local parse_http_time = ngx.parse_http_time
local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local ipairs = ipairs
local lower = string.lower
local match = string.match
local min = math.min
local type = type

local _M = {}

-- Azure says that a new deployment takes up to five minutes to be there.
local MISSING_MS = 5 * 60 * 1000

-- A request that fails at this many backends is more likely at fault than they are.
local MAX_FAILING = 5

-- An attempt that takes longer than this to find out that a backend cannot be reached is costly:
-- connections that time out, names that do not resolve.
local COSTLY_MS = 200

-- The longest delay that a client is told where the settings set no cap: official SDKs do not wait
-- for a longer one.
local MAX_TOLD_MS = 120 * 1000

-- How long an answer waits to know whether a backend refuses the gateway or only this request.
local ACCESS_PATIENCE_S = 3

-- What of a body tells requests apart.
local FINGERPRINTED = 65536

-- Below this a failure says only that its backend could not serve the request.
local RANK_OF_TROUBLE = verdict.rank({ reason = "unreachable", err = true })
local RANK_OF_CREDENTIALS = verdict.rank({ reason = "credentials" })


-- Tells requests apart; a client that sends the same one again makes no other.
local function fingerprint_of(ctx, state)
    local known = state.fingerprint
    if not known then
        local body = state.body
        known = concat({ ctx.genai_client_name or "", state.method, state.target.path,
                         body.length or 0, crc32(body_mod.head(body, FINGERPRINTED)) }, "|")
        state.fingerprint = known
    end
    return known
end


-- A cooldown that begins only if the backend is shown to be at fault.
local function suspect(state, backend, scope, reason, duration_ms)
    state.suspects = state.suspects or {}
    state.suspects[#state.suspects + 1] = { backend = backend, scope = scope, reason = reason,
                                            duration_ms = duration_ms }
end


-- The same, now that it is.
local function cool_suspect(state, each)
    if each.duration_ms > 0 then
        availability.cool(each.backend, state.request, each.scope, each.reason, each.duration_ms)
        core.log.warn("backend ", each.backend.name, " ", each.reason, ": cooling down for ",
                      each.duration_ms, " ms")
    end
end


-- What a failure means for later requests. Nothing that is the fault of this request may.
-- Gives the length of a cooldown that begins now, in milliseconds.
local function remember(state, backend, failure)
    local conf, request = state.pool.conf.cooldown, state.request
    local reason, named = failure.reason, failure.named_ms
    if reason == "throttled" then
        local duration = cooldown.duration_ms(named, conf)
        -- What is refused for a quota may repeat the client's words: it is no more than a guess.
        if named and failure.status ~= 401 and failure.status ~= 403 then
            availability.cool(backend, request, request.cooldown_scope, reason, duration, true)
            return duration
        end
        suspect(state, backend, request.cooldown_scope, reason, duration)
    elseif reason == "failing" then
        suspect(state, backend, request.cooldown_scope, reason, cooldown.duration_ms(named, conf))
    elseif reason == "deployment_not_found" then
        suspect(state, backend, request.cooldown_scope, reason, MISSING_MS)
    elseif reason == "refused" then
        if failure.is_permission then
            suspect(state, backend, request.permission_scope, reason, conf.max_ms)
        end
    elseif not failure.err then
        -- A refused credential or a firewall, as the backend says of this request.
        access_check.begin(backend, state.pool)
    elseif reason == "unreachable" then
        return availability.close_unreachable(backend, request,
                                              failure.took_ms and failure.took_ms > COSTLY_MS, conf)
    else
        -- The gateway has no credential to send.
        local duration = min(failure.lasts_ms or conf.max_ms, conf.max_ms)
        availability.cool(backend, request, nil, reason, duration, true)
        return duration
    end
    return 0
end


--- An attempt failed.
-- @tparam table state of the request
-- @tparam table backend
-- @tparam table failure `reason`; `status` and `headers` of an answer, with `body` and `message`
--   where it is JSON, and `signed_in_by`, the lines that the request was signed in by; `err` where
--   there was no answer, and `took_ms` until that was known
function _M.note(state, backend, failure)
    metrics.failed(state, backend, failure)
    failure.backend, failure.asked = backend.name, backend
    if failure.headers then
        failure.named_ms = delay.named_ms(failure.headers, ngx_now(), parse_http_time,
                                          failure.text or failure.body or failure.message,
                                          failure.reason == "throttled")
    end
    local reason, named = failure.reason, failure.named_ms
    -- No retry helps against a refusal or a missing deployment, however late.
    if named and verdict.rank(failure) >= RANK_OF_TROUBLE then
        state.named_ms = min(named, state.named_ms or named)
    end
    if reason == "failing" then
        state.failing = (state.failing or 0) + 1
    end
    if not state.last or verdict.rank(failure) >= verdict.rank(state.last) then
        state.last = failure
    end

    if state.request.awaited then
        -- What keeps requests away for a while is not slow.
        latency.failed(state.request, reason == "unreachable"
                                      or cooldown.duration_ms(named,
                                                              state.pool.conf.cooldown) > 0)
    end
    availability.failed(state.request, not failure.err)
    local duration = remember(state, backend, failure)
    -- Others pass by themselves; a credential is for somebody to mend.
    local log = reason == "credentials" and core.log.error or core.log.warn
    log("backend ", backend.name, " ", reason, ": ", failure.err or failure.status,
        duration > 0 and ", cooling down for " .. duration .. " ms" or "")
end


--- Whether the request has failed at as many backends as it may.
function _M.are_enough(state)
    return (state.failing or 0) >= MAX_FAILING
end


--- Another backend has answered: those that did not are at fault.
function _M.answered(state)
    for _, each in ipairs(state.suspects or {}) do
        cool_suspect(state, each)
    end
    state.suspects = nil
end


-- No backend has answered. A backend is at fault only if a different request failed there as well.
local function judge_suspects(ctx, state)
    local lasts = state.pool.conf.cooldown.default_ms
    for _, each in ipairs(state.suspects or {}) do
        if each.reason == "failing" and each.duration_ms > 0
           and availability.has_failed_others(each.backend, each.scope, fingerprint_of(ctx, state),
                                              lasts)
        then
            cool_suspect(state, each)
        end
    end
    state.suspects = nil
end


local CREDENTIALS_REFUSED = "The gateway has no credentials that its backends accept."


-- The gateway's own answer where no backend gave one: its status, code and message.
local function refusal(held)
    local reasons = held and held.reasons or {}
    if reasons.throttled then
        return 429, nil, "All backends that serve this are throttled."
    elseif held and not reasons.failing and not reasons.unreachable
           and (reasons.credentials or held.is_broken)
    then
        return 502, "upstream_credentials", CREDENTIALS_REFUSED
    end
    return 503, "upstream_unavailable", "No backend that serves this is available now."
end


local NOT_PASSED = { ["content-length"] = true, ["content-type"] = true,
                     ["content-encoding"] = true, ["retry-after"] = true,
                     ["retry-after-ms"] = true, ["x-ms-retry-after-ms"] = true,
                     ["set-cookie"] = true, ["www-authenticate"] = true }


-- Headers of the failure that help to find it at Azure; not those about its body.
local function pass_headers(failure)
    headers_mod.to_client(failure.headers, function(name, value)
        if not NOT_PASSED[lower(name)] then
            ngx.header[name] = value
        end
    end)
end


-- The failure that the client is told; nil: none says more than what holds the others back.
local function best_failure(state, held)
    local last = state.last
    if not last then
        return nil
    end
    local reasons = held and held.reasons
    if reasons and verdict.rank(last) < RANK_OF_TROUBLE
       and (reasons.throttled or reasons.failing or reasons.unreachable)
    then
        return nil
    end
    return last
end


-- Whether the gateway's own credential is refused, and not only the request.
local function is_shut_out(failure)
    return failure.err ~= nil or failure.asked == nil
           or access_check.answer(failure.asked, ACCESS_PATIENCE_S) == "refused"
end


local REQUEST_REFUSED = "The backends refuse this request."


-- What the client is told: status, code, message, and the failure whose words those are.
local function told(state, held)
    local last = best_failure(state, held)
    if not last then
        local status, code, message = refusal(held)
        return status, code, message
    elseif last.reason == "credentials" and is_shut_out(last) then
        return 502, "upstream_credentials", CREDENTIALS_REFUSED
    elseif last.status == 401 or last.status == 403 then
        return last.status, "upstream_refused", REQUEST_REFUSED, last
    end
    local code = last.code
    if last.reason == "deployment_not_found" then
        code = "DeploymentNotFound"
    elseif not code and last.err then
        code = last.status == 504 and "upstream_timeout" or "upstream_unreachable"
    end
    return last.status, code, last.message, last
end


-- When a retry may succeed, in milliseconds; nil where no backend said so.
local function delay_of(state, failure)
    if failure and verdict.rank(failure) < RANK_OF_CREDENTIALS then
        -- A retry would be refused again.
        return nil
    end
    local pool, last = state.pool, state.last
    local soonest = availability.soonest(pool, state.request)
    local named = state.named_ms or last and last.named_ms
    if named then
        local cap = pool.conf.cooldown.max_ms > 0 and pool.conf.cooldown.max_ms or MAX_TOLD_MS
        named = min(named, cap)
        named = cooldown.told_ms(named, named)
        soonest = min(soonest or named, named)
    end
    return soonest
end


-- Whether a text shows what the gateway signed in with. No backend is known to do that, and no
-- client is to see it.
local function shows_credential(text, signed_in_by)
    for name, value in gmatch(signed_in_by, "([^\r\n:]+): ([^\r\n]+)") do
        if name ~= "host" and name ~= "accept-encoding"
           and find(text, match(value, "^%a+ (.+)$") or value, 1, true)
        then
            return true
        end
    end
    return false
end


-- The words of a backend that the client gets; nil: it gave none.
local function words_of(failure)
    local body = failure and failure.body
    if body and failure.signed_in_by and shows_credential(body, failure.signed_in_by) then
        return nil
    end
    return body
end


local function is_json(headers)
    local content_type = headers["content-type"]
    return type(content_type) == "string" and find(lower(content_type), "json", 1, true) ~= nil
end


--- No backend is left: the client gets the best answer that one of them gave, in its own words, and
-- when to come again.
-- @tparam table ctx
-- @tparam table state of the request
-- @tparam table|nil held what holds the other backends back, as `availability.next` gives it
-- @treturn number the status with which the request ends
function _M.give_up(ctx, state, held)
    judge_suspects(ctx, state)
    local status, code, message, failure = told(state, held)
    metrics.unserved(ctx, state, status, code)
    state.status = status
    local words = words_of(failure)
    -- A message without its body is one that is not to be shown.
    local is_shown = words or not (failure and failure.body)
    local body = errors.body(status, is_shown and message or nil, code)
    state.error = body.error.code

    -- Written here, for nginx answers a 408 with nothing, and other plugins would add to it.
    ngx.status = status
    if failure and failure.headers then
        pass_headers(failure)
    end
    local soonest = delay_of(state, failure)
    if soonest then
        ngx.header["Retry-After"], ngx.header["retry-after-ms"] = errors.retry_after(soonest)
    end
    ngx.header["Content-Type"] = words and is_json(failure.headers)
                                 and failure.headers["content-type"] or "application/json"
    ngx.print(words or core.json.encode(body))
    return ngx_exit(ngx.HTTP_OK)
end


return _M
