--- Sends a request to Azure OpenAI: picks a backend of ai-proxy-multi's pool, fails over inside the
-- request, streams, and ends it.

local core = require("apisix.core")
local plugin = require("apisix.plugin")
local accounting = require("apisix.plugins.azure-openai-proxy.accounting")
local access_log = require("apisix.plugins.azure-openai-proxy.access_log")
local affinity = require("apisix.plugins.azure-openai-proxy.affinity")
local attempts = require("apisix.plugins.azure-openai-proxy.attempts")
local availability = require("apisix.plugins.azure-openai-proxy.availability")
local backend_keys = require("apisix.plugins.azure-openai-proxy.backend_keys")
local body_memory = require("apisix.plugins.azure-openai-proxy.body_memory")
local body_mod = require("apisix.plugins.azure-openai-proxy.body")
local failures = require("apisix.plugins.azure-openai-proxy.failures")
local forwarding = require("apisix.plugins.azure-openai-proxy.forwarding")
local health = require("apisix.plugins.azure-openai-proxy.health")
local identities = require("apisix.plugins.azure-openai-proxy.identity")
local latency = require("apisix.plugins.azure-openai-proxy.latency")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local pools = require("apisix.plugins.azure-openai-proxy.pool")
local readiness = require("apisix.plugins.azure-openai-proxy.readiness")
local secret_values = require("apisix.plugins.azure-openai-proxy.secret_values")
local upstream = require("apisix.plugins.azure-openai-proxy.upstream")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local errors = require("genai.errors")
local headers_mod = require("genai.headers")
local http_head = require("genai.http_head")
local memo = require("genai.memo")
local models = require("genai.models")
local picking = require("genai.picking")
local targets = require("genai.target")
local verdict = require("genai.verdict")
local collectgarbage = collectgarbage
local ngx = ngx
local get_headers = ngx.req.get_headers
local get_method = ngx.req.get_method
local ngx_exit = ngx.exit
local ngx_now = ngx.now
local start_time = ngx.req.start_time
local lower = string.lower
local pairs = pairs
local pcall = pcall
local tonumber = tonumber
local type = type
local find = string.find

local plugin_name = "azure-openai-proxy"
local pool_plugin_name = "ai-proxy-multi"

-- An error's body is read up to here, for its message and for the connection to be kept.
local MAX_ERROR_BODY = 65536

-- And no longer than this: nobody waits for an error that trickles.
local ERROR_MS = 2000

local MAX_NAME = 256


local milliseconds_schema = { type = "integer", minimum = 0 }

local status_schema = { type = "integer", minimum = 400, maximum = 599 }

local name_schema = { type = "string", minLength = 1 }

local setting_schema = { type = "string", pattern = "^[A-Z][A-Z0-9_]*$" }

local redis_schema = {
    type = "object",
    properties = {
        host = name_schema,
        port = { type = "integer", minimum = 1, maximum = 65535 },
        username = name_schema,
        password = name_schema,
        -- the setting whose file holds the password, in its place
        password_setting = setting_schema,
        database = { type = "integer", minimum = 0 },
        tls = { type = "boolean" },
        timeout_ms = { type = "integer", minimum = 1 },
    },
    required = { "host", "port", "database", "tls", "timeout_ms" },
    additionalProperties = false,
}

local backend_schema = {
    type = "object",
    properties = {
        name = name_schema,
        region = name_schema,
        -- the client's name of a deployment to the backend's
        deployments = {
            type = "object",
            minProperties = 1,
            additionalProperties = name_schema,
        },
        -- the setting whose file holds the key of its instance: what APISIX resolves itself may be
        -- minutes old
        key_setting = setting_schema,
        -- whose token of Entra ID it is given, where its instance has no credential
        identity = {
            type = "object",
            properties = {
                resource = name_schema,
                client_id = name_schema,
            },
            required = { "resource" },
            additionalProperties = false,
        },
    },
    required = { "name" },
    additionalProperties = false,
}

local metrics_schema = {
    type = "object",
    properties = {
        -- all names of models that are values of labels, beside those of the backends' deployments
        models = { type = "array", minItems = 1, items = name_schema },
    },
    additionalProperties = false,
}

local interval_schema = { type = "integer", minimum = 1000 }

