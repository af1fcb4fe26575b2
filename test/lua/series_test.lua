local harness = require("harness")
local series = require("genai.telemetry.series")
local shared_dict = require("shared_dict")
local describe, it, equal = harness.describe, harness.it, harness.equal

local DAY = 86400

local REQUESTS = { name = "requests_total", type = "counter", help = "Requests",
                   labels = { "consumer", "request_llm_model" } }


-- A store as each worker has one.
local function new(dict, lines, bytes, process)
    return series.new(dict, {
        process = process or "1",
        is_alive = function(name) return name ~= "dead" end,
        prefix = "p_", max_lines = lines or 1000, max_bytes = bytes or 1e6,
        now = function() return dict.now / 1000 end,
    })
end


-- The lines without comments.
local function lines_of(store)
    local out = {}
    local count = store:render(out)
    local lines = {}
    for line in table.concat(out):gmatch("[^\n]+") do
        if line:sub(1, 1) ~= "#" then
            lines[#lines + 1] = line
        end
    end
    equal(count, #lines)
    return lines
end


-- The same without what was left out, which is always there.
local function shown(store)
    local lines = {}
    for _, line in ipairs(lines_of(store)) do
        if not line:find("left_out", 1, true) then
            lines[#lines + 1] = line
        end
    end
    return lines
end


local function values_of(store)
    local values = {}
    for _, line in ipairs(lines_of(store)) do
        local name, value = line:match("^(.*) (%S+)$")
        values[name] = tonumber(value)
    end
    return values
end


local function sum_of(values, what)
    local sum = 0
    for name, value in pairs(values) do
        if name:find(what, 1, true) == 1 then
            sum = sum + value
        end
    end
    return sum
end


describe("series", function()
    it("adds up what all workers count, when they flush", function()
        local dict = shared_dict.new(0)
        local stores, metrics = {}, {}
        for i = 1, 2 do
            stores[i] = new(dict)
            metrics[i] = stores[i]:metric(REQUESTS)
        end
        metrics[1]:add(1, { "app", "gpt" })
        metrics[1]:add(2, { "app", "gpt" })
        equal(values_of(stores[2])['p_requests_total{consumer="app",request_llm_model="gpt"}'], 0)
        metrics[2]:add(4, { "app", "gpt" })
        stores[1]:flush()
        stores[2]:flush()
        stores[2]:flush()
        equal(shown(stores[2]), { 'p_requests_total{consumer="app",request_llm_model="gpt"} 7' })
    end)

    it("shows a metric under its head, each once, with labels escaped", function()
        local store = new(shared_dict.new(0))
        store:metric({ name = "nothing_total", type = "counter", help = "Nothing" })
        local plain = store:metric({ name = "plain_total", type = "counter", help = "Plain" })
        local odd = store:metric({ name = "odd", type = "gauge", help = "Odd", labels = { "a" } })
        plain:add(1.5)
        odd:add(3, { 'a"b\\c\nd' })
        odd:add(-1, { 'a"b\\c\nd' })
        store:flush()
        local out = {}
        store:render(out)
        equal(table.concat(out), "# HELP p_plain_total Plain\n# TYPE p_plain_total counter\n"
                                 .. "p_plain_total 1.5\n# HELP p_odd Odd\n# TYPE p_odd gauge\n"
                                 .. 'p_odd{a="a\\"b\\\\c\\nd"} 2\n')
    end)

    it("leaves out the last label if it is optional and empty", function()
        local store = new(shared_dict.new(0))
        local metric = store:metric({ name = "requests_total", type = "counter", help = "Requests",
                                      labels = { "node", "pool" }, optional = "pool" })
        metric:add(1, { "a", "" })
        metric:add(2, { "a", "search" })
        metric:add(4, { "", "search" })
        store:flush()
        local lines = shown(store)
        table.sort(lines)
        equal(lines, { 'p_requests_total{node="",pool="search"} 4',
                       'p_requests_total{node="a",pool="search"} 2',
                       'p_requests_total{node="a"} 1' })
    end)

    it("adds up the parts of a gauge, and drops that of a process that has died", function()
        local dict = shared_dict.new(0)
        local declared = { name = "active", type = "gauge", help = "Active", labels = { "node" } }
        local stores, gauges = {}, {}
        for _, process in ipairs({ "writer", "2", "dead" }) do
            stores[process] = new(dict, nil, nil, process)
            gauges[process] = stores[process]:metric(declared)
        end
        gauges["2"]:add(1, { "a" })
        gauges["2"]:add(1, { "a" })
        gauges.dead:add(5, { "a" })
        stores["2"]:flush()
        stores.dead:flush()
        equal(values_of(stores.writer)['p_active{node="a"}'], 2)
        gauges["2"]:add(-1, { "a" })
        stores["2"]:flush()
        equal(values_of(stores.writer)['p_active{node="a"}'], 1)
        gauges["2"]:add(-1, { "a" })
        stores["2"]:flush()
        equal(values_of(stores.writer)['p_active{node="a"}'], 0)
    end)

    it("shows buckets that are cumulated", function()
        local store = new(shared_dict.new(0))
        local times = store:metric({ name = "ms", type = "histogram", help = "Times",
                                     labels = { "type" }, buckets = { 10, 100.5 } })
        for _, value in ipairs({ 1, 10, 11, 1000 }) do
            times:observe(value, { "all" })
        end
        store:flush()
        equal(shown(store), {
            'p_ms_bucket{type="all",le="10"} 2', 'p_ms_bucket{type="all",le="100.5"} 3',
            'p_ms_bucket{type="all",le="+Inf"} 4', 'p_ms_sum{type="all"} 1022',
            'p_ms_count{type="all"} 4',
        })
    end)

    it("shows large numbers exactly", function()
        local store = new(shared_dict.new(0))
        local metric = store:metric({ name = "n_total", type = "counter", help = "N" })
        metric:add(123456789012345)
        store:flush()
        equal(shown(store), { "p_n_total 123456789012345" })
    end)

    it("never has more lines than its budget, and counts what is left out", function()
        local dict = shared_dict.new(0)
        local store = new(dict, 200)
        local metric = store:metric(REQUESTS)
        for client = 1, 50 do
            for model = 1, 50 do
                metric:add(1, { "client-" .. client, "model-" .. model })
            end
        end
        store:flush()
        local values = values_of(store)
        local lines = 0
        for _ in pairs(values) do
            lines = lines + 1
        end
        equal({ lines <= 200, lines > 150 }, { true, true })
        equal(sum_of(values, "p_requests_total{"), 2500)
        equal(values['p_genai_metrics_left_out_total{metric="p_requests_total"}'],
              2500 - 0.63 * 200)
    end)

    it("gives up the client first, then the model", function()
        local dict = shared_dict.new(0)
        local store = new(dict, 100)
        local metric = store:metric(REQUESTS)
        for i = 1, 63 do
            metric:add(1, { "client-" .. i, "gpt" })
        end
        metric:add(1, { "client-64", "gpt" })
        metric:add(1, { "client-1", "gpt" })
        for i = 2, 30 do
            metric:add(1, { "client-64", "model-" .. i })
        end
        metric:add(1, { "client-64", "model-99" })
        store:flush()
        local values = values_of(store)
        local function value(client, model)
            return values[('p_requests_total{consumer="%s",request_llm_model="%s"}')
                          :format(client, model)]
        end
        equal(value("client-1", "gpt"), 2)
        equal(value("other", "gpt"), 1)
        equal(value("client-64", "gpt"), nil)
        equal(value("other", "model-2"), 1)
        equal(value("other", "model-99"), nil)
        equal(value("other", "other"), 1)
    end)

    it("keeps to its budget of bytes when names are long", function()
        local store = new(shared_dict.new(0), 1000, 20000)
        local metric = store:metric(REQUESTS)
        for i = 1, 300 do
            metric:add(1000000, { ("x"):rep(100) .. i, ("y"):rep(100) })
        end
        store:flush()
        local out = {}
        store:render(out)
        equal(#table.concat(out) < 20000, true)
        equal(sum_of(values_of(store), "p_requests_total{"), 300 * 1000000)
    end)

    it("leaves room for metrics without a client when clients are many", function()
        local store = new(shared_dict.new(0), 100)
        local requests = store:metric(REQUESTS)
        local attempts = store:metric({ name = "attempts_total", type = "counter", help = "A",
                                        labels = { "node", "outcome" } })
        for i = 1, 500 do
            requests:add(1, { "client-" .. i, "gpt" })
        end
        attempts:add(1, { "backend", "ok" })
        store:flush()
        equal(values_of(store)['p_attempts_total{node="backend",outcome="ok"}'], 1)
    end)

    it("removes what nobody used for a day when there is little room, and only then", function()
        local dict = shared_dict.new(0)
        local writer, worker = new(dict, 100), new(dict, 100)
        writer:metric(REQUESTS)
        local metric = worker:metric(REQUESTS)
        metric:add(1, { "", "old" })
        metric:add(1, { "", "used" })
        worker:flush()
        shown(writer)
        dict.now = dict.now + (DAY + 1) * 1000
        metric:add(1, { "", "used" })
        worker:flush()
        equal(#shown(writer), 2)

        for i = 1, 25 do
            metric:add(1, { "", "new-" .. i })
        end
        worker:flush()
        shown(writer)
        local values = values_of(writer)
        equal(values['p_requests_total{consumer="",request_llm_model="used"}'], 2)
        equal(values['p_requests_total{consumer="",request_llm_model="old"}'], nil)
    end)

    it("counts on in a series that was removed meanwhile", function()
        local dict = shared_dict.new(0)
        local writer, worker = new(dict, 30), new(dict, 30)
        local plain = { name = "t_total", type = "counter", help = "T", labels = { "node" } }
        local ms = { name = "ms", type = "histogram", help = "T", labels = { "node" },
                     buckets = { 1 } }
        local metric, times
        for _, store in ipairs({ writer, worker }) do
            metric, times = store:metric(plain), store:metric(ms)
        end
        metric:add(1, { "a" })
        metric:add(1, { "b" })
        metric:add(1, { "c" })
        worker:flush()
        times:observe(3, { "a" })
        worker:flush()
        equal(values_of(writer)['p_t_total{node="a"}'], 1)
        dict.now = dict.now + (DAY + 1) * 1000
        -- They are still on this page, and on none after it.
        shown(writer)
        equal(values_of(writer)['p_t_total{node="a"}'], nil)
        metric:add(5, { "a" })
        times:observe(3, { "a" })
        worker:flush()
        local values = values_of(writer)
        equal({ values['p_t_total{node="a"}'], values['p_ms_count{node="a"}'] }, { 5, 1 })
    end)

    it("asks again after a minute whether there is room", function()
        local dict = shared_dict.new(0)
        local store = new(dict, 100)
        local metric = store:metric({ name = "t_total", type = "counter", help = "T",
                                      labels = { "node" } })
        for i = 1, 34 do
            metric:add(1, { "backend-" .. i })
        end
        store:flush()
        shown(store)
        dict.now = dict.now + (DAY + 1) * 1000
        shown(store)
        metric:add(1, { "backend-34" })
        store:flush()
        metric:add(1, { "backend-34" })
        store:flush()
        equal(values_of(store)['p_t_total{node="backend-34"}'], 1)
    end)

    it("does without what the memory does not take, and writes the rest", function()
        local dict = shared_dict.new(0)
        local store = new(dict)
        local metric = store:metric(REQUESTS)
        metric:add(1, { "a", "gpt" })
        dict.is_full = true
        metric:add(1, { "b", "gpt" })
        metric:add(1, { "a", "gpt" })
        store:flush()
        equal(shown(store), { 'p_requests_total{consumer="a",request_llm_model="gpt"} 2' })
    end)

    it("never shows one series twice when two workers make it at once", function()
        local dict = shared_dict.new(0)
        local mine, others = new(dict), new(dict)
        local mine_metric, others_metric = mine:metric(REQUESTS), others:metric(REQUESTS)
        local safe_add = dict.safe_add
        dict.safe_add = function(self, ...)
            dict.safe_add = safe_add
            others_metric:add(1, { "a", "gpt" })
            return safe_add(self, ...)
        end
        mine_metric:add(1, { "a", "gpt" })
        mine:flush()
        others:flush()
        equal(shown(mine), { 'p_requests_total{consumer="a",request_llm_model="gpt"} 2' })
        equal(dict:get("lines|clients"), 1)
    end)
end)
