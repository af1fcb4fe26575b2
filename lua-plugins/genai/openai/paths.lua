--- The normal form of a request's path, which everything uses: routes, limits, lists of models,
-- logs and backends. A path with a common mistake is corrected if only one reading makes sense.

local byte = string.byte
local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local sub = string.sub
local char = string.char
local pairs = pairs
local tonumber = tonumber

local _M = {}

--- The APIs, by the prefix of their paths.
_M.CLASSIC = "/openai/"
_M.V1 = "/openai/v1/"
_M.DEPLOYMENTS = "/openai/deployments/"

local CLASSIC, V1, DEPLOYMENTS = _M.CLASSIC, _M.V1, _M.DEPLOYMENTS

--- Operations by the first segments after the API's prefix, with their names in metrics. Any other
-- operation is "other", so that a client cannot create label values.
_M.OPERATIONS = {
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

local OPERATIONS = _M.OPERATIONS

local SLASH = byte("/")

-- Operations without ids: a slash after them has no meaning.
local WHOLE = {
    ["chat/completions"] = true, ["completions"] = true, ["embeddings"] = true,
    ["responses"] = true, ["images/generations"] = true, ["images/edits"] = true,
    ["images/variations"] = true, ["audio/transcriptions"] = true, ["audio/translations"] = true,
    ["audio/speech"] = true,
}

-- The paths of most requests.
local USUAL = {}
for words in pairs(OPERATIONS) do
    USUAL[CLASSIC .. words] = true
    USUAL[V1 .. words] = true
end

local BASE_URL = " Set the base URL of an OpenAI client to https://<gateway>/openai/v1, or the"
                 .. " endpoint of an Azure OpenAI client to https://<gateway>."

-- Marks a path that is not rejected for its form: nothing exists there.
local NOT_FOUND = {}
local NO_DEPLOYMENT = "The path names no deployment between two slashes. Write"
                      .. " /openai/deployments/<deployment>/<operation>."
local NO_ID = "The path has two slashes in a row where a name or an id is missing. Send the name,"
              .. " or one slash only."
local TWICE = "The path names the API or the operation twice." .. BASE_URL
local ELSEWHERE = "The request's path is rejected: it has dot segments, repeated slashes or encoded"
                  .. " characters that would change its meaning."


--- A path with its escapes decoded.
function _M.decoded(text)
    if not find(text, "%", 1, true) then
        return text
    end
    return (gsub(text, "%%(%x%x)", function(digits)
        return char(tonumber(digits, 16))
    end))
end


local decoded = _M.decoded


--- Whether a path is quickly recognized as normal: most are.
-- @tparam string path
-- @treturn boolean false: `normal` must decide
function _M.is_usual(path)
    if USUAL[path] then
        return true
    elseif sub(path, 1, #DEPLOYMENTS) ~= DEPLOYMENTS or byte(path, #DEPLOYMENTS + 1) == SLASH then
        return false
    end
    local slash = find(path, "/", #DEPLOYMENTS + 2, true)
    return slash ~= nil and OPERATIONS[sub(path, slash + 1)] ~= nil
end


-- The word at a position, or after slashes there: its beginning and end; nil at the end of the
-- path.
local function word_at(path, position)
    local first = find(path, "[^/]", position)
    if not first then
        return nil
    end
    return first, (find(path, "/", first, true) or #path + 1) - 1
end


-- The words of the operation at a position, in lower case, and their end; nil: unknown operation.
local function operation_at(path, position)
    local first, last = word_at(path, position)
    if not first then
        return nil
    end
    local word = lower(sub(path, first, last))
    local second, second_last = word_at(path, last + 1)
    if second then
        local words = word .. "/" .. lower(sub(path, second, second_last))
        if OPERATIONS[words] then
            return words, second_last
        end
    end
    if OPERATIONS[word] then
        return word, last
    end
    return nil
end


-- The normal form of the part after the API's prefix. `position` is that of its first word.
local function rest_of(path, position)
    local words, last = operation_at(path, position)
    local after = sub(path, words and last + 1 or position)
    if words and WHOLE[words] and not find(after, "[^/]") then
        return words
    elseif find(after, "//", 1, true) then
        return nil, NO_ID
    end
    if not words or WHOLE[words] then
        local below = lower(after)
        local named = operation_at(below, 1)
        if find("/" .. below .. "/", "/openai/", 1, true) or words and named and WHOLE[named] then
            return nil, TWICE
        end
    end
    return (words or "") .. after
end


-- The normal form of a path with a deployment. `position` is after the word `deployments`.
local function of_deployment(path, position)
    local after = sub(path, position)
    if after == "" or after == "/" then
        return sub(DEPLOYMENTS, 1, -2) .. after
    elseif sub(after, 1, 2) == "//" then
        return nil, NO_DEPLOYMENT
    end
    local name, slashes = match(after, "^/([^/]*)(/*)")
    local rest_at = 1 + #name + #slashes + 1
    if rest_at > #after then
        return DEPLOYMENTS .. name .. sub(slashes, 1, 1)
    end
    local rest, err = rest_of(after, rest_at)
    if not rest then
        return nil, err
    elseif find(lower(rest), "deployments/", 1, true) then
        return nil, TWICE
    end
    return DEPLOYMENTS .. name .. "/" .. rest
end


-- The normal form of a path without escapes and dots.
local function form_of(path)
    local position, has_openai, is_v1 = 1, false, false
    local first, last
    while true do
        first, last = word_at(path, position)
        local word = first and lower(sub(path, first, last))
        if word == "openai" then
            -- The prefix may be followed by another: /openai/v1/openai/deployments/… means the
            -- classic API.
            has_openai, is_v1 = true, false
        elseif word == "v1" then
            is_v1 = true
        elseif word == "deployments" then
            return of_deployment(path, last + 1)
        else
            break
        end
        position = last + 1
    end

    if not first then
        -- The path is only the prefix.
        local slash = sub(path, position, position)
        if is_v1 and has_openai then
            return sub(V1, 1, -2) .. slash
        end
        return has_openai and slash == "/" and CLASSIC or nil, NOT_FOUND
    end
    local rest, err = rest_of(path, first)
    if has_openai then
        return rest and (is_v1 and V1 or CLASSIC) .. rest, err
    end

    -- Without the API's prefix, only known operations are served. `/models/…` is another API at
    -- Azure.
    local words = operation_at(path, first)
    if not words or words == "models" and not is_v1 and rest ~= "models" then
        return nil, NOT_FOUND
    end
    return rest and V1 .. rest, err
end


--- The normal form of a path.
-- @tparam string path as the client sent it, without its query
-- @treturn string|nil the normal form, possibly the same path; nil: rejected
-- @treturn nil|string why: sentences for the client; nil: there is nothing at this path
function _M.normal(path)
    local plain = decoded(path)
    if find(path, "#", 1, true) or find(plain, "[\\%c]")
       or find(plain .. "/", "/%.%.?/") or sub(path, 1, 1) ~= "/"
    then
        return nil, ELSEWHERE
    end
    local form, err = form_of(path)
    if not form then
        return nil, err ~= NOT_FOUND and err or nil
    elseif find(form, "%", 1, true) and find(decoded(form), "//", 1, true) then
        return nil, ELSEWHERE
    end
    return form
end


--- The part of a path after the prefix of a pool.
-- @tparam string path as the client sent it
-- @tparam string prefix without a slash at its end
-- @treturn string|nil with a slash at its beginning; nil: the path has another prefix, or spells
--   this one with escapes
function _M.without_prefix(path, prefix)
    local first = find(path, "[^/]")
    local rest_at = first and first - 1 + #prefix
    if first and first > 1 and sub(path, first - 1, rest_at - 1) == prefix
       and byte(path, rest_at) == SLASH
    then
        return sub(path, rest_at)
    end
    return nil
end


--- The message for a path with two readings.
_M.ELSEWHERE = ELSEWHERE


return _M
