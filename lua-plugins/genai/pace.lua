--- Gives other requests their turn while one has much to read.
--
-- A worker serves one request at a time until that one waits for something. What a client or a
-- backend sends may take long to read and never lets it wait.

local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }

-- So long a request goes on.
local TURN_S = 0.005

-- Bytes between two looks at the clock: what takes longest to read takes 50 ns a byte.
local UNCHECKED = 65536


--- A pace, which has just begun.
-- @tparam function now gives seconds, of a clock that goes on by itself
-- @tparam function yield lets others go on
function _M.new(now, yield)
    return setmetatable({ now = now, yield = yield, bytes = 0 }, mt)
end


--- Called after so many bytes have been read.
function _M:read(count)
    local bytes = self.bytes + count
    if bytes < UNCHECKED then
        self.bytes = bytes
        return
    end
    self.bytes = 0
    local now, since = self.now(), self.since
    if not since then
        -- Most are at their end before they get here.
        self.since = now
    elseif now - since >= TURN_S then
        self.yield()
        self.since = self.now()
    end
end


return _M
