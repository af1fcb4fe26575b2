--- Counters, gauges and histograms of all workers in shared memory, within a budget of lines and
-- bytes of the metrics page.
-- A worker adds up its counts and writes the sums at each `flush`. One process writes the page with
-- `render`. When the budget is used up, labels of new series become "other".
--
-- In the shared memory, where ID is the number of a series:
--   s|NAME|LABELS   its ID
--   i|ID            POOL|NAME|LABELS, which `render` reads
--   v|ID            the value; of a histogram the sum
--   h|ID|BUCKET     observations of one bucket of a histogram, not cumulated
--   g|ID|PROCESS    the part of a process in a gauge, which ends with the process
--   p, p|NUMBER     how many processes there have been, and their names
--   n               the last ID
--   lines|POOL, bytes|POOL   the used budget

local concat = table.concat
local find = string.find
local floor = math.floor
local format = string.format
local gsub = string.gsub
local ipairs = ipairs
local match = string.match
local pairs = pairs
local setmetatable = setmetatable
local tostring = tostring

local _M = {}
local mt = { __index = _M }
local metric_mt = {}
metric_mt.__index = metric_mt

--- The value of a label for which there is no room.
_M.OTHER = "other"

--- The metric of values that were counted as "other" or not at all.
_M.LEFT_OUT = "genai_metrics_left_out_total"

--- The order in which labels become "other": client, model, backend, operation.
local GIVES_UP = {
    { consumer = true },
    { request_llm_model = true, llm_model = true, answer_model = true },
    { node = true },
    { operation = true },
}

-- The budget is divided, so that many clients leave room for models and backends, and those leave
-- room for the rest. The shares do not add up to 1: the remainder is for the page's own gauges and
-- for APISIX's.
local CLIENTS, MODELS, REST = "clients", "models", "rest"
local SHARES = { [CLIENTS] = 0.63, [MODELS] = 0.3, [REST] = 0.03 }
local ALL_SHARES = 0.96

-- The share of the page's own gauges.
local GAUGES_SHARE = 0.03

-- The length of a value, a space and a line feed.
local VALUE_BYTES = 14

-- A series is removed if its pool is fuller than this and the series has not changed for a day.
local NEARLY_FULL = 0.75
local IDLE_S = 86400

-- A worker checks again after this time whether there is room for a series. The second value limits
-- the rejected series that it remembers for each metric.
local ASK_AGAIN_S = 60
local MAX_REFUSED = 2000

-- A worker that found no room does not try to take as many lines again for this time.
local FULL_S = 5

-- Number of series between two calls of `yield`.
local YIELD_EVERY = 500

local NONE = {}


--- A value in Prometheus' text format.
local function written(value)
    if value == floor(value) and value < 1e15 and value > -1e15 then
        return format("%.0f", value)
    end
    return format("%.14g", value)
end


local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

local function escaped(value)
    if find(value, '["\\\n]') then
        return (gsub(value, '["\\\n]', ESCAPES))
    end
    return value
end


--- Creates the store. Each process creates its own over the same memory.
-- @tparam table dict with get, safe_add, safe_set, incr and delete, as nginx's shared memory has
-- @tparam table options `prefix` of all names; `max_lines` and `max_bytes` of the page; `now`: a
--   function that returns seconds; for gauges, `process`: a name for this process, and `is_alive`:
--   a function that returns whether a process of that name exists
function _M.new(dict, options)
    local self = setmetatable({
        dict = dict,
        prefix = options.prefix,
        now = options.now,
        max_lines = options.max_lines,
        max_bytes = options.max_bytes,
        metrics = {},
        by_name = {},
        dirty = {},
        dirty_count = 0,
        process = options.process,
        is_alive = options.is_alive,
        asked_at = options.now(),
        full_till = {},
        full_lines = {},
    }, mt)
    if self.process then
        local number = dict:incr("p", 1, 0)
        if number then
            dict:safe_set("p|" .. number, self.process)
        end
    end
    self.left_out = self:metric({
        name = _M.LEFT_OUT, type = "counter", labels = { "metric" }, is_reserved = true,
        help = "Values counted with the label other, or not at all, for lack of room",
    })
    return self
end


