--- The contract with APISIX. At start, the gateway checks the version and everything that the
-- modules of this folder rely on beyond the documented plugin interface (`contract_terms`). Where
-- something differs, the gateway is not ready (`gateway.readiness`), and the error log says why.
-- A module of this folder begins with `local need = contract.part("its name")`. This checks the
-- part, and the module gets everything it uses of APISIX from `need`. So a plugin still loads if a
-- module of APISIX is missing, and `/readyz` can report it.

local contract_terms = require("apisix_internals.contract_terms")
local concat = table.concat
local error = error
local find = string.find
local getinfo = debug.getinfo
local gmatch = string.gmatch
local gsub = string.gsub
local io_open = io.open
local ipairs = ipairs
local match = string.match
local ngx_log = ngx.log
local ERR = ngx.ERR
local WARN = ngx.WARN
local package = package
local pairs = pairs
local pcall = pcall
local require = require
local sort = table.sort
local tostring = tostring
local type = type

local _M = {}

local TESTED_VERSIONS = { "3.18.0" }

local TESTED = concat(TESTED_VERSIONS, " or ")

-- The path of the setting GATEWAY_ALLOW_UNTESTED_APISIX in config.yaml.
local ALLOW_PATH = "plugin_attr.azure-openai-proxy.allow_untested_apisix"

local MEMBERS = "core_members"

local problems = {}

local known = {}

-- State by part: `needs`, the function that `part` returns; `is_broken`; `is_open`.
local parts = {}

local listener

local is_version_checked = false


