--- Writes JSON: members in the order of their names, so that texts can be compared.

local concat = table.concat
local floor = math.floor
local format = string.format
local gsub = string.gsub
local ipairs = ipairs
local json = require("json")
local pairs = pairs
local sort = table.sort
local tostring = tostring
local type = type

local _M = {}

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }


local function quoted(text)
    return '"' .. gsub(text, '[%c"\\]', function(each)
        return ESCAPES[each] or format("\\u%04x", each:byte())
    end) .. '"'
end


--- The JSON of a value. An empty table is an object.
-- @treturn string|nil nil: it holds what JSON does not have
function _M.encode(value)
    local kind = type(value)
    if value == json.null then
        return "null"
    elseif kind == "string" then
        return quoted(value)
    elseif kind == "boolean" then
        return tostring(value)
    elseif kind == "number" then
        return value == floor(value) and format("%.0f", value) or format("%.14g", value)
    elseif kind ~= "table" then
        return nil
    end

    local parts = {}
    if #value > 0 then
        for i, each in ipairs(value) do
            parts[i] = _M.encode(each)
        end
        return "[" .. concat(parts, ",") .. "]"
    end
    local names = {}
    for name in pairs(value) do
        names[#names + 1] = tostring(name)
    end
    sort(names)
    for i, name in ipairs(names) do
        parts[i] = quoted(name) .. ":" .. (_M.encode(value[name]) or "null")
    end
    return "{" .. concat(parts, ",") .. "}"
end


return _M
