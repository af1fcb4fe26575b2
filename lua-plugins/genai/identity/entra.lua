--- The gateway's own identity in Azure: the source of its tokens, the request and answer of that
-- source, and the tokens that all workers share.

local shared_keys = require("genai.util.shared_keys")
local concat = table.concat
local find = string.find
local floor = math.floor
local gsub = string.gsub
local match = string.match
local max = math.max
local min = math.min
local tonumber = tonumber
local type = type

local _M = {}

--- The environment variables that determine the source of tokens.
_M.VARIABLES = {
    "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
}

local METADATA_SERVICE = "http://169.254.169.254"
local METADATA_PATH = "/metadata/identity/oauth2/token"
local AUTHORITY = "login.microsoftonline.com"

-- Authorities of clouds with their own Entra ID, by the end of an audience's host.
local AUTHORITIES = {
    us = "login.microsoftonline.us",
    cn = "login.chinacloudapi.cn",
}
local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

-- The lifetime of a token whose answer does not name one.
local UNKNOWN_LIFETIME_S = 600

-- The maximum lifetime: tokens are valid for about a day, whatever an answer says.
local LONGEST_LIFETIME_S = 2 * 24 * 60 * 60

-- A token is not sent in its last moments, because clocks differ and requests take time.
local LAST_MOMENTS_S = 30

-- The pause after a failure; it doubles with each further one.
local FIRST_PAUSE_MS = 1000
local LONGEST_PAUSE_MS = 60 * 1000

-- Failures count as consecutive if they are at most this far apart.
local REMEMBERED_S = 5 * 60

--- The lock time of a fetch; one worker fetches a token at a time.
_M.LOCK_S = 15

--- After a backend refuses a token, a new one is fetched at most once in this time.
_M.REJECTION_S = 5 * 60

-- Entra ID's error codes that may be shown; nothing else of an answer is.
local REASONS = {}
for _, each in ipairs({
    "invalid_client", "invalid_grant", "invalid_request", "invalid_resource", "invalid_scope",
    "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
}) do
    REASONS[each] = true
end


-- The value of a variable; nil if it is blank.
local function given(text)
    return text and match(text, "^%s*(%S.-)%s*$")
end


local function without_slashes(url)
    return (gsub(url, "/+$", ""))
end


-- The authority from the environment, else that of the token's cloud.
local function authority_of(env, resource)
    local audience_host = match(resource, "^https?://([^/:?#]+)")
    local cloud = audience_host and match("." .. audience_host, "%.azure%.(%a+)$")
    local host = given(env.AZURE_AUTHORITY_HOST) or cloud and AUTHORITIES[cloud] or AUTHORITY
    return without_slashes(find(host, "://", 1, true) and host or "https://" .. host)
end


-- The source of tokens: `name` for logs, `address`, and `problem` if it cannot work.
local function source_of(conf, env, client_id, resource)
    local endpoint = given(conf.endpoint) or given(env.MSI_ENDPOINT)
                     or given(env.IDENTITY_ENDPOINT)
    if endpoint then
        return {
            kind = "endpoint",
            name = "the platform's identity endpoint",
            address = endpoint,
            secret = given(conf.secret) or given(env.IDENTITY_HEADER) or given(env.MSI_SECRET),
        }
    end

    local file = given(env.AZURE_FEDERATED_TOKEN_FILE)
    if file then
        local tenant = given(env.AZURE_TENANT_ID)
        local problem
        if not tenant or find(tenant, "[^%w.-]") then
            problem = "AZURE_TENANT_ID is missing or not a tenant id"
        elseif not client_id then
            problem = "AZURE_CLIENT_ID is missing"
        end
        return {
            kind = "federation",
            name = "workload identity",
            address = authority_of(env, resource) .. "/" .. (tenant or "") .. "/oauth2/v2.0/token",
            file = file,
            problem = problem,
        }
    end

    local host = given(env.AZURE_POD_IDENTITY_AUTHORITY_HOST) or METADATA_SERVICE
    return {
        kind = "metadata",
        name = "the instance metadata service",
        address = without_slashes(host) .. METADATA_PATH,
    }
end


--- An identity: the token's resource, its client, and its source.
-- @tparam table conf `resource`; `client_id` if it differs from the platform's default; `endpoint`
--   and its `secret` if they differ from the environment's
-- @tparam table env the process's environment; only `VARIABLES` are read
-- @treturn table `resource`, `client_id`, `source`, `key` (the same for the same token), and
--   `label` for logs
function _M.of(conf, env)
    -- A scope is replaced by its resource.
    local resource = gsub(conf.resource, "/%.default$", "")
    local client_id = given(conf.client_id) or given(env.AZURE_CLIENT_ID)
    local source = source_of(conf, env, client_id, resource)
    return {
        resource = resource,
        client_id = client_id,
        source = source,
        key = concat({ shared_keys.ENTRA_TOKEN, source.kind, source.address, resource,
                       client_id or "" }, "|"),
        label = resource .. (client_id and " as " .. client_id or ""),
    }
end


