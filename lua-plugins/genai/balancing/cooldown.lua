--- Cooldowns: how long a backend is skipped after a failure. All workers share them.
-- A cooldown applies to a backend as a whole or to one scope: a deployment or an operation. It is
-- firm if the backend named the delay or the gateway has proved the cause. Any other cooldown is a
-- guess; a guess never excludes the last backend that can serve a request.

local change_log = require("genai.balancing.change_log")
local shared_keys = require("genai.util.shared_keys")
local ceil = math.ceil
local match = string.match
local max = math.max
local min = math.min
local next = next
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber

local _M = {}

local COOLDOWN, PROBE = shared_keys.COOLDOWN, shared_keys.COOLDOWN_PROBE
local SUSPECT = shared_keys.COOLDOWN_SUSPECT

--- The longest wait of other requests while one request probes a backend.
_M.PROBE_MS = 2000

-- A cooldown is kept in memory for this long after its end, so that its end is probed.
local REMEMBERED_MS = 60 * 1000

-- The shortest delay that a client gets, because clocks and networks are not exact.
local MIN_DELAY_MS = 100

-- A client also gets at least the whole delay that the backend named, up to this cap: the delay is
-- the time until there is capacity for one more request, not the end of the throttling.
local MIN_OF_NAMED_MS = 1000

-- The first cooldown of a backend that refuses connections.
local REFUSED_MS = 1000

--- Each further cooldown. Finding out that a backend still refuses connections takes a millisecond.
_M.REFUSED_AGAIN_MS = 2000

local LOG = shared_keys.BACKEND_CHANGES
local NONE = {}
local MAX_SCOPE = 128


--- How long a cooldown lasts.
-- @tparam number|nil named milliseconds that the backend named
-- @tparam table conf `default_ms`, and `max_ms` as the cap on the named delay; `fixed_ms`: the
--   length whatever the backend named, nil: none
function _M.duration_ms(named, conf)
    if conf.fixed_ms then
        return conf.fixed_ms
    end
    if conf.max_ms == 0 or (not named and conf.default_ms == 0) then
        return 0
    end
    return max(1, ceil(min(named or conf.default_ms, conf.max_ms)))
end


--- The duration of the cooldown of an unreachable backend.
-- @tparam boolean is_costly whether finding that out delays a request, as a connect timeout does
-- @tparam boolean is_again whether it was unreachable shortly before
-- @tparam table conf `default_ms`, `max_ms`, `fixed_ms` (or nil)
function _M.unreachable_ms(is_costly, is_again, conf)
    local longest = _M.duration_ms(nil, conf)
    if is_costly or conf.fixed_ms then
        return longest
    end
    return min(longest, is_again and _M.REFUSED_AGAIN_MS or REFUSED_MS)
end


--- The delay to return to a client while a cooldown lasts, in milliseconds.
-- @tparam number left until its end
-- @tparam number duration of the whole cooldown
function _M.client_delay_ms(left, duration)
    return ceil(max(left, min(duration, MIN_OF_NAMED_MS), MIN_DELAY_MS))
end


-- The part of a scope that is used in the key of its cooldown.
local function short(scope)
    return #scope > MAX_SCOPE and sub(scope, 1, MAX_SCOPE) or scope
end


--- The key of a cooldown. The id includes the endpoint, so a backend with a new endpoint does not
-- inherit a cooldown.
-- @tparam string id the backend's id: its name and endpoint
-- @tparam string|nil scope deployment or operation; nil: the whole backend
function _M.key(id, scope)
    return scope and COOLDOWN .. id .. "|" .. short(scope) or COOLDOWN .. id
end


-- Parses a stored cooldown: "TILL REASON firm|guess DURATION", and after a request of the low lane
-- the time until which it also holds for the high lane.
local function parse(entry)
    local till, reason, kind, duration, high_till =
        match(entry, "^(%S+) (%S+) (%S+) (%S+) ?(%S*)$")
    return {
        till = tonumber(till),
        reason = reason,
        is_firm = kind == "firm",
        duration = tonumber(duration),
        high_till = tonumber(high_till),
    }
end


-- Until when a cooldown already holds for the high lane.
local function held_till(entry, now)
    if not entry or not entry.is_firm or entry.till <= now then
        return 0
    end
    return entry.high_till or entry.till
end


local function announce(dict, id, scope, lasts_ms)
    change_log.new(dict, LOG):append("cool\n" .. id .. "\n" .. (scope and short(scope) or ""),
                                  lasts_ms / 1000)
end


--- Begins a cooldown.
-- @tparam table dict with get, set, add and delete, as nginx's shared memory has
-- @tparam string id of the backend
-- @tparam string|nil scope nil: the whole backend
-- @tparam number now milliseconds
-- @tparam string reason the verdict on the answer: "throttled", "failing", "unreachable",
--   "credentials", "refused" or "deployment_not_found"
-- @tparam boolean|nil is_firm
-- @tparam table|nil by the request that causes it: `lane`; `keeps_longer`: a cooldown that lasts
--   longer stays as it is
-- @treturn boolean whether it begins
function _M.start(dict, id, scope, now, duration_ms, reason, is_firm, by)
    local key = _M.key(id, scope)
    local lasts = duration_ms + REMEMBERED_MS
    local of_low = is_firm and by and by.lane == "low"
    local high_till = ""
    if of_low or by and by.keeps_longer then
        local text = dict:get(key)
        local before = text and parse(text)
        if before and by.keeps_longer and before.till >= now + duration_ms then
            return false
        end
        high_till = of_low and " " .. held_till(before, now) or ""
    end
    dict:set(key, (now + duration_ms) .. " " .. reason .. (is_firm and " firm " or " guess ")
                  .. duration_ms .. high_till, lasts / 1000)
    dict:delete(PROBE .. key)
    announce(dict, id, scope, lasts)
    return true
