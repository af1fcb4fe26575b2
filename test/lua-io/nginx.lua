--- The table `ngx` of one worker. `ngx.var`, `ngx.header`, `ngx.status` and the functions of
-- requests are about the request whose turn it is.

local char = string.char
local concat = table.concat
local error = error
local floor = math.floor
local format = string.format
local gsub = string.gsub
local ipairs = ipairs
local io_open = io.open
local json = require("json")
local lower = string.lower
local pairs = pairs
local rawset = rawset
local select = select
local setmetatable = setmetatable
local sort = table.sort
local tmpname = os.tmpname
local tonumber = tonumber
local tostring = tostring
local type = type

local _M = {}

--- What ends a run of the plugins that begins anew with another path.
_M.REROUTED = {}

-- What nginx knows of the error of a connection that its client has closed.
local CLIENT_GONE = "nginx output filter error"


local function request_table(current, field)
    return setmetatable({}, {
        __index = function(_, name)
            return current()[field][name]
        end,
        __newindex = function(_, name, value)
            current()[field][name] = value
        end,
    })
end


local function header_name(name)
    return (gsub(lower(name), "_", "-"))
end


-- `ngx.header`: names in any case, "_" for "-".
local function header_table(current)
    return setmetatable({}, {
        __index = function(_, name)
            return current().response_headers[header_name(name)]
        end,
        __newindex = function(_, name, value)
            local request = current()
            if request.is_sent then
                error("the header " .. name .. " is set after the headers were sent", 2)
            end
            request.response_headers[header_name(name)] = value ~= nil and type(value) ~= "table"
                                                          and tostring(value) or value
        end,
    })
end


