--- All metrics of the gateway except those of APISIX and of nginx's process; docs/metrics.md
-- describes them. Counted values are in genai/telemetry/series.lua; gauges of backends are read
-- from shared memory when the page is written.

local core = require("apisix.core")
local lanes = require("gateway.record.lanes")
local process_config = require("apisix_internals.process_config")
local request_context = require("apisix_internals.request_context")
local cooldown = require("genai.balancing.cooldown")
local served_by = require("genai.openai.served_by")
local labels = require("genai.telemetry.labels")
local series = require("genai.telemetry.series")
local shared_list = require("genai.telemetry.shared_list")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local ngx = ngx
local ngx_now = ngx.now
local open = io.open
local timer_every = ngx.timer.every
local worker_pid = ngx.worker.pid
local concat = table.concat
local error = error
local consumer_name = request_context.consumer_name
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

-- Milliseconds, up to ten minutes, because reasoning models are slow. Each bound adds a line for
-- each combination of labels.
local LATENCY_BUCKETS = { 10, 100, 500, 1000, 5000, 10000, 60000, 600000 }
local MODEL_LATENCY_BUCKETS = { 200, 500, 1000, 2000, 5000, 10000, 60000, 600000 }

-- In the order of the page. A label exists only if a question in docs/observability.md, a panel or
-- an alert needs it; `pool` is left out if there is only one pool. Labels become "other" in the
-- order of genai/telemetry/series.lua.
local METRICS = {
    { key = "status", type = "counter", name = "http_status",
      help = "Requests by the status that the client got",
      labels = { "code", "route", "consumer", "lane", "response_source", "pool" } },
    { key = "latency", type = "histogram", name = "http_latency", buckets = LATENCY_BUCKETS,
      help = "Duration of a request in milliseconds",
      labels = { "type", "lane", "operation" } },
    { key = "bandwidth", type = "counter", name = "bandwidth",
      help = "Bytes from clients (ingress) and to them (egress)",
      labels = { "type", "pool" } },
    { key = "model_latency", type = "histogram", name = "llm_latency",
      buckets = MODEL_LATENCY_BUCKETS,
      help = "Duration of a model's answer in milliseconds",
      labels = { "type", "node", "request_llm_model" } },
    { key = "prompt_tokens", type = "counter", name = "llm_prompt_tokens",
      help = "Tokens of prompts, as backends report them",
      labels = { "consumer", "lane", "request_llm_model", "llm_model", "pool" } },
    { key = "completion_tokens", type = "counter", name = "llm_completion_tokens",
      help = "Tokens of answers, as backends report them",
      labels = { "consumer", "lane", "request_llm_model", "llm_model", "pool" } },
    { key = "tokens", type = "counter", name = "genai_tokens_total",
      help = "Tokens of kinds that the counters of prompt and completion tokens do not show",
      labels = { "kind", "consumer", "lane", "request_llm_model", "llm_model", "pool" } },
    { key = "served_tokens", type = "counter", name = "genai_served_tokens_total",
      help = "Tokens by the backend, the model and the service tier that served them",
      labels = { "kind", "node", "request_llm_model", "llm_model", "answer_model", "service_tier",
                 "spilled", "pool" } },
    { key = "audio_seconds", type = "counter", name = "genai_audio_seconds_total",
      help = "Seconds of sound that transcriptions were billed for",
      labels = { "consumer", "lane", "request_llm_model", "llm_model", "pool" } },
    { key = "active", type = "gauge", name = "llm_active_connections",
      help = "Attempts under way at a backend",
      labels = { "node" } },
    { key = "attempts", type = "counter", name = "genai_attempts_total",
      help = "Attempts of requests at backends, and skipped backends, by outcome",
      labels = { "node", "request_llm_model", "outcome", "pool" } },
    { key = "failovers", type = "counter", name = "genai_failovers_total",
      help = "Requests that a backend answered after others had failed, by the first failure",
      labels = { "node", "request_llm_model", "reason", "pool" } },
    { key = "spillovers", type = "counter", name = "genai_spillovers_total",
      help = "Answers that a standard deployment gave in place of a provisioned one",
      labels = { "node", "request_llm_model", "pool" } },
    { key = "unserved", type = "counter", name = "genai_unserved_requests_total",
      help = "Requests that no backend served, by reason",
      labels = { "request_llm_model", "lane", "reason", "pool" } },
    { key = "unserved_clients", type = "counter", name = "genai_unserved_by_client_total",
      help = "Requests that no backend served, by client",
      labels = { "consumer", "reason", "pool" } },
    { key = "cooldowns", type = "counter", name = "genai_cooldowns_total",
      help = "Cooldowns that began",
      labels = { "node", "request_llm_model", "reason", "pool" } },
    { key = "limiter", type = "counter", name = "genai_limiter_decisions_total",
      help = "Requests that a limiter allowed or rejected",
      labels = { "limiter", "lane", "consumer", "decision", "pool" } },
    { key = "limiter_degraded", type = "counter", name = "genai_limiter_degraded_total",
      help = "Checks and charges of limits that were skipped because Redis failed",
      labels = { "limiter" } },
    { key = "affinity", type = "counter", name = "genai_affinity_lookups_total",
      help = "Lookups of the owner of a stored object, by where it was found",
      labels = { "result" } },
    { key = "affinity_redis", type = "counter", name = "genai_affinity_redis_failures_total",
      help = "Failed calls of the Redis of affinity" },
    { key = "cache", type = "counter", name = "genai_cache_requests_total",
      help = "Requests that the answer cache saw, by what it did",
      labels = { "result", "reason", "request_llm_model" } },
    { key = "cache_saved", type = "counter", name = "genai_cache_saved_tokens_total",
      help = "Tokens of stored answers that were sent in place of new ones",
      labels = { "kind", "consumer", "lane", "request_llm_model", "llm_model" } },
    { key = "cache_stores", type = "counter", name = "genai_cache_stores_total",
      help = "Answers that were to be stored, by result",
      labels = { "result" } },
    { key = "cache_redis", type = "counter", name = "genai_cache_redis_failures_total",
      help = "Failed calls of the Redis of the answer cache" },
    { key = "entra_tokens", type = "counter", name = "genai_entra_token_requests_total",
      help = "Requests for tokens of Entra ID, by outcome",
      labels = { "outcome" } },
    { key = "authentication", type = "counter", name = "genai_authentication_failures_total",
      help = "Requests without a valid credential, by the kind of credential that they sent",
      labels = { "credential" } },
    { key = "spans_dropped", type = "counter", name = "genai_spans_dropped_total",
      help = "Spans of traces that the collector did not accept" },
    { key = "apim_sent", type = "counter", name = "genai_apim_records_sent_total",
      help = "APIM-style records that Azure Monitor has accepted" },
    { key = "apim_dropped", type = "counter", name = "genai_apim_records_dropped_total",
      help = "APIM-style records that were dropped",
      labels = { "reason" } },
    { key = "apim_failed", type = "counter", name = "genai_apim_posts_failed_total",
      help = "Failed requests to send a batch of APIM-style records to Azure Monitor",
      labels = { "reason" } },
}

