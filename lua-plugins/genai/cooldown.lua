--- Cooldowns: for how long a backend is skipped after a failure, and the memory of it that all
-- workers share.
--
-- A cooldown is of a backend as a whole or of one scope, a deployment or an operation. It is firm
-- where the backend named the delay or where the gateway has proved the cause; any other is a
-- guess, which never keeps a request from the last backend that could serve it.

local changes = require("genai.changes")
local ceil = math.ceil
local match = string.match
local max = math.max
local min = math.min
local next = next
local setmetatable = setmetatable
local sub = string.sub
local tonumber = tonumber

local _M = {}

--- While one request tries a backend again, others wait for its outcome at most this long.
_M.PROBE_MS = 2000

-- A cooldown is remembered this much longer than it lasts, so that its end is probed.
local REMEMBERED_MS = 60 * 1000

-- A client is never sent back sooner than after this: clocks and networks are not exact.
local MIN_TOLD_MS = 100

-- Nor sooner than the backend asked for, as long as that is no more than a second: what it named
-- was the time in which it has room for another request, not the end of its trouble.
local MIN_OF_NAMED_MS = 1000

-- The first cooldown of a backend that refuses connections.
local REFUSED_MS = 1000

--- And each further one. To find out that it still refuses them takes a millisecond.
_M.REFUSED_AGAIN_MS = 2000

local LOG = "backend-changes"
local MAX_SCOPE = 128


--- How long a cooldown lasts.
-- @tparam number|nil named milliseconds that the backend named
-- @tparam table conf `default_ms`, and `max_ms` as the cap on what is named
function _M.duration_ms(named, conf)
    if conf.max_ms == 0 or (not named and conf.default_ms == 0) then
        return 0
    end
    return max(1, ceil(min(named or conf.default_ms, conf.max_ms)))
end


--- How long the cooldown of a backend that cannot be reached lasts.
-- @tparam boolean is_costly whether finding that out takes a request long, as a connect time-out
-- @tparam boolean is_again whether it could not be reached a moment ago
-- @tparam table conf `default_ms`, `max_ms`
function _M.unreachable_ms(is_costly, is_again, conf)
    local longest = _M.duration_ms(nil, conf)
    if is_costly then
        return longest
    end
    return min(longest, is_again and _M.REFUSED_AGAIN_MS or REFUSED_MS)
end


--- The delay that a client is told while a cooldown lasts, in milliseconds.
-- @tparam number left until its end
-- @tparam number duration of it as a whole
function _M.told_ms(left, duration)
    return ceil(max(left, min(duration, MIN_OF_NAMED_MS), MIN_TOLD_MS))
end


-- The part of a scope that names its cooldown.
local function short(scope)
    return #scope > MAX_SCOPE and sub(scope, 1, MAX_SCOPE) or scope
end


--- The key of a cooldown. A backend that was pointed elsewhere does not inherit one.
-- @tparam string id the backend's, which says its name and where it is
-- @tparam string|nil scope deployment or operation; nil: the whole backend
function _M.key(id, scope)
    return scope and "cool|" .. id .. "|" .. short(scope) or "cool|" .. id
end


-- A cooldown as it is stored: "TILL REASON firm|guess DURATION".
local function parse(entry)
    local till, reason, kind, duration = match(entry, "^(%S+) (%S+) (%S+) (%S+)$")
    return {
        till = tonumber(till),
        reason = reason,
        is_firm = kind == "firm",
        duration = tonumber(duration),
    }
end


local function announce(dict, id, scope, lasts_ms)
    changes.new(dict, LOG):append("cool\n" .. id .. "\n" .. (scope and short(scope) or ""),
                                  lasts_ms / 1000)
end


--- Begins a cooldown.
-- @tparam table dict with get, set, add and delete, as nginx's shared memory has
-- @tparam string id of the backend
-- @tparam string|nil scope nil: the whole backend
-- @tparam number now milliseconds
-- @tparam string reason what an answer says of it: "throttled", "failing", "unreachable",
--   "credentials", "refused" or "deployment_not_found"
-- @tparam boolean|nil is_firm
function _M.start(dict, id, scope, now, duration_ms, reason, is_firm)
    local key = _M.key(id, scope)
    local lasts = duration_ms + REMEMBERED_MS
    dict:set(key, (now + duration_ms) .. " " .. reason .. (is_firm and " firm " or " guess ")
                  .. duration_ms, lasts / 1000)
    dict:delete("probe|" .. key)
    announce(dict, id, scope, lasts)
end


--- Ends a cooldown, because the backend was seen to work.
function _M.stop(dict, id, scope)
    local key = _M.key(id, scope)
    dict:delete(key)
    dict:delete("probe|" .. key)
    announce(dict, id, scope, REMEMBERED_MS)
end


--- Ends the cooldown of a whole backend that is for this reason, when the reason is gone.
function _M.stop_for(dict, id, reason)
    local entry = dict:get(_M.key(id))
    if entry and parse(entry).reason == reason then
        _M.stop(dict, id)
    end
end


--- State of one cooldown.
-- @treturn string "usable", "cooling" or "ended"; one that has just ended is for the one request
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
    changes.new(dict, LOG):append("health\n" .. id .. "\n" .. key,
                                  lasts_s or REMEMBERED_MS / 1000)
end


--- Takes the right to be the one request that tries a backend whose cooldown has ended.
function _M.take_probe(dict, key)
    return dict:add("probe|" .. key, true, _M.PROBE_MS / 1000) == true
end


--- Gives it back, when the request ended without showing anything.
function _M.release_probe(dict, key)
    dict:delete("probe|" .. key)
end


--- Remembers which request failed at a backend, so that the next one tells whether the backend or
-- the request is at fault.
-- @tparam string key of the cooldown that there would be
-- @tparam string fingerprint of the request
-- @tparam number lasts_ms
-- @treturn boolean whether a different request failed there before
function _M.suspect(dict, key, fingerprint, lasts_ms)
    local name = "suspect|" .. key
    local before = dict:get(name)
    dict:set(name, fingerprint, max(lasts_ms, 1) / 1000)
    return before ~= nil and before ~= fingerprint
end


local View = {}
local view_mt = { __index = View }


--- What one worker knows of all cooldowns and health marks. It reads only what has changed, so
-- that a request costs the same with a thousand backends.
-- @tparam table dict
function _M.view(dict)
    return setmetatable({ dict = dict, log = changes.new(dict, LOG), backends = {} }, view_mt)
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


--- Reads what has changed; at the beginning of a choice.
function View:refresh()
    self.log:follow(take_over, self)
end


--- Whether a backend is marked as unhealthy.
function View:is_unhealthy(id, now)
    local known = self.backends[id]
    return known ~= nil and known.unhealthy_till ~= nil and known.unhealthy_till > now
end


--- The cooldown of a backend in one scope, while it lasts and for the time in which its end is to
-- be probed.
-- @tparam string id
-- @tparam string|nil scope nil: the whole backend
-- @treturn table|nil `till` (milliseconds), `reason`, `is_firm`, `duration`, `scope`
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
