--- A bounded cache of a function's results.

local _M = {}

-- Clients and backends choose the keys, so the cache is emptied when it has this many.
local MAX_KNOWN = 1000


--- Returns a function that calls `make` once for each key.
-- @tparam function make returns a value other than nil
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
