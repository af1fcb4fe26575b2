--- Work that one worker does for all. It runs in a timer, so that a disconnecting client does not
-- end it; requests that need the result wait for it.

local core = require("apisix.core")
local shared_memory = require("gateway.mechanisms.shared_memory")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local pcall = pcall
local timer_at = ngx.timer.at

local _M = {}

-- Poll interval of waiting requests.
local POLL_S = 0.02

local state = shared_memory.state


local function run(premature, lock_key, work, failed, argument)
    if not premature then
        local ok, err = pcall(work, argument)
        if not ok then
            failed(argument, err)
        end
    end
    state:delete(lock_key)
end


--- Starts the work, unless a worker is already doing it.
-- @tparam string lock_key in the shared memory, held while the work runs
-- @tparam number lock_s when the lock of a dead worker expires, in seconds
-- @tparam function work called with `argument`
-- @tparam function failed called with `argument` and the error if `work` throws
-- @param argument
-- @treturn boolean whether the work starts
function _M.begin(lock_key, lock_s, work, failed, argument)
    if not state:add(lock_key, true, lock_s) then
        return false
    end
    local ok, err = timer_at(0, run, lock_key, work, failed, argument)
    if not ok then
        state:delete(lock_key)
        core.log.error("cannot start a timer for background work of the gateway: ", err)
    end
    return ok
end


--- Waits for a result.
-- @tparam number patience_s the longest wait, in seconds
-- @tparam function look called repeatedly with `argument`; waiting ends when its first result is
--   not nil
-- @param argument
-- @return what `look` returned; nil after the wait
function _M.wait(patience_s, look, argument)
    local deadline = ngx_now() + patience_s
    while true do
        local first, second, third = look(argument)
        if first ~= nil or ngx_now() >= deadline then
            return first, second, third
        end
        ngx_sleep(POLL_S)
    end
end


return _M
