--- Remembers what a function gave for keys that come again, and not for ever more of them.

local _M = {}

-- Clients and backends choose the keys: when there are so many, all are forgotten.
local MAX_KNOWN = 1000


--- The same function, called once for a key.
-- @tparam function make gives a value that is not nil
function _M.of(make)
    local known, count = {}, 0
    return function(key)
        local value = known[key]
        if value == nil then
            value = make(key)
            if count >= MAX_KNOWN then
                known, count = {}, 0
            end
            known[key] = value
            count = count + 1
        end
        return value
    end
end


return _M
