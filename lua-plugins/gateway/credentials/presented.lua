--- Removes the credentials from a request, wherever its client put them, before anything logs or
-- forwards them. Finds the client of a key at the same time.

local client_index = require("gateway.credentials.client_index")
local core = require("apisix.core")
local credential_places = require("genai.http.credential_places")
local http_headers = require("genai.http.http_headers")
local request_context = require("apisix_internals.request_context")
local request_record = require("gateway.record.request_record")
local bearer = credential_places.bearer
local kind_of = credential_places.kind
local ngx = ngx
local concat = table.concat
local find = string.find
local get_method = ngx.req.get_method
local ipairs = ipairs
local pairs = pairs
local set_uri_args = ngx.req.set_uri_args
local sub = string.sub
local type = type

local _M = {}

local IS_CREDENTIAL = {}
for _, name in ipairs(http_headers.CREDENTIALS) do
    IS_CREDENTIAL[name] = true
end


-- The client of a header's value, or of the first of several values that has one.
local function client_of(value, keys)
    if type(value) == "table" then
        for _, each in ipairs(value) do
            local client = keys[each]
            if client then
                return client
            end
        end
        return nil
    end
    return keys[value]
end


-- A value of another header with keys removed; nil: nothing remains.
local function without_keys(value, keys, kind)
    if type(value) == "table" then
        local kept = {}
        for _, each in ipairs(value) do
            kept[#kept + 1] = without_keys(each, keys, kind)
        end
        return kept[1] and (#kept == #value and value or kept) or nil
    elseif type(value) ~= "string" then
        return value
    elseif kind == "cookie" then
        return credential_places.cookies_without(value, keys)
    elseif credential_places.holds_key(value, keys, kind) then
        return nil
    end
    return value
end


-- Looks for a key among the WebSocket protocols, and removes the header in any case.
local function take_protocols(ctx, record, value, keys)
    for _, each in ipairs(type(value) == "table" and value or { value }) do
        local key = type(each) == "string" and credential_places.protocol_key(each)
        if key then
            record.has_credential = true
            record.key_client = record.key_client or keys[key]
            core.request.set_header(ctx, "sec-websocket-protocol", nil)
        end
    end
end


local function take_headers(ctx, record, keys)
    -- APISIX's cache would lack headers after the hundredth.
    local headers = request_context.cache_all_headers(ctx)
    for _, name in ipairs(http_headers.CREDENTIALS) do
        local value = headers[name]
        if value then
            record.has_credential = true
            if name == "authorization" then
                -- nginx accepts only one Authorization header.
                record.bearer = type(value) == "string" and bearer(value) or nil
            else
                record.key_client = record.key_client or client_of(value, keys)
            end
            core.request.set_header(ctx, name, nil)
        end
    end

    for name, value in pairs(headers) do
        local kind = kind_of(name)
        if kind == "set" then
            -- Only the gateway may set headers that identify a client.
            core.request.set_header(ctx, name, nil)
        elseif kind == "protocol" then
            take_protocols(ctx, record, value, keys)
        elseif kind == "upgrade" then
            -- RFC 6455: a handshake is a GET. In any other request, Upgrade is an offer that the
            -- gateway ignores.
            record.wants_websocket = get_method() == "GET" and credential_places.is_websocket(value)
                                     or nil
        elseif not IS_CREDENTIAL[name] then
            local kept = without_keys(value, keys, kind)
            if kept ~= value then
                core.request.set_header(ctx, name, kept)
            end
        end
    end
end


-- Replaces the client's query for everything that reads it.
local function replace_query(ctx, query)
    local var = ctx.var
    set_uri_args(query)
    var.args = query
    -- nginx's own line no longer has the query.
    var.request, var.request_line = ngx.var.request, ngx.var.request
    for _, name in ipairs({ "real_request_uri", "request_uri" }) do
        local uri = var[name]
        local mark = find(uri, "?", 1, true)
        local path = mark and sub(uri, 1, mark - 1) or uri
        var[name] = query ~= "" and concat({ path, "?", query }) or path
    end
end


--- Removes the credentials; once for each request.
-- @tparam table ctx
-- @treturn table the record of the request, which has `has_credential`, `key_client`, `bearer`,
--   `has_key_in_query` and `wants_websocket`
function _M.take(ctx)
    local record = request_record.of(ctx)
    if record.has_credential ~= nil then
        return record
    end
    record.has_credential = false
    local keys = client_index.keys()
    take_headers(ctx, record, keys)

    local query = find(ctx.var.real_request_uri, "?", 1, true) and ngx.var.args
    if query and query ~= "" then
        local kept, has_some = credential_places.query_without(query, keys)
        if has_some then
            record.has_key_in_query = true
        end
        -- After a second routing, APISIX has read the overwritten query from nginx.
        if has_some or request_context.is_rerouted() then
            replace_query(ctx, kept)
        end
    end
    return record
end


return _M
