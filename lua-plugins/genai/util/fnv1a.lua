--- FNV-1a with 64 bits, as 16 hex digits: the digests in the manifest, which
-- `compiler/emit/fnv1a.ts` computes as well. `test/lua/fnv1a_cases.json` holds both to it.

local bit = require("bit")
local byte = string.byte
local bxor = bit.bxor
local floor = math.floor
local format = string.format
local setmetatable = setmetatable

local _M = {}

local INDEX = { __index = _M }

local TWO_TO_32 = 2 ^ 32


--- A digest of no text yet.
function _M.new()
    return setmetatable({ high = 0xcbf29ce4, low = 0x84222325 }, INDEX)
end


--- Adds a text.
-- @tparam string text
function _M:update(text)
    local high, low = self.high, self.low
    -- The prime is 2^40 + 435: each product stays below 2^53 and is exact.
    for i = 1, #text do
        local mixed = bxor(low, byte(text, i)) % TWO_TO_32
        local product = mixed * 435
        low = product % TWO_TO_32
        high = (high * 435 + floor(product / TWO_TO_32) + mixed * 256) % TWO_TO_32
    end
    self.high, self.low = high, low
end


--- The digest of what was added.
-- @treturn string 16 hex digits
function _M:final()
    return format("%08x%08x", self.high, self.low)
end


return _M
