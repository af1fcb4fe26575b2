--- Decides whether the answer to a request may be stored, what identifies the request, and what the
-- client asks of the cache.

local json_scan = require("genai.util.json_scan")
local memo = require("genai.util.memo")
local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local ipairs = ipairs
local lower = string.lower
local match = string.match
local sort = table.sort
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

-- Changes whenever the key or the form of entries changes, so that no version of the gateway reads
-- entries of another one.
local VERSION = "1"

-- The end of the path of each operation. Paths below it, such as `responses/compact`, are other
-- operations for the client.
local PATHS = {
    chat_completions = "/chat/completions",
    completions = "/completions",
    embeddings = "/embeddings",
    responses = "/responses",
}

-- Tools that the client runs. All others run at the backend and have effects, or read something
-- that changes.
local TOOLS_OF_CLIENT = { ["function"] = true, custom = true }

local MAX_TOOLS = 256

-- Members of the outermost object that have an effect, or refer to something stored or searched at
-- the backend, by operation; "*": all operations.
local MEMBERS = {
    ["*"] = { "background", "previous_response_id", "conversation", "data_sources",
              "web_search_options", "audio" },
    responses = { "prompt" },
}

-- The same at any depth: files, and objects that only their resource has. Their values are ids.
local WORDS = { "file_id", "file_ids", "file_url", "vector_store_ids", "container", "container_id",
                "approval_request_id" }

local TOOL_TYPE = "tools.type"
local AUDIO_ID = "messages.audio.id"
local REFERENCE = "input.type"