-- Reasons of metrics whose series start at 0, so that alerts can use `rate()`.
local APIM_REASONS = {
    apim_dropped = { "queue_full", "too_large", "refused", "retries_exhausted", "shutdown",
                     "failed" },
    apim_failed = { "no_token", "network", "throttled", "server_error", "unauthorized", "rejected",
                    "failed" },
}

-- Gauges that are computed when the page is written, in the order in which they get room.
local COOLING = { name = "genai_backend_cooldown_seconds",
                  help = "Seconds until the cooldown of a backend ends; 0: it is not cooling down",
                  labels = { "node", "request_llm_model" } }
local HEALTHY = { name = "genai_backend_healthy",
                  help = "1 while the probes of a backend succeed, else 0",
                  labels = { "node" } }
local INFO = { name = "genai_backend_info",
               help = "1 for each backend, with its region",
               labels = { "node", "region" } }
local LINES = { name = "genai_metrics_lines", help = "Lines of the metrics page" }
local MAX_LINES = { name = "genai_metrics_max_lines",
                    help = "Limit on lines of the page; series over it get the label other" }
local WRITTEN = { name = "genai_metrics_written_timestamp_seconds",
                  help = "When the metrics page was written" }

-- The limits for the default of GATEWAY_METRICS_MEMORY.
local DEFAULT_LINES, DEFAULT_BYTES = 25000, 5000000

