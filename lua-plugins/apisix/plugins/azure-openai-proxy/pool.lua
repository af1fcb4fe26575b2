--- The pool of backends, made once of each configuration: ai-proxy-multi's instances and what
-- azure-openai-proxy knows beyond them.

local core = require("apisix.core")
local service_of = require("apisix.http.service").get
local secret = require("apisix.secret")
local backend_keys = require("apisix.plugins.azure-openai-proxy.backend_keys")
local identities = require("apisix.plugins.azure-openai-proxy.identity")
local cooldown = require("genai.cooldown")
local endpoints = require("genai.endpoint")
local health = require("genai.health")
local headers_mod = require("genai.headers")
local latency = require("genai.latency")
local picking = require("genai.picking")
local verdict = require("genai.verdict")
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local encode_args = ngx.encode_args
local next = next
local concat = table.concat
local find = string.find
local gsub = string.gsub
local lower = string.lower
local sort = table.sort

local _M = {}

-- Its conf tables are APISIX's, and stay the same as long as the configuration does.
local compiled = setmetatable({}, { __mode = "k" })

-- Each route has conf tables of its own; their requests are shared out as those of one pool.
local memories = setmetatable({}, { __mode = "v" })


--- Where an instance of ai-proxy-multi is.
-- @treturn table|nil as `genai.endpoint` takes it apart
-- @treturn nil|string the backend's id: its name and where it is
function _M.endpoint_of(instance)
    local endpoint = endpoints.parse(instance.override and instance.override.endpoint or "")
    if not endpoint or endpoint.query then
        return nil
    end
    return endpoint, instance.name .. "|" .. endpoint.origin
end


-- A variable that is there and empty gives no credential either.
local function has_unresolved(values)
    for _, value in pairs(values or {}) do
        if secret.is_secret_ref(value) or not find(value, "%S") then
            return true
        end
    end
    return false
end


--- Why a backend has no credential to send, if so.
-- @tparam table auth of its instance, references resolved where that was possible
-- @tparam table|nil details what azure-openai-proxy knows of it
-- @treturn string|nil
function _M.credential_problem(auth, details)
    if has_unresolved(auth.header) or has_unresolved(auth.query) then
        return "its credential cannot be resolved"
    elseif not auth.header and not auth.query and not (details and details.identity) then
        return "it has no credential"
    end
    return nil
end


