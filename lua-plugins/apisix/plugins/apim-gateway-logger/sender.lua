--- Sends records to Azure Monitor, where no request waits for it: in batches, with retries, and
-- with a bound on what may wait.

local core = require("apisix.core")
local exporter = require("apisix.plugins.prometheus.exporter")
local identities = require("apisix.plugins.azure-openai-proxy.identity")
local upstream = require("apisix.plugins.azure-openai-proxy.upstream")
local secret = require("apisix.secret")
local delay = require("genai.delay")
local endpoints = require("genai.endpoint")
local headers_mod = require("genai.headers")
local http_head = require("genai.http_head")
local ingestion = require("genai.ingestion")
local record_queue = require("genai.record_queue")
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

-- A worker keeps so much for an API that does not answer, and what its senders have in hand.
local WAITING_BYTES = 8 * 1024 * 1024
local MAX_SENDERS = 4

local MAX_ANSWER = 65536

-- Between two lines about the same trouble, of all workers.
local SILENCE_S = 10

-- Waits are cut short when the worker is to end.
local NAP_S = 1

local KEPT = { keepalive = true, keepalive_timeout = 60000, keepalive_pool = MAX_SENDERS }

local dict = ngx.shared["genai-gateway-state"]

-- Each route has conf tables of its own; their records go through one queue.
local of_conf = setmetatable({}, { __mode = "k" })
local of_values = setmetatable({}, { __mode = "v" })

local metrics


local function counter(name, help, label, values)
    local made = exporter.get_prometheus():counter(name, help, label)
    if not made then
        return nil
    end
    -- An alert on what never was has nothing to look at.
    for _, value in ipairs(values or { false }) do
        made:inc(0, value and { value } or nil)
    end
    return made
end


local function make_metrics()
    if metrics or not exporter.get_prometheus() then
        return
    end
    metrics = {
        sent = counter("genai_apim_records_sent_total",
                       "APIM-style records that Azure Monitor has taken"),
        dropped = counter("genai_apim_records_dropped_total",
                          "APIM-style records that were given up", { "reason" },
                          { "queue_full", "too_large", "refused", "retries_exhausted", "shutdown",
                            "failed" }),
        failed = counter("genai_apim_posts_failed_total",
                         "Batches of APIM-style records that Azure Monitor did not take when they"
                         .. " were sent", { "reason" },
                         { "no_token", "network", "throttled", "server_error", "unauthorized",
                           "rejected", "failed" }),
    }
end


local function count(name, number, reason)
    local metric = metrics and metrics[name]
    if metric and number > 0 then
        metric:inc(number, reason and { reason } or nil)
    end
end


local function say_seldom(log, about, ...)
    if dict:add("apim-said|" .. about, true, SILENCE_S) then
        log(...)
    end
end


local function drop(number, reason, why)
    if number == 0 then
        return
    end
    count("dropped", number, reason)
    say_seldom(core.log.error, "dropped|" .. reason, number, " APIM-style records are dropped: ",
               why)
end


--- Counts a record that could not be made.
function _M.failed(err)
    make_metrics()
    drop(1, "failed", err)
end


local HINTS = {
    [401] = "the token is not accepted",
    [403] = "the identity needs the role Monitoring Metrics Publisher on the data collection rule",
    [404] = "there is no such data collection rule or stream",
}


-- What an answer says, and nothing of it that could be anything else.
local function described(status, text)
    local decoded = core.json.decode(text)
    local err = type(decoded) == "table" and decoded.error
    local code = type(err) == "table" and type(err.code) == "string"
                 and match(err.code, "^%a[%w_]*$")
    return "Azure Monitor answers " .. status .. (code and #code <= 64 and " " .. code or "")
           .. (HINTS[status] and ": " .. HINTS[status] or "")
end


-- One call. Gives the verdict, why it is not sent, in a word and in a line, and how long the API
-- asks to wait.
local function post(self, text, line)
    local lines = self.lines .. "content-length: " .. #text .. "\r\n"
    local head = http_head.request("POST", self.path, self.query, lines, line)
    local exchange, phase, err
    -- A connection that was kept may have gone stale.
    for attempt = 1, 2 do
        exchange, phase, err = upstream.send(self, "POST", head, text, self.timeouts, attempt == 2)
        if phase ~= "stale" then
            break
        end
    end
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


-- Waits, as long as the worker goes on.
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


-- Sends a batch, again and again if need be.
local function deliver(self, text, number)
    local tries, is_renewed = 0, false
    while true do
        local was_exiting = is_exiting()
        local line, err = identities.authorization(self.identity)
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

        if verdict == "token" and not is_renewed and identities.replace(self.identity, line) then
            is_renewed = true
        elseif verdict ~= "again" then
            return drop(number, "refused", why)
        else
            tries = tries + 1
            if tries > self.max_retry then
                return drop(number, "retries_exhausted", why)
            elseif was_exiting then
                return drop(number, "shutdown", why)
            end
            say_seldom(core.log.warn, reason, why, "; APIM-style records are sent again later")
            pause(ingestion.wait_ms(tries, named_ms, random()))
        end
    end
end


-- Sends up to `left` records that wait; without it, whole batches as long as there are any.
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


-- A worker that is to end runs the timers that it has at once, and takes no later ones.
local function start(self, delay, run)
    local ok, err = timer_at(delay, run, self)
    if not ok and delay > 0 then
        ok, err = timer_at(0, run, self)
    end
    if not ok then
        say_seldom(core.log.error, "timer", "no timer for APIM-style records: ", err)
    end
    return ok
end


--- Hands a record over. It is sent when it has company enough, or has waited long enough.
-- @tparam string text JSON
function _M:add(text)
    local given_up = self.queue:push(text)
    if not given_up then
        return drop(1, "too_large", "one alone is longer than the API takes")
    end
    drop(given_up, "queue_full", "too many wait to be sent")

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
        return nil, "dcr_ingest_uri is no URL"
    end
    local identity_secret = conf.msi_secret
    if identity_secret and secret.is_secret_ref(identity_secret) then
        core.log.error("the secret for tokens of APIM-style records cannot be resolved")
        identity_secret = nil
    end

    local timeout = conf.timeout_ms
    return setmetatable({
        queue = record_queue.new({
            waiting_bytes = WAITING_BYTES,
            batch_records = conf.batch_max_size,
            batch_bytes = ingestion.MAX_BYTES,
        }),
        identity = identities.of({
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
            headers_mod.line("host", endpoint.authority),
            headers_mod.line("content-type", "application/json"),
            headers_mod.line("accept", "application/json"),
        }),
        -- as a backend has it
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


--- Where records of a configuration go; the same for configurations that say the same.
-- @treturn table|nil
-- @treturn nil|string why there is none
function _M.of(conf)
    local sender = of_conf[conf]
    if sender then
        return sender
    end

    local values = {}
    for i, name in ipairs({ "dcr_ingest_uri", "resource", "batch_max_size", "batch_max_retry",
                            "batch_flush_interval", "timeout_ms", "msi_client_id", "msi_endpoint",
                            "msi_secret" }) do
        values[i] = tostring(conf[name])
    end
    local key = concat(values, "\n")
    local err
    sender = of_values[key]
    if not sender then
        make_metrics()
        sender, err = make(conf)
        of_values[key] = sender
    end
    of_conf[conf] = sender
    return sender, err
end


return _M
