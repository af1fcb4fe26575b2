--- Which models a client may call, where it has a list of them.

local find = string.find
local lower = string.lower
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local sub = string.sub
local type = type

local _M = {}

-- Lists are those of a configuration, and stay the same as long as it does.
local compiled = setmetatable({}, { __mode = "k" })

-- What may be written without a model being called. What is not here calls one, or may: a batch
-- names its models in a file, an assistant is one.
local CALLS_NONE = {
    files = true,
    uploads = true,
    vector_stores = true,
    conversations = true,
    containers = true,
}

-- Longer names are names of nothing.
local MAX_NAME = 256

local READS = { GET = true, HEAD = true, DELETE = true, OPTIONS = true }


-- The texts between the asterisks of a name, in which the first and the last may be empty.
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


-- A name without `*` is compared, one with it is taken apart.
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


-- Whether a name begins and ends with the outer texts of a wildcard, and has the others between
-- them in their order. Each is taken where it comes first, so nothing is ever tried again.
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


--- Whether a list has a model or deployment. Azure takes names in any case.
-- @tparam table list of names, `*` in them standing for any characters
-- @tparam string name
function _M.is_allowed(list, name)
    -- No deployment has such a name, and a header may hold one of many kilobytes.
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


-- Deployments that headers name: where Azure spills over to, what makes the images of a response.
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


--- Why a client with a list may not make a request.
-- @tparam table list
-- @tparam string method
-- @tparam table target of the request
-- @tparam string|nil model or deployment that it names
-- @tparam table headers by lower-case name
-- @treturn string|nil a sentence for the client; nil: it may
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

    local is_about_stored = target.operation == "responses" and target.stored_id
    if READS[method] or CALLS_NONE[target.operation] or is_about_stored then
        return nil
    end
    return "This client may call some models only, and this request does not say which one."
end


return _M
