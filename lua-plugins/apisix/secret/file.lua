--- A secret manager of APISIX for secrets in files, and the current values for those who must not
-- wait until APISIX's own cache of resolved secrets ends. Each worker looks at the files for
-- itself, so that no value is in memory that others share.

local core = require("apisix.core")
local lfs = require("lfs")
local process = require("ngx.process")
local secret_file = require("genai.secret_file")
local ngx = ngx
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local attributes = lfs.attributes
local io_open = io.open
local ipairs = ipairs
local max = math.max
local next = next
local pairs = pairs
local pcall = pcall
local setmetatable = setmetatable
local sub = string.sub

local _M = {}

-- Between two looks at all files.
local LOOK_S = 1

-- Requests get their turn after so many files.
local BATCH = 100

-- The time of a file is in whole seconds: one that was changed so lately may have been so again.
local RECENT_S = 2

local ENOENT = 2

-- Absolute, without a way up, and without what YAML, APISIX or the collector would take otherwise.
local PATH_PATTERN = "^(?!.*/\\.\\.(?:/|$))/[^\\x00-\\x1f\\x7f${}]{1,4095}$"


_M.schema = {
    type = "object",
    properties = {
        -- the name of a setting to the path of the file that holds it
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


-- What is known of files by their paths; each with what is `named` by it.
local files = {}

-- What is named, by `item/NAME`: the file, and who is told of its changes.
local names = {}

-- The version of `secrets` that `names` is made of, and how often a value has changed since.
local secrets, conf_version
local version = 0

local looks = {}
local is_started, is_watching, is_looking


local stat = {}


-- The content of a file, or why there is none; a file that did not change is not read again.
local function read(file)
    local found, _, code = attributes(file.path, stat)
    if not found then
        file.inode = nil
        return nil, code == ENOENT and "it is not there" or "it cannot be read", true
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


-- Looks at one file; true where something else is found than at the last look.
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


-- Says what became of a file, by the names of its settings only.
local function say(what, file)
    for _, named in ipairs(file.named) do
        local setting = named.setting
        if what == "value" then
            core.log.warn("the file of ", setting, " holds another value")
        elseif what == "problem" and file.value then
            core.log.warn("the file of ", setting, " cannot be used: ", file.found_problem,
                          "; its last value counts for ", secret_file.GRACE_S, " seconds")
        else
            core.log.error("the file of ", setting, " cannot be used: ", file.problem,
                           "; there is no ", setting, " until it can")
        end
    end
end


local function tell(named)
    for follower, notify in pairs(named.followers or {}) do
        local ok, err = pcall(notify, follower, named.file.value)
        if not ok then
            core.log.error("a change of ", named.setting, " was not taken over: ", err)
        end
    end
end


-- What was found in some files is what counts from now on, all at once: clients may have swapped
-- their keys.
local function take(list)
    local now = ngx_now()
    local changed = {}
    for _, file in ipairs(list) do
        local is_first = not file.is_taken
        local what = secret_file.take(file, now)
        file.is_taken = true
        -- Nobody has asked before the first time.
        if what == "problem" or what and not is_first then
            say(what, file)
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
            tell(named)
        end
    end
end


-- The file as it is now counts.
local function take_now(file)
    look(file)
    take({ file })
end


-- Follows what `secrets` says: names, and their paths.
local function follow_configuration()
    secrets = secrets or core.config.fetch_created_obj("/secrets")
    if not secrets or secrets.conf_version == conf_version or not secrets.values then
        return
    end

    conf_version = secrets.conf_version
    version = version + 1
    local before, known = names, files
    names, files = {}, {}
    local moved = {}
    for _, item in ipairs(secrets.values) do
        local id = item.value.id
        if sub(id, 1, 5) == "file/" then
            for setting, path in pairs(item.value.files) do
                local name = sub(id, 6) .. "/" .. setting
                local old = before[name]
                if not files[path] then
                    files[path] = known[path] or secret_file.new(path)
                    files[path].named = {}
                end
                local file = files[path]
                local named = {
                    setting = setting,
                    file = file,
                    followers = old and old.followers,
                }
                names[name] = named
                file.named[#file.named + 1] = named
                if old and old.file ~= file then
                    moved[#moved + 1] = named
                end
            end
        end
    end
    for _, named in ipairs(moved) do
        if not named.file.is_taken then
            take_now(named.file)
        end
        tell(named)
    end
end


local function look_around()
    follow_configuration()
    local list, is_moving = {}, false
    for _, file in pairs(files) do
        list[#list + 1] = file
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
        core.log.error("the files of secrets cannot be looked at: ", err)
    end
end


-- From the first file that is named.
local function keep_watching()
    if not is_watching then
        is_watching = timer_every(LOOK_S, watch)
    end
end


local function begin(premature)
    follow_configuration()
    if next(names) then
        keep_watching()
        watch(premature)
    end
end


--- Reads all files before anybody asks, while requests have their turn; once, in each worker.
function _M.start()
    if is_started or process.type() == "privileged agent" then
        return
    end
    -- The configuration is not there yet.
    local ok, err = timer_at(0, begin)
    if not ok then
        core.log.error("the files of secrets are not read in advance: ", err)
    end
    is_started = true
end


-- What a name stands for, read at once where that was not done before.
local function named_as(name)
    follow_configuration()
    local named = names[name]
    if not named then
        return nil
    end
    keep_watching()
    if not named.file.is_taken then
        take_now(named.file)
    end
    return named
end


--- A secret, as APISIX asks for it.
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


--- The current value that a reference stands for; nil where there is none.
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


-- The item that the compiler writes.
local OWN = "settings/"


--- The current value of a setting that stands in a file; nil where there is none.
function _M.value(setting)
    local named = named_as(OWN .. setting)
    return named and named.file.value
end


--- Another one whenever a value is.
function _M.version()
    follow_configuration()
    return version
end


--- The current value of a setting that stands in a file, and each that it changes to.
-- @tparam string setting
-- @tparam table follower is told as long as it is there
-- @tparam function notify called with the follower and another value, nil where there is none
-- @treturn string|nil the value now
function _M.follow(setting, follower, notify)
    local named = named_as(OWN .. setting)
    if not named then
        return nil
    end
    named.followers = named.followers or setmetatable({}, { __mode = "k" })
    named.followers[follower] = notify
    return named.file.value
end


--- Looks at a file now, where its value was refused: another one that is there already counts at
-- once, if only because nothing can be lost.
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
