--- Stand-ins for APISIX's modules, for one worker: what the gateway uses of them, as APISIX 3.18.0
-- does it.

local byte = string.byte
local error = error
local find = string.find
local gsub = string.gsub
local ipairs = ipairs
local json = require("json")
local json_text = require("json_text")
local pairs = pairs
local select = select
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber
local tostring = tostring
local type = type
local upper = string.upper

local _M = {}


local function log_of(world, worker)
    local log = {}
    for _, level in ipairs({ "debug", "info", "notice", "warn", "error", "crit" }) do
        log[level] = function(...)
            world:note(level, worker, ...)
        end
    end
    return log
end


local function copied(value)
    if type(value) ~= "table" then
        return value
    end
    local copy = {}
    for key, each in pairs(value) do
        copy[key] = copied(each)
    end
    return copy
end


local function deep_eq(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, each in pairs(a) do
        if not deep_eq(each, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end


local function table_functions(modules)
    return {
        clone = modules["table.clone"],
        deep_eq = deep_eq,
        deepcopy = copied,
        nkeys = modules["table.nkeys"],
        try_read_attr = function(value, ...)
            for i = 1, select("#", ...) do
                value = type(value) == "table" and value[select(i, ...)] or nil
            end
            return value
        end,
    }
end


local function request_functions()
    local function headers_of(ctx)
        ctx.headers = ctx.headers or ctx.request.headers
        return ctx.headers
    end

    return {
        headers = headers_of,
        header = function(ctx, name)
            return headers_of(ctx)[name:lower()]
        end,
        set_header = function(ctx, name, value)
            headers_of(ctx)[name:lower()] = value
            ctx.request.headers[name:lower()] = value
        end,
    }
end


local function response_functions(ngx)
    local response = {}

    function response.exit_insert_callback(callback, argument)
        local list = ngx.ctx.callbacks or {}
        list[#list + 1], list[#list + 2] = callback, argument
        ngx.ctx.callbacks = list
    end

    function response.set_header(...)
        for i = 1, select("#", ...), 2 do
            ngx.header[select(i, ...)] = (select(i + 1, ...))
        end
    end

    function response.set_response_source(ctx, source)
        ctx._resp_source = source
    end

    function response.get_response_source(ctx)
        return ctx._resp_source
    end

    --- As APISIX ends a request for a plugin: `code` and `body` go through the callbacks.
    function response.exit(code, body)
        local headers = {}
        local callbacks = ngx.ctx.callbacks or {}
        for i = 1, #callbacks, 2 do
            code, body, headers = callbacks[i](code, body, headers, callbacks[i + 1])
        end
        ngx.status = code
        for name, value in pairs(headers or {}) do
            ngx.header[name] = value
        end
        if type(body) == "table" then
            ngx.print(json_text.encode(body), "\n")
        elseif body ~= nil then
            ngx.print(body)
        end
        local ctx = ngx.ctx.api_ctx
        ctx._resp_source = ctx._resp_source or "apisix"
        return ngx.exit(code)
    end

    return response
end


-- Variables that APISIX passes on to nginx when a plugin sets them.
local NGINX_VARIABLES = "^llm_"
local MORE_NGINX_VARIABLES = { request_type = true, request_llm_model = true,
                               apisix_upstream_response_time = true }


--- The table `ctx.var` of a request: its own cache, registered variables, and nginx's.
-- @tparam table registered functions by name
function _M.variables(ctx, registered)
    local cache = {}
    return setmetatable({}, {
        __index = function(_, name)
            local value = cache[name]
            if value == nil then
                local getter = registered[name]
                if getter then
                    value = getter(ctx)
                elseif sub(name, 1, 4) == "arg_" then
                    value = ("&" .. (ctx.request.var.args or "")):match("&" .. sub(name, 5) .. "=([^&]*)")
                else
                    value = ctx.request.var[name]
                end
                cache[name] = value
            end
            return value
        end,
        __newindex = function(_, name, value)
            if find(name, NGINX_VARIABLES) or MORE_NGINX_VARIABLES[name] then
                ctx.request.var[name] = value
            end
            cache[name] = value
        end,
    })
end


local function resolve_var(tpl, variables, escaper)
    local count = 0
    local resolved = gsub(tpl or "", "%${?([%w_]+)}?", function(name)
        local value = variables[name]
        if value == nil then
            return ""
        end
        count = count + 1
        return tostring(value)
    end)
    return resolved, nil, count
end


local function secret_functions(world, worker)
    local secret = {}

    function secret.is_secret_ref(value, schema)
        return type(value) == "string" and byte(value) == 36
               and (sub(value, 1, 10) == "$secret://" or sub(upper(value), 1, 7) == "$ENV://")
    end

    local function fetch_env(uri)
        return world.env[sub(uri, 8)]
    end

    function secret.fetch_by_uri(uri)
        local item, key = uri:match("^%$secret://(file/[^/]+)/(.*)$")
        local conf = item and world:item("secrets", item)
        if not conf then
            return nil, "no secret conf"
        end
        return worker.require("apisix.secret.file").get(conf, key)
    end

    local function fetch(uri)
        return sub(uri, 1, 10) == "$secret://" and secret.fetch_by_uri(uri) or fetch_env(uri)
    end

    function secret.fetch_secrets(refs, use_cache)
        local found = copied(refs)
        for key, value in pairs(found) do
            if type(value) == "table" then
                found[key] = secret.fetch_secrets(value)
            elseif secret.is_secret_ref(value) then
                found[key] = fetch(value) or value
            end
        end
        return found
    end

    function secret.has_secret_ref(conf)
        for _, value in pairs(conf) do
            if secret.is_secret_ref(value) or type(value) == "table" and secret.has_secret_ref(value) then
                return true
            end
        end
        return false
    end

    function secret.collect_secret_values(conf, use_cache)
        local values = {}
        for _, value in pairs(conf) do
            if secret.is_secret_ref(value) then
                values[value] = fetch(value)
            elseif type(value) == "table" then
                for reference, each in pairs(secret.collect_secret_values(value)) do
                    values[reference] = each
                end
            end
        end
        return values
    end

    return secret, fetch_env
end


local function add_core(modules, world, worker, fetch_env)
    modules["apisix.core"] = {
        log = log_of(world, worker),
        json = { encode = json_text.encode, decode = json.decode },
        schema = {
            TYPE_CONSUMER = 1,
            check = function()
                return true
            end,
        },
        table = table_functions(modules),
        string = {
            has_prefix = function(text, prefix)
                return sub(text, 1, #prefix) == prefix
            end,
        },
        request = request_functions(),
        response = response_functions(worker.ngx),
        ctx = {
            register_var = function(name, getter)
                worker.variables[name] = getter
            end,
        },
        config = {
            local_conf = function(force)
                return world.settings
            end,
            fetch_created_obj = function(key)
                return world.loaded[sub(key, 2)]
            end,
        },
        env = {
            get = function(name)
                return world.env[name]
            end,
            fetch_by_uri = fetch_env,
        },
        utils = {
            resolve_var = resolve_var,
            get_resolver = function(resolvers)
                return {}
            end,
        },
    }
    local function resolve(self, domain, selector)
        local address = world.addresses[domain]
        if address == false then
            return nil, "dns server error: 3 name error"
        end
        return { { address = address or domain, type = 1 }, expire = world.scheduler.now + 1e6 }
    end
    modules["apisix.core.dns.client"] = {
        RETURN_ALL = 2,
        resolve = resolve,
        new = function(opts)
            return { resolve = resolve }
        end,
    }
    modules["resty.dns.client"] = {}
    modules["apisix.cli.file"] = {
        resolve_conf_var_in_text = function(text)
            return text
        end,
    }
    modules["lyaml"] = {
        load = function(s, opts)
            return {}
        end,
    }
    modules["apisix.core.profile"] = {
        yaml_path = function(_, name)
            return "/conf/" .. name .. ".yaml"
        end,
    }
end


-- The limiters of APISIX, whose calls of Redis the gateway guards.
local function add_limiters(modules)
    local function incoming(self, key, cost)
        self.calls[#self.calls + 1] = { key, cost }
        return self.answer(key, cost)
    end

    modules["apisix.plugins.limit-count.limit-count-redis"] = { incoming = incoming }
    modules["apisix.plugins.limit-req.limit-req-redis"] = { incoming = incoming }
    modules["apisix.plugins.limit-count.limit-count-local"] = {
        incoming = function(self, key, flag_or_cost, conf, cost)
            return incoming(self, key, flag_or_cost)
        end,
    }
    modules["apisix.plugins.limit-req.util"] = {
        incoming = function(self, _, key, commit)
            return incoming(self, key, commit)
        end,
    }
end


local function add_plugin_modules(modules, world, worker)
    modules["apisix.plugin"] = {
        plugin_attr = function(name)
            return (world.settings.plugin_attr or {})[name]
        end,
        skip_plugin = function(ctx, name)
            ctx.skipped = ctx.skipped or {}
            ctx.skipped[name] = true
        end,
        conf_version = function(conf)
            return "version of " .. json_text.encode(conf)
        end,
    }
    modules["apisix.http.service"] = {
        get = function(id)
            return world.services[id]
        end,
        services = function()
            local list = {}
            for _, item in pairs(world.services) do
                list[#list + 1] = item
            end
            return list, world.services_version
        end,
    }
    modules["apisix.utils.log-util"] = {
        latency_details_in_ms = function(ctx)
            local whole = (worker.ngx.now() - ctx.request.started) * 1000
            local states = ctx.request.upstream_states
            local last = states and states[#states]
            local upstream = last and tonumber(last.response_time)
            return whole, upstream, whole - (upstream or 0)
        end,
    }
    modules["apisix.plugins.prometheus.exporter"] = {
        get_prometheus = function()
            return worker.prometheus
        end,
        init_exporter_timer = function()
            worker.exporter_timers = (worker.exporter_timers or 0) + 1
        end,
    }
end


-- The contract with APISIX is checked elsewhere, against APISIX itself: here all of it holds.
local function contract(worker)
    local opened = {}
    return {
        part = function()
            return function(name, path)
                local found = worker.require(name)
                for member in (path or ""):gmatch("[^.]+") do
                    found = found[member]
                end
                return found
            end
        end,
        open = function(part, argument)
            local module = worker.require("apisix_internals." .. part)
            if module.install and not opened[part] then
                opened[part] = true
                module.install(argument)
            end
        end,
        problems = function()
            return worker.contract_problems or {}
        end,
        listen = function(callback)
            callback({})
        end,
        report = function(what)
            error("APISIX differs: " .. what)
        end,
    }
end


--- Adds them to the modules of a worker.
function _M.add(modules, world, worker)
    local fetch_env
    modules["apisix.secret"], fetch_env = secret_functions(world, worker)
    add_core(modules, world, worker, fetch_env)
    add_limiters(modules)
    add_plugin_modules(modules, world, worker)
    modules["apisix_internals.contract"] = contract(worker)
    -- It reads nginx's memory through FFI.
    modules["apisix_internals.request_line"] = {
        hide_query = function()
            -- The bytes that nginx's variables are read from.
            local var = worker.current().var
            for _, name in ipairs({ "real_request_uri", "request_uri" }) do
                var[name] = gsub(var[name] or "", "(%?)(.*)", function(mark, query)
                    return mark .. ("*"):rep(#query)
                end)
            end
            return not world.cannot_hide_queries
        end,
    }
end


return _M
