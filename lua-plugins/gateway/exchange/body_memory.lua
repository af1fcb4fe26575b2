--- Counts the memory that request bodies use, over all workers.
-- Each worker publishes its own sum under its number. The successor of a killed worker overwrites
-- that sum, so the memory counts as free again.

local body_budget = require("genai.http.body_budget")
local core = require("apisix.core")
local process_config = require("apisix_internals.process_config")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local ngx = ngx
local collectgarbage = collectgarbage
local is_exiting = ngx.worker.exiting
local worker_count = ngx.worker.count
local worker_id = ngx.worker.id
local max = math.max

local _M = {}

local state = shared_memory.state

local DEFAULT_LIMIT = 128 * 1024 * 1024
local DEFAULT_BUFFER = 128 * 1024

-- Request bodies pass through Lua as strings. By default the collector starts whenever the heap has
-- doubled, and its work is a fifth of a request's. So a worker may grow by some tens of megabytes
-- first, unless it holds many bodies: then the heap could reach five times their size.
local MUCH = 4 * 1024 * 1024
local PAUSE_PERCENT, SHORT_PAUSE_PERCENT = 300, 200

local limit, buffer
local held = 0
local pause = PAUSE_PERCENT


local function key_of(id)
    return shared_keys.BODY_MEMORY .. id
end


-- A worker that is shutting down has a successor with the same number, so it does not publish.
local function publish()
    local id = worker_id()
    -- APISIX also loads plugins to validate files, without the shared memory.
    if state and id and not is_exiting() then
        state:set(key_of(id), held)
    end
end


local function adjust_pause()
    local wanted = held > MUCH and SHORT_PAUSE_PERCENT or PAUSE_PERCENT
    if wanted ~= pause then
        pause = wanted
        collectgarbage("setpause", pause)
    end
end


local function configure()
    local conf = process_config.plugin_attr("azure-openai-proxy")
    limit = conf.body_memory or DEFAULT_LIMIT
    buffer = conf.body_buffer or DEFAULT_BUFFER
end


--- Starts counting; called once in each worker.
function _M.start()
    configure()
    collectgarbage("setpause", pause)
    publish()
end


--- The memory that all bodies use now, in bytes.
function _M.used()
    local own = worker_id()
    local sum = held
    for id = 0, worker_count() - 1 do
        if id ~= own then
            sum = sum + (state:get(key_of(id)) or 0)
        end
    end
    return sum
end


--- The longest body that nginx keeps in memory, in bytes.
function _M.buffer()
    return buffer
end


--- Reserves memory for a body before it is read.
-- @tparam table record of the request, for which `release` is called at the end
-- @tparam number|nil length of the body; nil: the client does not declare it
-- @treturn string|nil the place of the body, as `genai.http.body_budget` returns it
function _M.take(record, length)
    local place, share = body_budget.place(length, _M.used(), limit, buffer)
    if not place then
        core.log.warn("a request is rejected with 503: request bodies use all of their memory, ",
                      limit, " bytes. If the container has more memory, raise GATEWAY_BODY_MEMORY")
        return nil
    end
    record.body_memory = share
    held = held + share
    publish()
    adjust_pause()
    return place
end


-- Changes the reservation of a request.
local function change(record, difference)
    record.body_memory = record.body_memory + difference
    held = max(0, held + difference)
    publish()
    adjust_pause()
end


--- Increases the reservation of a request, if there is enough memory.
-- @tparam table record
-- @tparam number bytes
-- @treturn boolean
function _M.grow(record, bytes)
    local used = _M.used()
    -- One request at a time gets what it needs, regardless of the limit.
    if used + bytes > limit and used > record.body_memory then
        return false
    end
    change(record, bytes)
    return true
end


--- Reduces the reservation of a request.
function _M.shrink(record, bytes)
    change(record, -bytes)
end


--- Updates the reservation when the real length of a body is known.
-- @tparam table record
-- @tparam number length bytes
function _M.measure(record, length)
    local _, share = body_budget.place(length, 0, limit, buffer)
    change(record, share - record.body_memory)
end


--- Releases the reservation of a request, if it has one.
function _M.release(record)
    local share = record.body_memory
    if share then
        record.body_memory = nil
        held = max(0, held - share)
        publish()
        adjust_pause()
    end
end


return _M
