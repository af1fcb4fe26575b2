--- The objects that a request names, or an answer creates, and that exist in only one resource of
-- Azure OpenAI: responses, conversations, files and others.

local json_scan = require("genai.util.json_scan")
local find = string.find
local lower = string.lower
local match = string.match
local sub = string.sub
local ipairs = ipairs

local _M = {}

-- The path of each kind of object, below the API's prefix. `is_kept_together`: objects that are
-- uploaded or configured for others are useful only in the same resource, for example the files of
-- a vector store. Objects that cannot be read by id cannot be searched for.
local COLLECTIONS = {
    ["responses"] = {},
    ["conversations"] = {},
    ["chat/completions"] = {},
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
    ["video/generations"] = {},
    ["video/generations/jobs"] = {},
}

-- Operations in the place of an id.
local NO_ID = {
    ["responses/compact"] = true,
    ["responses/input_tokens"] = true,
    ["files/import"] = true,
    ["threads/runs"] = true,
    ["videos/characters"] = true,
    ["videos/edits"] = true,
    ["videos/extensions"] = true,
}

-- Parts of a body that name stored objects: members of the outermost object, and words at any
-- depth, for example in the tools of a response. By collection; names that restrict the choice of a
-- backend more come first.
local MEMBERS = {
    { name = "previous_response_id", collection = "responses" },
    { name = "conversation", collection = "conversations" },
    { name = "input_file_id", collection = "files" },
    { name = "training_file", collection = "files" },
    { name = "validation_file", collection = "files" },
    { name = "assistant_id", collection = "assistants" },
    { name = "video", collection = "videos" },
}
local WORDS = {
    { name = "vector_store_ids", collection = "vector_stores" },
    { name = "file_ids", collection = "files" },
    { name = "file_id", collection = "files" },
    { name = "container", collection = "containers", prefix = "cntr_" },
}

-- A request is restricted by at most this many names, because each costs a lookup.
local MAX_NAMED = 8

-- A turn sends all items of a conversation; the last ones show its latest owner.
local MAX_RECENT = 32

-- Names that cannot be looked up by a path: items of responses and conversations, audio of earlier
-- turns, calls that wait for an approval, and containers of earlier turns.
local UNREADABLE_WORDS = {
    { name = "id", key = "input.id", within = "input", depth = 3, limit = MAX_RECENT },
    { name = "id", key = "items.id", within = "items", depth = 3, limit = MAX_RECENT },
    { name = "id", key = "messages.audio.id", within = "messages", depth = 4, limit = MAX_NAMED },
    { name = "approval_request_id", limit = MAX_NAMED },
    { name = "container_id", limit = MAX_NAMED },
}

-- A reference to an item. A backend that accepts it has the item; a complete item may be accepted
-- without a check of its id.
local REFERENCE = { name = "type", key = "input.type", within = "input", depth = 3, limit = 1,
                    prefix = "item_reference", may_repeat = true }

-- A file in a container, which is not in the collection of files.
local CONTAINER_FILE = "cfile_"

-- The field of encrypted reasoning, which only the encrypting resource can read.
local ENCRYPTED = "encrypted_content"

-- Maximum length of an id. Clients choose these bytes; Azure's own ids are much shorter.
local MAX_ID = 256

-- The number of characters that identify encrypted reasoning.
local IDENTIFYING_LENGTH = 128

--- The maximum number of ids, and of encrypted reasoning, remembered from one answer.
_M.MAX_MADE = 256


--- The stored object that the path names.
-- @tparam string plain the path below the API's prefix, decoded and in lower case: "files/file-1"
-- @tparam string rest the same in its own case, which ids have
-- @treturn string|nil the collection; nil: the path names no stored object
-- @treturn string|nil the id
function _M.of_path(plain, rest)
    local name = match(plain, "^[^/]+")
    if not COLLECTIONS[name or ""] then
        name = match(plain, "^[^/]+/[^/]+/[^/]+")
        if not COLLECTIONS[name or ""] then
            name = match(plain, "^[^/]+/[^/]+")
        end
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


--- Whether all objects of a client in this collection should be in one resource.
function _M.is_kept_together(collection)
    return COLLECTIONS[collection].is_kept_together == true
end


--- Whether a resource can be queried for an object by its id alone.
function _M.is_readable(collection)
    return not COLLECTIONS[collection].is_unreadable
end


-- Whether a text can be an id. "." and ".." cannot, because they change the path.
local function is_id(id)
    return id and id ~= "" and id ~= "." and id ~= ".." and #id <= MAX_ID
end


