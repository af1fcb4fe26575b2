-- How many turns find the prompt cache of the turn before with LB_AFFINITY, and what that does to
-- the balance: the picking itself, in a simulation of half an hour.
-- `luajit bench/soft-affinity.lua [SESSIONS]`

package.path = "lua-plugins/?.lua;" .. package.path

local picking = require("genai.balancing.picking")

local BACKENDS, WORKERS, REPLICAS = 4, 4, 2
local SECONDS, CACHE_S = 1800, 300
local SESSIONS, TURNS = tonumber(arg[1]) or 160, 12
local THINK_S, ANSWER_S = 6, 8


local function exponential(mean)
    return -math.log(1 - math.random()) * mean
end


-- A queue of events by their time.
local function push(heap, at, what)
    heap[#heap + 1] = { at = at, what = what }
    local i = #heap
    while i > 1 and heap[math.floor(i / 2)].at > heap[i].at do
        local parent = math.floor(i / 2)
        heap[parent], heap[i] = heap[i], heap[parent]
        i = parent
    end
end


local function pop(heap)
    local first = heap[1]
    heap[1] = heap[#heap]
    heap[#heap] = nil
    local i = 1
    while true do
        local least = i
        for _, child in ipairs({ i * 2, i * 2 + 1 }) do
            if heap[child] and heap[child].at < heap[least].at then
                least = child
            end
        end
        if least == i then
            return first
        end
        heap[least], heap[i] = heap[i], heap[least]
        i = least
    end
end


-- The backends as each worker knows them.
local function workers_of()
    local workers = {}
    for w = 1, WORKERS * REPLICAS do
        workers[w] = {}
        for b = 1, BACKENDS do
            workers[w][b] = { name = "backend-" .. b, weight = 1, index = b,
                              memory = { in_flight = 0 }, turns = {} }
        end
    end
    return workers
end


local function simulate(pick, case)
    math.randomseed(7)
    local workers, heap = workers_of(), {}
    local counts, in_flight, turns, found, busiest = {}, {}, 0, 0, 0
    for b = 1, BACKENDS do
        counts[b], in_flight[b] = 0, 0
    end

    local function begin_session(at)
        local is_hot = math.random() < case.hot
        push(heap, at, { key = is_hot and "hot" or "session-" .. math.random(1e9), left = TURNS })
    end

    for _ = 1, SESSIONS do
        begin_session(exponential(60))
    end
    while heap[1] and heap[1].at < SECONDS do
        local event = pop(heap)
        local now, session = event.at, event.what
        if session.ends then
            session.ends()
        else
            local worker = workers[math.random(#workers)]
            local candidates = {}
            for b = 1, BACKENDS do
                local is_cooling = case.cooling and b == 1 and now % 60 < 20
                candidates[#candidates + 1] = not is_cooling and worker[b] or nil
            end
            local backend = pick(candidates, session.key)
            local b = backend.index
            counts[b] = counts[b] + 1
            in_flight[b] = in_flight[b] + 1
            backend.memory.in_flight = backend.memory.in_flight + 1
            local total = 0
            for each = 1, BACKENDS do
                total = total + in_flight[each]
            end
            if now > 120 then
                busiest = math.max(busiest, in_flight[b] / (total / #candidates))
            end
            if session.last then
                turns = turns + 1
                if session.last == b and now - session.at < CACHE_S then
                    found = found + 1
                end
            end
            session.last, session.at, session.left = b, now, session.left - 1
            local answered = now + exponential(ANSWER_S)
            push(heap, answered, { ends = function()
                in_flight[b] = in_flight[b] - 1
                backend.memory.in_flight = backend.memory.in_flight - 1
                if session.left > 0 then
                    push(heap, answered + exponential(THINK_S), session)
                else
                    begin_session(answered + exponential(THINK_S))
                end
            end })
        end
    end

    local all, most, least = 0, 0, math.huge
    for b = 1, BACKENDS do
        all = all + counts[b]
        most, least = math.max(most, counts[b]), math.min(least, counts[b])
    end
    return found / turns, least / all, most / all, busiest
end


local PICKS = {
    { "round robin", function(candidates)
        return picking.round_robin(candidates)
    end },
    { "consistent hash", function(candidates, key)
        return picking.consistent_hash(candidates, key)
    end },
    { "LB_AFFINITY", function(candidates, key)
        return picking.bounded_hash(candidates, key)
    end },
}

local CASES = {
    { "sessions alone", hot = 0 },
    { "a quarter share one key", hot = 0.25 },
    { "one backend cools down 20 s of each minute", hot = 0, cooling = true },
    { "both", hot = 0.25, cooling = true },
}

print(("%d backends of equal weight, %d workers, %d sessions at a time"):format(
    BACKENDS, WORKERS * REPLICAS, SESSIONS))
print("| | | turns that find their prompt cache | requests of the backend with fewest, most |"
      .. " most in flight, of a fair share |")
print("|---|---|---|---|---|")
for _, case in ipairs(CASES) do
    for _, each in ipairs(PICKS) do
        local found, least, most, busiest = simulate(each[2], case)
        print(("| %s | %s | %.0f %% | %.0f %%, %.0f %% | %.2f |"):format(
            case[1], each[1], found * 100, least * 100, most * 100, busiest))
    end
end
