--- Whether the gateway is what was rendered: what the manifest at the head of apisix.yaml names,
-- held against what workers say that they have loaded.

local concat = table.concat
local find = string.find
local ipairs = ipairs
local pairs = pairs
local sort = table.sort
local sub = string.sub
local tostring = tostring
local type = type

local _M = {}

local PREFIX = "# genai-gateway manifest: "

-- Of ten thousand clients that are missing, the first ones are enough to look for the reason.
local MAX_NAMED = 10

--- What a worker reports: each of these is loaded by itself, and so dropped by itself.
_M.RESOURCES = { "services", "routes", "consumers", "plugin_metadata", "secrets" }

_M.STALE = "apisix.yaml is not loaded as it is now (if that lasts, the error log says why);"
           .. " what was loaded before is still served"
_M.SAME_TIME = "apisix.yaml has changed with the time stamp that it had: APISIX does not see that,"
               .. " touch the file"
_M.NOTHING_LOADED = "apisix.yaml is not loaded: the error log says why"
_M.UNREADABLE = "apisix.yaml cannot be read"
_M.NO_MANIFEST = "apisix.yaml has no manifest, so nobody can say what should be loaded:"
                 .. " render it with genai-gateway"
_M.SILENT = "no report of what is loaded"
_M.BEHIND = "the last report is of another apisix.yaml than the one that is there"


--- The manifest, where a line of apisix.yaml is that.
-- @tparam string line
-- @tparam function decode gives a table, or nil for what is not JSON
-- @treturn table|nil `digest`, and `items`: lists of ids by resource
function _M.manifest(line, decode)
    if sub(line, 1, #PREFIX) ~= PREFIX then
        return nil
    end
    local manifest = decode(sub(line, #PREFIX + 1))
    if type(manifest) ~= "table" or type(manifest.items) ~= "table"
       or type(manifest.digest) ~= "string"
    then
        return nil
    end
    return manifest
end


--- Whether a line may stand before the manifest.
function _M.is_comment(line)
    return find(line, "^%s*#") ~= nil or find(line, "^%s*$") ~= nil
end


local function named(ids)
    local first = {}
    for i = 1, #ids do
        if i > MAX_NAMED then
            return concat(first, ", ") .. " and " .. (#ids - MAX_NAMED) .. " more"
        end
        first[i] = ids[i]
    end
    return concat(first, ", ")
end


-- Whether something of a resource is from another version of the file than the one that is there.
local function is_stale(version, loaded)
    for _, each in pairs(loaded) do
        if each.version ~= version then
            return true
        end
    end
    return false
end


local function is_anything_loaded(loaded)
    for _, each in pairs(loaded) do
        if each.version ~= 0 then
            return true
        end
    end
    return false
end


--- What keeps a worker from serving what was rendered.
-- @tparam table items lists of ids by resource, as in the manifest
-- @tparam any version of the file
-- @tparam table loaded by resource: `version` of the file it comes from, 0 for none, and `has`, a
--   table with an entry for each id that is loaded
-- @treturn table sentences; none when everything is there
-- @treturn boolean whether all that is loaded is of this version
function _M.item_problems(items, version, loaded)
    if is_stale(version, loaded) then
        return { is_anything_loaded(loaded) and _M.STALE or _M.NOTHING_LOADED }, false
    end

    local resources, problems = {}, {}
    for resource in pairs(items) do
        resources[#resources + 1] = resource
    end
    sort(resources)
    for _, resource in ipairs(resources) do
        local has = loaded[resource] and loaded[resource].has or {}
        local missing = {}
        for _, id in ipairs(items[resource]) do
            if not has[id] then
                missing[#missing + 1] = id
            end
        end
        if #missing > 0 then
            problems[#problems + 1] = resource .. " not loaded, the error log says why: "
                                      .. named(missing)
        end
    end
    return problems, true
end


--- Why there is no backend that could be sent a request, if so. One that is throttled or failing
-- could be, in a while.
-- @tparam table backends each with `name`, `weight`, and `problem`: why it has no credential
-- @treturn string|nil
function _M.backend_problem(backends)
    if #backends == 0 then
        return "no backend is loaded"
    end

    local reasons = {}
    for i, each in ipairs(backends) do
        local problem = each.weight <= 0 and "its weight is 0" or each.problem
        if not problem then
            return nil
        end
        reasons[i] = each.name .. " (" .. problem .. ")"
    end
    return "no backend has both a weight and a credential: " .. named(reasons)
end


local function about_workers(ids, count)
    if #ids == count then
        return ""
    end
    return (#ids == 1 and "worker " or "workers ") .. concat(ids, ", ") .. ": "
end


--- What keeps the gateway from being ready, over all workers.
-- @tparam table reports by the worker's number, from 0: `version` and `digest` of the file that it
--   looked at, `problems`, sentences, and `settled`, whether they are for good; nil where a worker
--   does not report
-- @tparam number count of workers
-- @tparam any version of the file that is there
-- @tparam string|nil digest of its manifest
-- @treturn table sentences; none when all is well
-- @treturn boolean whether they are for good: no worker is on its way to this file
function _M.reasons(reports, count, version, digest)
    local is_settled = true
    local order, workers = {}, {}
    local function note(problem, id)
        if not workers[problem] then
            workers[problem] = {}
            order[#order + 1] = problem
        end
        local ids = workers[problem]
        ids[#ids + 1] = tostring(id)
    end

    for id = 0, count - 1 do
        local report = reports[id]
        if not report then
            is_settled = false
            note(_M.SILENT, id)
        elseif report.version ~= version or report.digest ~= digest then
            is_settled = false
            note(_M.BEHIND, id)
        else
            is_settled = is_settled and report.settled
            for _, problem in ipairs(report.problems) do
                note(problem, id)
            end
        end
    end

    local reasons = {}
    for i, problem in ipairs(order) do
        reasons[i] = about_workers(workers[problem], count) .. problem
    end
    return reasons, is_settled
end


return _M
