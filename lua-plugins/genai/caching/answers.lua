--- The stored form of an answer, and whether an answer may be stored.

local json_scan = require("genai.util.json_scan")
local byte = string.byte
local char = string.char
local find = string.find
local floor = math.floor
local ipairs = ipairs
local lower = string.lower
local sub = string.sub
local type = type

local _M = {}

-- The beginning of an entry. Anything else is not read.
local MARK = "GC1"
local HEAD = #MARK + 4

local QUOTE, BRACE = 34, 123

-- Headers that describe the answer. All others are about one exchange: ids, limits, times, cookies.
local KEPT = {}
for _, name in ipairs({ "content-type", "content-language", "openai-model", "openai-version",
                        "azureml-model-session", "x-ms-deployment-name", "x-ms-rai-invoked",
                        "x-ms-region" })
do
    KEPT[name] = true
end

-- What an answer consists of, in one of these lists.
local CONTENT = { "choices", "data", "output" }

local JSON_PLAN = json_scan.plan({ "error", "status", "choices", "data", "output" })

-- States of a response whose answer is complete.
local COMPLETE = { completed = true, incomplete = true }


--- The headers to store with an answer.
-- @tparam table headers as `genai.http.http_head` returns them
-- @treturn table list of name and value, alternating
function _M.kept_headers(headers)
    local kept, seen = {}, {}
    for i = 1, headers.count do
        local key = headers.lower_names[i]
        if KEPT[key] and not seen[key] then
            seen[key] = true
            kept[#kept + 1], kept[#kept + 2] = headers.names[i], headers.values[i]
        end
    end
    return kept
end


--- Whether the head of an answer allows it to be stored: status 200, and JSON or a stream that is
-- not encoded.
function _M.is_storable_head(status, headers, is_stream)
    local coding = headers["content-encoding"]
    if status ~= 200 or coding and coding ~= "" and lower(coding) ~= "identity" then
        return false
    end
    local content_type = lower(headers["content-type"] or "")
    return is_stream and find(content_type, "text/event-stream", 1, true) ~= nil
           or not is_stream and find(content_type, "application/json", 1, true) ~= nil
end


-- Whether a member of that name has an object or a text as its value. In texts of a model, quotes
-- are escaped, so that they are not found.
local function has_value(text, name)
    local _, last = find(text, name, 1, true)
    while last do
        local _, before = find(text, "^[%s:]*", last + 1)
        local each = byte(text, before + 1)
        if each == BRACE or each == QUOTE then
            return true
        end
        _, last = find(text, name, last + 1, true)
    end
    return false
end


local function has_content(members)
    for _, name in ipairs(CONTENT) do
        if members[name] and members[name].kind == "array" then
            return true
        end
    end
    return false
end


--- Whether a complete JSON answer is a success.
-- @tparam string text
function _M.is_good_json(text)
    local scan = json_scan.new(JSON_PLAN)
    scan:feed(text)
    if not scan:finish() then
        return false
    end
    local members = scan.members
    local failure, status = members.error, members.status
    -- A part of the answer may report a failure too, for example of the content filter.
    if failure and failure.value ~= "null" or has_value(text, '"error"') or not has_content(members)
    then
        return false
    end
    return status == nil or status.kind == "string" and COMPLETE[status.value] or false
end


--- Whether the text of a complete stream contains no report of a failure.
-- @tparam string text
function _M.is_good_stream(text)
    if has_value(text, '"error"') or find(text, '"response.failed"', 1, true)
       or find(text, "event: response.failed", 1, true) or find(text, "event: error", 1, true)
    then
        return false
    end
    return find(text, '"type"%s*:%s*"error"') == nil
end


local function length_text(length)
    return char(floor(length / 16777216) % 256, floor(length / 65536) % 256,
                floor(length / 256) % 256, length % 256)
end


local function length_of(text, position)
    local a, b, c, d = byte(text, position, position + 3)
    return ((a * 256 + b) * 256 + c) * 256 + d
end


--- An entry as a text.
-- @tparam table meta `id`, `created` (seconds), `is_stream`, `headers`, `usage`, `model`, `tier`,
--   `served_as`
-- @tparam string body
-- @tparam function encode encodes a table as JSON
function _M.encode(meta, body, encode)
    local head = encode(meta)
    return MARK .. length_text(#head) .. head .. body
end


local function are_texts(list)
    if type(list) ~= "table" or #list % 2 ~= 0 then
        return false
    end
    for _, each in ipairs(list) do
        if type(each) ~= "string" then
            return false
        end
    end
    return true
end


local function is_usage(value)
    return value == nil
           or type(value) == "table" and type(value.prompt) == "number"
              and type(value.completion) == "number" and type(value.total) == "number"
end


local function is_text(value)
    return value == nil or type(value) == "string"
end


--- Whether a decoded text is what is known of an answer, as `encode` takes it. Others may be able
-- to write where it was stored.
function _M.is_meta(meta)
    return type(meta) == "table" and type(meta.created) == "number" and are_texts(meta.headers)
           and is_usage(meta.usage) and is_text(meta.model) and is_text(meta.tier)
           and is_text(meta.served_as)
end


--- Reads an entry.
-- @tparam string text
-- @tparam function decode decodes JSON; returns nil on invalid JSON
-- @treturn table|nil its `meta`, with `body`; nil: the text is no entry
function _M.decode(text, decode)
    if sub(text, 1, #MARK) ~= MARK or #text < HEAD then
        return nil
    end
    local length = length_of(text, #MARK + 1)
    if #text < HEAD + length then
        return nil
    end
    local meta = decode(sub(text, HEAD + 1, HEAD + length))
    if not _M.is_meta(meta) then
        return nil
    end
    meta.body = sub(text, HEAD + length + 1)
    return meta
end


--- The age of an entry in whole seconds. The clock of the gateway that stored it may be ahead.
function _M.age(meta, now)
    local age = floor(now - meta.created)
    return age > 0 and age or 0
end


--- Whether a text of a stream ends with a complete event, so that a comment may follow.
function _M.ends_event(text)
    return find(text, "\n\r?\n$") ~= nil or sub(text, -2) == "\r\r"
end


return _M
