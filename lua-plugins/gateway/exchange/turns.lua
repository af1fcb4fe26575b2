--- Lets a worker's other requests run while one request reads much data.

local pace = require("genai.util.pace")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local update_time = ngx.update_time

local _M = {}


-- nginx's cached time does not advance while a request runs.
local function now()
    update_time()
    return ngx_now()
end


local function yield()
    ngx_sleep(0)
end


--- A pace for a request that is about to read data.
-- @treturn table as `genai.util.pace` makes it
function _M.new()
    return pace.new(now, yield)
end


return _M
