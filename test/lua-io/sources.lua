--- The sources of the product, for tests that read them.

local gmatch = string.gmatch
local gsub = string.gsub
local io_open = io.open
local io_popen = io.popen
local match = string.match
local searchpath = package.searchpath

local _M = {}


local function read(path)
    local file = io_open(path, "r")
    local text = file:read("*a")
    file:close()
    return text
end


--- All modules, in the order of their names.
-- @treturn table a list of `name`, as `require` takes it, `last`, the last segment of that, `folder`
--   (its first segment), and `code`, its source without comments
function _M.all()
    local root = match(searchpath("gateway.metrics", package.path), "^(.*)/gateway/metrics%.lua$")
    local list = {}
    local listing = io_popen("find '" .. root .. "' -name '*.lua' | LC_ALL=C sort")
    for path in listing:lines() do
        local name = gsub(match(path, "^.*/lua%-plugins/(.*)%.lua$"), "/", ".")
        list[#list + 1] = {
            name = name,
            last = match(name, "[^.]+$"),
            folder = match(name, "^[^.]+"),
            code = gsub(read(path), "%-%-[^\n]*", ""),
        }
    end
    listing:close()
    return list
end


--- The modules that a module requires by a literal name.
-- @treturn table a list of `name`, and `variable`, the local variable that it is assigned to, or nil
function _M.requires(module)
    local list = module.requires
    if list then
        return list
    end
    list = {}
    module.requires = list
    for before, name in gmatch("\n" .. module.code, '([^\n]*)require%("([^"]+)"%)') do
        list[#list + 1] = { name = name, variable = match(before, "^local ([%w_]+) = $") }
    end
    return list
end


--- Whether a module is one of the product.
function _M.is_ours(name)
    return match(name, "^genai%.") or match(name, "^gateway%.") or match(name, "^apisix_internals%.")
           or match(name, "^apisix%.plugins%.azure%-openai") or match(name, "^apisix%.plugins%.apim%-")
           or match(name, "^apisix%.secret%.file$")
end


return _M
