--- The answer if no backend gave one: the best failure, in the backend's own words.

local access_check = require("gateway.backends.access_check")
local availability = require("gateway.backends.availability")
local cooldown = require("genai.balancing.cooldown")
local core = require("apisix.core")
local delay = require("genai.openai.delay")
local errors = require("genai.openai.errors")
local failures = require("gateway.request.failures")
local http_headers = require("genai.http.http_headers")
local metrics = require("gateway.metrics")
local open_stream = require("gateway.request.open_stream")
local verdict = require("genai.openai.verdict")
local find = string.find
local gmatch = string.gmatch
local lower = string.lower
local match = string.match
local min = math.min
local ngx = ngx
local ngx_exit = ngx.exit
local type = type

local _M = {}

-- The longest delay that a client gets if the settings set no cap: official SDKs do not wait
-- longer.
local MAX_DELAY_MS = 120 * 1000

-- How long to wait for the access check, which shows whether a backend refuses the gateway or only
-- this request.
local ACCESS_PATIENCE_S = 3

-- A failure of lower rank only means that its backend could not serve the request.
local RANK_OF_TROUBLE = verdict.rank({ reason = "unreachable", err = true })
local RANK_OF_CREDENTIALS = verdict.rank({ reason = "credentials" })


local CREDENTIALS_REFUSED = "The gateway has no credentials that its backends accept."


-- The gateway's own answer if no backend gave one: status, code and message.
local function refusal(obstacles)
    local reasons = obstacles and obstacles.reasons or {}
    if reasons.throttled then
        return 429, nil, "All backends that serve this are throttled."
    elseif obstacles and not reasons.failing and not reasons.unreachable
           and (reasons.credentials or obstacles.is_broken)
    then
        return 502, errors.CODE.upstream_credentials, CREDENTIALS_REFUSED
    end
    return 503, errors.CODE.upstream_unavailable, "No backend that serves this is available now."
end


local NOT_PASSED = { ["content-length"] = true, ["content-type"] = true,
                     ["content-encoding"] = true, ["retry-after"] = true,
                     ["retry-after-ms"] = true, ["x-ms-retry-after-ms"] = true,
                     ["set-cookie"] = true, ["www-authenticate"] = true }


-- Passes on those headers of the failure that help to find it at Azure; headers about its body are
-- left out.
local function pass_headers(failure)
    http_headers.to_client(failure.headers, function(name, value)
        if not NOT_PASSED[lower(name)] then
            ngx.header[name] = value
        end
    end)
end


-- The failure that the client gets; nil: the reasons for the skipped backends are more useful.
local function best_failure(record, obstacles)
    local last = record.best_failure
    if not last then
        return nil
    end
    local reasons = obstacles and obstacles.reasons
    if reasons and verdict.rank(last) < RANK_OF_TROUBLE
       and (reasons.throttled or reasons.failing or reasons.unreachable)
    then
        return nil
    end
    return last
end


-- Whether the backend refuses the gateway's own credential, and not only the request.
local function is_credential_refused(failure)
    return failure.err ~= nil or failure.backend == nil
           or access_check.answer(failure.backend, ACCESS_PATIENCE_S) == "refused"
end


local REQUEST_REFUSED = "The backends refuse this request."


-- The answer to the client: status, code, message, and the failure that provides the text.
local function answer_of(record, obstacles)
    local last = best_failure(record, obstacles)
    if not last then
        local status, code, message = refusal(obstacles)
        return status, code, message
    elseif last.reason == "credentials" and is_credential_refused(last) then
        return 502, errors.CODE.upstream_credentials, CREDENTIALS_REFUSED
    elseif last.status == 401 or last.status == 403 then
        return last.status, errors.CODE.upstream_refused, REQUEST_REFUSED, last
    end
    local code = last.code
    if last.reason == "deployment_not_found" then
        code = errors.CODE.DeploymentNotFound
    elseif not code and last.err then
        code = last.status == 504 and errors.CODE.upstream_timeout
               or errors.CODE.upstream_unreachable
    end
    return last.status, code, last.message, last
end


-- The delay until a retry may succeed, in milliseconds; nil: no backend named one.
local function delay_of(record, failure)
    if failure and verdict.rank(failure) < RANK_OF_CREDENTIALS then
        -- A retry would be refused again.
        return nil
    end
    local pool, last = record.pool, record.best_failure
    local soonest = availability.soonest(pool, record.choice)
    local named = record.named_ms or last and last.named_ms
    if named then
        local cap = pool.conf.cooldown.max_ms > 0 and pool.conf.cooldown.max_ms or MAX_DELAY_MS
        named = min(named, cap)
        named = cooldown.client_delay_ms(named, named)
        soonest = min(soonest or named, named)
    end
    return soonest
end


-- Whether a text contains the credential that the gateway sent. No backend is known to echo it, but
-- a client must never see it.
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


-- The backend's text for the client; nil: it gave none.
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


-- The error event of a stream whose head was already sent, so that no header can carry the delay.
local function event_body(words, body, soonest)
    local said = words and core.json.decode(words)
    if errors.is_shaped(said) then
        body = said
    end
    local err = body.error
    if soonest and not delay.of_message(err.message) then
        err.message = err.message .. " Try again in " .. errors.retry_after(soonest) .. " seconds."
    end
    return body
end


--- Sends the best failure of a backend, in its own words, and the delay until a retry may succeed.
-- @tparam table ctx
-- @tparam table record
-- @tparam table|nil obstacles why the other backends are skipped, as `availability.next` returns it
-- @treturn number the final status of the request
function _M.send(ctx, record, obstacles)
    failures.none_answered(record)
    local status, code, message, failure = answer_of(record, obstacles)
    metrics.unserved(ctx, record, status, code)
    record.status = status
    local words = words_of(failure)
    -- A message whose body is withheld must be withheld too.
    local is_shown = words or not (failure and failure.body)
    local body = errors.body(status, is_shown and message or nil, code)
    record.error_code = body.error.code
    local soonest = delay_of(record, failure)
    if record.is_open then
        return open_stream.fail(record, event_body(words, body, soonest))
    end

    -- The answer is written here because nginx sends no body with a 408, and other plugins would
    -- add to it.
    ngx.status = status
    if failure and failure.headers then
        pass_headers(failure)
    end
    if soonest then
        ngx.header["Retry-After"], ngx.header["retry-after-ms"] = errors.retry_after(soonest)
    end
    ngx.header["Content-Type"] = words and is_json(failure.headers)
                                 and failure.headers["content-type"] or "application/json"
    ngx.print(words or core.json.encode(body))
    return ngx_exit(ngx.HTTP_OK)
end


return _M
