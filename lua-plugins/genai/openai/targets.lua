--- Reads a request's target: API, operation, and the deployment in the path.

local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local pairs = pairs
local sub = string.sub

local paths = require("genai.openai.paths")
local stored_objects = require("genai.openai.stored_objects")

local decoded = paths.decoded

local _M = {}

local CLASSIC, V1, DEPLOYMENTS = paths.CLASSIC, paths.V1, paths.DEPLOYMENTS
local OPERATIONS = paths.OPERATIONS

-- Operations that a model answers, whose tokens and times are measured.
local GENERATING = {
    chat_completions = true,
    completions = true,
    embeddings = true,
    responses = true,
}

-- Operations whose answers are never empty: those of `GENERATING`, and those that answer with
-- images, sound or transcripts.
local MAKING = {
    images_generations = true,
    images_edits = true,
    images_variations = true,
    audio_transcriptions = true,
    audio_translations = true,
    audio_speech = true,
}
for operation in pairs(GENERATING) do
    MAKING[operation] = true
end

-- Operations that neither store nor name objects, so that no owner is needed.
local STATELESS = {
    completions = true,
    embeddings = true,
}

-- Operations that store nothing but may name files.
local NAMES_STORED = { images_edits = true }

local CHAT = "chat/completions"

-- Operations whose body names the model if the path does not.
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


-- Methods of operations without cost: fetching, deleting, cancelling, counting tokens.
local COSTS_NOTHING = {
    GET = true, HEAD = true, OPTIONS = true, DELETE = true,
    ["responses/input_tokens"] = true,
}


local function encoded(text)
    return (gsub(text, "[^%w%-%._~]", function(each)
        return ("%%%02X"):format(each:byte())
    end))
end


local function begins_with(text, prefix)
    return sub(text, 1, #prefix) == prefix
end


-- Whether nginx and a backend read a path the same way. nginx routes by the decoded, merged and
-- resolved path, but the backend gets the path as sent: with an encoded slash in the routing part,
-- the two would differ. A deployment's name belongs to the routing part.
local function is_plain(path, normalized)
    if path == normalized then
        return true
    end

    local plain = decoded(path)
    if plain ~= normalized then
        return false
    end

    local as_read = lower(plain)
    if begins_with(as_read, DEPLOYMENTS) then
        return begins_with(path, DEPLOYMENTS)
               and not find(decoded(match(path, "^[^/]*", #DEPLOYMENTS + 1)), "/", 1, true)
    end
    return begins_with(path, begins_with(as_read, V1) and V1 or CLASSIC)
end


-- Operations below `responses` that are not about a stored response, and take a body like it.
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
-- @tparam string normalized nginx's own reading of its path (`$uri`), by which it was routed
-- @tparam string method
-- @treturn table|nil `path`: its normal form; `query`: as sent, or nil; `api`: "v1" or "classic";
--   `operation`; `deployment`: from the path, decoded, or nil; `generates`: whether a model answers
--   with text or numbers; `makes_content`: the same, also with images and sound; `names_model`:
--   whether the body names the model; `spends`: whether it can use up a budget; `collection` and
--   `stored_id` of a stored object, or nil; `names_stored`: whether the body may name a stored
--   object
-- @treturn nil|string why the target is rejected: sentences for the client; nil: nothing exists
--   there
function _M.parse(request_uri, normalized, method)
    local path, query = request_uri, nil
    local mark = find(request_uri, "?", 1, true)
    if mark then
        path = sub(request_uri, 1, mark - 1)
        query = sub(request_uri, mark + 1)
        if find(query, "#", 1, true) then
            return nil, "The request's query string is rejected: it contains a #."
        end
    end

    if path ~= normalized or not paths.is_usual(path) then
        local err
        path, err = paths.normal(path)
        if not path then
            return nil, err
        elseif not is_plain(path, normalized) then
            return nil, paths.ELSEWHERE
        end
    end

    -- A backend may decode the path and ignore case. So the operation is recognized in any
    -- spelling, or it could be used without being counted.
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
    local is_below = false
    if rest == CHAT then
        target.collection = CHAT
    elseif prefix and not STATELESS[operation] then
        local id = sub(normalized, #prefix + 1)
        target.collection, target.stored_id = stored_objects.of_path(rest, id)
    end
    if operation == "responses" then
        -- Paths below responses are usually about an existing response.
        is_below = (find(rest, "/", 1, true) or #rest) < #rest and not NAMES_MODEL_BELOW[rest]
    elseif operation == "chat_completions" then
        -- A path with an id is about a stored chat completion.
        is_below = target.stored_id ~= nil
    end
    target.spends = not COSTS_NOTHING[method] and not COSTS_NOTHING[rest]
                    and sub(rest, -7) ~= "/cancel"
                    and not (is_below and operation == "chat_completions")
    target.names_stored = method == "POST" and (target.collection or NAMES_STORED[operation]) ~= nil
    if method == "POST" and not is_below then
        target.generates = GENERATING[operation] or false
        target.makes_content = MAKING[operation] or false
        target.names_model = not target.deployment and NAMES_MODEL[operation] or false
    else
        target.generates = false
        target.makes_content = false
        target.names_model = false
    end

    return target
end


--- The path of a stored object itself.
-- @tparam table target of a request that names the object, as `parse` returns it
function _M.stored_path(target, collection, id)
    return (target.api == "v1" and V1 or CLASSIC) .. collection .. "/" .. encoded(id)
end


--- The path for a backend with a different name of the deployment.
-- @tparam table target as `parse` returns it, with a deployment
-- @tparam string name the backend's name of it
function _M.renamed_path(target, name)
    local path = target.path
    return sub(path, 1, #DEPLOYMENTS) .. encoded(name)
           .. sub(path, find(path, "/", #DEPLOYMENTS + 1, true), -1)
end


--- A query's `api-version` as the client wrote it; nil: none.
function _M.api_version(query)
    return query and match("&" .. query, "&api%-version=([^&]*)")
end


return _M
