--- Answers requests for lists of models from the settings: the models that this client may call.

local core = require("apisix.core")
local errors = require("genai.openai.errors")
local offered_models = require("genai.openai.offered_models")
local ngx = ngx
local setmetatable = setmetatable

local _M = {}

-- Names by the list of backends, which stays the same until the configuration changes; false: the
-- settings of a backend do not list its deployments.
local known = setmetatable({}, { __mode = "k" })

local EMPTY = '{"object":"list","data":[]}'


local function names_of(pool)
    local names = known[pool.backends]
    if names == nil then
        names = offered_models.names(pool.backends) or false
        known[pool.backends] = names
    end
    return names
end


local function send(body)
    ngx.header["Content-Type"] = "application/json"
    return 200, body
end


--- Answers a request if it asks for models.
-- @tparam table record admitted
-- @treturn number|nil the status; nil: a backend must answer
-- @treturn nil|string|table the body
function _M.of(record)
    local target = record.target
    if target.operation ~= "models" and target.operation ~= "other" then
        return nil
    end
    local kind, wanted = offered_models.question(record.method, target.path)
    local names = kind and names_of(record.pool)
    if not names then
        return nil
    end

    local allowed = record.client and record.client.models
    if not wanted then
        local data = offered_models.list(kind, names, allowed)
        return send(data[1] and core.json.encode({ object = "list", data = data }) or EMPTY)
    end
    local one = offered_models.one(kind, names, allowed, wanted)
    if not one then
        return 404, errors.body(404, "There is no model of this name, or this client may not call"
                                     .. " it. GET /openai/v1/models lists those that it may call.",
                                errors.CODE.model_not_found)
    end
    return send(core.json.encode(one))
end


return _M
