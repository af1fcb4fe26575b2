--- A world for modules that do I/O: a clock, the memory that workers share, servers, a Redis, files,
-- and workers, each of which has loaded the gateway's modules for itself.
--
-- A module gets `ngx`, `require` and `io` of its worker as its environment, so that two workers of
-- one world, or two worlds, have nothing in common but the source.

local apisix_core = require("apisix_core")
local concat = table.concat
local error = error
local files = require("files")
local find = string.find
local fnv1a = require("genai.util.fnv1a")
local ipairs = ipairs
local io_open = io.open
local json_text = require("json_text")
local libraries = require("libraries")
local loadfile = loadfile
local loadstring = loadstring
local network = require("network")
local nginx = require("nginx")
local pairs = pairs
local real_require = require
local redis_server = require("redis_server")
local scheduler_module = require("scheduler")
local searchpath = package.searchpath
local setfenv = setfenv
local select = select
local setmetatable = setmetatable
local shared_dict = require("shared_dict")
local tostring = tostring

local _M = {}
local mt = { __index = _M }

-- A whole number of seconds: with steps such as 0.25 s, no time is rounded.
local START = 1700000000

-- Modules of LuaJIT itself.
local OF_LUAJIT = { ffi = true, bit = true, ["table.new"] = true }

-- Nearly all that a world leaves is garbage, and tests make hundreds of them.
collectgarbage("setpause", 400)

local chunks = {}

--- The file of the items of APISIX.
_M.FILE = "/conf/apisix.yaml"


-- The memory that config.yaml declares.
local DICTS = { "genai-gateway-state", "genai-gateway-affinity", "genai-gateway-failures",
                "genai-gateway-cache", "prometheus-metrics" }


local function new_dicts(scheduler)
    local dicts = {}
    for _, name in ipairs(DICTS) do
        local dict = shared_dict.new(0)
        dicts[name] = dict
        scheduler:follow(function(now)
            dict.now = now * 1000
        end)
    end
    return dicts
end


--- @tparam table|nil options `settings` (config.yaml), `env`, `worker_count`, and `sources`: texts
--   that are loaded in place of a module's file, by its name
function _M.new(options)
    options = options or {}
    local scheduler = scheduler_module.new(START)
    local world = setmetatable({
        scheduler = scheduler,
        dicts = new_dicts(scheduler),
        network = network.new(scheduler),
        redis = redis_server.new(),
        files = files.new(scheduler),
        settings = options.settings or {},
        env = options.env or {},
        sources = options.sources or {},
        worker_count = options.worker_count or 1,
        logged = {},
        spans = {},
        -- of APISIX: items of apisix.yaml by resource, services, names of hosts
        loaded = {},
        services = {},
        services_version = 1,
        addresses = {},
        workers = 0,
        -- what each call of math.random gives
        random = 0,
    }, mt)
    world.state = world.dicts["genai-gateway-state"]
    return world
end


--- Keeps a line of the error log.
function _M:note(level, worker, ...)
    local parts = {}
    for i = 1, select("#", ...) do
        parts[i] = tostring((select(i, ...)))
    end
    self.logged[#self.logged + 1] = { level = level, text = concat(parts), worker = worker.id }
end


--- How many lines of the error log contain a text.
-- @tparam string|nil level
function _M:lines(text, level)
    local count = 0
    for _, line in ipairs(self.logged) do
        if find(line.text, text, 1, true) and (not level or line.level == level) then
            count = count + 1
        end
    end
    return count
end


--- Has APISIX load the items of a resource.
-- @tparam table items values with their `id`, in a list
-- @tparam any version of the file
function _M:load(resource, items, version)
    local values, by_id = {}, {}
    for i, each in ipairs(items) do
        values[i] = { value = each }
        by_id[each.id] = i
    end
    self.loaded[resource] = { conf_version = version, values = values, values_hash = by_id }
end


--- Writes apisix.yaml with clients and a manifest, as the compiler does.
-- @tparam table clients as in their lines
-- @tparam table|nil options `at`, the time stamp; `items` and `digest` of the manifest; `count` of
--   clients there
-- @treturn number the version of the file
function _M:write_file(clients, options)
    options = options or {}
    local lines = {}
    for i, each in ipairs(clients) do
        lines[i] = "# genai-gateway client: " .. json_text.encode(each) .. "\n"
    end
    local digest = fnv1a.new()
    digest:update(concat(lines))
    local manifest = {
        digest = options.digest or tostring(self.files.inode),
        items = options.items or {},
        clients = #clients > 0 and { count = options.count or #clients,
                                    digest = digest:final() } or nil,
    }
    local version = options.at or self.scheduler.now
    self.files:write(_M.FILE, "# Rendered by genai-gateway.\n# genai-gateway manifest: "
                              .. json_text.encode(manifest) .. "\nservices:\n" .. concat(lines)
                              .. "#END\n", version)
    return version
