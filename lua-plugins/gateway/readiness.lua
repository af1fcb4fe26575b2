--- Answers `/healthz` and `/readyz`. Each worker reports in shared memory what it has loaded, and
-- how APISIX differs from what the gateway relies on. The worker that answers combines the reports.
-- This module depends on no item of apisix.yaml.

local client_index = require("gateway.credentials.client_index")
local clone = require("table.clone")
local contract = require("apisix_internals.contract")
local core = require("apisix.core")
local entra_tokens = require("gateway.credentials.entra_tokens")
local errors = require("genai.openai.errors")
local loaded_config = require("apisix_internals.loaded_config")
local pools = require("gateway.backends.pools")
local process = require("ngx.process")
local readiness_rules = require("genai.readiness_rules")
local rendered_file = require("gateway.mechanisms.rendered_file")
local secret_files = require("gateway.credentials.secret_files")
local secrets = require("apisix_internals.secrets")
local shared_keys = require("genai.util.shared_keys")
local shared_memory = require("gateway.mechanisms.shared_memory")
local ngx = ngx
local is_exiting = ngx.worker.exiting
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local worker_count = ngx.worker.count
local worker_id = ngx.worker.id
local concat = table.concat
local error = error
local ipairs = ipairs
local os_date = os.date
local pairs = pairs
local pcall = pcall
local tostring = tostring
local type = type

local _M = {}

local REPORT_S = 1

-- A worker that has not reported for this time counts as unable to serve.
local SILENT_S = 15

-- A ready gateway stays ready for this time while workers load a new file: the file reaches them
-- within two seconds and takes some to load. A worker that replaces a crashed one begins with the
-- file of the start.
local GRACE_S = 10

local READY = shared_keys.READY

-- The key of the privileged agent's report. The agent serves no requests and has no worker number.
local AGENT = shared_keys.WORKER_REPORT .. "agent"

local state = shared_memory.state

local is_started = false

-- The result of the last comparison with the file.
local compared = {}


local function report_key(id)
    return shared_keys.WORKER_REPORT .. id
end