end


--- Whether a cooldown keeps a request away even if it has no other backend. A guess does not, and
-- not one that only requests of the low lane have caused, if the request is of the high lane.
-- @tparam table entry as `View:cooldown` returns it, still lasting
-- @tparam string|nil lane of the request
-- @tparam number now milliseconds
function _M.holds(entry, lane, now)
    return entry.is_firm and not (entry.high_till and lane == "high" and entry.high_till <= now)
end


--- Ends a cooldown, because the backend has worked.
function _M.stop(dict, id, scope)
    local key = _M.key(id, scope)
    -- A worker without requests reads changes late. The log entry must live until the cooldown
    -- would have expired in that worker's memory.
    local left_s = dict:ttl(key) or 0
    dict:delete(key)
    dict:delete(PROBE .. key)
    announce(dict, id, scope, max(left_s * 1000, REMEMBERED_MS))
end


--- Ends the cooldown of a whole backend if it has the given reason.
function _M.stop_for(dict, id, reason)
    local entry = dict:get(_M.key(id))
    if entry and parse(entry).reason == reason then
        _M.stop(dict, id)
    end
end


--- The state of one cooldown.
-- @treturn string "usable", "cooling" or "ended"; an ended cooldown allows one request, the one
--   that takes the probe
-- @treturn number|nil milliseconds until it ends
-- @treturn string|nil the reason
function _M.state(dict, key, now)
    local text = dict:get(key)
    if not text then
        return "usable"
    end

    local entry = parse(text)
    local left = entry.till - now
    if left > 0 then
        return "cooling", left, entry.reason
    end
    return "ended", 0, entry.reason
end


--- Marks a backend as unhealthy, or as healthy again, for all workers.
-- @tparam string key of the mark
-- @tparam number|nil lasts_s how long the mark lasts; nil: the backend is healthy
function _M.mark_health(dict, id, key, now, lasts_s)
    if lasts_s then
        dict:set(key, now + lasts_s * 1000, lasts_s)
    else
        dict:delete(key)
    end
    change_log.new(dict, LOG):append("health\n" .. id .. "\n" .. key,
                                  lasts_s or REMEMBERED_MS / 1000)
end


--- Acquires the right to probe a backend whose cooldown has ended.
function _M.take_probe(dict, key)
    return dict:add(PROBE .. key, true, _M.PROBE_MS / 1000) == true
end


--- Returns that right if the request ended without a result.
function _M.release_probe(dict, key)
    dict:delete(PROBE .. key)
end


--- Remembers which request failed at a backend. If a different request fails there next, the
-- backend is at fault, else the request may be.
-- @tparam string key of the cooldown that would begin
-- @tparam string fingerprint of the request
-- @tparam number lasts_ms
-- @treturn boolean whether a different request failed there before
function _M.suspect(dict, key, fingerprint, lasts_ms)
    local name = SUSPECT .. key
    local before = dict:get(name)
    dict:set(name, fingerprint, max(lasts_ms, 1) / 1000)
    return before ~= nil and before ~= fingerprint
end


local View = {}
local view_mt = { __index = View }


--- A worker's view of all cooldowns and health marks. It reads only changes, so that a request
-- costs the same with a thousand backends.
-- @tparam table dict
function _M.view(dict)
    return setmetatable({ dict = dict, log = change_log.new(dict, LOG), backends = {} }, view_mt)
end


local function is_empty(known)
    return known.unhealthy_till == nil and next(known.cooldowns) == nil
end


local function take_over(view, change)
    local kind, id, rest = match(change, "^(%a+)\n([^\n]*)\n(.*)$")
    local known = view.backends[id] or { cooldowns = {} }
    if kind == "health" then
        known.unhealthy_till = view.dict:get(rest)
    else
        local scope = rest ~= "" and rest or nil
        local text = view.dict:get(_M.key(id, scope))
        local entry = text and parse(text) or nil
        if entry then
            entry.scope = scope
        end
        known.cooldowns[rest] = entry
    end
    view.backends[id] = not is_empty(known) and known or nil
end


--- Reads the changes; called at the beginning of each choice.
function View:refresh()
    self.log:follow(take_over, self)
end


--- Whether a backend is marked as unhealthy.
function View:is_unhealthy(id, now)
    local known = self.backends[id]
    return known ~= nil and known.unhealthy_till ~= nil and known.unhealthy_till > now
end


--- The end of the last among some cooldowns of a backend.
-- @tparam string id
-- @tparam number now
-- @tparam function counts called for each cooldown with `argument`, the scope ("" for the whole
--   backend) and the cooldown; returns whether to include it
-- @treturn number|nil milliseconds; nil: no such cooldown
function View:latest_end(id, now, counts, argument)
    local known = self.backends[id]
    local latest
    for scope, entry in pairs(known and known.cooldowns or NONE) do
        if entry.till > now and counts(argument, scope, entry) and entry.till > (latest or 0) then
            latest = entry.till
        end
    end
    return latest
end


--- The cooldown of a backend in one scope, while it lasts and while its end must be probed.
-- @tparam string id
-- @tparam string|nil scope nil: the whole backend
-- @treturn table|nil `till` (milliseconds), `reason`, `is_firm`, `duration`, `scope`; `high_till`:
--   until when it holds for the high lane, nil: until its end
function View:cooldown(id, scope, now)
    local known = self.backends[id]
    if not known then
        return nil
    end
    local name = scope and short(scope) or ""
    local entry = known.cooldowns[name]
    if entry and entry.till + REMEMBERED_MS <= now then
        known.cooldowns[name] = nil
        if is_empty(known) then
            self.backends[id] = nil
        end
        return nil
    end
    return entry
end


return _M
