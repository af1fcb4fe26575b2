--- Everything of APISIX 3.18.0 that the parts of this folder rely on, as data. `contract` checks it
-- at start, and a test starts APISIX with each of these terms changed.
--
-- A part has a list of modules. Of a module:
--
-- * `functions`: their parameters by name. The number of parameters must be the same. A name may
--   begin with those of tables, such as `config.local_conf`.
-- * `replaced`: the same for functions that a patch of the part replaces.
-- * `fields`: the types of other members, by name.
-- * `mentions`: texts that its source must contain; white space does not count. They check the
--   names in the context of a request. They also check that APISIX calls a function through its
--   table, because only then has a patch of the table an effect.
-- * `behaviour`: tests by what they prove; they get the module and return true.
-- * `symbols`: functions of nginx that are called through FFI.
-- `core_members` has no module in this folder: it lists members of `apisix.core` that plugins and
-- the gateway use directly and that APISIX's documentation does not describe.

local next = next
local shared = ngx and ngx.shared or {}

local SPAN_ID, TRACE_ID = ("1"):rep(16), ("1"):rep(32)


return {
    client_abort = {
        {
            module = "resty.core.base",
            functions = { get_request = "" },
        },
    },

    config_loader = {
        {
            module = "apisix.cli.file",
            replaced = { resolve_conf_var_in_text = "text" },
            mentions = { '"%$%{%{%s*([%w_]+[%:%=]?.-)%s*%}%}"' },
        },
        {
            module = "apisix.core.config_yaml",
            mentions = { "file.resolve_conf_var_in_text(raw_config)", "yaml.load(resolved)" },
        },
        {
            module = "lyaml",
            replaced = { load = "s, opts" },
        },
    },

    core_members = {
        {
            module = "apisix.core",
            functions = {
                ["request.set_header"] = "ctx, header_name, header_value",
                ["table.deep_eq"] = "a, b",
            },
        },
    },

    counter_names = {
        {
            module = "apisix.plugin",
            replaced = { conf_version = "conf" },
        },
        -- These functions compose the keys of counters. Only configurations of limiters have this
        -- field.
        {
            module = "apisix.plugins.limit-count.init",
            mentions = { "apisix_plugin.conf_version(conf)", "conf.allow_degradation",
                         "conf._meta.parent", "parent.resource_key .. ':'" },
        },
        {
            module = "apisix.plugins.limit-req",
            mentions = { "apisix_plugin.conf_version(conf)", "conf.allow_degradation",
                         "conf._meta.parent", "parent.resource_key .. ':'" },
        },
        {
            module = "apisix.plugins.ai-rate-limiting",
            mentions = { "limit_count.rate_limit(", "plugin_conf.allow_degradation" },
        },
    },

    limiters = {
        {
            module = "apisix.plugins.limit-count.limit-count-local",
            replaced = { incoming = "self, key, flag_or_cost, conf, cost" },
            mentions = { "__index = _M", "limit_count = limit_count.new(" },
        },
        {
            module = "resty.limit.count",
            behaviour = {
                ["an object has its shared memory as dict"] = function(limit_count)
                    -- Any shared memory serves for this test.
                    local name = next(shared)
                    return limit_count.new(name, 1, 1).dict == shared[name]
                end,
            },
        },
        {
            module = "apisix.plugins.limit-count.limit-count-redis",
            replaced = { incoming = "self, key, cost" },
            mentions = { "__index = _M", "conf = conf", "plugin_name = plugin_name" },
        },
        {
            module = "apisix.plugins.limit-req.limit-req-redis",
            replaced = { incoming = "self, key, commit" },
            mentions = {
                "__index = _M",
                "conf = conf",
                "plugin_name = plugin_name",
                "burst = burst * 1000",
                "rate = rate * 1000",
                "util.incoming(self, red, key, commit)",
            },
        },
        {
            module = "apisix.plugins.limit-req.util",
            replaced = { incoming = "self, red, key, commit" },
            mentions = { '"limit_req" .. ":" .. key' },
        },
        -- The gateway recognizes which limiter rejected a request by the configured answer of that
        -- limiter, and reads the end of the window from its headers.
        {
            module = "apisix.plugins.limit-count.init",
            mentions = {
                '"plugin-" .. plugin_name',
                "return conf.rejected_code, { error_msg = conf.rejected_msg }",
                'reset_header = "X-RateLimit-Reset"',
                'remaining_header = "X-RateLimit-Remaining"',
                'prefix .. "-RateLimit-"',
                "set_limit_headers.remaining_header, 0,",
            },
        },
        {
            module = "apisix.plugins.limit-req",
            mentions = {
                '"plugin-limit-req"',
                "return conf.rejected_code, { error_msg = conf.rejected_msg }",
            },
        },
        {
            module = "apisix.plugins.ai-rate-limiting",
            mentions = {
                "rejected_code = plugin_conf.rejected_code",
                "rejected_msg = plugin_conf.rejected_msg",
                'reset_header = "X-AI-RateLimit-Reset"',
                'remaining_header = "X-AI-RateLimit-Remaining"',
            },
        },
        -- The gateway replaces the password of Redis in the limiter's configuration.
        {
            module = "apisix.utils.redis",
            mentions = { "conf.redis_password" },
        },
    },

    loaded_config = {
        {
            module = "apisix.core",
            functions = { ["config.fetch_created_obj"] = "key" },
        },
        {
            module = "apisix.core.config_yaml",
            mentions = {
                "self.conf_version = conf_version",
                "self.values_hash[item_id] = #self.values",
                "local modifiedIndex = item.modifiedIndex or conf_version",
                "conf_version = 0",
            },
        },
        {
            module = "apisix.core.profile",
            functions = { yaml_path = "self, file_name" },
        },
        {
            module = "apisix.http.service",
            functions = { get = "service_id", services = "" },
        },
        {
            module = "apisix",
            mentions = {
                'api_ctx.conf_version = route.modifiedIndex .. "&" .. service.modifiedIndex',
                "api_ctx.service_id = service.value.id",
            },
        },
    },

    metrics_page = {
        {
            module = "apisix.plugins.prometheus.exporter",
            functions = { get_prometheus = "" },
            replaced = { init_exporter_timer = "" },
            mentions = { "core.table.concat(prometheus:metric_data())" },
        },
        {
            module = "prometheus",
            replaced = { metric_data = "self" },
        },
        {
            module = "apisix.plugin",
            mentions = { 'require("apisix.plugins.prometheus.exporter").init_exporter_timer()' },
        },
    },

    name_resolution = {
        {
            module = "apisix.core",
            functions = {
                ["config.local_conf"] = "force",
                ["utils.get_resolver"] = "resolvers",
            },
        },
        {
            module = "apisix.core.dns.client",
            functions = { new = "opts", resolve = "self, domain, selector" },
            fields = { RETURN_ALL = "number" },
            mentions = { "dns_client_mod.init(opts)", "return table.deepcopy(answers)" },
        },
        {
            module = "resty.dns.client",
            mentions = {
                "staleTtl = options.staleTtl or",
                "badTtl = options.badTtl or",
                "emptyTtl = options.emptyTtl or",
                "validTtl = options.validTtl",
                "entry.expire = now + ttl",
                "record.address = utils.parseHostname(record.address)",
            },
        },
    },

    process_config = {
        {
            module = "apisix.core",
            functions = {
                ["config.local_conf"] = "force",
                ["env.get"] = "name",
                ["table.try_read_attr"] = "tab, ...",
            },
        },
        {
            module = "apisix.plugin",
            functions = { plugin_attr = "name" },
        },
    },

    redis_clients = {
        {
            module = "resty.redis",
            replaced = { connect = "self, host, port_or_opts, opts" },
            mentions = { "__index = _M", "opts.server_name" },
        },
        {
            module = "apisix.utils.redis",
            functions = { new = "conf" },
            mentions = {
                'require("resty.redis").new',
                "red:connect(conf.redis_host, conf.redis_port or 6379, sock_opts)",
                "ssl = conf.redis_ssl,",
                "ssl_verify = conf.redis_ssl_verify,",
                "conf.redis_timeout",
                "conf.redis_username",
                "conf.redis_password",
                "conf.redis_database",
            },
        },
    },

    request_context = {
        {
            module = "apisix.core",
            functions = {
                ["request.headers"] = "ctx",
                ["response.exit_insert_callback"] = "func, conf",
                ["response.get_response_source"] = "ctx",
                ["response.set_response_source"] = "ctx, source",
                ["utils.resolve_var"] = "tpl, ctx, escaper",
            },
            behaviour = {
                ["get_response_source returns what set_response_source has set"] = function(core)
                    local ctx = {}
                    core.response.set_response_source(ctx, "upstream")
                    return core.response.get_response_source(ctx) == "upstream"
                end,
                ["resolve_var returns the number of variables found as its third result"] =
                    function(core)
                        local text, _, found = core.utils.resolve_var("$a-$b", { a = "1" })
                        return text == "1-" and found == 1
                    end,
            },
        },
        {
            module = "apisix.core.request",
            mentions = { "ctx.headers = get_headers()" },
        },
        {
            module = "apisix.core.response",
            mentions = {
                "for i = 1, #exit_callback_funcs, 2 do",
                "code, body, headers = callback_func(code, body, headers, callback_conf)",
            },
        },
        {
            module = "apisix.plugin",
            functions = { skip_plugin = "ctx, plugin_name" },
            mentions = {
                'api_ctx._skip_plugins[plugins[i]["name"]]',
                "local conf = plugins[i + 1]",
            },
        },
        {
            module = "apisix",
            mentions = {
                "if api_ctx.bypass_nginx_upstream then",
                "api_ctx.plugins = plugins",
                "api_ctx.matched_route = route",
                "api_ctx.var.real_request_uri = api_ctx.var.request_uri",
                -- A request that is routed a second time gets a new context.
                'local api_ctx = core.tablepool.fetch("api_ctx", 0, 32)',
            },
        },
        {
            module = "apisix.http.route",
            mentions = { "api_ctx.curr_req_matched = match_opts.matched" },
        },
        {
            module = "apisix.utils.log-util",
            functions = { latency_details_in_ms = "ctx" },
            mentions = {
                "return latency, upstream_latency, apisix_latency",
                "entry.llm_summary = ctx.llm_summary",
            },
        },
        -- Variables that a plugin may set for the access log.
        {
            module = "apisix.core.ctx",
            mentions = {
                "apisix_upstream_response_time = true",
                "llm_cache_read_input_tokens = true",
                "llm_completion_tokens = true",
                -- The leading space ensures that this is not the end of another name.
                " llm_model = true",
                "llm_prompt_tokens = true",
                "llm_reasoning_tokens = true",
                "llm_stream = true",
                "llm_time_to_first_token = true",
                "llm_total_tokens = true",
                "request_llm_model = true",
                "request_type = true",
            },
        },
    },

    request_line = {
        {
            module = "resty.core.base",
            functions = { get_request = "" },
        },
        {
            module = "resty.core.var",
            symbols = { "ngx_http_lua_ffi_var_get" },
        },
    },

    secret_cache = {
        {
            module = "apisix.secret",
            functions = { is_secret_ref = "value, schema" },
            replaced = {
                collect_secret_values = "conf, use_cache",
                fetch_secrets = "refs, use_cache",
                has_secret_ref = "conf",
            },
        },
        {
            module = "apisix.plugin",
            mentions = {
                "secret.collect_secret_values(conf, true)",
                "secret.fetch_secrets(conf, true)",
                "secret.has_secret_ref(conf)",
            },
        },
    },

    secrets = {
        {
            module = "apisix.core",
            functions = { ["env.fetch_by_uri"] = "env_uri" },
        },
        {
            module = "apisix.secret",
            functions = {
                fetch_by_uri = "secret_uri",
                fetch_secrets = "refs, use_cache",
                is_secret_ref = "value, schema",
            },
            behaviour = {
                ["is_secret_ref knows references from other texts"] = function(secret)
                    return secret.is_secret_ref("$env://NAME") == true
                           and secret.is_secret_ref("$secret://file/1/NAME") == true
                           and secret.is_secret_ref("$5") == false
                end,
            },
            -- How APISIX calls the secret manager `file`.
            mentions = {
                'pcall(require, "apisix.secret." .. opts.manager)',
                "sm.get(conf, opts.key)",
                'find(conf.id or "", "/")',
                -- APISIX leaves a reference that it cannot resolve as it is.
                "refs[k] = val or v",
            },
        },
    },

    socket_numbers = {
        {
            module = "resty.core.socket",
            symbols = { "ngx_http_lua_ffi_socket_tcp_getfd" },
            mentions = { "registry.__tcp_cosocket_mt", "method_table.getfd = getfd" },
        },
    },

    spans = {
        {
            module = "opentelemetry.attribute",
            functions = {
                bool = "key, value",
                double = "key, value",
                int = "key, value",
                string = "key, value",
            },
        },
        {
            module = "opentelemetry.resource",
            functions = { new = "..." },
        },
        {
            module = "opentelemetry.trace.batch_span_processor",
            functions = { get_queue_size = "self", new = "exporter, opts", on_end = "self, span" },
            mentions = {
                "opts.drop_on_queue_full ~= nil",
                "opts.max_queue_size or",
                "opts.max_export_batch_size or",
                "opts.batch_timeout or",
                "opts.inactive_timeout or",
                "self.exporter:export_spans(",
            },
        },
        {
            module = "opentelemetry.trace.exporter.otlp",
            functions = { encode_spans = "self, spans" },
        },
        {
            module = "opentelemetry.trace.exporter.pb",
            functions = { encode = "payload" },
        },
        {
            module = "opentelemetry.trace.recording_span",
            functions = {
                finish = "self, end_timestamp",
                new = "tracer, parent_ctx, ctx, name, config, start_time",
                set_status = "self, code, message",
            },
        },
        {
            module = "opentelemetry.trace.span_context",
            functions = { new = "tid, sid, trace_flags, trace_state, remote" },
        },
        {
            module = "opentelemetry.trace.span_kind",
            fields = { client = "number", server = "number" },
        },
        {
            module = "opentelemetry.trace.span_status",
            fields = { ERROR = "number" },
        },
        {
            module = "opentelemetry.trace.tracer_provider",
            functions = { new = "span_processors, opts", tracer = "self, name, opts" },
            behaviour = {
                ["a span goes to its processor when it ends, and can be encoded"] =
                    function(tracer_provider)
                        local otlp = require("opentelemetry.trace.exporter.otlp")
                        local pb = require("opentelemetry.trace.exporter.pb")
                        local recording_span = require("opentelemetry.trace.recording_span")
                        local span_context = require("opentelemetry.trace.span_context")
                        local ended
                        local processor = { on_end = function(_, span) ended = span end }
                        local tracer = tracer_provider.new({ processor }, {}):tracer("contract")
                        local context = span_context.new(TRACE_ID, SPAN_ID, 1)
                        recording_span.new(tracer, context, context, "contract", {}, 1):finish(2)
                        return #pb.encode(otlp.encode_spans({}, { ended })) > 0
                    end,
            },
        },
    },

    token_budget = {
        {
            module = "apisix.plugins.ai-rate-limiting",
            mentions = {
                "ctx.picked_ai_instance_name",
                "ctx.ai_token_usage",
                "ctx.llm_raw_usage",
                "usage[conf.limit_strategy]",
                '"total_tokens", "prompt_tokens", "completion_tokens"',
            },
        },
    },

    upstream_state = {
        {
            module = "resty.apisix.upstream",
            functions = { push_upstream_state = "opts", update_upstream_state = "opts" },
            symbols = {
                "ngx_http_apisix_push_upstream_state",
                "ngx_http_apisix_update_upstream_state",
            },
            mentions = { "opts.addr", "opts.status", "opts.header_time", "opts.response_time" },
        },
    },
}
