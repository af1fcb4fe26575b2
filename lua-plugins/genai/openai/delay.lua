--- The delay that a backend names: how long to wait before sending it another request.

local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local lower = string.lower
local match = string.match
local max = math.max
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

local RESETS = {
    "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens",
    "x-rate-limit-reset-requests", "x-rate-limit-reset-tokens",
}

local UNIT_MS = { ms = 1, s = 1000, m = 60 * 1000, h = 60 * 60 * 1000, d = 24 * 60 * 60 * 1000 }

-- Units in messages, in lower case; without a unit, a number means seconds.
local WORD_MS = {
    [""] = 1000,
    ms = 1, msec = 1, msecs = 1, millisecond = 1, milliseconds = 1,
    s = 1000, sec = 1000, secs = 1000, second = 1000, seconds = 1000,
    m = 60 * 1000, min = 60 * 1000, mins = 60 * 1000, minute = 60 * 1000, minutes = 60 * 1000,
    h = 60 * 60 * 1000, hr = 60 * 60 * 1000, hrs = 60 * 60 * 1000, hour = 60 * 60 * 1000,
    hours = 60 * 60 * 1000,
    d = 24 * 60 * 60 * 1000, day = 24 * 60 * 60 * 1000, days = 24 * 60 * 60 * 1000,
}

-- Phrases before a delay in messages of Azure, OpenAI and API Management, in lower case.
local PHRASES = { "retry after", "retry in", "again in", "again after", "request after",
                  "request in", "retrying in", "retrying after", "replenished in", "reset in",
                  "resets in", "reset after", "resets after", "wait", "available in",
                  "retry-after", "retry_after" }

-- Words between a phrase and its delay.
local FILLERS = { "about ", "approximately ", "approx. ", "at least ", "at most ", "up to ",
                  "less than ", "another ", "for ", "around " }

-- Clocks count as equal if the answer's `Date` differs by at most this, in seconds.
local AGREEING_S = 1.5

-- Only the beginning of a message is searched for a delay.
local MAX_MESSAGE = 4096

-- The longest text of a delay, such as "1 hour, 2 minutes and 30.5 seconds".
local MAX_DELAY_TEXT = 64


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


-- The delay at the beginning of a text, such as "26 seconds", "1m2.5s" or "07:01:20".
local function delay_at(text)
    -- "1,000 ms"
    text = gsub(text, "^(%d%d?%d?),(%d%d%d)%f[%D]", "%1%2")
    local hours, minutes, seconds = match(text, "^(%d+):(%d%d):(%d%d)")
    if hours then
        local total = tonumber(hours) * UNIT_MS.h + tonumber(minutes) * UNIT_MS.m
                      + tonumber(seconds) * UNIT_MS.s
        return total > 0 and total or nil
    end

    local total, position = 0, 1
    while true do
        local _, last, amount, unit = find(text, "^(%d+%.?%d*)%s*(%a*)", position)
        local number = amount and tonumber(amount)
        local factor = unit and WORD_MS[unit]
        if not number or not factor or unit == "" and find(text, "^[-/:]%d", last + 1) then
            -- Neither "after 26 requests" nor a date is a delay.
            return position > 1 and total > 0 and total or nil
        end
        total = total + number * factor
        if unit == "" then
            return total > 0 and total or nil
        end
        local _, joined = find(text, "^[%s,]*and%s+", last + 1)
        if not joined then
            _, joined = find(text, "^[%s,]*", last + 1)
        end
        position = joined + 1
    end
end


-- The positions after a phrase at which a delay may begin.
local function after_fillers(text)
    local _, position = find(text, "^[%s:=\"'~(]*")
    local is_more = true
    while is_more do
        is_more = false
        for i = 1, #FILLERS do
            if sub(text, position + 1, position + #FILLERS[i]) == FILLERS[i] then
                position, is_more = position + #FILLERS[i], true
            end
        end
    end
    return position + 1
end


--- The delay that a message names, as in "Please retry after 26 seconds.".
-- @tparam string|nil message
-- @treturn number|nil milliseconds; nil: none
function _M.of_message(message)
    if type(message) ~= "string" then
        return nil
    end
    local text = gsub(lower(sub(message, 1, MAX_MESSAGE)), "%s+", " ")
    for i = 1, #PHRASES do
        local from = 1
        while true do
            local _, last = find(text, PHRASES[i], from, true)
            if not last then
                break
            end
            local rest = sub(text, last + 1, last + MAX_DELAY_TEXT)
            local milliseconds = delay_at(sub(rest, after_fillers(rest)))
            if milliseconds then
                return milliseconds
            end
            from = last + 1
        end
    end
    return nil
end


-- Seconds until a date, by the clock of the backend that named it, because clocks differ by
-- minutes. `Date` has whole seconds; if the clocks agree, the gateway's more precise clock is used.
local function seconds_until(date, headers, now, parse_http_time)
    local there = first(headers["date"])
    there = there and parse_http_time(there)
    if not there or now - there >= 0 and now - there < AGREEING_S then
        return date - now
    end
    return date - there
end


--- The delay that an answer names. A missing, zero, negative or invalid value is ignored.
-- @tparam table headers of the answer, found by name in any case
-- @tparam number now seconds since the epoch
-- @tparam function parse_http_time returns the seconds since the epoch of an HTTP date, or nil
-- @tparam string|nil message of the answer's error
-- @tparam boolean|nil is_throttled whether rate limit resets count; other answers contain them too
-- @treturn number|nil milliseconds; nil: none
function _M.named_ms(headers, now, parse_http_time, message, is_throttled)
    local milliseconds = positive(first(headers["retry-after-ms"]))
                         or positive(first(headers["x-ms-retry-after-ms"]))
    if milliseconds then
        return milliseconds
    end

    local after = first(headers["retry-after"])
    if after then
        -- Some values have units, and some join several lines.
        local named = reset_ms(match(after, "^(.-),%s") or after)
        if named then
            return named
        end
        local seconds
        local date = parse_http_time(after)
        seconds = date and seconds_until(date, headers, now, parse_http_time)
        if seconds and seconds > 0 then
            return seconds * 1000
        end
    end

    local longest
    if is_throttled then
        for i = 1, #RESETS do
            local each = reset_ms(first(headers[RESETS[i]]))
            longest = each and max(each, longest or 0) or longest
        end
    end
    return longest or _M.of_message(message)
end


return _M
