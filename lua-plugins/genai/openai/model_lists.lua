--- The models that a client may call, if it has a list of them.

local find = string.find
local lower = string.lower
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local type = type

local _M = {}

-- By the list of a configuration, which stays the same until the configuration changes.
local compiled = setmetatable({}, { __mode = "k" })

-- Collections to which clients may write without calling a model. All others call one, or may: a
-- batch names its models in a file, and an assistant has one.
local CALLS_NONE = {
    files = true,
    uploads = true,
    vector_stores = true,
    conversations = true,
    containers = true,
}

-- Longer names cannot exist.
local MAX_NAME = 256

local READS = { GET = true, HEAD = true, DELETE = true, OPTIONS = true }


-- The texts between the asterisks of a name; the first and the last can be empty.
local function texts_of(name)
    local texts = {}
    local from = 1
    while true do
        local asterisk = find(name, "*", from, true)
        texts[#texts + 1] = sub(name, from, (asterisk or 0) - 1)
        if not asterisk then
            return texts
        end
        from = asterisk + 1
    end
end


-- Names without `*` are compared as they are; others are split.
local function compile(list)
    local names, wildcards = {}, {}
    for _, each in ipairs(list) do
        local name = lower(each)
        if find(name, "*", 1, true) then
            wildcards[#wildcards + 1] = texts_of(name)
        else
            names[name] = true
        end
    end
    return { names = names, wildcards = wildcards }
end


-- Whether a name matches a wildcard: it begins and ends with the outer texts, and contains the
-- others in order. Each is matched at its first position, so there is no backtracking.
local function matches(texts, name)
    local count = #texts
    local first, last = texts[1], texts[count]
    local position, limit = #first + 1, #name - #last
    if #first + #last > #name or sub(name, 1, #first) ~= first or sub(name, limit + 1) ~= last then
        return false
    end
    for i = 2, count - 1 do
        local text = texts[i]
        if text ~= "" then
            local _, text_end = find(name, text, position, true)
            if not text_end or text_end > limit then
                return false
            end
            position = text_end + 1
        end
    end
    return true
end


--- Whether a list allows a model or deployment. Azure ignores case.
-- @tparam table list of names, in which `*` matches any characters
-- @tparam string name
function _M.is_allowed(list, name)
    -- Deployment names are shorter, and a header can contain many kilobytes.
    if #name > MAX_NAME then
        return false
    end
    local known = compiled[list]
    if not known then
        known = compile(list)
        compiled[list] = known
    end

    name = lower(name)
    if known.names[name] then
        return true
    end
    for _, texts in ipairs(known.wildcards) do
        if matches(texts, name) then
            return true
        end
    end
    return false
end


-- Deployments that headers name: the target of Azure's spillover, and the image model of a
-- response.
local function named_by_headers(headers)
    local named
    for name, value in pairs(headers) do
        if sub(name, 1, 5) == "x-ms-" and find(name, "deployment", 1, true) then
            for _, each in ipairs(type(value) == "table" and value or { value }) do
                if type(each) == "string" and each ~= "" then
                    named = named or {}
                    named[#named + 1] = each
                end
            end
        end
    end
    return named
end


--- Why a client's list forbids a request.
-- @tparam table list
-- @tparam string method
-- @tparam table target of the request
-- @tparam string|nil model the requested model or deployment
-- @tparam table headers by lower-case name
-- @treturn string|nil a sentence for the client; nil: the request is allowed
function _M.refusal(list, method, target, model, headers)
    for _, each in ipairs(named_by_headers(headers) or {}) do
        if not _M.is_allowed(list, each) then
            return "This client may not call the model that a header of the request names."
        end
    end

    if model then
        if not _M.is_allowed(list, model) then
            return "This client may not call this model."
        end
        return nil
    end

    local is_about_stored = target.stored_id and (target.operation == "responses"
                                                  or target.operation == "chat_completions")
    if READS[method] or CALLS_NONE[target.operation] or is_about_stored then
        return nil
    end
    return "This client may call only some models, and this request names no model."
end


return _M
