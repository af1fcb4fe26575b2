--- The pool of backends, made once for each configuration from ai-proxy-multi's instances and
-- azure-openai-proxy's details.

local core = require("apisix.core")
local loaded_config = require("apisix_internals.loaded_config")
local secrets = require("apisix_internals.secrets")
local backend_keys = require("gateway.backends.backend_keys")
local entra_tokens = require("gateway.credentials.entra_tokens")
local cooldown = require("genai.balancing.cooldown")
local endpoints = require("genai.http.endpoints")
local probe_rules = require("genai.balancing.probe_rules")
local http_headers = require("genai.http.http_headers")
local latency_stats = require("genai.balancing.latency_stats")
local picking = require("genai.balancing.picking")
local verdict = require("genai.openai.verdict")
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

--- The name of the pool of the plain paths, if there are others.
_M.PLAIN = "default"

-- By APISIX's configuration tables, which stay the same until the configuration changes.
local compiled = setmetatable({}, { __mode = "k" })

-- By pool and list of backends: each route has its own configuration tables, but the requests of
-- all routes of a pool are balanced together.
local turns_by_pool = setmetatable({}, { __mode = "v" })

-- By backend id.
local memories = setmetatable({}, { __mode = "v" })


--- The endpoint of an instance of ai-proxy-multi.
-- @treturn table|nil as `genai.http.endpoints` parses it
-- @treturn nil|string the backend's id: its name and endpoint
function _M.endpoint_of(instance)
    local endpoint = endpoints.parse(instance.override and instance.override.endpoint or "")
    if not endpoint or endpoint.query then
        return nil
    end
    return endpoint, instance.name .. "|" .. endpoint.origin
end


-- A set but empty environment variable does not provide a credential either.
local function has_unresolved(values)
    for _, value in pairs(values or {}) do
        if secrets.is_reference(value) or not find(value, "%S") then
            return true
        end
    end
    return false
end


--- Why a backend has no credential to send, if it has none.
-- @tparam table auth of its instance, with references resolved if possible
-- @tparam table|nil details azure-openai-proxy's details of the backend
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
        http_headers.line("host", host),
        -- Compressed answers could not be scanned for usage and errors.
        http_headers.line("accept-encoding", "identity"),
    }
    for name, value in pairs(credentials or {}) do
        lines[#lines + 1] = http_headers.line(lower(name), value)
    end
    return concat(lines)
end


local function backend_of(instance, details, ai_conf, conf)
    local endpoint, id = _M.endpoint_of(instance)
    if not endpoint then
        core.log.error("backend ", instance.name, " has no usable endpoint: it gets no requests")
        return nil
    end

    local auth = instance.auth or {}
    local key_setting = details and details.key_setting
    local problem
    if key_setting then
        -- The value that APISIX has resolved may be minutes old, so the key from the file is used.
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
        health_key = conf.health_checks and probe_rules.key(id) or nil,
        priority = instance.priority or 0,
        weight = instance.weight,
        is_broken = problem ~= nil,
        deployments = picking.in_any_case(details and details.deployments),
        lines = header_lines(endpoint.authority, auth.header),
        identity = details and details.identity and entra_tokens.of(details.identity),
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
            max_age_ms = conf.keepalive_max_age_ms,
        },
    }
    if key_setting then
        backend.bare_lines = backend.lines
        if not backend_keys.follow(backend, key_setting) then
            core.log.error("backend ", backend.name, " gets no requests until the file of ",
                           key_setting, " has a key")
        end
    end
    return backend
end


