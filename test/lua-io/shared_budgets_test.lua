--- Token budgets that both lanes share: what a request reserves and is charged, who is rejected and
-- with which answer, in memory, in Redis, and by the reports of the backends.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream, OK = test_gateway.failure, test_gateway.stream, test_gateway.OK
local OUTPUT, USAGE = test_gateway.OUTPUT, test_gateway.USAGE

local LOW = { ["x-priority"] = "low" }


-- An answer that costs this many tokens.
local function costing(tokens, headers)
    local all = { ["content-type"] = "application/json" }
    for name, value in pairs(headers or {}) do
        all[name] = value
    end
    return { status = 200, headers = all,
             body = '{"id":"x","choices":[],"usage":{"prompt_tokens":' .. tokens
                    .. ',"completion_tokens":0,"total_tokens":' .. tokens .. "}}" }
end


local function budget(fields)
    local conf = { source = "count", tokens_per_minute = 1000, high_reserve = 300, policy = "local" }
    for name, value in pairs(fields or {}) do
        conf[name] = value
    end
    return conf
end


local function in_redis(fields)
    local conf = budget(fields)
    conf.policy, conf.allow_degradation = "redis", true
    conf.redis_host, conf.redis_port, conf.redis_database = "redis", 6379, 0
    return conf
end


local function new_gateway(conf, options)
    options = options or {}
    options.backends = options.backends or { "a" }
    options.limits = { budget = conf or budget() }
    return test_gateway.new(options)
end


-- The tokens that are left after the last request, by the header of the next one that costs nothing
-- but its reservation of at least one.
local function left(gateway, options)
    options = options or {}
    options.path = options.path or "/openai/v1/images/generations"
    gateway:serve("a", failure(400))
    return tonumber(gateway:post(options).response_headers["x-gw-remaining-tokens"])
end


local function charged(script, options, conf)
    local gateway = new_gateway(conf)
    script(gateway)
    gateway:post(options)
    -- Charges of Redis are sent a moment later.
    gateway.world:advance(0.25)
    return 1000 - left(gateway)
end


local function serving(...)
    local answers = { ... }
    return function(gateway)
        gateway:serve("a", unpack(answers))
    end
end


