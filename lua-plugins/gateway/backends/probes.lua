--- Probes backends in the background, and marks unhealthy ones for all workers. One worker probes;
-- when it ends, another takes over.

local core = require("apisix.core")
local pools = require("gateway.backends.pools")
local upstream = require("gateway.exchange.upstream")
local cooldown = require("genai.balancing.cooldown")
local deadline = require("gateway.mechanisms.deadline")
local probe_rules = require("genai.balancing.probe_rules")
local http_headers = require("genai.http.http_headers")
local http_head = require("genai.http.http_head")
local loaded_config = require("apisix_internals.loaded_config")
local process = require("ngx.process")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local deep_eq = core.table.deep_eq
local next = next
local ngx = ngx
local is_exiting = ngx.worker.exiting
local ngx_now = ngx.now
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local worker_pid = ngx.worker.pid
local ipairs = ipairs
local pairs = pairs

local _M = {}

-- Interval of the check for due probes.
local TICK_S = 0.5

-- The worker that probes renews this key with each check. When the key expires, another worker
-- takes over.
local LEADER = shared_keys.PROBE_LEADER
local LEASE_S = 3

local state = shared_memory.state

-- By backend id: where its probes go, and their results.
local targets = {}
local version
local was_leader = false
local is_started = false


local function target_of(id, endpoint, name, conf)
    local address = probe_rules.address(endpoint, conf.scheme)
    local head = http_head.request("GET", conf.path, nil,
                                   http_headers.line("host", address.authority)
                                   .. http_headers.line("user-agent", "genai-gateway-health-check")
                                   .. http_headers.line("accept", "*/*")
                                   .. http_headers.line("connection", "close"))
    return {
        id = id,
        key = probe_rules.key(id),
        name = name,
        conf = conf,
        head = head,
        timeouts = {
            connect_ms = conf.timeout_ms,
            send_ms = conf.timeout_ms,
            read_ms = conf.timeout_ms,
        },
        connection = {
            scheme = address.scheme,
            host = address.host,
            port = address.port,
            ssl_server_name = address.scheme == "https" and address.host or nil,
            ssl_verify = conf.verify_certificate,
            -- A separate pool: reusing connections of requests would not show that new connections
            -- work.
            pool = "health-check|" .. id,
        },
    }
end


-- The targets in the loaded configuration.
local function configured(services)
    local found = {}
    for _, each in ipairs(services) do
        local plugins = each and each.value and each.value.plugins or {}
        local proxy, pool = plugins["azure-openai-proxy"], plugins["ai-proxy-multi"]
        local conf = proxy and proxy.health_checks
        for _, instance in ipairs(conf and pool and pool.instances or {}) do
            local endpoint, id = pools.endpoint_of(instance)
            if endpoint then
                found[id] = target_of(id, endpoint, instance.name, conf)
            end
        end
    end
    return found
end


-- Takes over the state that other workers left, and makes all probes due.
local function reset_probes(target)
    target.failures = 0
    target.is_unhealthy = state:get(target.key) ~= nil
    target.due = 0
end


-- Follows reloads, and removes the marks of removed backends.
local function follow_configuration()
    local services, current = loaded_config.services()
    if not services or current == version then
        return
    end

    version = current
    local known = targets
    targets = configured(services)
    for id, target in pairs(targets) do
        local before = known[id]
        if before and deep_eq(before.conf, target.conf) then
            targets[id] = before
        else
            reset_probes(target)
        end
    end
    for id, target in pairs(known) do
        if not targets[id] then
            cooldown.mark_health(state, id, target.key)
        end
    end
end


-- Probes a target. Returns the status of the answer; or nil and the error.
local function ask(target)
    local exchange, _, err = upstream.send(target, "GET", target.head, nil, target.timeouts)
    if not exchange then
        return nil, err
    end
    exchange:close()
    return exchange.status
end


local function note(target, status, err)
    local is_healthy = status and probe_rules.is_healthy(status)
    local after, has_changed = probe_rules.judge(target, is_healthy, target.conf)
    target.due = target.probed_at + after / 1000
    if target.is_unhealthy then
        cooldown.mark_health(state, target.id, target.key, ngx_now() * 1000,
                             probe_rules.mark_s(target.conf))
    elseif has_changed then
        cooldown.mark_health(state, target.id, target.key)
    end

    if has_changed then
        if target.is_unhealthy then
            core.log.warn("backend ", target.name, " is unhealthy; its probe failed: ",
                          err or "status " .. status,
                          "; it is skipped until a probe succeeds")
        else
            core.log.warn("backend ", target.name, " is healthy again; its probe returned status ",
                          status)
        end
    end
end


local function probe(premature, target)
    if premature then
        return
    end

    -- The timeout limits a probe as a whole.
    local status, err, is_broken = deadline.call(target.conf.timeout_ms / 1000, ask, target)
    if is_broken then
        core.log.error("the probe of backend ", target.name, " failed inside the gateway: ", err)
    -- The result is ignored if the target was removed or changed meanwhile.
    elseif targets[target.id] == target then
        note(target, status, err)
    end
    target.is_running = false
end


local function is_leader()
    local me, leader = worker_pid(), state:get(LEADER)
    if leader and leader ~= me then
        return false
    end
    if leader then
        state:set(LEADER, me, LEASE_S)
        return true
    end
    return state:add(LEADER, me, LEASE_S) == true
end


local function resign()
    if state:get(LEADER) == worker_pid() then
        state:delete(LEADER)
    end
end


local function probe_what_is_due()
    local now = ngx_now()
    for _, target in pairs(targets) do
        if not target.is_running and target.due <= now then
            target.is_running, target.probed_at = true, now
            target.due = now + target.conf.healthy_interval_ms / 1000
            local ok, err = timer_at(0, probe, target)
            if not ok then
                target.is_running = false
                core.log.error("the probe of backend ", target.name, " cannot start: ", err)
            end
        end
    end
end


local function tick(premature)
    if premature or is_exiting() then
        resign()
        return
    end

    follow_configuration()
    if next(targets) == nil then
        return
    end
    if not is_leader() then
        was_leader = false
        return
    end
    if not was_leader then
        was_leader = true
        for _, target in pairs(targets) do
            reset_probes(target)
        end
    end
    probe_what_is_due()
end


--- Starts probing when the configuration is loaded; once in each worker.
function _M.start()
    if is_started or process.type() == "privileged agent" then
        return
    end
    local ok, err = timer_every(TICK_S, tick)
    if not ok then
        core.log.error("backends cannot be probed: ", err)
        return
    end
    is_started = true
end


return _M
