--- How fast backends answer: figures of their time to first byte, which all workers share, and the
-- choice by them.

local memo = require("genai.memo")
local picking = require("genai.picking")
local exp = math.exp
local floor = math.floor
local huge = math.huge
local max = math.max
local min = math.min
local sub = string.sub

local _M = {}

-- A figure is forgotten when nothing was measured for so long; that of a deployment which never
-- answered sooner, for a client may have made it up.
local REMEMBERED_S = 600
local UNANSWERED_REMEMBERED_S = 60

-- An answer weighs less the older it is: by so much in this time.
local SMOOTHED_OVER_MS = 3000

-- What a failure counts as, where no cool-down keeps requests away; and how much at least, however
-- many answers there were just before it.
local FAILURE_MS = 5000
local FAILURE_WEIGHT = 0.3

-- What an answer in one piece takes before its first token, in tokens.
local TOKENS_OF_START = 50

-- Differences of a few milliseconds are noise.
local NOISE_MS = 20

-- A backend answers many at once. When so many wait, one more is taken to wait twice as long.
local AT_ONCE = 8

-- A backend is clearly better than another with a score below this part of its; and too slow to be
-- one of two to choose from with a score of so many times the best.
local CLEARLY = 0.8
local TOO_SLOW = 2

-- A figure that is older than this may have become wrong. One request finds out, when so many have
-- passed the backend over, for each of the others.
local STALE_MS = 5000
local PASSED_OVER = 20

-- The time of a figure is in its flags, which have so many values.
local CLOCK = 2 ^ 32


--- What is measured together: what is asked for as a stream, apart from what is not.
-- @tparam string scope deployment or operation
-- @tparam boolean is_stream whether the request asks for a stream
function _M.kind(scope, is_stream)
    return (is_stream and "stream|" or "whole|") .. sub(scope, 1, 128)
end


--- What a worker knows by itself of a backend, by what is measured together: how many requests
-- wait for their first byte, and how many passed it over since the last one that did not.
-- @tparam string id the backend's, which says its name and where it is
-- @treturn function
function _M.known_of(id)
    return memo.of(function(kind)
        return { key = "ttfb|" .. id .. "|" .. kind, waiting = 0, passed = 0 }
    end)
end


-- Flags of 0 are the same as none.
local function clock(now)
    return max(floor(now) % CLOCK, 1)
end


-- The figure, and its age; nil where there is none.
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


--- The time of an answer in one piece as that of one without a token: most of it is its length.
-- @tparam number milliseconds
-- @tparam number|nil tokens of the answer; nil: it has none, or nobody said
function _M.without_length(milliseconds, tokens)
    return milliseconds * TOKENS_OF_START / (TOKENS_OF_START + (tokens or 0))
end


--- A backend answered.
-- @tparam table dict with get and set, as nginx's shared memory has
-- @tparam table known what a worker knows of the backend
-- @tparam number now milliseconds
-- @tparam number took milliseconds
function _M.answered(dict, known, now, took)
    local figure, age = read(dict, known, now)
    dict:set(known.key, figure and smoothed(figure, age, took) or took, REMEMBERED_S, clock(now))
end


--- A request ended before there was an answer: it would have taken longer.
function _M.unanswered(dict, known, now, took)
    local figure, age = read(dict, known, now)
    if took > (figure or FAILURE_MS) then
        dict:set(known.key, figure and smoothed(figure, age, took) or took,
                 figure and REMEMBERED_S or UNANSWERED_REMEMBERED_S, clock(now))
    end
end


--- A backend failed. That it did so soon is no sign of speed.
function _M.failed(dict, known, now, took)
    local figure, age = read(dict, known, now)
    local sample = max(took, FAILURE_MS)
    dict:set(known.key,
             figure and max(smoothed(figure, age, sample),
                            figure + (sample - figure) * FAILURE_WEIGHT) or sample,
             figure and REMEMBERED_S or UNANSWERED_REMEMBERED_S, clock(now))
end


-- The one among the slow to which a request goes to see whether it still is.
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


--- Picks a backend: of two that are drawn by weight, the one whose turn it is, unless the other one
-- is clearly better. What counts is how long a request may have to wait there: the figure, and how
-- many wait already. A backend without a figure is taken for as good as the best.
-- @tparam table candidates at least two, each with `weight` and a `memory` for the choice to keep;
--   its `known` is what `known_of` gave for the backend
-- @tparam string kind
-- @tparam table dict
-- @tparam number now milliseconds
-- @tparam function random gives numbers from 0 to 1
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
        -- Even a drained backend serves what it alone can.
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