local function text_of(...)
    local parts = {}
    for _, each in ipairs({ ... }) do
        parts[#parts + 1] = type(each) == "table" and text_of(unpack(each)) or tostring(each)
    end
    return concat(parts)
end


-- The functions that answer a request.
local function add_output(ngx, current)
    local function send_headers()
        local request = current()
        if not request.is_sent then
            if request.filter then
                request.filter()
            end
            request.is_sent = true
            request.status = ngx.status ~= 0 and ngx.status or 200
        end
    end

    local function output(text)
        local request = current()
        if request.is_gone or request.leaves_after and #request.chunks >= request.leaves_after then
            request.is_gone = true
            return nil, CLIENT_GONE
        end
        send_headers()
        request.chunks[#request.chunks + 1] = text
        return 1
    end

    ngx.send_headers = send_headers

    --- What runs when the client of this request closes its connection, in place of its end.
    function ngx.on_abort(run)
        current().on_abort = run
        return 1
    end

    function ngx.print(...)
        return output(text_of(...))
    end

    function ngx.say(...)
        return output(text_of(...) .. "\n")
    end

    function ngx.flush()
        if current().is_gone then
            return nil, CLIENT_GONE
        end
        return 1
    end
end


-- The functions that read a request.
local function add_input(ngx, current, scheduler, files)
    ngx.req = {
        get_method = function()
            return current().method
        end,
        get_headers = function()
            local copy = {}
            for name, value in pairs(current().headers) do
                copy[name] = value
            end
            return copy
        end,
        clear_header = function(name)
            current().headers[lower(name)] = nil
        end,
        set_uri_args = function(args)
            current().var.args = args
        end,
        is_internal = function()
            return current().is_rerouted or false
        end,
        http_version = function()
            return 1.1
        end,
        start_time = function()
            return current().started
        end,
        read_body = function()
            local request = current()
            if request.upload_takes then
                scheduler:sleep(request.upload_takes)
            end
            request.is_read = true
        end,
        get_body_data = function()
            local request = current()
            return request.is_read and not request.body_file and request.body or nil
        end,
        get_body_file = function()
            return current().body_file
        end,
        socket = function()
            return nil
        end,
        init_body = function(size)
            local request = current()
            request.new_body = {}
            request.new_body_size = size
        end,
        append_body = function(text)
            local pieces = current().new_body
            pieces[#pieces + 1] = text
        end,
        finish_body = function(...)
            if select("#", ...) > 0 then
                error("expecting 0 argument")
            end
            local request = current()
            local path = tmpname()
            local file = io_open(path, "wb")
            file:write(concat(request.new_body))
            file:close()
            files:share(path)
            request.body_file, request.new_body_file = path, path
        end,
    }
    ngx.resp = {
        get_headers = function()
            local copy = {}
            for name, value in pairs(current().response_headers) do
                copy[name] = value
            end
            return setmetatable(copy, { __index = function(_, name)
                return copy[header_name(name)]
            end })
        end,
    }
end


local function add_waiting(ngx, worker, scheduler, network)
    -- nginx keeps the time in milliseconds.
    function ngx.now()
        return floor(scheduler.now * 1000 + 0.5) / 1000
    end

    function ngx.time()
        return floor(scheduler.now)
    end

    function ngx.update_time() end

    function ngx.sleep(seconds)
        scheduler:sleep(seconds)
    end

    ngx.thread = {
        spawn = function(...)
            return scheduler:spawn(...)
        end,
        wait = function(...)
            return scheduler:wait(...)
        end,
        kill = function(thread)
            scheduler:kill(thread)
        end,
    }

    ngx.socket = {
        tcp = function()
            return network:tcp()
        end,
    }
    ngx.timer = {}

    function ngx.timer.at(seconds, run, ...)
        if worker.has_no_timers then
            return nil, "too many pending timers"
        elseif worker.is_exiting and seconds > 0 then
            return nil, "process exiting"
        end
        local arguments = { ... }
        -- A worker that begins to end runs the timers that it has, prematurely. Those that it adds
        -- later are as usual.
        local was_exiting = worker.is_exiting
        scheduler:after(seconds, function()
            if not worker.is_dead then
                local premature = worker.is_exiting and not was_exiting or false
                local task = scheduler:start(nil, function(task)
                    worker.tasks[task] = nil
                end, run, premature, unpack(arguments, 1, 8))
                worker.tasks[task] = not task.is_done or nil
            end
        end)
        return true
    end

    function ngx.timer.every(seconds, run, ...)
        local function again(premature, ...)
            ngx.timer.at(seconds, again, ...)
            run(premature, ...)
        end
        return ngx.timer.at(seconds, again, ...)
    end
end


local function encode_args(arguments)
    local parts = {}
    for name, value in pairs(arguments) do
        parts[#parts + 1] = name .. "=" .. gsub(tostring(value), "[^%w%-._~]", function(each)
            return format("%%%02X", each:byte())
        end)
    end
    sort(parts)
    return concat(parts, "&")
end


--- @tparam table world
-- @tparam table worker `id`, `pid`
-- @tparam function current returns the request whose turn it is
function _M.new(world, worker, current)
    local scheduler = world.scheduler
    local ngx = {
        null = json.null,
        OK = 0, ERROR = -1, HTTP_OK = 200,
        ERR = 4, WARN = 5,
        shared = world.dicts,
        var = request_table(current, "var"),
        header = header_table(current),
        config = {
            subsystem = "http",
            prefix = function()
                return "/no-such-folder/"
            end,
        },
        worker = {
            id = function()
                return worker.id
            end,
            pid = function()
                return worker.pid
            end,
            count = function()
                return world.worker_count
            end,
            exiting = function()
                return worker.is_exiting or false
            end,
        },
        -- Distinct for distinct texts, which is all that is asked of them.
        md5 = function(text)
            return "md5 of " .. text
        end,
        crc32_long = function(text)
            local sum = #text
            for i = 1, #text do
                sum = (sum * 31 + text:byte(i)) % 4294967296
            end
            return sum
        end,
        encode_args = encode_args,
        parse_http_time = function()
            return nil
        end,
        get_phase = function()
            return scheduler.task and scheduler.task.context and "access" or "timer"
        end,
        log = function(level, ...)
            world:note(level == 4 and "error" or "warn", worker, ...)
        end,
        exit = function(code)
            scheduler:exit(code)
        end,
        exec = function(path, args)
            local request = current()
            request.is_rerouted = true
            request.var.uri = gsub(path, "%%(%x%x)", function(digits)
                return char(tonumber(digits, 16))
            end)
            request.var.args = args
            error(_M.REROUTED, 0)
        end,
    }
    add_output(ngx, current)
    add_input(ngx, current, scheduler, world.files)
    add_waiting(ngx, worker, scheduler, world.network)
    return setmetatable(ngx, {
        __index = function(_, name)
            if name == "status" then
                return current().response_status
            elseif name == "headers_sent" then
                return current().is_sent
            elseif name == "ctx" then
                return current().ngx_ctx
            end
            return nil
        end,
        __newindex = function(self, name, value)
            if name == "status" then
                current().response_status = value
            else
                rawset(self, name, value)
            end
        end,
    })
end


return _M