local function add(named, collection, id)
    if not is_id(id) or #named >= MAX_NAMED then
        return
    end
    for i = 1, #named do
        if named[i].id == id then
            return
        end
    end
    named[#named + 1] = { collection = collection, id = id }
end


--- The plan for the scan of a request's body.
-- @treturn table members for `json_scan.plan`
-- @treturn table words for it
function _M.wanted()
    local members, words = {}, {}
    for i, name in ipairs({ "store", "audio", "modalities" }) do
        members[i] = { name, may_repeat = true }
    end
    for _, each in ipairs(MEMBERS) do
        members[#members + 1] = each.name
        members[#members + 1] = each.name .. ".id"
    end
    for i, each in ipairs(WORDS) do
        words[i] = { name = each.name, prefix = each.prefix, limit = MAX_NAMED }
    end
    for _, each in ipairs(UNREADABLE_WORDS) do
        words[#words + 1] = { name = each.name, key = each.key, within = each.within,
                              depth = each.depth, limit = each.limit, is_recent = true,
                              may_repeat = true }
    end
    words[#words + 1] = REFERENCE
    words[#words + 1] = { name = ENCRYPTED, length = IDENTIFYING_LENGTH, limit = MAX_RECENT,
                          is_recent = true }
    return members, words
end


-- Adds ids that backends cannot be queried for.
local function add_recent(ids, scan, key)
    for _, id in ipairs(json_scan.recent(scan, key)) do
        if is_id(id) then
            ids[#ids + 1] = id
        end
    end
end


--- The stored objects that a JSON body names.
-- @tparam table scan of the body, for the plan of `wanted`
-- @treturn table list of `{ collection, id }`, the most restrictive first
-- @treturn table|nil ids and encrypted reasoning that backends cannot be queried for, in the same
--   order; nil: none
-- @treturn nil|number the position in that list of the first entry that only its owner accepts; so
--   do all entries after it. Other backends may accept the entries before it, unchecked.
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
    if not words then
        return named
    end

    local unreadable = {}
    for i = 1, #WORDS do
        local each = WORDS[i]
        for _, id in ipairs(words[each.name] or {}) do
            if sub(id, 1, #CONTAINER_FILE) ~= CONTAINER_FILE then
                add(named, each.collection, id)
            elseif is_id(id) then
                unreadable[#unreadable + 1] = id
            end
        end
    end
    for _, each in ipairs(UNREADABLE_WORDS) do
        add_recent(unreadable, scan, each.key or each.name)
    end
    local first_proven = words[REFERENCE.key] and 1 or #unreadable + 1
    add_recent(unreadable, scan, ENCRYPTED)
    if not unreadable[1] then
        return named
    end
    return named, unreadable, first_proven
end


--- The request's value of `store`: false means that the answer is not stored; nil: not given.
-- @tparam table scan of the body, for the plan of `wanted`
function _M.stores(scan)
    local store = scan.members.store
    if not store or store.kind ~= "literal" then
        return nil
    end
    return store.value == "true"
end


--- Whether a body asks for audio, which later turns name.
function _M.asks_for_audio(scan)
    local audio, modalities = scan.members.audio, scan.members.modalities
    return audio ~= nil and audio.kind == "object"
           or modalities ~= nil and modalities.kind == "array"
end


local function words_made(list)
    for _, each in ipairs(list) do
        each.limit, each.may_repeat = _M.MAX_MADE, true
    end
    return list
end


--- The objects that an answer creates, by kind: members and words for a scan of a JSON answer, and
-- the keys of the found ids. `word_keys` are those of lists, which are complete only at the end of
-- the answer.
_M.MADE = {
    -- a response, or a list of items
    response = {
        members = { { "id", is_first = true } },
        words = words_made({
            { name = "id", key = "output.id", within = "output", depth = 3 },
            { name = "id", key = "data.id", within = "data", depth = 3 },
            { name = "container_id" },
            { name = ENCRYPTED, length = IDENTIFYING_LENGTH },
        }),
        keys = {},
        word_keys = { "output.id", "data.id", "container_id" },
        has_sealed = true,
    },
    chat = {
        members = { { "id", is_first = true } },
        words = words_made({
            { name = "id", key = "choices.audio.id", within = "choices", depth = 5 },
        }),
        keys = {},
        word_keys = { "choices.audio.id" },
    },
    -- any other object: uploads become files, jobs have results
    object = {
        members = { { "id", is_first = true }, { "output_file_id", may_repeat = true },
                    { "error_file_id", may_repeat = true }, { "file.id", may_repeat = true } },
        words = words_made({
            { name = "id", key = "generations.id", within = "generations", depth = 3 },
        }),
        keys = { "output_file_id", "error_file_id", "file.id" },
        word_keys = { "generations.id" },
    },
}


--- The additions to the plan for events, for events of a response.
-- @treturn table members for `json_scan.plan`
-- @treturn table words for it
function _M.event_wanted()
    return { { "item.id", may_repeat = true } }, words_made({
        { name = "id", key = "response.output.id", within = "response", depth = 4 },
        { name = "container_id" },
        { name = ENCRYPTED, length = IDENTIFYING_LENGTH },
    })
end


local EVENT_WORDS = { "response.output.id", "container_id", ENCRYPTED }
local ENCRYPTED_KEYS = { ENCRYPTED }

-- Events that name items: one by one, and all at the end.
local ITEM_EVENT = "output_item."
local END_EVENTS = { "response.completed", "response.incomplete", "response.failed" }


--- Whether one or more events may name items of a response: most do not.
-- @tparam string text
-- @tparam boolean with_whole whether to look for the complete response as well
-- @treturn boolean
-- @treturn boolean whether they name items one by one
function _M.mentions_items(text, with_whole)
    if find(text, ITEM_EVENT, 1, true) then
        return true, true
    end
    for i = 1, with_whole and #END_EVENTS or 0 do
        if find(text, END_EVENTS[i], 1, true) then
            return true, false
        end
    end
    return false, false
end


local function add_words(ids, scan, keys)
    local words = scan.words
    for i = 1, words and #keys or 0 do
        for _, id in ipairs(words[keys[i]] or {}) do
            if is_id(id) then
                ids[#ids + 1] = id
            end
        end
    end
    return ids
end


--- The ids of items, and the encrypted reasoning, in an event of a response.
-- @tparam table scan for the plan of `event_wanted`
-- @tparam boolean with_ids whether items are stored; false: only encrypted reasoning
-- @treturn table list
function _M.items_of_event(scan, with_ids)
    local ids = {}
    if not with_ids then
        return add_words(ids, scan, ENCRYPTED_KEYS)
    end
    local item = scan.members["item.id"]
    if item and item.kind == "string" and is_id(item.value) then
        ids[1] = item.value
    end
    return add_words(ids, scan, EVENT_WORDS)
end


--- The names in a complete answer other than its own id.
-- @tparam table scan of a JSON answer
-- @tparam table made the kind of answer, from `MADE`
-- @tparam boolean with_ids whether ids are stored; false: only encrypted reasoning
-- @treturn table list of ids and of encrypted reasoning
function _M.all_made(scan, made, with_ids)
    local ids = {}
    if with_ids then
        for _, key in ipairs(made.keys) do
            ids[#ids + 1] = _M.made(scan, key)
        end
        add_words(ids, scan, made.word_keys)
    end
    return made.has_sealed and add_words(ids, scan, ENCRYPTED_KEYS) or ids
end


--- The id of the created object, from a scan that looks for `id`.
-- @tparam table scan
-- @tparam string|nil name "response.id" in a stream's events
-- @treturn string|nil nil: not there, or not yet
function _M.made(scan, name)
    local id = scan.members[name or "id"]
    id = id and id.kind == "string" and id.value
    return is_id(id) and id or nil
end


-- Only the beginning of a longer refusal is examined.
local MAX_TEXT = 8192

-- Phrases of refusals of encrypted reasoning, in lower case. A model that does not support
-- reasoning at all has other phrases.
local ENCRYPTED_PHRASES = { "encrypted content", "encrypted_content", "encrypted reasoning",
                       "reasoning content" }
local FOREIGN_PHRASES = { "not be verified", "not be decrypted", "not be read",
                        "decryption failed", "to decrypt", "to verify",
                        "verification failed", "encrypted by", "encrypted with", "encrypted for",
                        "did not match", "does not match", "not belong", "another resource",
                        "different resource", "another organization", "different organization" }
local NOT_HERE_PHRASES = { "not found", "not_found", "notfound", "does not exist", "no such ",
                         "could not find", "cannot find" }
local UNREADABLE_NOUNS = { "item", "audio", "approval", "container", "upload" }


local function has_any(text, list)
    for i = 1, #list do
        if find(text, list[i], 1, true) then
            return true
        end
    end
    return false
end


--- Whether a 400 reports that the client's content was encrypted by another resource.
-- @tparam string text the answer's body, or the text of an event
function _M.is_foreign_reasoning(text)
    text = lower(sub(text, 1, MAX_TEXT))
    return find(text, "invalid_encrypted_content", 1, true) ~= nil
           or has_any(text, ENCRYPTED_PHRASES) and has_any(text, FOREIGN_PHRASES)
end


--- Whether an error reports that an object that cannot be searched for is not in this resource. It
-- may be in another one.
-- @tparam number status
-- @tparam string text the answer's body, or the text of an event
function _M.is_elsewhere(status, text)
    if status ~= 400 and status ~= 404 then
        return false
    end
    local shown = lower(sub(text, 1, MAX_TEXT))
    return _M.is_foreign_reasoning(text)
           or has_any(shown, NOT_HERE_PHRASES) and has_any(shown, UNREADABLE_NOUNS)
end


return _M
