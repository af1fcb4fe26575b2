--- Prepares a request for the choice of a backend: its body, the deployment that it names, the
-- headers to pass on, and whether the client may use that model.

local core = require("apisix.core")
local errors = require("genai.openai.errors")
local http_headers = require("genai.http.http_headers")
local lanes = require("gateway.record.lanes")
local memo = require("genai.util.memo")
local model_answers = require("gateway.request.model_answers")
local model_lists = require("genai.openai.model_lists")
local picking = require("genai.balancing.picking")
local request_body = require("gateway.exchange.request_body")
local request_context = require("apisix_internals.request_context")
local shared_budgets = require("gateway.limits.shared_budgets")
local ngx = ngx
local clear_header = ngx.req.clear_header
local lower = string.lower
local type = type

local _M = {}

-- Deployment names are shorter than this. The limit keeps caches of names and matching cheap.
local MAX_NAME = 256

local NO_SUCH_DEPLOYMENT = "The API deployment for this resource does not exist."


-- The key of a consistent hash, as ai-proxy-multi's `balancer` configures it.
local function hash_key(record, ctx)
    local balancer = record.pool.balancer
    if balancer.algorithm ~= "chash" then
        return nil
    end

    local value
    if balancer.hash_on == "consumer" then
        value = record.client_name
    elseif balancer.hash_on == "header" then
        value = core.request.header(ctx, balancer.key)
    elseif balancer.hash_on == "cookie" then
        value = ctx.var["cookie_" .. balancer.key]
    elseif balancer.hash_on == "vars_combinations" then
        value = request_context.with_variables(balancer.key, ctx)
    else
        value = ctx.var[balancer.key]
    end
    -- Requests without the key still need a backend; the requests of one client go to the same one.
    if value == nil or value == "" then
        value = ctx.var.remote_addr
    end
    return value
end


-- The value that keeps related requests at one backend if possible; nil: none.
local function affinity_key(record, ctx)
    local soft = record.pool.conf.soft_affinity
    if not soft then
        return nil
    end

    local value
    if soft.on == "client" then
        value = record.client_name
    elseif soft.on == "header" then
        value = core.request.header(ctx, soft.header)
    else
        local scan = record.body.scan
        local member = scan and scan.members.prompt_cache_key
        value = member and member.kind == "string" and member.value
    end
    return type(value) == "string" and value ~= "" and value or nil
end


-- Scopes of cooldowns for requests without a deployment. Deployments are in lower case, so a scope
-- with capital letters cannot collide with one.
local scopes_of_operation = memo.of(function(operation)
    return {
        label = "(" .. operation .. ")",
        unnamed = "WITHOUT DEPLOYMENT " .. operation,
        permission = memo.of(function(method)
            return "PERMISSION " .. method .. " " .. operation
        end),
    }
end)


-- nginx would compare these headers with the answer, also with one that has no ETag, and turn a 200
-- into a 304 or 412. The backend evaluates them.
local function leave_conditions_to_backend(headers)
    if headers["if-match"] or headers["if-none-match"] or headers["if-modified-since"]
       or headers["if-unmodified-since"]
    then
        clear_header("if-match")
        clear_header("if-none-match")
        clear_header("if-modified-since")
        clear_header("if-unmodified-since")
    end
end


-- Reads the body and the fields that matter to the gateway. Returns the status and body of an
-- error.
local function read_body(record, ctx, headers)
    local body, code, err_body = request_body.receive(record, headers)
    if not body then
        return code, err_body
    end

    record.body = body
    record.content_type = headers["content-type"]
    local target = record.target
    local problem, err = request_body.inspect(body, headers["content-type"], {
        model = target.names_model,
        stream = target.generates,
        stored = target.names_stored and record.pool.tracks_owners,
        cache_key = record.pool.by_cache_key,
        output = shared_budgets.reads_output(record),
    })
    if err then
        core.log.error("the request body cannot be read: ", err)
        return 500, errors.body(500)
    elseif problem then
        return 400, errors.body(400, problem[2], problem[1])
    end
    if body.wants_stream then
        record.wants_stream = true
        ctx.var.request_type = "ai_stream"
    end
end


-- Sets the fields on which the choice of a backend depends.
local function describe_choice(record, ctx)
    local target, choice = record.target, record.choice
    local model = record.body.model
    local scopes = scopes_of_operation(target.operation)
    choice.deployment = target.deployment or model and model.value or nil
    choice.cooldown_label = choice.deployment and lower(choice.deployment) or scopes.label
    choice.cooldown_scope = choice.deployment and choice.cooldown_label or scopes.unnamed
    choice.permission_scope, choice.permission_label = scopes.permission(record.method),
                                                       scopes.label
    choice.asks_for_stream = record.wants_stream
    choice.lane = lanes.of(ctx)
    choice.hash_key = hash_key(record, ctx)
    choice.affinity_key = affinity_key(record, ctx)
end


--- Prepares a request, or ends it.
-- @tparam table record
-- @tparam table ctx
-- @treturn number|nil the status of an error, or of an answer that needs no backend
-- @treturn nil|table|string its body
function _M.prepare(record, ctx)
    local headers = request_context.headers(ctx)
    if request_body.is_too_large(headers) then
        -- The rest of the body is not read, so the connection cannot be reused.
        ngx.header["Connection"] = "close"
        return 413, errors.body(413)
    end
    local code, err_body = read_body(record, ctx, headers)
    if code then
        return code, err_body
    end

    local err
    record.passed_lines, err = http_headers.to_backend(headers, record.pool.replaced_headers)
    if err then
        return 400, errors.body(400, "The request cannot be sent to a backend: " .. err .. ".",
                                errors.CODE.invalid_request)
    end
    leave_conditions_to_backend(headers)
    -- An empty body gets a content-length only if the client sent one.
    record.empty_length = headers["content-length"] and 0 or nil

    describe_choice(record, ctx)
    local deployment = record.choice.deployment
    if deployment and #deployment > MAX_NAME then
        return 404, errors.body(404, NO_SUCH_DEPLOYMENT, errors.CODE.DeploymentNotFound)
    end

    local client, body = record.client, record.body
    if client and client.models then
        -- If a body is not plain JSON, a backend may read another model than the gateway did.
        local named = not (body.model and body.is_doubtful) and deployment or nil
        local why = model_lists.refusal(client.models, record.method, record.target, named, headers)
        if why then
            return 403, errors.body(403, why, errors.CODE.model_not_allowed)
        end
    end

    if deployment and not picking.is_served(record.pool.backends, deployment) then
        return 404, errors.body(404, NO_SUCH_DEPLOYMENT, errors.CODE.DeploymentNotFound)
    end
    return model_answers.of(record)
end


return _M
