--- A clock that moves only while every task waits, and the tasks that wait for it. It stands for
-- nginx's event loop: timers, sleeping requests and light threads all run here, one at a time.

local coroutine = coroutine
local error = error
local insert = table.insert
local ipairs = ipairs
local max = math.max
local remove = table.remove
local select = select
local setmetatable = setmetatable
local traceback = debug.traceback
local unpack = unpack

local _M = {}
local mt = { __index = _M }

-- What a task passes when it yields.
local WAIT, EXIT = {}, {}

-- A test that waits longer than this waits for something that never comes.
local LONGEST_S = 3600


--- @tparam number now seconds
function _M.new(now)
    return setmetatable({ now = now, queue = {}, followers = {} }, mt)
end


--- Calls `follower(now)` now and whenever the clock moves.
function _M:follow(follower)
    self.followers[#self.followers + 1] = follower
    follower(self.now)
end


local function set_clock(self, now)
    if now > self.now then
        self.now = now
        for _, follower in ipairs(self.followers) do
            follower(now)
        end
    end
end


--- Calls a function later.
-- @treturn table the event; `event.run = nil` cancels it
function _M:after(seconds, run)
    local event = { at = self.now + max(0, seconds), run = run }
    local queue = self.queue
    local position = #queue + 1
    while position > 1 and queue[position - 1].at > event.at do
        position = position - 1
    end
    insert(queue, position, event)
    return event
end


-- Runs the next event that is due at a time, if any.
local function step(self, limit)
    local event = self.queue[1]
    if not event or event.at > limit then
        return false
    end
    remove(self.queue, 1)
    if event.run then
        set_clock(self, event.at)
        event.run()
    end
    return true
end


local function finish(task)
    task.is_done = true
    for _, waiter in ipairs(task.waiters) do
        if not waiter.is_over then
            waiter.is_over = true
            waiter.wake()
        end
    end
    if task.finished then
        task.finished(task)
    end
end


local function resume(self, task, ...)
    if task.is_done then
        return
    end
    local before = self.task
    self.task = task
    local ok, first, second, third = coroutine.resume(task.co, ...)
    self.task = before
    if coroutine.status(task.co) == "dead" then
        task.ok, task.results = ok, { first, second, third }
        if not ok and not task.is_waited_for then
            error(traceback(task.co, first), 0)
        end
        finish(task)
    elseif first == EXIT then
        task.ok, task.exit_code, task.results = true, second, {}
        finish(task)
    end
end


--- Starts a task, which runs until it waits for the first time.
-- @param context of the task, and of those that it starts
-- @tparam function|nil finished called with the task at its end
-- @tparam function run
-- @param ... its arguments
function _M:start(context, finished, run, ...)
    local task = { co = coroutine.create(run), waiters = {}, context = context, finished = finished }
    resume(self, task, ...)
    return task
end


local function yield(self, reason, value)
    if not self.task then
        error("nothing can wait here: this is no request, timer or light thread", 3)
    end
    return coroutine.yield(reason, value)
end


--- Lets the current task wait.
function _M:sleep(seconds)
    local task = self.task
    self:after(seconds, function()
        resume(self, task)
    end)
    yield(self, WAIT)
end


--- Lets the current task wait for some seconds, or until `waiter.wake` is called.
-- @treturn boolean whether it was woken
function _M:await(waiter, seconds)
    local task = self.task
    local function go(is_woken)
        if not waiter.is_over then
            waiter.is_over, waiter.is_woken = true, is_woken
            resume(self, task)
        end
    end
    function waiter.wake()
        self:after(0, function()
            go(true)
        end)
    end
    self:after(seconds, function()
        go(false)
    end)
    yield(self, WAIT)
    return waiter.is_woken
end


--- Lets the current task wait for ever.
function _M:hang()
    yield(self, WAIT)
end


--- Ends the current task from within.
function _M:exit(code)
    yield(self, EXIT, code)
end


--- Ends a task, wherever it waits.
function _M.kill(_, task)
    if not task.is_done then
        task.is_killed = true
        finish(task)
    end
end


--- A light thread of the current task.
function _M:spawn(run, ...)
    local task = { co = coroutine.create(run), waiters = {}, is_waited_for = true,
                   context = self.task and self.task.context }
    resume(self, task, ...)
    return task
end


--- Waits for the first of some light threads.
-- @return as ngx.thread.wait: whether it did not throw, and its results or the error
function _M:wait(...)
    local tasks = { ... }
    while true do
        for _, task in ipairs(tasks) do
            if task.is_done and not task.is_killed then
                return task.ok, unpack(task.results, 1, 3)
            end
        end
        local current = self.task
        local waiter = {}
        function waiter.wake()
            self:after(0, function()
                resume(self, current)
            end)
        end
        for i = 1, select("#", ...) do
            insert(tasks[i].waiters, waiter)
        end
        yield(self, WAIT)
    end
end


--- Runs what is due until a condition holds; the clock moves on as far as it has to.
-- @tparam function is_over
function _M:run_until(is_over)
    local limit = self.now + LONGEST_S
    while not is_over() do
        if not step(self, limit) then
            error("what the test waits for never comes", 2)
        end
    end
end


--- Moves the clock on, and runs what is due meanwhile; with 0 seconds what is due now.
function _M:advance(seconds)
    local till = self.now + seconds
    while step(self, till) do
        -- Each step may add events that are due as well.
    end
    set_clock(self, till)
end


--- Calls a function in a task of its own and waits for its end.
-- @return its results
function _M:call(run, ...)
    local task = self:start(nil, nil, run, ...)
    self:run_until(function()
        return task.is_done
    end)
    return unpack(task.results, 1, 3)
end


return _M