-- The items that this worker has loaded, by resource; and a text that changes when they change.
local function loaded_items(items)
    local loaded, versions = {}, {}
    local function add(resource)
        local items_of = loaded_config.items(resource)
        if items_of and not loaded[resource] then
            loaded[resource] = { version = items_of.version, has = items_of.by_id }
            versions[#versions + 1] = resource .. tostring(items_of.version)
        end
    end
    for _, resource in ipairs(readiness_rules.RESOURCES) do
        add(resource)
    end
    for resource in pairs(items) do
        add(resource)
    end
    return loaded, concat(versions, "|")
end


-- The items that are missing. They are searched only after a change.
local function item_problems(file)
    local items = file.manifest.items
    local loaded, versions = loaded_items(items)
    if compared.manifest ~= file.manifest or compared.file_version ~= file.version
       or compared.versions ~= versions
    then
        local problems, is_settled = readiness_rules.item_problems(items, file.version, loaded)
        -- APISIX distinguishes files by the second of their time. A file that replaces the loaded
        -- one within the same second is never read.
        if is_settled and compared.is_settled and compared.file_version == file.version
           and compared.manifest.digest ~= file.manifest.digest
        then
            return { readiness_rules.SAME_TIME }, true
        end
        compared = {
            manifest = file.manifest,
            file_version = file.version,
            versions = versions,
            problems = problems,
            is_settled = is_settled,
        }
    end
    return compared.problems, compared.is_settled
end


local function resolved_auth(auth)
    local copy = {}
    for kind, values in pairs(auth) do
        copy[kind] = {}
        for name, value in pairs(values) do
            copy[kind][name] = secrets.resolved_silently(value)
        end
    end
    return copy
end


local function credential_problem(instance, details)
    if not pools.endpoint_of(instance) then
        return "its endpoint is not usable"
    end
    if details and details.key_setting then
        return not secret_files.value(details.key_setting)
               and "the file of " .. details.key_setting .. " has no key" or nil
    end
    return pools.credential_problem(resolved_auth(instance.auth or {}), details)
           or details and details.identity and entra_tokens.problem(details.identity)
end


-- Appends the loaded backends of services and routes, up to the first usable one: one is enough,
-- and examining a thousand takes 10 ms.
local function backends_of(resource, backends)
    local items = loaded_config.items(resource)
    for _, item in ipairs(items and items.list or {}) do
        local plugins = type(item) == "table" and item.value.plugins or {}
        local proxy, pool = plugins["azure-openai-proxy"], plugins["ai-proxy-multi"]
        if proxy and pool then
            local details = pools.details_of(proxy)
            for _, instance in ipairs(pool.instances) do
                local problem = credential_problem(instance, details[instance.name])
                backends[#backends + 1] = {
                    name = instance.name,
                    weight = instance.weight,
                    problem = problem,
                }
                if instance.weight > 0 and not problem then
                    return backends
                end
            end
        end
    end
    return backends
end


-- The problems of this worker, and whether they are final: no other file is being loaded.
local function problems_of(file)
    if not file.version then
        return { readiness_rules.UNREADABLE }, false
    end
    if not file.manifest then
        -- APISIX loads a file even if it has no manifest.
        local _, is_loaded = readiness_rules.item_problems({}, file.version, (loaded_items({})))
        return { readiness_rules.NO_MANIFEST }, is_loaded
    end
    local found, is_settled = item_problems(file)
    local problems = clone(found)
    if is_settled then
        local problem, is_coming = client_index.problem(file)
        problems[#problems + 1] = problem
        is_settled = not is_coming
    end
    problems[#problems + 1] = readiness_rules.backend_problem(backends_of("routes",
                                                                    backends_of("services", {})))
    return problems, is_settled
end


-- Reports in shared memory what this worker serves. A worker that is shutting down has a successor
-- with the same number, and must not overwrite its report.
local function report(file)
    if is_exiting() then
        return
    end
    local ok, problems, is_settled = pcall(problems_of, file)
    if not ok then
        if #contract.problems() == 0 then
            error(problems, 0)
        end
        -- With an unexpected APISIX, the loaded items cannot be determined.
        problems, is_settled = {}, true
    end
    local text = core.json.encode({
        version = file.version,
        digest = file.manifest and file.manifest.digest,
        problems = problems,
        settled = is_settled,
        contract = contract.problems(),
    })
    local err
    ok, err = state:set(report_key(worker_id()), text, SILENT_S)
    if not ok then
        core.log.error("this worker's readiness report cannot be stored in the shared memory: ",
                       err)
    end
end


-- The report of the privileged agent, which contains only differences in APISIX.
local function report_of_agent(problems)
    if #problems == 0 then
        -- A previous agent may have left a report.
        state:delete(AGENT)
        return
    end
    local ok, err = state:set(AGENT, core.json.encode({ contract = problems }))
    if not ok then
        core.log.error("the privileged agent's readiness report cannot be stored in the shared"
                       .. " memory: ", err)
    end
end


local function report_at(key)
    local text = state:get(key)
    return text and core.json.decode(text) or nil
end


-- Whether the gateway is ready, and the reasons if not.
local function judge(file)
    local reports, count = {}, worker_count()
    for id = 0, count - 1 do
        reports[id] = report_at(report_key(id))
    end
    local agent = report_at(AGENT)
    local reasons, is_settled = readiness_rules.reasons(reports, count, file.version,
                                                        file.manifest and file.manifest.digest,
                                                        agent and agent.contract)
    if #reasons == 0 then
        state:set(READY, true, GRACE_S)
        return true, reasons
    end
    return not is_settled and state:get(READY) == true, reasons
end


local function look()
    local file = rendered_file.look()
    report(file)
    local is_ready, reasons = judge(file)
    return is_ready, reasons, file
end


local function tick(premature)
    if premature then
        return
    end
    local ok, err = pcall(look)
    if not ok then
        core.log.error("this worker failed to report its readiness: ", err)
    end
end


--- Starts reporting; called once in each process.
function _M.start()
    if is_started then
        return
    end
    if process.type() == "privileged agent" then
        is_started = true
        contract.listen(report_of_agent)
        return
    end
    -- The first report follows as soon as everything is loaded, then one at each interval.
    local ok, err = timer_at(0, tick)
    if ok then
        ok, err = timer_every(REPORT_S, tick)
    end
    if not ok then
        core.log.error("this worker does not report its readiness, because it cannot start"
                       .. " a timer: ", err)
        return
    end
    is_started = true
end


local function answer(status, body)
    local text = core.json.encode(body)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Content-Length"] = #text
    ngx.header["Cache-Control"] = "no-store"
    ngx.print(text)
end


local function healthz()
    answer(200, { status = "alive" })
end


local function readyz(with_reasons)
    local is_ready, reasons, file = look()
    local status = is_ready and "ready" or "not ready"
    if not with_reasons then
        return answer(is_ready and 200 or 503, { status = status })
    end
    answer(is_ready and 200 or 503, {
        status = status,
        workers = worker_count(),
        -- The time at which the current file was written.
        configuration = file.version and os_date("!%Y-%m-%dT%H:%M:%SZ", file.version),
        reasons = #reasons > 0 and reasons or nil,
    })
end


local ANSWERS = { ["/healthz"] = healthz, ["/readyz"] = readyz }


--- Content handler of both paths, and of all other paths on the probe port.
-- @tparam boolean|nil with_reasons true only on that port, because reasons name clients and
--   backends
function _M.handle(with_reasons)
    local handler = ANSWERS[ngx.var.uri]
    if not handler then
        return answer(404, errors.body(404, "There is nothing at this path but /healthz and"
                                            .. " /readyz."))
    end
    local method = ngx.req.get_method()
    if method ~= "GET" and method ~= "HEAD" then
        ngx.header["Allow"] = "GET, HEAD"
        return answer(405, errors.body(405, "This path answers GET and HEAD only."))
    end
    return handler(with_reasons)
end


return _M
