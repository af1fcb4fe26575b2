--- Resolves host names with APISIX's own DNS client, so that /etc/hosts, resolv.conf and
-- `apisix.dns_resolver` apply as everywhere in APISIX.

local contract = require("apisix_internals.contract")

local need = contract.part("name_resolution")
local dns_client = need("apisix.core.dns.client")
local get_resolver = need("apisix.core", "utils.get_resolver")
local local_conf = need("apisix.core", "config.local_conf")
local find = string.find
local gsub = string.gsub
local ipairs = ipairs
local max = math.max
local ngx_now = ngx.now

local _M = {}

-- The gateway uses its own instance of the client: APISIX's instance caches a missing name for 30
-- seconds, and answers with expired addresses. `gateway.exchange.addresses` decides about both.
local OPTIONS = { emptyTtl = 1, badTtl = 1, staleTtl = 0 }

local TYPE_A, TYPE_AAAA = 1, 28

-- Parts of the client's errors and their meaning. The client lists several errors; the last one
-- counts.
local REASONS = {
    { "timeout", "the name server does not answer" },
    { "timed out", "the name server does not answer" },
    { "error: 3 ", "the name does not exist (NXDOMAIN)" },
    { "error: 2 ", "the name server fails (SERVFAIL)" },
    { "101 empty record", "the name has no address" },
}

local EMPTY = {}

local client


local function new_client()
    local conf = local_conf().apisix or EMPTY
    local nameservers = {}
    for i, each in ipairs(get_resolver() or {}) do
        nameservers[i] = each
    end
    return dns_client.new({
        nameservers = nameservers,
        -- Without SRV records. AAAA is queried only if there is no A record.
        order = { "last", "A", "AAAA", "CNAME" },
        search = not conf.enable_resolv_search_opt and {} or nil,
        validTtl = conf.dns_resolver_valid,
        emptyTtl = OPTIONS.emptyTtl,
        badTtl = OPTIONS.badTtl,
        staleTtl = OPTIONS.staleTtl,
    })
end


local function in_words(err)
    for _, each in ipairs(REASONS) do
        if find(err, each[1], 1, true) then
            return each[2]
        end
    end
    return (gsub(err, "[%c]", " "))
end


--- Looks up a host. This can take a minute if the name server does not answer.
-- @tparam string host
-- @treturn table|nil its addresses as `connect` accepts them; IPv6 only if there is no IPv4
-- @treturn number|string how long they are valid, in seconds; the error in words
function _M.look_up(host)
    local err
    if not client then
        client, err = new_client()
        if not client then
            return nil, err
        end
    end
    local answers
    answers, err = client:resolve(host, dns_client.RETURN_ALL)
    if not answers then
        return nil, in_words(err)
    end

    local addresses, seen = {}, {}
    for _, each in ipairs(answers) do
        local address = each.address
        if address and not seen[address] and (each.type == TYPE_A or each.type == TYPE_AAAA) then
            seen[address] = true
            addresses[#addresses + 1] = address
        end
    end
    if not addresses[1] then
        return nil, "the name has no address"
    end
    return addresses, max(0, (answers.expire or 0) - ngx_now())
end


return _M
