--- A list in the memory that all workers share. It only grows, to a limit, and has nothing twice.

local setmetatable = setmetatable

local _M = {}
local mt = { __index = _M }


--- @tparam table dict with get and add, as nginx's shared memory has
-- @tparam string name of the list in it
-- @tparam number limit of entries
function _M.new(dict, name, limit)
    return setmetatable({
        dict = dict,
        prefix = name .. "|",
        limit = limit,
        list = {},
        known = {},
    }, mt)
end


--- All entries, in the order in which they came; the same table each time, and not to be changed.
function _M:all()
    local list = self.list
    while #list < self.limit do
        local value = self.dict:get(self.prefix .. #list + 1)
        if value == nil then
            break
        end
        list[#list + 1] = value
        self.known[value] = true
    end
    return list
end


function _M:has(value)
    if self.known[value] then
        return true
    end
    self:all()
    return self.known[value] == true
end


--- Adds an entry, unless it is there.
-- @treturn boolean whether the list has it now
function _M:add(value)
    while not self:has(value) do
        if #self.list >= self.limit then
            return false
        end
        -- Where another worker was faster, what it added is looked at.
        local ok, err = self.dict:add(self.prefix .. #self.list + 1, value)
        if not ok and err ~= "exists" then
            return false
        end
    end
    return true
end


return _M
