--- Numbers of sockets. A connection keeps its number while it is open, across requests, and no
-- other open connection of the process has the same number.

local contract = require("apisix_internals.contract")

contract.part("socket_numbers")

local _M = {}


--- The number of an open connection.
-- @tparam table socket of `ngx.socket.tcp`
-- @treturn number|nil
function _M.of(socket)
    return socket:getfd()
end


return _M
