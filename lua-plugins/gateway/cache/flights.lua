--- Answers that are arriving. A *flight* is one answer in one worker: the leader's request adds its
-- bytes, or the courier does if the leader is in another worker or replica. Requests that wait for
-- the same answer follow the flight.

local semaphore = require("ngx.semaphore")
local next = next
local pairs = pairs
local setmetatable = setmetatable

local _M = {}
local Flight = {}
local mt = { __index = Flight }

-- By store and name, while requests may join.
local by_name = setmetatable({}, { __mode = "k" })

-- Bytes of all flights of this worker.
local held = 0


--- Bytes of answers that are arriving in this worker.
function _M.held()
    return held
end


--- The flight of a name that a request may join; nil: none.
function _M.find(store, name)
    local flights = by_name[store]
    local flight = flights and flights[name]
    return flight and flight.keeps and flight or nil
end


--- A new flight.
-- @tparam table store where the answer will be stored
-- @tparam string name of the entry
-- @tparam table limits `max_entry`: bytes of the largest stored answer; `memory`: bytes of all
--   flights of a worker
-- @treturn table `state`: "waiting", "live" (its head is known, and followers may send its bytes),
--   "done" or "failed"; `head`, `meta`, `entry` and `reason`, as the methods below set them
function _M.new(store, name, limits)
    return setmetatable({
        store = store,
        name = name,
        limits = limits,
        state = "waiting",
        -- false: the answer is too large to be stored
        keeps = true,
        -- `pieces` has those from `first` to `count`.
        pieces = {}, first = 1, count = 0,
        size = 0, held = 0,
        followers = {},
        -- number of pieces sent to other workers, and of messages with them
        published = 0, messages = 0,
    }, mt)
end


--- Lets other requests of this worker find the flight.
-- @tparam table flight
-- @tparam string token of its leader
-- @tparam boolean is_led whether the leader is in this worker
function _M.register(flight, token, is_led)
    flight.token, flight.is_led, flight.is_shared = token, is_led, true
    local flights = by_name[flight.store]
    if not flights then
        flights = {}
        by_name[flight.store] = flights
    end
    flights[flight.name] = flight
end


--- Requests find the flight no longer.
function Flight:unregister()
    local flights = by_name[self.store]
    if flights and flights[self.name] == self then
        flights[self.name] = nil
    end
end


local function notify(self)
    for follower in pairs(self.followers) do
        if follower.is_waiting then
            follower.is_waiting = false
            follower.semaphore:post()
        end
    end
end


local function hold(self, bytes)
    self.held = self.held + bytes
    held = held + bytes
end


-- Forgets the pieces before a position.
local function forget(self, position)
    local pieces = self.pieces
    for i = self.first, position - 1 do
        hold(self, -#pieces[i])
        pieces[i] = nil
    end
    if position > self.first then
        self.first = position
    end
end


-- Forgets all pieces if nobody needs them any more.
local function forget_if_over(self)
    if (self.state == "done" or self.state == "failed") and not next(self.followers)
       and not self.is_unpublished
    then
        forget(self, self.count + 1)
    end
end


-- The first piece that someone still needs, in an answer that is not stored.
local function first_needed(self)
    local position = self.is_wanted and self.published + 1 or self.count + 1
    for follower in pairs(self.followers) do
        if not follower.is_cut and follower.position < position then
            position = follower.position
        end
    end
    return position
end


-- Forgets what everyone has sent. Followers that are too slow are cut off, so that memory stays
-- bounded.
local function trim(self)
    forget(self, first_needed(self))
    while self.held > self.limits.max_entry and self.first <= self.count do
        for follower in pairs(self.followers) do
            if follower.position <= self.first then
                follower.is_cut = true
            end
        end
        local position = first_needed(self)
        if position <= self.first then
            -- Other workers are too slow.
            self.is_wanted = false
            position = first_needed(self)
        end
        forget(self, position)
    end
end


--- Adds bytes of the answer.
-- @tparam string bytes
function Flight:add(bytes)
    if self.state == "failed" then
        return
    end
    self.size = self.size + #bytes
    local limits = self.limits
    if self.keeps and (self.size > limits.max_entry or held + #bytes > limits.memory) then
        self.keeps = false
        self.left_out = self.size > limits.max_entry and "too_large" or "no_memory"
        if self.state ~= "live" then
            self:abandon(self.left_out)
            return
        end
    end
    self.count = self.count + 1
    self.pieces[self.count] = bytes
    hold(self, #bytes)
    if not self.keeps then
        trim(self)
    end
    if self.state == "live" then
        notify(self)
    end
end


--- Forgets the bytes so far, because another backend is tried.
function Flight:restart()
    forget(self, self.count + 1)
    self.first, self.count, self.size = 1, 0, 0
    self.pieces = {}
end


--- Lets followers send the bytes, because the answer is the client's.
-- @tparam table head the beginning of the entry's meta
function Flight:open(head)
    if self.state == "waiting" then
        self.state, self.head = "live", head
        notify(self)
    end
end


--- Ends the flight with a complete answer.
-- @tparam table|nil entry as it is stored, with its `body`; nil: it is not stored
-- @tparam table meta of the answer
function Flight:finish(entry, meta)
    if self.state == "failed" then
        return
    end
    self.state, self.entry, self.meta = "done", entry, meta
    notify(self)
    forget_if_over(self)
end


--- Ends the flight without an answer that others may use.
-- @tparam string reason
function Flight:abandon(reason)
    if self.state == "done" or self.state == "failed" then
        return
    end
    self.state, self.reason = "failed", reason
    self:unregister()
    notify(self)
    forget_if_over(self)
end


--- Marks all pieces as sent to other workers.
function Flight:is_published()
    self.is_unpublished = nil
    forget_if_over(self)
end


--- Whether someone waits for the answer, in any worker.
function Flight:is_followed()
    return self.is_wanted or next(self.followers) ~= nil
end


--- Joins the flight.
-- @treturn table the follower
function Flight:join()
    local follower = { flight = self, position = 1, semaphore = semaphore.new() }
    self.followers[follower] = true
    return follower
end


--- Leaves the flight.
function _M.leave(follower)
    local flight = follower.flight
    flight.followers[follower] = nil
    forget_if_over(flight)
end


--- The next piece for a follower; nil: it has all so far.
function _M.next_piece(follower)
    local flight, position = follower.flight, follower.position
    if position > flight.count then
        return nil
    end
    follower.position = position + 1
    return flight.pieces[position]
end


--- Waits until the flight has changed.
-- @tparam table follower
-- @tparam number seconds the longest wait
-- @treturn boolean false: nothing has changed
function _M.wait(follower, seconds)
    follower.is_waiting = true
    local is_changed = follower.semaphore:wait(seconds)
    follower.is_waiting = false
    return is_changed == true
end


return _M
