--- Counts failed authentications by address, and slows down guessing of keys. Valid keys and tokens
-- are checked first, so clients with a valid credential are never affected, even at the same
-- address.

local shared_memory = require("gateway.mechanisms.shared_memory")
local max = math.max
local sub = string.sub

local _M = {}

-- Up to this many failures per window are answered with 401, so that a client with an old key
-- learns the reason.
local LIMIT = 1000
local WINDOW_S = 60

-- An owner of an IPv6 address usually controls its /64, which is this many bytes.
local IPV6_NETWORK = 8

local failures = shared_memory.failures


--- Counts a failure.
-- @tparam string address of the client, as bytes
-- @treturn number|nil milliseconds until the address gets 401 again instead of 429; nil: it has not
--   failed too often
function _M.count(address)
    local key = #address > IPV6_NETWORK and sub(address, 1, IPV6_NETWORK) or address
    local count = failures:incr(key, 1, 0, WINDOW_S)
    if not count or count <= LIMIT then
        return nil
    end
    return max(failures:ttl(key) or 0, 1) * 1000
end


return _M
