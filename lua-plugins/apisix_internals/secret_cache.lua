--- Caches the resolved secret references of a configuration for a second, and copies only those
-- parts of a configuration that contain references.
-- APISIX searches each plugin's configuration for references and resolves them in every request.
-- With 1,000 backends that takes 10 ms of CPU, fifty times the rest of a request. After a change it
-- copies the whole configuration and builds a path for each member, which blocks the worker's other
-- requests.

local contract = require("apisix_internals.contract")
local getmetatable = getmetatable
local ipairs = ipairs
local lower = string.lower
local ngx_now = ngx.now
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local type = type

local need = contract.part("secret_cache")
local secret = need("apisix.secret")
local is_secret_ref = need("apisix.secret", "is_secret_ref")

local _M = {}

-- The prefix of a reference to an environment variable, in any case.
local VARIABLE = "$env://"

-- Keys in files are followed by `backend_keys`, so this cache does not delay their rotation.
local KEPT_S = 1


local function is_same(a, b)
    for reference, value in pairs(a) do
        if b[reference] ~= value then
            return false
        end
    end
    for reference in pairs(b) do
        if a[reference] == nil then
            return false
        end
    end
    return true
end


-- Sorts the references of a configuration into those to environment variables, which never change,
-- and the others.
local function sort_references(conf, variables, others, seen)
    if seen[conf] then
        return
    end
    seen[conf] = true
    for _, value in pairs(conf) do
        if type(value) == "table" then
            sort_references(value, variables, others, seen)
        elseif is_secret_ref(value) then
            local is_variable = lower(sub(value, 1, #VARIABLE)) == VARIABLE
            local list = is_variable and variables or others
            list[#list + 1] = value
        end
    end
end


-- Resolves each variable once. APISIX's cache holds 512 references, so APISIX would resolve those
-- of 1,000 backends in each request.
local function of_variables(collect)
    local known = {}
    return function(references)
        local values = {}
        for _, reference in ipairs(references) do
            local value = known[reference]
            if value == nil then
                value = collect({ reference }, true)[reference]
                known[reference] = value
            end
            values[reference] = value
        end
        return values
    end
end


-- Returns the same table until a value changes, because APISIX compares tables in each request.
local function kept(collect, known)
    local values_of = of_variables(collect)

    local function collected(entry)
        if not entry.others[1] then
            return entry.variables
        end
        local values = collect(entry.others, true)
        for reference, value in pairs(entry.variables) do
            values[reference] = value
        end
        return values
    end

    return function(conf, use_cache)
        if type(conf) ~= "table" or not use_cache then
            return collect(conf, use_cache)
        end
        local entry, now = known[conf], ngx_now()
        if not entry then
            local variables, others = {}, {}
            sort_references(conf, variables, others, {})
            entry = { variables = values_of(variables), others = others, till = now + KEPT_S }
            local values = collected(entry)
            entry.values = values
            known[conf] = entry
        elseif now >= entry.till then
            local values = collected(entry)
            if not is_same(values, entry.values) then
                entry.values = values
            end
            entry.till = now + KEPT_S
        end
        return entry.values
    end
end


local function shallow_copy(original)
    local copy = {}
    for key, value in pairs(original) do
        copy[key] = value
    end
    return setmetatable(copy, getmetatable(original))
end


-- A copy with values in place of references. Parts without references are shared with the original.
local function with_values(original, values, found)
    if found[original] then
        return found[original]
    end
    found[original] = original
    local copy
    for key, value in pairs(original) do
        local other = value
        if type(value) == "table" then
            other = with_values(value, values, found)
        elseif is_secret_ref(value) then
            other = values[value]
            found.is_value_missing = found.is_value_missing or other == nil
        end
        if other ~= value then
            copy = copy or shallow_copy(original)
            copy[key] = other
        end
    end
    found[original] = copy or original
    return found[original]
end


-- APISIX requests a copy right after it has collected the values. If a value is missing, APISIX
-- makes the copy itself and logs the missing reference.
local function resolved(fetch, known)
    return function(conf, use_cache)
        local entry = use_cache and known[conf]
        local found = {}
        local copy = entry and ngx_now() < entry.till and with_values(conf, entry.values, found)
        if not copy or found.is_value_missing then
            return fetch(conf, use_cache)
        end
        return copy
    end
end


-- APISIX replaces configurations and never changes them, so a result can be kept for each one.
local function remembered(has_reference)
    local known = setmetatable({}, { __mode = "k" })
    return function(conf)
        if type(conf) ~= "table" then
            return has_reference(conf)
        end
        local answer = known[conf]
        if answer == nil then
            answer = has_reference(conf)
            known[conf] = answer
        end
        return answer
    end
end


--- Replaces APISIX's functions. `contract.open` calls it once in each process.
function _M.install()
    local known = setmetatable({}, { __mode = "k" })
    secret.collect_secret_values = kept(secret.collect_secret_values, known)
    secret.fetch_secrets = resolved(secret.fetch_secrets, known)
    secret.has_secret_ref = remembered(secret.has_secret_ref)
end


return _M
