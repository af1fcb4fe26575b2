--- The body of the client's request: read once, sent as often as there are attempts.
--
-- nginx keeps a body that is longer than its buffer in a file. Such a body is read and sent in
-- pieces and is never in memory as a whole; another name for its model is put in as it passes.

local body_memory = require("apisix.plugins.azure-openai-proxy.body_memory")
local budget = require("genai.body_budget")
local core = require("apisix.core")
local errors = require("genai.errors")
local ffi = require("ffi")
local json_scan = require("genai.json_scan")
local multipart = require("genai.multipart")
local stored = require("genai.stored")
local temp_space = require("apisix.plugins.azure-openai-proxy.temp_space")
local turns = require("apisix.plugins.azure-openai-proxy.turns")
local C = ffi.C
local cast = ffi.cast
local io_open = io.open
local ngx = ngx
local find = string.find
local format = string.format
local lower = string.lower
local min = math.min
local sub = string.sub
local pcall = pcall
local remove = table.remove
local tonumber = tonumber
local type = type

ffi.cdef([[
size_t fread(void *buffer, size_t size, size_t count, void *file);
]])

local bytes_type = ffi.typeof("const uint8_t *")
local buffer_type = ffi.typeof("uint8_t[?]")

local _M = {}

local PIECE = budget.PIECE

-- nginx waits as long for a client's next bytes.
local CLIENT_TIMEOUT_MS = 60000

local WANTED_OF_FORM = { model = true }

-- What is wrong with a body, as the client is told.
local PROBLEMS = {
    nested_too_deeply = {
        "nesting_too_deep",
        "The request's JSON nests objects and arrays more than " .. json_scan.MAX_DEPTH
        .. " deep. Send it with less nesting.",
    },
    name_too_long = {
        "name_too_long",
        "A member of the request's JSON has a name of more than " .. json_scan.MAX_NAME
        .. " bytes. Send shorter names.",
    },
    part_head_too_long = {
        "name_too_long",
        "A part of the request's form has headers of more than " .. multipart.MAX_HEAD
        .. " bytes. Send shorter names.",
    },
    boundary_too_long = {
        "name_too_long",
        "The boundary of the request's form has more than " .. multipart.MAX_BOUNDARY
        .. " bytes. Send a shorter one.",
    },
}


-- Plans by what is looked for. Most requests need no look at what names something stored.
local plans = {}


local function plan_for(wants)
    local key = (wants.model and 1 or 0) + (wants.stream and 2 or 0) + (wants.stored and 4 or 0)
    local plan = plans[key]
    if not plan then
        local members, words, mention = {}, nil, nil
        if wants.stored then
            members, words = stored.wanted()
            mention = stored.SEALS_ASKED_FOR
        end
        members[#members + 1] = wants.model and "model" or nil
        members[#members + 1] = wants.stream and "stream" or nil
        plan = json_scan.plan(members, words, mention)
        plans[key] = plan
    end
    return plan
end


-- Reads a body from the client into nginx's file, through a small buffer: for want of memory.
local function read_into_file(length)
    local socket = ngx.req.socket()
    if not socket then
        -- It has been read, or there is none.
        ngx.req.read_body()
        return true
    end
    socket:settimeout(CLIENT_TIMEOUT_MS)
    ngx.req.init_body(budget.SMALL_BUFFER)
    local left = length
    while left > 0 do
        local piece, err = socket:receive(min(left, budget.SMALL_BUFFER))
        if not piece then
            return nil, err
        end
        ngx.req.append_body(piece)
        left = left - #piece
    end
    ngx.req.finish_body()
    return true
end


-- What nginx has read.
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


-- Whether there is space for a body that goes into a file.
local function has_space(length, place)
    if place ~= "file" and length <= body_memory.buffer() then
        return true
    end
    local left = temp_space.left()
    return not left or left >= length
end


-- What the client is told of a body that is not read.
local function refused(code, message)
    -- What is still to come of it is not read.
    ngx.header["Connection"] = "close"
    return nil, 503, errors.body(503, message, code)
end


--- Reads the body from the client.
-- @tparam table state of the request; the memory that its body takes is counted there
-- @tparam table headers
-- @treturn table|nil `data` or, for one that nginx put into a file, `file`; `length` in bytes.
--   Without a body `length` is nil
-- @treturn nil|number the status of an error
-- @treturn nil|table its body
function _M.receive(state, headers)
    local length = tonumber(headers["content-length"])
    -- HTTP/2 needs neither header.
    if length or headers["transfer-encoding"] or (ngx.req.http_version() or 2) >= 2 then
        local place = body_memory.take(state, length)
        if not place then
            return refused("body_memory_exhausted", "The gateway holds as many request bodies as it"
                           .. " has memory for. Send the request again later.")
        elseif not has_space(length or 0, place) then
            temp_space.report()
            return refused("body_storage_full", temp_space.MESSAGE)
        elseif place == "file" then
            local ok, is_read, err = pcall(read_into_file, length)
            if not ok then
                core.log.error("the request body cannot be stored: ", is_read)
                temp_space.report()
                return refused("body_storage_full", temp_space.MESSAGE)
            elseif err == "timeout" then
                ngx.header["Connection"] = "close"
                return nil, 408, errors.body(408)
            elseif not is_read then
                return ngx.exit(499)
            end
        else
            ngx.req.read_body()
        end
    end

    local body, err = taken()
    if not body then
        core.log.error("the request body cannot be read: ", err)
        return nil, 500, errors.body(500)
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


--- Whether there is a body that may be read as JSON; clients do not always say that it is.
function _M.is_json(body, content_type)
    return body.length ~= nil and not is_multipart(content_type)
end


-- Buffers that pieces of files are read into. A string for each piece would be garbage of the size
-- of the body.
local free_buffers = {}


local function scan_file(body, scan, pace)
    local file, err = io_open(body.file, "rb")
    if not file then
        return err
    end
    -- One byte more, for it ends with a NUL.
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


-- Feeds a body to a scan. Gives why it cannot be read, or nil.
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


-- What is wrong with a scanned body: a code and a sentence, or nil.
local function problem_of(scan, what)
    if scan.duplicate then
        return { "duplicate_member", format("The request's %s `%s` twice. Send it once.", what,
                                            scan.duplicate) }
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


--- Reads what a body says to the gateway; others get their turn meanwhile.
-- @tparam table body gets `model` (`value`, `first` and `last`, where it stands; nil: it names
--   none), `wants_stream`, `is_doubtful` (a backend may read more than was read here), and the
--   `scan` of a JSON body
-- @tparam string|nil content_type
-- @tparam table wants `model`, `stream`, `stored`: what is looked for
-- @treturn table|nil what is wrong with it: a code and a sentence
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


--- The same body with another model in it.
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


-- A function that gives a file in pieces, with other bytes for some of it. Not a part of `source`:
-- what makes closures is never compiled, and few bodies are in files.
local function file_source(name, edit)
    local file, err = io_open(name, "rb")
    if not file then
        return nil, err
    end
    -- How much there is before what is replaced.
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


--- The body for one attempt: a string, or a function that gives it in pieces.
function _M.source(body)
    if body.file then
        return file_source(body.file, body.edit)
    end
    return body.data
end


return _M
