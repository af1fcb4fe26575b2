--- Sends spans to a collector, in batches and outside of requests: OTLP over HTTP. Spans wait in a
-- bounded queue while the collector does not accept them; requests never wait.

local by_content = require("gateway.mechanisms.by_content")
local core = require("apisix.core")
local http = require("resty.http")
local metrics = require("gateway.metrics")
local spans = require("apisix_internals.spans")
local concat = table.concat
local is_exiting = ngx.worker.exiting
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local pairs = pairs
local sort = table.sort

local _M = {}

local TIMEOUT_MS = 3000

-- Enough attempts for a collector to restart.
local ATTEMPTS = 3
local PAUSE_S = 2

local MAX_QUEUE = 2048
local MAX_BATCH = 64

-- How long a log line about a failing collector is suppressed, in each worker.
local SILENCE_S = 30


-- Posts a batch. Returns the error.
local function post(address, body)
    local client, err = http.new()
    if not client then
        return err
    end
    client:set_timeout(TIMEOUT_MS)
    local answer
    answer, err = client:request_uri("http://" .. address .. "/v1/traces", {
        method = "POST",
        headers = { ["Content-Type"] = "application/x-protobuf" },
        body = body,
    })
    if not answer then
        return err
    elseif answer.status < 200 or answer.status > 299 then
        return "status " .. answer.status, answer.status < 500 and answer.status ~= 429
    end
    return nil
end


-- Sends a batch, in a timer.
local function send(exporter, body, number)
    local err, is_final
    for attempt = 1, ATTEMPTS do
        err, is_final = post(exporter.address, body)
        if not err then
            return true
        elseif is_final or is_exiting() then
            break
        elseif attempt < ATTEMPTS then
            ngx_sleep(PAUSE_S)
        end
    end
    metrics.spans_dropped(number)
    if ngx_now() - exporter.said_at > SILENCE_S then
        exporter.said_at = ngx_now()
        core.log.error("spans cannot be delivered to the trace collector at ",
                       exporter.address, ": ", err)
    end
    return false, err
end


local function failed(number, err)
    core.log.error("spans cannot be encoded: ", err)
    metrics.spans_dropped(number)
    return false, "encoding"
end


local function key_of(conf)
    local parts = {}
    for name, value in pairs(conf.resource) do
        parts[#parts + 1] = name .. "=" .. value
    end
    sort(parts)
    return conf.collector .. "\n" .. concat(parts, "\n")
end


local function new_tracer(conf)
    local exporter = { address = conf.collector, said_at = 0 }
    return spans.new_tracer({
        send = function(body, number)
            return send(exporter, body, number)
        end,
        failed = failed,
        dropped = metrics.spans_dropped,
        max_queue = MAX_QUEUE,
        max_batch = MAX_BATCH,
        resource = conf.resource,
    })
end


local tracers = by_content.new(key_of, new_tracer)


--- The tracer of a configuration. The spans of all routes are sent together.
function _M.tracer_of(conf)
    return tracers:of(conf)
end


return _M
