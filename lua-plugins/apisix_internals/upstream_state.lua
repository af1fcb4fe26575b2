--- nginx's upstream variables (`$upstream_addr`, `$upstream_status`, …), which APISIX's patched
-- nginx lets Lua write: one entry for each attempt.

local contract = require("apisix_internals.contract")

local need = contract.part("upstream_state")
local push_upstream_state = need("resty.apisix.upstream", "push_upstream_state")
local update_upstream_state = need("resty.apisix.upstream", "update_upstream_state")

local _M = {}


--- Adds an entry for a backend that has answered or failed.
-- @tparam string address host:port
-- @tparam number status
-- @tparam number header_ms milliseconds until the answer's head arrived
function _M.push(address, status, header_ms)
    push_upstream_state({
        addr = address,
        status = status,
        header_time = header_ms,
    })
end


--- Completes the last entry.
-- @tparam number response_ms milliseconds until the end of the answer
function _M.close(response_ms)
    update_upstream_state({ response_time = response_ms })
end


return _M
