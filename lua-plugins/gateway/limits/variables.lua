--- Variables of a request for the rules of limiters and for labels of metrics.

local core = require("apisix.core")
local lanes = require("gateway.record.lanes")
local request_record = require("gateway.record.request_record")
local tostring = tostring

local _M = {}

local register_var = core.ctx.register_var

local is_registered = false


local function register_lane(which)
    register_var("genai_lane_" .. which, function(ctx)
        return lanes.of(ctx) == which and which or nil
    end)
    register_var("genai_lane_" .. which .. "_client", function(ctx)
        local name = request_record.of(ctx).client_name
        return lanes.of(ctx) == which and name and which .. "#" .. name or nil
    end)
end


-- Registers a rule's key and count, both nil for a client without that limit. The prefix is needed
-- because rules whose keys have the same text would share a counter.
local function register_limit(key_name, count_name, field)
    register_var(key_name, function(ctx)
        local record = request_record.of(ctx)
        local client = record.client
        return client and client[field] and field .. "#" .. record.client_name or nil
    end)
    register_var(count_name, function(ctx)
        local client = request_record.of(ctx).client
        return client and client[field] and tostring(client[field]) or nil
    end)
end


-- Registers the labels of metrics; they are empty if the request ended before authentication or
-- routing.
local function register_labels()
    register_var("genai_lane", function(ctx)
        return request_record.is_admitted(request_record.of(ctx)) and lanes.of(ctx) or ""
    end)
    register_var("genai_operation", function(ctx)
        local target = request_record.of(ctx).target
        return target and target.operation or ""
    end)
end


--- Registers all variables; called once in each process.
function _M.register()
    if is_registered then
        return
    end
    is_registered = true
    register_var("genai_client", function(ctx)
        return request_record.of(ctx).client_name
    end)
    register_labels()
    register_lane("high")
    register_lane("low")
    register_limit("genai_client_day", "genai_client_day_tokens", "tokens_per_day")
    register_limit("genai_client_minute", "genai_client_minute_tokens", "tokens_per_minute")
    register_limit("genai_client_requests", "genai_client_requests_limit", "requests_per_minute")
end


return _M
