--- The gateway's own metrics, in APISIX's exporter. docs/metrics.md has all of them.

local core = require("apisix.core")
local exporter = require("apisix.plugins.prometheus.exporter")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local cooldown = require("genai.cooldown")
local labels = require("genai.labels")
local slots = require("genai.slots")
local process = require("ngx.process")
local ngx = ngx
local ngx_now = ngx.now
local timer_at = ngx.timer.at
local concat = table.concat
local find = string.find
local ipairs = ipairs
local lower = string.lower
local match = string.match
local min = math.min
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable

local _M = {}

-- Labels that APISIX's own metrics have too are called as there.
local METRICS = {
    attempts = { "counter", "genai_attempts_total",
        "Attempts of requests at backends, and backends that were passed over, by outcome",
        { "node", "request_llm_model", "outcome" } },
    failovers = { "counter", "genai_failovers_total",
        "Requests that a backend answered after others had failed, by why the first one had",
        { "node", "request_llm_model", "reason" } },
    unserved = { "counter", "genai_unserved_requests_total",
        "Requests that no backend served, by what held the backends back",
        { "consumer", "lane", "request_llm_model", "reason" } },
    cooldowns = { "counter", "genai_cooldowns_total",
        "Cool-downs that began",
        { "node", "request_llm_model", "reason" } },
    cooling = { "gauge", "genai_backend_cooldown_seconds",
        "Seconds until a backend may be used again; 0 where it may",
        { "node", "request_llm_model" } },
    healthy = { "gauge", "genai_backend_healthy",
        "Whether a backend works, as its probes say: 1 or 0",
        { "node" } },
    tokens = { "counter", "genai_tokens_total",
        "Tokens of kinds that the counters of prompt and completion tokens do not tell apart",
        { "kind", "consumer", "node", "lane", "operation", "request_llm_model", "llm_model" } },
    affinity = { "counter", "genai_affinity_lookups_total",
        "Looks for the backend that has what a request names, by where it was found",
        { "result" } },
    affinity_redis = { "counter", "genai_affinity_redis_failures_total",
        "Calls of the Redis of affinity that failed" },
    limiter = { "counter", "genai_limiter_decisions_total",
        "Requests that a limiter let through or refused",
        { "limiter", "lane", "consumer", "decision" } },
    limiter_degraded = { "counter", "genai_limiter_degraded_total",
        "Checks and charges of limits that were left out because Redis failed",
        { "limiter" } },
    spans_dropped = { "counter", "genai_spans_dropped_total",
        "Spans of traces that no collector took" },
    entra_tokens = { "counter", "genai_entra_token_requests_total",
        "Requests for tokens of Entra ID, by outcome",
        { "outcome" } },
}

local dict = ngx.shared["genai-gateway-state"]

-- Whose state is shown: an entry for each backend, and for each cool-down that there has been. In
-- each, a line each: the backend's id and name, the model ("": it is about probes), and the key of
-- what is remembered.
local SHOWN = "shown-states"
local MAX_SHOWN = 2000

-- The ids of the backends that there are.
local BACKENDS = "shown-backends"

-- Models without a label of their own share one; of those of a backend this is the key of the
-- cool-down that began last.
local LAST_OTHER = "shown-other|"

-- All labels of a metric are read before it returns.
local EMPTY = {}

local registered


-- In each process: the one that writes the text has to know what they are.
local function register()
    local prometheus = exporter.get_prometheus()
    if registered or not prometheus then
        return registered
    end
    registered = {}
    for key, each in pairs(METRICS) do
        registered[key] = prometheus[each[1]](prometheus, each[2], each[3], each[4])
    end
    return registered
end


local function count(key, values, by)
    local all = registered or register()
    if all then
        all[key]:inc(by or 1, values)
    end
end


local shown = slots.new(dict, SHOWN, MAX_SHOWN)
local is_full = false


local function show(backend, model, key)
    local entry = concat({ backend.id, backend.name, model, key }, "\n")
    if not shown:add(entry) and not is_full then
        is_full = true
        core.log.warn("no more than ", MAX_SHOWN, " cool-downs are shown in metrics")
    end
