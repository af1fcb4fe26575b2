--- Members of APISIX's request context beyond the documented plugin interface: the active plugins,
-- callbacks for early answers, cached headers, consumer and route.

local contract = require("apisix_internals.contract")
local nkeys = require("table.nkeys")
local exec = ngx.exec
local get_headers = ngx.req.get_headers
local is_internal = ngx.req.is_internal

local need = contract.part("request_context")
local cached_headers = need("apisix.core", "request.headers")
local exit_insert_callback = need("apisix.core", "response.exit_insert_callback")
local get_response_source = need("apisix.core", "response.get_response_source")
local latency_details = need("apisix.utils.log-util", "latency_details_in_ms")
local resolve_var = need("apisix.core", "utils.resolve_var")
local set_response_source = need("apisix.core", "response.set_response_source")
local skip_plugin = need("apisix.plugin", "skip_plugin")

local _M = {}

-- The number of headers that APISIX reads into its cache at most.
local CACHED_HEADERS = 100


--- Routes the request a second time with another path, by an internal redirect of nginx: APISIX
-- chooses a route for that path and creates a new context. Does not return. Values that plugins
-- have put into the old context are lost; nginx's own data of the request remain.
-- @tparam string path as a client would write it
-- @tparam string|nil args
function _M.reroute(path, args)
    return exec(path, args)
end


--- Whether this request was routed a second time.
function _M.is_rerouted()
    return is_internal()
end


--- The configuration of a plugin that is active for this request, with secret references resolved.
-- @treturn table|nil
function _M.plugin_conf(ctx, name)
    local plugins = ctx.plugins
    for i = 1, #plugins, 2 do
        if plugins[i].name == name then
            return plugins[i + 1]
        end
    end
    return nil
end


--- The plugins that are active for this request.
-- @treturn table names by position, in the order in which they run
-- @treturn table their configurations by position
function _M.plugins(ctx)
    local plugins = ctx.plugins
    local names, confs = {}, {}
    for i = 1, #plugins, 2 do
        names[#names + 1], confs[#confs + 1] = plugins[i].name, plugins[i + 1]
    end
    return names, confs
end


--- Skips a plugin in the remaining phases of this request.
function _M.skip(ctx, name)
    skip_plugin(ctx, name)
end


--- Tells APISIX that a plugin answers this request, so that APISIX neither chooses an upstream nor
-- proxies.
function _M.answer_by_plugin(ctx)
    ctx.bypass_nginx_upstream = true
end


--- Calls `callback(code, body, headers, argument)` for every answer with which a plugin ends the
-- request. The callback returns the three values to send.
function _M.on_exit(callback, argument)
    -- APISIX stores pairs of callback and argument: the argument must not be nil.
    exit_insert_callback(callback, argument)
end


--- Whether the key of a limiter's rule contains a variable that is set in this request.
function _M.has_variable(key, ctx)
    local _, _, resolved = resolve_var(key, ctx.var)
    return resolved > 0
end


--- A text with its variables replaced, such as the key of a consistent hash.
function _M.with_variables(text, ctx)
    return (resolve_var(text, ctx.var))
end


--- All headers of the request by lower-case name. APISIX's cache lacks some if there are more than
-- a hundred.
function _M.headers(ctx)
    local headers = cached_headers(ctx)
    return nkeys(headers) < CACHED_HEADERS and headers or get_headers(0)
end


--- Reads all headers of the request into APISIX's cache, and returns them.
function _M.cache_all_headers(ctx)
    local headers = get_headers(0)
    ctx.headers = headers
    return headers
end


--- Names the consumer of the request, for limits and metrics.
function _M.attach_consumer(ctx, name)
    ctx.consumer_name = name
end


--- The name of the request's consumer, or "".
function _M.consumer_name(ctx)
    return ctx.consumer_name or ""
end


--- The name of the route, or "".
function _M.route_name(ctx)
    local route = ctx.matched_route and ctx.matched_route.value
    return route and (route.name or route.id) or ""
end


--- The path pattern of the route; nil if no route matched.
function _M.route_path(ctx)
    return ctx.curr_req_matched and ctx.curr_req_matched._path
end


--- Marks the answer as a backend's, not the gateway's.
function _M.answered_by_backend(ctx)
    set_response_source(ctx, "upstream")
end


--- Who made the answer: "upstream", "apisix", "nginx" or "".
function _M.response_source(ctx)
    return get_response_source(ctx) or ""
end


--- Adds a summary of the request to the entries of APISIX's loggers.
function _M.summarize(ctx, summary)
    ctx.llm_summary = summary
end


--- Durations of the request in milliseconds: total, at the backends (nil: no backend was called),
-- and the rest.
function _M.latencies(ctx)
    return latency_details(ctx)
end


return _M
