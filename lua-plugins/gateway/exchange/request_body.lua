--- The body of a client's request: read once, sent in each attempt.
-- nginx keeps a body that is longer than its buffer in a file. Such a body is read and sent in
-- pieces, and is never in memory as a whole. A different model name is inserted while it is sent.

local client_abort = require("apisix_internals.client_abort")
local body_memory = require("gateway.exchange.body_memory")
local body_budget = require("genai.http.body_budget")
local budget_rules = require("genai.limits.budget_rules")
local content_codings = require("genai.http.content_codings")
local core = require("apisix.core")
local decoding = require("gateway.exchange.decoding")
local errors = require("genai.openai.errors")
local ffi = require("ffi")
local json_scan = require("genai.util.json_scan")
local multipart = require("genai.http.multipart")
local process_config = require("apisix_internals.process_config")
local semaphore = require("ngx.semaphore")
local stored_objects = require("genai.openai.stored_objects")
local temp_space = require("gateway.exchange.temp_space")
local times = require("gateway.mechanisms.times")
local turns = require("gateway.exchange.turns")
local C = ffi.C
local cast = ffi.cast
local io_open = io.open
local ngx = ngx
local find = string.find
local format = string.format
local lower = string.lower
local huge = math.huge
local ipairs = ipairs
local min = math.min
local ngx_now = ngx.now
local sub = string.sub
local error = error
local pcall = pcall
local remove = table.remove
local thread_kill = ngx.thread.kill
local thread_spawn = ngx.thread.spawn
local thread_wait = ngx.thread.wait
local tonumber = tonumber
local type = type

ffi.cdef([[
size_t fread(void *buffer, size_t size, size_t count, void *file);
]])

local bytes_type = ffi.typeof("const uint8_t *")
local buffer_type = ffi.typeof("uint8_t[?]")

local _M = {}

local PIECE = body_budget.PIECE

-- Minimum average rate after the grace time, in bytes per second. The slowest mobile networks are
-- several times as fast.
local MIN_RATE = 1024

-- Interval of the check whether a body arrives fast enough.
local CHECK_S = 5

local MAX_SPARE = 256

local WANTED_OF_FORM = { model = true }
local CACHE_KEY = { "prompt_cache_key", may_repeat = true }

-- Codes and messages for problems of a body.
local PROBLEMS = {
    nested_too_deeply = {
        errors.CODE.nesting_too_deep,
        "The request's JSON nests objects and arrays more than " .. json_scan.MAX_DEPTH
        .. " deep. Send it with less nesting.",
    },
    name_too_long = {
        errors.CODE.name_too_long,
        "A member of the request's JSON has a name of more than " .. json_scan.MAX_NAME
        .. " bytes. Send shorter names.",
    },
    part_head_too_long = {
        errors.CODE.name_too_long,
        "A part of the request's form has headers of more than " .. multipart.MAX_HEAD
        .. " bytes. Send shorter names.",
    },
    boundary_too_long = {
        errors.CODE.name_too_long,
        "The boundary of the request's form has more than " .. multipart.MAX_BOUNDARY
        .. " bytes. Send a shorter one.",
    },
}


-- Scan plans by what they look for. Most requests need no scan for stored objects.
local plans = {}