for place, conf_of in pairs({ memory = budget, Redis = in_redis }) do
    describe("a shared budget in " .. place .. " is charged", function()
        local function cost(script, options)
            return charged(script, options, conf_of())
        end

        it("with the usage of an answer, be it more or less than was reserved", function()
            equal({ cost(serving(costing(400))), cost(serving(costing(3))) }, { 400, 3 })
        end)

        it("with all tokens, whatever other budgets count", function()
            equal(cost(serving(OK)), 15)
        end)

        it("with the usage at the end of a stream", function()
            equal(cost(serving(stream({ OUTPUT, USAGE })), { stream = true }), 10)
        end)

        it("with an estimate of a stream without usage", function()
            -- A token for four bytes of the request, and one for each of three events.
            local body = '{"model":"gpt-4o","stream":true}'
            equal(cost(serving(stream({ OUTPUT, OUTPUT, "[DONE]" })), { body = body }), 8 + 3)
        end)

        it("with nothing for an error of the backend, or without a backend", function()
            equal({ cost(serving(failure(400))), cost(serving(failure(500))), cost(serving(failure(429))) },
                  { 0, 0, 0 })
        end)

        it("with what it reserved if the client leaves before the answer", function()
            local body = { model = "gpt-4o", max_tokens = 50 }
            equal(cost(serving({ times_out = true }), { body = body, leaves_at = 2 }), 58)
        end)

        it("with an estimate of what a client got that leaves during a stream", function()
            local script = serving(stream({ OUTPUT, OUTPUT, { takes = 20 }, OUTPUT }))
            local used = cost(script, { stream = true, leaves_at = 5 })
            equal({ used >= 18, used <= 18 + 3 }, { true, true }, "used " .. used)
        end)

        it("once for a request with a failover", function()
            local gateway = new_gateway(conf_of(), { backends = { "a", "b" } })
            gateway:serve("a", failure(500))
            gateway:serve("b", costing(40))
            equal(gateway:post().status, 200)
            gateway.world:advance(0.25)
            gateway:serve("b", failure(400))
            equal(left(gateway), 960)
        end)
    end)


    describe("a shared budget in " .. place .. " rejects", function()
        it("the low lane while less than the reserve is left, and the high lane when nothing is", function()
            local gateway = new_gateway(conf_of())
            local function statuses(headers, ...)
                gateway:serve("a", costing(...))
                local status = gateway:post({ headers = headers }).status
                gateway.world:advance(0.25)
                return status
            end
            equal(statuses(LOW, 700), 200, "nothing is used")
            equal(statuses(LOW, 1), 200, "exactly the reserve is left")
            equal(statuses(LOW, 1), 429, "less than the reserve is left")
            equal(statuses(nil, 298), 200, "the high lane may use it")
            equal(statuses(nil, 50), 200, "a request of the high lane finds one token")
            equal(statuses(nil, 1), 429, "nothing is left")
            equal(gateway:called(), "a a a a", "backends called")
        end)

        it("with the time at which enough tokens are over", function()
            local gateway = new_gateway(conf_of())
            gateway:serve("a", costing(800))
            gateway:post()
            gateway.world:advance(20.25)
            local request = gateway:post({ headers = LOW })
            equal({ request.status, request.response_headers["retry-after"],
                    request.response_headers["retry-after-ms"] }, { 429, "41", "40750" })
            gateway:serve("a", OK)
            gateway.world:advance(40.5)
            equal(gateway:post({ headers = LOW }).status, 429, "a moment before")
            gateway.world:advance(0.25)
            equal(gateway:post({ headers = LOW }).status, 200, "then")
        end)

        it("no other deployment, and this one in any case", function()
            local gateway = new_gateway(conf_of())
            gateway:serve("a", costing(1000))
            gateway:post({ model = "gpt-4o" })
            gateway.world:advance(0.25)
            equal({ gateway:post({ model = "GPT-4O" }).status, gateway:post({ model = "gpt-5" }).status },
                  { 429, 200 })
        end)

        it("while requests in flight have reserved the rest", function()
            local gateway = new_gateway(conf_of({ high_reserve = 950 }))
            gateway:serve("a", { times_out = true })
            local body = { model = "gpt-4o", max_tokens = 80 }
            local first = gateway:start({ body = body, headers = LOW, leaves_at = 50 })
            gateway.world:advance(1)
            local second = gateway:post({ body = body, headers = LOW })
            equal({ first.is_done or false, second.status }, { false, 429 })
        end)

        it("no more than others in other workers leave", function()
            local gateway = new_gateway(conf_of())
            local other = new_gateway(conf_of(), { world = gateway.world })
            gateway:serve("a", costing(1000))
            equal(gateway:post().status, 200)
            gateway.world:advance(0.25)
            equal(other:post().status, 429)
        end)
    end)
end


describe("a rejection by a shared budget", function()
    local function rejected(headers, conf)
        local gateway = new_gateway(conf)
        gateway:serve("a", costing(1000))
        gateway:post()
        return gateway, gateway:post({ headers = headers })
    end

    it("of the low lane has the shape of other limits, and says why", function()
        local gateway, request = rejected(LOW)
        local sent = request.response_headers
        local _, span = gateway:spans()
        equal({
            status = request.status, error = request.json.error.code, type = request.json.error.type,
            message = request.json.error.message, lane = sent["x-gateway-ratelimit-lane"],
            priority = sent["x-gw-priority"], reason = sent["x-gw-ratelimit-reason"],
            value = sent["x-gw-ratelimit-value"], content_type = sent["content-type"],
            limiter = request.var.genai_limiter, log = request.var.genai_error,
            source = request.var.genai_error_source, span = span.attributes["error.type"],
            record = gateway:apim_record().ResponseHeaders["x-gw-ratelimit-reason"],
        }, {
            status = 429, error = "rate_limit_exceeded", type = "rate_limit_error",
            message = "The tokens that this deployment has left are reserved for requests of the high lane.",
            lane = "low", priority = "low", reason = "tokens-below-low-priority-threshold",
            value = "0", content_type = "application/json", limiter = "shared-budget",
            log = "rate_limit_exceeded", source = "gateway", span = "rate_limit_exceeded",
            record = "tokens-below-low-priority-threshold",
        })
        equal(gateway:called(), "a")
    end)

    it("of the high lane says that all is used", function()
        local _, request = rejected()
        equal({ request.status, request.response_headers["x-gw-priority"],
                request.response_headers["x-gw-ratelimit-reason"], request.json.error.message },
              { 429, "high", "tokens-used-up", "The tokens a minute of this deployment are used up." })
    end)

    it("is counted as one of this limiter, and passing requests are, too", function()
        local gateway = rejected(LOW)
        equal(gateway:metric("genai_limiter_decisions_total"),
              "shared-budget high app allowed=1, shared-budget low app rejected=1")
    end)

    it("costs nothing, not even a request, of other limits", function()
        local gateway = new_gateway(nil, { limiters = { ["ai-rate-limiting"] = {
            limit_strategy = "expression", cost_expr = "requests", rejected_code = 503,
            rejected_msg = "rate limited" } } })
        gateway:serve("a", costing(1000))
        equal(gateway:post().charged.raw, { requests = 1 })
        local request = gateway:post()
        equal({ request.status, request.charged.raw, request.charged.usage.total_tokens },
              { 429, { requests = 0 }, 0 })
        equal(gateway:metric("genai_limiter_decisions_total"),
              "ai-rate-limiting high app allowed=2, shared-budget high app allowed=1, "
              .. "shared-budget high app rejected=1")
    end)

    it("does not follow the rejection by another limit", function()
        local gateway = new_gateway(nil, { limiters = { ["ai-rate-limiting"] = {
            limit_strategy = "total_tokens", rejected_code = 503, rejected_msg = "rate limited" } } })
        gateway.rejects["ai-rate-limiting"] = {}
        equal({ gateway:post().status, gateway:metric("genai_limiter_decisions_total") },
              { 503, "ai-rate-limiting high app rejected=1" })
        equal(left(gateway), nil)
    end)
end)


