--- Sends records to Azure Monitor outside of requests: in batches, with retries, and with a bounded
-- queue.

local by_content = require("gateway.mechanisms.by_content")
local core = require("apisix.core")
local metrics = require("gateway.metrics")
local secrets = require("apisix_internals.secrets")
local throttled_log = require("gateway.mechanisms.throttled_log")
local entra_tokens = require("gateway.credentials.entra_tokens")
local upstream = require("gateway.exchange.upstream")
local delay = require("genai.openai.delay")
local endpoints = require("genai.http.endpoints")
local http_headers = require("genai.http.http_headers")
local http_head = require("genai.http.http_head")
local ingestion = require("genai.telemetry.ingestion")
local record_queue = require("genai.telemetry.record_queue")
local ngx = ngx
local is_exiting = ngx.worker.exiting
local ngx_now = ngx.now
local ngx_sleep = ngx.sleep
local parse_http_time = ngx.parse_http_time
local timer_at = ngx.timer.at
local concat = table.concat
local ipairs = ipairs
local match = string.match
local min = math.min
local pcall = pcall
local random = math.random
local setmetatable = setmetatable
local tostring = tostring
local type = type

local _M = {}
local mt = { __index = _M }

-- Limit on the bytes of records that a worker keeps while the API does not answer, in addition to
-- the batches being sent.
local WAITING_BYTES = 8 * 1024 * 1024
local MAX_SENDERS = 4

local MAX_ANSWER = 65536

-- Interval at which a waiting timer checks whether the worker is exiting.
local NAP_S = 1

local KEPT = { keepalive = true, keepalive_timeout = 60000, keepalive_pool = MAX_SENDERS }

local function count(name, number, reason)
    if number > 0 then
        metrics.apim_records(name, number, reason)
    end
end


local function drop(number, reason, why)
    if number == 0 then
        return
    end
    count("dropped", number, reason)
    throttled_log.write(core.log.error, "apim-records", "dropped|" .. reason, number,
                        " APIM-style records are dropped: ",
                        why)
end


--- Counts a record that could not be made.
function _M.failed(err)
    metrics.show_apim_records()
    drop(1, "failed", err)
end


local HINTS = {
    [401] = "the token is not accepted",
    [403] = "the identity needs the role Monitoring Metrics Publisher on the data collection rule",
    [404] = "there is no such data collection rule or stream",
}


