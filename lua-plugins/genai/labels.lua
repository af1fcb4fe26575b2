--- What metrics say of a request, in values of labels that no client can make more of.

local slots = require("genai.slots")
local find = string.find
local lower = string.lower
local ipairs = ipairs
local pairs = pairs

local _M = {}

--- What stands for all names that are not known.
_M.OTHER = "other"

--- The whole of a backend, where it is not about one model.
_M.ALL = "*"

--- The most names that are learnt at a time, where the settings do not list all.
_M.MAX_LEARNT = 100

--- A learnt name that no backend has answered by for this time makes room for another one.
_M.LEARNT_S = 86400

-- Longer names would make the page of metrics large. Azure's names of deployments are ASCII, and
-- Prometheus refuses a page with invalid UTF-8 in it.
local MAX_NAME = 128
local STRANGE = "[^\32-\126]"


--- The names of models that are values of labels; in lower case, as Azure takes them in any.
-- @tparam table backends each with `deployments` (the client's name to the backend's), or nil:
--   it serves any
-- @tparam table|nil models names that are known beside them; nil: those that backends answer by are
--   learnt, where one serves any
-- @tparam table dict shared memory for what is learnt
-- @tparam function|nil now returns seconds; nginx's clock by default
function _M.names(backends, models, dict, now)
    local known, serves_any = {}, false
    for _, each in ipairs(backends) do
        for name, served_as in pairs(each.deployments or {}) do
            known[lower(name)] = true
            known[lower(served_as)] = true
        end
        serves_any = serves_any or not each.deployments
    end
    for _, name in ipairs(models or {}) do
        known[lower(name)] = true
    end
    return {
        known = known,
        learnt = not models and serves_any
                 and slots.new(dict, "model-names", _M.MAX_LEARNT, _M.LEARNT_S, now) or nil,
    }
end


--- The label for a model or deployment.
-- @tparam table names as `names` gives them
-- @tparam string name in lower case
function _M.model(names, name)
    if names.known[name] or names.learnt and names.learnt:has(name) then
        return name
    end
    return _M.OTHER
end


--- A backend showed that there is a model of that name. It is known for a day from now.
-- @tparam table names
-- @tparam string name in lower case
function _M.learn(names, name)
    if names.learnt and not names.known[name] and #name <= MAX_NAME
       and not find(name, STRANGE)
    then
        names.learnt:add(name)
    end
end


--- How an attempt that failed ended.
-- @tparam table failure `reason`, `status`, and `err` where there was no answer; `is_of_stream`
--   where an answer had begun
function _M.outcome(failure)
    local reason = failure.reason
    if reason == "unreachable" then
        return failure.err and "connect_error" or "blocked"
    elseif reason ~= "failing" then
        return reason
    elseif failure.is_of_stream then
        return "stream_error"
    elseif not failure.err then
        return "server_error"
    end
    return failure.status == 504 and "timeout" or "connect_error"
end


--- Why no backend served a request.
-- @tparam table|nil last the failure that the client is told of; nil: no backend was asked
-- @tparam number status of the answer
-- @tparam string|nil code of the answer
function _M.unserved(last, status, code)
    if last then
        return _M.outcome(last)
    elseif status == 429 then
        return "throttled"
    end
    return code == "upstream_credentials" and "credentials" or "unavailable"
end


return _M