describe("the headers of a shared budget", function()
    local function headers_of(request)
        local sent = request.response_headers
        return { sent["x-gw-priority"], sent["x-gw-remaining-tokens"], sent["x-gw-remaining-requests"] }
    end

    it("name the lane and what is left, with what the request reserves taken off", function()
        local gateway = new_gateway()
        local body = { model = "gpt-4o", max_tokens = 50 }
        equal(headers_of(gateway:post({ body = body })), { "high", "942", "-1" })
        gateway:serve("a", costing(15, { ["x-ratelimit-remaining-requests"] = "37" }))
        equal(headers_of(gateway:post({ body = body, headers = LOW })), { "low", "927", "37" })
    end)

    it("are in answers of streams and of backends that fail, too", function()
        local gateway = new_gateway()
        gateway:serve("a", stream({ OUTPUT, USAGE }))
        equal(headers_of(gateway:post({ stream = true }))[1], "high")
        gateway:serve("a", failure(400))
        equal(headers_of(gateway:post({ headers = LOW }))[1], "low")
        gateway:serve("a", failure(500))
        equal(headers_of(gateway:post({ headers = LOW }))[1], "low")
    end)

    it("are not in answers to requests that cost no tokens, or name no deployment", function()
        local gateway = new_gateway()
        equal(headers_of(gateway:post({ path = "/openai/v1/responses/resp_1", method = "GET" })), {})
        equal(headers_of(gateway:post({ path = "/openai/v1/files", body = "x" })), {})
        equal(gateway:metric("genai_limiter_decisions_total"), "")
    end)

    it("are in answers to requests whose deployment cannot be read: they have a budget in common", function()
        local gateway = new_gateway()
        gateway:serve("a", costing(1000))
        for _, text in ipairs({ '/**/{"model":"gpt-4o"}', '[{"model":"other"}]' }) do
            local request = gateway:post({ body = text })
            gateway:serve("a", costing(1))
            equal({ request.status, request.response_headers["x-gw-priority"] },
                  { text:sub(1, 1) == "/" and 200 or 429, "high" }, text)
        end
        equal(gateway:post({ body = { model = "gpt-4o" } }).status, 200, "another budget")
    end)

    it("are not there without a budget", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        equal(headers_of(gateway:post()), {})
    end)

    it("say nothing of a number that is none", function()
        local gateway = new_gateway()
        for _, value in ipairs({ "-1", "many", "" }) do
            gateway:serve("a", costing(0, { ["x-ratelimit-remaining-requests"] = value }))
            equal(headers_of(gateway:post())[3], "-1", value)
        end
    end)
end)


