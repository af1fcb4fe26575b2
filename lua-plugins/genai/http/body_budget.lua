--- The memory budget of request bodies, and the share of one body.
-- A body in memory exists up to three times: as nginx read it, as a Lua string, and as it is sent.
-- For a body in a file, memory holds nginx's buffer and the pieces that are being read and sent.

local min = math.min

local _M = {}

local COPIES = 3

--- Bytes of one piece of a body in a file.
_M.PIECE = 65536

--- nginx's buffer for a body that goes to a file because the budget has no room for it where nginx
-- puts it by default.
_M.SMALL_BUFFER = 16384

-- The share of the budget for bodies in memory; the rest is reserved for bodies in files.
local SHARE_IN_MEMORY = 0.75


--- The place of a body, and the memory that it needs there.
-- @tparam number|nil length in bytes; nil: the client does not declare it
-- @tparam number used bytes that other bodies use
-- @tparam number limit bytes that all bodies may take
-- @tparam number buffer in bytes: nginx puts a longer body into a file
-- @treturn string|nil "memory": where nginx puts it by default; "file": in a file with a small
--   buffer; nil: there is no room, the client must retry later
-- @treturn number bytes that it needs
function _M.place(length, used, limit, buffer)
    local share
    if length and length <= buffer then
        share = length * COPIES
    else
        share = buffer + 2 * _M.PIECE
    end
    local in_file = _M.SMALL_BUFFER + 2 * _M.PIECE
    local most = share > in_file and limit * SHARE_IN_MEMORY or limit
    -- One body at a time is accepted regardless of the limit.
    if used + share <= most or used == 0 then
        return "memory", share
    elseif length and share > in_file and used + in_file <= limit then
        return "file", in_file
    end
    return nil, min(share, in_file)
end


return _M
