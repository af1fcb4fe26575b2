--- Turns of a worker's requests: one that has much to read lets others go on.

local pace = require("genai.pace")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local update_time = ngx.update_time

local _M = {}


-- nginx's clock stands still while a request has its turn.
local function now()
    update_time()
    return ngx_now()
end


local function yield()
    ngx_sleep(0)
end


--- A pace for a request that is about to read.
-- @treturn table as `genai.pace` makes it
function _M.new()
    return pace.new(now, yield)
end


return _M
