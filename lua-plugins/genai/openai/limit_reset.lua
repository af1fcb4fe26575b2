--- The delay for a client whose request a limit rejected.

local lower = string.lower
local match = string.match
local max = math.max
local pairs = pairs
local tonumber = tonumber

local _M = {}

-- Limiters round the rest of a window down to multiples of this.
local ROUNDED_MS = 10


--- Milliseconds until the limits that rejected a request allow one again, from headers such as
-- X-Quota-RateLimit-Reset and X-AI-high-RateLimit-Reset; nil: no such header.
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


--- Milliseconds in which a rate allows one more request.
-- @tparam number rate requests a second
function _M.interval_ms(rate)
    return 1000 / rate
end


return _M
