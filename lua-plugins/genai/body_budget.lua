--- How much memory the bodies of requests may take, and what one of them takes.
--
-- A body in memory is there three times at most: as nginx read it, as Lua has it, as it is sent. Of
-- one in a file there are nginx's buffer and the pieces that are read and sent.

local min = math.min

local _M = {}

local COPIES = 3

--- Bytes of one piece of a body that is in a file.
_M.PIECE = 65536

--- nginx's buffer for a body that is put into a file although it would have fitted into memory.
_M.SMALL_BUFFER = 16384

-- Bodies that fit into memory may have so much of the budget; the rest is for those in files.
local SHARE_IN_MEMORY = 0.75


--- Where a body goes, and what it takes there.
-- @tparam number|nil length in bytes; nil: its client does not say
-- @tparam number used bytes that other bodies take
-- @tparam number limit bytes that all bodies may take
-- @tparam number buffer bytes: nginx puts a longer body into a file
-- @treturn string|nil "memory": where nginx puts it; "file": with a small buffer; nil: it has to
--   come again later
-- @treturn number bytes that it takes
function _M.place(length, used, limit, buffer)
    local share
    if length and length <= buffer then
        share = length * COPIES
    else
        share = buffer + 2 * _M.PIECE
    end
    local in_file = _M.SMALL_BUFFER + 2 * _M.PIECE
    local most = share > in_file and limit * SHARE_IN_MEMORY or limit
    -- One body at a time is taken whatever the limit is.
    if used + share <= most or used == 0 then
        return "memory", share
    elseif length and share > in_file and used + in_file <= limit then
        return "file", in_file
    end
    return nil, min(share, in_file)
end


return _M
