--- A secret manager of APISIX for secrets in files. It also provides current values to modules that
-- must not wait until APISIX's cache of resolved secrets expires. Each worker reads the files
-- itself, so that shared memory contains no secrets.

local core = require("apisix.core")
local lfs = require("lfs")
local loaded_config = require("apisix_internals.loaded_config")
local process = require("ngx.process")
local secret_file = require("genai.identity.secret_file")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local attributes = lfs.attributes
local io_open = io.open
local ipairs = ipairs
local match = string.match
local max = math.max
local next = next
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local sub = string.sub

local _M = {}

-- Interval of the check of all files.
local LOOK_S = 1

-- After this many files, other requests get their turn.
local BATCH = 100

-- File times are in whole seconds: a file changed this recently may change again without a new
-- time.
local RECENT_S = 2

local ENOENT = 2

-- An absolute path without "..", and without characters that YAML, APISIX or the collector would
-- interpret.
local PATH_PATTERN = "^(?!.*/\\.\\.(?:/|$))/[^\\x00-\\x1f\\x7f${}]{1,4095}$"


_M.schema = {
    type = "object",
    properties = {
        -- path of the file by name of the setting whose value it contains
        files = {
            type = "object",
            minProperties = 1,
            patternProperties = {
                ["^[A-Z][A-Z0-9_]*$"] = { type = "string", pattern = PATH_PATTERN },
            },
            additionalProperties = false,
        },
    },
    required = { "files" },
}


-- Files named by the items of `secrets`, and by clients. `names`, by `item/NAME`: the file and the
-- followers of its value. `files`, by path: the state of a file and the names that refer to it.
local configured = { names = {}, files = {} }
local of_clients = { names = {}, files = {} }

-- The version of `secrets` from which `configured` was made; and a counter of changed values.
local conf_version
local version = 0

local looks = {}
local is_started, is_watching, is_looking


local stat = {}


-- The content of a file; or nil and the problem. An unchanged file is not read again.
local function read(file)
    local found, _, code = attributes(file.path, stat)
    if not found then
        file.inode = nil
        return nil, code == ENOENT and "it does not exist" or "it cannot be read", true
    end
    local inode, size, mtime, ctime = stat.ino, stat.size, stat.modification, stat.change
    if file.inode == inode and file.device == stat.dev and file.size == size
       and file.mtime == mtime and file.ctime == ctime
    then
        return nil, nil, false
    end

    file.inode = nil
    if stat.mode ~= "file" then
        return nil, "it is not a file", true
    elseif size > secret_file.MAX_BYTES then
        return nil, "it has more than " .. secret_file.MAX_BYTES .. " bytes", true
    end
    local handle = io_open(file.path, "rb")
    local content = handle and (handle:read(secret_file.MAX_BYTES) or "")
    if handle then
        handle:close()
    end
    if not content then
        return nil, "it cannot be read", true
    end
    if max(mtime, ctime) < ngx.time() - RECENT_S then
        file.inode, file.device, file.size = inode, stat.dev, size
        file.mtime, file.ctime = mtime, ctime
    end
    return content, nil, true
end


-- Checks one file. Returns whether the result differs from the last check.
local function look(file)
    local content, problem, is_read = read(file)
    if not is_read then
        return false
    end
    local value
    if content then
        value, problem = secret_file.value_of(content)
    end
    return secret_file.found(file, value, problem, ngx_now())
end


-- Logs the change of a file, with the names of its settings only.
local function log_change(what, file)
    for _, named in ipairs(file.named) do
        local setting = named.setting
        if what == "value" then
            core.log.warn("the file of ", setting, " has changed: its new value is in use")
        elseif what == "problem" and file.value then
            core.log.warn("the file of ", setting, " cannot be used: ", file.found_problem,
                          "; its last value stays in use for ", secret_file.GRACE_S, " seconds")
        else
            core.log.error("the file of ", setting, " cannot be used: ", file.problem,
                           "; ", setting, " has no value until the file can be used")
        end
    end
end


local function notify_followers(named)
    for follower, notify in pairs(named.followers or {}) do
        local ok, err = pcall(notify, follower, named.file.value)
        if not ok then
            core.log.error("the new value of ", named.setting, " was not applied: ", err)
        end
    end
end


