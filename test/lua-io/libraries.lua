--- Stand-ins for OpenResty's and other libraries that the gateway requires, for one worker.

local bit = require("bit")
local byte = string.byte
local char = string.char
local concat = table.concat
local error = error
local find = string.find
local floor = math.floor
local format = string.format
local gsub = string.gsub
local ipairs = ipairs
local json = require("json")
local json_text = require("json_text")
local pairs = pairs
local redis_server = require("redis_server")
local setmetatable = setmetatable
local sub = string.sub

local _M = {}

local BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


--- Kinds of spans, as the library numbers them.
_M.CLIENT_SPAN = 3

--- The bytes of a text in base64url; nil where it is none.
function _M.decode_base64url(text)
    local bits, count, bytes = 0, 0, {}
    for i = 1, #text do
        local at = find(BASE64URL, sub(text, i, i), 1, true)
        if not at then
            return nil
        end
        bits, count = bits * 64 + at - 1, count + 6
        if count >= 8 then
            count = count - 8
            local each = floor(bits / 2 ^ count)
            bytes[#bytes + 1] = char(each)
            bits = bits - each * 2 ^ count
        end
    end
    return concat(bytes)
end


--- A text in base64url.
function _M.encode_base64url(text)
    local bits, count, out = 0, 0, {}
    for i = 1, #text do
        bits, count = bits * 256 + byte(text, i), count + 8
        while count >= 6 do
            count = count - 6
            local each = floor(bits / 2 ^ count)
            out[#out + 1] = sub(BASE64URL, each + 1, each + 1)
            bits = bits - each * 2 ^ count
        end
    end
    if count > 0 then
        local each = bits * 2 ^ (6 - count)
        out[#out + 1] = sub(BASE64URL, each + 1, each + 1)
    end
    return concat(out)
end


--- The signature that the stub of OpenSSL accepts for a text and a key.
function _M.signature(signed, key)
    return "signed by " .. key .. ": " .. #signed
end


-- A number that depends on each byte of a text.
local function sum_of(text)
    local sum = 0
    for i = 1, #text do
        sum = (sum * 31 + byte(text, i)) % 2 ^ 32
    end
    return sum
end


-- A cipher that can be undone, and whose tag depends on everything that the real one's does.
local function ciphers()
    local function turned(key, iv, text)
        local stream, out = key .. iv, {}
        for i = 1, #text do
            local at = (i - 1) % #stream + 1
            out[i] = char(bit.bxor(byte(text, i), byte(stream, at), i % 256))
        end
        return concat(out)
    end

    local function tag_of(key, iv, text, aad)
        return format("%016.0f", sum_of(key .. iv .. text .. aad))
    end

    return {
        new = function()
            local cipher = {}

            function cipher:encrypt(key, iv, text, _, aad)
                self.tag = tag_of(key, iv, text, aad)
                return turned(key, iv, text)
            end

            function cipher:get_aead_tag(size)
                return sub(self.tag, 1, size)
            end

            function cipher:decrypt(key, iv, sealed, _, aad, tag)
                local text = turned(key, iv, sealed)
                if tag_of(key, iv, text, aad) ~= tag then
                    return nil, "the tag differs"
                end
                return text
            end

            return cipher
        end,
    }
end


local function lru_cache()
    return {
        new = function()
            local values = {}
            return {
                get = function(_, key)
                    return values[key]
                end,
                set = function(_, key, value)
                    values[key] = value
                end,
            }
        end,
    }
end


local function public_keys()
    return {
        PADDINGS = { RSA_PKCS1_PSS_PADDING = 6 },
        new = function(text)
            local key = json.decode(text)
            if key.n and find(key.n, "^broken") then
                return nil, "the key is broken"
            end
            return {
                verify = function(_, signature, signed)
                    return signature == _M.signature(signed, key.n or key.x)
                end,
            }
        end,
    }
end


local function cjson()
    return {
        new = function()
            return { encode = json_text.encode, decode = json.decode,
                     decode_array_with_array_mt = function() end,
                     decode_invalid_numbers = function() end,
                     encode_number_precision = function() end }
        end,
        encode = json_text.encode,
        decode = json.decode,
    }
end


-- The queue of spans: what has ended goes to the world's list.
local function batch_processor(world)
    local processor = {}

    function processor.new(exporter, opts)
        world.exporter = exporter
        return setmetatable({ queue = {}, opts = opts }, { __index = processor })
    end

    function processor:get_queue_size()
        return #self.queue
    end

    function processor:on_end(span)
        self.queue[#self.queue + 1] = span
        world.spans[#world.spans + 1] = span
    end

    return processor
end


local function recording_span()
    local span = {}

    function span.new(tracer, parent_ctx, ctx, name, config, start_time)
        local attributes = {}
        for _, each in ipairs(config.attributes or {}) do
            attributes[each.key] = each.value
        end
        return setmetatable({
            name = name, kind = config.kind, attributes = attributes, started = start_time,
            trace_id = ctx.trace_id, span_id = ctx.span_id, parent_id = parent_ctx.span_id,
            tracer = tracer,
        }, { __index = span })
    end

    function span:set_status(_, message)
        self.error = message
    end

    function span:finish(end_timestamp)
        self.ended = end_timestamp
        self.tracer.processor:on_end(self)
    end

    return span
end


local function tracer_provider()
    local provider = {}

    function provider.new(span_processors, opts)
        return setmetatable({ processor = span_processors[1], opts = opts }, { __index = provider })
    end

    function provider:tracer(name, opts)
        return { processor = self.processor, name = name, opts = opts }
    end

    return provider
end


local function add_opentelemetry(modules, world)
    local function attribute(key, value)
        return { key = key, value = value }
    end
    modules["opentelemetry.attribute"] = { string = attribute, int = attribute, double = attribute,
                                           bool = attribute }
    modules["opentelemetry.resource"] = {
        new = function(...)
            return { ... }
        end,
    }
    modules["opentelemetry.trace.batch_span_processor"] = batch_processor(world)
    modules["opentelemetry.trace.exporter.otlp"] = {
        encode_spans = function(_, spans)
            return spans
        end,
    }
    modules["opentelemetry.trace.exporter.pb"] = {
        encode = function(spans)
            return format("%d spans", #spans)
        end,
    }
    modules["opentelemetry.trace.span_context"] = {
        new = function(tid, sid, trace_flags, trace_state, remote)
            return { trace_id = tid, span_id = sid }
        end,
    }
    modules["opentelemetry.trace.span_kind"] = { server = 2, client = _M.CLIENT_SPAN }
    modules["opentelemetry.trace.span_status"] = { ERROR = 2 }
    modules["opentelemetry.trace.recording_span"] = recording_span()
    modules["opentelemetry.trace.tracer_provider"] = tracer_provider()
end


-- What OpenResty's LuaJIT has beyond LuaJIT's.
local function add_tables(modules)
    modules["table.nkeys"] = function(value)
        local count = 0
        for _ in pairs(value) do
            count = count + 1
        end
        return count
    end
    modules["table.clone"] = function(value)
        local copy = {}
        for key, each in pairs(value) do
            copy[key] = each
        end
        return copy
    end
end


local function semaphores(scheduler)
    return {
        new = function()
            local waiting, left = {}, 0
            return {
                wait = function(_, seconds)
                    if left > 0 then
                        left = left - 1
                        return true
                    end
                    local waiter = {}
                    waiting[#waiting + 1] = waiter
                    if scheduler:await(waiter, seconds) then
                        return true
                    end
                    for i, each in ipairs(waiting) do
                        if each == waiter then
                            table.remove(waiting, i)
                        end
                    end
                    return nil, "timeout"
                end,
                post = function(_, count)
                    for _ = 1, count or 1 do
                        local waiter = table.remove(waiting, 1)
                        if waiter then
                            waiter.wake()
                        else
                            left = left + 1
                        end
                    end
                end,
                count = function()
                    return left - #waiting
                end,
            }
        end,
    }
end


--- Adds them to the modules of a worker.
function _M.add(modules, world, worker)
    add_tables(modules)
    local redis = redis_server.module(world.redis, world.scheduler, json.null)
    local number = 0
    modules["resty.http"] = world.network:http()
    modules["ngx.semaphore"] = semaphores(world.scheduler)
    modules["resty.core.socket"] = {}
    modules["resty.core.base"] = { get_request = function() end }
    modules["resty.redis"] = redis
    modules["apisix.utils.redis"] = redis_server.apisix_module(redis)
    modules["resty.lrucache"] = lru_cache()
    modules["resty.openssl.pkey"] = public_keys()
    modules["resty.openssl.cipher"] = ciphers()
    modules["resty.ipmatcher"] = {
        parse_ipv4 = function(text)
            return find(text, "^%d+%.%d+%.%d+%.%d+$") and 1 or false
        end,
    }
    modules["resty.random"] = {
        bytes = function(count)
            number = number + 1
            return format("%0" .. count .. "d", worker.id * 100000 + number)
        end,
    }
    modules["resty.sha256"] = {
        new = function()
            local parts = {}
            return {
                update = function(_, text)
                    parts[#parts + 1] = text
                end,
                final = function()
                    return format("%032.0f", sum_of(concat(parts)))
                end,
            }
        end,
    }
    modules["resty.string"] = {
        to_hex = function(bytes)
            return (gsub(bytes, ".", function(each)
                return format("%02x", byte(each))
            end))
        end,
    }
    modules["resty.apisix.upstream"] = {
        push_upstream_state = function(entry)
            local states = worker.current().upstream_states
            states[#states + 1] = entry
        end,
        update_upstream_state = function(entry)
            local states = worker.current().upstream_states
            local last = states[#states]
            -- The gateway completes each entry once.
            if not last or last.response_time then
                error("there is no entry to complete")
            end
            last.response_time = entry.response_time
        end,
    }
    modules["lfs"] = {
        attributes = function(path, result)
            return world.files:attributes(path, result)
        end,
    }
    modules["ngx.process"] = {
        type = function()
            return worker.type
        end,
    }
    modules["ngx.base64"] = { decode_base64url = _M.decode_base64url }
    modules["cjson.safe"] = cjson()
    add_opentelemetry(modules, world)
end


return _M
