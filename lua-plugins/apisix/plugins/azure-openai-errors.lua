--- Gives every error that the gateway itself makes the OpenAI shape and its Retry-After, whichever
-- plugin made it, nginx's own included; and answers what no route takes.

local core = require("apisix.core")
local request_line = require("apisix.plugins.azure-openai-errors.request_line")
local temp_space = require("apisix.plugins.azure-openai-proxy.temp_space")
local errors = require("genai.errors")
local ngx = ngx
local ngx_var = ngx.var
local type = type

local plugin_name = "azure-openai-errors"

local DEFAULT_RETRY_MS = 1000


local schema = {
    type = "object",
    properties = {
        not_found = { type = "boolean" },
    },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- before any plugin that could end a request
    priority = 24000,
    name = plugin_name,
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


-- For the access log.
local function note_error(body)
    ngx_var.genai_error, ngx_var.genai_error_source = body.error.code, "gateway"
end


-- Called by APISIX for every answer that a plugin ends a request with.
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
    ctx.genai_error = body.error.code
    note_error(body)
    return code, body, headers
end


function _M.rewrite(conf, ctx)
    request_line.hide_query()
    -- With an argument, for APISIX takes every second entry of its list for a callback.
    core.response.exit_insert_callback(shape, ctx)
    if conf.not_found then
        return 404
    end
end


--- Content handler of the location that nginx's own errors lead to: bodies that are too large or
-- too slow, headers it cannot read, and what failed inside it.
function _M.page()
    local status = ngx.status
    if status < 400 then
        status = 500
    end
    local message, code
    -- nginx does not say why it could not put a body into its file.
    if status == 500 and (ngx_var.request_body_file or "") ~= "" and temp_space.is_full() then
        temp_space.report()
        status, code, message = 503, "body_storage_full", temp_space.MESSAGE
    end
    ngx.header["Content-Type"] = "application/json"
    if errors.is_retryable(status) then
        ngx.header["Retry-After"], ngx.header["retry-after-ms"] =
            errors.retry_after(DEFAULT_RETRY_MS)
    end
    ngx.status = status
    local body = errors.body(status, message, code)
    note_error(body)
    ngx.say(core.json.encode(body))
end


return _M