end


--- The value of a loaded item.
function _M:item(resource, id)
    local loaded = self.loaded[resource]
    local position = loaded and loaded.values_hash[id]
    return position and loaded.values[position].value
end


function _M:advance(seconds)
    self.scheduler:advance(seconds)
end


--- Seconds since the world began.
function _M:clock()
    return self.scheduler.now - START
end


function _M:call(...)
    return self.scheduler:call(...)
end


-- The chunk of one of our modules, compiled once.
local function chunk_of(world, name)
    local text = world.sources[name]
    if text then
        local chunk, err = loadstring(text, "@" .. name)
        return chunk or error(name .. ": " .. err)
    end
    local chunk = chunks[name]
    if not chunk then
        local path = searchpath(name, package.path)
        if not path then
            error("the world has no module " .. name, 3)
        end
        local err
        chunk, err = loadfile(path)
        chunks[name] = chunk or error(err)
        -- Each world has closures of its own, for which LuaJIT would compile everything anew.
        jit.off(chunk, true)
    end
    return chunk
end


local function is_ours(name)
    return find(name, "^genai%.") or find(name, "^gateway%.") or find(name, "^apisix_internals%.")
           or find(name, "^apisix%.plugins%.azure%-openai%-") or find(name, "^apisix%.secret%.file$")
           or name == "apisix.plugins.apim-gateway-logger"
end


-- Declarations of C are those of the process, which has room for some ten thousand: each world
-- loads the modules that declare them again.
local declared = {}
local real_ffi = real_require("ffi")
local ffi_once = setmetatable({
    cdef = function(text)
        if not declared[text] then
            real_ffi.cdef(text)
            declared[text] = true
        end
    end,
}, { __index = real_ffi })


-- `require` of a worker: its stubs, LuaJIT's own modules, and ours, each loaded once.
local function loader(world, worker, stubs)
    local loaded = {}
    return function(name)
        local module = loaded[name] or stubs[name]
        if module == nil and OF_LUAJIT[name] then
            return name == "ffi" and ffi_once or real_require(name)
        end
        if module == nil then
            if not is_ours(name) then
                error("the world has no stub of " .. name, 2)
            end
            local chunk = chunk_of(world, name)
            setfenv(chunk, worker.environment)
            module = chunk(name)
            loaded[name] = module == nil and true or module
        end
        return module
    end
end


--- Starts a worker: with modules of its own, which refuse fields of records that are not declared.
-- @tparam table|nil options `type`: "worker" or "privileged agent"
function _M:worker(options)
    local world = self
    local id = self.workers
    self.workers = id + 1
    local worker = { id = id, pid = 100 + id, type = options and options.type or "worker",
                     variables = {}, prometheus = {}, tasks = {} }
    self.files:write("/proc/" .. worker.pid .. "/stat", "alive")

    local function current()
        local task = world.scheduler.task
        return task and task.context or worker.request
               or error("this is not allowed outside of a request", 3)
    end

    worker.current = current
    worker.ngx = nginx.new(world, worker, current)
    local stubs = {}
    worker.require = loader(world, worker, stubs)
    worker.environment = setmetatable({
        ngx = worker.ngx,
        require = worker.require,
        io = {
            open = function(path, mode)
                return world.files:open(path, mode)
            end,
        },
        -- It would change the collector of the tests.
        collectgarbage = function() end,
        math = setmetatable({
            random = function()
                return world.random
            end,
        }, { __index = math }),
    }, { __index = _G })
    libraries.add(stubs, self, worker)
    apisix_core.add(stubs, self, worker)
    worker.stubs = stubs
    if not (options and options.is_bare) then
        worker.require("gateway.record.request_record").set_strict(true)
    end
    return worker
end


--- Ends a worker as a crash does: none of its timers runs any more, nor goes on.
function _M:kill(worker)
    worker.is_dead = true
    for task in pairs(worker.tasks) do
        self.scheduler:kill(task)
    end
    self.files:write("/proc/" .. worker.pid .. "/stat", nil)
end


--- The source of one of our modules.
function _M.source(name)
    local path = searchpath(name, package.path) or error("no module " .. name, 2)
    local file = io_open(path, "r")
    local text = file:read("*a")
    file:close()
    return text
end


return _M
