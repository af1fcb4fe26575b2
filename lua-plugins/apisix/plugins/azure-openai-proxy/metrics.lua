--- All metrics of the gateway but those of APISIX's and nginx's process; docs/metrics.md describes
-- them. Counted values are in genai/series.lua; the gauges of backends are read from the shared
-- memory when the page is written.

local core = require("apisix.core")
local plugin = require("apisix.plugin")
local log_util = require("apisix.utils.log-util")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local cooldown = require("genai.cooldown")
local labels = require("genai.labels")
local series = require("genai.series")
local slots = require("genai.slots")
local ngx = ngx
local ngx_now = ngx.now
local open = io.open
local timer_every = ngx.timer.every
local worker_pid = ngx.worker.pid
local concat = table.concat
local gmatch = string.gmatch
local ipairs = ipairs
local lower = string.lower
local match = string.match
local min = math.min
local pairs = pairs
local setmetatable = setmetatable
local tonumber = tonumber
local tostring = tostring

local _M = {}

-- Milliseconds, up to ten minutes: reasoning models take their time. Each bound is a line for each
-- combination of labels.
local LATENCY_BUCKETS = { 10, 100, 500, 1000, 5000, 10000, 60000, 600000 }
local MODEL_LATENCY_BUCKETS = { 200, 500, 1000, 2000, 5000, 10000, 60000, 600000 }

-- In the order of the page. Labels are those that a question of docs/observability.md, a panel or
-- an alert asks for. "other" comes to them in the order of genai/series.lua.
local METRICS = {
    { key = "status", type = "counter", name = "http_status",
      help = "Requests by the status that the client got",
      labels = { "code", "route", "consumer", "lane", "response_source" } },
    { key = "latency", type = "histogram", name = "http_latency", buckets = LATENCY_BUCKETS,
      help = "Milliseconds of a request",
      labels = { "type", "lane", "operation" } },
    { key = "bandwidth", type = "counter", name = "bandwidth",
      help = "Bytes from clients (ingress) and to them (egress)",
      labels = { "type" } },
    { key = "model_latency", type = "histogram", name = "llm_latency",
      buckets = MODEL_LATENCY_BUCKETS,
      help = "Milliseconds of the answers of models",
      labels = { "type", "node", "request_llm_model" } },
    { key = "prompt_tokens", type = "counter", name = "llm_prompt_tokens",
      help = "Tokens of prompts, as backends report them",
      labels = { "consumer", "lane", "request_llm_model", "llm_model" } },
    { key = "completion_tokens", type = "counter", name = "llm_completion_tokens",
      help = "Tokens of answers, as backends report them",
      labels = { "consumer", "lane", "request_llm_model", "llm_model" } },
    { key = "tokens", type = "counter", name = "genai_tokens_total",
      help = "Tokens of kinds that the counters of prompt and completion tokens do not show",
      labels = { "kind", "consumer", "lane", "request_llm_model", "llm_model" } },
    { key = "active", type = "gauge", name = "llm_active_connections",
      help = "Attempts under way at a backend",
      labels = { "node" } },
    { key = "attempts", type = "counter", name = "genai_attempts_total",
      help = "Attempts of requests at backends, and skipped backends, by outcome",
      labels = { "node", "request_llm_model", "outcome" } },
    { key = "failovers", type = "counter", name = "genai_failovers_total",
      help = "Requests that a backend answered after others had failed, by the first failure",
      labels = { "node", "request_llm_model", "reason" } },
    { key = "spillovers", type = "counter", name = "genai_spillovers_total",
      help = "Answers that Azure gave by a standard deployment in place of a provisioned one",
      labels = { "node", "request_llm_model" } },
    { key = "unserved", type = "counter", name = "genai_unserved_requests_total",
      help = "Requests that no backend served, by reason",
      labels = { "request_llm_model", "lane", "reason" } },
    { key = "unserved_clients", type = "counter", name = "genai_unserved_by_client_total",
      help = "Requests that no backend served, by client",
      labels = { "consumer", "reason" } },
    { key = "cooldowns", type = "counter", name = "genai_cooldowns_total",
      help = "Cooldowns that began",
      labels = { "node", "request_llm_model", "reason" } },
    { key = "limiter", type = "counter", name = "genai_limiter_decisions_total",
      help = "Requests that a limiter allowed or rejected",
      labels = { "limiter", "lane", "consumer", "decision" } },
    { key = "limiter_degraded", type = "counter", name = "genai_limiter_degraded_total",
      help = "Checks and charges of limits that were left out because Redis failed",
      labels = { "limiter" } },
    { key = "affinity", type = "counter", name = "genai_affinity_lookups_total",
      help = "Lookups of the owner of a stored object, by where it was found",
      labels = { "result" } },
    { key = "affinity_redis", type = "counter", name = "genai_affinity_redis_failures_total",
      help = "Calls of the Redis of affinity that failed" },
    { key = "entra_tokens", type = "counter", name = "genai_entra_token_requests_total",
      help = "Requests for tokens of Entra ID, by outcome",
      labels = { "outcome" } },
    { key = "spans_dropped", type = "counter", name = "genai_spans_dropped_total",
      help = "Spans of traces that no collector took" },
}