describe("a shared budget in a Redis that fails", function()
    local function failing(down, takes)
        local gateway = new_gateway(in_redis({ tokens_per_minute = 20, high_reserve = 0 }))
        local redis = gateway.world.redis["redis:6379"]
        redis.down, redis.takes = down, takes
        return gateway, redis
    end

    it("lets requests pass uncounted, and counts them as such", function()
        local gateway = failing("connection refused")
        for _ = 1, 3 do
            local request = gateway:post()
            equal({ request.status, request.response_headers["x-gw-remaining-tokens"] }, { 200, "-1" })
        end
        equal(gateway:metric("genai_limiter_degraded_total"), "shared-budget=3")
        equal(gateway.world:lines("the Redis of the limits at redis:6379/0 fails", "error"), 1)
    end)

    it("counts again when it works again", function()
        local gateway, redis = failing("connection refused")
        gateway:serve("a", costing(20))
        gateway:post()
        redis.down = nil
        gateway.world:advance(5)
        equal(gateway.world:lines("works again", "warn"), 1)
        equal({ gateway:post().status, gateway:post().status }, { 200, 200 }, "one is charged a moment later")
        gateway.world:advance(0.25)
        equal(gateway:post().status, 429)
    end)

    it("keeps a reservation that cannot be settled, for its minute", function()
        local gateway, redis = failing()
        gateway:serve("a", { takes = 1, status = 200, headers = OK.headers, body = costing(0).body })
        local request = gateway:start({ body = { model = "gpt-4o" } })
        gateway.world:advance(0.5)
        redis.down = "closed"
        gateway:finish(request)
        gateway.world:advance(0.25)
        redis.down = nil
        gateway.world:advance(10)
        equal(gateway:post().response_headers["x-gw-remaining-tokens"], "16", "two of 2 tokens")
        gateway.world:advance(61)
        equal(gateway:post().response_headers["x-gw-remaining-tokens"], "18")
    end)

    it("signs in with the password of its file", function()
        local world = world_module.new()
        world:load("secrets", { { id = "file/settings", files = { REDIS_PASSWORD = "/secrets/redis" } } }, 1)
        world.files:write("/secrets/redis", "from-file", world.scheduler.now - 100)
        local conf = in_redis()
        conf.redis_password = "$secret://file/settings/REDIS_PASSWORD"
        local gateway = test_gateway.new({ world = world, backends = { "a" }, limits = {
            budget = conf, redis_password_setting = "REDIS_PASSWORD" } })
        equal(gateway:post().status, 200)
        equal(world.redis["redis:6379"].passwords[1], "from-file")
    end)
end)


