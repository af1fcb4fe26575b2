--- The models that a client may call, from the settings of the backends.

local find = string.find
local lower = string.lower
local ipairs = ipairs
local pairs = pairs
local sort = table.sort
local sub = string.sub

local model_lists = require("genai.openai.model_lists")
local paths = require("genai.openai.paths")

local _M = {}

local OWNER = "azure-openai"

local READS = { GET = true, HEAD = true }

-- The paths of lists, and their kind. The path of a single model is one level below.
local LISTS = {
    { path = "/openai/v1/models", kind = "model" },
    { path = "/openai/models", kind = "model" },
    { path = "/openai/deployments", kind = "deployment" },
}


local function names_of(backends)
    -- By name in lower case: Azure ignores case, and backends may write the same name differently.
    local by_name = {}
    for _, backend in ipairs(backends) do
        if not backend.deployments then
            return nil
        end
        for name in pairs(backend.deployments) do
            local key = lower(name)
            local known = by_name[key]
            -- Each name is known as declared and in lower case.
            if not known or known == key or name ~= key and name < known then
                by_name[key] = name
            end
        end
    end
    local names = {}
    for _, name in pairs(by_name) do
        names[#names + 1] = name
    end
    sort(names)
    return names
end


--- The names of all deployments.
-- @tparam table backends each with `weight`, and `deployments` as `picking.in_any_case` returns
-- @treturn table|nil in order; nil: a backend has no list of deployments, so only that backend
--   knows them
function _M.names(backends)
    local serving = {}
    for _, backend in ipairs(backends) do
        -- A drained backend gets no new requests.
        if backend.weight > 0 then
            serving[#serving + 1] = backend
        end
    end
    return names_of(serving[1] and serving or backends)
end


--- The question of a request about available models.
-- @tparam string method
-- @tparam string path the normal form
-- @treturn string|nil "model" or "deployment"; nil: it is about something else
-- @treturn nil|string the name, if the request asks for a single model
function _M.question(method, path)
    if not READS[method] then
        return nil
    end
    for _, list in ipairs(LISTS) do
        local length = #list.path
        if sub(path, 1, length) == list.path then
            local rest = sub(path, length + 1)
            if rest == "" or rest == "/" then
                return list.kind
            elseif sub(rest, 1, 1) == "/" and not find(rest, "/", 2, true) then
                return list.kind, paths.decoded(sub(rest, 2))
            end
        end
    end
    return nil
end


-- The descriptions of a model in Azure's form, and of a deployment in the API that had them. The
-- settings contain no dates.
local DESCRIBE = {
    model = function(name)
        return { id = name, object = "model", created = 0, owned_by = OWNER }
    end,
    deployment = function(name)
        return { id = name, object = "deployment", model = name, owner = OWNER,
                 status = "succeeded", created_at = 0, updated_at = 0,
                 scale_settings = { scale_type = "standard" } }
    end,
}


--- The list for a client.
-- @tparam string kind as `question` returns it
-- @tparam table names of all
-- @tparam table|nil allowed the client's list; nil: all
-- @treturn table list of descriptions
function _M.list(kind, names, allowed)
    local data = {}
    for _, name in ipairs(names) do
        if not allowed or model_lists.is_allowed(allowed, name) then
            data[#data + 1] = DESCRIBE[kind](name)
        end
    end
    return data
end


--- A single model.
-- @tparam string kind
-- @tparam table names of all
-- @tparam table|nil allowed
-- @tparam string wanted in any case
-- @treturn table|nil its description; nil: the client may not call it, or it does not exist
function _M.one(kind, names, allowed, wanted)
    if allowed and not model_lists.is_allowed(allowed, wanted) then
        return nil
    end
    for _, name in ipairs(names) do
        if lower(name) == lower(wanted) then
            return DESCRIBE[kind](name)
        end
    end
    return nil
end


return _M
