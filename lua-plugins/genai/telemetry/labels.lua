--- The values of metric labels. No client can create new ones.

local errors = require("genai.openai.errors")
local shared_keys = require("genai.util.shared_keys")
local shared_list = require("genai.telemetry.shared_list")
local find = string.find
local lower = string.lower
local ipairs = ipairs
local pairs = pairs

local _M = {}

--- The label for all unknown names.
_M.OTHER = "other"

--- The value of the label `request_llm_model` for the cooldown of a whole backend.
_M.ALL = "*"

--- Limit on names learnt at run time when the settings do not list all.
_M.MAX_LEARNT = 100

--- A learnt name that no backend has used for this time may be replaced.
_M.LEARNT_S = 86400

-- Longer names would make the metrics page large. Azure's deployment names are ASCII, and
-- Prometheus rejects a page with invalid UTF-8.
local MAX_NAME = 128
local STRANGE = "[^\32-\126]"


--- The names of models that are label values; in lower case, because Azure ignores case.
-- @tparam table backends each with `deployments` (the client's name to the backend's), or nil: it
--   serves any
-- @tparam table|nil models further known names; nil: if a backend serves any model, the names by
--   which backends answer are learnt
-- @tparam table dict shared memory for learnt names
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
                 and shared_list.new(dict, shared_keys.MODEL_NAMES, _M.MAX_LEARNT, _M.LEARNT_S,
                                     now)
                 or nil,
        -- An answer may name a model that no setting names: a model router chooses among models,
        -- and the names of versions change.
        answers = shared_list.new(dict, shared_keys.ANSWER_MODELS, _M.MAX_LEARNT, _M.LEARNT_S,
                                  now),
    }
end


--- The label for a model or deployment.
-- @tparam table names as `names` returns them
-- @tparam string name in lower case
function _M.model(names, name)
    if names.known[name] or names.learnt and names.learnt:has(name) then
        return name
    end
    return _M.OTHER
end


--- Remembers for a day that a backend has a model of that name.
-- @tparam table names
-- @tparam string name in lower case
function _M.learn(names, name)
    if names.learnt and not names.known[name] and #name <= MAX_NAME
       and not find(name, STRANGE)
    then
        names.learnt:add(name)
    end
end


--- The label for the model that an answer names; "" if it names none. An answer may repeat the
-- client's text, so a name without a label does not get one here.
-- @tparam table names
-- @tparam string|nil name in the answer
-- @tparam string|nil asked the requested name, in lower case
-- @tparam string|nil label of the requested name
function _M.answer_model(names, name, asked, label)
    if not name then
        return ""
    end
    name = lower(name)
    if asked and label == _M.OTHER and find(name, asked, 1, true) then
        return _M.OTHER
    end
    if names.known[name]
       or #name <= MAX_NAME and not find(name, STRANGE) and names.answers:add(name)
    then
        return name
    end
    return _M.OTHER
end


local TIERS = {}
for _, each in ipairs({ "default", "priority", "flex", "auto", "scale", "standard", "batch" }) do
    TIERS[each] = each
end


--- A service tier, for logs and for metrics.
-- @tparam string|nil tier from the answer
-- @treturn string|nil nil: none
function _M.service_tier(tier)
    return tier and (TIERS[lower(tier)] or _M.OTHER)
end


--- The outcome of a failed attempt.
-- @tparam table failure `reason`, `status`; `err` if there was no answer; `is_of_stream` if an
--   answer had begun
function _M.outcome(failure)
    local reason = failure.reason
    if reason == "unreachable" then
        return failure.err and "connect_error" or "blocked"
    elseif reason == "stale" then
        return "stale_connection"
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
-- @tparam table|nil last the failure that the client gets; nil: no backend was tried
-- @tparam number status of the answer
-- @tparam string|nil code of the answer
function _M.unserved(last, status, code)
    if last then
        return _M.outcome(last)
    elseif status == 429 then
        return "throttled"
    end
    return code == errors.CODE.upstream_credentials and "credentials" or "unavailable"
end


return _M