local health_checks_schema = {
    type = "object",
    properties = {
        -- the endpoint's where it is left out
        scheme = { type = "string", enum = { "http", "https" } },
        path = { type = "string", pattern = "^/[^ ]*$" },
        timeout_ms = { type = "integer", minimum = 1 },
        verify_certificate = { type = "boolean" },
        healthy_interval_ms = interval_schema,
        unhealthy_interval_ms = interval_schema,
    },
    required = { "path", "timeout_ms", "verify_certificate", "healthy_interval_ms",
                 "unhealthy_interval_ms" },
    additionalProperties = false,
}

local schema = {
    type = "object",
    properties = {
        -- what ai-proxy-multi's own has no word for
        balancer = { type = "string", enum = { "latency" } },
        timeouts = {
            type = "object",
            properties = {
                connect_ms = milliseconds_schema,
                send_ms = milliseconds_schema,
                read_ms = milliseconds_schema,
            },
            required = { "connect_ms", "send_ms", "read_ms" },
            additionalProperties = false,
        },
        retry_statuses = { type = "array", uniqueItems = true, items = status_schema },
        cooldown = {
            type = "object",
            properties = {
                default_ms = milliseconds_schema,
                max_ms = milliseconds_schema,
            },
            required = { "default_ms", "max_ms" },
            additionalProperties = false,
        },
        stream_hold_ms = milliseconds_schema,
        deadline_ms = milliseconds_schema,
        affinity = {
            type = "object",
            properties = {
                ttl_s = { type = "integer", minimum = 1 },
                redis = redis_schema,
            },
            required = { "ttl_s" },
            additionalProperties = false,
        },
        backend_header = { type = "boolean" },
        metrics = metrics_schema,
        health_checks = health_checks_schema,
        backends = { type = "array", minItems = 1, items = backend_schema },
    },
    required = { "timeouts", "retry_statuses", "cooldown", "stream_hold_ms", "affinity" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    priority = 1045,
    name = plugin_name,
    schema = schema,
}


variables.register()
secret_values.install()


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


-- The heap of a worker may triple before garbage is collected again: at LuaJIT's default, twice, a
-- request costs some percent more. Bodies are small there, for long ones stay in files.
local GC_PAUSE_PERCENT = 300


function _M.init()
    collectgarbage("setpause", GC_PAUSE_PERCENT)
    body_memory.start()
    health.start()
    readiness.start()
    metrics.start()
end


local function pool_conf(ctx)
    local plugins = ctx.plugins
    for i = 1, #plugins, 2 do
        if plugins[i].name == pool_plugin_name then
            return plugins[i + 1]
        end
    end
    return nil
end


function _M.access(conf, ctx)
    local method = get_method()
    -- As the client sent it: APISIX's own `request_uri` is decoded and resolved.
    local target, err = targets.parse(ctx.var.real_request_uri, ctx.var.uri, method)
    if not target then
        return 400, errors.body(400, "The request's target is refused: " .. err .. ".",
                                "invalid_request_target")
    end

    local ai_conf = pool_conf(ctx)
    if not ai_conf then
        core.log.error("no ", pool_plugin_name, " beside ", plugin_name, ": there is no backend")
        return 503, errors.body(503)
    end

    local pool = pools.of(ai_conf, conf)
    ctx.genai = {
        method = method,
        target = target,
        seen = {},
        pool = pool,
        attempts = 0,
        request = { tried = {}, names = metrics.names(pool) },
        trace = ctx.genai_trace,
    }
    accounting.begin(ctx, target)
    plugin.skip_plugin(ctx, pool_plugin_name)
    -- ai-rate-limiting, whose turn comes later in this phase, acts only when this is set; a name
    -- for all backends makes its limits those of the gateway
    ctx.picked_ai_instance_name = "pool"
    ctx.bypass_nginx_upstream = true
end


-- What a consistent hash is made of, as ai-proxy-multi's `balancer` says it.
local function hash_key(pool, ctx)
    local balancer = pool.balancer
    if balancer.algorithm ~= "chash" then
        return nil
    end

    local value
    if balancer.hash_on == "consumer" then
        value = ctx.genai_client_name
    elseif balancer.hash_on == "header" then
        value = core.request.header(ctx, balancer.key)
    elseif balancer.hash_on == "cookie" then
        value = ctx.var["cookie_" .. balancer.key]
    elseif balancer.hash_on == "vars_combinations" then
        value = core.utils.resolve_var(balancer.key, ctx.var)
    else
        value = ctx.var[balancer.key]
    end
    -- Requests without it still go somewhere, and one client's to one place.
    if value == nil or value == "" then
        value = ctx.var.remote_addr
    end
    return value
end


-- APISIX keeps the headers of a request, but may have read no more than a hundred.
local function all_headers(ctx)
    local headers = core.request.headers(ctx)
    return core.table.nkeys(headers) < 100 and headers or get_headers(0)
end


local max_body_bytes


-- nginx knows this limit, but would end the request past all plugins, and none would count it.
local function is_too_large(headers)
    if not max_body_bytes then
        local conf = core.config.local_conf()
        max_body_bytes = tonumber(core.table.try_read_attr(conf, "nginx_config", "http",
                                                           "client_max_body_size")) or 0
    end
    local length = tonumber(headers["content-length"])
    return max_body_bytes > 0 and length and length > max_body_bytes
end


-- Of what a cooldown may be that no deployment is named for. Deployments are in lower case, so that
-- none can have such a name.
local scopes_of_operation = memo.of(function(operation)
    return {
        label = "(" .. operation .. ")",
        unnamed = "WITHOUT DEPLOYMENT " .. operation,
        permission = memo.of(function(method)
            return "PERMISSION " .. method .. " " .. operation
        end),
    }
end)


local function prepare(ctx, state)
    local headers = all_headers(ctx)
    if is_too_large(headers) then
        -- What is still to come of it is not read.
        ngx.header["Connection"] = "close"
        return 413, errors.body(413)
    end

    local body, code, err_body = body_mod.receive(state, headers)
    if not body then
        return code, err_body
    end

    state.body = body
    state.content_type = headers["content-type"]
    local target = state.target
    local problem, err = body_mod.inspect(body, headers["content-type"], {
        model = target.names_model,
        stream = target.generates,
        stored = state.method == "POST" and target.collection and state.pool.origin_count > 1,
    })
    if err then
        core.log.error("the request body cannot be read: ", err)
        return 500, errors.body(500)
    elseif problem then
        return 400, errors.body(400, problem[2], problem[1])
    end
    if body.wants_stream then
        state.wants_stream = true
        ctx.var.request_type = "ai_stream"
    end

    local model = body.model
    state.passed, err = headers_mod.to_backend(headers, state.pool.replaced_headers)
    if err then
        return 400, errors.body(400, "The request cannot be sent to a backend: " .. err .. ".",
                                "invalid_request")
    end
    -- A body that is empty says so to the backend where it said so here.
    state.empty_length = headers["content-length"] and 0 or nil

    local request = state.request
    request.deployment = target.deployment or model and model.value or nil
    local scopes = scopes_of_operation(target.operation)
    request.cooldown_label = request.deployment and lower(request.deployment) or scopes.label
    request.cooldown_scope = request.deployment and request.cooldown_label or scopes.unnamed
    request.permission_scope, request.permission_label = scopes.permission(state.method),
                                                         scopes.label
    request.asks_for_stream = state.wants_stream
    request.hash_key = hash_key(state.pool, ctx)

    -- No deployment is called so; what is remembered of names, and matched with them, stays small.
    if request.deployment and #request.deployment > MAX_NAME then
        return 404, errors.body(404, "The API deployment for this resource does not exist.",
                                "DeploymentNotFound")
    end

    local client = ctx.genai_client
    if client and client.models then
        -- Of a body that is no JSON, a backend may read more than was read here.
        local named = not (model and body.is_doubtful) and request.deployment or nil
        local why = models.refusal(client.models, state.method, target, named, headers)
        if why then
            return 403, errors.body(403, why, "model_not_allowed")
        end
    end

    if request.deployment and not picking.is_served(state.pool.backends, request.deployment) then
        return 404, errors.body(404, "The API deployment for this resource does not exist.",
                                "DeploymentNotFound")
    end
end


-- The request as one backend gets it: its head, and its body. `authorization` signs it in where the
-- backend's own lines do not.
local function written_for(state, backend, authorization)
    local target, body = state.target, state.body
    local path = target.path
    local served_as = picking.served_as(backend.deployments, state.request.deployment)
    state.served_as = served_as or nil
    if served_as and served_as ~= state.request.deployment then
        if target.deployment then
            path = targets.renamed_path(target, served_as)
        else
            body = body_mod.with_model(body, served_as)
        end
    end

    local query = target.query
    if backend.query then
        query = query and query ~= "" and query .. "&" .. backend.query or backend.query
    end

    local lines = backend.lines .. state.passed
    if state.trace then
        lines = lines .. attempts.trace_line(state)
    end
    local length = body.length or state.empty_length
    if length then
        lines = lines .. "content-length: " .. length .. "\r\n"
    end
    local head, err = http_head.request(state.method, backend.prefix .. path, query, lines,
                                        authorization)
    if not head then
        return nil, nil, err
    end
    local source
    source, err = body_mod.source(body)
    return head, source, err
end


-- An error body where it is JSON: its text, its message, and the table with its code.
local function parsed_error(text)
    local decoded = core.json.decode(text)
    if type(decoded) ~= "table" then
        return nil
    end
    local err = decoded.error
    local message = type(err) == "table" and err.message or decoded.message
    return text, type(message) == "string" and message or nil,
           type(err) == "table" and err or decoded
end


-- The failure that a status stands for, wherever it was said; nil: it is the client's answer.
local function failure_of(state, exchange, status, text, message)
    local meaning = verdict.of_status(status, state.pool.retry)
    if meaning == "answer" then
        return nil
    end
    local failure = { reason = meaning, status = status, headers = exchange.headers, body = text,
                      message = message }
    if meaning == "refusal" then
        local why = verdict.of_refusal(status, exchange.headers, text or "")
        failure.is_permission = why == "permission"
        failure.reason = (why == "permission" or why == "request") and "refused" or why
    end
    return failure
end


-- A deployment that is not there may be at another backend.
local function missing_deployment(state, exchange)
    local status = exchange.status
    if status ~= 404 and status ~= 400 or not state.request.deployment then
        return nil
    end
    local text = exchange:read_short(MAX_ERROR_BODY, ERROR_MS)
    local body, message, err = parsed_error(text)
    if not body or not verdict.is_missing_deployment(err) then
        exchange:put_back(text)
        return nil
    end
    return { reason = "deployment_not_found", status = status, headers = exchange.headers,
             body = body, message = message }
end


-- The failure that an answer names in its body, or in a stream before its first output, in spite of
-- a status of success.
local function failure_inside(state, exchange, status, err, text)
    local message = type(err.message) == "string" and err.message or nil
    if status == 404 and state.request.deployment then
        return { reason = "deployment_not_found", status = status, headers = exchange.headers,
                 body = text, message = message }
    end
    return failure_of(state, exchange, status, text, message)
end


-- Of a JSON answer: most end with their first read, and those that failed are short.
local function failure_of_body(state, exchange)
    local content_type = exchange.headers["content-type"]
    if exchange.done or exchange.status ~= 200 or not state.target.generates
       or not content_type or not find(lower(content_type), "json", 1, true)
       or (exchange.left or 0) > MAX_ERROR_BODY
    then
        return nil
    end
    local text, err = exchange:read_short(MAX_ERROR_BODY)
    if err then
        -- It broke off before the client got a byte of it.
        return { reason = "failing", status = err == "timeout" and 504 or 502, err = err,
                 is_of_stream = true }
    end
    local failure
    if exchange.done and (find(text, '"failed"', 1, true) or find(text, '^%s*{%s*"error"%s*:')) then
        local status, said = verdict.of_body(core.json.decode(text))
        failure = status and failure_inside(state, exchange, status, said, text)
    end
    if not failure then
        exchange:put_back(text)
    end
    return failure
end


-- One attempt. Gives the exchange to hand on to the client, or what went wrong.
local function attempt(state, backend, is_fresh)
    local pool = state.pool
    local authorization, err, pause_ms = identities.authorization(backend.identity)
    if err then
        return nil, { reason = "credentials", err = err, lasts_ms = pause_ms }
    end

    local head, source
    local signed_in_by = backend.lines
    head, source, err = written_for(state, backend, authorization)
    if err then
        return nil, { reason = "request", err = err }
    end

    local exchange, phase
    local began = ngx_now()
    exchange, phase, err = upstream.send(backend, state.method, head, source, pool.conf.timeouts,
                                         is_fresh)
    if not exchange then
        accounting.note_upstream(state, backend, phase == "timeout" and 504 or 502)
        if phase == "stale" then
            return nil, { reason = phase, err = err }
        elseif phase == "timeout" then
            return nil, { reason = "failing", status = 504, err = err }
        end
        return nil, { reason = phase == "connect" and "unreachable" or "failing", status = 502,
                      err = err, took_ms = (ngx_now() - began) * 1000 }
    end

    accounting.note_upstream(state, backend, exchange.status)
    attempts.answered(state, exchange.status)
    if authorization and exchange.status == 401 then
        identities.refused(backend.identity, authorization)
    end
    local failure
    if verdict.of_status(exchange.status, pool.retry) ~= "answer" then
        local text = exchange:read_short(MAX_ERROR_BODY, ERROR_MS)
        local body, message = parsed_error(text)
        failure = failure_of(state, exchange, exchange.status, text, message)
        failure.body, failure.text = body, text
        if exchange.status == 401 and backend_keys.is_replaced(backend, signed_in_by) then
            failure.has_new_key = true
        end
    else
        failure = missing_deployment(state, exchange)
    end
    if failure then
        failure.signed_in_by = signed_in_by .. (authorization or "")
        exchange:finish(pool)
        return nil, failure
    end

    state.seen.answered_at = ngx_now()
    local is_stream = exchange:is_event_stream(state.wants_stream)
    local leading
    if is_stream and exchange.status == 200 and not exchange.done
       and pool.conf.stream_hold_ms > 0
    then
        leading = forwarding.read_leading(exchange, pool.conf.stream_hold_ms)
        if leading.status then
            local said = leading.error
            failure = failure_inside(state, exchange, leading.status, said or {},
                                     said and core.json.encode({ error = said }))
        end
        if failure then
            -- The rest of a refused stream is an event or two.
            exchange:read_short(MAX_ERROR_BODY, 100)
        elseif leading.err and not leading.has_output then
            failure = { reason = "failing", status = 502, err = leading.err, is_of_stream = true }
        end
    elseif not is_stream then
        failure = failure_of_body(state, exchange)
    end
    if failure then
        failure.signed_in_by = signed_in_by .. (authorization or "")
        exchange:finish(pool)
        return nil, failure
    end
    return exchange, nil, leading, is_stream
end


local function add_backend_headers(state, backend)
    if state.pool.conf.backend_header then
        ngx.header["x-gateway-backend"] = backend and backend.name or nil
        ngx.header["x-gateway-attempts"] = state.attempts
    end
end


-- Hands an answer on to the client and ends the request.
local function answer(ctx, state, backend, exchange, leading, is_stream)
    availability.worked(state.request)
    failures.answered(state)
    if state.request.awaited then
        latency.answered(state.request, state.seen, exchange.status, is_stream,
                         leading and leading.has_output)
    end

    state.status = exchange.status
    state.is_answered = true
    core.response.set_response_source(ctx, "upstream")
    metrics.answered(state, backend, exchange.status, exchange.headers)
    forwarding.send_head(exchange)
    add_backend_headers(state, backend)
    state.seen.wants_model = state.trace ~= nil
    local watch = affinity.watch(state, backend, exchange)
    local who, err = forwarding.send_body(exchange, state.seen, leading, is_stream, watch)
    exchange:finish(state.pool)
    metrics.handed_on(state, backend, who)
    state.is_sent, state.broken_by = true, who
    if who == "backend" then
        core.log.error("the answer of backend ", backend.name, " broke off: ", err,
                       "; the client's connection is cut")
        return ngx_exit(ngx.ERROR)
    elseif who == "client" then
        return ngx_exit(499)
    end
    return ngx_exit(ngx.HTTP_OK)
end


-- No backend is left.
local function give_up(ctx, state, held)
    add_backend_headers(state, nil)
    return failures.give_up(ctx, state, held)
end


local function is_past_deadline(state)
    local deadline = state.pool.conf.deadline_ms
    return deadline and (ngx_now() - state.started) * 1000 >= deadline
end


-- A younger request has the configuration of now, or one that has just been replaced.
local OUTDATED_S = 1


-- A request may have begun with another configuration: uploads take their time, and so do attempts.
local function next_backend(ctx, state)
    local pool, request = state.pool, state.request
    local drained = ngx_now() - start_time() > OUTDATED_S and not request.pinned
                    and pools.drained_since(ctx, pool)
    if not drained then
        return availability.next(pool, request)
    end

    local tried = request.tried
    for backend in pairs(drained) do
        tried[backend] = true
    end
    local backend, held = availability.next(pool, request)
    if not backend and state.attempts == 0 then
        -- All that it knows of are gone: better one of these than none.
        for each in pairs(drained) do
            tried[each] = nil
        end
        return availability.next(pool, request)
    end
    return backend, held
end


local function forward(ctx, state)
    local code, err_body = prepare(ctx, state)
    if code then
        return code, err_body
    end

    state.started = ngx_now()
    local pool, request = state.pool, state.request
    state.last = affinity.lead(ctx, state)
    if state.last then
        return give_up(ctx, state, nil)
    end
    if request.pinned and not picking.is_served(pool.backends, request.deployment, request.pinned)
    then
        return 404, errors.body(404, "The API deployment does not exist in the resource that has"
                                     .. " what this request names.", "DeploymentNotFound")
    end

    local stale
    while state.attempts < pool.max_attempts and not failures.are_enough(state) do
        if state.attempts > 0 and is_past_deadline(state) then
            break
        end

        local backend, held = next_backend(ctx, state)
        local is_fresh = false
        if not backend then
            if not stale then
                return give_up(ctx, state, held)
            end
            -- A connection that had gone stale says nothing about its backend.
            backend, stale, is_fresh = stale, nil, true
        end
        request.tried[backend] = true
        state.attempts = state.attempts + 1

        if pool.by_latency then
            latency.begin(request, backend)
        end
        accounting.begin_attempt(ctx, state, backend)
        attempts.begin(state, backend)
        local exchange, failure, leading, is_stream = attempt(state, backend, is_fresh)
        if exchange and affinity.is_sealed_elsewhere(state, backend, exchange) then
            exchange:finish(pool)
            metrics.attempt(state, backend.name, "ok")
        elseif exchange then
            return answer(ctx, state, backend, exchange, leading, is_stream)
        end
        accounting.end_attempt(ctx, state)
        attempts.ended(state, failure)

        if not failure then
            availability.release(request)
        elseif failure.reason == "request" then
            return 400, errors.body(400, "The request cannot be sent to a backend: "
                                         .. failure.err .. ".", "invalid_request")
        elseif failure.reason == "stale" then
            stale = backend
            metrics.attempt(state, backend.name, "stale_connection")
            state.attempts = state.attempts - 1
            availability.release(request)
        elseif failure.has_new_key and backend ~= state.renewed then
            -- Its key was another one when the request was sent: it has not had its turn.
            state.renewed = backend
            request.tried[backend] = nil
            state.attempts = state.attempts - 1
            availability.release(request)
        else
            failures.note(state, backend, failure)
        end
    end

    return give_up(ctx, state, nil)
end


-- In this phase, after plugins that look at prompts or change them.
function _M.before_proxy(conf, ctx)
    local state = ctx.genai
    local ok, code, body = pcall(forward, ctx, state)
    if ok then
        return code, body
    end

    -- Left to nginx, an error would end the request past the log phase, and what was counted as
    -- active would stay so.
    core.log.error("a request failed inside the gateway: ", code)
    state.is_broken = true
    if ngx.headers_sent then
        return ngx_exit(ngx.ERROR)
    end
    return 500, errors.body(500)
end


-- APISIX adds the statuses of all attempts where the last one failed.
function _M.header_filter(conf)
    if not conf.backend_header then
        ngx.header["X-APISIX-Upstream-Status"] = nil
    end
end


function _M.log(conf, ctx)
    local state = ctx.genai
    if state then
        body_memory.release(state)
        availability.release(state.request)
        if state.pool.by_latency then
            latency.finish(state.request, state.seen.usage)
        end
        metrics.finish(ctx, state)
        accounting.finish(ctx, state)
        attempts.finish(state)
    end
    access_log.write(ctx, state)
    if ctx.genai_trace then
        ctx.genai_trace:finish(ctx, state)
    end
end


return _M
