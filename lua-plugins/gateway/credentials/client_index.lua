--- An index of the clients by key. Each worker reads the clients from apisix.yaml in slices while
-- the old index is in use, and replaces that index when APISIX has loaded the same file.

local client_lines = require("genai.identity.client_lines")
local core = require("apisix.core")
local fnv1a = require("genai.util.fnv1a")
local loaded_config = require("apisix_internals.loaded_config")
local process = require("ngx.process")
local readiness_rules = require("genai.readiness_rules")
local rendered_file = require("gateway.mechanisms.rendered_file")
local secret_files = require("gateway.credentials.secret_files")
local secrets = require("apisix_internals.secrets")
local ngx_sleep = ngx.sleep
local timer_every = ngx.timer.every
local timer_at = ngx.timer.at
local error = error
local io_open = io.open
local ipairs = ipairs
local pcall = pcall

local _M = {}

-- Interval of the check for changes of the file and of APISIX's loaded configuration.
local LOOK_S = 0.2

-- Pause between two slices of work on a change.
local PAUSE_S = 0.003

-- APISIX loads these resources from one file, but one after the other. The keys of clients can be
-- references to items of `secrets`.
local RESOURCES = { "services", "secrets" }

-- A new list of clients that waits until APISIX has loaded the same file: `clients`, `mark` and
-- `version` of the file, and `problem`, a sentence.
local waiting

-- The index in use: `list`; `by_key`; `files_version`: the version of secret files, if keys are in
-- files.
local index

-- The mark of the last file that was read.
local read_mark

local is_started, is_working


local function no_pause()
end


-- Sleeps instead of only yielding: with other processes competing for the CPU, a process that uses
-- all of its share is scheduled later when a request arrives.
local function pause()
    ngx_sleep(PAUSE_S)
end


-- Reads the clients of a file; without `decode`, only their number and digest.
local function read(file, decode, rest)
    local handle = io_open(file.path, "r")
    if not handle then
        return nil
    end
    local function next_block()
        local block, rest_of_line = handle:read(client_lines.BLOCK_BYTES, "*L")
        return block and block .. (rest_of_line or "")
    end
    local digest = fnv1a.new()
    local ok, list = pcall(client_lines.read, next_block, decode, digest, rest)
    handle:close()
    if not ok then
        error(list, 0)
    elseif list then
        list.digest = digest:final()
        list.mark, list.version = file.mark, file.version
    end
    return list
end


-- The list of clients in a file; nil if the file cannot be read or has no end marker.
local function list_of(file, rest)
    local expected = file.manifest and file.manifest.clients
    local known = index and index.list
    local list
    if known and not known.problem and readiness_rules.has_digest(expected, known) then
        list = read(file, nil, rest)
    end
    if list and list.digest == known.digest then
        list.clients = known.clients
    else
        list = read(file, core.json.decode, rest)
    end
    if not list then
        return nil
    end
    for _, each in ipairs(list.invalid) do
        core.log.error("the client ", each.name, " is not loaded: ", each.problem)
    end
    list.problem = file.manifest and readiness_rules.client_problem(expected, list)
    return list
end


local function index_of(list, rest)
    -- This must be read first, because secret files may change while the index is built.
    local files_version = secret_files.version()
    local has_files = false
    local function resolve(text)
        if not secrets.is_reference(text) then
            return text
        elseif secret_files.is_reference(text) then
            has_files = true
            return (secret_files.resolve(text))
        end
        local key = secrets.resolved_silently(text)
        if secrets.is_reference(key) then
            -- The slow way logs the reason.
            return secrets.resolve(text)
        end
        return key
    end
    local by_key, unresolved, shared = client_lines.by_key(list.clients, resolve, rest)
    for _, name in ipairs(unresolved) do
        core.log.error("a key of client ", name, " cannot be resolved: the key is disabled until"
                       .. " its reference has a value")
    end
    for _, names in ipairs(shared) do
        core.log.error("clients ", names[1], " and ", names[2], " have the same key: the key is"
                       .. " disabled until you give one of them another key")
    end
    return { list = list, by_key = by_key, files_version = has_files and files_version or nil }
end


-- Whether APISIX has loaded the file that a list comes from.
local function is_loaded(list)
    for _, resource in ipairs(RESOURCES) do
        local version = loaded_config.version(resource)
        if version and version ~= list.version then
            return false
        end
    end
    return true
end


local function work(rest)
    local file = rendered_file.look()
    if file.mark and file.mark ~= read_mark then
        read_mark = file.mark
        waiting = list_of(file, rest)
    end
    if waiting and (not index or is_loaded(waiting)) then
        if index and index.list.clients == waiting.clients then
            index.list = waiting
        else
            secret_files.follow_clients(waiting.clients, client_lines.SLICE, rest)
            index = index_of(waiting, rest)
        end
        waiting = nil
    end
    local files_version = index and index.files_version
    -- Between two versions of the file, `secrets` may already be newer than the index.
    local is_changing = waiting and loaded_config.version("secrets") == waiting.version
    if files_version and files_version ~= secret_files.version() and not is_changing then
        index = index_of(index.list, rest)
    end
end


-- The first index is built without pauses, because no client can be authenticated before.
local function keep_up()
    if is_working then
        return
    end
    is_working = true
    local ok, err = pcall(work, index and pause or no_pause)
    is_working = false
    if not ok then
        core.log.error("the clients cannot be loaded: ", err)
    end
end


local function tick(premature)
    if not premature then
        keep_up()
    end
end


--- Follows the file; called once in each worker.
function _M.start()
    if is_started or process.type() == "privileged agent" then
        return
    end
    is_started = true
    local ok, err = timer_at(0, tick)
    if ok then
        ok, err = timer_every(LOOK_S, tick)
    end
    if not ok then
        core.log.error("this worker does not notice changes of the clients, because it"
                       .. " cannot start a timer: ", err, ". Restart the gateway")
    end
end


--- Whether there is an index. In a worker that has just started, this call builds it.
function _M.is_loaded()
    if not index then
        keep_up()
    end
    return index ~= nil
end


--- The client that has a key.
-- @tparam string key
-- @treturn table|nil `name` and the client's policy, as in its line of apisix.yaml
function _M.find(key)
    return _M.is_loaded() and index.by_key[key] or nil
end


local NONE = {}


--- The clients by all their keys.
-- @treturn table never changed: a new index has a new table
function _M.keys()
    return _M.is_loaded() and index.by_key or NONE
end


--- Why this worker does not serve the clients of a file.
-- @tparam table file as `rendered_file.look` returns it
-- @treturn string|nil a sentence
-- @treturn nil|boolean whether the reason goes away when the file is loaded
function _M.problem(file)
    if not _M.is_loaded() or index.list.mark ~= file.mark then
        return readiness_rules.STALE, true
    end
    return index.list.problem, false
end


return _M
