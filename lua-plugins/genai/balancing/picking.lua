--- Picks the next backend: highest priority first, and within a priority by the algorithm.

local bit = require("bit")
local bxor = bit.bxor
local rshift = bit.rshift
local tobit = bit.tobit
local byte = string.byte
local lower = string.lower
local sub = string.sub
local log = math.log
local floor = math.floor
local min = math.min
local ipairs = ipairs
local pairs = pairs
local sort = table.sort

local _M = {}

--- The multiple of its share of requests in flight up to which affinity may load a backend.
_M.OVERLOAD = 1.25

-- This many are always allowed, because with few requests in flight a share is less than one.
local SPARE = 2

-- Only the beginning of a longer key is hashed.
local MAX_KEY = 256


--- Backends by priority.
-- @tparam table backends each with `name`, `priority`, `weight`; those of weight 0 are drained
-- @tparam boolean|nil with_drained whether to include drained ones, for objects that only they have
-- @treturn table tiers, highest priority first; each a list of backends in the order given
function _M.tiers(backends, with_drained)
    local by_priority = {}
    local priorities = {}
    for _, each in ipairs(backends) do
        if each.weight > 0 or with_drained then
            if not by_priority[each.priority] then
                by_priority[each.priority] = {}
                priorities[#priorities + 1] = each.priority
            end
            local tier = by_priority[each.priority]
            tier[#tier + 1] = each
        end
    end

    sort(priorities, function(a, b) return a > b end)
    local tiers = {}
    for i, priority in ipairs(priorities) do
        tiers[i] = by_priority[priority]
    end
    return tiers
end


--- Smooth weighted round robin: in each series of picks every backend gets its share, evenly
-- distributed.
-- @tparam table candidates at least one; `turns` of each is a table for the algorithm's own state
function _M.round_robin(candidates)
    local total, best, most = 0, nil, nil
    for i = 1, #candidates do
        local each = candidates[i]
        local turns, weight = each.turns, each.weight
        local current = (turns.current or 0) + weight
        turns.current = current
        total = total + weight
        if not best or current > most then
            best, most = each, current
        end
    end
    best.turns.current = most - total
    return best
end


-- a * b modulo 2^32, where the product of two doubles would lose its low bits
local function multiply(a, b)
    local low = (a % 65536) * b
    local high = (floor(a / 65536) * b) % 65536
    return (low + high * 65536) % 4294967296
end


-- FNV-1a
local function hash(text)
    local h = 2166136261
    for i = 1, #text do
        h = multiply(bxor(tobit(h), byte(text, i)) % 4294967296, 16777619)
    end
    return tobit(h)
end


-- Mixes the bits of a hash, as the final step of MurmurHash3 does; returns a number from 0 to 1.
-- The factors are small enough for doubles to hold the products exactly.
local function spread(h)
    h = bxor(h, rshift(h, 15))
    h = tobit(h * 709607)
    h = bxor(h, rshift(h, 12))
    h = tobit(h * 915769)
    h = bxor(h, rshift(h, 16))
    return (h + 2147483648.5) / 4294967296
end


-- Weighted rendezvous hashing among the candidates with fewer requests in flight than `share` for
-- each unit of weight, plus a few. nil: among all candidates.
local function best_for(candidates, key, share)
    local hash_of_key = hash(key .. "")
    local best, best_uniform, best_weight
    for i = 1, #candidates do
        local each = candidates[i]
        local memory, weight = each.memory, each.weight
        local of_name = memory.hash
        if not of_name then
            of_name = hash(each.name)
            memory.hash = of_name
        end
        if not share or (memory.in_flight or 0) < weight * share + SPARE then
            local uniform = spread(bxor(of_name, hash_of_key))
            local is_better
            if not best then
                is_better = true
            elseif weight == best_weight then
                is_better = uniform > best_uniform
            else
                is_better = weight / log(uniform) < best_weight / log(best_uniform)
            end
            if is_better then
                best, best_uniform, best_weight = each, uniform, weight
            end
        end
    end
    return best
end


--- Weighted rendezvous hashing: a key goes to the same backend while that is available. If a
-- backend disappears, only its keys move, to the others by weight.
-- @tparam table candidates at least one; `memory` of each is a table for the algorithm's own state
-- @tparam string key
function _M.consistent_hash(candidates, key)
    return best_for(candidates, key)
end


--- Consistent hashing with bounded load: a backend with many more requests in flight than its share
-- gets no more, and the key goes to its next backend. The order of backends for a key is the same
-- in all workers; requests in flight are counted by each worker.
-- @tparam table candidates at least one; `memory` of each has `in_flight`, a number or nil for 0
-- @tparam string key only its beginning counts
function _M.bounded_hash(candidates, key)
    local in_flight, weights = 1, 0
    for i = 1, #candidates do
        local each = candidates[i]
        in_flight = in_flight + (each.memory.in_flight or 0)
        weights = weights + each.weight
    end
    -- If all candidates are drained, none has a share.
    local share = weights > 0 and in_flight * _M.OVERLOAD / weights or nil
    return best_for(candidates, sub(key, 1, MAX_KEY), share)
end


-- A candidate other than `but`, drawn by weight.
local function other_by_weight(candidates, but, random)
    local total = 0
    for i = 1, #candidates do
        if candidates[i] ~= but then
            total = total + candidates[i].weight
        end
    end

    local left, last = random() * total, nil
    for i = 1, #candidates do
        local each = candidates[i]
        if each ~= but then
            last = each
            left = left - each.weight
            if left < 0 then
                break
            end
        end
    end
    return last
end


--- The power of two choices: one candidate comes from the round robin, another one is drawn by
-- weight. The first one wins, unless the other is clearly better. Candidates far behind the best do
-- not take part.
-- @tparam table candidates at least one; `memory` of each is a table for the algorithm's own state
-- @tparam table scores of the candidates in the same order; less is better
-- @tparam number clearly a score below this fraction of the other is clearly better
-- @tparam number too_slow a score above this multiple of the best is too slow
-- @tparam function random returns numbers from 0 to 1
function _M.better_of_two(candidates, scores, clearly, too_slow, random)
    local best = scores[1]
    for i = 2, #candidates do
        best = min(best, scores[i])
    end

    local drawn, score_of = {}, {}
    for i = 1, #candidates do
        if scores[i] <= best * too_slow then
            drawn[#drawn + 1] = candidates[i]
            score_of[candidates[i]] = scores[i]
        end
    end
    if #drawn == 1 then
        return drawn[1]
    end

    local first = _M.round_robin(drawn)
    local second = other_by_weight(drawn, first, random)
    return score_of[second] < score_of[first] * clearly and second or first
end


--- Deployments by name in lower case, because Azure ignores case.
-- @tparam table|nil deployments the client's name to the backend's
function _M.in_any_case(deployments)
    if not deployments then
        return nil
    end
    local found = {}
    for name, served_as in pairs(deployments) do
        found[lower(name)] = served_as
    end
    for name, served_as in pairs(deployments) do
        found[name] = served_as
    end
    return found
end


--- A backend's name of a deployment.
-- @tparam table|nil deployments as `in_any_case` returns them; nil: the backend serves everything
-- @tparam string|nil deployment the client's; nil: the request names none
-- @treturn string|nil|false the backend's name; false: it does not serve it
function _M.served_as(deployments, deployment)
    if not deployment or not deployments then
        return deployment
    end
    return deployments[deployment] or deployments[lower(deployment)] or false
end


--- Whether a backend of a pool (or of those with the given origin) serves a deployment.
function _M.is_served(backends, deployment, origin)
    for _, each in pairs(backends) do
        if (not origin or each.origin == origin)
           and _M.served_as(each.deployments, deployment) ~= false
        then
            return true
        end
    end
    return false
end


return _M
