--- The metrics page on port 9091. APISIX's exporter writes it in the privileged agent and keeps it
-- in the shared memory `prometheus-cache`, from which workers answer. The patch here adds the
-- gateway's metrics.

local contract = require("apisix_internals.contract")
local core = require("apisix.core")
local process = require("ngx.process")
local get_phase = ngx.get_phase
local sleep = ngx.sleep
local type = type

local need = contract.part("metrics_page")
local exporter = need("apisix.plugins.prometheus.exporter")

local _M = {}


local function yield()
    sleep(0)
end


-- Adds the gateway's metrics to those of the exporter.
local function extend(render)
    local prometheus = exporter.get_prometheus()
    if not prometheus then
        core.log.error("the metrics page lacks the gateway's metrics: config.yaml does not list"
                       .. " the plugin prometheus")
        return
    end
    local metric_data = prometheus.metric_data
    if type(metric_data) ~= "function" then
        return contract.report("the exporter's object has no function metric_data")
    end
    -- If this function fails, APISIX logs the error and lets the old page expire. A scrape then
    -- fails instead of returning only some of the metrics.
    prometheus.metric_data = function(self)
        local out = metric_data(self)
        render(out, get_phase() == "timer" and yield or nil)
        return out
    end
end


--- Installs the addition to the page, which only the privileged agent writes. `contract.open` calls
-- it once in each process.
-- @tparam function render called as `render(out, yield)`: appends lines to the list `out`, and
--   calls `yield` regularly if it is not nil
function _M.install(render)
    if process.type() ~= "privileged agent" then
        return
    end
    local init_exporter_timer = exporter.init_exporter_timer
    -- APISIX calls it after all plugins are loaded, in any order; it writes the first page.
    exporter.init_exporter_timer = function()
        exporter.init_exporter_timer = init_exporter_timer
        extend(render)
        return init_exporter_timer()
    end
end


return _M
