--- Probes backends in the background, and marks for all workers those that are unhealthy. One
-- worker probes; another one takes over when it ends.

local core = require("apisix.core")
local pools = require("apisix.plugins.azure-openai-proxy.pool")
local upstream = require("apisix.plugins.azure-openai-proxy.upstream")
local service = require("apisix.http.service")
local cooldown = require("genai.cooldown")
local health = require("genai.health")
local headers_mod = require("genai.headers")
local http_head = require("genai.http_head")
local ipmatcher = require("resty.ipmatcher")
local process = require("ngx.process")
local deep_eq = core.table.deep_eq
local error = error
local find = string.find
local next = next
local ngx = ngx
local parse_ipv4 = ipmatcher.parse_ipv4
local is_exiting = ngx.worker.exiting
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local thread_kill = ngx.thread.kill
local thread_spawn = ngx.thread.spawn
local thread_wait = ngx.thread.wait
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local worker_pid = ngx.worker.pid
local ipairs = ipairs
local pairs = pairs
local pcall = pcall

local _M = {}

-- Between two looks at what is due.
local TICK_S = 0.5

-- The worker that probes says so again with each look. When it is gone, another one does.
local LEADER = "health-leader"
local LEASE_S = 3

local dict = ngx.shared["genai-gateway-state"]

-- By the id of a backend: where its probes go, and what they said.
local targets = {}
local version
local was_leader = false
local is_started = false


local function target_of(id, endpoint, name, conf)
    local address = health.address(endpoint, conf.scheme)
    local head = http_head.request("GET", conf.path, nil,
                                   headers_mod.line("host", address.authority)
                                   .. headers_mod.line("user-agent", "genai-gateway-health-check")
                                   .. headers_mod.line("accept", "*/*")
                                   .. headers_mod.line("connection", "close"))
    return {
        id = id,
        key = health.key(id),
        name = name,
        conf = conf,
        head = head,
        host = address.host,
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
            -- Connections that requests left open would say nothing of new ones.
            pool = "health-check|" .. id,
        },
    }
end


-- The targets of the configuration that is loaded.
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


-- What other workers found out so far. Everything is due.
local function begin_anew(target)
    target.failures = 0
    target.is_unhealthy = dict:get(target.key) ~= nil
    target.due = 0
end


-- Follows reloads. What is gone leaves no mark.
local function follow_configuration()
    local services, current = service.services()
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
            begin_anew(target)
        end
    end
    for id, target in pairs(known) do
        if not targets[id] then
            cooldown.mark_health(dict, id, target.key)
        end
    end
end


-- Resolves a name; APISIX's own way at connecting would log each failure.
local function address_of(host)
    if parse_ipv4(host) or find(host, "[", 1, true) then
        return host
    end
    local answer, err = core.utils.dns_parse(host)
    if not answer or not answer.address then
        return nil, err or "it has no address"
    end
    return answer.address
end


-- The status of an answer, or what went wrong.
local function ask(target)
    local address, err = address_of(target.host)
    if not address then
        return nil, err
    end

    target.connection.host = address
    local exchange, _
    exchange, _, err = upstream.send(target, "GET", target.head, nil, target.timeouts)
    if not exchange then
        return nil, err
    end
    exchange.client:close()
    return exchange.status
end


local function wait_for(milliseconds)
    ngx_sleep(milliseconds / 1000)
    return nil, "timeout"
end


-- As `ask`, but it never takes longer than a probe may as a whole.
local function ask_in_time(target)
    local asking = thread_spawn(ask, target)
    local waiting = thread_spawn(wait_for, target.conf.timeout_ms)
    local ok, status, err = thread_wait(asking, waiting)
    thread_kill(asking)
    thread_kill(waiting)
    if not ok then
        error(status, 0)
    end
    return status, err
end


local function note(target, status, err)
    local is_healthy = status and health.is_healthy(status)
    local after, has_changed = health.judge(target, is_healthy, target.conf)
    target.due = target.probed_at + after / 1000
    if target.is_unhealthy then
        cooldown.mark_health(dict, target.id, target.key, ngx_now() * 1000,
                             health.mark_s(target.conf))
    elseif has_changed then
        cooldown.mark_health(dict, target.id, target.key)
    end

    if has_changed then
        if target.is_unhealthy then
            core.log.warn("backend ", target.name, " is unhealthy, says its probe: ",
                          err or "status " .. status,
                          "; it is passed over until a probe succeeds")
        else
            core.log.warn("backend ", target.name, " is healthy again, says its probe: status ",
                          status)
        end
    end
end


local function probe(premature, target)
    if premature then
        return
    end

    local ok, status, err = pcall(ask_in_time, target)
    if not ok then
        core.log.error("the probe of backend ", target.name, " failed inside the gateway: ", status)
    -- A target that is not the configured one any more says nothing.
    elseif targets[target.id] == target then
        note(target, status, err)
    end
    target.is_running = false
end


local function is_leader()
    local me, leader = worker_pid(), dict:get(LEADER)
    if leader and leader ~= me then
        return false
    end
    if leader then
        dict:set(LEADER, me, LEASE_S)
        return true
    end
    return dict:add(LEADER, me, LEASE_S) == true
end


local function resign()
    if dict:get(LEADER) == worker_pid() then
        dict:delete(LEADER)
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
                core.log.error("backend ", target.name, " cannot be probed: ", err)
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
            begin_anew(target)
        end
    end
    probe_what_is_due()
end


--- Begins to probe what the configuration says, as soon as it is there; once, in each worker.
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
