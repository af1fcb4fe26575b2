--- What a request names, or makes, that lives in one resource of Azure OpenAI and in no other:
-- responses, conversations, files and the like.

local byte = string.byte
local find = string.find
local lower = string.lower
local match = string.match
local sub = string.sub
local pairs = pairs

local json_members = require("genai.json_members")

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

--- The members of a body that `of_body` reads.
_M.WANTED = {}
for _, each in pairs(MEMBERS) do
    _M.WANTED[each.name] = true
end

-- No request is tied down by more, and each costs a look.
local MAX_NAMED = 8

-- Clients choose them. Azure's own are far shorter.
local MAX_ID = 256

--- Of what a backend encrypted so much says which one it is.
_M.SEAL = 128

local QUOTE, COLON, OPEN_BRACKET, COMMA, BACKSLASH = 34, 58, 91, 44, 92


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


-- The strings that are values of a member, or in its list, wherever in the text it stands. Inside
-- of a string no quote stands without a backslash before it: a prompt that talks of files is none.
local function add_values(named, text, word, decode)
    local from = 1
    local searched = word.name .. '"'
    while #named < MAX_NAMED do
        local first, last = find(text, searched, from, true)
        if not first then
            return
        end
        from = last + 1

        local position, each
        if byte(text, first - 1) == QUOTE and byte(text, first - 2) ~= BACKSLASH then
            position, each = json_members.skip_space(text, last + 1)
        end
        if each == COLON then
            position, each = json_members.skip_space(text, position + 1)
            local is_list = each == OPEN_BRACKET
            if is_list then
                position, each = json_members.skip_space(text, position + 1)
            end
            while each == QUOTE do
                local value_end = json_members.value_end(text, position)
                local id = value_end and decode(sub(text, position, value_end))
                if id and (not word.prefix or sub(id, 1, #word.prefix) == word.prefix) then
                    add(named, word.collection, id)
                end
                if not is_list or not value_end then
                    break
                end
                position, each = json_members.skip_space(text, value_end + 1)
                if each == COMMA then
                    position, each = json_members.skip_space(text, position + 1)
                end
            end
        end
    end
end


--- What a JSON body names.
-- @tparam string text the body
-- @tparam table members those of `WANTED` that it has, as `json_members.find` gives them
-- @tparam function decode decodes one JSON value; gives nil where it cannot
-- @treturn table list of `{ collection, id }`, what ties the request down most first
function _M.of_body(text, members, decode)
    local named = {}
    for i = 1, #MEMBERS do
        local each = MEMBERS[i]
        local member = members[each.name]
        if member then
            local id = member.is_string and member.value
                       or json_members.first_string(member.value, "id", decode)
            add(named, each.collection, id)
        end
    end
    for i = 1, #WORDS do
        add_values(named, text, WORDS[i], decode)
    end
    return named
end


--- The id of what was made.
-- @tparam string text the beginning of a JSON answer, or all of it
-- @treturn string|nil nil: it is not there, or not yet
function _M.made(text, decode)
    local id = json_members.first_string(text, "id", decode)
    return id and id ~= "" and #id <= MAX_ID and id or nil
end


--- The id of what a stream makes, of the data of one of its first events.
function _M.made_by_event(data, decode)
    local first, last = find(data, '"response"', 1, true)
    if not first then
        return nil
    end
    local position, each = json_members.skip_space(data, last + 1)
    if each ~= COLON then
        return nil
    end
    position = json_members.skip_space(data, position + 1)
    return _M.made(sub(data, position), decode)
end


--- What a backend encrypted for itself to read again, the reasoning of a model: the next of it in a
-- text.
-- @tparam string text of a request or an answer
-- @tparam number from where to begin
-- @treturn string|nil its beginning; nil: there is no more
-- @treturn number|nil where to go on
function _M.next_sealed(text, from)
    while true do
        -- Of the two words the rarer one.
        local _, last = find(text, 'encrypted_content"', from, true)
        if not last then
            return nil
        end
        from = last + 1
        local position, each = json_members.skip_space(text, from)
        if each == COLON then
            position, each = json_members.skip_space(text, position + 1)
            if each == QUOTE then
                local sealed = match(sub(text, position + 1, position + _M.SEAL), '^[^"\\]+')
                if sealed then
                    return sealed, position + 1
                end
            end
        end
    end
end


--- The last of it: what was encrypted last says where a conversation was last.
function _M.last_sealed(text)
    local last, from = nil, 1
    while true do
        local sealed, after = _M.next_sealed(text, from)
        if not sealed then
            return last
        end
        last, from = sealed, after
    end
end


--- Whether a 400 says that what the client sent was encrypted by another resource.
-- @tparam string text the answer's body
function _M.is_foreign_seal(text)
    return find(text, "invalid_encrypted_content", 1, true) ~= nil
           or find(text, "encrypted content", 1, true) ~= nil
              and find(text, "could not be verified", 1, true) ~= nil
end


return _M
