--- Answers `/healthz` and `/readyz`. Each worker says in shared memory what it has loaded; the one
-- that is asked adds that up. Nothing here depends on any item of apisix.yaml.

local core = require("apisix.core")
local profile = require("apisix.core.profile")
local secret = require("apisix.secret")
local secret_files = require("apisix.secret.file")
local identities = require("apisix.plugins.azure-openai-proxy.identity")
local pools = require("apisix.plugins.azure-openai-proxy.pool")
local errors = require("genai.errors")
local readiness = require("genai.readiness")
local lfs = require("lfs")
local process = require("ngx.process")
local ngx = ngx
local is_exiting = ngx.worker.exiting
local timer_at = ngx.timer.at
local timer_every = ngx.timer.every
local worker_count = ngx.worker.count
local worker_id = ngx.worker.id
local concat = table.concat
local io_open = io.open
local ipairs = ipairs
local os_date = os.date
local pairs = pairs
local pcall = pcall
local tostring = tostring
local type = type

local _M = {}

local REPORT_S = 1

-- A worker of which nothing was heard for so long serves nobody. One that loads a file of 10,000
-- clients says nothing for some seconds.
local SILENT_S = 15

-- What was ready stays so while workers are on their way to a new file, which reaches them within
-- two seconds and takes some to load. A worker that crashed is replaced by one that begins with the
-- file of the start.
local GRACE_S = 10

local READY = "readiness|ready"

local path = profile:yaml_path("apisix")

local dict = ngx.shared["genai-gateway-state"]

local is_started = false

-- The file as it was seen last, and what the comparison with it came to.
local seen = {}
local compared = {}


local function report_key(id)
    return "readiness|worker|" .. id
end


-- The manifest stands among the comments at the head.
local function read_manifest()
    local file = io_open(path, "r")
    if not file then
        return nil
    end
    local manifest
    for line in file:lines() do
        manifest = readiness.manifest(line, core.json.decode)
        if manifest or not readiness.is_comment(line) then
            break
        end
    end
    file:close()
    return manifest
end


-- The file that is there now: the time by which APISIX tells versions of it apart, and its
-- manifest.
local function look_at_file()
    local found = lfs.attributes(path)
    if not found then
        return {}
    end
    local mark = concat({ found.modification, found.change, found.size, found.ino }, "|")
    if seen.mark ~= mark then
        seen = { mark = mark, version = found.modification, manifest = read_manifest() }
    end
    return seen
end


-- What this worker has loaded, by resource; and a text that is another one when that has changed.
local function loaded_items(items)
    local loaded, versions = {}, {}
    local function add(resource)
        local object = core.config.fetch_created_obj("/" .. resource)
        if object and not loaded[resource] then
            loaded[resource] = { version = object.conf_version, has = object.values_hash }
            versions[#versions + 1] = resource .. tostring(object.conf_version)
        end
    end
    for _, resource in ipairs(readiness.RESOURCES) do
        add(resource)
    end
    for resource in pairs(items) do
        add(resource)
    end
    return loaded, concat(versions, "|")
end


-- Whether the items are there. They are only looked through when something has changed.
local function item_problems(file)
    local items = file.manifest.items
    local loaded, versions = loaded_items(items)
    if compared.manifest ~= file.manifest or compared.file_version ~= file.version
       or compared.versions ~= versions
    then
        local problems, is_settled = readiness.item_problems(items, file.version, loaded)
        -- APISIX tells files apart by the second they were written in. What came into the place of
        -- one that is loaded, with its time, is never read.
        if is_settled and compared.is_settled and compared.file_version == file.version
           and compared.manifest.digest ~= file.manifest.digest
        then
            return { readiness.SAME_TIME }, true
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


-- APISIX's own way to resolve references would log each that cannot be, each time.
local function resolved(reference)
    if not secret.is_secret_ref(reference) then
        return reference
    end
    local fetch = core.string.has_prefix(reference, "$secret://") and secret.fetch_by_uri
                  or core.env.fetch_by_uri
    local ok, value = pcall(fetch, reference)
    return ok and value or reference
end


local function resolved_auth(auth)
    local copy = {}
    for kind, values in pairs(auth) do
        copy[kind] = {}
        for name, value in pairs(values) do
            copy[kind][name] = resolved(value)
        end
    end
    return copy
end


local function credential_problem(instance, details)
    if not pools.endpoint_of(instance) then
        return "it has no usable endpoint"
    end
    if details and details.key_setting then
        return not secret_files.value(details.key_setting)
               and "there is no key in the file of " .. details.key_setting or nil
    end
    return pools.credential_problem(resolved_auth(instance.auth or {}), details)
           or details and details.identity and identities.problem(details.identity)
end


-- Backends that are loaded, of services and of routes.
local function backends_of(resource, backends)
    local object = core.config.fetch_created_obj("/" .. resource)
    for _, item in ipairs(object and object.values or {}) do
        local plugins = type(item) == "table" and item.value.plugins or {}
        local proxy, pool = plugins["azure-openai-proxy"], plugins["ai-proxy-multi"]
        if proxy and pool then
            local details = pools.details_of(proxy)
            for _, instance in ipairs(pool.instances) do
                backends[#backends + 1] = {
                    name = instance.name,
                    weight = instance.weight,
                    problem = credential_problem(instance, details[instance.name]),
                }
            end
        end
    end
    return backends
end


-- What is wrong, and whether that is for good: nothing of another file is on its way.
local function problems_of(file)
    if not file.version then
        return { readiness.UNREADABLE }, false
    end
    if not file.manifest then
        return { readiness.NO_MANIFEST }, false
    end
    local found, is_settled = item_problems(file)
    local problems = core.table.clone(found)
    problems[#problems + 1] = readiness.backend_problem(backends_of("routes",
                                                                    backends_of("services", {})))
    return problems, is_settled