local function plan()
    local members, words = { "store" }, {}
    for _, names in ipairs({ MEMBERS["*"], MEMBERS.responses }) do
        for _, name in ipairs(names) do
            members[#members + 1] = name
        end
    end
    for i, name in ipairs(WORDS) do
        words[i] = { name = name, limit = 1, may_repeat = true }
    end
    words[#words + 1] = { name = "type", key = TOOL_TYPE, within = "tools", depth = 3,
                          limit = MAX_TOOLS, may_repeat = true }
    words[#words + 1] = { name = "type", key = REFERENCE, within = "input", depth = 3, limit = 1,
                          prefix = "item_reference", may_repeat = true }
    words[#words + 1] = { name = "id", key = AUDIO_ID, within = "messages", depth = 4, limit = 1,
                          may_repeat = true }
    return json_scan.plan(members, words)
end


--- What the scan of a request's body looks for.
_M.PLAN = plan()


-- Whether a member is missing, null or false.
local function is_off(member)
    return member == nil
           or member.kind == "literal" and (member.value == "null" or member.value == "false")
end


local function is_false(member)
    return member ~= nil and member.kind == "literal" and member.value == "false"
end


local function has_any(members, names)
    for _, name in ipairs(names or {}) do
        if not is_off(members[name]) then
            return true
        end
    end
    return false
end


-- Whether a tool runs at the backend, or may run there.
local function has_tool_of_backend(words)
    local tools = words[TOOL_TYPE]
    for _, kind in ipairs(tools or {}) do
        if not TOOLS_OF_CLIENT[kind] then
            return true
        end
    end
    return tools ~= nil and #tools >= MAX_TOOLS
end


--- Whether the target of a request is one of the given operations.
-- @tparam table target as `genai.openai.targets` reads it
-- @tparam table operations set of operations
function _M.is_operation(target, operations)
    local ending = PATHS[target.operation]
    return target.generates and operations[target.operation] ~= nil and ending ~= nil
           and lower(sub(target.path, -#ending)) == ending
end


--- Whether a request has an effect other than its answer, or asks for something that only the
-- backend knows. Its answer must not be stored.
-- @tparam string operation
-- @tparam table scan of the body for `PLAN`
function _M.has_effects(operation, scan)
    local members, words = scan.members, scan.words or {}
    -- Responses are stored at the backend unless the request forbids it.
    if operation == "responses" and not is_false(members.store) or not is_off(members.store)
       or has_any(members, MEMBERS["*"])
       -- In completions, `prompt` is the text itself.
       or operation == "responses" and has_any(members, MEMBERS.responses)
    then
        return true
    end
    for _, name in ipairs(WORDS) do
        if words[name] then
            return true
        end
    end
    return words[REFERENCE] ~= nil or words[AUDIO_ID] ~= nil or has_tool_of_backend(words)
end


-- Headers that identify or trace one request, describe the client's program, or are about caching.
-- They do not change the answer. Any other header that is passed to the backend is part of the key.
local IGNORED = {}
for _, name in ipairs({
    "user-agent", "x-ms-useragent", "x-ms-user-agent", "cache-control", "pragma", "date",
    "x-request-id", "request-id", "x-correlation-id", "correlation-id", "x-client-request-id",
    "x-ms-client-request-id", "x-ms-return-client-request-id", "x-ms-request-id",
    "client-request-id", "idempotency-key", "x-idempotency-key",
    "traceparent", "tracestate", "baggage", "b3", "sentry-trace", "uber-trace-id",
    "x-cloud-trace-context", "x-amzn-trace-id", "grpc-trace-bin", "elastic-apm-traceparent",
    "x-priority", "priority", "origin", "referer", "dnt", "accept-language", "via", "max-forwards",
    "cdn-loop", "cf-ray", "x-azure-ref", "x-azure-fdid", "x-azure-clientip", "x-azure-socketip",
    "x-arr-log-id", "x-arr-ssl", "x-original-for", "x-client-ip", "x-client-port", "true-client-ip",
    "x-conversation-id", "x-session-id", "session_id", "session-id",
}) do
    IGNORED[name] = true
end
local IGNORED_PREFIXES = { "^x%-stainless%-", "^x%-b3%-", "^x%-datadog%-", "^sec%-", "^x%-envoy%-" }


local is_ignored = memo.of(function(name)
    if IGNORED[name] then
        return true
    end
    for _, pattern in ipairs(IGNORED_PREFIXES) do
        if find(name, pattern) then
            return true
        end
    end
    return false
end)


-- A header that means the same as its absence.
local ACCEPTS_ALL = "^[Aa]ccept: %*/%*\r\n$"


-- The header lines that can change the answer, in alphabetical order.
local function relevant_lines(lines)
    local kept = {}
    for _, line in ipairs(lines) do
        local name = match(line, "^[^:]*")
        if not is_ignored(lower(name)) and not find(line, ACCEPTS_ALL) then
            kept[#kept + 1] = line
        end
    end
    sort(kept)
    return concat(kept)
end


--- The text that, together with the body, identifies a request. Each part has its length, so that
-- two requests with different parts never have the same text.
-- @tparam table about `scope` ("client" or "gateway"), `client` (its name or nil), `pool` (its name
--   or nil), `target`, `lines` (header lines that are passed to backends)
-- @treturn string
function _M.identity(about)
    local target = about.target
    local parts = {
        VERSION, about.scope,
        -- Requests without a client share one scope. A client's name is never empty.
        about.scope == "client" and about.client or "",
        about.pool or "", target.operation, target.path, target.query or "",
        relevant_lines(about.lines),
    }
    for i, part in ipairs(parts) do
        parts[i] = #part .. ":" .. part
    end
    return concat(parts, ",") .. ","
end


--- What a client asks of the cache.
-- @tparam string|table|nil cache_control the header of the request
-- @tparam string|table|nil pragma used only without `Cache-Control`
-- @treturn table `no_store`: the answer is neither looked up nor stored; `no_cache`: it is not
--   looked up; `max_age`: greatest age of a stored answer in seconds, or nil
function _M.control(cache_control, pragma)
    local wishes = {}
    local header = cache_control or pragma
    if header == nil then
        return wishes
    elseif type(header) == "table" then
        header = concat(header, ",")
    end
    for directive in gmatch(lower(header), "[^,]+") do
        local name, value = match(directive, "^%s*([%w-]+)%s*=?%s*\"?(%d*)")
        if name == "no-store" then
            wishes.no_store = true
        elseif name == "no-cache" then
            wishes.no_cache = true
        elseif name == "max-age" and value ~= "" then
            wishes.max_age = tonumber(value)
        end
    end
    if wishes.max_age == 0 then
        wishes.no_cache = true
    end
    return wishes
end


return _M
