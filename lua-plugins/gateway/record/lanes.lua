--- The lane of a request: its priority, "high" or "low".

local core = require("apisix.core")
local request_record = require("gateway.record.request_record")
local lower = string.lower
local type = type

local _M = {}


local function asks_for_low(value)
    return type(value) == "string" and lower(value) == "low"
end


--- The lane of a request. A request can only lower the lane of its client.
-- @treturn string "high" or "low"
function _M.of(ctx)
    local record = request_record.of(ctx)
    local lane = record.lane
    if not lane then
        local client = record.client
        local is_low = client and client.lane == "low"
                       or asks_for_low(core.request.header(ctx, "x-priority"))
                       or asks_for_low(ctx.var.arg_priority)
        lane = is_low and "low" or "high"
        record.lane = lane
    end
    return lane
end


return _M
