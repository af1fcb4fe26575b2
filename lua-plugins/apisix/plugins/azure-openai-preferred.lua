--- Answers the request that sets the order of backends for pools whose algorithm is `preferred`.

local access_log = require("gateway.telemetry.access_log")
local core = require("apisix.core")
local errors = require("genai.openai.errors")
local preference = require("genai.balancing.preference")
local preferred_order = require("gateway.backends.preferred_order")
local proxy_schema = require("gateway.proxy_schema")
local secret_files = require("gateway.credentials.secret_files")
local secrets = require("apisix_internals.secrets")
local settlement = require("gateway.request.settlement")
local sha256 = require("resty.sha256")
local get_body_data = ngx.req.get_body_data
local get_method = ngx.req.get_method
local ngx = ngx
local read_body = ngx.req.read_body
local type = type

local SECRET_HEADER = "x-config-api-secret"

local NO_SECRET = "The header " .. SECRET_HEADER .. " does not have the shared secret of this"
                  .. " gateway."

local MESSAGE = "preferred backends are set successfully"

local schema = {
    type = "object",
    properties = {
        -- what the request must have in its header, in addition to the key of a client
        secret = { type = "string", minLength = 1 },
        -- the setting whose file contains it, in place of `secret`
        secret_setting = { type = "string", pattern = "^[A-Z][A-Z0-9_]*$" },
        backends = {
            type = "array",
            minItems = 1,
            items = {
                type = "object",
                properties = {
                    name = { type = "string", minLength = 1 },
                    endpoint = { type = "string", minLength = 1 },
                },
                required = { "name", "endpoint" },
                additionalProperties = false,
            },
        },
        redis = proxy_schema.properties.preferred.properties.redis,
    },
    required = { "backends" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- after azure-openai-auth and the list of addresses
    priority = 1046,
    name = "azure-openai-preferred",
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


local function digest(text)
    local hash = sha256:new()
    hash:update(text)
    return hash:final()
end


-- Whether the request has the shared secret. Digests are compared, so that the time that it takes
-- tells nothing about the secret. A secret without a value lets nobody in.
local function has_secret(conf, ctx)
    if not conf.secret and not conf.secret_setting then
        return true
    end
    local secret = conf.secret
    if conf.secret_setting then
        secret = secret_files.value(conf.secret_setting)
    end
    local given = core.request.header(ctx, SECRET_HEADER)
    if not secret or secret == "" or secrets.is_reference(secret) or type(given) ~= "string" then
        return false
    end
    return digest(given) == digest(secret)
end


function _M.access(conf, ctx)
    if get_method() ~= "POST" then
        ngx.header["Allow"] = "POST"
        return 405, errors.body(405, "Send the order of backends with POST.")
    end
    if not has_secret(conf, ctx) then
        return 403, errors.body(403, NO_SECRET, errors.CODE.invalid_shared_secret)
    end

    -- A list of names fits into nginx's buffer. Longer bodies are in a file, and have no text here.
    read_body()
    local text = get_body_data()
    local names, err, is_unknown = preference.read(text and core.json.decode(text), conf.backends)
    if not names then
        return 400, errors.body(400, err, is_unknown and errors.CODE.unknown_backend
                                          or errors.CODE.invalid_request)
    end
    preferred_order.set(names, conf.redis)
    core.response.set_header("Content-Type", "application/json")
    -- API Management's toolkit answers with the first member, the accelerator with the second.
    return 200, { message = MESSAGE, updated_instances = #names }
end


function _M.log(conf, ctx)
    access_log.write(ctx, settlement.settle(ctx))
end


return _M
