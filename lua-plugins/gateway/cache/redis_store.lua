--- Stores answers in a Redis that all replicas share, and passes arriving answers from one worker
-- or replica to another. A Redis that fails costs a request one time limit at most; then it is not
-- called for some seconds.

local by_content = require("gateway.mechanisms.by_content")
local claims = require("gateway.cache.claims")
local core = require("apisix.core")
local deadline = require("gateway.mechanisms.deadline")
local messages = require("gateway.cache.messages")
local metrics = require("gateway.metrics")
local random = require("resty.random")
local sealing = require("gateway.cache.sealing")
local shared_redis = require("gateway.shared_redis")
local throttled_log = require("gateway.mechanisms.throttled_log")
local to_hex = require("resty.string").to_hex
local ngx = ngx
local ngx_now = ngx.now
local null = ngx.null
local floor = math.floor
local ipairs = ipairs
local next = next
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local type = type
local unpack = unpack

local _M = {}
local Store = {
    -- Interval at which replicas look for parts of arriving answers, in seconds.
    tick_s = 0.05,
}
local mt = { __index = Store }

local PREFIX = "genai-gateway:cache:"
local ENTRY, LEASE, WANT, PARTS = PREFIX .. "entry:", PREFIX .. "lease:", PREFIX .. "want:",
                                  PREFIX .. "parts:"

-- How long a leader's claim outlives a killed worker, and how often it is renewed.
local LEASE_MS, RENEW_S = 10000, 3

-- How long a replica's interest in an arriving answer counts, and how long its parts are kept.
local WANT_MS, PARTS_MS = 3000, 30000

-- Pause after a failure, so that requests do not all wait for Redis one after another.
local PAUSE_S = 5

-- Keys of Redis in one command.
local MAX_KEYS = 500

