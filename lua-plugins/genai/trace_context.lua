--- W3C Trace Context: what a `traceparent` says, how one is written, and which traces are recorded.

local find = string.find
local floor = math.floor
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

local NO_TRACE = ("0"):rep(32)
local NO_SPAN = ("0"):rep(16)

-- Of a trace's id, the 13 digits that decide whether it is recorded: as many as a number holds.
local FIRST, LAST = 17, 29
local RANGE = 2 ^ 52


--- Reads a `traceparent`.
-- @tparam any header a list, where there are more than one, is none
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
    -- A later version may say more, after these four.
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


--- Writes one, of a trace that is recorded.
-- @tparam boolean is_random whether it is known that the trace's id is
function _M.header(trace_id, span_id, is_random)
    return "00-" .. trace_id .. "-" .. span_id .. (is_random and "-03" or "-01")
end


--- Whether a share of all traces has a trace in it. Which ones does not depend on who is asked, so
-- that others with a greater share record the same ones, and more.
-- @tparam string trace_id
-- @tparam number rate from 0 to 1
function _M.is_chosen(trace_id, rate)
    if rate >= 1 then
        return true
    end
    return rate > 0 and tonumber(sub(trace_id, FIRST, LAST), 16) < rate * RANGE
end


return _M
