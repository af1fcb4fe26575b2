--- Everything that says which attempts a request made, each report in the same words, so that tests
-- can compare them: "a:429:throttled b:200:ok".

local concat = table.concat
local ipairs = ipairs
local libraries = require("libraries")
local match = string.match
local pairs = pairs
local sort = table.sort
local tonumber = tonumber
local tostring = tostring

local _M = {}


local function words(name, status, outcome)
    return name .. ":" .. (status or "") .. ":" .. outcome
end


local function of_record(request)
    local list = {}
    for i, each in ipairs(request.record.attempts or {}) do
        list[i] = words(each.backend.name, each.status, each.outcome)
    end
    return list
end


local function of_access_log(request)
    local list = {}
    for each in (request.var.genai_attempts or ""):gmatch("%S+") do
        list[#list + 1] = match(each, "^(.*):%d+$")
    end
    return concat(list, " ")
end


-- Spans say the same, and each one belongs to the span of its request.
local function of_spans(attempts, server)
    local list = {}
    for i, span in ipairs(attempts) do
        local attributes = span.attributes
        local resends = i > 1 and i - 1 or nil
        local is_well_placed = span.parent_id == server.span_id and span.ended >= span.started
                               and attributes["http.request.resend_count"] == resends
        list[i] = is_well_placed
                  and words(attributes["genai_gateway.backend"], attributes["http.response.status_code"],
                            attributes["genai_gateway.outcome"]) or "misplaced span"
    end
    return concat(list, " ")
end


local function sorted(list)
    sort(list)
    return concat(list, " ")
end


-- The metric has backends and outcomes, in no order.
local function counted(before, after)
    local list = {}
    for key, value in pairs(after) do
        local name, outcome = match(key, '^genai_attempts_total{node="(.-)",.*outcome="(.-)"}$')
        if name and not match(outcome, "^skipped_") then
            for _ = 1, value - (before[key] or 0) do
                list[#list + 1] = name .. " " .. outcome
            end
        end
    end
    return sorted(list)
end


local function active(metrics)
    local list = {}
    for key, value in pairs(metrics) do
        local name = match(key, '^llm_active_connections{node="(.-)"}$')
        if name then
            list[#list + 1] = name .. "=" .. value
        end
    end
    return sorted(list)
end


-- nginx's entries for upstreams: each one has a status and was completed once.
local function of_nginx(request)
    local list = {}
    for i, each in ipairs(request.upstream_states) do
        list[i] = each.addr:match("^(.-):") .. ":" .. each.status
                  .. (each.response_time and "" or " not completed")
    end
    return concat(list, " ")
end


-- What nginx has of an attempt: 502 or 504 stand for an answer that never came.
local function expected_of_nginx(attempts)
    local list = {}
    for _, each in ipairs(attempts) do
        if each.has_state then
            local status = each.status or each.outcome == "timeout" and 504 or 502
            list[#list + 1] = each.backend.name .. ":" .. status
        end
    end
    return concat(list, " ")
end


--- Makes a request, and returns it with what each report says of its attempts.
-- @tparam table gateway
-- @tparam function act makes the request and returns it when it has ended
-- @treturn table the request
-- @treturn table reports by their names, each a text; and the same texts as they should be, for
--   these attempts
function _M.of(gateway, act)
    local spans_before = #gateway.world.spans
    local metrics_before = gateway:metrics()
    local request = act()
    local metrics = gateway:metrics()
    local attempts, server = {}, nil
    for i = spans_before + 1, #gateway.world.spans do
        local span = gateway.world.spans[i]
        if span.kind == libraries.CLIENT_SPAN then
            attempts[#attempts + 1] = span
        else
            server = span
        end
    end
    local record = gateway:apim_record()
    local list = of_record(request)
    local in_metrics = {}
    for i, each in ipairs(request.record.attempts or {}) do
        in_metrics[i] = each.backend.name .. " " .. each.outcome
    end
    local count = tostring(#list)
    return request, {
        record = concat(list, " "),
        ["access log"] = of_access_log(request),
        spans = of_spans(attempts, server),
        metric = counted(metrics_before, metrics),
        ["active connections"] = active(metrics),
        ["span of the request"] = tostring(server.attributes["genai_gateway.attempts"]),
        ["header x-gateway-attempts"] = request.response_headers["x-gateway-attempts"] or "none",
        ["APIM-style record"] = tostring(record.Attempts),
        nginx = of_nginx(request),
        ["open connections"] = tostring(gateway.world.network:open()),
    }, {
        ["access log"] = concat(list, " "),
        spans = concat(list, " "),
        metric = sorted(in_metrics),
        ["active connections"] = "",
        ["span of the request"] = count,
        ["header x-gateway-attempts"] = count,
        ["APIM-style record"] = count,
        nginx = expected_of_nginx(request.record.attempts or {}),
        ["open connections"] = "0",
    }
end


--- Milliseconds of each attempt, as the access log has them.
function _M.durations(request)
    local list = {}
    for each in (request.var.genai_attempts or ""):gmatch("%S+") do
        list[#list + 1] = tonumber(match(each, ":(%d+)$"))
    end
    return list
end


return _M