-- Describes an answer of the API. Only known fields are used, because the text may contain secrets.
local function described(status, text)
    local decoded = core.json.decode(text)
    local err = type(decoded) == "table" and decoded.error
    local code = type(err) == "table" and type(err.code) == "string"
                 and match(err.code, "^%a[%w_]*$")
    return "Azure Monitor answers " .. status .. (code and #code <= 64 and " " .. code or "")
           .. (HINTS[status] and ": " .. HINTS[status] or "")
end


-- Sends one request. Returns the verdict, the reason as a word and as a line for the log, and how
-- long the API asks to wait.
local function post(self, text, line)
    local lines = self.lines .. "content-length: " .. #text .. "\r\n"
    local head = http_head.request("POST", self.path, self.query, lines, line)
    local exchange, _, err = upstream.send_again_if_stale(self, "POST", head, text, self.timeouts)
    if not exchange then
        return "again", "network", "Azure Monitor cannot be reached: " .. err
    end

    local verdict, reason = ingestion.verdict(exchange.status)
    local answer = exchange:read_short(MAX_ANSWER)
    exchange:finish(KEPT)
    if verdict == "sent" then
        return verdict
    end
    return verdict, reason, described(exchange.status, answer),
           delay.named_ms(exchange.headers, ngx_now(), parse_http_time, nil, true)
end


-- Waits; stops early if the worker is exiting.
local function pause(milliseconds)
    local till = ngx_now() + milliseconds / 1000
    while not is_exiting() do
        local left = till - ngx_now()
        if left <= 0 then
            return
        end
        ngx_sleep(min(left, NAP_S))
    end
end


-- Sends a batch, with retries.
local function deliver(self, text, number)
    local attempts, is_renewed = 0, false
    while true do
        local was_exiting = is_exiting()
        local line, err = entra_tokens.authorization(self.identity)
        local verdict, reason, why, named_ms
        if line then
            verdict, reason, why, named_ms = post(self, text, line)
        else
            verdict, reason, why = "again", "no_token", err
        end
        if verdict == "sent" then
            return count("sent", number)
        end
        count("failed", 1, reason)

        if verdict == "token" and not is_renewed and entra_tokens.replace(self.identity, line) then
            is_renewed = true
        elseif verdict ~= "again" then
            return drop(number, "refused", why)
        else
            attempts = attempts + 1
            if attempts > self.max_retry then
                return drop(number, "retries_exhausted", why)
            elseif was_exiting then
                return drop(number, "shutdown", why)
            end
            throttled_log.write(core.log.warn, "apim-records", reason, why,
                                "; the gateway sends the APIM-style records again later")
            pause(ingestion.wait_ms(attempts, named_ms, random()))
        end
    end
end


-- Sends up to `left` waiting records; without it, whole batches as long as there are any.
local function send(self, left)
    while left and left > 0 or not left and self.queue:has_batch() do
        local text, number = self.queue:take()
        if not text then
            return
        end
        local ok, err = pcall(deliver, self, text, number)
        if not ok then
            count("failed", 1, "failed")
            drop(number, "failed", "sending them failed inside the gateway: " .. tostring(err))
        end
        left = left and left - number
    end
end


local function run_sender(_, self)
    send(self)
    self.senders = self.senders - 1
end


local function flush(_, self)
    self.is_timed = false
    send(self, self.queue:count())
end


-- Starts a timer. An exiting worker runs its existing timers at once and accepts no new ones.
local function start(self, delay, run)
    local ok, err = timer_at(delay, run, self)
    if not ok and delay > 0 then
        ok, err = timer_at(0, run, self)
    end
    if not ok then
        throttled_log.write(core.log.error, "apim-records", "timer",
                            "cannot start the timer that sends APIM-style records: ", err)
    end
    return ok
end


--- Adds a record to the queue. It is sent when a batch is full, or after the maximum delay.
-- @tparam string text JSON
function _M:add(text)
    local given_up = self.queue:push(text)
    if not given_up then
        return drop(1, "too_large", "a single record is longer than the API accepts")
    end
    drop(given_up, "queue_full", "the queue is full")

    if self.senders < MAX_SENDERS and self.queue:has_batch() and start(self, 0, run_sender) then
        self.senders = self.senders + 1
    end
    if not self.is_timed then
        self.is_timed = start(self, self.flush_interval, flush)
    end
end


local function make(conf)
    local endpoint = endpoints.parse(conf.dcr_ingest_uri)
    if not endpoint then
        return nil, "dcr_ingest_uri is not a URL"
    end
    local identity_secret = conf.msi_secret
    if identity_secret and secrets.is_reference(identity_secret) then
        core.log.error("the identity's secret for sending APIM-style records cannot be resolved")
        identity_secret = nil
    end

    local timeout = conf.timeout_ms
    return setmetatable({
        queue = record_queue.new({
            waiting_bytes = WAITING_BYTES,
            batch_records = conf.batch_max_size,
            batch_bytes = ingestion.MAX_BYTES,
        }),
        identity = entra_tokens.of({
            resource = conf.resource,
            client_id = conf.msi_client_id,
            endpoint = conf.msi_endpoint,
            secret = identity_secret,
        }),
        senders = 0,
        max_retry = conf.batch_max_retry,
        flush_interval = conf.batch_flush_interval,
        timeouts = { connect_ms = timeout, send_ms = timeout, read_ms = timeout },
        path = endpoint.path,
        query = endpoint.query,
        lines = concat({
            http_headers.line("host", endpoint.authority),
            http_headers.line("content-type", "application/json"),
            http_headers.line("accept", "application/json"),
        }),
        -- the form in which a backend describes its connection
        connection = {
            scheme = endpoint.scheme,
            host = endpoint.host,
            port = endpoint.port,
            ssl_server_name = endpoint.scheme == "https" and endpoint.host or nil,
            ssl_verify = true,
            pool_size = MAX_SENDERS,
        },
    }, mt)
end


local NAMES = { "dcr_ingest_uri", "resource", "batch_max_size", "batch_max_retry",
                "batch_flush_interval", "timeout_ms", "msi_client_id", "msi_endpoint",
                "msi_secret" }


local function key_of(conf)
    local values = {}
    for i, name in ipairs(NAMES) do
        values[i] = tostring(conf[name])
    end
    return concat(values, "\n")
end


local senders = by_content.new(key_of, make)


--- The sender of a configuration. The records of all routes share one queue.
-- @treturn table|nil
-- @treturn nil|string why there is none
function _M.of(conf)
    metrics.show_apim_records()
    return senders:of(conf)
end


return _M
