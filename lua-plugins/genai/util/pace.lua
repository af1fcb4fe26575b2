--- Lets other requests run while one request reads much data.
-- A worker runs one request until that request waits for something. Data from a client or a backend
-- can take long to read without ever making it wait.

local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- How long a request runs before it yields.
local TURN_S = 0.005

-- Bytes between two checks of the clock: the slowest reading takes 50 ns a byte.
local UNCHECKED = 65536


--- A new pace.
-- @tparam function now returns seconds of a clock that advances while a request runs
-- @tparam function yield lets other requests run
function _M.new(now, yield)
    return setmetatable({ now = now, yield = yield, bytes = 0 }, mt)
end


--- Reports that `count` bytes have been read.
function _M:read(count)
    local bytes = self.bytes + count
    if bytes < UNCHECKED then
        self.bytes = bytes
        return
    end
    self.bytes = 0
    local now, since = self.now(), self.since
    if not since then
        -- Most requests end before they reach this line.
        self.since = now
    elseif now - since >= TURN_S then
        self.yield()
        self.since = self.now()
    end
end


return _M