end


local names_by_pool = setmetatable({}, { __mode = "k" })


local function names_of(pool)
    local ids = {}
    for _, each in ipairs(pool.backends) do
        ids[#ids + 1] = each.id
        show(each, labels.ALL, each.key)
        if each.health_key then
            show(each, "", each.health_key)
        end
    end
    dict:set(BACKENDS, "\n" .. concat(ids, "\n") .. "\n")
    local own = pool.conf.metrics
    return labels.names(pool.backends, own and own.models, dict)
end


--- What is known of names of models, for all requests of a pool.
function _M.names(pool)
    local names = names_by_pool[pool]
    if not names then
        names = names_of(pool)
        names_by_pool[pool] = names
    end
    return names
end


--- The label for the model that a request names; "" where it names none.
function _M.model(request)
    return request.deployment and request.cooldown_scope
           and labels.model(request.names, request.cooldown_scope) or ""
end


--- The label for the name under which a backend has the model of a request.
-- @tparam table request
-- @tparam string model the label of the request's own name for it
-- @tparam string|nil served_as
function _M.served_model(request, model, served_as)
    if not served_as or served_as == request.deployment or model == labels.OTHER then
        return model
    end
    return labels.model(request.names, lower(served_as))
end


local function learn(request)
    if request.deployment then
        labels.learn(request.names, request.cooldown_scope)
    end
end


local function consumer_of(ctx, state)
    local own = state.pool.conf.metrics
    return not (own and own.without_client) and ctx.consumer_name or ""
end


--- An attempt ended.
-- @tparam table state of the request
-- @tparam string node the backend's name
-- @tparam string outcome
function _M.attempt(state, node, outcome)
    state.is_counted = true
    count("attempts", { node, _M.model(state.request), outcome })
end


--- An attempt failed.
function _M.failed(state, backend, failure)
    if failure.reason == "throttled" then
        -- Nobody is throttled at what is not there.
        learn(state.request)
    end
    local outcome = labels.outcome(failure)
    state.first_failure = state.first_failure or outcome
    _M.attempt(state, backend.name, outcome)
end


--- A backend's answer is about to be handed on.
function _M.answered(state, backend, status)
    if status < 400 then
        learn(state.request)
    end
    if state.first_failure then
        count("failovers", { backend.name, _M.model(state.request), state.first_failure })
    end
end


--- The answer of a backend has come to its end.
-- @tparam string|nil who broke it off
function _M.handed_on(state, backend, who)
    _M.attempt(state, backend.name, who == "backend" and "stream_error"
                                    or who == "client" and "client_abort" or "ok")
end


--- No backend is left.
function _M.unserved(ctx, state, status, code)
    count("unserved", { consumer_of(ctx, state), variables.lane(ctx), _M.model(state.request),
                        labels.unserved(state.last, status, code) })
end


--- A backend was not asked, because it cools down or its probes fail.
-- @tparam table request
-- @tparam table backend
-- @tparam string outcome
function _M.skipped(request, backend, outcome)
    if request.tried and not request.tried[backend] then
        request.skipped = request.skipped or {}
        request.skipped[backend] = outcome
    end
end


--- A cool-down began.
-- @tparam table backend
-- @tparam table request what it was asked for
-- @tparam string key of the cool-down
-- @tparam string reason
function _M.cooling(backend, request, key, reason)
    local model = labels.ALL
    if key ~= backend.key then
        local scope = request.cooldown_scope
        model = request.deployment and labels.model(request.names, scope) or scope
        if model == labels.OTHER then
            dict:set(LAST_OTHER .. backend.id, key)
        end
        show(backend, model, model ~= labels.OTHER and key or LAST_OTHER .. backend.id)
    end
    count("cooldowns", { backend.name, model, reason })
end


--- A request looked for the backend that has what it names.
-- @tparam string result "memory", "redis", "search", "none" or "failed"
function _M.looked_up(result)
    count("affinity", { result })
end


function _M.affinity_redis_failed()
    count("affinity_redis", EMPTY)
end


--- Spans were dropped.
function _M.spans_dropped(amount)
    count("spans_dropped", EMPTY, amount)
end


--- A token of Entra ID was asked for.
function _M.token_asked_for(outcome)
    count("entra_tokens", { outcome })
end


--- Checks and charges that Redis did not make.
function _M.limiter_degraded(limiter, times)
    count("limiter_degraded", { limiter }, times)
end


--- What limiters decided of a request.
-- @tparam table limiters those that it came before, in their order
-- @tparam string|nil refused_by the one that refused it
function _M.limited(ctx, state, limiters, refused_by)
    local consumer, lane = consumer_of(ctx, state), variables.lane(ctx)
    for _, limiter in ipairs(limiters) do
        local is_refused = limiter == refused_by
        count("limiter", { limiter, lane, consumer, is_refused and "rejected" or "allowed" })
        if is_refused then
            break
        end
    end
end


local function count_tokens(ctx, state, kind, amount)
    if amount and amount > 0 then
        local var = ctx.var
        count("tokens", { kind, consumer_of(ctx, state), ctx.balancer_ip or "",
                          variables.lane(ctx), state.target.operation,
                          var.request_llm_model or "", var.llm_model or "" }, amount)
    end
end


--- The request ended.
function _M.finish(ctx, state)
    if state.is_active and not state.is_counted then
        -- Nothing else ends a request in the middle of an attempt.
        _M.attempt(state, ctx.balancer_ip, state.is_broken and "gateway_error" or "client_abort")
    end
    for backend, outcome in pairs(state.request.skipped or EMPTY) do
        _M.attempt(state, backend.name, outcome)
    end
end


--- After it is known what the request used.
function _M.finish_tokens(ctx, state, estimated)
    local usage = state.seen.usage
    if usage then
        count_tokens(ctx, state, "cached", min(usage.cached or 0, usage.prompt))
        count_tokens(ctx, state, "reasoning", usage.reasoning)
    else
        count_tokens(ctx, state, "estimated", estimated)
    end
end


local entries, were_shown = {}, {}


-- Sets the gauges to what the shared memory says now. What is gone has none.
local function refresh()
    local all = shown:all()
    for i = #entries + 1, #all do
        local id, node, model, key = match(all[i], "^(.-)\n(.-)\n(.-)\n(.*)$")
        entries[i] = { id = id, node = node, model = model, key = key }
    end

    local backends = dict:get(BACKENDS) or ""
    local now = ngx_now() * 1000
    local values = {}
    for _, each in ipairs(entries) do
        if find(backends, "\n" .. each.id .. "\n", 1, true) then
            local series = each.node .. "\n" .. each.model
            if each.model == "" then
                values[series] = { gauge = registered.healthy, labels = { each.node },
                                   value = dict:get(each.key) and 0 or 1 }
            else
                local key = each.model ~= labels.OTHER and each.key or dict:get(each.key)
                local state, left = cooldown.state(dict, key or "", now)
                values[series] = { gauge = registered.cooling,
                                   labels = { each.node, each.model },
                                   value = state == "cooling" and left / 1000 or 0 }
            end
        end
    end

    for series, each in pairs(were_shown) do
        if not values[series] then
            each.gauge:del(each.labels)
        end
    end
    for _, each in pairs(values) do
        each.gauge:set(each.value, each.labels)
    end
    were_shown = values
end


-- The process that writes the exporter's text asks for the state when it writes. No worker has to
-- live on for a gauge to go back to 0.
local function follow_state()
    local prometheus = exporter.get_prometheus()
    local metric_data = prometheus.metric_data
    prometheus.metric_data = function(self)
        local ok, err = pcall(refresh)
        if not ok then
            core.log.error("the state of backends cannot be shown in metrics: ", err)
        end
        return metric_data(self)
    end
end


local function begin(premature)
    if not premature and not registered and register()
       and process.type() == "privileged agent"
    then
        follow_state()
    end
end


--- In each process, when the plugin is loaded; the exporter may be loaded later.
function _M.start()
    local ok, err = timer_at(0, begin)
    if not ok then
        core.log.error("no timer for the metrics: ", err)
    end
end


return _M
