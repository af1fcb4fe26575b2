--- The keys that an issuer of tokens signs with: fetched by one worker at a time, outside of any
-- request, and kept by all of them.

local core = require("apisix.core")
local http = require("resty.http")
local token_mod = require("genai.token")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local timer_at = ngx.timer.at
local concat = table.concat
local max = math.max
local pcall = pcall

local _M = {}

-- For each of connecting, sending, and waiting for a piece of the answer.
local TIMEOUT_MS = 2000

-- A request waits no longer for keys that somebody fetches.
local PATIENCE_S = 5

-- Between two looks at whether they are there.
local WAIT_S = 0.02

-- How long a key that its issuer has withdrawn may still be trusted.
local REFRESH_S = 600

-- While an issuer cannot be reached, what it said last counts for so long.
local MAX_AGE_S = 86400

-- Anybody can name a key that there is not: that makes the gateway ask no more often than this.
local MIN_AGE_S = 10

-- After a failure nobody tries, and nobody waits, for so long.
local PAUSE_S = 5

-- Of a worker that died while it fetched.
local LOCK_S = 30

local MAX_DOCUMENT = 524288

local dict = ngx.shared["genai-gateway-state"]


--- What a worker knows of an issuer.
-- @tparam string url of its discovery document
-- @treturn table its `name` and `keys` once `load` has found them, and `generation`, which changes
--   when they do
function _M.new(url)
    return {
        url = url,
        generation = 0,
        fetched_at = 0,
        documents_key = "oidc.documents:" .. url,
        version_key = "oidc.version:" .. url,
        lock_key = "oidc.lock:" .. url,
        pause_key = "oidc.pause:" .. url,
    }
end


-- Takes over what any worker has fetched since.
local function load(issuer)
    local version = dict:get(issuer.version_key)
    if not version or version == issuer.fetched_at then
        return
    end
    local documents = dict:get(issuer.documents_key)
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
        return nil, "the answer is a " .. answer.status
    elseif #answer.body > MAX_DOCUMENT then
        return nil, "the answer is too long"
    end
    local document = core.json.decode(answer.body)
    if not document then
        return nil, "the answer is no JSON"
    end
    return document
end


-- What is kept of an issuer's two documents, or why they cannot be had.
local function fetch(url)
    local document, err = get(url)
    if not document then
        return nil, concat({ url, ": ", err })
    end
    local name, keys_url = token_mod.discovered(document, url)
    if not name then
        return nil, concat({ url, ": ", keys_url })
    end
    document, err = get(keys_url)
    if not document then
        return nil, concat({ keys_url, ": ", err })
    end
    local keys = token_mod.usable_keys(document)
    if #keys == 0 then
        return nil, concat({ keys_url, ": there is no key that is of use" })
    end
    return core.json.encode({ name = name, keys = keys })
end


local function fetch_and_store(issuer)
    local began = ngx_now()
    local documents, err = fetch(issuer.url)
    if documents then
        local ok
        ok, err = dict:set(issuer.documents_key, documents, MAX_AGE_S)
        if ok then
            ok, err = dict:set(issuer.version_key, began, MAX_AGE_S)
        end
        if ok then
            core.log.info("fetched the keys of the issuer of tokens, ", issuer.url)
            return
        end
        err = "they do not fit into the shared memory: " .. err
    end

    load(issuer)
    dict:set(issuer.pause_key, true, PAUSE_S)
    if began - issuer.fetched_at < MAX_AGE_S then
        core.log.warn("the keys of the issuer of tokens cannot be fetched: ", err,
                      "; those of before still count")
    else
        core.log.error("the keys of the issuer of tokens cannot be fetched: ", err,
                       "; no token can be checked until they can")
    end
end


local function run(premature, issuer)
    if not premature then
        local ok, err = pcall(fetch_and_store, issuer)
        if not ok then
            core.log.error("the keys of the issuer of tokens were not fetched: ", err)
        end
    end
    dict:delete(issuer.lock_key)
end


-- Has the keys fetched, unless somebody does so or has just failed to. Not in the request that
-- needs them: its client may go away.
local function begin(issuer)
    if dict:get(issuer.pause_key) or not dict:add(issuer.lock_key, true, LOCK_S) then
        return
    end
    local ok, err = timer_at(0, run, issuer)
    if not ok then
        dict:delete(issuer.lock_key)
        core.log.error("the keys of the issuer of tokens cannot be fetched: ", err)
    end
end


-- Until there are newer keys; false where there will be none now.
local function wait(issuer)
    local before = issuer.fetched_at
    local deadline = ngx_now() + PATIENCE_S
    while true do
        load(issuer)
        if issuer.fetched_at > before then
            return true
        elseif dict:get(issuer.pause_key) then
            return false
        elseif ngx_now() >= deadline then
            -- Whoever fetches them may go on; others need not wait as long.
            dict:set(issuer.pause_key, true, PAUSE_S)
            return false
        end
        ngx_sleep(WAIT_S)
    end
end


--- Milliseconds until an issuer that could not be asked is asked again.
function _M.retry_ms(issuer)
    return max(dict:ttl(issuer.pause_key) or 0, 1) * 1000
end


--- Takes over what is known of an issuer, and has it renewed when that is old.
-- @treturn boolean whether it may be used
function _M.load(issuer)
    load(issuer)
    local age = ngx_now() - issuer.fetched_at
    if age >= REFRESH_S then
        begin(issuer)
    end
    return age < MAX_AGE_S
end


--- The key that a token must be signed with.
-- @tparam table issuer
-- @tparam table header of the token, decoded
-- @tparam table algorithm of the token
-- @treturn table|nil
-- @treturn nil|boolean true: there is no such key; nil: nobody knows, the issuer cannot be asked
function _M.key(issuer, header, algorithm)
    if not _M.load(issuer) and not wait(issuer) then
        return nil
    end
    local key = token_mod.key_for(issuer.keys, header, algorithm)
    if not key and ngx_now() - issuer.fetched_at >= MIN_AGE_S then
        begin(issuer)
        if not wait(issuer) then
            return nil
        end
        key = token_mod.key_for(issuer.keys, header, algorithm)
    end
    return key, not key or nil
end


return _M