-- Gauges that are made when the page is written, in the order in which they get room.
local COOLING = { name = "genai_backend_cooldown_seconds",
                  help = "Seconds until a backend may be used again; 0 where it may",
                  labels = { "node", "request_llm_model" } }
local HEALTHY = { name = "genai_backend_healthy",
                  help = "Whether the probes of a backend succeed: 1 or 0",
                  labels = { "node" } }
local INFO = { name = "genai_backend_info",
               help = "1 for each backend, with its region",
               labels = { "node", "region" } }
local LINES = { name = "genai_metrics_lines", help = "Lines of the page of metrics" }
local MAX_LINES = { name = "genai_metrics_max_lines",
                    help = "Lines that there is room for; series without room have labels other" }
local WRITTEN = { name = "genai_metrics_written_timestamp_seconds",
                  help = "When the page of metrics was written" }

-- What the default of GATEWAY_METRICS_MEMORY comes to.
local DEFAULT_LINES, DEFAULT_BYTES = 25000, 5000000

local FLUSH_S = 1

local PREFIX = "apisix_"

local dict = ngx.shared["genai-gateway-state"]

-- Cooldowns of a backend and a model that began within a day. A line each: the backend's id and
-- name, the model, and the key of the cooldown.
local SHOWN = "shown-cooldowns"
local MAX_SHOWN = 500
local SHOWN_S = 86400

-- The backends that there are, five lines each: id, name, region, the key of the cooldown of the
-- whole backend, and the key of its health, or an empty line.
local BACKENDS = "shown-backends"

-- Models without a label of their own share one; of those of a backend this is the key of the
-- cooldown that began last.
local LAST_OTHER = "shown-other|"

-- All labels of a metric are read before it returns.
local EMPTY = {}

local store
local metrics = {}


-- Lines of a gauge that are not on the page.
local function left_out(gauge, number)
    if store then
        store.left_out:add(number, { PREFIX .. gauge.name })
    end
end


-- nginx starts another worker in the place of one that crashed; its requests have gone with it.
local function is_alive(pid)
    local file = open("/proc/" .. pid .. "/stat")
    if not file then
        return false
    end
    file:close()
    return true
end


local function create_store()
    local memory = ngx.shared["prometheus-metrics"]
    if not memory then
        core.log.error("there are no metrics: config.yaml has no shared memory prometheus-metrics,"
                       .. " which the plugin prometheus in its list of plugins brings")
        return
    end
    local attr = plugin.plugin_attr("azure-openai-metrics") or EMPTY
    store = series.new(memory, {
        prefix = PREFIX,
        max_lines = attr.max_lines or DEFAULT_LINES,
        max_bytes = attr.max_bytes or DEFAULT_BYTES,
        now = ngx_now,
        process = tostring(worker_pid()),
        is_alive = is_alive,
    })
    for _, each in ipairs(METRICS) do
        metrics[each.key] = store:metric(each)
    end
    for _, gauge in ipairs({ COOLING, HEALTHY, INFO }) do
        left_out(gauge, 0)
    end