-- Adds a reason why this gateway is not ready, and logs it once in each process.
local function add(text)
    if known[text] then
        return
    end
    known[text] = true
    problems[#problems + 1] = text
    ngx_log(ERR, text)
    if listener then
        listener(problems)
    end
end


--- Adds a difference in APISIX that was found after the check at start.
-- @tparam string what a sentence without full stop, such as "nginx has no request line"
function _M.report(what)
    add("APISIX differs from what this gateway relies on: " .. what .. ". Use APISIX " .. TESTED)
end


local report = _M.report


--- The reasons why this gateway is not ready, in the order in which they were found.
-- @treturn table a list of texts; do not change it
function _M.problems()
    return problems
end


--- Calls `callback(problems)` now and whenever a problem is added.
function _M.listen(callback)
    listener = callback
    callback(problems)
end


local function member(value, path)
    for name in gmatch(path, "[^.]+") do
        if type(value) ~= "table" then
            return nil
        end
        value = value[name]
    end
    return value
end


-- Loads a module of APISIX. Returns nil and the reason if that fails.
local function loaded(name)
    local ok, module = pcall(require, name)
    if ok and type(module) == "table" then
        return module
    end
    local path = package.searchpath(name, package.path)
    if not path then
        return nil, "there is no module " .. name
    end
    local err = ok and "it returns no table" or match(tostring(module), "^[^\r\n]*")
    return nil, "the module " .. name .. " cannot be loaded: " .. err
end


local function sorted_names(map)
    local names = {}
    for name in pairs(map or {}) do
        names[#names + 1] = name
    end
    sort(names)
    return names
end


local function parameters(signature)
    local count, is_open = 0, false
    for name in gmatch(signature, "[^%s,]+") do
        if name == "..." then
            is_open = true
        else
            count = count + 1
        end
    end
    return count, is_open
end


local function counted(count, is_open)
    return is_open and count .. " or more" or tostring(count)
end


-- Describes how a function differs from the expected signature; nil if it matches.
local function shape_problem(value, module, name, signature)
    if type(value) ~= "function" then
        return module .. " has no function " .. name
    end
    local count, is_open = parameters(signature)
    local info = getinfo(value, "u")
    if info.nparams == count and info.isvararg == is_open then
        return nil
    end
    return "the function " .. name .. " of " .. module .. " takes "
           .. counted(info.nparams, info.isvararg)
           .. (info.nparams == 1 and not info.isvararg and " parameter" or " parameters")
           .. ", not " .. counted(count, is_open) .. " (" .. signature .. ")"
end


local function source_of(module)
    local path = package.searchpath(module, package.path)
    local file = path and io_open(path, "r")
    if not file then
        return nil
    end
    local text = file:read("*a")
    file:close()
    return text
end


-- Each check gets an entry of the terms, and calls `found` with a description of each difference.

local function check_functions(entry, functions, module, found)
    for _, name in ipairs(sorted_names(functions)) do
        local problem = shape_problem(member(module, name), entry.module, name, functions[name])
        if problem then
            found(problem)
        end
    end
end


local function check_fields(entry, module, found)
    for _, name in ipairs(sorted_names(entry.fields)) do
        if type(member(module, name)) ~= entry.fields[name] then
            found(entry.module .. " has no " .. entry.fields[name] .. " " .. name)
        end
    end
end


local function check_behaviour(entry, module, found)
    for _, name in ipairs(sorted_names(entry.behaviour)) do
        local ok, holds = pcall(entry.behaviour[name], module)
        if not ok or holds ~= true then
            found("in " .. entry.module .. ", this does not hold: " .. name)
        end
    end
end


local function check_symbols(entry, found)
    for _, name in ipairs(entry.symbols or {}) do
        local ok = pcall(function()
            return require("ffi").C[name]
        end)
        if not ok then
            found("nginx has no function " .. name)
        end
    end
end


local function check_mentions(entry, found)
    if not entry.mentions then
        return
    end
    local source = source_of(entry.module)
    if not source then
        return found("the source of " .. entry.module .. " cannot be read")
    end
    -- Most pieces of source are on one line; the source is normalized only if a piece is not found
    -- as it is.
    local on_one_line
    for _, text in ipairs(entry.mentions) do
        if not find(source, text, 1, true) then
            on_one_line = on_one_line or gsub(source, "%s+", " ")
            if not find(on_one_line, text, 1, true) then
                found("the source of " .. entry.module .. " does not contain: " .. text)
            end
        end
    end
end


-- Whether checking an entry requires loading its module, and not only reading its source.
local function is_used(entry)
    return entry.functions or entry.replaced or entry.fields or entry.behaviour or entry.symbols
end


-- Checks the terms of a part. Adds the modules of APISIX that they name to `modules`. Returns
-- whether the terms hold.
local function check(name, modules)
    local count = 0
    local function found(what)
        count = count + 1
        report(what)
    end
    for _, entry in ipairs(contract_terms[name]) do
        if is_used(entry) then
            local module, err = loaded(entry.module)
            if module then
                local before = count
                modules[entry.module] = module
                check_functions(entry, entry.functions, module, found)
                check_functions(entry, entry.replaced, module, found)
                check_fields(entry, module, found)
                check_symbols(entry, found)
                -- After another problem, this check would only report its consequence.
                if count == before then
                    check_behaviour(entry, module, found)
                end
            else
                found(err)
            end
        end
        check_mentions(entry, found)
    end
    return count == 0
end


local function is_untested_allowed()
    local core = loaded("apisix.core")
    local ok, conf = pcall(function()
        return core.config.local_conf()
    end)
    return ok and member(conf, ALLOW_PATH) == true
end


local function check_version()
    local version = member(loaded("apisix.core.version"), "VERSION")
    if type(version) ~= "string" then
        return report("apisix.core.version has no string VERSION")
    end
    for _, tested in ipairs(TESTED_VERSIONS) do
        if version == tested then
            return
        end
    end
    local text = "APISIX " .. version .. " is not one of the versions that this gateway was tested"
                 .. " with (" .. concat(TESTED_VERSIONS, ", ") .. ")"
    if is_untested_allowed() then
        ngx_log(WARN, text, ". It starts because GATEWAY_ALLOW_UNTESTED_APISIX=true")
    else
        add(text .. ". Use a tested version, or set GATEWAY_ALLOW_UNTESTED_APISIX=true to start"
            .. " anyway")
    end
end


--- Checks the terms of a part, once in each process.
-- @tparam string name of the part, which is a module in this folder
-- @treturn function `need(module, path)` returns a module of APISIX that the part's terms name, or
--   its member at a path such as "config.local_conf". If it is missing, `need` returns an empty
--   table for a module and nil for a member.
function _M.part(name)
    if not is_version_checked then
        is_version_checked = true
        check_version()
        _M.part(MEMBERS)
    end
    local part = parts[name]
    if not part then
        if not contract_terms[name] then
            error("no terms of the part " .. name)
        end
        local modules = {}
        part = {
            is_broken = not check(name, modules),
            needs = function(module, path)
                local found = modules[module] or {}
                if path then
                    return member(found, path)
                end
                return found
            end,
        }
        parts[name] = part
    end
    return part.needs
end


--- Opens a part: checks it, and applies its patches if its terms hold. Plugins call it from `init`.
-- A second call does nothing, even if APISIX has reloaded the plugins.
-- @tparam string name of a module in this folder
-- @param argument for the part's `install`, if it has one
function _M.open(name, argument)
    local module = require("apisix_internals." .. name)
    _M.part(name)
    local part = parts[name]
    if part.is_open then
        return
    end
    part.is_open = true
    if module.install and not part.is_broken then
        module.install(argument)
    end
end


return _M