local FLUSH_S = 1

local PREFIX = "apisix_"

local state = shared_memory.state

-- Cooldowns of a backend and a model that began within a day. Each has one line: the backend's id
-- and name, the model, and the key of the cooldown.
local SHOWN = shared_keys.SHOWN_COOLDOWNS
local MAX_SHOWN = 500
local SHOWN_S = 86400

-- The current backends, five lines each: id, name, region, the key of the cooldown of the whole
-- backend, and the key of its health, or an empty line.
local BACKENDS = shared_keys.SHOWN_BACKENDS

-- Models without a label of their own share one. For a backend, this key names the cooldown among
-- them that began last.
local LAST_OTHER = shared_keys.SHOWN_OTHER

-- One shared table is enough, because a metric reads all its labels before it returns.
local EMPTY = {}

local store
local metrics = {}


-- Counts the lines of a gauge that do not fit on the page.
local function left_out(gauge, number)
    if store then
        store.left_out:add(number, { PREFIX .. gauge.name })
    end
end


-- nginx replaces a crashed worker by a new process; the requests of the old one are gone.
local function is_alive(pid)
    local file = open("/proc/" .. pid .. "/stat")
    if not file then
        return false
    end
    file:close()
    return true
end


local function create_store()
    local memory = shared_memory.metrics
    if not memory then
        core.log.error("there are no metrics, because the shared memory prometheus-metrics is"
                       .. " missing: add prometheus to the list of plugins in config.yaml")
        return
    end
    local attr = process_config.plugin_attr("azure-openai-metrics")
    store = series.new(memory, {
        prefix = PREFIX,
        max_lines = attr.max_lines or DEFAULT_LINES,
        max_bytes = attr.max_bytes or DEFAULT_BYTES,
        now = ngx_now,
        process = tostring(worker_pid()),
        is_alive = is_alive,
    })
    for _, each in ipairs(METRICS) do
        each.optional = "pool"
        metrics[each.key] = store:metric(each)
    end
    for _, gauge in ipairs({ COOLING, HEALTHY, INFO }) do
        left_out(gauge, 0)
    end
end


-- The metric of a key; nil if metrics are disabled. An undeclared key is a defect: it throws, so
-- that it does not look like disabled metrics.
local function metric_of(key)
    local metric = metrics[key]
    if not metric and store then
        error("there is no metric " .. key .. " in METRICS", 3)
    end
    return metric
end


local function count(key, values, by)
    local metric = metric_of(key)
    if metric then
        metric:add(by or 1, values)
    end
end


local function observe(key, values, value)
    local metric = metric_of(key)
    if metric and value then
        metric:observe(value, values)
    end
end


local shown = shared_list.new(state, SHOWN, MAX_SHOWN, SHOWN_S)


local names_by_pool = setmetatable({}, { __mode = "k" })


