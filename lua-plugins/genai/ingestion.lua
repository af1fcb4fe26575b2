--- What Azure Monitor's Logs Ingestion API says to a batch, and when to try again.

local max = math.max
local min = math.min

local _M = {}

--- The API takes 1 MB a call; not of 1024 times 1024 bytes, to be sure.
_M.MAX_BYTES = 1000000

-- Doubled with each further try.
local FIRST_WAIT_MS = 1000
local LONGEST_WAIT_MS = 60 * 1000

-- Longer than that nobody's word is waited for.
local LONGEST_NAMED_MS = 5 * 60 * 1000


--- What becomes of a batch.
-- @tparam number status
-- @treturn string "sent", "again" (in a while), "token" (with another one), "refused"
-- @treturn nil|string in a word, why it is not sent
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


--- How long to wait before a batch is tried again.
-- @tparam number tries before
-- @tparam number|nil named_ms what the API asks for
-- @tparam number random from 0 to 1, so that not all workers come at once
-- @treturn number milliseconds
function _M.wait_ms(tries, named_ms, random)
    local wait = min(FIRST_WAIT_MS * 2 ^ min(tries - 1, 16), LONGEST_WAIT_MS)
    return max(wait * (0.5 + random / 2), min(named_ms or 0, LONGEST_NAMED_MS))
end


return _M
