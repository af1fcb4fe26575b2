--- Compares what the gateway's own reader and APISIX's make of files:
-- luajit compare_yaml.lua FILE...
-- Runs in APISIX's image, from the root of the repository.

local HOME = "/usr/local/apisix"
package.path = table.concat({ "lua-plugins/?.lua", HOME .. "/deps/share/lua/5.1/?.lua",
                              HOME .. "/deps/share/lua/5.1/?/init.lua",
                              "/usr/local/openresty/lualib/?.lua", package.path }, ";")
package.cpath = table.concat({ HOME .. "/deps/lib/lua/5.1/?.so", "/usr/local/openresty/lualib/?.so",
                               package.cpath }, ";")

local cjson = require("cjson.safe").new()
local lyaml = require("lyaml")
local rendered_yaml = require("genai.util.rendered_yaml")

cjson.decode_invalid_numbers(false)


-- Where two values differ; nil: nowhere.
local function difference(a, b, path)
    if type(a) ~= "table" or type(b) ~= "table" then
        return (type(a) ~= type(b) or a ~= b) and path or nil
    end
    if getmetatable(a) ~= getmetatable(b) then
        return path .. ": another metatable"
    end
    for key, value in pairs(a) do
        local found = difference(value, b[key], path .. "/" .. tostring(key))
        if found then
            return found
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return path .. "/" .. tostring(key)
        end
    end
    return nil
end


for _, path in ipairs(arg) do
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    local ours = rendered_yaml.read(text, cjson.decode)
    local result = not ours and "not read" or difference(ours, lyaml.load(text), "/") or "same"
    print(path .. "\t" .. result)
end
