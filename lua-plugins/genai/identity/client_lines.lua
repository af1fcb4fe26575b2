--- Reads the clients from apisix.yaml: each is a comment with one client as JSON. APISIX skips
-- comments; as YAML items, thousands of clients would be parsed and checked at once. These lines
-- are read in slices, so that requests get their turn.

local find = string.find
local gmatch = string.gmatch
local gsub = string.gsub
local ipairs = ipairs
local pairs = pairs
local sub = string.sub
local type = type

local _M = {}

local PREFIX_LENGTH = #"# genai-gateway client: "
local AT_PREFIX = "^# genai%-gateway client: "
local BETWEEN = "\n# genai%-gateway client: "

--- Bytes of a file that are read between two pauses: about 100 clients.
_M.BLOCK_BYTES = 16 * 1024

--- The number of clients between two pauses.
_M.SLICE = 200

-- APISIX looks for the end marker in this many bytes.
local END_BYTES = 10


local function is_text(value)
    return type(value) == "string" and value ~= ""
end


local function is_name(value)
    return is_text(value) and #value <= 100 and not find(value, "[^%w_-]")
end


-- An absolute path without "..".
local function is_path(value)
    return is_text(value) and #value <= 4096 and find(value, "^/.") ~= nil
           and not find(value, "[%c${}]") and not find(value .. "/", "/../", 1, true)
end


local function is_limit(value)
    return type(value) == "number" and value >= 1 and value % 1 == 0
end


local function is_lane(value)
    return value == "high" or value == "low"
end


local function is_models(value)
    if type(value) ~= "table" or #value == 0 then
        return false
    end
    local count = 0
    for _ in pairs(value) do
        count = count + 1
    end
    for _, each in ipairs(value) do
        if not is_text(each) then
            return false
        end
    end
    return count == #value
end


-- Checks for the values of a client's fields.
local FIELDS = {
    name = is_name,
    key = is_text,
    key_file = is_path,
    secondary_key = is_text,
    secondary_key_file = is_path,
    lane = is_lane,
    models = is_models,
    tokens_per_minute = is_limit,
    tokens_per_day = is_limit,
    requests_per_minute = is_limit,
}


-- The problem of a client, without any of its values.
local function problem_of(client)
    if type(client) ~= "table" then
        return "it is not a JSON object"
    end
    for field, value in pairs(client) do
        local is_valid = FIELDS[field]
        if not is_valid then
            return "it has a field that is not known"
        elseif not is_valid(value) then
            return "its " .. field .. " is not valid"
        end
    end
    return not client.name and "it has no name" or not client.key and "it has no key" or nil
end


-- Adds a client, or its problem.
local function take(list, number, client)
    local problem = problem_of(client)
    local name = type(client) == "table" and is_name(client.name) and client.name
    if not problem and list.names[name] then
        problem = "another client has its name"
    end
    if problem then
        list.invalid[#list.invalid + 1] = {
            name = name or "line " .. number,
            problem = problem,
        }
        return
    end
    list.names[name] = true
    list.clients[#list.clients + 1] = client
end


-- Adds the clients of successive lines. They are decoded as one list: in about one of 60 processes,
-- LuaJIT's string hash collides for thousands of similar long texts, and making strings of the
-- lines would take a second.
local function take_run(list, text, first, count, decode)
    local json = gsub(sub(text, PREFIX_LENGTH + 1), BETWEEN, ",")
    local clients = decode("[" .. json .. "]")
    if type(clients) == "table" and #clients == count then
        for i = 1, count do
            take(list, first + i - 1, clients[i])
        end
        return
    end
    local number = first
    for line in gmatch(text, "[^\n]+") do
        take(list, number, decode(sub(line, PREFIX_LENGTH + 1)))
        number = number + 1
    end
end


-- Finds runs of successive client lines, and passes each to `found`: the text, the number of its
-- first line in the block, and the number of lines. Returns the number of all lines.
local function runs_of(block, found)
    local number, position, length = 0, 1, #block
    local first, first_position
    while position <= length do
        number = number + 1
        if find(block, AT_PREFIX, position) then
            first, first_position = first or number, first_position or position
        elseif first then
            found(sub(block, first_position, position - 1), first, number - first)
            first, first_position = nil, nil
        end
        position = (find(block, "\n", position, true) or length) + 1
    end
    if first then
        found(sub(block, first_position), first, number - first + 1)
    end
    return number
end


--- Reads all clients of a file.
-- @tparam function next_block returns the file in blocks of whole lines, then nil
-- @tparam function|nil decode returns the value of a JSON text, nil if it is invalid; without it,
--   clients are only counted
-- @tparam table digest of the lines: `update(text)`
-- @tparam function pause lets other requests run
-- @treturn table|nil `clients`: a list of tables with the fields of `FIELDS`; `invalid`: a list of
--   `name` and `problem`; `count` of all lines with clients. nil: the file has no end marker, which
--   APISIX requires
function _M.read(next_block, decode, digest, pause)
    local list = { clients = {}, invalid = {}, names = {}, count = 0 }
    local before, tail = 0, ""
    local function found(text, first, count)
        list.count = list.count + count
        digest:update(text)
        if decode then
            take_run(list, text, before + first, count, decode)
        end
    end
    for block in next_block do
        before = before + runs_of(block, found)
        tail = sub(tail .. sub(block, -END_BYTES), -END_BYTES)
        pause()
    end
    list.names = nil
    return find(tail, "#END%s*$") and list or nil
end


--- The clients by key, first and second keys. A key of two clients is disabled.
-- @tparam table clients
-- @tparam function resolve returns the key for a text, nil if there is none
-- @tparam function pause lets other requests run
-- @treturn table by key
-- @treturn table the names of clients with a key that cannot be resolved, once for each such key
-- @treturn table pairs of names of clients with the same key
function _M.by_key(clients, resolve, pause)
    local found, unresolved, shared, shared_keys = {}, {}, {}, {}
    local function add(client, text)
        local key = resolve(text)
        if type(key) ~= "string" or not find(key, "%S") then
            unresolved[#unresolved + 1] = client.name
            return
        end
        local other = found[key]
        if other and other ~= client then
            shared[#shared + 1] = { other.name, client.name }
            shared_keys[key] = true
        end
        found[key] = client
    end
    for i, client in ipairs(clients) do
        add(client, client.key)
        if client.secondary_key then
            add(client, client.secondary_key)
        end
        if i % _M.SLICE == 0 then
            pause()
        end
    end
    for key in pairs(shared_keys) do
        found[key] = nil
    end
    return found, unresolved, shared
end


return _M
