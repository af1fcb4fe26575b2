--- Measures how long backends take to their first byte, and picks by that.

local latency = require("genai.latency")
local ngx = ngx
local ngx_now = ngx.now
local random = math.random

local _M = {}

local dict = ngx.shared["genai-gateway-state"]


local function milliseconds()
    return ngx_now() * 1000
end


local function kind_of(request)
    local kind = request.kind
    if not kind then
        kind = latency.kind(request.cooldown_label, request.asks_for_stream)
        request.kind = kind
    end
    return kind
end


-- Of more candidates some are looked at, in turn: each look reads the shared memory.
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
-- @tparam table request `cooldown_label`, `asks_for_stream`
function _M.pick(candidates, request)
    if #candidates > MAX_LOOKED_AT then
        candidates = some_of(candidates)
    end
    return latency.pick(candidates, kind_of(request), dict, milliseconds(), random)
end


-- A request waits no longer. Gives what it waited for, and how long.
local function stop_waiting(request)
    local known = request.awaited
    known.waiting = known.waiting - 1
    request.awaited = nil
    return known, milliseconds() - request.awaited_since
end


--- A request begins to wait for a backend.
function _M.begin(request, backend)
    if request.awaited then
        stop_waiting(request)
    end
    local known = backend.memory.known(kind_of(request))
    known.waiting = known.waiting + 1
    request.awaited, request.awaited_since = known, milliseconds()
end


--- A backend answered. Of a stream the first output counts, which may be still to come; the time
-- of an answer in one piece is kept until it is known how long the answer was.
-- @tparam table request
-- @tparam table seen what is seen of its answer
-- @tparam number status
-- @tparam boolean is_stream
-- @tparam boolean has_output whether there is output of the stream already
function _M.answered(request, seen, status, is_stream, has_output)
    if is_stream and status == 200 and not has_output then
        seen.awaited_by = request
        return
    end

    local known, took = stop_waiting(request)
    -- An error of the client comes sooner than an answer.
    if status >= 400 or not is_stream ~= not request.asks_for_stream then
        return
    end
    if is_stream then
        latency.answered(dict, known, milliseconds(), took)
    else
        request.answered_by, request.took = known, took
    end
end


--- The first output of a stream is here.
function _M.first_output(seen)
    local known, took = stop_waiting(seen.awaited_by)
    seen.awaited_by = nil
    latency.answered(dict, known, milliseconds(), took)
end


--- An attempt failed.
-- @tparam boolean is_cooling whether that keeps requests away for a while, as it should: what
--   throttles is not slow
function _M.failed(request, is_cooling)
    local known, took = stop_waiting(request)
    local learn = is_cooling and latency.unanswered or latency.failed
    learn(dict, known, milliseconds(), took)
end


--- A request ended.
-- @tparam table|nil usage of its answer
function _M.finish(request, usage)
    if request.awaited then
        -- Its client went away, or the answer broke off.
        local known, took = stop_waiting(request)
        latency.unanswered(dict, known, milliseconds(), took)
    elseif request.answered_by then
        latency.answered(dict, request.answered_by, milliseconds(),
                         latency.without_length(request.took, usage and usage.completion))
        request.answered_by = nil
    end
end


return _M
