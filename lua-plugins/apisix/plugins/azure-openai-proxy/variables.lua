--- Variables of a request that rules of limits, labels and log formats are made of.

local core = require("apisix.core")
local lower = string.lower
local tostring = tostring
local type = type

local _M = {}


local function asks_for_low(value)
    return type(value) == "string" and lower(value) == "low"
end


--- The lane of a request, "high" or "low". It may only lower what its client may have.
function _M.lane(ctx)
    local lane = ctx.genai_lane
    if not lane then
        local client = ctx.genai_client
        local is_low = client and client.lane == "low"
                       or asks_for_low(core.request.header(ctx, "x-priority"))
                       or asks_for_low(ctx.var.arg_priority)
        lane = is_low and "low" or "high"
        ctx.genai_lane = lane
    end
    return lane
end


local lane = _M.lane


local function register_lane(which)
    core.ctx.register_var("genai_lane_" .. which, function(ctx)
        return lane(ctx) == which and which or nil
    end)
    core.ctx.register_var("genai_lane_" .. which .. "_client", function(ctx)
        return lane(ctx) == which and ctx.genai_client_name
               and which .. "#" .. ctx.genai_client_name or nil
    end)
end


-- A rule's key and its count, both nil for a client without that limit. Rules with the same
-- resolved key would share a counter, hence the prefix.
local function register_limit(key_name, count_name, field)
    core.ctx.register_var(key_name, function(ctx)
        local client = ctx.genai_client
        return client and client[field] and field .. "#" .. ctx.genai_client_name or nil
    end)
    core.ctx.register_var(count_name, function(ctx)
        local client = ctx.genai_client
        return client and client[field] and tostring(client[field]) or nil
    end)
end


-- For labels: what did not come so far has none.
local function register_labels()
    core.ctx.register_var("genai_lane", function(ctx)
        return ctx.genai and lane(ctx) or ""
    end)
    core.ctx.register_var("genai_operation", function(ctx)
        return ctx.genai and ctx.genai.target.operation or ""
    end)
end


--- Registers all of them; once, when the plugin's module is loaded.
function _M.register()
    core.ctx.register_var("genai_client", function(ctx)
        return ctx.genai_client_name
    end)
    register_labels()
    register_lane("high")
    register_lane("low")
    register_limit("genai_client_day", "genai_client_day_tokens", "tokens_per_day")
    register_limit("genai_client_minute", "genai_client_minute_tokens", "tokens_per_minute")
    register_limit("genai_client_requests", "genai_client_requests_limit", "requests_per_minute")
end


return _M
