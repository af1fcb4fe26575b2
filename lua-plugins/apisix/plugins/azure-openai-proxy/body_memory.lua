--- What the bodies of requests take of the memory, over all workers.
--
-- Each worker publishes its own sum under its number. The worker that takes the place of a killed
-- one publishes anew, so what that one held is free again.

local budget = require("genai.body_budget")
local core = require("apisix.core")
local plugin = require("apisix.plugin")
local ngx = ngx
local collectgarbage = collectgarbage
local is_exiting = ngx.worker.exiting
local worker_count = ngx.worker.count
local worker_id = ngx.worker.id
local max = math.max

local _M = {}

local dict = ngx.shared["genai-gateway-state"]

local DEFAULT_LIMIT = 128 * 1024 * 1024
local DEFAULT_BUFFER = 128 * 1024

-- Request bodies pass through Lua as strings, and the collector's work is a fifth of a request's
-- where it begins anew each time the heap has doubled. A worker may grow by some tens of megabytes
-- instead, unless it holds much of bodies: then all that it holds would be there five times.
local MUCH = 4 * 1024 * 1024
local PAUSE_PERCENT, SHORT_PAUSE_PERCENT = 500, 200

local limit, buffer
local held = 0
local pause = PAUSE_PERCENT


local function key_of(id)
    return "body-memory|" .. id
end


-- A worker that is being shut down has a successor of the same number.
local function publish()
    local id = worker_id()
    -- APISIX loads plugins to validate files as well, without the shared memory.
    if dict and id and not is_exiting() then
        dict:set(key_of(id), held)
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
    local conf = plugin.plugin_attr("azure-openai-proxy") or {}
    limit = conf.body_memory or DEFAULT_LIMIT
    buffer = conf.body_buffer or DEFAULT_BUFFER
end


--- Begins to count; once, in each worker.
function _M.start()
    configure()
    collectgarbage("setpause", pause)
    publish()
end


--- What all bodies take now, in bytes.
function _M.used()
    local own = worker_id()
    local sum = held
    for id = 0, worker_count() - 1 do
        if id ~= own then
            sum = sum + (dict:get(key_of(id)) or 0)
        end
    end
    return sum
end


--- Bytes of the longest body that nginx has in memory.
function _M.buffer()
    return buffer
end


--- Takes memory for a body that is about to be read.
-- @tparam table state of the request, which `release` is called for
-- @tparam number|nil length of the body; nil: its client does not say
-- @treturn string|nil where it goes, as `genai.body_budget` says it
function _M.take(state, length)
    local place, share = budget.place(length, _M.used(), limit, buffer)
    if not place then
        core.log.warn("request bodies take all of the memory that they may have, ", limit,
                      " bytes: raise GATEWAY_BODY_MEMORY where this gateway has more")
        return nil
    end
    state.body_memory = share
    held = held + share
    publish()
    adjust_pause()
    return place
end


--- Gives back what a request has taken, if anything.
function _M.release(state)
    local share = state.body_memory
    if share then
        state.body_memory = nil
        held = max(0, held - share)
        publish()
        adjust_pause()
    end
end


return _M
