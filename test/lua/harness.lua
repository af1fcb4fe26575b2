--- describe, it, equal; a line a test, for whoever runs them to read.

local concat = table.concat
local pairs = pairs
local sort = table.sort
local tostring = tostring
local type = type

local _M = { failed = 0, count = 0, group = "" }


local function shown(value, depth)
    if type(value) == "string" then
        return #value > 400 and ("%q"):format(value:sub(1, 400)) .. "… of " .. #value
               or ("%q"):format(value)
    elseif type(value) ~= "table" or depth > 6 then
        return tostring(value)
    end

    local members = {}
    for key, each in pairs(value) do
        members[#members + 1] = tostring(key) .. " = " .. shown(each, depth + 1)
    end
    sort(members)
    return "{ " .. concat(members, ", ") .. " }"
end


local function is_same(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, each in pairs(a) do
        if not is_same(each, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end


--- Fails unless both are the same; tables by what is in them.
function _M.equal(actual, expected, about)
    if not is_same(actual, expected) then
        error((about and about .. ": " or "") .. "expected " .. shown(expected, 0)
              .. ", got " .. shown(actual, 0), 2)
    end
end


function _M.describe(group, tests)
    _M.group = group
    tests()
end


function _M.it(name, test)
    local passed, err = xpcall(test, function(err)
        return type(err) == "string" and err:match("^%S+:%d+: ") and err or debug.traceback(err)
    end)
    _M.count = _M.count + 1
    _M.failed = _M.failed + (passed and 0 or 1)
    print(concat({ passed and "ok" or "not ok", _M.group, name,
                   passed and "" or (tostring(err):gsub("\n", "\\n"):gsub("\t", " ")) }, "\t"))
end


--- What a socket sends for pieces: a string, or a list of pieces.
function _M.flat(pieces)
    if type(pieces) ~= "table" then
        return pieces
    end
    local parts = {}
    for i, each in ipairs(pieces) do
        parts[i] = _M.flat(each)
    end
    return table.concat(parts)
end


return _M
