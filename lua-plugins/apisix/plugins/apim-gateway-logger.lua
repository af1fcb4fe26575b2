--- Records of all requests, as API Management's users know them, for Azure Monitor.

local core = require("apisix.core")
local body_mod = require("apisix.plugins.azure-openai-proxy.body")
local sender = require("apisix.plugins.apim-gateway-logger.sender")
local variables = require("apisix.plugins.azure-openai-proxy.variables")
local record = require("genai.apim_record")
local targets = require("genai.target")
local texts = require("genai.text")
local cjson = require("cjson.safe")
local ngx = ngx
local get_response_headers = ngx.resp.get_headers
local get_method = ngx.req.get_method
local ngx_now = ngx.now
local ngx_var = ngx.var
local start_time = ngx.req.start_time
local find = string.find
local floor = math.floor
local pcall = pcall
local sub = string.sub
local tonumber = tonumber

local plugin_name = "apim-gateway-logger"

-- A body in a record is as its client wrote it: empty lists stay lists, long numbers long.
local json = cjson.new()
json.decode_array_with_array_mt(true)
json.encode_number_precision(16)


local name_schema = { type = "string", minLength = 1 }

local schema = {
    type = "object",
    properties = {
        dcr_ingest_uri = { type = "string", pattern = "^https?://[^ ]+$" },
        -- what tokens are asked for
        resource = { type = "string", pattern = "^https://" },
        gateway_id = name_schema,
        product_id = name_schema,
        include_req_body = { type = "boolean" },
        batch_max_size = { type = "integer", minimum = 1 },
        batch_flush_interval = { type = "integer", minimum = 1 },
        batch_max_retry = { type = "integer", minimum = 0 },
        timeout_ms = { type = "integer", minimum = 1 },
        msi_client_id = name_schema,
        msi_endpoint = name_schema,
        msi_secret = name_schema,
    },
    required = { "dcr_ingest_uri", "resource", "gateway_id", "batch_max_size",
                 "batch_flush_interval", "batch_max_retry", "timeout_ms" },
    additionalProperties = false,
}


local _M = {
    version = 0.1,
    -- in the log phase after azure-openai-proxy, which then knows all of a request
    priority = 900,
    name = plugin_name,
    schema = schema,
}


function _M.check_schema(conf)
    return core.schema.check(schema, conf)
end


local function milliseconds_since(seconds)
    return floor((ngx_now() - seconds) * 1000 + 0.5)
end


-- A JSON body, or of a longer one its beginning as text. Uploads are none.
local function request_body(state)
    local body = state.body
    if not body or not body_mod.is_json(body, state.content_type) then
        return nil
    end
    local text = body_mod.head(body, record.MAX_BODY + 1)
    if #text <= record.MAX_BODY and texts.of(text, #text) == text then
        local decoded = json.decode(text)
        if decoded ~= nil and json.encode(decoded) then
            return decoded
        end
    end
    return texts.of(text, record.MAX_BODY)
end


-- What azure-openai-proxy knows.
local function add_of_pool(seen, state, conf, ctx)
    seen.reached_pool = true
    seen.attempts = state.attempts
    seen.is_answered = state.is_answered
    if state.is_sent then
        seen.broken_by = state.broken_by or false
    end
    seen.last_backend = ctx.balancer_ip
    seen.gateway_status = state.status
    seen.failure = state.last
    seen.backend_ms = tonumber(ctx.var.apisix_upstream_response_time)
    if conf.include_req_body then
        seen.request_body = request_body(state)
    end
    if state.target.spends then
        seen.usage = state.seen.usage
    end
    if state.target.generates then
        seen.deployment = ctx.var.request_llm_model
        seen.model = ctx.var.llm_model
        seen.stream = state.wants_stream or false
        local first_ms = tonumber(ctx.var.llm_time_to_first_token)
        seen.first_output_ms = first_ms and first_ms > 0 and first_ms or nil
        seen.estimated_tokens = tonumber(ngx_var.genai_estimated_tokens)
    end
end


local function seen_of(conf, ctx)
    local var = ctx.var
    local uri = var.real_request_uri
    local mark = find(uri, "?", 1, true)
    local state = ctx.genai
    local seen = {
        started_at = start_time(),
        total_ms = milliseconds_since(start_time()),
        status = tonumber(var.status),
        method = get_method(),
        path = mark and sub(uri, 1, mark - 1) or uri,
        query = mark and sub(uri, mark + 1),
        client_ip = var.remote_addr,
        correlation_id = var.apisix_request_id,
        request_id = ngx_var.request_id,
        client = ctx.genai_client_name,
        -- Of what was refused before it came that far, for an address or without a key, too.
        target = state and state.target or targets.parse(uri, var.uri, get_method()),
        lane = variables.lane(ctx),
        request_headers = core.request.headers(ctx),
        response_headers = get_response_headers(0),
    }
    if state then
        add_of_pool(seen, state, conf, ctx)
    end
    return seen
end


local function write(conf, ctx)
    local destination, err = sender.of(conf)
    if not destination then
        return sender.failed(err)
    end
    local text
    text, err = json.encode(record.of(seen_of(conf, ctx), conf))
    if not text then
        return sender.failed("one cannot be written as JSON: " .. err)
    end
    destination:add(text)
end


function _M.log(conf, ctx)
    -- Other plugins have their turn after this one.
    local ok, err = pcall(write, conf, ctx)
    if not ok then
        sender.failed("the gateway failed: " .. err)
    end
end


return _M
