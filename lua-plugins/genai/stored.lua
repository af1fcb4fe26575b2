--- What a request names, or makes, that lives in one resource of Azure OpenAI and in no other:
-- responses, conversations, files and the like.

local find = string.find
local lower = string.lower
local match = string.match
local ipairs = ipairs

local _M = {}

-- Where each kind is, below the API's prefix. What is uploaded or configured for others to use
-- (`is_kept_together`) is of use only beside the rest of it: a vector store cannot be made of files
-- in two resources. What cannot be read by its id cannot be looked for.
local COLLECTIONS = {
    ["responses"] = {},
    ["conversations"] = {},
    ["files"] = { is_kept_together = true },
    ["uploads"] = { is_kept_together = true, is_unreadable = true },
    ["batches"] = { is_kept_together = true },
    ["vector_stores"] = { is_kept_together = true },
    ["fine_tuning/jobs"] = { is_kept_together = true },
    ["assistants"] = { is_kept_together = true },
    ["threads"] = { is_kept_together = true },
    ["evals"] = { is_kept_together = true },
    ["containers"] = { is_kept_together = true },
    ["videos"] = {},
}

-- Operations that stand where an id would.
local NO_ID = {
    ["responses/compact"] = true,
    ["responses/input_tokens"] = true,
    ["files/import"] = true,
    ["threads/runs"] = true,
}

-- What of a body names something stored: members of the outermost object, and words that name
-- something wherever they stand, in the tools of a response, say. By collection; the more a thing
-- ties a request down, the earlier it comes.
local MEMBERS = {
    { name = "previous_response_id", collection = "responses" },
    { name = "conversation", collection = "conversations" },
    { name = "input_file_id", collection = "files" },
    { name = "training_file", collection = "files" },
    { name = "validation_file", collection = "files" },
    { name = "assistant_id", collection = "assistants" },
}
local WORDS = {
    { name = "vector_store_ids", collection = "vector_stores" },
    { name = "file_ids", collection = "files" },
    { name = "file_id", collection = "files" },
    { name = "container", collection = "containers", prefix = "cntr_" },
}

-- What a backend encrypted for itself to read again: the reasoning of a model.
local SEALED = "encrypted_content"

--- How a client asks for what is encrypted.
_M.SEALS_ASKED_FOR = "reasoning.encrypted_content"

-- No request is tied down by more, and each costs a look.
local MAX_NAMED = 8

-- Clients choose them. Azure's own are far shorter.
local MAX_ID = 256

-- Of what a backend encrypted so much says which one it is.
local SEAL = 128

--- Of one answer no more is remembered: a request is led by the last one of those that it holds.
_M.MAX_SEALS = 256


--- What the path names.
-- @tparam string plain the path below the API's prefix, decoded and in lower case: "files/file-1"
-- @tparam string rest the same in its own case, which ids have
-- @treturn string|nil the collection; nil: nothing stored is meant
-- @treturn string|nil the id
function _M.of_path(plain, rest)
    local name = match(plain, "^[^/]+")
    if not COLLECTIONS[name or ""] then
        name = match(plain, "^[^/]+/[^/]+")
        if not COLLECTIONS[name or ""] then
            return nil
        end
    end
    local id = match(rest, "^[^/]+", #name + 2)
    if not id or #id > MAX_ID or NO_ID[name .. "/" .. lower(id)] then
        return name, nil
    end
    return name, id
end


--- Whether what a client makes in a collection, and lists of it, should be at one place.
function _M.is_kept_together(collection)
    return COLLECTIONS[collection].is_kept_together == true
end


--- Whether a resource says by an id alone whether it has what it names.
function _M.is_readable(collection)
    return not COLLECTIONS[collection].is_unreadable
end


local function add(named, collection, id)
    -- What stands for a folder in a path is no id.
    if not id or id == "" or id == "." or id == ".." or #id > MAX_ID or #named >= MAX_NAMED then
        return
    end
    for i = 1, #named do
        if named[i].id == id then
            return
        end
    end
    named[#named + 1] = { collection = collection, id = id }
end


--- What a scan of a request's body has to look for.
-- @treturn table members for `json_scan.plan`
-- @treturn table words for it
function _M.wanted()
    local members, words = {}, {}
    for _, each in ipairs(MEMBERS) do
        members[#members + 1] = each.name
        members[#members + 1] = each.name .. ".id"
    end
    for i, each in ipairs(WORDS) do
        words[i] = { name = each.name, prefix = each.prefix, limit = MAX_NAMED }
    end
    words[#words + 1] = { name = SEALED, length = SEAL, is_last = true }
    return members, words
end


--- What a JSON body names.
-- @tparam table scan of it, for what `wanted` says
-- @treturn table list of `{ collection, id }`, what ties the request down most first
function _M.of_scan(scan)
    local named = {}
    local members, words = scan.members, scan.words
    for i = 1, #MEMBERS do
        local each = MEMBERS[i]
        local member = members[each.name]
        if member and member.kind == "object" then
            member = members[each.name .. ".id"]
        end
        if member and member.kind == "string" then
            add(named, each.collection, member.value)
        end
    end
    for i = 1, words and #WORDS or 0 do
        local each = WORDS[i]
        for _, id in ipairs(words[each.name] or {}) do
            add(named, each.collection, id)
        end
    end
    return named
end


--- What was encrypted last of what a body holds, which says where a conversation was last.
-- @tparam table scan as for `of_scan`
-- @treturn string|nil its beginning
function _M.last_sealed(scan)
    local sealed = scan.words and scan.words[SEALED]
    return sealed and sealed[1]
end


--- What a scan of an answer, or of an event, has to look for besides what others need there.
-- @treturn table words for `json_scan.plan`
function _M.sealed_words()
    return { { name = SEALED, length = SEAL, limit = _M.MAX_SEALS } }
end


--- What was encrypted of all that an answer holds.
-- @treturn table list of beginnings
function _M.all_sealed(scan)
    return scan.words and scan.words[SEALED] or {}
end


--- Whether an answer, or a part of it, may hold something encrypted: most do not.
function _M.mentions_sealed(text)
    return find(text, SEALED, 1, true) ~= nil
end


--- The id of what was made, of a scan that looks for it as `id`.
-- @tparam table scan
-- @tparam string|nil name "response.id" in a stream's events
-- @treturn string|nil nil: it is not there, or not yet
function _M.made(scan, name)
    local id = scan.members[name or "id"]
    id = id and id.kind == "string" and id.value
    return id and id ~= "" and #id <= MAX_ID and id or nil
end


--- Whether a 400 says that what the client sent was encrypted by another resource.
-- @tparam string text the answer's body
function _M.is_foreign_seal(text)
    return find(text, "invalid_encrypted_content", 1, true) ~= nil
           or find(text, "encrypted content", 1, true) ~= nil
              and find(text, "could not be verified", 1, true) ~= nil
end


return _M
