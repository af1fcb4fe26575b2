--- The first plugin that sees a request. It hides query and credentials from all other plugins, and
-- normalizes the path. It gives every error of the gateway the OpenAI shape and a Retry-After,
-- including errors of other plugins and of nginx. It answers requests that no route matches.

local core = require("apisix.core")
local errors = require("genai.openai.errors")
local paths = require("genai.openai.paths")
local presented = require("gateway.credentials.presented")
local rejection = require("gateway.limits.rejection")
local request_context = require("apisix_internals.request_context")
local request_line = require("apisix_internals.request_line")
local request_record = require("gateway.record.request_record")
local temp_space = require("gateway.exchange.temp_space")
local ngx = ngx
local ngx_var = ngx.var
local find = string.find
local pairs = pairs
local sub = string.sub
local type = type

local DEFAULT_RETRY_MS = 1000

local REQUEST_TIMEOUT = 408


local schema = {
    type = "object",
    properties = {
        not_found = { type = "boolean" },
        -- the pool whose requests these are; nil: there is only one
        pool = { type = "string", minLength = 1 },
        -- the prefix of its paths
        prefix = { type = "string", pattern = "^/" },
    },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- before any plugin that could end a request
    priority = 24000,
    name = "azure-openai-errors",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


-- The access log needs the error also for requests that azure-openai-proxy does not see.
local function note_error(code)
    ngx_var.genai_error, ngx_var.genai_error_source = code, "gateway"
end


-- nginx closes the connection of a request that ends with 408 without sending an answer, so this
-- function writes the answer itself.
local function send_timeout(body, headers)
    ngx.status = REQUEST_TIMEOUT
    for name, value in pairs(headers) do
        ngx.header[name] = value
    end
    ngx.say(core.json.encode(body))
    return ngx.exit(ngx.HTTP_OK)
end


-- APISIX calls this function for every answer with which a plugin ends a request.
local function shape(code, body, headers, ctx)
    if not code or code < 400 then
        return code, body, headers
    end

    local content_type = ngx.header["Content-Type"]
    if type(content_type) == "string" and content_type ~= "application/json" then
        ngx.header["Content-Type"] = nil
    end
    headers = headers or {}
    headers["Content-Type"] = "application/json"
    if errors.is_retryable(code) and not ngx.header["Retry-After"] then
        headers["Retry-After"], headers["retry-after-ms"] =
            errors.retry_after(DEFAULT_RETRY_MS)
    end
    body = errors.shaped(code, body)

    local record = request_record.of(ctx)
    local limiter, rejected_body, rejected_headers = rejection.of(ctx, record, code, body)
    if limiter then
        record.refused_by = limiter
        body = rejected_body
        for name, value in pairs(rejected_headers) do
            headers[name] = value
        end
    end
    record.error_code = body.error.code
    note_error(record.error_code)
    if code == REQUEST_TIMEOUT then
        return send_timeout(body, headers)
    end
    return code, body, headers
end


-- Normalizes a path with a common mistake. APISIX chose the route by the client's spelling, so the
-- request is routed a second time with the normal form. `prefix` is that of a pool, or "". Returns
-- why the path is rejected, or nil.
local function straighten(var, prefix)
    local uri = var.real_request_uri
    local mark = find(uri, "?", 1, true)
    local path = mark and sub(uri, 1, mark - 1) or uri
    if prefix ~= "" then
        path = paths.without_prefix(path, prefix)
        if not path then
            return paths.ELSEWHERE
        end
    end
    local form, err = paths.normal(path)
    if form and form ~= path and paths.decoded(form) ~= sub(var.uri, #prefix + 1)
       and not request_context.is_rerouted()
    then
        request_context.reroute(prefix .. form, ngx_var.args)
    end
    return err
end


-- The path without the prefix of a pool, which has chosen the route and so is there.
local function own_path(uri, prefix)
    return prefix == "" and uri or sub(uri, #prefix + 1)
end


function _M.rewrite(conf, ctx)
    if not request_line.hide_query() then
        -- If this status were returned to APISIX, APISIX would log it together with the query.
        return ngx.exit(503)
    end
    request_context.on_exit(shape, ctx)
    local var = ctx.var
    local prefix = conf.prefix or ""
    local problem = not paths.is_usual(own_path(var.uri, prefix)) and straighten(var, prefix)
    local record = presented.take(ctx)
    record.pool_name, record.path_prefix = conf.pool, conf.prefix
    if conf.not_found then
        if problem then
            return 400, errors.body(400, problem, errors.CODE.invalid_request_target)
        end
        return 404
    end
end


--- Content handler of the location for nginx's own errors: bodies that are too large or too slow,
-- headers that nginx cannot read, and failures inside nginx.
function _M.page()
    local status = ngx.status
    if status < 400 then
        status = 500
    end
    local message, code
    -- nginx does not report why it could not write a body to its file; a full disk is the usual
    -- cause.
    if status == 500 and (ngx_var.request_body_file or "") ~= "" and temp_space.is_full() then
        temp_space.report()
        status, code, message = 503, errors.CODE.body_storage_full, temp_space.MESSAGE
    end
    ngx.header["Content-Type"] = "application/json"
    if errors.is_retryable(status) then
        ngx.header["Retry-After"], ngx.header["retry-after-ms"] =
            errors.retry_after(DEFAULT_RETRY_MS)
    end
    ngx.status = status
    local body = errors.body(status, message, code)
    note_error(body.error.code)
    ngx.say(core.json.encode(body))
end


return _M