local function plan_for(wants)
    local key = (wants.model and 1 or 0) + (wants.stream and 2 or 0) + (wants.stored and 4 or 0)
                + (wants.cache_key and 8 or 0) + (wants.output and 16 or 0)
    local plan = plans[key]
    if not plan then
        local members, words = {}, nil
        if wants.stored then
            members, words = stored_objects.wanted()
        end
        members[#members + 1] = wants.model and "model" or nil
        members[#members + 1] = wants.stream and "stream" or nil
        members[#members + 1] = wants.cache_key and CACHE_KEY or nil
        for _, each in ipairs(wants.output and budget_rules.OUTPUT_MEMBERS or {}) do
            members[#members + 1] = { each, may_repeat = true }
        end
        plan = json_scan.plan(members, words)
        plans[key] = plan
    end
    return plan
end


-- The number of bytes that nginx has received of the request.
local function received()
    return tonumber(ngx.var.request_length) or 0
end


-- Whether a body arrives too slowly.
local function is_too_slow(began, bytes)
    return bytes < MIN_RATE * (ngx_now() - began - times.body_grace)
end


-- Semaphores of ended requests, for reuse: a new one for each body would be garbage.
local spare, spare_count = {}, 0


local function signal()
    local taken = spare[spare_count]
    if not taken then
        return semaphore.new()
    end
    spare[spare_count] = nil
    spare_count = spare_count - 1
    return taken
end


local function keep(used)
    if spare_count < MAX_SPARE then
        spare_count = spare_count + 1
        spare[spare_count] = used
    end
end


-- Lets nginx read a body, and posts to the waiting request's semaphore at the end. Returns the
-- error.
local function read_by_nginx(waiting)
    local ok, err = pcall(ngx.req.read_body)
    waiting.is_over = true
    if waiting.semaphore then
        waiting.semaphore:post()
    end
    return not ok and err or nil
end


-- Waits for a body that is still arriving. Returns false if it is too slow or has stopped.
local function wait(semaphore_of_end)
    local grace = times.body_grace
    local began = ngx_now()
    local first = received()
    local last, changed = first, began
    while not semaphore_of_end:wait(min(CHECK_S, grace / 4)) do
        local length = received()
        if length ~= last then
            last, changed = length, ngx_now()
        end
        if ngx_now() - changed >= grace or is_too_slow(began, length - first) then
            return false
        end
    end
    return true
end


-- Lets nginx read a body. Returns false if it arrives too slowly.
local function read()
    local waiting = {}
    local reader = thread_spawn(read_by_nginx, waiting)
    if not waiting.is_over then
        waiting.semaphore = signal()
        if not wait(waiting.semaphore) then
            thread_kill(reader)
            return false
        end
        keep(waiting.semaphore)
    end
    local ok, err = thread_wait(reader)
    if not ok or err then
        error(err)
    end
    client_abort.watch()
    return true
end


-- Reads a body from the client into nginx's file through a small buffer, if memory is short.
local function read_into_file(length)
    local socket = ngx.req.socket()
    if not socket then
        -- The body has already been read, or there is none.
        ngx.req.read_body()
        return true
    end
    socket:settimeout(times.body_grace * 1000)
    ngx.req.init_body(body_budget.SMALL_BUFFER)
    local began, left = ngx_now(), length
    while left > 0 do
        local piece, err = socket:receiveany(min(left, body_budget.SMALL_BUFFER))
        if not piece then
            return nil, err
        end
        ngx.req.append_body(piece)
        left = left - #piece
        if is_too_slow(began, length - left) then
            return nil, "timeout"
        end
    end
    ngx.req.finish_body()
    return true
end


-- The body as nginx has read it.
local function taken()
    local data = ngx.req.get_body_data()
    if data then
        return { data = data, length = #data }
    end

    local name = ngx.req.get_body_file()
    if not name then
        return {}
    end
    local file, err = io_open(name, "rb")
    if not file then
        return nil, err
    end
    local length = file:seek("end")
    file:close()
    return { file = name, length = length }
end


-- Whether there is space for a body that goes to a file.
local function has_space(length, place)
    if place ~= "file" and length <= body_memory.buffer() then
        return true
    end
    local left = temp_space.left()
    return not left or left >= length
end


-- The error for a body that arrives too slowly.
local function too_slow()
    ngx.header["Connection"] = "close"
    return nil, 408, errors.body(408)
end


local NO_MEMORY = "The gateway has no memory left for another request body. Send the request again"
                  .. " later."


-- The error for a body that the gateway does not read.
local function refused(code, message)
    -- The rest of the body is not read, so the connection cannot be reused.
    ngx.header["Connection"] = "close"
    return nil, 503, errors.body(503, message, code)
end


local max_bytes


-- The maximum length of a body in bytes, both as sent and as decoded.
local function limit()
    max_bytes = max_bytes or tonumber(process_config.nginx_http("client_max_body_size")) or 0
    return max_bytes > 0 and max_bytes or huge
end


--- Whether a client declares a body that is too long. nginx knows the limit too, but would end the
-- request without running any plugin, so it would not be counted.
function _M.is_too_large(headers)
    local length = tonumber(headers["content-length"])
    return length ~= nil and length > limit()
end


-- The error for an unknown coding.
local function unknown_coding()
    ngx.header["Connection"] = "close"
    local accepted = content_codings.accepted(decoding.is_available)
    ngx.header["Accept-Encoding"] = accepted
    return nil, 415, errors.body(415, "The request body has a Content-Encoding that the gateway"
                                      .. " does not decode. Use at most " .. content_codings.MAX
                                      .. " codings, each one of: " .. accepted .. ".")
end


-- The codings of a body; nil: one of them cannot be decoded here.
local function codings_of(value)
    local codings = content_codings.of(value)
    for _, each in ipairs(codings or {}) do
        if not decoding.is_available(each) then
            return nil
        end
    end
    return codings
end


-- The decoded body.
local function decoded(record, body, codings)
    local plain, failure = decoding.decode(record, body, codings, limit())
    if not plain then
        local code = failure.code
        local message = failure.message or code == errors.CODE.body_memory_exhausted and NO_MEMORY
        return nil, failure.status, errors.body(failure.status, message or nil, code)
    end
    body_memory.measure(record, plain.length)
    if plain.is_in_file then
        return taken()
    end
    return plain
end


--- Reads the body from the client, and decodes it.
-- @tparam table record of the request; the body's memory is reserved in it
-- @tparam table headers
-- @treturn table|nil `data` or, for a body in nginx's file, `file`; `length` in bytes, nil without
--   a body
-- @treturn nil|number the status of an error
-- @treturn nil|table its body
function _M.receive(record, headers)
    local length = tonumber(headers["content-length"])
    local coded = headers["content-encoding"]
    local codings
    -- A request over HTTP/2 can have a body without either header.
    if length or headers["transfer-encoding"] or (ngx.req.http_version() or 2) >= 2 then
        if coded and length ~= 0 then
            codings = codings_of(coded)
            if not codings then
                return unknown_coding()
            end
        end
        local place = body_memory.take(record, length)
        if not place then
            return refused(errors.CODE.body_memory_exhausted, NO_MEMORY)
        elseif not has_space(length or 0, place) then
            temp_space.report()
            return refused(errors.CODE.body_storage_full, temp_space.MESSAGE)
        elseif place == "file" then
            local ok, is_read, err = pcall(read_into_file, length)
            if not ok then
                core.log.error("the request body cannot be stored: ", is_read)
                temp_space.report()
                return refused(errors.CODE.body_storage_full, temp_space.MESSAGE)
            elseif err == "timeout" then
                return too_slow()
            elseif not is_read then
                return ngx.exit(499)
            end
        elseif not read() then
            return too_slow()
        end
    end

    local body, err = taken()
    if not body then
        core.log.error("the request body cannot be read: ", err)
        return nil, 500, errors.body(500)
    elseif codings and codings[1] and (body.length or 0) > 0 then
        return decoded(record, body, codings)
    end
    return body
end


--- The beginning of a body.
-- @tparam number length bytes
function _M.head(body, length)
    if body.data then
        return sub(body.data, 1, length)
    end
    local file = body.file and io_open(body.file, "rb")
    if not file then
        return ""
    end
    local head = file:read(length)
    file:close()
    return head or ""
end


local function is_multipart(content_type)
    return type(content_type) == "string"
           and find(lower(content_type), "^%s*multipart/form%-data[%s;]") ~= nil
end


--- Whether there is a body that may be JSON; clients do not always declare the type.
function _M.is_json(body, content_type)
    return body.length ~= nil and not is_multipart(content_type)
end


-- Buffers for pieces of files. A string for each piece would create as much garbage as the body is
-- long.
local free_buffers = {}


local function scan_file(body, scan, pace)
    local file, err = io_open(body.file, "rb")
    if not file then
        return err
    end
    -- One more byte, because the buffer ends with a NUL.
    local buffer = remove(free_buffers) or buffer_type(PIECE + 1)
    while true do
        local count = tonumber(C.fread(buffer, 1, PIECE, file))
        if count == 0 or not scan:feed(buffer, count) or scan.duplicate then
            break
        end
        pace:read(count)
    end
    free_buffers[#free_buffers + 1] = buffer
    file:close()
    return nil
end


-- Passes a body to a scan. Returns nil, or why the body cannot be read.
local function scan_body(body, scan)
    local data, length = body.data, body.length
    if data and length <= PIECE then
        scan:feed(data)
        return nil
    end
    local pace = turns.new()
    if not data then
        return scan_file(body, scan, pace)
    end
    local bytes = cast(bytes_type, data)
    local position = 0
    while position < length do
        local count = min(PIECE, length - position)
        if not scan:feed(bytes + position, count) or scan.duplicate then
            return nil
        end
        position = position + count
        pace:read(count)
    end
    return nil
end


-- The problem of a scanned body: a code and a sentence, or nil.
local function problem_of(scan, what)
    if scan.duplicate then
        return { errors.CODE.duplicate_member,
                 format("The request's %s `%s` twice. Send it once.", what, scan.duplicate) }
    end
    return PROBLEMS[scan.problem or ""]
end


local function inspect_form(body, content_type)
    body.is_multipart = true
    local boundary, is_ambiguous = multipart.boundary(content_type)
    if not boundary then
        return nil
    end
    local scan = multipart.new(boundary, WANTED_OF_FORM)
    local err = scan_body(body, scan)
    if err then
        return nil, err
    end
    local is_plain = scan:finish()
    body.is_doubtful = is_ambiguous or not is_plain
    body.model = scan.fields.model
    return problem_of(scan, "form has the field")
end


local function inspect_json(body, wants)
    local scan = json_scan.new(plan_for(wants))
    local err = scan_body(body, scan)
    if err then
        return nil, err
    end
    body.is_doubtful = not scan:finish()
    body.scan = scan
    local model, stream = scan.members.model, scan.members.stream
    body.model = model and model.kind == "string" and model.value and model or nil
    body.wants_stream = stream ~= nil and stream.kind == "literal" and stream.value == "true"
    return problem_of(scan, "JSON has the member")
end


--- Reads the fields of a body that matter to the gateway; yields to other requests.
-- @tparam table body gets `model` (`value`, and its position `first` and `last`; nil: no model),
--   `wants_stream`, `is_doubtful` (a backend may read other values than the gateway), and the
--   `scan` of a JSON body
-- @tparam string|nil content_type
-- @tparam table wants `model`, `stream`, `stored`: what to look for; `cache_key` and `output`:
--   found too if a scan for any of these is made
-- @treturn table|nil the problem of the body: a code and a sentence
-- @treturn nil|string why it cannot be read
function _M.inspect(body, content_type, wants)
    if not body.length or not (wants.model or wants.stream or wants.stored) then
        return nil
    elseif not is_multipart(content_type) then
        return inspect_json(body, wants)
    elseif wants.model then
        return inspect_form(body, content_type)
    end
    return nil
end


--- Scans a JSON body a second time, for something else; yields to other requests.
-- @tparam table body
-- @tparam table plan as `json_scan.plan` makes it
-- @treturn table the scan
-- @treturn nil|string why the body cannot be read
function _M.scan(body, plan)
    local scan = json_scan.new(plan)
    return scan, scan_body(body, scan)
end


--- The same body with a different model name.
-- @tparam string name
function _M.with_model(body, name)
    local model = body.model
    local written = body.is_multipart and name or core.json.encode(name)
    local length = body.length + #written - (model.last - model.first + 1)
    if not body.data then
        return { file = body.file, length = length,
                 edit = { first = model.first, last = model.last, text = written } }
    end
    local data = sub(body.data, 1, model.first - 1) .. written .. sub(body.data, model.last + 1)
    return { data = data, length = length }
end


-- Returns a function that yields a file in pieces, with some bytes replaced. This is separate from
-- `source` because LuaJIT does not compile functions that create closures, and few bodies are in
-- files.
local function file_source(name, edit)
    local file, err = io_open(name, "rb")
    if not file then
        return nil, err
    end
    -- The number of bytes before the replaced part.
    local left = edit and edit.first - 1
    local pace = turns.new()
    return function()
        if not file then
            return nil
        end
        local piece
        if left == 0 then
            left = nil
            file:seek("set", edit.last)
            piece = edit.text
        elseif left then
            piece = file:read(min(left, PIECE))
            left = piece and left - #piece
        else
            piece = file:read(PIECE)
        end
        if not piece then
            file:close()
            file = nil
        else
            pace:read(#piece)
        end
        return piece
    end
end


--- The body for one attempt: a string, or a function that returns it in pieces.
function _M.source(body)
    if body.file then
        return file_source(body.file, body.edit)
    end
    return body.data
end


return _M
