--- What a client is told when a limit refuses its request.

local lower = string.lower
local match = string.match
local max = math.max
local pairs = pairs
local tonumber = tonumber

local _M = {}

-- Limiters round what is left of a window down to so much.
local ROUNDED_MS = 10


--- Milliseconds until the limits that refused a request let one pass again, as they tell in headers
-- like X-Quota-RateLimit-Reset and X-AI-high-RateLimit-Reset; nil where none did.
-- @tparam table headers found by name in any case
function _M.reset_ms(headers)
    local longest
    for name, value in pairs(headers) do
        local prefix = match(lower(name), "^(x%-.*ratelimit%-)reset$")
        if prefix and tonumber(headers[prefix .. "remaining"]) == 0 then
            local seconds = tonumber(value)
            longest = seconds and max(seconds, longest or 0) or longest
        end
    end
    return longest and longest * 1000 + ROUNDED_MS
end


--- Milliseconds in which a rate lets one more request pass.
-- @tparam number rate requests a second
function _M.interval_ms(rate)
    return 1000 / rate
end


return _M
