--- What a request asks for, read from its target: API, operation, deployment in the path.

local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local sub = string.sub
local char = string.char
local tonumber = tonumber

local stored = require("genai.stored")

local _M = {}


local CLASSIC = "/openai/"
local V1 = "/openai/v1/"
local DEPLOYMENTS = "/openai/deployments/"

-- The first segments after the API's prefix, and what the operation is called in metrics. What is
-- not here is "other": a client must not be able to make up label values.
local OPERATIONS = {
    ["chat/completions"] = "chat_completions",
    ["completions"] = "completions",
    ["embeddings"] = "embeddings",
    ["images/generations"] = "images_generations",
    ["images/edits"] = "images_edits",
    ["images/variations"] = "images_variations",
    ["audio/transcriptions"] = "audio_transcriptions",
    ["audio/translations"] = "audio_translations",
    ["audio/speech"] = "audio_speech",
    ["responses"] = "responses",
    ["conversations"] = "conversations",
    ["models"] = "models",
    ["files"] = "files",
    ["uploads"] = "uploads",
    ["batches"] = "batches",
    ["vector_stores"] = "vector_stores",
    ["fine_tuning"] = "fine_tuning",
    ["assistants"] = "assistants",
    ["threads"] = "threads",
    ["evals"] = "evals",
    ["containers"] = "containers",
    ["videos"] = "videos",
    ["realtime"] = "realtime",
}

-- Operations that a model answers, so that their tokens and times are measured as such.
local GENERATING = {
    chat_completions = true,
    completions = true,
    embeddings = true,
    responses = true,
}

-- Operations that a model answers and nothing is stored of: most requests, and they need no look.
local STATELESS = {
    chat_completions = true,
    completions = true,
    embeddings = true,
}

-- Operations whose body names the model, where the path does not.
local NAMES_MODEL = {
    chat_completions = true,
    completions = true,
    embeddings = true,
    responses = true,
    images_generations = true,
    images_edits = true,
    images_variations = true,
    audio_transcriptions = true,
    audio_translations = true,
    audio_speech = true,
    videos = true,
}


-- To fetch, to delete, to cancel and to count tokens costs nothing.
local COSTS_NOTHING = {
    GET = true, HEAD = true, OPTIONS = true, DELETE = true,
    ["responses/input_tokens"] = true,
}


local function decoded(text)
    return (gsub(text, "%%(%x%x)", function(digits)
        return char(tonumber(digits, 16))
    end))
end


local function encoded(text)
    return (gsub(text, "[^%w%-%._~]", function(each)
        return ("%%%02X"):format(each:byte())
    end))
end


local function begins_with(text, prefix)
    return sub(text, 1, #prefix) == prefix
end


-- Whether a path goes where it reads. nginx routes by the path that it decoded, merged and
-- resolved, and the backend gets the one that the client sent: with dot segments, repeated
-- slashes or an encoded slash in the part that routes, those would be two different requests.
-- A deployment's name is part of what routes.
local function is_plain(path, normalized)
    if find(path, "\\", 1, true) or find(path, "#", 1, true) then
        return false
    end

    if path == normalized then
        return true
    end

    local plain = decoded(path)
    if plain ~= normalized or find(plain, "[\\%c]") then
        return false
    end

    local as_read, as_sent = lower(plain), lower(path)
    if begins_with(as_read, DEPLOYMENTS) then
        return begins_with(as_sent, DEPLOYMENTS)
               and not find(decoded(match(path, "^[^/]*", #DEPLOYMENTS + 1)), "/", 1, true)
    end
    return begins_with(as_sent, begins_with(as_read, V1) and V1 or CLASSIC)
end


-- What below `responses` is no stored one, and takes a body like it.
local NAMES_MODEL_BELOW = { ["responses/compact"] = true, ["responses/input_tokens"] = true }


local function operation_of(rest)
    local known = OPERATIONS[rest]
    if known then
        return known
    end

    local first, second = match(rest, "^([^/]+)/?([^/]*)")
    if not first then
        return "other"
    end

    return OPERATIONS[first .. "/" .. second] or OPERATIONS[first] or "other"
end


--- Reads a request's target.
-- @tparam string request_uri the target as the client sent it, query string included
-- @tparam string normalized nginx's own reading of its path (`$uri`)
-- @tparam string method
-- @treturn table|nil `path` and `query` as sent (`query` nil where there is none); `api`: "v1" or
--   "classic"; `operation`; `deployment` of the path, decoded, or nil; `generates`: whether a model
--   answers; `names_model`: whether its body names the model; `spends`: whether it may use up what
--   a budget is for; `collection` and `stored_id` of what is stored in one resource, or nil
-- @treturn nil|string why the target is refused
function _M.parse(request_uri, normalized, method)
    local path, query = request_uri, nil
    local mark = find(request_uri, "?", 1, true)
    if mark then
        path = sub(request_uri, 1, mark - 1)
        query = sub(request_uri, mark + 1)
        if find(query, "#", 1, true) then
            return nil, "the query string holds a #"
        end
    end

    if not is_plain(path, normalized) then
        return nil, "the path has dot segments, repeated slashes or encoded characters that"
                    .. " would route it elsewhere than it reads"
    end

    -- A backend may decode what it gets, and may not care about case: an operation is what it is
    -- however it is spelled, or it could be had without being counted.
    local plain = lower(normalized)
    local target = { path = path, query = query, api = "classic" }
    local rest, prefix = "", CLASSIC
    if begins_with(plain, V1) then
        target.api = "v1"
        prefix = V1
        rest = sub(plain, #V1 + 1)
    elseif begins_with(plain, DEPLOYMENTS) then
        local slash = find(plain, "/", #DEPLOYMENTS + 1, true)
        if slash then
            target.deployment = sub(normalized, #DEPLOYMENTS + 1, slash - 1)
            rest = sub(plain, slash + 1)
            prefix = nil
        end
    elseif begins_with(plain, CLASSIC) then
        rest = sub(plain, #CLASSIC + 1)
    end

    local operation = operation_of(rest)
    target.operation = operation
    if prefix and not STATELESS[operation] then
        target.collection, target.stored_id = stored.of_path(rest, sub(normalized, #prefix + 1))
    end
    -- What is below responses is mostly about one that is there.
    local is_below = operation == "responses" and (find(rest, "/", 1, true) or #rest) < #rest
                     and not NAMES_MODEL_BELOW[rest]
    target.spends = not COSTS_NOTHING[method] and not COSTS_NOTHING[rest]
                    and sub(rest, -7) ~= "/cancel"
    if method == "POST" and not is_below then
        target.generates = GENERATING[operation] or false
        target.names_model = not target.deployment and NAMES_MODEL[operation] or false
    else
        target.generates = false
        target.names_model = false
    end

    return target
end


--- The path that what is stored has of its own.
-- @tparam table target of a request that names it, as `parse` gives it
function _M.stored_path(target, collection, id)
    return (target.api == "v1" and V1 or CLASSIC) .. collection .. "/" .. encoded(id)
end


--- The path for a backend that has the deployment under another name.
-- @tparam table target as `parse` gives it, with a deployment
-- @tparam string name the backend's name of it
function _M.renamed_path(target, name)
    local path = target.path
    return sub(path, 1, #DEPLOYMENTS) .. encoded(name)
           .. sub(path, find(path, "/", #DEPLOYMENTS + 1, true), -1)
end


return _M
