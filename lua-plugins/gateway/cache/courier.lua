--- Keeps flights of different workers and replicas together: one light thread in each worker, while
-- there are flights.

local core = require("apisix.core")
local metrics = require("gateway.metrics")
local semaphore = require("ngx.semaphore")
local next = next
local pairs = pairs
local pcall = pcall
local timer_at = ngx.timer.at

local _M = {}

-- By store: flights with a leader in this worker, flights with another leader, and ended flights
-- whose entry is not stored yet.
local work = {}

local is_running = false
local wake


local function work_of(store)
    local found = work[store]
    if not found then
        found = { led = {}, relayed = {}, ending = {}, first = 1, last = 0 }
        work[store] = found
    end
    return found
end


local function has_work()
    for store, each in pairs(work) do
        if next(each.led) or next(each.relayed) or each.first <= each.last then
            return true
        end
        work[store] = nil
    end
    return false
end


-- Stores what has ended.
local function store_ended(store, each)
    while each.first <= each.last do
        local job = each.ending[each.first]
        each.ending[each.first] = nil
        each.first = each.first + 1
        local result = store:finish(job.flight, job.text, job.ttl_s)
        if result then
            metrics.cache_stored(result)
        end
        job.flight:unregister()
        job.flight:is_published()
    end
end


local function drop_over(relayed)
    for flight in pairs(relayed) do
        if not next(flight.followers) then
            flight:abandon("unfollowed")
        end
        if flight.state == "done" or flight.state == "failed" then
            flight:unregister()
            relayed[flight] = nil
        end
    end
end


local function visit(store, each)
    store_ended(store, each)
    drop_over(each.relayed)
    if next(each.led) or next(each.relayed) then
        store:tick(each.led, each.relayed)
        drop_over(each.relayed)
    end
end


local function run()
    while has_work() do
        local tick_s = 1
        for store, each in pairs(work) do
            tick_s = store.tick_s < tick_s and store.tick_s or tick_s
            local ok, err = pcall(visit, store, each)
            if not ok then
                core.log.error("the answer cache cannot share arriving answers: ", err)
                for flight in pairs(each.relayed) do
                    flight:abandon("gone")
                end
                each.relayed = {}
            end
        end
        wake:wait(tick_s)
    end
    is_running = false
end


local function start()
    if is_running then
        return true
    end
    wake = wake or semaphore.new()
    local ok, err = timer_at(0, run)
    if not ok then
        core.log.error("cannot start a timer for the answer cache: ", err)
        return false
    end
    is_running = true
    return true
end


--- Takes care of a flight with a leader in this worker.
function _M.lead(flight)
    work_of(flight.store).led[flight] = true
    start()
end


--- Takes care of a flight with a leader in another worker or replica.
-- @treturn boolean false: it cannot be followed
function _M.relay(flight)
    if not start() then
        return false
    end
    work_of(flight.store).relayed[flight] = true
    return true
end


--- Ends a flight with a leader in this worker, after `finish` or `abandon`.
-- @tparam table flight
-- @tparam string|nil text the entry; nil: it is not stored
-- @tparam number ttl_s
function _M.ended(flight, text, ttl_s)
    local store = flight.store
    local each = work_of(store)
    each.led[flight] = nil
    if store.is_immediate then
        local result = store:finish(flight, text, ttl_s)
        if result then
            metrics.cache_stored(result)
        end
        flight:unregister()
        return
    end
    if not text and not flight.is_shared then
        return
    end
    flight.is_unpublished = true
    each.last = each.last + 1
    each.ending[each.last] = { flight = flight, text = text, ttl_s = ttl_s }
    if start() then
        wake:post()
    else
        each.ending[each.last], each.last = nil, each.last - 1
        flight:unregister()
        flight:is_published()
    end
end


return _M
