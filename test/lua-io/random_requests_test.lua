--- Many requests at the same time, in two workers, with backends that answer at random: whatever
-- happens, reports agree with each other and nothing is left behind.

local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal
local failure, stream, OK = test_gateway.failure, test_gateway.stream, test_gateway.OK
local PREAMBLE, OUTPUT, USAGE = test_gateway.PREAMBLE, test_gateway.OUTPUT, test_gateway.USAGE

local ROUNDS = 10

local FIREWALL = failure(403)
FIREWALL.body = '{"error":{"message":"Access denied due to Virtual Network/Firewall rules."}}'

local ANSWERS = {
    OK, OK, OK, failure(400), failure(500), failure(429), failure(429, { ["retry-after"] = "3" }), FIREWALL,
    failure(404, nil, "DeploymentNotFound"), failure(401, nil, "invalid_api_key"),
    failure(401, nil, "PermissionDenied"), failure(400, nil, "invalid_encrypted_content"),
    { refuses = "connection refused" }, { refuses = "timeout", takes = 5 }, { is_stale = true },
    { resets = true }, { times_out = true }, { takes = 1, status = 200, body = "{}" },
    stream({ PREAMBLE, OUTPUT, USAGE }), stream({ PREAMBLE }, "closed"), stream({ OUTPUT, 0.5 }, "timeout"),
    stream({ test_gateway.THROTTLED }), stream({ PREAMBLE, 2, OUTPUT }),
    { status = 200, headers = OK.headers, body = '{"id":"resp_1","encrypted_content":"sealed"}' },
    { status = 200, headers = OK.headers, body = "{", length = 9 },
}

local RESPONSES = "/openai/v1/responses"

local REQUESTS = {
    {}, { stream = true }, { leaves_at = 2 }, { stream = true, leaves_after = 1 }, { upload_takes = 1 },
    { path = RESPONSES, body = { model = "gpt-4o", include = { "reasoning.encrypted_content" } } },
    { path = RESPONSES, body = { model = "gpt-4o", input = { { encrypted_content = "sealed" } } } },
    { path = RESPONSES .. "/resp_1", method = "GET" }, { path = "/openai/v1/chat/completions?x=a b" },
}


-- A sequence of numbers that only depends on its seed.
local function numbers(seed)
    local state = seed
    return function(most)
        state = (state * 1103515245 + 12345) % 2147483648
        return math.floor(state / 65536) % most + 1
    end
end


-- Some requests at about the same time, each at one of the gateways.
local function round(gateways, random)
    local world, running = gateways[1].world, {}
    for _, name in ipairs(gateways[1].backends) do
        local answers = {}
        for i = 1, 8 do
            answers[i] = ANSWERS[random(#ANSWERS)]
        end
        answers[9] = OK
        world.network:serve(name, unpack(answers))
    end
    for i = 1, random(5) + 1 do
        local gateway, options = gateways[random(#gateways)], REQUESTS[random(#REQUESTS)]
        world.scheduler:after(random(8) / 4, function()
            running[i] = gateway:start(options)
            running[i].gateway = gateway
        end)
    end
    world:advance(random(20) + 1)
    for _, request in ipairs(running) do
        request.gateway:finish(request)
    end
    return running
end


-- What the record of a request and its access log say of its attempts.
local function check(request, outcomes)
    local in_record, in_log = {}, {}
    for i, each in ipairs(request.record.attempts or {}) do
        in_record[i] = each.backend.name .. ":" .. (each.status or "") .. ":" .. each.outcome
        local key = each.backend.name .. " " .. each.outcome
        outcomes[key] = (outcomes[key] or 0) + 1
    end
    for each in (request.var.genai_attempts or ""):gmatch("%S+") do
        in_log[#in_log + 1] = each:match("^(.*):%d+$")
    end
    equal(in_log, in_record)
    local is_aborted = table.concat(in_record, " "):find("client_abort", 1, true) ~= nil
    equal(is_aborted and not request.is_gone, false, "the client went away")
    equal({ request.status >= 400, request.var.genai_error_source ~= nil },
          { request.status >= 400, request.var.genai_error ~= nil })
    for _, each in ipairs(request.upstream_states) do
        equal(each.response_time ~= nil, true, "an entry of nginx is complete")
    end
end


local function check_the_end(gateways, outcomes)
    local world = gateways[1].world
    world:advance(100)
    local counted = {}
    for key, value in pairs(gateways[1]:metrics()) do
        local name, outcome = key:match('^genai_attempts_total{node="(.-)",.*outcome="(.-)"}$')
        if name and not outcome:find("^skipped_") then
            local each = name .. " " .. outcome
            counted[each] = (counted[each] or 0) + value
        end
    end
    equal(counted, outcomes, "attempts in metrics")
    equal(gateways[1]:metric("llm_active_connections"), "", "active connections")
    equal(world.network:open(), 0, "open connections")
    equal(world:lines("inside the gateway"), 0, "failures of the gateway itself")
    for _, gateway in ipairs(gateways) do
        equal(gateway.worker.require("gateway.exchange.body_memory").used(), 0, "memory of bodies")
    end
    for key in pairs(world.state.entries) do
        local is_kept = not key:find("^probe|") and not key:find("lock") or world.state:get(key) == nil
        equal(is_kept, true, "the lock or probe " .. key .. " is over")
    end
end


describe("random requests leave nothing behind, and their reports agree", function()
    local CASES = {
        { "with cooldowns", 1, {} },
        { "without cooldowns", 2, { proxy = { cooldown = { default_ms = 0, max_ms = 0 } } } },
        { "by latency, with a deadline", 3, { proxy = { balancer = "latency", deadline_ms = 4000 } } },
        { "with two attempts at most, and streams that are not held back", 4,
          { proxy = { stream_hold_ms = 0 }, pool = { max_retries = 1 } } },
    }
    for _, case in ipairs(CASES) do
        local about, seed, options = unpack(case)
        it(about, function()
            options.backends = { "a", "b", { name = "c", deployments = { ["gpt-4o"] = "four" } } }
            local first = test_gateway.new(options)
            options.world = first.world
            local gateways, outcomes = { first, test_gateway.new(options) }, {}
            local random = numbers(seed)
            for _ = 1, ROUNDS do
                for _, request in ipairs(round(gateways, random)) do
                    check(request, outcomes)
                end
            end
            check_the_end(gateways, outcomes)
        end)
    end
end)