-- The labels that are "other" at each level, and the pool from which a series of that level takes
-- room.
local function levels_of(labels)
    local levels, is_other = { { pool = REST, is_other = {} } }, {}
    for group, names in ipairs(GIVES_UP) do
        local has_any = false
        for i, label in ipairs(labels) do
            if names[label] then
                has_any, is_other[i] = true, true
            end
        end
        if has_any then
            levels[#levels].pool = group == 1 and CLIENTS or group <= 3 and MODELS or REST
            local copy = {}
            for i in ipairs(labels) do
                copy[i] = is_other[i]
            end
            levels[#levels + 1] = { pool = REST, is_other = copy }
        end
    end
    levels[#levels].is_last = true
    return levels
end


--- Declares a metric. `render` writes metrics in the order of their declarations.
-- @tparam table declared `name`, `type`, `help`, `labels`; `optional`: the last label, which is
--   left out if its value is ""; `buckets` of a histogram; `is_reserved`: its series always have
--   room, so they must be few
function _M:metric(declared)
    local labels = declared.labels or {}
    local buckets = declared.type == "histogram" and declared.buckets or nil
    local name = declared.name
    local full = self.prefix .. name
    local metric = setmetatable({
        store = self,
        name = name,
        full = full,
        labels = labels,
        optional = declared.optional,
        depth = #labels,
        buckets = buckets,
        bucket_count = buckets and #buckets,
        lines = buckets and #buckets + 3 or 1,
        head = "# HELP " .. full .. " " .. declared.help .. "\n# TYPE " .. full .. " "
               .. declared.type .. "\n",
        levels = levels_of(labels),
        is_reserved = declared.is_reserved,
        -- The leaves of a gauge contain this process's part, and must not be forgotten.
        own = declared.type == "gauge" and {} or nil,
        -- Series by the values of their labels, and their number: existing series, and rejected
        -- ones.
        found = { tree = {}, count = 0, limit = self.max_lines },
        refused = { tree = {}, count = 0, limit = MAX_REFUSED },
        -- state of `render`
        shown = {},
    }, metric_mt)
    self.metrics[#self.metrics + 1] = metric
    self.by_name[name] = metric
    if #metric.levels > 1 and self.left_out then
        -- Starts the counter at 0: an alert does not see the first value of a new series as an
        -- increase.
        self.left_out:add(0, { full })
    end
    return metric
end


-- The labels in the page's format, without braces.
local function text_of(metric, values, is_other)
    local parts = {}
    for i, label in ipairs(metric.labels) do
        local value = values[i]
        if value == "" and label == metric.optional then
            break
        end
        if is_other[i] and value ~= "" and value ~= "*" then
            value = _M.OTHER
        end
        parts[i] = label .. '="' .. escaped(tostring(value)) .. '"'
    end
    return concat(parts, ",")
end


-- The bytes of all lines of a series.
local function bytes_of(metric, text)
    local line = #metric.full + #text + 2 + VALUE_BYTES
    -- for `_bucket` and `le`
    return metric.lines * (metric.buckets and line + 20 or line)
end


local function used(self, what)
    local dict = self.dict
    return (dict:get(what .. "|" .. CLIENTS) or 0) + (dict:get(what .. "|" .. MODELS) or 0)
           + (dict:get(what .. "|" .. REST) or 0)
end


-- Reserves room for a series; returns false if there is none.
local function reserve(self, pool, lines, bytes, is_last)
    local dict = self.dict
    if not is_last and lines >= (self.full_lines[pool] or lines + 1)
       and self.now() < self.full_till[pool]
    then
        return false
    end
    local share = SHARES[pool]
    local all_lines = dict:incr("lines|" .. pool, lines, 0)
    local all_bytes = dict:incr("bytes|" .. pool, bytes, 0)
    if not all_lines or not all_bytes then
        return false
    end
    if all_lines <= share * self.max_lines and all_bytes <= share * self.max_bytes then
        return true
    end
    -- A series with all labels "other" is small, and may use the room that other pools leave.
    if is_last and used(self, "lines") <= self.max_lines * ALL_SHARES
       and used(self, "bytes") <= self.max_bytes * ALL_SHARES
    then
        return true
    end
    dict:incr("lines|" .. pool, -lines)
    dict:incr("bytes|" .. pool, -bytes)
    self.full_lines[pool], self.full_till[pool] = lines, self.now() + FULL_S
    return false
end


local function give_back(self, pool, metric, text)
    self.dict:incr("lines|" .. pool, -metric.lines, 0)
    self.dict:incr("bytes|" .. pool, -bytes_of(metric, text), 0)
end


local function delete_values(dict, metric, id)
    dict:delete("i|" .. id)
    dict:delete("v|" .. id)
    for i = 1, metric.buckets and metric.bucket_count + 1 or 0 do
        dict:delete("h|" .. id .. "|" .. i)
    end
end


-- Creates a series; returns nil if there is no room or no memory.
local function create(metric, text, pool, is_last)
    local self = metric.store
    local dict = self.dict
    if not metric.is_reserved
       and not reserve(self, pool, metric.lines, bytes_of(metric, text), is_last)
    then
        return nil
    end
    if metric.is_reserved then
        dict:incr("lines|" .. pool, metric.lines, 0)
        dict:incr("bytes|" .. pool, bytes_of(metric, text), 0)
    end

    local key = "s|" .. metric.name .. "|" .. text
    local id = dict:incr("n", 1, 0)
    local ok = id and dict:safe_set("v|" .. id, 0)
    for i = 1, ok and metric.buckets and metric.bucket_count + 1 or 0 do
        ok = ok and dict:safe_set("h|" .. id .. "|" .. i, 0)
    end
    local err
    if ok then
        ok, err = dict:safe_add(key, id)
    end
    -- This key is written last, so that `render` never sees two series with the same labels.
    if ok and dict:safe_set("i|" .. id, pool .. "|" .. metric.name .. "|" .. text) then
        return id
    end
    if ok then
        dict:delete(key)
    end
    give_back(self, pool, metric, text)
    if id then
        delete_values(dict, metric, id)
    end
    -- Another worker has just created it.
    return err == "exists" and dict:get(key) or nil
end


local function leaf_for(metric, text, pool, id)
    local own = metric.own
    local leaf = own and own[text]
                 or { metric = metric, text = text, pool = pool, pending = 0, is_dirty = false }
    leaf.key = "v|" .. id
    if own then
        own[text], leaf.part = leaf, "g|" .. id .. "|" .. metric.store.process
    end
    if metric.buckets then
        leaf.hits, leaf.keys = {}, {}
        for i = 1, metric.bucket_count + 1 do
            leaf.hits[i], leaf.keys[i] = 0, "h|" .. id .. "|" .. i
        end
    end
    return leaf
end


-- The series for some values; the second result says whether labels were replaced by "other".
local function find_or_create(metric, values)
    local dict, levels = metric.store.dict, metric.levels
    local whole = text_of(metric, values, levels[1].is_other)
    local text = whole
    for level, each in ipairs(levels) do
        local next_text = not each.is_last and text_of(metric, values, levels[level + 1].is_other)
        -- An unknown client takes no room from the others.
        if text ~= next_text then
            local id = dict:get("s|" .. metric.name .. "|" .. text)
                       or create(metric, text, each.pool, each.is_last)
            if id then
                return leaf_for(metric, text, each.pool, id), text ~= whole
            end
        end
        text = next_text
    end
    return nil, true
end


local function keep(cache, depth, values, leaf)
    if cache.count >= cache.limit then
        cache.tree, cache.count = {}, 0
    end
    cache.count = cache.count + 1
    if depth == 0 then
        cache.tree = leaf
        return
    end
    local node = cache.tree
    for i = 1, depth - 1 do
        local value = values[i]
        local below = node[value]
        if not below then
            below = {}
            node[value] = below
        end
        node = below
    end
    node[values[depth]] = leaf
end


local function resolve(metric, values)
    local leaf, is_left_out = find_or_create(metric, values)
    if is_left_out then
        leaf = { is_left_out = true, target = leaf }
    end
    keep(is_left_out and metric.refused or metric.found, metric.depth, values, leaf)
    return leaf
end


local function touch(leaf)
    if not leaf.is_dirty then
        leaf.is_dirty = true
        local store = leaf.metric.store
        local count = store.dirty_count + 1
        store.dirty[count], store.dirty_count = leaf, count
    end
end


local function count_left_out(metric)
    local left_out = metric.store.left_out
    -- If there is no memory even for the series with "other", the value is not counted.
    if metric ~= left_out then
        left_out:add(1, { metric.full })
    end
end


local function look_up(cache, depth, values)
    if cache.count == 0 then
        return nil
    end
    local node = cache.tree
    for i = 1, depth do
        node = node[values[i]]
        if not node then
            return nil
        end
    end
    return node
end


local function leaf_of(metric, values)
    local depth = metric.depth
    local leaf = look_up(metric.found, depth, values) or look_up(metric.refused, depth, values)
                 or resolve(metric, values)
    if leaf.is_left_out then
        count_left_out(metric)
        return leaf.target
    end
    return leaf
end


--- Adds to a counter or gauge.
-- @tparam number by
-- @tparam table|nil values of the labels: strings; they are not kept after the call
function metric_mt:add(by, values)
    local leaf = leaf_of(self, values)
    if leaf then
        leaf.pending = leaf.pending + by
        touch(leaf)
    end
end


--- Adds an observation to a histogram.
function metric_mt:observe(value, values)
    local leaf = leaf_of(self, values)
    if not leaf then
        return
    end
    local buckets, count = self.buckets, self.bucket_count
    local i = 1
    while i <= count and value > buckets[i] do
        i = i + 1
    end
    leaf.hits[i] = leaf.hits[i] + 1
    leaf.pending = leaf.pending + value
    touch(leaf)
end


-- Creates a series again that was removed meanwhile.
local function renew(leaf)
    local metric = leaf.metric
    local id = metric.store.dict:get("s|" .. metric.name .. "|" .. leaf.text)
               or create(metric, leaf.text, leaf.pool, false)
    if not id then
        count_left_out(metric)
        return false
    end
    local fresh = leaf_for(metric, leaf.text, leaf.pool, id)
    leaf.key, leaf.keys = fresh.key, fresh.keys
    return true
end


-- Writes a sum; returns false if the series was removed.
local function write(dict, leaf)
    if leaf.part then
        -- A gauge's 0 is written too, because the shared memory still has its previous value.
        return dict:get(leaf.key) and (dict:safe_set(leaf.part, leaf.pending) or true)
    end
    local hits = leaf.hits
    if leaf.pending ~= 0 or not hits then
        if not dict:incr(leaf.key, leaf.pending) then
            return false
        end
        leaf.pending = 0
    end
    for i = 1, hits and #hits or 0 do
        if hits[i] > 0 then
            if not dict:incr(leaf.keys[i], hits[i]) then
                return false
            end
            hits[i] = 0
        end
    end
    return true
end


--- Writes to shared memory what this worker has counted since the last call.
function _M:flush()
    local dict = self.dict
    local i = 0
    -- The list may grow during the loop, because values without room are counted as left out.
    while i < self.dirty_count do
        i = i + 1
        local leaf = self.dirty[i]
        self.dirty[i] = nil
        leaf.is_dirty = false
        if not write(dict, leaf) then
            if not (renew(leaf) and write(dict, leaf)) then
                leaf.pending = leaf.part and leaf.pending or 0
                for bucket in ipairs(leaf.hits or {}) do
                    leaf.hits[bucket] = 0
                end
            end
        end
    end
    self.dirty_count = 0

    local now = self.now()
    if now - self.asked_at >= ASK_AGAIN_S then
        self.asked_at = now
        for _, metric in ipairs(self.metrics) do
            metric.refused.tree, metric.refused.count = {}, 0
        end
    end
end


local function heads_of(metric, text)
    local labels = text == "" and "" or "{" .. text .. "}"
    if not metric.buckets then
        return { metric.full .. labels .. " " }
    end
    local heads = {}
    local before = metric.full .. "_bucket{" .. (text == "" and "" or text .. ",") .. 'le="'
    for i, bound in ipairs(metric.buckets) do
        heads[i] = before .. format("%.14g", bound) .. '"} '
    end
    heads[#heads + 1] = before .. '+Inf"} '
    heads[#heads + 1] = metric.full .. "_sum" .. labels .. " "
    heads[#heads + 1] = metric.full .. "_count" .. labels .. " "
    return heads
end


-- Reads the series that were added since the last page.
local function read_new(self, now)
    local dict = self.dict
    local last = dict:get("n") or 0
    local again = self.not_yet or {}
    self.not_yet = {}
    local function read(id, attempts)
        local pool, name, text = match(dict:get("i|" .. id) or "", "^(.-)|(.-)|(.*)$")
        local metric = name and self.by_name[name]
        if metric then
            metric.shown[#metric.shown + 1] = {
                id = id, key = "v|" .. id, pool = pool, text = text, heads = heads_of(metric, text),
                since = now,
            }
        elseif attempts > 0 then
            -- A worker may be creating it just now.
            self.not_yet[id] = attempts - 1
        end
    end
    for id, attempts in pairs(again) do
        read(id, attempts)
    end
    for id = (self.last_read or 0) + 1, last do
        read(id, 2)
    end
    self.last_read = last
end


-- Whether a pool is so full that unused series must be removed.
local function is_nearly_full(self, pool)
    local dict, share = self.dict, SHARES[pool] * NEARLY_FULL
    return (dict:get("lines|" .. pool) or 0) > share * self.max_lines
           or (dict:get("bytes|" .. pool) or 0) > share * self.max_bytes
end


local function remove(metric, each, processes)
    local self = metric.store
    -- The key is deleted first: a worker that counts from now on creates a new series.
    self.dict:delete("s|" .. metric.name .. "|" .. each.text)
    delete_values(self.dict, metric, each.id)
    for _, process in ipairs(processes) do
        self.dict:delete("g|" .. each.id .. "|" .. process)
    end
    give_back(self, each.pool, metric, each.text)
end


-- Reads the list of running processes; deletes the parts of ended ones in gauges.
local function read_processes(self)
    local dict, alive = self.dict, {}
    for number = 1, dict:get("p") or 0 do
        local process = dict:get("p|" .. number)
        if process and self.is_alive(process) then
            alive[#alive + 1] = process
        elseif process then
            dict:delete("p|" .. number)
            for _, metric in ipairs(self.metrics) do
                for _, each in ipairs(metric.own and metric.shown or NONE) do
                    dict:delete("g|" .. each.id .. "|" .. process)
                end
            end
        end
    end
    return alive
end


-- Writes one series; returns nil if it was removed, else a number that changes with its value.
local function show(dict, metric, each, out, processes)
    local value = dict:get(each.key)
    if not value then
        return nil
    end
    for _, process in ipairs(metric.own and processes or NONE) do
        value = value + (dict:get("g|" .. each.id .. "|" .. process) or 0)
    end
    local heads, size = each.heads, #out
    if not metric.buckets then
        out[size + 1], out[size + 2], out[size + 3] = heads[1], written(value), "\n"
        return value
    end
    local sum = 0
    for i = 1, metric.bucket_count + 1 do
        sum = sum + (dict:get("h|" .. each.id .. "|" .. i) or 0)
        out[size + 1], out[size + 2], out[size + 3] = heads[i], written(sum), "\n"
        size = size + 3
    end
    out[size + 1], out[size + 2], out[size + 3] = heads[#heads - 1], written(value), "\n"
    out[size + 4], out[size + 5], out[size + 6] = heads[#heads], written(sum), "\n"
    return sum
end


--- Adds the lines of all series to a list of strings.
-- @tparam table out
-- @tparam function|nil yield is called regularly
-- @treturn number of lines, without comments
function _M:render(out, yield)
    local dict, now = self.dict, self.now()
    read_new(self, now)
    local full = {}
    for pool in pairs(SHARES) do
        full[pool] = is_nearly_full(self, pool)
    end

    local processes = read_processes(self)
    local lines, since_yield = 0, 0
    for _, metric in ipairs(self.metrics) do
        local kept, has_head = {}, false
        for _, each in ipairs(metric.shown) do
            local before = #out
            if not has_head then
                out[before + 1] = metric.head
            end
            local value = show(dict, metric, each, out, processes)
            if not value then
                out[before + 1] = nil
            else
                has_head = true
                if value ~= each.value then
                    each.value, each.since = value, now
                end
                lines = lines + metric.lines
                if full[each.pool] and not metric.is_reserved and now - each.since >= IDLE_S then
                    remove(metric, each, metric.own and processes or NONE)
                else
                    kept[#kept + 1] = each
                end
            end
            since_yield = since_yield + metric.lines
            if yield and since_yield >= YIELD_EVERY then
                since_yield = 0
                yield()
            end
        end
        metric.shown = kept
    end
    return lines
end


--- The number of lines for the page's own gauges.
function _M:gauges_limit()
    return floor(self.max_lines * GAUGES_SHARE)
end


--- Writes one of the page's own gauges.
-- @tparam table out
-- @tparam table declared `name`, `help`, `labels`
-- @tparam table samples each with `value` and `values` of the labels
function _M:render_gauge(out, declared, samples)
    if #samples == 0 then
        return
    end
    local full = self.prefix .. declared.name
    out[#out + 1] = "# HELP " .. full .. " " .. declared.help .. "\n# TYPE " .. full .. " gauge\n"
    for _, each in ipairs(samples) do
        local text = text_of({ labels = declared.labels or {} }, each.values or {}, {})
        out[#out + 1] = full .. (text == "" and "" or "{" .. text .. "}") .. " "
                        .. written(each.value) .. "\n"
    end
end


return _M
