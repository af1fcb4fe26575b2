--- How the gateway signs in to Azure as itself: where a token comes from, how it is asked for, what
-- the answer says, and the memory of it that all workers share.

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

--- What of the process's environment decides where tokens come from.
_M.VARIABLES = {
    "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
}

local METADATA_SERVICE = "http://169.254.169.254"
local METADATA_PATH = "/metadata/identity/oauth2/token"
local AUTHORITY = "login.microsoftonline.com"
local ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

-- Where an answer says nothing of its token's end.
local UNKNOWN_LIFETIME_S = 600

-- No token is good for longer than a day or so, whatever an answer says.
local LONGEST_LIFETIME_S = 2 * 24 * 60 * 60

-- A token is not sent in its last moments: clocks differ, and requests take their time.
local LAST_MOMENTS_S = 30

-- After a failure, doubled with each further one.
local FIRST_PAUSE_MS = 1000
local LONGEST_PAUSE_MS = 60 * 1000

-- Failures are counted as one row as long as no more than this lies between them.
local REMEMBERED_S = 5 * 60

--- One worker asks for a token at a time; it has this long, whatever becomes of it.
_M.LOCK_S = 15

--- Where a backend refuses a token, a new one is asked for at most once in this time.
_M.REJECTION_S = 5 * 60

-- Why Entra ID refuses; nothing else of an answer's body is shown.
local REASONS = {}
for _, each in ipairs({
    "invalid_client", "invalid_grant", "invalid_request", "invalid_resource", "invalid_scope",
    "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
}) do
    REASONS[each] = true
end


-- The text of a variable; nil where it is blank.
local function given(text)
    return text and match(text, "^%s*(%S.-)%s*$")
end


local function without_slashes(url)
    return (gsub(url, "/+$", ""))
end


local function authority_of(env)
    local host = given(env.AZURE_AUTHORITY_HOST) or AUTHORITY
    return without_slashes(find(host, "://", 1, true) and host or "https://" .. host)
end


-- Where tokens come from: `name` for logs, `address`, and `problem` where it cannot work.
local function source_of(conf, env, client_id)
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
            problem = "AZURE_TENANT_ID names no tenant"
        elseif not client_id then
            problem = "there is no client id (AZURE_CLIENT_ID)"
        end
        return {
            kind = "federation",
            name = "workload identity",
            address = authority_of(env) .. "/" .. (tenant or "") .. "/oauth2/v2.0/token",
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


--- An identity: for what, as whom, and from where.
-- @tparam table conf `resource`; `client_id` where it is not the platform's own choice; `endpoint`
--   and its `secret` where they are not what the environment names
-- @tparam table env the process's environment, as far as `VARIABLES` name it
-- @treturn table `resource`, `client_id`, `source`, `key` (the same for the same token), and
--   `label` for logs
function _M.of(conf, env)
    -- What is a scope is taken for the resource that it is of.
    local resource = gsub(conf.resource, "/%.default$", "")
    local client_id = given(conf.client_id) or given(env.AZURE_CLIENT_ID)
    local source = source_of(conf, env, client_id)
    return {
        resource = resource,
        client_id = client_id,
        source = source,
        key = concat({ "identity", source.kind, source.address, resource, client_id or "" }, "|"),
        label = resource .. (client_id and " as " .. client_id or ""),
    }
end


--- What to send for a token.
-- @tparam table identity
-- @tparam string|nil assertion what the token file of a workload identity holds
-- @treturn table `method`, `address`, `headers`, and `arguments`: of a GET its query, of a POST its
--   form
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
        -- Older endpoints know the secret by its older name.
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


-- A number, or the digits of one.
local function number_of(value)
    if type(value) == "string" then
        value = find(value, "^%d+%.?%d*$") and tonumber(value)
    end
    return type(value) == "number" and value or nil
end


--- What an answer says.
-- @tparam number status
-- @tparam any body decoded
-- @tparam number now seconds since the epoch
-- @treturn table|nil `token`, and `ends_at` in seconds since the epoch
-- @treturn nil|string why there is no token, in words without anything secret
function _M.answer(status, body, now)
    if status ~= 200 then
        local reason = type(body) == "table" and body.error
        return nil, "it answered " .. status
                    .. (REASONS[reason] and " (" .. reason .. ")" or "")
    end
    if type(body) ~= "table" then
        return nil, "its answer is not understood"
    end

    local token = body.access_token
    -- It becomes a header of its own.
    if type(token) ~= "string" or token == "" or find(token, "[^%w%-._~+/=]") then
        return nil, "its answer holds no token"
    end

    local ends_at = number_of(body.expires_on)
    if not ends_at then
        local lifetime = number_of(body.expires_in)
        if not lifetime and (type(body.expires_on) == "string"
                             or type(body.expires_in) == "string") then
            return nil, "its answer tells no time until which the token is good"
        end
        ends_at = now + (lifetime or UNKNOWN_LIFETIME_S)
    end
    if ends_at <= now then
        return nil, "the token of its answer has ended already"
    end
    return { token = token, ends_at = min(ends_at, now + LONGEST_LIFETIME_S) }
end


--- Remembers a token, and forgets failures before it.
-- @tparam table dict with get, set and delete, as nginx's shared memory has
-- @tparam table identity
-- @tparam table answer `token`, `ends_at`
-- @tparam number now seconds since the epoch
-- @tparam number random from 0 to 1, so that not all gateways come at once for a new one
-- @treturn table as `stored` gives it
-- @treturn boolean whether it is remembered
-- @treturn nil|string why not
function _M.store(dict, identity, answer, now, random)
    local lifetime = answer.ends_at - now
    -- At four fifths of it, or five minutes before its end where that is earlier; not before half.
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


--- The token that is remembered.
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


--- Remembers that there was no token to be had.
-- @tparam string reason in words without anything secret
-- @treturn number milliseconds until the next try
function _M.failed(dict, identity, now, reason)
    local key = identity.key .. "|failed"
    local before = dict:get(key)
    local count = before and tonumber(match(before, "^%S+ (%d+)")) or 0
    local pause = min(FIRST_PAUSE_MS * 2 ^ min(count, 10), LONGEST_PAUSE_MS)
    dict:set(key, ("%.3f %d %s"):format(now + pause / 1000, count + 1, reason),
             pause / 1000 + REMEMBERED_S)
    return pause
end


--- Whether the next try is still to wait.
-- @treturn string|nil why the last one failed
-- @treturn nil|number milliseconds until the next one
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


--- Whether the last try failed, if that was lately.
function _M.has_failed(dict, identity)
    return dict:get(identity.key .. "|failed") ~= nil
end


--- Takes the right to ask for a token, which one worker has at a time.
-- @treturn boolean
function _M.lock(dict, identity)
    return dict:add(identity.key .. "|lock", true, _M.LOCK_S) == true
end


function _M.unlock(dict, identity)
    dict:delete(identity.key .. "|lock")
end


--- Whether to ask for a new token in place of one that a backend refuses. Where the refusal is not
-- the token's fault, a new one fares no better.
function _M.may_replace(dict, identity)
    return dict:add(identity.key .. "|rejected", true, _M.REJECTION_S) == true
end


return _M
