--- Names in logs and traces: attempts and operations.

local targets = require("genai.openai.targets")
local concat = table.concat
local find = string.find
local floor = math.floor
local max = math.max

local _M = {}

-- OpenTelemetry's names of operations, if it has one.
local GEN_AI_OPERATIONS = {
    chat_completions = "chat",
    responses = "chat",
    completions = "text_completion",
    embeddings = "embeddings",
}

local OPENAI_APIS = { chat_completions = "chat_completions", responses = "responses" }

local NAMED_VERSIONS = { preview = true, latest = true, v1 = true }


--- An operation's name in OpenTelemetry's GenAI conventions; an operation without one keeps its
-- own.
-- @treturn string `gen_ai.operation.name`
-- @treturn string|nil `openai.api.type`
function _M.gen_ai_operation(operation)
    return GEN_AI_OPERATIONS[operation] or operation, OPENAI_APIS[operation]
end


--- Attempts as text, in order: `BACKEND:STATUS:OUTCOME:MILLISECONDS`, separated by spaces.
-- @tparam table attempts each with `backend`, `status`, `outcome`, `started`, `ended` (seconds)
function _M.attempts_text(attempts)
    local words = {}
    for i = 1, #attempts do
        local each = attempts[i]
        words[i] = concat({ each.backend.name, each.status or "", each.outcome,
                            floor(max(0, each.ended - each.started) * 1000 + 0.5) }, ":")
    end
    return concat(words, " ")
end


--- A query's `api-version`, as logs and traces show it.
-- @tparam string|nil query
-- @treturn string "other" for a text that does not look like a version, because it may be a secret;
--   "" if the query has none
function _M.api_version(query)
    local value = targets.api_version(query)
    if not value or value == "" then
        return ""
    elseif NAMED_VERSIONS[value] or find(value, "^20%d%d%-%d%d%-%d%d$")
           or find(value, "^20%d%d%-%d%d%-%d%d%-preview$")
    then
        return value
    end
    return "other"
end


return _M