local function names_of(pool)
    local lines = {}
    for _, each in ipairs(pool.shown_backends or pool.backends) do
        for _, line in ipairs({ each.id, each.name, each.region or "", each.key,
                                each.health_key or "" })
        do
            lines[#lines + 1] = line .. "\n"
        end
    end
    state:set(BACKENDS, concat(lines))
    local own = pool.conf.metrics
    return labels.names(pool.backends, own and own.models, state)
end


--- The label names of models, shared by all requests of a pool.
function _M.names(pool)
    local names = names_by_pool[pool]
    if not names then
        names = names_of(pool)
        names_by_pool[pool] = names
    end
    return names
end


--- The label of the model that a request names; "" if it names none.
-- @tparam table choice of the request's record
function _M.model(choice)
    return choice.deployment and choice.cooldown_label
           and labels.model(choice.names, choice.cooldown_label) or ""
end


--- The label of the name under which a backend has the requested model.
-- @tparam table choice
-- @tparam string model the label of the requested name
-- @tparam string|nil served_as
function _M.served_model(choice, model, served_as)
    if not served_as or served_as == choice.deployment or model == labels.OTHER then
        return model
    end
    return labels.model(choice.names, lower(served_as))
end


-- Registers a model name as a label, after a backend has proved that the model exists.
local function learn(choice)
    if choice.deployment then
        labels.learn(choice.names, choice.cooldown_label)
    end
end


--- Counts an attempt as active.
function _M.attempt_begins(backend)
    count("active", { backend.name }, 1)
end


--- Counts an attempt as no longer active, whether or not a backend received it.
function _M.attempt_ends(backend)
    count("active", { backend.name }, -1)
end


--- Counts an ended attempt by outcome.
-- @tparam table record
-- @tparam table attempt
function _M.attempt(record, attempt)
    if attempt.outcome == "throttled" then
        -- A 429 proves that the deployment exists, so its name may become a label.
        learn(record.choice)
    end
    count("attempts", { attempt.backend.name, _M.model(record.choice), attempt.outcome,
                        record.pool_name or "" })
end


--- Counts an answer that is about to be passed on.
-- @tparam table record
-- @tparam table backend
-- @tparam table headers of the answer, by names in lower case
-- @tparam table|nil first_failed the first failed attempt, if the request failed over
function _M.answered(record, backend, headers, first_failed)
    if record.status < 400 then
        learn(record.choice)
    end
    if served_by.is_spilled(headers) then
        record.answer.is_spilled = true
        count("spillovers", { backend.name, _M.model(record.choice), record.pool_name or "" })
    end
    if first_failed then
        count("failovers", { backend.name, _M.model(record.choice), first_failed.outcome,
                             record.pool_name or "" })
    end
end


--- Counts a request that no backend served.
function _M.unserved(ctx, record, status, code)
    local reason = labels.unserved(record.best_failure, status, code)
    local pool = record.pool_name or ""
    count("unserved", { _M.model(record.choice), lanes.of(ctx), reason, pool })
    count("unserved_clients", { consumer_name(ctx), reason, pool })
end


--- Notes a backend that was skipped because it is cooling down or unhealthy.
-- @tparam table choice
-- @tparam table backend
-- @tparam string outcome
function _M.skipped(choice, backend, outcome)
    if choice.tried and not choice.tried[backend] then
        choice.skipped = choice.skipped or {}
        choice.skipped[backend] = outcome
    end
end


--- Counts the backends that a request skipped; called once, at its end. A backend that was skipped
-- first and tried later has an attempt instead.
function _M.skipped_backends(record)
    local choice = record.choice
    for backend, outcome in pairs(choice.skipped or EMPTY) do
        if not choice.tried[backend] then
            count("attempts", { backend.name, _M.model(choice), outcome, record.pool_name or "" })
        end
    end
end


--- Counts a cooldown and shows it on the page.
-- @tparam table backend
-- @tparam table about `pool_name`, `cooldown_label`; also `deployment` and `names` if the cooldown
--   is for a deployment
-- @tparam string key of the cooldown
-- @tparam string reason
function _M.cooling(backend, about, key, reason)
    local model = labels.ALL
    if key ~= backend.key then
        local scope = about.cooldown_label
        model = about.deployment and labels.model(about.names, scope) or scope
        if model == labels.OTHER then
            state:set(LAST_OTHER .. backend.id, key)
        end
        local entry = concat({ backend.id, backend.name, model,
                               model ~= labels.OTHER and key or LAST_OTHER .. backend.id }, "\n")
        if not shown:add(entry) then
            left_out(COOLING, 1)
        end
    end
    count("cooldowns", { backend.name, model, reason, about.pool_name or "" })
end


--- Counts a lookup of an owner.
-- @tparam string result "memory", "redis", "search", "none" or "failed"
function _M.looked_up(result)
    count("affinity", { result })
end


function _M.affinity_redis_failed()
    count("affinity_redis", EMPTY)
end


--- Counts an answer that was to be stored.
-- @tparam string result "stored", "too_large", "no_memory", "not_whole" or "redis"
function _M.cache_stored(result)
    count("cache_stores", { result })
end


function _M.cache_redis_failed()
    count("cache_redis", EMPTY)
end


--- Counts a request without a valid credential.
-- @tparam string credential what the client sent: "none", "key" or "token"
function _M.authentication_failed(credential)
    count("authentication", { credential })
end


--- Counts dropped spans.
function _M.spans_dropped(amount)
    count("spans_dropped", EMPTY, amount)
end


local are_apim_records_shown = false


--- Shows the metrics of APIM-style records with 0 until something happens.
function _M.show_apim_records()
    if are_apim_records_shown then
        return
    end
    are_apim_records_shown = true
    count("apim_sent", EMPTY, 0)
    for key, reasons in pairs(APIM_REASONS) do
        for _, reason in ipairs(reasons) do
            count(key, { reason }, 0)
        end
    end
end


--- Counts APIM-style records, or calls that sent them.
-- @tparam string what "sent", "dropped" or "failed"
-- @tparam number amount
-- @tparam string|nil reason
function _M.apim_records(what, amount, reason)
    count("apim_" .. what, { reason }, amount)
end


--- Counts a request for a token of Entra ID.
function _M.token_asked_for(outcome)
    count("entra_tokens", { outcome })
end


--- Counts checks and charges that were skipped because Redis failed.
function _M.limiter_degraded(limiter, times)
    count("limiter_degraded", { limiter }, times)
end


--- Counts the decisions of limiters on a request.
-- @tparam table ctx
-- @tparam table record
function _M.limited(ctx, record)
    local consumer, lane = consumer_name(ctx), lanes.of(ctx)
    for _, limiter in ipairs(record.limiters) do
        local is_refused = limiter == record.refused_by
        count("limiter", { limiter, lane, consumer, is_refused and "rejected" or "allowed",
                           record.pool_name or "" })
        if is_refused then
            break
        end
    end
end


local function count_kind(kind, amount, consumer, lane, model, served, pool)
    if amount and amount > 0 then
        count("tokens", { kind, consumer, lane, model, served, pool }, amount)
    end
end


-- Counts what was paid for, by backend, model and tier. The client is not a label.
local function count_served(record, model, served)
    local answer, attempt = record.answer, record.attempts[#record.attempts]
    local choice = record.choice
    local values = { "prompt", attempt and attempt.backend.name or "", model, served,
                     labels.answer_model(choice.names, answer.model,
                                         choice.deployment and choice.cooldown_label, model),
                     record.facts.service_tier or "", answer.is_spilled and "true" or "false",
                     record.pool_name or "" }
    count("served_tokens", values, answer.usage.prompt)
    values[1] = "completion"
    count("served_tokens", values, answer.usage.completion)
end


local function count_model(record, status, consumer, lane)
    local facts, usage = record.facts, record.answer.usage
    local model, served = facts.model_label or "", facts.served_label or ""
    if facts.first_ms and status < 400 then
        local attempt = record.attempts[#record.attempts]
        local node = attempt and attempt.backend.name or ""
        observe("model_latency", { "total", node, model }, facts.backend_ms)
        if record.wants_stream then
            observe("model_latency", { "ttft", node, model }, facts.first_ms)
        end
    end

    if usage then
        count_served(record, model, served)
    end
    local pool = record.pool_name or ""
    local values = { consumer, lane, model, served, pool }
    count("prompt_tokens", values, usage and usage.prompt or 0)
    count("completion_tokens", values, usage and usage.completion or 0)
    if usage then
        if usage.seconds then
            count("audio_seconds", values, usage.seconds)
        end
        count_kind("cached", min(usage.cached or 0, usage.prompt), consumer, lane, model, served,
                   pool)
        count_kind("reasoning", usage.reasoning, consumer, lane, model, served, pool)
    else
        count_kind("estimated", facts.estimated_tokens, consumer, lane, model, served, pool)
    end
end


-- Counts what the answer cache did, and the tokens that it saved.
local function count_cache(record, consumer, lane)
    local facts, cache = record.facts, record.cache
    local model, served = facts.model_label or "", facts.served_label or ""
    count("cache", { cache.result, cache.reason, model })
    local saved = facts.saved
    if saved then
        count("cache_saved", { "prompt", consumer, lane, model, served }, saved.prompt)
        count("cache_saved", { "completion", consumer, lane, model, served }, saved.completion)
    end
end


--- Counts a request at its end, however it ended.
-- @tparam table ctx
-- @tparam table record settled
function _M.request_ended(ctx, record)
    local var, target = ctx.var, record.target
    local lane = target and lanes.of(ctx) or ""
    local consumer = consumer_name(ctx)
    count("status", { var.status or "", request_context.route_name(ctx), consumer, lane,
                      request_context.response_source(ctx), record.pool_name or "" })

    local whole, upstream, own = request_context.latencies(ctx)
    local operation = target and target.operation or ""
    local values = { "request", lane, operation }
    observe("latency", values, whole)
    values[1] = "apisix"
    observe("latency", values, own)
    values[1] = "upstream"
    observe("latency", values, upstream)

    local pool = record.pool_name or ""
    count("bandwidth", { "ingress", pool }, tonumber(var.request_length) or 0)
    count("bandwidth", { "egress", pool }, tonumber(var.bytes_sent) or 0)

    if record.cache then
        count_cache(record, consumer, lane)
    end
    if target and (target.generates or target.makes_content and record.answer.usage) then
        count_model(record, tonumber(var.status) or 0, consumer, lane)
    end
end


-- Writes the gauges of backends, and counts the lines of each that did not fit.
local function backend_gauges(limit)
    local now = ngx_now() * 1000
    local cooling, healthy, info, ids = {}, {}, {}, {}
    for id, node, region, key, health_key in
        gmatch(state:get(BACKENDS) or "", "(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n")
    do
        ids[id] = true
        local record, left = cooldown.state(state, key, now)
        cooling[#cooling + 1] = { values = { node, labels.ALL },
                                  value = record == "cooling" and left / 1000 or 0 }
        if health_key ~= "" then
            healthy[#healthy + 1] = { values = { node }, value = state:get(health_key) and 0 or 1 }
        end
        info[#info + 1] = { values = { node, region }, value = 1 }
    end
    for _, entry in ipairs(shown:all()) do
        local id, node, model, key = match(entry, "^(.-)\n(.-)\n(.-)\n(.*)$")
        if ids[id] then
            key = model ~= labels.OTHER and key or state:get(key) or ""
            local record, left = cooldown.state(state, key, now)
            cooling[#cooling + 1] = { values = { node, model },
                                      value = record == "cooling" and left / 1000 or 0 }
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


--- Adds the lines of all metrics to a list of strings; called in the process that writes the page.
-- @tparam table out
-- @tparam function|nil yield is called regularly
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


-- The timer also runs a last time when the process ends.
local function flush()
    store:flush()
end


--- Starts the timer; called in each process when the plugin is loaded.
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
        core.log.error("cannot start the timer for the metrics: ", err)
    end
end


return _M
