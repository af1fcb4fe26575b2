--- Shares one object among configurations with the same content. APISIX makes new configuration
-- tables for each route and at each change of its file. Objects made from them, such as a queue or
-- a pool of connections, are shared and survive the change.

local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }


--- A cache of objects by content.
-- @tparam function key_of returns a text that identifies a configuration's content
-- @tparam function make returns the object of a configuration, or nil and the error
-- @treturn table
function _M.new(key_of, make)
    return setmetatable({
        key_of = key_of,
        make = make,
        by_conf = setmetatable({}, { __mode = "k" }),
        by_key = setmetatable({}, { __mode = "v" }),
    }, mt)
end


--- The object of a configuration.
-- @tparam table conf
-- @treturn any
-- @treturn nil|string the error if it cannot be made
function _M:of(conf)
    local object = self.by_conf[conf]
    if object then
        return object
    end
    local key = self.key_of(conf)
    local err
    object = self.by_key[key]
    if not object then
        object, err = self.make(conf)
        self.by_key[key] = object
    end
    self.by_conf[conf] = object
    return object, err
end


return _M
