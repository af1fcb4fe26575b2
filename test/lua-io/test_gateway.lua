--- A gateway in a world: a route with the gateway's plugins, driven as APISIX drives them, and what
-- became of each request: the answer, the access log, metrics, spans and APIM-style records.

local apisix_core = require("apisix_core")
local concat = table.concat
local error = error
local find = string.find
local gsub = string.gsub
local ipairs = ipairs
local json = require("json")
local json_text = require("json_text")
local libraries = require("libraries")
local lower = string.lower
local match = string.match
local nginx = require("nginx")
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local sort = table.sort
local tonumber = tonumber
local tostring = tostring
local type = type
local world_module = require("world")

local _M = {}
local mt = { __index = _M }

local OURS = { "azure-openai-errors", "azure-openai-traces", "azure-openai-auth", "azure-openai-proxy",
               "azure-openai-limits", "apim-gateway-logger", "azure-openai-metrics" }

--- What a client signs in with.
_M.CLIENT_KEY = "key-of-client"

--- The answer of a model.
_M.OK = {
    status = 200,
    headers = { ["content-type"] = "application/json" },
    body = '{"id":"x","model":"gpt-4o-2024","choices":[],"usage":'
           .. '{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}',
}

local EVENTS = { ["content-type"] = "text/event-stream" }


--- An error of a backend.
function _M.failure(status, headers, code)
    local all = { ["content-type"] = "application/json" }
    for name, value in pairs(headers or {}) do
        all[name] = value
    end
    return { status = status, headers = all,
             body = json_text.encode({ error = { code = code or "x", message = "the backend's words" } }) }
end


--- A stream of events; see `network` for its pieces.
function _M.stream(pieces, breaks)
    local list = {}
    for i, each in ipairs(pieces) do
        list[i] = type(each) == "string" and "data: " .. each .. "\n\n" or each
    end
    return { status = 200, headers = EVENTS, pieces = list, breaks = breaks }
end


--- Events of a stream: what comes before any output, output, and the end with its usage.
_M.PREAMBLE = '{"choices":[{"delta":{"role":"assistant","content":""}}]}'
_M.OUTPUT = '{"model":"gpt-4o-2024","choices":[{"delta":{"content":"Hello"}}]}'
_M.USAGE = '{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'
_M.THROTTLED = '{"error":{"code":"too_many_requests","message":"Too many."}}'


local function instance_of(backend, number)
    local auth = {}
    if not backend.identity and not backend.key_setting then
        auth.header = { ["api-key"] = backend.key or "key-of-" .. backend.name }
    end
    return {
        name = backend.name,
        priority = backend.priority or 100 - number,
        weight = backend.weight or 1,
        auth = auth,
        override = { endpoint = backend.endpoint or "https://" .. backend.name },
    }
end


local function merged(base, more)
    for name, value in pairs(more or {}) do
        base[name] = value
    end
    return base
end


--- The configuration of the plugins, as the compiler writes it.
local function configuration(options)
    local instances, details = {}, {}
    for i, each in ipairs(options.backends) do
        local backend = type(each) == "table" and each or { name = each }
        instances[i] = instance_of(backend, i)
        details[i] = { name = backend.name, region = backend.region, deployments = backend.deployments,
                       identity = backend.identity, key_setting = backend.key_setting }
    end
    return {
        ["azure-openai-errors"] = {},
        ["azure-openai-traces"] = { collector = "collector:4318", sample_rate = 1,
                                    resource = { ["service.name"] = "gateway" } },
        ["azure-openai-auth"] = merged({ required = true }, options.auth),
        ["azure-openai-proxy"] = merged({
            timeouts = { connect_ms = 5000, send_ms = 60000, read_ms = 8000 },
            retry_statuses = { 408, 429, 500, 502, 503, 504 },
            cooldown = { default_ms = 10000, max_ms = 120000 },
            stream_hold_ms = 1000,
            affinity = { ttl_s = 3600 },
            backend_header = true,
            backends = details,
        }, options.proxy),
        ["ai-proxy-multi"] = merged({
            instances = instances,
            fallback_strategy = { "http_429", "http_5xx" },
            keepalive_pool = 8,
            logging = { summaries = true, payloads = false },
        }, options.pool),
        ["azure-openai-limits"] = merged({}, options.limits),
        ["apim-gateway-logger"] = {
            dcr_ingest_uri = "https://ingestion/streams/x", resource = "https://monitor.azure.com",
            gateway_id = "gateway-1", batch_max_size = 100, batch_flush_interval = 1,
            batch_max_retry = 0, timeout_ms = 1000, msi_endpoint = "http://identity-of-records/token",
        },
        ["azure-openai-metrics"] = {},
    }
