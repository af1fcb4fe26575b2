--- How fast backends answer: statistics of their time to first byte, shared by all workers, and the
-- choice by them.

local memo = require("genai.util.memo")
local picking = require("genai.balancing.picking")
local shared_keys = require("genai.util.shared_keys")
local exp = math.exp
local floor = math.floor
local huge = math.huge
local max = math.max
local min = math.min
local sub = string.sub

local _M = {}

-- A statistic is forgotten if nothing was measured for this time. For a deployment that has never
-- answered, the time is shorter, because a client may have made up its name.
local REMEMBERED_S = 600
local UNANSWERED_REMEMBERED_S = 60

-- The weight of an old answer falls by a factor of e in this time.
local SMOOTHED_OVER_MS = 3000

-- The time that a failure without cooldown counts as, and its minimum weight regardless of recent
-- answers.
local FAILURE_MS = 5000
local FAILURE_WEIGHT = 0.3

-- The start of an answer in one piece, before its first token, counts as this many tokens.
local TOKENS_OF_START = 50

-- Differences of a few milliseconds are noise.
local NOISE_MS = 20

-- A backend answers many requests at once. With this many waiting, the expected time of one more
-- doubles.
local AT_ONCE = 8

-- A backend is clearly better than another if its score is below this fraction of the other's. A
-- backend whose score exceeds this multiple of the best is too slow to be drawn.
local CLEARLY = 0.8
local TOO_SLOW = 2

-- A statistic older than this may be outdated. After this many requests have skipped the backend,
-- for each of the others, one request tests it again.
local STALE_MS = 5000
local PASSED_OVER = 20

-- The time of a statistic is stored in the flags of its entry, which have 32 bits.
local CLOCK = 2 ^ 32


--- The key of a statistic. Streams and whole answers are measured separately.
-- @tparam string scope deployment or operation
-- @tparam boolean is_stream whether the request asks for a stream
function _M.kind(scope, is_stream)
    return (is_stream and "stream|" or "whole|") .. sub(scope, 1, 128)
end


--- A worker's own state for a backend, by kind: the number of requests waiting for their first
-- byte, and the number of requests that skipped the backend since its last one.
-- @tparam string id the backend's id: its name and endpoint
-- @treturn function
function _M.known_of(id)
    return memo.of(function(kind)
        return { key = shared_keys.LATENCY .. id .. "|" .. kind, waiting = 0, passed = 0 }
    end)
end


-- Flags of 0 cannot be distinguished from no flags.
local function clock(now)
    return max(floor(now) % CLOCK, 1)
end


-- The statistic and its age; nil: there is none.
local function read(dict, known, now)
    local figure, flags = dict:get(known.key)
    if not figure then
        return nil
    end
    return figure, (clock(now) - flags) % CLOCK
end


local function smoothed(figure, age, sample)
    return figure + (sample - figure) * (1 - exp(-age / SMOOTHED_OVER_MS))
end


--- Converts the time of an answer in one piece into that of its first token, because most of the
-- time depends on its length.
-- @tparam number milliseconds
-- @tparam number|nil tokens of the answer; nil: none, or not reported
function _M.without_length(milliseconds, tokens)
    return milliseconds * TOKENS_OF_START / (TOKENS_OF_START + (tokens or 0))
end


--- Records an answer.
-- @tparam table dict with get and set, as nginx's shared memory has
-- @tparam table known a worker's state for the backend
-- @tparam number now milliseconds
-- @tparam number took milliseconds
function _M.answered(dict, known, now, took)
    local figure, age = read(dict, known, now)
    dict:set(known.key, figure and smoothed(figure, age, took) or took, REMEMBERED_S, clock(now))
end


--- Records a request that ended before there was an answer: the answer would have taken longer.
function _M.unanswered(dict, known, now, took)
    local figure, age = read(dict, known, now)
    if took > (figure or FAILURE_MS) then
        dict:set(known.key, figure and smoothed(figure, age, took) or took,
                 figure and REMEMBERED_S or UNANSWERED_REMEMBERED_S, clock(now))
    end
end


--- Records a failure. A fast failure is not a sign of speed.
function _M.failed(dict, known, now, took)
    local figure, age = read(dict, known, now)
    local sample = max(took, FAILURE_MS)
    dict:set(known.key,
             figure and max(smoothed(figure, age, sample),
                            figure + (sample - figure) * FAILURE_WEIGHT) or sample,
             figure and REMEMBERED_S or UNANSWERED_REMEMBERED_S, clock(now))
end


-- The slow backend that gets a request to test whether it is still slow.
local function to_be_tried(entries, ages, scores, best)
    local longest, found = PASSED_OVER * (#entries - 1), nil
    for i = 1, #entries do
        local known, age = entries[i], ages[i]
        if age and age >= STALE_MS and known.waiting == 0 and known.passed >= longest
           and best < scores[i] * CLEARLY
        then
            longest, found = known.passed, i
        end
    end
    return found
end


--- Picks a backend by `picking.better_of_two`, or a slow one to test whether it is still slow. The
-- score is the expected wait: the statistic and the number of waiting requests. A backend without a
-- statistic counts as good as the best.
-- @tparam table candidates at least two, each with `weight`, a `memory` for the algorithm's own
--   state, and `known`, the result of `known_of`
-- @tparam string kind
-- @tparam table dict
-- @tparam number now milliseconds
-- @tparam function random returns numbers from 0 to 1
function _M.pick(candidates, kind, dict, now, random)
    local entries, figures, ages, scores = {}, {}, {}, {}
    local least, weights = huge, 0
    for i = 1, #candidates do
        local each = candidates[i]
        local known = each.memory.known(kind)
        local figure, age = read(dict, known, now)
        entries[i], figures[i], ages[i] = known, figure or false, age or false
        least = min(least, figure or huge)
        weights = weights + max(each.weight, 1)
    end

    local best = huge
    for i = 1, #candidates do
        local figure = figures[i] or least < huge and least or 0
        -- Drained backends count too if only they can serve the request.
        local share = max(candidates[i].weight, 1) * #candidates / weights
        scores[i] = (figure + NOISE_MS) * (1 + entries[i].waiting / share / AT_ONCE)
        best = min(best, scores[i])
    end

    local picked = candidates[to_be_tried(entries, ages, scores, best) or 0]
                   or picking.better_of_two(candidates, scores, CLEARLY, TOO_SLOW, random)
    for i = 1, #candidates do
        entries[i].passed = candidates[i] == picked and 0 or entries[i].passed + 1
    end
    return picked
end


return _M
