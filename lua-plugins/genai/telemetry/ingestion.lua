--- How Azure Monitor's Logs Ingestion API answers a batch, and when to retry.

local max = math.max
local min = math.min

local _M = {}

--- The maximum size of a call is 1 MB; the smaller reading of that is the safe one.
_M.MAX_BYTES = 1000000

-- The first wait; it doubles with each further attempt.
local FIRST_WAIT_MS = 1000
local LONGEST_WAIT_MS = 60 * 1000

-- A longer delay that the API asks for is cut to this.
local LONGEST_NAMED_MS = 5 * 60 * 1000


--- The result of a batch.
-- @tparam number status
-- @treturn string "sent", "again" (retry later), "token" (retry with a new token), "refused"
-- @treturn nil|string the reason as a word, if it was not sent
function _M.verdict(status)
    if status >= 200 and status < 300 then
        return "sent"
    elseif status == 429 then
        return "again", "throttled"
    elseif status == 408 or status >= 500 then
        return "again", "server_error"
    elseif status == 401 then
        return "token", "unauthorized"
    elseif status == 403 then
        return "refused", "unauthorized"
    end
    return "refused", "rejected"
end


--- The wait before a batch is sent again.
-- @tparam number attempts attempts made before
-- @tparam number|nil named_ms the delay that the API asks for
-- @tparam number random from 0 to 1, so that workers do not all retry at once
-- @treturn number milliseconds
function _M.wait_ms(attempts, named_ms, random)
    local wait = min(FIRST_WAIT_MS * 2 ^ min(attempts - 1, 16), LONGEST_WAIT_MS)
    return max(wait * (0.5 + random / 2), min(named_ms or 0, LONGEST_NAMED_MS))
end


return _M