end


local function count(key, values, by)
    local metric = metrics[key]
    if metric then
        metric:add(by or 1, values)
    end
end


local function observe(key, values, value)
    local metric = metrics[key]
    if metric and value then
        metric:observe(value, values)
    end
end


local shown = slots.new(dict, SHOWN, MAX_SHOWN, SHOWN_S)


local names_by_pool = setmetatable({}, { __mode = "k" })


local function names_of(pool)
    local lines = {}
    for _, each in ipairs(pool.backends) do
        for _, line in ipairs({ each.id, each.name, each.region or "", each.key,
                                each.health_key or "" })
        do
            lines[#lines + 1] = line .. "\n"
        end
    end
    dict:set(BACKENDS, concat(lines))
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
    return request.deployment and request.cooldown_label
           and labels.model(request.names, request.cooldown_label) or ""
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
        labels.learn(request.names, request.cooldown_label)
    end
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
-- @tparam table state of the request
-- @tparam table backend
-- @tparam number status
-- @tparam table|nil headers of the answer, by names in lower case
function _M.answered(state, backend, status, headers)
    if status < 400 then
        learn(state.request)
    end
    -- Azure sends it only where it spilled over.
    if headers and headers["x-ms-spillover-from-deployment"] then
        count("spillovers", { backend.name, _M.model(state.request) })
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
    local reason = labels.unserved(state.last, status, code)
    count("unserved", { _M.model(state.request), variables.lane(ctx), reason })
    count("unserved_clients", { ctx.consumer_name or "", reason })
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
        local scope = request.cooldown_label
        model = request.deployment and labels.model(request.names, scope) or scope
        if model == labels.OTHER then
            dict:set(LAST_OTHER .. backend.id, key)
        end
        local entry = concat({ backend.id, backend.name, model,
                               model ~= labels.OTHER and key or LAST_OTHER .. backend.id }, "\n")
        if not shown:add(entry) then
            left_out(COOLING, 1)
        end
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
    local consumer, lane = ctx.consumer_name or "", variables.lane(ctx)
    for _, limiter in ipairs(limiters) do
        local is_refused = limiter == refused_by
        count("limiter", { limiter, lane, consumer, is_refused and "rejected" or "allowed" })
        if is_refused then
            break
        end
    end
end


--- Attempts at a backend begin (1) and end (-1).
function _M.active(node, by)
    count("active", { node }, by)
end


--- An attempt that nothing has counted, and the skipped backends.
function _M.finish(ctx, state)
    if state.is_active and not state.is_counted then
        -- Nothing else ends a request in the middle of an attempt.
        _M.attempt(state, ctx.balancer_ip, state.is_broken and "gateway_error" or "client_abort")
    end
    for backend, outcome in pairs(state.request.skipped or EMPTY) do
        _M.attempt(state, backend.name, outcome)
    end
end


local function count_kind(kind, amount, consumer, lane, model, served)
    if amount and amount > 0 then
        count("tokens", { kind, consumer, lane, model, served }, amount)
    end
end


local function finish_model(ctx, state, status, consumer, lane)
    local model, served = state.model_label or "", state.served_label or ""
    if state.first_ms and status < 400 then
        local node = ctx.balancer_ip or ""
        observe("model_latency", { "total", node, model },
                tonumber(ctx.var.apisix_upstream_response_time))
        if state.wants_stream then
            observe("model_latency", { "ttft", node, model }, state.first_ms)
        end
    end

    local usage = state.seen.usage
    local values = { consumer, lane, model, served }
    count("prompt_tokens", values, usage and usage.prompt or 0)
    count("completion_tokens", values, usage and usage.completion or 0)
    if usage then
        count_kind("cached", min(usage.cached or 0, usage.prompt), consumer, lane, model, served)
        count_kind("reasoning", usage.reasoning, consumer, lane, model, served)
    else
        count_kind("estimated", state.estimated_tokens, consumer, lane, model, served)
    end
end


--- A request ended, whoever ended it; after all plugins have noted what they know of it.
function _M.request_ended(ctx)
    local state, var = ctx.genai, ctx.var
    local lane = state and variables.lane(ctx) or ""
    local consumer = ctx.consumer_name or ""
    local route = ctx.matched_route and ctx.matched_route.value
    count("status", { var.status or "", route and (route.name or route.id) or "", consumer, lane,
                      core.response.get_response_source(ctx) or "" })

    local whole, upstream, own = log_util.latency_details_in_ms(ctx)
    local operation = state and state.target.operation or ""
    local values = { "request", lane, operation }
    observe("latency", values, whole)
    values[1] = "apisix"
    observe("latency", values, own)
    values[1] = "upstream"
    observe("latency", values, upstream)

    count("bandwidth", { "ingress" }, tonumber(var.request_length) or 0)
    count("bandwidth", { "egress" }, tonumber(var.bytes_sent) or 0)

    if state and state.target.generates then
        finish_model(ctx, state, tonumber(var.status) or 0, consumer, lane)
    end
end


-- The gauges of backends, and how many of each did not fit.
local function backend_gauges(limit)
    local now = ngx_now() * 1000
    local cooling, healthy, info, ids = {}, {}, {}, {}
    for id, node, region, key, health_key in
        gmatch(dict:get(BACKENDS) or "", "(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n")
    do
        ids[id] = true
        local state, left = cooldown.state(dict, key, now)
        cooling[#cooling + 1] = { values = { node, labels.ALL },
                                  value = state == "cooling" and left / 1000 or 0 }
        if health_key ~= "" then
            healthy[#healthy + 1] = { values = { node }, value = dict:get(health_key) and 0 or 1 }
        end
        info[#info + 1] = { values = { node, region }, value = 1 }
    end
    for _, entry in ipairs(shown:all()) do
        local id, node, model, key = match(entry, "^(.-)\n(.-)\n(.-)\n(.*)$")
        if ids[id] then
            key = model ~= labels.OTHER and key or dict:get(key) or ""
            local state, left = cooldown.state(dict, key, now)
            cooling[#cooling + 1] = { values = { node, model },
                                      value = state == "cooling" and left / 1000 or 0 }
        end
    end

    local missing = {}
    for _, each in ipairs({ { COOLING, cooling }, { HEALTHY, healthy }, { INFO, info } }) do
        local list = each[2]
        for i = #list, limit + 1, -1 do
            list[i] = nil
            missing[each[1]] = (missing[each[1]] or 0) + 1
        end
        limit = limit - #list
    end
    return cooling, healthy, info, missing
end


--- Adds the lines of all metrics to a list of strings; in the process that writes the page.
-- @tparam table out
-- @tparam function|nil yield is called now and then
function _M.render(out, yield)
    if not store then
        return
    end
    local cooling, healthy, info, missing = backend_gauges(store:gauges_limit())
    for gauge, number in pairs(missing) do
        left_out(gauge, number)
    end
    store:flush()
    local lines = store:render(out, yield)
    store:render_gauge(out, COOLING, cooling)
    store:render_gauge(out, HEALTHY, healthy)
    store:render_gauge(out, INFO, info)
    store:render_gauge(out, LINES, { { value = lines + #cooling + #healthy + #info } })
    store:render_gauge(out, MAX_LINES, { { value = store.max_lines } })
    store:render_gauge(out, WRITTEN, { { value = ngx_now() } })
end


-- Also when the process ends: the timer then runs for a last time.
local function flush()
    store:flush()
end


--- In each process, when the plugin is loaded.
function _M.start()
    if store then
        return
    end
    create_store()
    if not store then
        return
    end
    local ok, err = timer_every(FLUSH_S, flush)
    if not ok then
        core.log.error("no timer for the metrics: ", err)
    end
end


return _M
