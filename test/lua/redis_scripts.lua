--- A Redis that runs scripts on hashes and texts, with a clock that tests set; as `client:eval` of
-- lua-resty-redis.

local floor = math.floor
local loadstring = loadstring
local setfenv = setfenv
local setmetatable = setmetatable
local tostring = tostring
local type = type

local _M = {}
local mt = { __index = _M }


--- @tparam number now milliseconds; tests move `redis.now` on
-- @tparam table|nil texts values by key, which tests share with other commands
function _M.new(now, texts)
    return setmetatable({ now = now, hashes = {}, expires = {}, texts = texts or {} }, mt)
end


local COMMANDS = {}


local function hash_of(self, key)
    if self.expires[key] and self.now >= self.expires[key] then
        self.hashes[key], self.expires[key] = nil, nil
    end
    return self.hashes[key]
end


function COMMANDS.TIME(self)
    return { tostring(floor(self.now / 1000)), tostring(floor(self.now % 1000) * 1000) }
end


function COMMANDS.HGETALL(self, key)
    local list = {}
    for field, value in pairs(hash_of(self, key) or {}) do
        list[#list + 1], list[#list + 2] = field, tostring(value)
    end
    return list
end


function COMMANDS.HDEL(self, key, ...)
    for _, field in ipairs({ ... }) do
        self.hashes[key][tostring(field)] = nil
    end
    return select("#", ...)
end


function COMMANDS.HEXISTS(self, key, field)
    return (hash_of(self, key) or {})[tostring(field)] and 1 or 0
end


function COMMANDS.HINCRBY(self, key, field, by)
    local hash = hash_of(self, key) or {}
    self.hashes[key] = hash
    field = tostring(field)
    hash[field] = (hash[field] or 0) + tonumber(by)
    return hash[field]
end


function COMMANDS.GET(self, key)
    local text = self.texts[key]
    return text ~= nil and text or false
end


function COMMANDS.SET(self, key, value)
    if self.refuses_writes then
        return { err = self.refuses_writes }
    end
    self.texts[key] = value
    return "OK"
end


function COMMANDS.DEL(self, key)
    self.texts[key] = nil
    return 1
end


function COMMANDS.EXPIRE(self, key, seconds)
    self.expires[key] = self.now + seconds * 1000
    return 1
end


--- Runs a script, as Redis does: with text arguments, and whole numbers in its answer.
function _M:run(script, count, ...)
    local keys, arguments = {}, {}
    for i, each in ipairs({ ... }) do
        each = tostring(each)
        if i <= count then
            keys[#keys + 1] = each
        else
            arguments[#arguments + 1] = each
        end
    end
    local call = function(name, ...)
        return COMMANDS[name](self, ...)
    end
    local chunk = assert(loadstring(script))
    setfenv(chunk, setmetatable({ redis = { call = call, pcall = call }, KEYS = keys, ARGV = arguments },
                                { __index = _G }))
    local answer = chunk()
    if type(answer) == "table" then
        for i, each in ipairs(answer) do
            answer[i] = type(each) == "number" and floor(each) or each
        end
    end
    return answer
end


--- A client of this Redis.
function _M:client()
    local redis = self
    local client = {}

    function client:eval(...)
        if self.queue then
            self.queue[#self.queue + 1] = { ... }
            return "QUEUED"
        end
        return redis:run(...)
    end

    function client:init_pipeline()
        self.queue = {}
    end

    function client:commit_pipeline()
        local results = {}
        for i, each in ipairs(self.queue) do
            results[i] = redis:run(unpack(each))
        end
        self.queue = nil
        return results
    end

    return client
end


return _M
