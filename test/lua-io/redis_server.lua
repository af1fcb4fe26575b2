--- A Redis that tests can stop, as `resty.redis` sees it: `down` is the error of every call while
-- it is set, `refuses` the error that it replies to every command, and `password` what clients must
-- sign in with.

local error = error
local insert = table.insert
local ipairs = ipairs
local redis_scripts = require("redis_scripts")
local setmetatable = setmetatable
local unpack = unpack

local _M = {}


--- The Redis servers of a world, by "host:port". Each one has `data`, `calls` and `passwords`, the
-- ones that clients signed in with.
function _M.new()
    return setmetatable({}, { __index = function(servers, place)
        local server = { data = {}, calls = {}, passwords = {}, tls_names = {}, open = 0 }
        server.scripts = redis_scripts.new(0, server.data)
        servers[place] = server
        return server
    end })
end


local function new_client(servers, scheduler, null)
    local client = {}

    local function call(name, work)
        client[name] = function(self, ...)
            local server = self.server
            insert(server.calls, { name, ... })
            if server.takes then
                scheduler:sleep(server.takes)
            end
            if server.down then
                return nil, server.down
            elseif server.refuses and not self.queue then
                return false, server.refuses
            elseif self.queue then
                insert(self.queue, { work, server, ... })
                return "QUEUED"
            end
            return work(server, ...)
        end
    end

    function client.set_timeouts() end

    function client:connect(host, port, options)
        local server = servers[host .. ":" .. port]
        if server.down then
            return nil, server.down
        end
        server.open = server.open + 1
        insert(server.tls_names, options and options.server_name or "")
        self.server = server
        return true
    end

    function client.get_reused_times()
        return 0
    end

    function client:auth(first, second)
        local password = second or first
        insert(self.server.passwords, password)
        if self.server.password and self.server.password ~= password then
            return nil, "WRONGPASS"
        end
        return "OK"
    end

    call("select", function()
        return "OK"
    end)
    call("get", function(server, key)
        return server.data[key] or null
    end)
    call("mget", function(server, ...)
        local values = {}
        for i, key in ipairs({ ... }) do
            values[i] = server.data[key] or null
        end
        return values
    end)
    call("set", function(server, key, value)
        if server.refuses_writes then
            return { false, server.refuses_writes }
        end
        server.data[key] = value
        return "OK"
    end)
    call("expire", function()
        return 1
    end)
    call("eval", function(server, ...)
        server.scripts.now = scheduler.now * 1000
        return server.scripts:run(...) or null
    end)
    call("rpush", function(server, key, ...)
        local list = server.data[key] or {}
        server.data[key] = list
        for _, each in ipairs({ ... }) do
            insert(list, each)
        end
        return #list
    end)
    call("lrange", function(server, key, from)
        return { unpack(server.data[key] or {}, from + 1) }
    end)
    call("pexpire", function()
        return 1
    end)

    function client:init_pipeline()
        self.queue = {}
    end

    function client:commit_pipeline()
        local results = {}
        for i, each in ipairs(self.queue) do
            results[i] = each[1](unpack(each, 2))
        end
        self.queue = nil
        return results
    end

    function client:set_keepalive()
        self.server.open = self.server.open - 1
        return true
    end
    client.close = client.set_keepalive
    return client
end


--- The module `resty.redis`.
function _M.module(servers, scheduler, null)
    local redis = new_client(servers, scheduler, null)

    function redis.new()
        return setmetatable({}, { __index = redis })
    end

    return redis
end


--- The module `apisix.utils.redis` on top of it.
function _M.apisix_module(redis)
    return {
        new = function(conf)
            local client = redis.new()
            local ok, err = client:connect(conf.redis_host or error("no host of a Redis"),
                                           conf.redis_port or 6379, { ssl = conf.redis_ssl })
            if not ok then
                return false, err
            end
            if conf.redis_password and conf.redis_password ~= "" then
                ok, err = client:auth(conf.redis_username or conf.redis_password,
                                      conf.redis_username and conf.redis_password)
                if not ok then
                    return nil, err
                end
            end
            return client
        end,
    }
end


return _M