describe("a budget that the backends count", function()
    local REPORTS = { source = "backend", high_reserve = 300 }

    local function reporting(tokens)
        return costing(15, { ["x-ratelimit-remaining-tokens"] = tokens,
                             ["x-ratelimit-remaining-requests"] = "9" })
    end

    local function new(answer, options)
        local conf = budget(REPORTS)
        conf.tokens_per_minute = nil
        local gateway = new_gateway(conf, options)
        gateway:serve("a", answer)
        return gateway
    end

    local body = { model = "gpt-4o", max_tokens = 50 }

    local function post(gateway, headers)
        return gateway:post({ body = body, headers = headers })
    end

    it("rejects the low lane while less than the reserve is left, never the high lane", function()
        local gateway = new(reporting("200"))
        equal(post(gateway, LOW).status, 200, "nothing is known")
        gateway.world:advance(1)
        local request = post(gateway, LOW)
        local sent = request.response_headers
        equal({ request.status, sent["x-gw-ratelimit-value"], sent["retry-after"],
                sent["x-gw-ratelimit-reason"], sent["x-gateway-ratelimit-lane"] },
              { 429, "200", "4", "tokens-below-low-priority-threshold", "low" })
        gateway:serve("a", reporting("0"))
        equal({ post(gateway).status, post(gateway).status }, { 200, 200 })
    end)

    it("reports what the backend reports", function()
        local gateway = new(reporting("812"))
        local sent = post(gateway).response_headers
        equal({ sent["x-gw-priority"], sent["x-gw-remaining-tokens"], sent["x-gw-remaining-requests"] },
              { "high", "812", "9" })
    end)

    it("lets one request of the low lane find out more after five seconds without a report", function()
        local gateway = new(reporting("200"))
        post(gateway, LOW)
        gateway.world:advance(4)
        equal(post(gateway, LOW).status, 429)
        gateway.world:advance(1)
        gateway:serve("a", { takes = 1, status = 200, headers = reporting("900").headers, body = OK.body })
        local probe = gateway:start({ body = body, headers = LOW })
        equal(post(gateway, LOW).status, 429, "another one meanwhile")
        equal(gateway:finish(probe).status, 200)
        equal(post(gateway, LOW).status, 200, "then")
    end)

    it("is not probed while the high lane brings reports", function()
        local gateway = new(reporting("200"))
        for _ = 1, 20 do
            post(gateway)
            gateway.world:advance(1)
            equal(post(gateway, LOW).status, 429)
        end
    end)

    it("takes off what was sent since the last report", function()
        local gateway = new(reporting("400"))
        post(gateway)
        gateway:serve("a", { times_out = true })
        for _ = 1, 3 do
            gateway:start({ body = { model = "gpt-4o", max_tokens = 30 }, leaves_at = 30 })
        end
        gateway.world:advance(1)
        equal(post(gateway, LOW).response_headers["x-gw-ratelimit-value"], "286", "38 of 400, three times")
    end)

    it("takes off at most a tenth for one request, whatever it asks for", function()
        for _, most in ipairs({ "1e9", "1e999", "nan" }) do
            local gateway = new(reporting("400"))
            post(gateway)
            gateway:serve("a", { times_out = true })
            for _ = 1, 3 do
                gateway:start({ body = '{"model":"gpt-4o","max_tokens":1e9,"best_of":' .. most .. "}",
                                leaves_at = 30 })
            end
            gateway.world:advance(1)
            equal(post(gateway, LOW).response_headers["x-gw-ratelimit-value"], "280", most)
        end
    end)

    it("gives back what an error without a report has reserved", function()
        local gateway = new(reporting("400"))
        post(gateway)
        for _ = 1, 20 do
            gateway:serve("a", failure(400))
            gateway:post({ body = { model = "gpt-4o", max_tokens = 1e9 } })
        end
        gateway:serve("a", reporting("400"))
        equal(post(gateway, LOW).status, 200)
    end)

    it("limits nobody without a number, or with a negative one", function()
        for _, value in ipairs({ "-1", "unlimited", false }) do
            local gateway = new(reporting("100"))
            post(gateway)
            equal(post(gateway, LOW).status, 429)
            gateway:serve("a", reporting(value or nil))
            post(gateway)
            equal(post(gateway, LOW).status, 200, tostring(value))
        end
    end)

    it("forgets a report after a minute", function()
        local gateway = new(reporting("100"))
        post(gateway)
        -- Somebody has probed at 59 seconds, and has no answer yet.
        gateway.world:advance(59)
        gateway:serve("a", { times_out = true })
        gateway:start({ body = body, headers = LOW, leaves_at = 90 })
        equal(post(gateway, LOW).status, 429)
        gateway.world:advance(1)
        gateway:serve("a", OK)
        equal(post(gateway, LOW).status, 200)
    end)

    it("has nothing left where the backend throttles", function()
        local gateway = new(reporting("900"), { proxy = { cooldown = { default_ms = 0, max_ms = 0 } } })
        post(gateway)
        gateway:serve("a", failure(429, { ["retry-after"] = "1" }))
        post(gateway)
        equal(post(gateway, LOW).response_headers["x-gw-ratelimit-value"], "0")
    end)

    it("keeps the report over an error that has none", function()
        local gateway = new(reporting("100"))
        post(gateway)
        gateway:serve("a", failure(400))
        post(gateway)
        equal(post(gateway, LOW).status, 429)
    end)

    it("adds up backends, and limits nobody until all of them have reported", function()
        local gateway = new(reporting("100"), { backends = { "a", "b" },
                                                proxy = { cooldown = { default_ms = 0, max_ms = 0 } } })
        gateway:serve("b", reporting("150"))
        post(gateway)
        equal(post(gateway, LOW).status, 200, "b has not reported")
        gateway:serve("a", failure(500))
        post(gateway)
        gateway:serve("a", reporting("100"))
        post(gateway)
        equal(post(gateway, LOW).response_headers["x-gw-ratelimit-value"], "250")
        gateway:serve("a", reporting("200"))
        post(gateway)
        equal(post(gateway, LOW).status, 200, "350 of both")
    end)

    it("is one for each deployment", function()
        local gateway = new(reporting("100"))
        post(gateway)
        equal({ post(gateway, LOW).status, gateway:post({ model = "gpt-5", headers = LOW }).status },
              { 429, 200 })
    end)
end)


describe("budgets of pools", function()
    it("are kept apart from each other and from that of the plain paths", function()
        local gateway = new_gateway(budget({ pool = "one" }))
        gateway:serve("a", costing(1000))
        gateway:post()
        equal(gateway:post().status, 429)
        gateway.conf["azure-openai-limits"] = { budget = budget({ pool = "two" }) }
        equal(gateway:post().status, 200)
        gateway.conf["azure-openai-limits"] = { budget = budget() }
        equal(gateway:post().status, 200)
    end)
end)
