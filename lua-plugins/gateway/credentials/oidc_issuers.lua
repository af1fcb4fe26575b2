--- The signing keys of a token issuer: fetched by one worker at a time outside of requests, and
-- shared by all workers.

local core = require("apisix.core")
local http = require("resty.http")
local jwt = require("genai.identity.jwt")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local single_flight = require("gateway.mechanisms.single_flight")
local times = require("gateway.mechanisms.times")
local ngx = ngx
local ngx_now = ngx.now
local concat = table.concat
local max = math.max

local _M = {}

-- Timeout for each of: connecting, sending, and each read of the answer.
local TIMEOUT_MS = 2000

-- The longest time for which a request waits for keys that are being fetched.
local PATIENCE_S = 5

-- Lock time of a fetch, in case its worker dies.
local LOCK_S = 30

local MAX_DOCUMENT = 524288

local state = shared_memory.state


--- A worker's state for an issuer.
-- @tparam string url of its discovery document
-- @treturn table its `name` and `keys`, once `load` has found them, and `generation`, which changes
--   with them
function _M.new(url)
    return {
        url = url,
        generation = 0,
        fetched_at = 0,
        documents_key = shared_keys.OIDC_DOCUMENTS .. url,
        version_key = shared_keys.OIDC_VERSION .. url,
        lock_key = shared_keys.OIDC_LOCK .. url,
        pause_key = shared_keys.OIDC_PAUSE .. url,
    }
end


-- Adopts the documents that any worker has fetched since.
local function load(issuer)
    local version = state:get(issuer.version_key)
    if not version or version == issuer.fetched_at then
        return
    end
    local documents = state:get(issuer.documents_key)
    if not documents then
        return
    end
    issuer.fetched_at = version
    if documents ~= issuer.documents then
        local decoded = core.json.decode(documents)
        issuer.documents = documents
        issuer.name, issuer.keys = decoded.name, decoded.keys
        issuer.generation = issuer.generation + 1
    end
end


local function get(url)
    local client = http.new()
    client:set_timeouts(TIMEOUT_MS, TIMEOUT_MS, TIMEOUT_MS)
    local answer, err = client:request_uri(url, {
        headers = { ["Accept"] = "application/json", ["User-Agent"] = "genai-gateway" },
        ssl_verify = true,
        keepalive = false,
    })
    if not answer then
        return nil, err
    elseif answer.status ~= 200 then
        return nil, "the answer has status " .. answer.status
    elseif #answer.body > MAX_DOCUMENT then
        return nil, "the answer is too long"
    end
    local document = core.json.decode(answer.body)
    if not document then
        return nil, "the answer is not JSON"
    end
    return document
end


-- Fetches an issuer's two documents. Returns their useful parts as JSON; or nil and the error.
local function fetch(url)
    local document, err = get(url)
    if not document then
        return nil, concat({ url, ": ", err })
    end
    local name, keys_url = jwt.discovered(document, url)
    if not name then
        return nil, concat({ url, ": ", keys_url })
    end
    document, err = get(keys_url)
    if not document then
        return nil, concat({ keys_url, ": ", err })
    end
    local keys = jwt.usable_keys(document)
    if #keys == 0 then
        return nil, concat({ keys_url, ": it has no usable key" })
    end
    return core.json.encode({ name = name, keys = keys })
end


local function fetch_and_store(issuer)
    local began = ngx_now()
    local documents, err = fetch(issuer.url)
    if documents then
        local ok
        ok, err = state:set(issuer.documents_key, documents, times.oidc_max_age)
        if ok then
            ok, err = state:set(issuer.version_key, began, times.oidc_max_age)
        end
        if ok then
            core.log.info("fetched the keys of the token issuer ", issuer.url)
            return
        end
        err = "they cannot be stored in the shared memory: " .. err
    end

    load(issuer)
    state:set(issuer.pause_key, true, times.oidc_pause)
    if began - issuer.fetched_at < times.oidc_max_age then
        core.log.warn("the keys of the token issuer cannot be fetched: ", err,
                      "; the keys fetched before stay in use")
    else
        core.log.error("the keys of the token issuer cannot be fetched: ", err,
                       "; clients with a token get 503 until they are")
    end
end


local function failed(_, err)
    core.log.error("the fetch of the token issuer's keys failed inside the gateway: ", err)
end


-- Starts fetching the keys, unless a worker already does or has just failed.
local function begin(issuer)
    if not state:get(issuer.pause_key) then
        single_flight.begin(issuer.lock_key, LOCK_S, fetch_and_store, failed, issuer)
    end
end


-- Whether there are newer keys; false if none will come now; nil: not known yet.
local function look(waiting)
    local issuer = waiting.issuer
    load(issuer)
    if issuer.fetched_at > waiting.before then
        return true
    elseif state:get(issuer.pause_key) then
        return false
    end
    return nil
end


-- Waits for newer keys; returns false if none will come now.
local function wait(issuer)
    local is_newer = single_flight.wait(PATIENCE_S, look,
                                        { issuer = issuer, before = issuer.fetched_at })
    if is_newer == nil then
        -- The fetching worker may continue; other requests need not wait as long.
        state:set(issuer.pause_key, true, times.oidc_pause)
    end
    return is_newer == true
end


--- Milliseconds until the next attempt to reach an issuer that failed.
function _M.retry_ms(issuer)
    return max(state:ttl(issuer.pause_key) or 0, 1) * 1000
end


--- Adopts the known documents of an issuer, and starts a fetch if they are old.
-- @treturn boolean whether the issuer can be used
function _M.load(issuer)
    load(issuer)
    local age = ngx_now() - issuer.fetched_at
    if age >= times.oidc_refresh then
        begin(issuer)
    end
    return age < times.oidc_max_age
end


--- The key that a token must be signed with.
-- @tparam table issuer
-- @tparam table header of the token, decoded
-- @tparam table algorithm of the token
-- @treturn table|nil
-- @treturn nil|boolean true: the issuer has no such key; nil: unknown, because the issuer cannot be
--   reached
function _M.key(issuer, header, algorithm)
    if not _M.load(issuer) and not wait(issuer) then
        return nil
    end
    local key = jwt.key_for(issuer.keys, header, algorithm)
    if not key and ngx_now() - issuer.fetched_at >= times.oidc_min_age then
        begin(issuer)
        if not wait(issuer) then
            return nil
        end
        key = jwt.key_for(issuer.keys, header, algorithm)
    end
    return key, not key or nil
end


return _M
