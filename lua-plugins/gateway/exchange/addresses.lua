--- The addresses of hosts. Requests use known addresses, and each worker refreshes a name in the
-- background: no name server delays a request for longer than its connect timeout.

local core = require("apisix.core")
local ipmatcher = require("resty.ipmatcher")
local name_resolution = require("apisix_internals.name_resolution")
local semaphore = require("ngx.semaphore")
local throttled_log = require("gateway.mechanisms.throttled_log")
local concat = table.concat
local byte = string.byte
local huge = math.huge
local ipairs = ipairs
local max = math.max
local min = math.min
local ngx_now = ngx.now
local pairs = pairs
local parse_ipv4 = ipmatcher.parse_ipv4
local pcall = pcall
local timer_at = ngx.timer.at

local _M = {}

-- Minimum time to live of an address, in seconds; also how long a failed lookup is not repeated.
local MIN_TTL_S = 1

-- Addresses that expired longer ago than this are used only if a new lookup takes too long.
local STALE_S = 30

-- The longest wait for that lookup, and for a further lookup after a failed one.
local SHORT_WAIT_S = 0.5

-- A lookup that takes longer counts as failed, for requests and the log.
local SLOW_S = 5

local NO_ANSWER = "the name server does not answer"

-- Interval of the log lines about a name that cannot be resolved.
local REPORT_S = 60

-- How long an address that refused a connection is tried after the other addresses of its name.
local DEAD_S, MAX_DEAD_S = 10, 160

local BRACKET = 91

-- Names by host.
local names = {}


local function report(name, err)
    local now = ngx_now()
    if now < name.reported + REPORT_S then
        return
    end
    name.reported = now
    if name.list then
        throttled_log.write(core.log.warn, "resolve", name.host, "the host ", name.host,
                            " cannot be resolved: ", err, ". Its last known addresses are used: ",
                            concat(name.list, ", "))
    else
        throttled_log.write(core.log.error, "resolve", name.host, "the host ", name.host,
                            " cannot be resolved: ", err)
    end
end


local function has_failed(name, err)
    name.err = err
    name.is_failing = true
    report(name, err)
end


-- Applies the result of a lookup.
local function set(name, list, ttl)
    local addresses = {}
    for _, address in ipairs(list) do
        addresses[address] = true
    end
    for address in pairs(name.dead) do
        if not addresses[address] then
            name.dead[address] = nil
        end
    end
    if name.is_failing then
        core.log.warn("the host ", name.host, " can be resolved again")
    end
    name.list, name.addresses, name.err, name.is_failing = list, addresses, nil, false
    name.reported = 0
    name.due = ngx_now() + max(MIN_TTL_S, ttl)
end


local function look_up(premature, name)
    local ok, list, result
    if premature then
        ok, list = false, "the worker exits"
    else
        ok, list, result = pcall(name_resolution.look_up, name.host)
    end
    if ok and list then
        set(name, list, result)
    else
        name.due = ngx_now() + MIN_TTL_S
        has_failed(name, ok and result or list)
    end

    local waiting = name.waiting
    name.looking_since, name.waiting, name.waiting_count = nil, nil, 0
    if waiting then
        waiting:post(max(1, -waiting:count()))
    end
end


local function begin(name)
    name.looking_since = ngx_now()
    local ok, err = timer_at(0, look_up, name)
    if not ok then
        name.looking_since = nil
        name.due = ngx_now() + MIN_TTL_S
        has_failed(name, "cannot start a timer: " .. err)
    end
end


-- Waits until the lookup ends, or until `till`.
local function wait(name, till)
    local left = till - ngx_now()
    if left <= 0 then
        return
    end
    name.waiting = name.waiting or semaphore.new()
    name.waiting:wait(left)
end


--- The state of a host's name, shared by all its users.
-- @tparam string host a name, an IPv4 address, or an IPv6 address in brackets
-- @treturn table `addresses`, a set; other fields are private to this module
function _M.of(host)
    local name = names[host]
    if not name then
        name = { host = host, addresses = {}, dead = {}, due = 0, reported = 0, turn = 0 }
        if byte(host, 1) == BRACKET or parse_ipv4(host) then
            name.list, name.addresses, name.due = { host }, { [host] = true }, huge
        end
        names[host] = name
    end
    return name
end


--- The addresses of a name.
-- @tparam table name
-- @tparam number till the latest time to stop waiting for them
-- @treturn table|nil a list
-- @treturn nil|string why there is none
function _M.find(name, till)
    local now = ngx_now()
    if now < name.due then
        return name.list, name.err
    end

    if not name.looking_since then
        begin(name)
    elseif now >= name.looking_since + SLOW_S then
        has_failed(name, NO_ANSWER)
    end
    local since = name.looking_since
    if not since then
        return name.list, name.err
    end
    if name.list then
        if not name.is_failing and now > name.due + STALE_S then
            wait(name, min(till, since + SHORT_WAIT_S))
        end
        return name.list
    end

    -- The wait is counted from the start of the lookup, so that requests do not wait for a name
    -- server that is known not to answer.
    wait(name, min(till, since + (name.is_failing and SHORT_WAIT_S or SLOW_S)))
    if name.list then
        return name.list
    elseif name.looking_since == since and ngx_now() >= since + SLOW_S then
        has_failed(name, NO_ANSWER)
    end
    return nil, name.err or NO_ANSWER
end


--- The next address to connect to: in turn, addresses that failed recently last.
-- @tparam table name
-- @tparam table list its addresses
-- @tparam table|nil tried a set of addresses to skip
-- @treturn string|nil nil: all addresses were tried
function _M.next(name, list, tried)
    local count = #list
    if count == 1 then
        return not tried and list[1] or nil
    end
    local now, last = ngx_now(), nil
    local turn = name.turn % count
    for i = 1, count do
        local at = (turn + i - 1) % count + 1
        local address = list[at]
        if not (tried and tried[address]) then
            local dead = name.dead[address]
            if not dead or now >= dead.till then
                name.turn = at
                return address
            end
            last = last or address
        end
    end
    return last
end


--- Records that an address did not accept a connection.
function _M.failed(name, address)
    local dead = name.dead[address]
    local lasts = dead and min(dead.lasts * 2, MAX_DEAD_S) or DEAD_S
    name.dead[address] = { lasts = lasts, till = ngx_now() + lasts }
end


--- Records that an address accepted a connection.
function _M.worked(name, address)
    if name.dead[address] then
        name.dead[address] = nil
    end
end


return _M
