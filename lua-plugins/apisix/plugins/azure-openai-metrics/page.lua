--- The page of metrics on port 9091. APISIX's exporter writes it in the privileged agent and keeps
-- it in the shared memory `prometheus-cache`, where workers take it from. This module adds the
-- gateway's metrics to it.

local core = require("apisix.core")
local exporter = require("apisix.plugins.prometheus.exporter")
local metrics = require("apisix.plugins.azure-openai-proxy.metrics")
local process = require("ngx.process")
local get_phase = ngx.get_phase
local sleep = ngx.sleep
local timer_at = ngx.timer.at
local type = type

local _M = {}

local is_followed = false


local function yield()
    sleep(0)
end


-- Whether the exporter is there. The error of a release of APISIX whose exporter is another one
-- names what has to be changed.
local function follow()
    local prometheus = exporter.get_prometheus()
    if not prometheus then
        return false
    end
    is_followed = true
    local metric_data = prometheus.metric_data
    if type(metric_data) ~= "function" then
        core.log.error("the page has no metrics of the gateway: APISIX's exporter has no function"
                       .. " metric_data, unlike that of APISIX 3.18")
        return true
    end
    -- An error ends here in APISIX's exporter. It logs it, and the old page expires: a scrape then
    -- fails, and does not get half of the metrics.
    prometheus.metric_data = function(self)
        local out = metric_data(self)
        metrics.render(out, get_phase() == "timer" and yield or nil)
        return out
    end
    return true
end


local function follow_later(premature)
    if not premature and not is_followed and not follow() then
        core.log.error("the page has no metrics of the gateway: the plugin prometheus is not in the"
                       .. " list of plugins of config.yaml")
    end
end


--- In each process, when the plugin is loaded; the exporter may be loaded later.
function _M.start()
    if process.type() ~= "privileged agent" or is_followed or follow() then
        return
    end
    local ok, err = timer_at(0, follow_later)
    if not ok then
        core.log.error("no timer for the page of metrics: ", err)
    end
end


return _M
