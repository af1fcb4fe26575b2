--- The patches of apisix_internals, on modules that stand for APISIX's.

local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- Whatever a part needs of APISIX, as the terms of a part: the contract then holds.
local function terms_of(modules)
    local entries = {}
    for name in pairs(modules) do
        entries[#entries + 1] = { module = name, functions = {} }
    end
    return entries
end


-- Runs `work(part, contract)` with a part that is opened twice, as where plugins are loaded again.
local function with_part(name, modules, argument, work, more_of_ngx)
    local loaded = {
        ["apisix_internals.contract_terms"] = { core_members = {}, [name] = terms_of(modules) },
        ["apisix.core.version"] = { VERSION = "3.18.0" },
    }
    for module, value in pairs(modules) do
        loaded[module] = value
    end
    ngx = { ERR = 4, WARN = 5, log = function() end, now = function() return 0 end }
    for member, value in pairs(more_of_ngx or {}) do
        ngx[member] = value
    end
    for module, value in pairs(loaded) do
        package.loaded[module] = value
    end
    local contract = require("apisix_internals.contract")
    contract.open(name, argument)
    contract.open(name, argument)
    local part = require("apisix_internals." .. name)
    local ok, err = pcall(work, part, contract)
    loaded["apisix_internals." .. name] = true
    loaded["apisix_internals.contract"] = true
    for module in pairs(loaded) do
        package.loaded[module] = nil
    end
    ngx = nil
    if not ok then
        error(err, 0)
    end
end


describe("names of counters", function()
    it("are the same for all configurations of a limiter, and APISIX's for others", function()
        local asked = 0
        local plugin = {
            conf_version = function(conf)
                asked = asked + 1
                return "of " .. conf.name
            end,
        }
        with_part("counter_names", { ["apisix.plugin"] = plugin }, nil, function()
            equal(plugin.conf_version({ name = "a", allow_degradation = false }), "1")
            equal(plugin.conf_version({ name = "b", allow_degradation = true }), "1")
            equal(asked, 0)
            equal(plugin.conf_version({ name = "c" }), "of c")
            equal(asked, 1)
        end)
    end)
end)


describe("the loader of apisix.yaml", function()
    local function opened(work)
        local calls = {}
        local file = {
            resolve_conf_var_in_text = function(text)
                calls[#calls + 1] = "resolve"
                return text:gsub("%${{A}}", "a")
            end,
        }
        local lyaml = {
            load = function(text, opts)
                calls[#calls + 1] = "load"
                return { text, opts }
            end,
        }
        package.loaded["cjson.safe"] = {
            new = function()
                return { decode = function(text) return { "JSON " .. text } end,
                         decode_invalid_numbers = function() end }
            end,
        }
        with_part("config_loader", { ["apisix.cli.file"] = file, lyaml = lyaml }, nil, function()
            work(file.resolve_conf_var_in_text, lyaml.load, calls)
        end)
        package.loaded["cjson.safe"] = nil
    end

    it("reads what the compiler writes by itself, and nothing else", function()
        opened(function(_, load, calls)
            equal(load('routes:\n  - id: "a"\n    b: [1]\n#END\n'),
                  { routes = { { id = "a", b = { "JSON [1]" } } } })
            equal(calls, {})
            equal(load("routes: []\n---\n"), { "routes: []\n---\n" })
            equal(load("a: 1\n", { all = true }), { "a: 1\n", { all = true } })
            equal(calls, { "load", "load" })
        end)
    end)

    it("leaves a text in which nothing is replaced as it is", function()
        opened(function(resolve, _, calls)
            equal((resolve("a: $b ${c} {{d}}")), "a: $b ${c} {{d}}")
            equal(calls, {})
            equal((resolve("a: ${{A}}")), "a: a")
            equal(calls, { "resolve" })
        end)
    end)
end)


describe("limiters", function()
    local function opened(work)
        local calls = {}
        local function incoming(name, ...)
            local results = { ... }
            return function(...)
                calls[#calls + 1] = { name, ... }
                return unpack(results)
            end
        end
        local modules = {
            ["apisix.plugins.limit-count.limit-count-local"] = { incoming = incoming("local", 0, 5, 60) },
            ["apisix.plugins.limit-count.limit-count-redis"] = { incoming = incoming("redis", 0, 7, 8) },
            ["apisix.plugins.limit-req.limit-req-redis"] = { incoming = incoming("req", 0, 1) },
            ["apisix.plugins.limit-req.util"] = { incoming = incoming("util", 0, 2) },
        }
        local guarded = {}
        local function guard(call, key, cost)
            guarded[#guarded + 1] = { call.limiter, call.conf, call.free, key, cost }
            return call.incoming(call.self, key, cost)
        end
        with_part("limiters", modules, guard, function()
            work(modules, calls, guarded)
        end)
    end

    it("report the true end of a window, with all that they are given", function()
        opened(function(modules, calls)
            local counter = { ttl = function(_, key)
                return key == "k" and 42
            end }
            local class = modules["apisix.plugins.limit-count.limit-count-local"]
            local limiter = { limit_count = { dict = counter } }
            equal({ class.incoming(limiter, "k", true, "conf", 3) }, { 0, 5, 42 })
            equal(calls, { { "local", limiter, "k", true, "conf", 3 } })
            -- A sliding window has no such memory.
            equal({ class.incoming({ limit_count = {} }, "k", 1) }, { 0, 5, 60 })
        end)
    end)

    it("call Redis through the guard, once", function()
        opened(function(modules, calls, guarded)
            local class = modules["apisix.plugins.limit-count.limit-count-redis"]
            local limiter = { plugin_name = "plugin-limit-count", conf = { a = 1 } }
            equal({ class.incoming(limiter, "k", 3) }, { 0, 7, 8 })
            equal(guarded, { { "limit-count", { a = 1 }, 0, "k", 3 } })
            equal(calls, { { "redis", limiter, "k", 3 } })

            class = modules["apisix.plugins.limit-req.limit-req-redis"]
            limiter = { plugin_name = "plugin-limit-req", conf = { b = 1 } }
            equal({ class.incoming(limiter, "k", true) }, { 0, 1 })
            equal(guarded[2], { "limit-req", { b = 1 }, false, "k", true })
        end)
    end)

    it("keep a client of a slow rate in Redis until its rate allows a request", function()
        opened(function(modules)
            local expired = {}
            local red = { expire = function(_, key, seconds)
                expired[#expired + 1] = { key, seconds }
            end }
            local util = modules["apisix.plugins.limit-req.util"]
            util.incoming({ rate = 100, burst = 0 }, red, "k", true)
            util.incoming({ rate = 100, burst = 5000 }, red, "k", true)
            util.incoming({ rate = 100, burst = 0 }, red, "k", false)
            util.incoming({ rate = 1000, burst = 0 }, red, "k", true)
            equal(expired, { { "limit_req:k", 11 }, { "limit_req:k", 61 } })
        end)
    end)
end)


describe("clients of Redis", function()
    it("verify the name of a server with TLS", function()
        local connected = {}
        local redis = { connect = function(_, host, port, options)
            connected[#connected + 1] = { host, port, options }
            return true
        end }
        with_part("redis_clients", { ["resty.redis"] = redis, ["apisix.utils.redis"] = {} }, nil, function()
            equal(redis.connect({}, "a.test", 6380, { ssl = true }), true)
            redis.connect({}, "b.test", 6380, { ssl = true, server_name = "c.test" })
            redis.connect({}, "d.test", 6379, {})
            redis.connect({}, "unix:/e", nil)
            equal(connected, {
                { "a.test", 6380, { ssl = true, server_name = "a.test" } },
                { "b.test", 6380, { ssl = true, server_name = "c.test" } },
                { "d.test", 6379, {} },
                { "unix:/e" },
            })
        end)
    end)

    -- Runs `check(with, seen)`: `with` calls a Redis, and `seen` are the calls of the connection.
    local function with_redis(check, new)
        local seen = {}
        local client = {
            name = "a client",
            set_keepalive = function(_, ...)
                seen[#seen + 1] = { "kept", ... }
            end,
            close = function()
                seen[#seen + 1] = { "closed" }
            end,
        }
        local utils = { new = new or function(conf)
            seen[#seen + 1] = { "new", conf.redis_host }
            return client
        end }
        local modules = { ["resty.redis"] = {}, ["apisix.utils.redis"] = utils }
        with_part("redis_clients", modules, nil, function(part)
            check(function(...)
                return part.with({ redis_host = "a.test" }, ...)
            end, seen)
        end)
    end

    it("keep the connection when the work has a result, even one that says null", function()
        with_redis(function(with, seen)
            local function echo(client, ...)
                return { client.name, ... }
            end
            equal({ with(echo, 1, nil, 3) }, { { "a client", 1, nil, 3 } })
            local null = {}
            equal(with(function() return null end) == null, true)
            equal(seen, { { "new", "a.test" }, { "kept", 60000, 64 },
                          { "new", "a.test" }, { "kept", 60000, 64 } })
        end)
    end)

    it("close the connection when it failed, and after an error that Redis replied", function()
        with_redis(function(with, seen)
            equal({ with(function() return nil, "timeout" end) }, { nil, "timeout" })
            equal({ with(function() return false, "READONLY" end) }, { nil, "READONLY" })
            equal(seen, { { "new", "a.test" }, { "closed" }, { "new", "a.test" }, { "closed" } })
        end)
    end)

    it("close the connection when the work throws an error, and throw it again", function()
        with_redis(function(with, seen)
            local thrown = {}
            local ok, err = pcall(with, function() error(thrown) end)
            equal({ ok, err == thrown, seen }, { false, true, { { "new", "a.test" }, { "closed" } } })
        end)
    end)

    it("return the error, and do no work, when there is no connection", function()
        -- APISIX's client returns false or nil.
        for _, client in ipairs({ { value = false }, { value = nil } }) do
            with_redis(function(with, seen)
                equal({ with(function() error("called") end) }, { nil, "refused" })
                equal(seen, {})
            end, function()
                return client.value, "refused"
            end)
        end
    end)
end)


describe("values of secret references", function()
    it("are collected once a second, and stay the same table while they do", function()
        local collected, value, now = {}, "a", 0
        local secret = {
            collect_secret_values = function(conf)
                local values = {}
                for _, reference in ipairs(conf) do
                    collected[#collected + 1] = reference
                    values[reference] = reference == "$ENV://B" and "b" or value
                end
                return values
            end,
            has_secret_ref = function() return true end,
            fetch_secrets = function() end,
            is_secret_ref = function(each)
                return type(each) == "string" and each:sub(1, 1) == "$"
            end,
        }
        with_part("secret_cache", { ["apisix.secret"] = secret }, nil, function()
            local conf = { "$secret://file/1/A", { "$ENV://B" }, "plain" }
            local first = secret.collect_secret_values(conf, true)
            equal(first, { ["$secret://file/1/A"] = "a", ["$ENV://B"] = "b" })
            equal(secret.collect_secret_values(conf, true) == first, true)
            equal(#collected, 2)
            now = 1
            equal(secret.collect_secret_values(conf, true) == first, true)
            now, value = 2, "c"
            equal(secret.collect_secret_values(conf, true),
                  { ["$secret://file/1/A"] = "c", ["$ENV://B"] = "b" })
            -- A variable is resolved once, for all configurations.
            equal(secret.collect_secret_values({ "$ENV://B" }, true), { ["$ENV://B"] = "b" })
            equal(collected, { "$ENV://B", "$secret://file/1/A", "$secret://file/1/A",
                               "$secret://file/1/A" })
            secret.collect_secret_values({ "$ENV://B" }, false)
            equal(#collected, 5)
        end, { now = function() return now end })
    end)

    -- Runs `work(secret, values, state)`: `state.now` is the time, `state.copies` counts APISIX's own copies.
    local function with_values(work)
        local values, state = { ["$env://A"] = "a" }, { now = 0, copies = 0 }
        local secret = {
            collect_secret_values = function(conf)
                return { [conf[1]] = values[conf[1]] }
            end,
            has_secret_ref = function() return true end,
            is_secret_ref = function(value)
                return type(value) == "string" and value:sub(1, 1) == "$"
            end,
            fetch_secrets = function()
                state.copies = state.copies + 1
                return "APISIX's own"
            end,
        }
        with_part("secret_cache", { ["apisix.secret"] = secret }, nil, function()
            work(secret, values, state)
        end, { now = function() return state.now end })
    end

    it("are put into a copy of what holds references, and the rest is not copied", function()
        with_values(function(secret, _, state)
            local plain = { name = "b", key = "of b" }
            local conf = {
                instances = { { name = "a", auth = { key = "$env://A" } }, plain },
                list = setmetatable({ "$env://A", "c" }, { __index = { d = 1 } }),
                size = 2,
            }
            secret.collect_secret_values(conf, true)
            local copy = secret.fetch_secrets(conf, true)
            equal(copy, {
                instances = { { name = "a", auth = { key = "a" } }, plain },
                list = { "a", "c" },
                size = 2,
            })
            equal({ copy.instances[2] == plain, copy.list.d, state.copies }, { true, 1, 0 })
            equal(conf.instances[1].auth.key, "$env://A")
        end)
    end)

    it("leave the copy to APISIX where one is missing, was read before, or must not be kept", function()
        with_values(function(secret, _, state)
            local missing, old = { a = "$env://A", b = "$env://B" }, { a = "$env://A" }
            secret.collect_secret_values(missing, true)
            equal(secret.fetch_secrets(missing, true), "APISIX's own")
            equal(secret.fetch_secrets({ a = "$env://A" }, true), "APISIX's own")
            secret.collect_secret_values(old, true)
            equal(secret.fetch_secrets(old, false), "APISIX's own")
            equal(secret.fetch_secrets(old, true), { a = "a" })
            state.now = 1
            equal(secret.fetch_secrets(old, true), "APISIX's own")
            equal(state.copies, 4)
        end)
    end)
end)


describe("the page of metrics", function()
    local function opened(process_type, prometheus, work)
        local calls = 0
        local exporter = {
            get_prometheus = function() return prometheus end,
            init_exporter_timer = function() calls = calls + 1 end,
        }
        local process = package.loaded["ngx.process"]
        package.loaded["ngx.process"] = { type = function() return process_type end }
        package.loaded["apisix.core"] = { log = { error = function() end } }
        local function render(out)
            out[#out + 1] = "own"
        end
        with_part("metrics_page", { ["apisix.plugins.prometheus.exporter"] = exporter }, render,
                  function(_, contract)
            exporter.init_exporter_timer()
            work(contract, calls, exporter)
        end, { get_phase = function() return "timer" end, sleep = function() end })
        package.loaded["ngx.process"], package.loaded["apisix.core"] = process, nil
    end

    it("has the gateway's metrics once, also where the exporter is started again", function()
        local prometheus = { metric_data = function() return { "apisix" } end }
        opened("privileged agent", prometheus, function(contract, calls, exporter)
            exporter.init_exporter_timer()
            equal(prometheus:metric_data(), { "apisix", "own" })
            equal(calls, 1)
            equal(contract.problems(), {})
        end)
    end)

    it("is left alone by workers", function()
        local prometheus = { metric_data = function() return { "apisix" } end }
        opened("worker", prometheus, function()
            equal(prometheus:metric_data(), { "apisix" })
        end)
    end)

    it("breaks the contract where the exporter's object has another shape", function()
        opened("privileged agent", {}, function(contract)
            equal(contract.problems(), {
                "APISIX differs from what this gateway relies on: the exporter's object has no function"
                .. " metric_data. Use APISIX 3.18.0",
            })
        end)
    end)
end)


describe("the configuration that is loaded", function()
    local function opened(work)
        local routes = { conf_version = 5, values_hash = { a = 1 }, values = { "a" } }
        local service = { modifiedIndex = 12, value = { name = "new" } }
        local modules = {
            ["apisix.core"] = { config = { fetch_created_obj = function(key)
                return key == "/routes" and routes or nil
            end } },
            ["apisix.core.profile"] = { yaml_path = function(self, name)
                return self and name .. ".yaml"
            end },
            ["apisix.http.service"] = {
                get = function(id) return id == "s" and service or nil end,
                services = function() return {}, 7 end,
            },
        }
        with_part("loaded_config", modules, nil, work)
    end

    it("is told by resource", function()
        opened(function(loaded_config)
            equal(loaded_config.path(), "apisix.yaml")
            equal(loaded_config.items("routes"), { version = 5, by_id = { a = 1 }, list = { "a" } })
            equal({ loaded_config.version("routes"), loaded_config.version("secrets") }, { 5 })
            equal({ loaded_config.items("secrets"), (loaded_config.services()) }, { nil, {} })
        end)
    end)

    it("has a newer service for requests that began with an older one", function()
        opened(function(loaded_config)
            local function newer(ctx)
                return loaded_config.newer_service(ctx)
            end
            equal(newer({ service_id = "s", conf_version = "10&11" }), { name = "new" })
            equal(newer({ service_id = "s", conf_version = "10&12" }), nil)
            equal(newer({ service_id = "gone", conf_version = "10&11" }), nil)
            equal(newer({ conf_version = "10" }), nil)
        end)
    end)
end)


describe("secret references", function()
    it("are never taken for secrets", function()
        local values = { ["$env://A"] = "a", ["$env://C"] = "$env://A" }
        local secret = {
            is_secret_ref = function(value)
                return type(value) == "string" and value:sub(1, 1) == "$"
            end,
            fetch_secrets = function(refs)
                return { key = values[refs.key] or refs.key }
            end,
            fetch_by_uri = function() error("no secret manager") end,
        }
        local core = { env = { fetch_by_uri = function(uri)
            return uri == "$env://A" and "a" or nil
        end } }
        with_part("secrets", { ["apisix.secret"] = secret, ["apisix.core"] = core }, nil, function(secrets)
            equal({ secrets.is_reference("$env://A"), secrets.is_reference("a") }, { true, false })
            equal(secrets.resolve("$env://A"), "a")
            equal(secrets.resolve("$env://B"), nil)
            equal(secrets.resolve("$env://C"), nil)
            equal(secrets.resolved_silently("$env://A"), "a")
            equal(secrets.resolved_silently("$env://B"), "$env://B")
            equal(secrets.resolved_silently("$secret://file/1/B"), "$secret://file/1/B")
            equal(secrets.resolved_silently("plain"), "plain")
        end)
    end)
end)
