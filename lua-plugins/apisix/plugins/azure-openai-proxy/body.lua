--- The body of the client's request: read once, sent as often as there are attempts.

local core = require("apisix.core")
local json_members = require("genai.json_members")
local multipart = require("genai.multipart")
local stored = require("genai.stored")
local io_open = io.open
local ngx = ngx
local find = string.find
local lower = string.lower
local sub = string.sub
local pairs = pairs
local type = type

local _M = {}

local PIECE = 65536

local WANTED = { model = true, stream = true }
for name in pairs(stored.WANTED) do
    WANTED[name] = true
end


local function decode(text)
    return (core.json.decode(text))
end


local function read_file(name, what)
    local file, err = io_open(name, "rb")
    if not file then
        return nil, err
    end
    local data = file:read(what or "*a")
    file:close()
    return data
end


--- Reads the body from the client.
-- @treturn table `data` or, for one that nginx put into a file, `file`; `length` in bytes. Without
--   a body `length` is nil
-- @treturn nil|string the reason
function _M.read()
    ngx.req.read_body()
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


--- The text of a body.
function _M.text(body)
    return body.data or body.file and read_file(body.file) or ""
end


--- The beginning of a body.
-- @tparam number length bytes
function _M.head(body, length)
    return body.data and sub(body.data, 1, length)
           or body.file and read_file(body.file, length) or ""
end


--- Members of a JSON body that say something to the gateway, by name.
function _M.members(body)
    if not body.members then
        local members, is_whole = json_members.find(_M.text(body), WANTED, decode)
        body.members, body.is_doubtful = members or {}, not is_whole
    end
    return body.members
end


local function is_multipart(content_type)
    return type(content_type) == "string"
           and find(lower(content_type), "multipart/form-data", 1, true) ~= nil
end


--- Whether there is a body that may be read as JSON; clients do not always say that it is.
function _M.is_json(body, content_type)
    return body.length ~= nil and not is_multipart(content_type)
end


local function field_of_multipart(body, name, boundary)
    if not boundary then
        return nil
    end
    if body.data then
        local value, first, last = multipart.field(body.data, name, boundary)
        return value and { value = value, first = first, last = last } or nil
    end

    local file = io_open(body.file, "rb")
    if not file then
        return nil
    end
    local window, offset = "", 0
    local found, is_twice
    while not is_twice do
        local piece = file:read(PIECE)
        if not piece then
            break
        end
        window = window .. piece
        local value, first, last
        value, first, last, is_twice = multipart.field(window, name, boundary, offset > 0)
        if value then
            is_twice = found and found.first ~= offset + first
            found = { value = value, first = offset + first, last = offset + last }
        end
        -- A field may begin in one piece and end in the next.
        local kept = sub(window, -3 * multipart.WINDOW)
        offset = offset + #window - #kept
        window = kept
    end
    file:close()
    return not is_twice and found or nil
end


--- What a body says of the model that shall answer.
-- @tparam table body
-- @tparam string|nil content_type
-- @treturn table|nil `value`, and `first` and `last`, where it stands; nil: it names none
function _M.model(body, content_type)
    if not body.length then
        return nil
    end
    if is_multipart(content_type) then
        body.is_multipart = true
        return field_of_multipart(body, "model", multipart.boundary(content_type))
    end

    local model = _M.members(body).model
    return model and model.is_string and model.value and model or nil
end


--- Whether a JSON body asks for a stream.
function _M.wants_stream(body)
    if not body.length or body.is_multipart then
        return false
    end
    local stream = _M.members(body).stream
    return stream ~= nil and not stream.is_string and stream.value == "true"
end


--- The same body with another model in it.
-- @tparam table model as `model` gave it
-- @tparam string name
function _M.with_model(body, model, name)
    local data = _M.text(body)
    local written = body.is_multipart and name or core.json.encode(name)
    data = sub(data, 1, model.first - 1) .. written .. sub(data, model.last + 1)
    return { data = data, length = #data }
end


-- A function that gives a file in pieces. Not a part of `source`: what makes closures is never
-- compiled, and few bodies are in files.
local function file_source(name)
    local file, err = io_open(name, "rb")
    if not file then
        return nil, err
    end
    return function()
        if not file then
            return nil
        end
        local piece = file:read(PIECE)
        if not piece then
            file:close()
            file = nil
        end
        return piece
    end
end


--- The body for one attempt: a string, or a function that gives it in pieces.
function _M.source(body)
    if body.file then
        return file_source(body.file)
    end
    return body.data
end


return _M
