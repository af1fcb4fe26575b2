--- Limits log lines that would repeat with each request to one in ten seconds, over all workers.

local shared_memory = require("gateway.mechanisms.shared_memory")
local shared_keys = require("genai.util.shared_keys")

local _M = {}

-- How long a line about the same subject is suppressed.
local SILENCE_S = 10

local state = shared_memory.state


local function key_of(kind, subject)
    return shared_keys.LOGGED .. kind .. "|" .. subject
end


--- Whether a line about a subject is due. If so, the next one is suppressed for a while.
function _M.is_due(kind, subject)
    return state:add(key_of(kind, subject), true, SILENCE_S) == true
end


--- Writes a line, unless one about the same subject was written recently.
-- @tparam function log of `core.log`
-- @tparam string kind of trouble
-- @tparam string subject that has it
-- @param ... the parts of the line
function _M.write(log, kind, subject, ...)
    if _M.is_due(kind, subject) then
        log(...)
    end
end


--- Lets the next line about a subject through at once.
function _M.forget(kind, subject)
    state:delete(key_of(kind, subject))
end


return _M
