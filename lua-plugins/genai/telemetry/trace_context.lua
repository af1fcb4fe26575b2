--- W3C Trace Context: reads and writes `traceparent`, and decides which traces are recorded.

local find = string.find
local floor = math.floor
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

local NO_TRACE = ("0"):rep(32)
local NO_SPAN = ("0"):rep(16)

-- The 13 digits of a trace id that decide whether it is recorded: as many as a double holds
-- exactly.
local FIRST, LAST = 17, 29
local RANGE = 2 ^ 52


--- Reads a `traceparent`.
-- @tparam any header a list of several headers is invalid
-- @treturn table|nil `trace_id`, `span_id`, `is_sampled`, `is_random`
function _M.parse(header)
    if type(header) ~= "string" or not find(header, "^%x%x%-%x+%-%x+%-%x%x") then
        return nil
    end

    local version, trace_id, span_id, flags =
        header:match("^([0-9a-f][0-9a-f])%-([0-9a-f]+)%-([0-9a-f]+)%-([0-9a-f][0-9a-f])")
    if not version or version == "ff" or #trace_id ~= 32 or #span_id ~= 16
       or trace_id == NO_TRACE or span_id == NO_SPAN
    then
        return nil
    end
    -- A later version may have more fields after these four.
    if #header > 55 and (version == "00" or sub(header, 56, 56) ~= "-") then
        return nil
    end

    local bits = tonumber(flags, 16)
    return {
        trace_id = trace_id,
        span_id = span_id,
        is_sampled = bits % 2 == 1,
        is_random = floor(bits / 2) % 2 == 1,
    }
end


--- Writes the `traceparent` of a recorded trace.
-- @tparam boolean is_random whether the trace id is known to be random
function _M.header(trace_id, span_id, is_random)
    return "00-" .. trace_id .. "-" .. span_id .. (is_random and "-03" or "-01")
end


--- Whether a trace is in the recorded share. All participants decide alike, so those with a greater
-- share record the same traces and more.
-- @tparam string trace_id
-- @tparam number rate from 0 to 1
function _M.is_chosen(trace_id, rate)
    if rate >= 1 then
        return true
    end
    return rate > 0 and tonumber(sub(trace_id, FIRST, LAST), 16) < rate * RANGE
end


return _M