end


-- APISIX's limiters: one of them may reject. All of them note what they would charge.
local function limiter(name, priority, rejects)
    return {
        name = name,
        priority = priority,
        access = function(conf, ctx)
            ctx.request.checked[#ctx.request.checked + 1] = name
            if name == "ai-rate-limiting" and not ctx.picked_ai_instance_name or not rejects[name] then
                return nil
            end
            for header, value in pairs(rejects[name]) do
                ctx.request.response_headers[lower(header)] = value
            end
            return conf.rejected_code, conf.rejected_msg and { error_msg = conf.rejected_msg }
        end,
        log = function(_, ctx)
            if name == "ai-rate-limiting" then
                ctx.request.charged = ctx.picked_ai_instance_name
                                      and { usage = ctx.ai_token_usage, raw = ctx.llm_raw_usage } or nil
            end
        end,
    }
end


local LIMITERS = { { "ai-rate-limiting", 1030 }, { "limit-count", 1002 }, { "limit-req", 1001 } }


local function add_plugins(self, options)
    local require = self.worker.require
    local plugins = {}
    for _, name in ipairs(OURS) do
        plugins[#plugins + 1] = require("apisix.plugins." .. name)
    end
    plugins[#plugins + 1] = { name = "ai-proxy-multi", priority = 1041,
                              access = function()
                                  error("ai-proxy-multi runs")
                              end }
    for _, each in ipairs(LIMITERS) do
        if options.limiters and options.limiters[each[1]] then
            self.conf[each[1]] = options.limiters[each[1]]
            plugins[#plugins + 1] = limiter(each[1], each[2], self.rejects)
        end
    end
    sort(plugins, function(a, b)
        return a.priority > b.priority
    end)
    for _, each in ipairs(plugins) do
        if each.init then
            each.init()
        end
    end
    self.plugins = plugins
end


--- Starts a gateway with one worker.
-- @tparam table options `backends`: names, or tables with a `name` and what else is known of one;
--   their order is that of their priorities. `proxy`, `pool`, `auth`, `limits`: more fields of the
--   configurations; `limiters`: configurations by name; `without`: a set of plugins that are not
--   there; `world`, or options of a new one
function _M.new(options)
    local world = options.world or world_module.new(options)
    local self = setmetatable({
        world = world,
        worker = world:worker(),
        conf = configuration(options),
        rejects = {},
        backends = {},
        without = options.without or {},
    }, mt)
    if not world.files:attributes(world_module.FILE) then
        world:write_file({ { name = "app", key = _M.CLIENT_KEY, lane = options.lane,
                             models = options.models } })
    end
    for i, each in ipairs(options.backends) do
        self.backends[i] = type(each) == "table" and each.name or each
        world.network:serve(self.backends[i], _M.OK)
    end
    world.network:serve("identity-of-records",
                        { status = 200, body = '{"access_token":"t","expires_in":"86400"}' })
    world.network:serve("ingestion", { status = 204 })
    add_plugins(self, options)
    -- No request waits for the name of a backend.
    local addresses = self.worker.require("gateway.exchange.addresses")
    for _, name in ipairs(self.backends) do
        world:call(addresses.find, addresses.of(name), world.scheduler.now + 1)
    end
    return self
end


--- Scripts a backend.
function _M:serve(...)
    self.world.network:serve(...)
end


-- The plugins of the route, as APISIX lists them for a request.
local function plugins_of(self)
    local list = {}
    for _, plugin in ipairs(self.plugins) do
        if self.conf[plugin.name] and not self.without[plugin.name] then
            list[#list + 1], list[#list + 2] = plugin, self.conf[plugin.name]
        end
    end
    return list
end


-- Runs a phase in which a plugin may end the request.
local function run_phase(self, ctx, phase)
    local core = self.worker.require("apisix.core")
    local plugins = ctx.plugins
    for i = 1, #plugins, 2 do
        local plugin = plugins[i]
        if plugin[phase] and not (ctx.skipped and ctx.skipped[plugin.name]) then
            ctx.request.phase = phase
            local code, body = plugin[phase](plugins[i + 1], ctx)
            if code or body then
                core.response.exit(code, body)
            end
        end
    end
end


local function new_context(self, request)
    local ctx = { request = request, plugins = plugins_of(self), service_id = "azure-openai",
                  conf_version = "1&1", curr_req_matched = { _path = "/openai/v1/*" },
                  matched_route = { value = { id = "openai-v1", name = "openai-v1" } } }
    ctx.var = apisix_core.variables(ctx, self.worker.variables)
    -- APISIX keeps both as they are before any plugin runs.
    ctx.var.real_request_uri = ctx.var.real_request_uri
    ctx.var.request_uri = ctx.var.request_uri
    request.ngx_ctx = { api_ctx = ctx }
    request.ctx = ctx
    return ctx
end


local function serve(self, request)
    local ctx = new_context(self, request)
    local ok, err = pcall(run_phase, self, ctx, "rewrite")
    if not ok and err == nginx.REROUTED then
        ctx = new_context(self, request)
        run_phase(self, ctx, "rewrite")
    elseif not ok then
        error(err, 0)
    end
    run_phase(self, ctx, "access")
    if not ctx.bypass_nginx_upstream then
        error("no plugin answers: nginx would choose an upstream")
    end
    run_phase(self, ctx, "before_proxy")
    error("the request was not ended, and nginx would choose an upstream")
end


-- Runs a phase in which all plugins have their turn.
local function run_all(self, ctx, phase, order)
    local plugins = ctx.plugins
    local by_name = {}
    for i = 1, #plugins, 2 do
        by_name[plugins[i].name] = i
    end
    for _, name in ipairs(order or {}) do
        local i = by_name[name]
        plugins[i][phase](plugins[i + 1], ctx)
        by_name[name] = nil
    end
    for i = 1, #plugins, 2 do
        local plugin = plugins[i]
        if by_name[plugin.name] and plugin[phase] and not (ctx.skipped and ctx.skipped[plugin.name]) then
            plugin[phase](plugins[i + 1], ctx)
        end
    end
end


local function log_phase(self, request, ctx)
    local worker = self.worker
    worker.request = request
    if not request.is_sent then
        request.status = request.response_status ~= 0 and request.response_status or 499
    end
    request.response_status = request.status
    local var = request.var
    var.status = tostring(request.status)
    var.bytes_sent = tostring(#concat(request.chunks))
    run_all(self, ctx, "log", request.log_order)
    worker.request = nil
    request.is_done = true
end


local function body_of(options)
    local body = options.body
    if type(body) == "table" then
        body = json_text.encode(body)
    elseif body == nil and options.method ~= "GET" and options.method ~= "DELETE" then
        body = json_text.encode({ model = options.model or "gpt-4o", stream = options.stream,
                                  messages = { { role = "user", content = "Hi" } } })
    end
    return body or nil
end


local function new_request(self, options)
    local uri = options.path or "/openai/v1/chat/completions"
    local path, args = match(uri, "^([^?]*)%??(.*)$")
    local body = body_of(options)
    local headers = { host = "gateway", ["api-key"] = _M.CLIENT_KEY,
                      ["content-type"] = body and "application/json" or nil,
                      ["content-length"] = body and tostring(#body) or nil }
    for name, value in pairs(options.headers or {}) do
        headers[lower(name)] = value or nil
    end
    local method = options.method or "POST"
    return {
        method = method, headers = headers, body = body, started = self.worker.ngx.now(),
        response_status = 0, response_headers = {}, chunks = {}, checked = {}, upstream_states = {},
        connections = {}, ngx_ctx = {}, log_order = options.log_order, body_file = options.body_file,
        leaves_after = options.leaves_after, upload_takes = options.upload_takes,
        var = { uri = options.read_as or path, args = args ~= "" and args or nil,
                real_request_uri = uri, request_uri = uri, scheme = "https", host = "gateway",
                remote_addr = "192.0.2.1", binary_remote_addr = options.address or "\192\0\2\1",
                request_method = method, server_protocol = "HTTP/1.1",
                apisix_request_id = "request-1", request_id = "r1", request_length = "100" },
    }
end


--- Begins a request, which runs until it waits for the first time.
-- @tparam table|nil options `method`, `path`, `read_as` (how nginx reads it, where that differs),
--   `model`, `stream`, `body` (a text or a table; false: none), `body_file`, `headers`, `address`
--   (the client's, as bytes); `leaves_at` (seconds after which its client closes the connection),
--   `leaves_after` (number of pieces that its client takes), `upload_takes` (seconds), `log_order`
--   (plugins that have their turn first in the log phase)
-- @treturn table the request: `status`, `response_headers`, `chunks`, `var` (nginx's variables),
--   `record`, `checked` (limiters that had their turn), `charged`, `upstream_states`
function _M:start(options)
    options = options or {}
    local world = self.world
    local request = new_request(self, options)
    function request.filter()
        run_all(self, request.ctx, "header_filter")
    end
    local function finished(task)
        request.exit_code = task.exit_code
        request.is_cut = task.exit_code == -1 or nil
        -- nginx closes the connections of a request that it ends in the middle.
        for _, each in ipairs(task.is_killed and request.connections or {}) do
            each:close()
        end
        request.record = request.ctx.genai
        log_phase(self, request, request.ctx)
    end

    request.task = world.scheduler:start(request, finished, serve, self, request)
    if options.leaves_at then
        world.scheduler:after(options.leaves_at - (world.scheduler.now - request.started), function()
            request.is_gone = true
            if not request.on_abort then
                world.scheduler:kill(request.task)
                return
            end
            -- `ngx.exit` in there ends the request.
            world.scheduler:start(request, function(task)
                if task.exit_code then
                    world.scheduler:kill(request.task)
                end
            end, request.on_abort)
        end)
    end
    return request
end


--- Waits for the end of a request.
function _M:finish(request)
    self.world.scheduler:run_until(function()
        return request.is_done
    end)
    request.text = concat(request.chunks)
    request.json = json.decode(request.text)
    return request
end


--- Sends a request and waits for its end.
function _M:post(options)
    return self:finish(self:start(options))
end


--- The backends that were called, in order: those that refuse connections as well.
function _M:called()
    local names, is_backend = {}, {}
    for _, name in ipairs(self.backends) do
        is_backend[name] = true
    end
    for _, each in ipairs(self.world.network.connected) do
        if is_backend[each.to] then
            names[#names + 1] = each.to
        end
    end
    return concat(names, " ")
end


--- The requests that a backend got.
function _M:sent_to(name)
    local list = {}
    for _, each in ipairs(self.world.network.sent) do
        if each.to == name then
            list[#list + 1] = each
        end
    end
    return list
end


--- The page of metrics: values by name and labels. Values of 0 are left out.
function _M:metrics()
    local out = {}
    self.worker.require("gateway.metrics").render(out)
    local values = {}
    for name, value in concat(out):gmatch("([^\n ]+) (%S+)\n") do
        if tonumber(value) ~= 0 and not find(name, "#", 1, true) then
            values[gsub(name, "^apisix_", "")] = tonumber(value)
        end
    end
    return values
end


--- One metric, as "label label=value": its labels without their names, in the order of the page.
-- @tparam string name
-- @treturn string in alphabetical order, with commas between them
function _M:metric(name)
    local list = {}
    for key, value in pairs(self:metrics()) do
        local labels = match(key, "^" .. name .. "{(.*)}$")
        if labels or key == name then
            local texts = {}
            for each in (labels or ""):gmatch('"([^"]*)"') do
                texts[#texts + 1] = each
            end
            list[#list + 1] = concat(texts, " ") .. "=" .. value
        end
    end
    sort(list)
    return concat(list, ", ")
end


--- The spans of attempts, and the span of the request, that have ended so far.
function _M:spans()
    local attempts, server = {}, nil
    for _, span in ipairs(self.world.spans) do
        if span.kind == libraries.CLIENT_SPAN then
            attempts[#attempts + 1] = span
        else
            server = span
        end
    end
    return attempts, server
end


--- The APIM-style record of the last request, which is sent two seconds later at most.
function _M:apim_record()
    self.world:advance(2)
    local sent = self:sent_to("ingestion")
    local records = json.decode(sent[#sent].body)
    return records[#records]
end


return _M