-- The balancer's memory of each backend, and its turns in the round robin. All pools share the
-- memory of a backend; the turns are of one pool, so that each pool gets its shares.
local function share_memory(backends, pool_name)
    local names = {}
    for i, each in ipairs(backends) do
        names[i] = concat({ each.id, each.priority, each.weight }, "|")
    end
    sort(names)
    local key = pool_name .. "\n" .. concat(names, "\n")
    local turns = turns_by_pool[key]
    if not turns then
        turns = {}
        turns_by_pool[key] = turns
    end
    for _, each in ipairs(backends) do
        local id = each.id
        local memory = memories[id]
        if not memory then
            memory = { known = latency_stats.known_of(id) }
            memories[id] = memory
        end
        turns[id] = turns[id] or {}
        each.memory, each.turns = memory, turns[id]
    end
    return turns
end


--- azure-openai-proxy's details of backends, by backend name.
function _M.details_of(conf)
    local details = {}
    for _, each in ipairs(conf.backends or {}) do
        details[each.name] = each
    end
    return details
end


-- All backends of the gateway, for gauges. A named pool may have only some of them; the plain paths
-- always have all.
local function shown_backends()
    for _, each in ipairs(loaded_config.services() or {}) do
        local plugins = each and each.value and each.value.plugins or {}
        local conf, ai_conf = plugins["azure-openai-proxy"], plugins["ai-proxy-multi"]
        if conf and ai_conf and conf.pool and conf.pool.name == _M.PLAIN then
            local details, shown = _M.details_of(conf), {}
            for _, instance in ipairs(ai_conf.instances) do
                local endpoint, id = _M.endpoint_of(instance)
                local known = details[instance.name]
                shown[#shown + 1] = endpoint and {
                    id = id,
                    name = instance.name,
                    region = known and known.region,
                    key = cooldown.key(id),
                    health_key = conf.health_checks and probe_rules.key(id) or nil,
                } or nil
            end
            return shown
        end
    end
    return nil
end


local function set_of(names)
    if not names then
        return nil
    end
    local set = {}
    for _, name in ipairs(names) do
        set[name] = true
    end
    return set
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

    -- Backends with the same origin are one resource and share its stored objects.
    local origins, origin_count = {}, 0
    for _, each in ipairs(backends) do
        if not origins[each.origin] then
            origins[each.origin] = each
            origin_count = origin_count + 1
        end
    end

    local own = conf.pool or {}
    local shown = own.name and own.name ~= _M.PLAIN and shown_backends() or nil
    return {
        name = own.name,
        clients = set_of(own.clients),
        backends = backends,
        shown_backends = shown,
        origins = origins,
        origin_count = origin_count,
        -- Objects that are created here may be named in requests to a pool with more backends.
        tracks_owners = origin_count > 1 or shown ~= nil and #shown > #backends,
        replaced_headers = replaced,
        turns = share_memory(backends, own.name or ""),
        tiers = picking.tiers(backends),
        all_tiers = picking.tiers(backends, true),
        balancer = ai_conf.balancer or { algorithm = "roundrobin" },
        by_latency = conf.balancer == "latency",
        by_preference = conf.balancer == "preferred",
        keeps_longer = conf.cooldown.fixed_ms ~= nil or nil,
        by_cache_key = conf.soft_affinity ~= nil and conf.soft_affinity.on == "prompt_cache_key",
        max_attempts = ai_conf.max_retries and ai_conf.max_retries + 1 or #backends,
        retry = verdict.retry_set(conf.retry_statuses, ai_conf.fallback_strategy),
        keepalive = ai_conf.keepalive ~= false,
        keepalive_timeout = ai_conf.keepalive_timeout,
        keepalive_pool = ai_conf.keepalive_pool,
        logs_summaries = ai_conf.logging and ai_conf.logging.summaries or false,
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


--- Backends of a request's pool that are drained or removed in the current configuration, which may
-- be newer than the request.
-- @tparam table ctx
-- @tparam table pool
-- @treturn table|nil a set; nil: none
function _M.drained_since(ctx, pool)
    local service = loaded_config.newer_service(ctx)
    if not service then
        return nil
    end

    local ai_conf = service.plugins and service.plugins["ai-proxy-multi"]
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