-- The headers that are the same in every request to a backend.
local function header_lines(host, credentials)
    local lines = {
        headers_mod.line("host", host),
        -- What is compressed could neither be counted nor watched for errors.
        headers_mod.line("accept-encoding", "identity"),
    }
    for name, value in pairs(credentials or {}) do
        lines[#lines + 1] = headers_mod.line(lower(name), value)
    end
    return concat(lines)
end


local function backend_of(instance, details, ai_conf, conf)
    local endpoint, id = _M.endpoint_of(instance)
    if not endpoint then
        core.log.error("backend ", instance.name, " has no usable endpoint: it is left out")
        return nil
    end

    local auth = instance.auth or {}
    local key_setting = details and details.key_setting
    local problem
    if key_setting then
        -- What APISIX resolved may be minutes old.
        auth = {}
    else
        problem = _M.credential_problem(auth, details)
    end
    if problem then
        core.log.error("backend ", instance.name, " gets no requests: ", problem)
    end

    local backend = {
        name = instance.name,
        region = details and details.region,
        origin = endpoint.origin,
        id = id,
        key = cooldown.key(id),
        health_key = conf.health_checks and health.key(id) or nil,
        priority = instance.priority or 0,
        weight = instance.weight,
        is_broken = problem ~= nil,
        deployments = picking.in_any_case(details and details.deployments),
        lines = header_lines(endpoint.authority, auth.header),
        identity = details and details.identity and identities.of(details.identity),
        prefix = (gsub(endpoint.path, "/+$", "")),
        address = endpoint.host .. ":" .. endpoint.port,
        query = auth.query and next(auth.query) and encode_args(auth.query) or nil,
        connection = {
            scheme = endpoint.scheme,
            host = endpoint.host,
            port = endpoint.port,
            ssl_server_name = endpoint.scheme == "https" and endpoint.host or nil,
            ssl_verify = ai_conf.ssl_verify ~= false,
            pool_size = ai_conf.keepalive_pool,
        },
    }
    if key_setting then
        backend.bare_lines = backend.lines
        if not backend_keys.follow(backend, key_setting) then
            core.log.error("backend ", backend.name, " gets no requests until there is a key in"
                           .. " the file of ", key_setting)
        end
    end
    return backend
end


-- The balancer's memory of a backend, shared by pools of the same backends.
local function share_memory(backends)
    local names = {}
    for i, each in ipairs(backends) do
        names[i] = concat({ each.id, each.priority, each.weight }, "|")
    end
    sort(names)
    local key = concat(names, "\n")
    local memory = memories[key]
    if not memory then
        memory = {}
        memories[key] = memory
    end
    for _, each in ipairs(backends) do
        memory[each.id] = memory[each.id] or {}
        each.memory = memory[each.id]
        each.memory.known = each.memory.known or latency.known_of(each.id)
    end
    return memory
end


-- Redis in the words of APISIX's own client for it.
local function affinity_of(conf)
    local redis = conf.redis
    return {
        ttl = conf.ttl_s,
        redis = redis and {
            redis_host = redis.host,
            redis_port = redis.port,
            redis_username = redis.username,
            redis_password = redis.password,
            password_setting = redis.password_setting,
            redis_database = redis.database,
            redis_ssl = redis.tls,
            redis_ssl_verify = redis.tls,
            redis_timeout = redis.timeout_ms,
        },
    }
end


--- What azure-openai-proxy knows of backends beyond their instances, by their names.
function _M.details_of(conf)
    local details = {}
    for _, each in ipairs(conf.backends or {}) do
        details[each.name] = each
    end
    return details
end


local function compile(ai_conf, conf)
    local details = _M.details_of(conf)
    local backends, replaced = {}, {}
    for _, instance in ipairs(ai_conf.instances) do
        backends[#backends + 1] = backend_of(instance, details[instance.name], ai_conf,
                                                conf)
        for name in pairs(instance.auth and instance.auth.header or {}) do
            replaced[lower(name)] = true
        end
    end

    -- What is stored in a resource is there for all backends that stand for it.
    local origins, origin_count = {}, 0
    for _, each in ipairs(backends) do
        if not origins[each.origin] then
            origins[each.origin] = each
            origin_count = origin_count + 1
        end
    end

    return {
        backends = backends,
        origins = origins,
        origin_count = origin_count,
        replaced_headers = replaced,
        memory = share_memory(backends),
        tiers = picking.tiers(backends),
        all_tiers = picking.tiers(backends, true),
        balancer = ai_conf.balancer or { algorithm = "roundrobin" },
        by_latency = conf.balancer == "latency",
        max_attempts = ai_conf.max_retries and ai_conf.max_retries + 1 or #backends,
        retry = verdict.retry_set(conf.retry_statuses, ai_conf.fallback_strategy),
        keepalive = ai_conf.keepalive ~= false,
        keepalive_timeout = ai_conf.keepalive_timeout,
        keepalive_pool = ai_conf.keepalive_pool,
        logs_summaries = ai_conf.logging and ai_conf.logging.summaries or false,
        affinity = affinity_of(conf.affinity),
        conf = conf,
    }
end


--- The pool of a request.
-- @tparam table ai_conf configuration of ai-proxy-multi, secrets resolved
-- @tparam table conf configuration of azure-openai-proxy
function _M.of(ai_conf, conf)
    local pool = compiled[ai_conf]
    if not pool or pool.conf ~= conf then
        pool = compile(ai_conf, conf)
        compiled[ai_conf] = pool
    end
    return pool
end


--- Backends of a request's pool that are drained or gone in the configuration of now, which may
-- have come since the request did.
-- @tparam table ctx
-- @tparam table pool
-- @treturn table|nil a set; nil where there are none
function _M.drained_since(ctx, pool)
    local service = ctx.service_id and service_of(ctx.service_id)
    -- As APISIX puts together what a request was begun with.
    if not service or find(ctx.conf_version, "&" .. service.modifiedIndex, 1, true) then
        return nil
    end

    local ai_conf = service.value.plugins and service.value.plugins["ai-proxy-multi"]
    local serving = {}
    for _, instance in ipairs(ai_conf and ai_conf.instances or {}) do
        local _, id = _M.endpoint_of(instance)
        if id and instance.weight > 0 then
            serving[id] = true
        end
    end

    local drained
    for _, each in ipairs(pool.backends) do
        if not serving[each.id] then
            drained = drained or {}
            drained[each] = true
        end
    end
    return drained
end


return _M
