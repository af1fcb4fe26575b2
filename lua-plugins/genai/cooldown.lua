--- How long a backend is left alone, and the memory of it that all workers share.

local ceil = math.ceil
local find = string.find
local gmatch = string.gmatch
local match = string.match
local max = math.max
local min = math.min
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

--- While one request tries a backend again, others wait for its outcome at most so long.
_M.PROBE_MS = 2000

-- A cool-down is remembered this much longer than it lasts, so that its end is probed.
local REMEMBERED_MS = 60 * 1000

local RESETS = {
    "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens",
    "x-rate-limit-reset-requests", "x-rate-limit-reset-tokens",
}

local UNIT_MS = { ms = 1, s = 1000, m = 60 * 1000, h = 60 * 60 * 1000, d = 24 * 60 * 60 * 1000 }


local function first(value)
    return type(value) == "table" and value[1] or value
end


local function positive(text)
    local number = text and match(text, "^%s*(%d+%.?%d*)%s*$")
    number = number and tonumber(number)
    return number and number > 0 and number or nil
end


-- "4", "1.5s", "6m0s", "20ms"
local function reset_ms(text)
    local seconds = positive(text)
    if seconds then
        return seconds * 1000
    end
    if not text or not find(text, "^[%d%.]+%l[%d%.%l]*$") then
        return nil
    end

    local total = 0
    for amount, unit in gmatch(text, "([%d%.]+)(%l+)") do
        local number = tonumber(amount)
        if not number or not UNIT_MS[unit] then
            return nil
        end
        total = total + number * UNIT_MS[unit]
    end
    return total > 0 and total or nil
end


--- The time that a backend names, in milliseconds; nil where it names none. Missing, zero and
-- negative numbers mean that it is not known.
-- @tparam table headers of its answer, found by name in any case
-- @tparam number now seconds since the epoch
-- @tparam function parse_http_time seconds since the epoch of an HTTP date, or nil
function _M.named_ms(headers, now, parse_http_time)
    local milliseconds = positive(first(headers["retry-after-ms"]))
    if milliseconds then
        return milliseconds
    end

    local after = first(headers["retry-after"])
    if after then
        local seconds = positive(after)
        if seconds then
            return seconds * 1000
        end
        local date = parse_http_time(after)
        if date and date > now then
            return (date - now) * 1000
        end
    end

    local longest
    for i = 1, #RESETS do
        local each = reset_ms(first(headers[RESETS[i]]))
        longest = each and max(each, longest or 0) or longest
    end
    return longest
end


--- How long to leave a backend alone.
-- @tparam number|nil named milliseconds that it named
-- @tparam table conf `default_ms`, and `max_ms` as the cap on what is named
function _M.duration_ms(named, conf)
    if conf.max_ms == 0 or (not named and conf.default_ms == 0) then
        return 0
    end
    return max(1, ceil(min(named or conf.default_ms, conf.max_ms)))
end


--- Name of a cool-down. A backend that was pointed elsewhere does not inherit one.
-- @tparam string id the backend's, which says its name and where it is
-- @tparam string|nil scope deployment or operation; nil: all that the backend has
function _M.key(id, scope)
    return scope and "cool|" .. id .. "|" .. sub(scope, 1, 128) or "cool|" .. id
end


--- Begins a cool-down.
-- @tparam table dict with get, set, add and delete, as nginx's shared memory has
-- @tparam number now milliseconds
-- @tparam string reason what an answer says of it: "throttled", "failing", "unreachable" or
--   "credentials"
function _M.start(dict, key, now, duration_ms, reason)
    dict:set(key, (now + duration_ms) .. " " .. reason, (duration_ms + REMEMBERED_MS) / 1000)
    dict:delete("probe|" .. key)
end


--- Ends a cool-down, when the backend was seen to work.
function _M.stop(dict, key)
    dict:delete(key)
    dict:delete("probe|" .. key)
end


--- Ends a cool-down that is for this reason, when what it was for is no more.
function _M.stop_for(dict, key, reason)
    local entry = dict:get(key)
    if entry and match(entry, " (%S+)$") == reason then
        _M.stop(dict, key)
    end
end


--- State of one cool-down.
-- @treturn string "usable", "cooling" or "ended"; one that has just ended is for the one request to
--   try that takes the probe
-- @treturn number|nil milliseconds until it can be used
-- @treturn string|nil the reason
function _M.state(dict, key, now)
    local entry = dict:get(key)
    if not entry then
        return "usable"
    end

    local till, reason = match(entry, "^(%S+) (%S+)$")
    local left = tonumber(till) - now
    if left > 0 then
        return "cooling", left, reason
    end
    return "ended", 0, reason
end


--- Takes the right to be the one request that tries a backend whose cool-down has ended.
function _M.take_probe(dict, key)
    return dict:add("probe|" .. key, true, _M.PROBE_MS / 1000) == true
end


--- Gives it back, when the request ended without showing anything.
function _M.release_probe(dict, key)
    dict:delete("probe|" .. key)
end


return _M
