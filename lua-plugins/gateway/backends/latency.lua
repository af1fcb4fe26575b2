--- Measures the time to first byte of backends, and picks backends by it.

local latency_stats = require("genai.balancing.latency_stats")
local shared_memory = require("gateway.mechanisms.shared_memory")
local ngx = ngx
local ngx_now = ngx.now
local random = math.random

local _M = {}

local state = shared_memory.state


local function milliseconds()
    return ngx_now() * 1000
end


local function kind_of(choice)
    local kind = choice.kind
    if not kind then
        kind = latency_stats.kind(choice.cooldown_label, choice.asks_for_stream)
        choice.kind = kind
    end
    return kind
end


-- With more candidates, only this many are compared, in turn: reading each costs a look into shared
-- memory.
local MAX_LOOKED_AT = 8

local turn = 0


local function some_of(candidates)
    local count = #candidates
    local some = {}
    for i = 1, MAX_LOOKED_AT do
        some[i] = candidates[(turn + i) % count + 1]
    end
    turn = (turn + MAX_LOOKED_AT) % count
    return some
end


--- Picks one of several candidates.
-- @tparam table candidates at least two
-- @tparam table choice `cooldown_label`, `asks_for_stream`
function _M.pick(candidates, choice)
    if #candidates > MAX_LOOKED_AT then
        candidates = some_of(candidates)
    end
    return latency_stats.pick(candidates, kind_of(choice), state, milliseconds(), random)
end


-- Stops counting a request as waiting. Returns the statistics it was waiting for, and how long it
-- waited.
local function stop_waiting(choice)
    local known = choice.awaited
    known.waiting = known.waiting - 1
    choice.awaited = nil
    return known, milliseconds() - choice.awaited_since
end


--- Counts a request as waiting for a backend.
function _M.begin(choice, backend)
    if choice.awaited then
        stop_waiting(choice)
    end
    local known = backend.memory.known(kind_of(choice))
    known.waiting = known.waiting + 1
    choice.awaited, choice.awaited_since = known, milliseconds()
end


--- A backend answered. For a stream, the time of the first output counts, which may come later. For
-- an answer in one piece, the time is kept until its length is known.
-- @tparam table choice
-- @tparam table answer the record of the answer
-- @tparam number status
-- @tparam boolean is_stream
-- @tparam boolean has_output whether the stream has had output already
function _M.answered(choice, answer, status, is_stream, has_output)
    if is_stream and status == 200 and not has_output then
        answer.awaited_by = choice
        return
    end

    local known, took = stop_waiting(choice)
    -- A client error comes faster than an answer, so its time is not comparable.
    if status >= 400 or not is_stream ~= not choice.asks_for_stream then
        return
    end
    if is_stream then
        latency_stats.answered(state, known, milliseconds(), took)
    else
        choice.answered_by, choice.took = known, took
    end
end


--- The first output of a stream has arrived.
function _M.first_output(answer)
    local known, took = stop_waiting(answer.awaited_by)
    answer.awaited_by = nil
    latency_stats.answered(state, known, milliseconds(), took)
end


--- Records a failed attempt.
-- @tparam boolean is_cooling whether a cooldown now keeps requests away; a throttled backend is not
--   slow
function _M.failed(choice, is_cooling)
    local known, took = stop_waiting(choice)
    local learn = is_cooling and latency_stats.unanswered or latency_stats.failed
    learn(state, known, milliseconds(), took)
end


--- Records the end of a request.
-- @tparam table|nil usage of its answer
function _M.finish(choice, usage)
    if choice.awaited then
        -- The client disconnected, or the answer broke off: the time until then still counts as a
        -- lower bound.
        local known, took = stop_waiting(choice)
        latency_stats.unanswered(state, known, milliseconds(), took)
    elseif choice.answered_by then
        latency_stats.answered(state, choice.answered_by, milliseconds(),
                         latency_stats.without_length(choice.took, usage and usage.completion))
        choice.answered_by = nil
    end
end


return _M
