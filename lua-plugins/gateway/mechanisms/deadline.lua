--- Limits the total time of calls.

local ngx = ngx
local ngx_sleep = ngx.sleep
local thread_kill = ngx.thread.kill
local thread_spawn = ngx.thread.spawn
local thread_wait = ngx.thread.wait
local tostring = tostring

local _M = {}


local function run_out(seconds)
    ngx_sleep(seconds)
    return nil, "timeout"
end


--- Calls a function, and gives up after the time limit.
-- @tparam number seconds
-- @tparam function call
-- @param argument
-- @return its first result; nil if it failed or took too long
-- @return its second result; "timeout"; or the error that it threw
-- @treturn boolean|nil true: the function threw an error
function _M.call(seconds, call, argument)
    local running, clock = thread_spawn(call, argument), thread_spawn(run_out, seconds)
    local ok, first, second = thread_wait(running, clock)
    thread_kill(clock)
    thread_kill(running)
    if not ok then
        return nil, tostring(first), true
    end
    return first, second
end


return _M