end


-- Says in shared memory what this worker serves. One that is being shut down has a successor of the
-- same number, whose report is not to be replaced.
local function report(file)
    if is_exiting() then
        return
    end
    local problems, is_settled = problems_of(file)
    local text = core.json.encode({
        version = file.version,
        digest = file.manifest and file.manifest.digest,
        problems = problems,
        settled = is_settled,
    })
    local ok, err = dict:set(report_key(worker_id()), text, SILENT_S)
    if not ok then
        core.log.error("what this worker has loaded does not fit into the shared memory: ", err)
    end
end


-- Whether the gateway is ready, and what speaks against it.
local function judge(file)
    local reports, count = {}, worker_count()
    for id = 0, count - 1 do
        local text = dict:get(report_key(id))
        reports[id] = text and core.json.decode(text) or nil
    end
    local reasons, is_settled = readiness.reasons(reports, count, file.version,
                                                  file.manifest and file.manifest.digest)
    if #reasons == 0 then
        dict:set(READY, true, GRACE_S)
        return true, reasons
    end
    return not is_settled and dict:get(READY) == true, reasons
end


local function look()
    local file = look_at_file()
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
        core.log.error("readiness cannot be told: ", err)
    end
end


--- Begins to report; once, in each worker that serves requests.
function _M.start()
    if is_started or process.type() == "privileged agent" then
        return
    end
    -- At the first moment that everything is loaded, then as long as the worker lives.
    local ok, err = timer_at(0, tick)
    if ok then
        ok, err = timer_every(REPORT_S, tick)
    end
    if not ok then
        core.log.error("this worker cannot report what it has loaded: ", err)
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


local function readyz(tells_reasons)
    local is_ready, reasons, file = look()
    local status = is_ready and "ready" or "not ready"
    if not tells_reasons then
        return answer(is_ready and 200 or 503, { status = status })
    end
    answer(is_ready and 200 or 503, {
        status = status,
        workers = worker_count(),
        -- When the file that is there was written.
        configuration = file.version and os_date("!%Y-%m-%dT%H:%M:%SZ", file.version),
        reasons = #reasons > 0 and reasons or nil,
    })
end


local ANSWERS = { ["/healthz"] = healthz, ["/readyz"] = readyz }


--- Content handler of both paths, and of everything else on the port for probes.
-- @tparam boolean|nil tells_reasons for that port only: they name clients and backends
function _M.handle(tells_reasons)
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
    return handler(tells_reasons)
end


return _M
