--- The words of logs and traces: what became of an attempt, and what a request asked for.

local concat = table.concat
local find = string.find
local floor = math.floor
local match = string.match
local max = math.max

local _M = {}

-- OpenTelemetry's names of operations, where it has one.
local GEN_AI_OPERATIONS = {
    chat_completions = "chat",
    responses = "chat",
    completions = "text_completion",
    embeddings = "embeddings",
}

local OPENAI_APIS = { chat_completions = "chat_completions", responses = "responses" }

local NAMED_VERSIONS = { preview = true, latest = true, v1 = true }


--- An operation in the words of OpenTelemetry's GenAI conventions; one that they have none for
-- keeps its name.
-- @treturn string `gen_ai.operation.name`
-- @treturn string|nil `openai.api.type`
function _M.gen_ai_operation(operation)
    return GEN_AI_OPERATIONS[operation] or operation, OPENAI_APIS[operation]
end


--- Attempts as text, in order: `BACKEND:STATUS:OUTCOME:MILLISECONDS`, with spaces between them.
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


--- A query's `api-version`, as far as it is one: whatever else stands there may be a secret.
-- @tparam string|nil query
-- @treturn string "" where there is none
function _M.api_version(query)
    local value = query and match("&" .. query, "&api%-version=([^&]*)")
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