-- Applies the results of several files at once, because clients may have swapped their keys.
local function take(list)
    local now = ngx_now()
    local changed = {}
    for _, file in ipairs(list) do
        local is_first = not file.is_taken
        local what = secret_file.take(file, now)
        file.is_taken = true
        -- The first value is not a change: it is neither logged nor passed to followers.
        if what == "problem" or what and not is_first then
            log_change(what, file)
        end
        if what and what ~= "problem" and not is_first then
            changed[#changed + 1] = file
        end
    end
    if #changed == 0 then
        return
    end

    version = version + 1
    for _, file in ipairs(changed) do
        for _, named in ipairs(file.named) do
            notify_followers(named)
        end
    end
end


-- Applies the current content of a file.
local function take_now(file)
    look(file)
    take({ file })
end


-- Adds a name to a set of names and files, and reuses known state.
local function add(set, before, name, path)
    local file = set.files[path]
    if not file then
        file = before.files[path] or secret_file.new(path)
        file.named = {}
        set.files[path] = file
    end
    local old = before.names[name]
    local named = {
        setting = match(name, "[^/]*$"),
        file = file,
        followers = old and old.followers,
    }
    file.named[#file.named + 1] = named
    set.names[name] = named
    return named, old
end


-- Follows the items of `secrets`: names and paths.
local function follow_configuration()
    local current = loaded_config.version("secrets")
    local secrets = current and current ~= conf_version and loaded_config.items("secrets")
    if not secrets or not secrets.list then
        return
    end

    conf_version = current
    local before = configured
    configured = { names = {}, files = {} }
    local is_other = false
    local moved = {}
    for _, item in ipairs(secrets.list) do
        local id = item.value.id
        if sub(id, 1, 5) == "file/" then
            for setting, path in pairs(item.value.files) do
                local named, old = add(configured, before, sub(id, 6) .. "/" .. setting, path)
                is_other = is_other or not old
                if old and old.file ~= named.file then
                    moved[#moved + 1] = named
                end
            end
        end
    end
    for name in pairs(before.names) do
        is_other = is_other or not configured.names[name]
    end
    if is_other or #moved > 0 then
        version = version + 1
    end
    for _, named in ipairs(moved) do
        if not named.file.is_taken then
            take_now(named.file)
        end
        notify_followers(named)
    end
end


local function look_around()
    follow_configuration()
    local list, is_moving = {}, false
    for _, set in ipairs({ configured, of_clients }) do
        for _, file in pairs(set.files) do
            list[#list + 1] = file
        end
    end
    for i, file in ipairs(list) do
        local is_other = look(file)
        if not file.is_taken then
            take({ file })
        elseif is_other then
            is_moving = true
        end
        if i % BATCH == 0 then
            ngx_sleep(0)
        end
    end
    if secret_file.is_settled(looks, is_moving, ngx_now()) then
        take(list)
    end
end


local function watch(premature)
    if premature or is_looking then
        return
    end
    is_looking = true
    local ok, err = pcall(look_around)
    is_looking = false
    if not ok then
        core.log.error("the secret files cannot be checked for changes: ", err)
    end
end


-- Watching starts with the first named file.
local function keep_watching()
    if not is_watching then
        is_watching = timer_every(LOOK_S, watch)
    end
end


local function begin(premature)
    follow_configuration()
    if next(configured.names) then
        keep_watching()
        watch(premature)
    end
end


--- Reads all files before they are needed, without blocking requests; once in each worker.
function _M.start()
    if is_started or process.type() == "privileged agent" then
        return
    end
    -- The configuration is not loaded yet.
    local ok, err = timer_at(0, begin)
    if not ok then
        core.log.error("the secret files are not read before the first request: ", err)
    end
    is_started = true
end


-- The entry of a name; its file is read at once if it was not read before.
local function named_as(name)
    follow_configuration()
    local named = configured.names[name] or of_clients.names[name]
    if not named then
        return nil
    end
    keep_watching()
    if not named.file.is_taken then
        take_now(named.file)
    end
    return named
end


--- Returns a secret to APISIX.
-- @tparam table conf item of `secrets`
-- @tparam string key name of a setting in its `files`
function _M.get(conf, key)
    local named = named_as(sub(conf.id or "", 6) .. "/" .. key)
    if not named then
        return nil, "no file is named for it"
    end
    return named.file.value, named.file.problem
end


--- Whether a value is a reference to a file.
function _M.is_reference(value)
    return sub(value, 1, 15) == "$secret://file/"
end


--- The current value of a reference.
-- @treturn string|nil
-- @treturn nil|string why there is none
function _M.resolve(reference)
    local item, setting = secret_file.parse(reference)
    local named = item and named_as(item .. "/" .. setting)
    if not named then
        return nil, "no file is named for it"
    end
    return named.file.value, named.file.problem
end


-- The item of `secrets` that the compiler writes.
local OWN = "settings/"


--- Follows the files that clients' lines of apisix.yaml name, in place of those before.
-- @tparam table clients
-- @tparam number slice number of clients between two pauses
-- @tparam function pause lets other requests run
function _M.follow_clients(clients, slice, pause)
    local before, set = of_clients, { names = {}, files = {} }
    local function follow(reference, path)
        local item, setting = secret_file.parse(reference)
        if item and path then
            add(set, before, item .. "/" .. setting, path)
        end
    end
    for i, client in ipairs(clients) do
        follow(client.key, client.key_file)
        follow(client.secondary_key or "", client.secondary_key_file)
        if i % slice == 0 then
            pause()
        end
    end
    of_clients = set
end


--- The current value of a setting from a file; nil if there is none.
function _M.value(setting)
    local named = named_as(OWN .. setting)
    return named and named.file.value
end


--- A counter that increases whenever any secret changes.
function _M.version()
    follow_configuration()
    return version
end


--- The current value of a setting from a file; follows its changes.
-- @tparam string setting
-- @tparam table follower is notified until it is garbage-collected
-- @tparam function notify called with the follower and the new value; nil: there is none
-- @treturn string|nil the current value
function _M.follow(setting, follower, notify)
    local named = named_as(OWN .. setting)
    if not named then
        return nil
    end
    named.followers = named.followers or setmetatable({}, { __mode = "k" })
    named.followers[follower] = notify
    return named.file.value
end


--- Checks a file now, after its value was refused: a new value applies at once, because the old one
-- is useless anyway.
function _M.look_again(setting)
    local named = named_as(OWN .. setting)
    if not named then
        return
    end
    look(named.file)
    if named.file.found then
        take({ named.file })
    end
end


return _M
