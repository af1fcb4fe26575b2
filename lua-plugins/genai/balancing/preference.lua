--- An order of backends that a request sets: reads it, writes it as text, orders backends by it.

local concat = table.concat
local floor = math.floor
local gmatch = string.gmatch
local gsub = string.gsub
local ipairs = ipairs
local lower = string.lower
local match = string.match
local next = next
local pairs = pairs
local sub = string.sub
local tonumber = tonumber
local type = type

local _M = {}

--- How long an order lasts, in seconds, as in API Management's toolkit.
_M.LASTS_S = 12000

-- More names than any gateway has backends.
local MAX_NAMES = 1000

local MAX_NAME = 256

local SHAPE = 'The body has to be a JSON object with a list of names of backends, such as'
              .. ' {"preferredBackends": ["name-1", "name-2"]}.'


local function is_list(value)
    local count = 0
    for _ in pairs(value) do
        count = count + 1
    end
    return count == #value
end


-- Endpoints are the same with and without a slash at their end.
local function simplified(name)
    return (gsub(lower(name), "/+$", ""))
end


--- Reads the order in a request's body.
-- @tparam any body decoded JSON: `preferredBackends`, or `preferred_backends`
-- @tparam table backends each with `name` and `endpoint`; a request may use either, in any case
-- @treturn table|nil names, each once; empty: the usual order
-- @treturn nil|string why the body is rejected: sentences for the client
-- @treturn nil|boolean true: because there is no such backend
function _M.read(body, backends)
    local list = type(body) == "table" and (body.preferredBackends or body.preferred_backends)
    if type(list) ~= "table" or not is_list(list) or #list > MAX_NAMES then
        return nil, SHAPE
    end

    local known = {}
    for _, each in ipairs(backends) do
        known[simplified(each.endpoint)] = known[simplified(each.endpoint)] or each.name
    end
    for _, each in ipairs(backends) do
        known[lower(each.name)] = each.name
    end
    local names, is_there = {}, {}
    for _, each in ipairs(list) do
        if type(each) ~= "string" or each == "" then
            return nil, SHAPE
        end
        local name = known[lower(each)] or known[simplified(each)]
        if not name then
            return nil, "There is no backend with the name " .. sub(each, 1, MAX_NAME) .. ".", true
        elseif not is_there[name] then
            is_there[name] = true
            names[#names + 1] = name
        end
    end
    return names
end


--- The text of an order.
-- @tparam table names
-- @tparam number now milliseconds since the epoch
function _M.text(names, now)
    return floor(now) .. "\n" .. concat(names, "\n")
end


--- Reads such a text.
-- @tparam string|nil text
-- @treturn number when the order was set, in milliseconds since the epoch; 0: no order
-- @treturn table|nil names
function _M.parse(text)
    local at, rest = match(text or "", "^(%d+)\n(.*)$")
    if not at then
        return 0
    end
    local names = {}
    for name in gmatch(rest, "[^\n]+") do
        names[#names + 1] = name
    end
    return tonumber(at), names
end


--- The seconds for which an order still lasts; at least 1.
-- @tparam number at when it was set, in milliseconds since the epoch
-- @tparam number now the same
function _M.left_s(at, now)
    local left = _M.LASTS_S - floor((now - at) / 1000)
    return left < 1 and 1 or left > _M.LASTS_S and _M.LASTS_S or left
end


--- Tiers with the preferred backends first, each alone, whatever its priority.
-- @tparam table tiers as `picking.tiers` returns them
-- @tparam table names
-- @treturn table the same tiers if none of their backends is preferred
function _M.tiers(tiers, names)
    local by_name = {}
    for _, tier in ipairs(tiers) do
        for _, each in ipairs(tier) do
            by_name[each.name] = each
        end
    end

    local ordered, is_taken = {}, {}
    for _, name in ipairs(names) do
        local backend = by_name[name]
        if backend and not is_taken[backend] then
            is_taken[backend] = true
            ordered[#ordered + 1] = { backend }
        end
    end
    if not next(is_taken) then
        return tiers
    end
    for _, tier in ipairs(tiers) do
        local rest = {}
        for _, each in ipairs(tier) do
            if not is_taken[each] then
                rest[#rest + 1] = each
            end
        end
        if rest[1] then
            ordered[#ordered + 1] = rest
        end
    end
    return ordered
end


return _M