-- Finds an entry, or claims the right to make it. A Redis without memory still returns entries.
local BEGIN = [[
for i = 2, #KEYS do
    local entry = redis.call("GET", KEYS[i])
    if entry then return { "hit", entry, i - 1 } end
end
local holder = redis.call("GET", KEYS[1])
if holder then return { "follow", holder } end
local claimed = redis.pcall("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
if type(claimed) == "table" and claimed.err then return { "alone", claimed.err } end
return { "lead", ARGV[1] }
]]

local RENEW = [[
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("SET", KEYS[1], ARGV[2], "PX", ARGV[3]) end
return 1
]]

local RELEASE = [[
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
return 1
]]


local stores = by_content.new(function(conf)
    return core.json.encode({ conf.redis, conf.encryption or false })
end, function(conf)
    local redis = conf.redis
    return setmetatable({
        redis = redis,
        timeout_s = redis.timeout_ms / 1000,
        address = redis.host .. ":" .. redis.port,
        encryption = conf.encryption,
    }, mt)
end)


--- The store of a configuration.
-- @tparam table conf `redis` and `encryption`
function _M.of(conf)
    return stores:of(conf)
end


-- Makes one call of a store's Redis, without a limit of its total time.
local function attempt(call)
    return shared_redis.with(call.redis, call.work, call.argument)
end


-- Calls Redis within its time limit. After a failure, one call a time tries again; until it works,
-- all others fail at once.
local function call(self, work, argument)
    local now = ngx_now()
    if self.paused_until then
        if now < self.paused_until then
            return nil, "paused"
        end
        self.paused_until = now + PAUSE_S
    end
    local result, err = deadline.call(self.timeout_s, attempt,
                                      { redis = self.redis, work = work, argument = argument })
    if result ~= nil then
        if self.paused_until then
            self.paused_until = nil
            throttled_log.forget("cache-redis", self.address)
            core.log.warn("the Redis of the answer cache at ", self.address, " works again")
        end
        return result
    end
    self.paused_until = ngx_now() + PAUSE_S
    metrics.cache_redis_failed()
    throttled_log.write(core.log.error, "cache-redis", self.address,
                        "the Redis of the answer cache at ", self.address, " fails: ", err,
                        "; requests go to the backends until it answers")
    return nil, err
end


-- The keys; nil: the secret has no value, so that nothing may be stored or read.
local function keys_of(self)
    local keys = sealing.keys(self.encryption)
    if not keys then
        throttled_log.write(core.log.error, "cache-key", self.address,
                            "CACHE_ENCRYPTION_KEY has no value, so the answer cache is not used")
    end
    return keys
end


local function begin(client, about)
    local args = { BEGIN, #about.names + 1, LEASE .. about.names[1] }
    for _, name in ipairs(about.names) do
        args[#args + 1] = ENTRY .. name
    end
    args[#args + 1] = about.token
    args[#args + 1] = LEASE_MS
    local reply, err = client:eval(unpack(args))
    -- A server that refuses writes for another reason, such as a replica, is not called again at
    -- once.
    if reply and reply[1] == "alone" and sub(reply[2], 1, 3) ~= "OOM" then
        return false, reply[2]
    end
    return reply, err
end


--- Finds an entry, or claims the right to make it; as `gateway.cache.local_store` does.
function Store:begin(request)
    local keys = keys_of(self)
    if not keys then
        return "alone", "redis"
    end
    local names = { sealing.name(request, keys.current) }
    if keys.previous then
        names[2] = sealing.name(request, keys.previous)
    end
    local token = to_hex(random.bytes(16))
    local reply = call(self, begin, { names = names, token = token })
    if not reply then
        return "alone", "redis"
    elseif reply[1] == "hit" then
        local number = reply[3]
        local text = sealing.open(reply[2], number == 2 and keys.previous or keys.current,
                                  ENTRY .. names[number])
        if text then
            return "hit", text
        end
        -- The text is not ours, or not whole. It is replaced.
        return "alone", "unreadable"
    elseif reply[1] == "alone" then
        metrics.cache_redis_failed()
        return "alone", "redis"
    elseif reply[1] == "follow" then
        return claims.read(reply[2])
    end
    return reply[1], reply[2]
end


-- Runs commands in one round trip. Returns a list of replies; a reply that is an error is false.
local function pipeline(client, commands)
    client:init_pipeline(#commands)
    for _, command in ipairs(commands) do
        client[command[1]](client, unpack(command, 2))
    end
    local replies, err = client:commit_pipeline()
    if not replies then
        return nil, err
    end
    for i, reply in ipairs(replies) do
        if type(reply) == "table" and reply[1] == false then
            replies[i] = false
        end
    end
    return replies
end


-- Adds the commands that pass on messages of a flight.
local function add_messages(commands, flight, list, key)
    if #list == 0 then
        return
    end
    local place = PARTS .. flight.token
    local push = { "rpush", place }
    for _, message in ipairs(list) do
        flight.messages = flight.messages + 1
        local sealed = sealing.seal(message, key, place .. ":" .. flight.messages)
        push[#push + 1] = sealed or ""
    end
    commands[#commands + 1] = push
    commands[#commands + 1] = { "pexpire", place, PARTS_MS }
end


--- Ends a flight; as `gateway.cache.local_store` does.
-- @treturn string|nil "stored" or "redis"
function Store:finish(flight, text, ttl_s)
    local keys = keys_of(self)
    if not keys then
        return text and "redis" or nil
    end
    local name = sealing.name(flight.name, keys.current)
    local sealed = text and sealing.seal(text, keys.current, ENTRY .. name)
    if sealed then
        local replies = call(self, pipeline,
                             { { "set", ENTRY .. name, sealed, "PX", floor(ttl_s * 1000) } })
        if replies and not replies[1] then
            metrics.cache_redis_failed()
            throttled_log.write(core.log.error, "cache-redis-write", self.address,
                                "the Redis of the answer cache at ", self.address,
                                " does not store an answer: it may have no memory left")
        end
        sealed = replies and replies[1]
    end
    if flight.is_shared then
        local commands = {}
        if flight.is_wanted then
            add_messages(commands, flight, messages.last(flight, sealed and true), keys.current)
        end
        commands[#commands + 1] = { "eval", RELEASE, 1, LEASE .. name, claims.of(flight) }
        call(self, pipeline, commands)
    end
    return text and (sealed and "stored" or "redis") or nil
end


-- The leaders' first commands: which of their flights are wanted.
local function add_wants(commands, led)
    local lists, list = {}, nil
    for flight in pairs(led) do
        if not list or #list == MAX_KEYS then
            list = {}
            lists[#lists + 1] = list
        end
        list[#list + 1] = flight
    end
    for _, each in ipairs(lists) do
        local command = { "mget" }
        for i, flight in ipairs(each) do
            command[i + 1] = WANT .. flight.token
        end
        commands[#commands + 1] = command
    end
    return lists
end


local function add_polls(commands, relayed, keys)
    local list = {}
    for flight in pairs(relayed) do
        list[#list + 1] = flight
        local token = flight.token
        commands[#commands + 1] = { "set", WANT .. token, "1", "PX", WANT_MS }
        -- First the claim: parts that were added before it ended are then complete.
        commands[#commands + 1] = { "get", LEASE .. sealing.name(flight.name, keys.current) }
        commands[#commands + 1] = { "lrange", PARTS .. token, flight.messages, -1 }
    end
    return list
end


-- Applies the parts of a flight. Returns true if its leader has given up its claim.
local function take(flight, holder, parts, key)
    for _, sealed in ipairs(parts or {}) do
        flight.messages = flight.messages + 1
        local message = sealing.open(sealed, key,
                                     PARTS .. flight.token .. ":" .. flight.messages)
        if not message then
            flight:abandon("gone")
            return false
        end
        messages.apply(flight, message)
    end
    return not claims.is_of(holder, flight.token)
end


-- The second commands: parts of wanted flights, and the leaders' claims.
local function second_commands(led, ended, keys)
    local commands, now = {}, ngx_now()
    for flight in pairs(led) do
        if flight.is_wanted then
            add_messages(commands, flight, messages.pending(flight), keys.current)
        end
        if now >= (flight.renew_at or 0) or claims.is_to_close(flight) then
            flight.renew_at = now + RENEW_S
            local before = claims.of(flight)
            claims.renew(flight)
            commands[#commands + 1] = { "eval", RENEW, 1,
                                        LEASE .. sealing.name(flight.name, keys.current),
                                        before, claims.of(flight), LEASE_MS }
        end
    end
    local first = #commands + 1
    for _, flight in ipairs(ended) do
        commands[#commands + 1] = { "get", ENTRY .. sealing.name(flight.name, keys.current) }
    end
    return commands, first
end


local function exchange(self, led, relayed, keys)
    local commands = {}
    local lists = add_wants(commands, led)
    local polled = add_polls(commands, relayed, keys)
    local replies = call(self, pipeline, commands)
    if not replies then
        return false
    end
    for i, list in ipairs(lists) do
        for j, flight in ipairs(list) do
            local wanted = replies[i] and replies[i][j]
            flight.is_wanted = wanted ~= nil and wanted ~= null and wanted ~= false
        end
    end
    local ended = {}
    for i, flight in ipairs(polled) do
        local at = #lists + 3 * (i - 1)
        if take(flight, replies[at + 2], replies[at + 3], keys.current) then
            ended[#ended + 1] = flight
        end
    end

    local first
    commands, first = second_commands(led, ended, keys)
    if not commands[1] then
        return true
    end
    replies = call(self, pipeline, commands)
    if not replies then
        return false
    end
    for i, flight in ipairs(ended) do
        local sealed = replies[first + i - 1]
        local text = type(sealed) == "string"
                     and sealing.open(sealed, keys.current,
                                      ENTRY .. sealing.name(flight.name, keys.current))
        messages.ended(flight, text or nil)
    end
    return true
end


--- Passes parts of arriving answers on, and takes those of others; as `gateway.cache.local_store`
-- does.
function Store:tick(led, relayed)
    local keys = keys_of(self)
    if not keys or not exchange(self, led, relayed, keys) then
        for flight in pairs(led) do
            flight.is_wanted = false
        end
        if next(relayed) then
            for flight in pairs(relayed) do
                flight:abandon("redis")
            end
        end
    end
end


return _M
