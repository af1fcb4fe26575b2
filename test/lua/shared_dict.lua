--- nginx's shared memory as far as the modules use it, with a clock that tests set.

local _M = {}
local mt = { __index = _M }


--- @tparam number now milliseconds; tests move `dict.now` on
function _M.new(now)
    return setmetatable({ now = now, entries = {} }, mt)
end


function _M:get(key)
    local entry = self.entries[key]
    if entry and (not entry.till or self.now < entry.till) then
        return entry.value, entry.flags
    end
    return nil
end


function _M:set(key, value, seconds, flags)
    self.entries[key] = { value = value, till = seconds and self.now + seconds * 1000,
                          flags = flags ~= 0 and flags or nil }
    return true
end


function _M:add(key, value, seconds)
    if self:get(key) ~= nil then
        return false, "exists"
    end
    return self:set(key, value, seconds)
end


function _M:safe_set(...)
    if self.is_full then
        return nil, "no memory"
    end
    return self:set(...)
end


function _M:safe_add(...)
    if self.is_full then
        return nil, "no memory"
    end
    return self:add(...)
end


function _M:incr(key, by, init, init_seconds)
    local value = self:get(key)
    if value then
        self.entries[key].value = value + by
        return value + by
    elseif not init then
        return nil, "not found"
    end
    self:set(key, init + by, init_seconds)
    return init + by
end


function _M:delete(key)
    self.entries[key] = nil
end


--- Seconds that an entry has left; 0: it does not expire.
function _M:ttl(key)
    if self:get(key) == nil then
        return nil, "not found"
    end
    local till = self.entries[key].till
    return till and (till - self.now) / 1000 or 0
end


function _M:expire(key, seconds)
    if self:get(key) == nil then
        return nil, "not found"
    end
    self.entries[key].till = self.now + seconds * 1000
    return true
end


return _M
