--- Compares the loaded configuration with the rendered one: the manifest at the head of apisix.yaml
-- with the workers' reports.

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

-- Of many missing items, the first ones are enough to find the reason.
local MAX_NAMED = 10

--- The resources in a worker's report. APISIX loads and drops the items of each separately.
_M.RESOURCES = { "services", "routes", "plugin_metadata", "secrets" }

_M.STALE = "the current apisix.yaml is not loaded (if that lasts, see the error log);"
           .. " the gateway still serves the one loaded before"
_M.SAME_TIME = "apisix.yaml has changed, but its time stamp has not, so APISIX does not notice:"
               .. " touch the file"
_M.NOTHING_LOADED = "apisix.yaml is not loaded: see the error log"
_M.UNREADABLE = "apisix.yaml cannot be read"
_M.NO_MANIFEST = "apisix.yaml has no manifest, so the gateway does not know what it should load:"
                 .. " render the file with genai-gateway"
_M.SILENT = "no recent report of which items are loaded"
_M.BEHIND = "the last report is about another version of apisix.yaml"


--- Reads the manifest from a line of apisix.yaml; nil: the line has none.
-- @tparam string line
-- @tparam function decode returns a table, or nil on invalid JSON
-- @treturn table|nil `digest`; `items`: lists of ids by resource; `clients`, if there are any:
--   their `count`, and the `digest` of their lines
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
    local clients = manifest.clients
    if clients ~= nil and (type(clients) ~= "table" or type(clients.count) ~= "number"
                           or type(clients.digest) ~= "string")
    then
        return nil
    end
    return manifest
end


--- Whether a line may come before the manifest.
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


--- Whether lines with clients match the manifest.
-- @tparam table|nil clients of the manifest
-- @tparam table list with `digest` of the lines
function _M.has_digest(clients, list)
    return clients ~= nil and list.digest == clients.digest
end


--- Why the loaded clients differ from those that the compiler wrote.
-- @tparam table|nil clients of the manifest
-- @tparam table list as `client_lines.read` returns it, with `digest` of the lines
-- @treturn string|nil a sentence
function _M.client_problem(clients, list)
    if #list.invalid > 0 then
        local names = {}
        for i, each in ipairs(list.invalid) do
            names[i] = each.name
        end
        return "clients not loaded, see the error log: " .. named(names)
    end
    local count = clients and clients.count or 0
    if count ~= list.count then
        return "apisix.yaml has " .. list.count .. " clients, but its manifest counts " .. count
               .. ": render the file with genai-gateway"
    elseif clients and not _M.has_digest(clients, list) then
        return "clients in apisix.yaml were changed after it was rendered: render the file with"
               .. " genai-gateway"
    end
    return nil
end


-- Whether any resource was loaded from another version of the file than the current one.
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


--- The problems that keep a worker from serving the rendered configuration.
-- @tparam table items lists of ids by resource, as in the manifest
-- @tparam any version of the file
-- @tparam table loaded by resource: `version` of its file, 0 for none, and `has`, a table with an
--   entry for each loaded id
-- @treturn table sentences; empty: everything is loaded
-- @treturn boolean whether everything loaded is of this version
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
            problems[#problems + 1] = resource .. " not loaded, see the error log: "
                                      .. named(missing)
        end
    end
    return problems, true
end


--- Why no backend can be sent a request, if none can. A throttled or failing backend counts as
-- usable.
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


-- The reports of all processes about APISIX, without duplicates.
local function contract_reasons(reports, count, agent_contract)
    local reasons, known = {}, {}
    local function add(list)
        for _, reason in ipairs(list or {}) do
            if not known[reason] then
                known[reason] = true
                reasons[#reasons + 1] = reason
            end
        end
    end
    for id = 0, count - 1 do
        add(reports[id] and reports[id].contract)
    end
    add(agent_contract)
    return reasons
end


--- The reasons why the gateway is not ready, over all processes.
-- @tparam table reports by worker number, from 0: `version` and `digest` of the file that it
--   checked; `problems`, sentences; `settled`, whether they are final; `contract`, sentences about
--   APISIX; nil: the worker does not report
-- @tparam number count of workers
-- @tparam any version of the current file
-- @tparam string|nil digest of its manifest
-- @tparam table|nil agent_contract the privileged agent's sentences about APISIX
-- @treturn table sentences, those about APISIX first; empty: ready
-- @treturn boolean whether the problems of at least one worker are final: a gateway that was ready
--   then becomes unready at once
function _M.reasons(reports, count, version, digest, agent_contract)
    local is_settled = true
    local reasons = contract_reasons(reports, count, agent_contract)
    local is_broken = #reasons > 0
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
            -- Workers that have not loaded the file yet will find the same problems.
            is_broken = is_broken or report.settled and #report.problems > 0
            for _, problem in ipairs(report.problems) do
                note(problem, id)
            end
        end
    end

    for _, problem in ipairs(order) do
        reasons[#reasons + 1] = about_workers(workers[problem], count) .. problem
    end
    return reasons, is_settled or is_broken
end


return _M
