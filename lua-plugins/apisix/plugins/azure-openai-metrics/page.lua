--- The page of metrics on port 9091. APISIX's exporter writes it in the privileged agent and keeps
-- it in the shared memory `prometheus-cache`, where workers take it from. This module adds the
-- gateway's metrics to it.

local core = require("apisix.core")
local exporter = require("apisix.plugins.prometheus.exporter")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local process = require("ngx.process")
local get_phase = ngx.get_phase
local sleep = ngx.sleep
local type = type

local _M = {}

local NO_METRICS = "the page of metrics has none of the gateway: "


local function yield()
    sleep(0)
end


-- Adds the gateway's metrics to what the exporter writes.
local function extend()
    local prometheus = exporter.get_prometheus()
    if not prometheus then
        core.log.error(NO_METRICS, "config.yaml does not list the plugin prometheus")
        return
    end
    local metric_data = prometheus.metric_data
    if type(metric_data) ~= "function" then
        core.log.error(NO_METRICS, "APISIX's exporter has no function metric_data, unlike that of"
                                   .. " APISIX 3.18")
        return
    end
    -- APISIX logs an error of this function, and lets the old page expire: a scrape then fails, and
    -- does not get a part of the metrics.
    prometheus.metric_data = function(self)
        local out = metric_data(self)
        metrics.render(out, get_phase() == "timer" and yield or nil)
        return out
    end
end


--- In each process, when the plugin is loaded.
function _M.start()
    if process.type() ~= "privileged agent" then
        return
    end
    local init_exporter_timer = exporter.init_exporter_timer
    if type(init_exporter_timer) ~= "function" then
        core.log.error(NO_METRICS, "APISIX's exporter has no function init_exporter_timer, unlike"
                                   .. " that of APISIX 3.18")
        return
    end
    -- APISIX calls it when all plugins are loaded, in whatever order; it writes the first page.
    exporter.init_exporter_timer = function()
        exporter.init_exporter_timer = init_exporter_timer
        extend()
        return init_exporter_timer()
    end
end


return _M
