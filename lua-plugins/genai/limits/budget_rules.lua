--- The rules of a token budget that both lanes share: what a request reserves, who is rejected.

local floor = math.floor
local max = math.max
local min = math.min
local tonumber = tonumber

local _M = {}

local BYTES_PER_TOKEN = 4

-- Tokens of an answer whose request does not limit them.
local OUTPUT = 256

-- More tokens than any answer has.
local MOST = 2 ^ 31

-- No guess takes more than this part of a budget: one large request must not lock out all others
-- until its real usage is known.
local SHARE = 10

--- Members of a request's JSON that say how long its answer may be.
_M.OUTPUT_MEMBERS = { "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of" }

--- Values of `x-gw-ratelimit-reason`.
_M.REASONS = { low = "tokens-below-low-priority-threshold", high = "tokens-used-up" }

--- Messages of rejections.
_M.MESSAGES = {
    low = "The tokens that this deployment has left are reserved for requests of the high lane.",
    high = "The tokens a minute of this deployment are used up.",
}


-- Clients choose these numbers. One that is infinite, or not a number, would stay in every sum.
local function number_of(members, name)
    local member = members[name]
    local number = member and member.kind == "literal" and tonumber(member.value) or 0
    return number > 0 and min(number, MOST) or 0
end


-- The longest answer that a request allows, in tokens.
local function output_of(members)
    local longest = max(number_of(members, "max_tokens"),
                        number_of(members, "max_completion_tokens"),
                        number_of(members, "max_output_tokens"))
    local times = max(1, number_of(members, "n"), number_of(members, "best_of"))
    return min((longest > 0 and longest or OUTPUT) * times, MOST)
end


--- The tokens that a request reserves until its usage is known.
-- @tparam number tokens_per_minute of the budget; nil: unknown
-- @tparam number|nil length of the body in bytes
-- @tparam boolean has_output whether the answer has tokens, too
-- @tparam table members of the scanned body, by name
-- @treturn number at least 1
function _M.estimate(tokens_per_minute, length, has_output, members)
    local tokens = floor((length or 0) / BYTES_PER_TOKEN)
    if has_output then
        tokens = tokens + output_of(members)
    end
    if tokens_per_minute then
        tokens = min(tokens, _M.share(tokens_per_minute))
    end
    return max(1, floor(tokens))
end


--- The most that a guess takes of tokens that are known to be left.
-- @tparam number left
function _M.share(left)
    return floor(left / SHARE)
end


--- The number of counted tokens from which requests of a lane are rejected: those of the low lane
-- if less than the reserve is left, those of the high lane if nothing is left.
-- @tparam string lane
-- @tparam number tokens_per_minute
-- @tparam number reserve
function _M.bound(lane, tokens_per_minute, reserve)
    if lane == "low" then
        return min(tokens_per_minute, tokens_per_minute - reserve + 1)
    end
    return tokens_per_minute
end


return _M