--- The request for a token.
-- @tparam table identity
-- @tparam string|nil assertion the content of a workload identity's token file
-- @treturn table `method`, `address`, `headers`, and `arguments`: the query of a GET, the form of a
--   POST
function _M.request(identity, assertion)
    local source = identity.source
    if source.kind == "federation" then
        return {
            method = "POST",
            address = source.address,
            headers = { ["content-type"] = "application/x-www-form-urlencoded" },
            arguments = {
                grant_type = "client_credentials",
                client_id = identity.client_id,
                client_assertion_type = ASSERTION_TYPE,
                client_assertion = assertion,
                scope = without_slashes(identity.resource) .. "/.default",
            },
        }
    end

    local is_endpoint = source.kind == "endpoint"
    return {
        method = "GET",
        address = source.address,
        -- Older endpoints expect the secret under its older name.
        headers = {
            metadata = "true",
            ["x-identity-header"] = source.secret,
            secret = source.secret,
        },
        arguments = {
            ["api-version"] = is_endpoint and "2019-08-01" or "2018-02-01",
            resource = identity.resource,
            client_id = identity.client_id,
        },
    }
end


-- A number, also from a text of digits.
local function number_of(value)
    if type(value) == "string" then
        value = find(value, "^%d+%.?%d*$") and tonumber(value)
    end
    return type(value) == "number" and value or nil
end


--- Evaluates an answer.
-- @tparam number status
-- @tparam any body decoded
-- @tparam number now seconds since the epoch
-- @treturn table|nil `token`, and `ends_at` in seconds since the epoch
-- @treturn nil|string why there is no token, without anything secret
function _M.answer(status, body, now)
    if status ~= 200 then
        local reason = type(body) == "table" and body.error
        return nil, "it answered " .. status
                    .. (REASONS[reason] and " (" .. reason .. ")" or "")
    end
    if type(body) ~= "table" then
        return nil, "its answer is not a JSON object"
    end

    local token = body.access_token
    -- The token becomes a header line, so it must not contain a line break.
    if type(token) ~= "string" or token == "" or find(token, "[^%w%-._~+/=]") then
        return nil, "its answer has no token"
    end

    local ends_at = number_of(body.expires_on)
    if not ends_at then
        local lifetime = number_of(body.expires_in)
        if not lifetime and (type(body.expires_on) == "string"
                             or type(body.expires_in) == "string") then
            return nil, "its answer has no expiry time for the token"
        end
        ends_at = now + (lifetime or UNKNOWN_LIFETIME_S)
    end
    if ends_at <= now then
        return nil, "the token in its answer has expired"
    end
    return { token = token, ends_at = min(ends_at, now + LONGEST_LIFETIME_S) }
end


--- Stores a token, and forgets earlier failures.
-- @tparam table dict with get, set and delete, as nginx's shared memory has
-- @tparam table identity
-- @tparam table answer `token`, `ends_at`
-- @tparam number now seconds since the epoch
-- @tparam number random from 0 to 1, so that gateways do not all fetch a new one at once
-- @treturn table as `stored` returns it
-- @treturn boolean whether it was stored
-- @treturn nil|string why not
function _M.store(dict, identity, answer, now, random)
    local lifetime = answer.ends_at - now
    -- At four fifths of the lifetime, or five minutes before its end if that is earlier, but not
    -- before half.
    local refresh_in = max(lifetime / 2, min(lifetime * 0.8, lifetime - 300))
    local stored = {
        token = answer.token,
        refresh_at = now + refresh_in * (1 - random / 20),
        usable_until = answer.ends_at - min(LAST_MOMENTS_S, lifetime / 20),
    }
    local text = ("%.3f %.3f %s"):format(stored.refresh_at, stored.usable_until, stored.token)
    dict:delete(identity.key .. "|failed")
    return stored, dict:set(identity.key, text, stored.usable_until - now)
end


--- The stored token.
-- @treturn table|nil `token`, `refresh_at` and `usable_until` in seconds since the epoch
function _M.stored(dict, identity, now)
    local text = dict:get(identity.key)
    if not text then
        return nil
    end
    local refresh_at, usable_until, token = match(text, "^(%S+) (%S+) (%S+)$")
    refresh_at, usable_until = tonumber(refresh_at), tonumber(usable_until)
    if usable_until <= now then
        return nil
    end
    return { token = token, refresh_at = refresh_at, usable_until = usable_until }
end


--- Remembers a failure to get a token.
-- @tparam string reason without anything secret
-- @treturn number milliseconds until the next attempt
function _M.failed(dict, identity, now, reason)
    local key = identity.key .. "|failed"
    local before = dict:get(key)
    local count = before and tonumber(match(before, "^%S+ (%d+)")) or 0
    local pause = min(FIRST_PAUSE_MS * 2 ^ min(count, 10), LONGEST_PAUSE_MS)
    dict:set(key, ("%.3f %d %s"):format(now + pause / 1000, count + 1, reason),
             pause / 1000 + REMEMBERED_S)
    return pause
end


--- The pause before the next attempt, if one is running.
-- @treturn string|nil why the last attempt failed
-- @treturn nil|number milliseconds until the next attempt
function _M.pause(dict, identity, now)
    local text = dict:get(identity.key .. "|failed")
    if not text then
        return nil
    end
    local till, reason = match(text, "^(%S+) %d+ (.*)$")
    local left = tonumber(till) - now
    if left <= 0 then
        return nil
    end
    return reason, max(1, floor(left * 1000 + 0.5))
end


--- Whether the last attempt failed recently.
function _M.has_failed(dict, identity)
    return dict:get(identity.key .. "|failed") ~= nil
end


--- The lock key of fetches: one worker fetches a token at a time.
function _M.lock_key(identity)
    return identity.key .. "|lock"
end


--- Whether to fetch a new token in place of a refused one. If the token is not the cause, a new one
-- would be refused too, so this is limited.
function _M.may_replace(dict, identity)
    return dict:add(identity.key .. "|rejected", true, _M.REJECTION_S) == true
end


return _M
