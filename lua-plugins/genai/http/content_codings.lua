--- The codings of a request body, as listed in `Content-Encoding`.

local concat = table.concat
local find = string.find
local gmatch = string.gmatch
local lower = string.lower
local match = string.match
local ipairs = ipairs
local type = type

local _M = {}

--- The most codings of one body.
_M.MAX = 4

local NAMES = { gzip = "gzip", ["x-gzip"] = "gzip", deflate = "deflate", zstd = "zstd",
                identity = "identity" }

local ORDER = { "gzip", "deflate", "zstd" }


--- Reads the header.
-- @tparam string|table value a list of values counts as one list
-- @treturn table|nil names ("gzip", "deflate", "zstd") in decoding order; empty: nothing to decode.
--   nil: an unknown coding, or too many
function _M.of(value)
    if type(value) == "table" then
        value = concat(value, ",")
    end
    local listed = {}
    for each in gmatch(value, "[^,]+") do
        -- In steps: a single pattern would take quadratic time for a value of blanks only.
        local first = find(each, "%S")
        if first then
            local name = NAMES[lower(match(each, "^(.*%S)", first))]
            if not name or #listed == _M.MAX then
                return nil
            end
            listed[#listed + 1] = name
        end
    end

    local codings = {}
    for i = #listed, 1, -1 do
        if listed[i] ~= "identity" then
            codings[#codings + 1] = listed[i]
        end
    end
    return codings
end


--- The codings that a client may use, as a list for a header.
-- @tparam function is_available returns whether a coding can be decoded
function _M.accepted(is_available)
    local names = {}
    for _, name in ipairs(ORDER) do
        if is_available(name) then
            names[#names + 1] = name
        end
    end
    names[#names + 1] = "identity"
    return concat(names, ", ")
end


--- Whether a body with these first two bytes is a zlib stream, as `deflate` is defined; some
-- clients send a raw deflate stream instead.
function _M.is_zlib(first, second)
    return first % 16 == 8 and first < 128 and (first * 256 + second) % 31 == 0
end


--- Why a body cannot be decoded, as a sentence.
-- @tparam string name of the coding
-- @tparam string|nil detail the library's own message
function _M.problem(name, detail)
    if not detail or find(detail, "^%s*$") then
        detail = "the data is damaged"
    end
    return "The request body cannot be decoded as " .. name .. ": " .. detail .. "."
end


return _M
