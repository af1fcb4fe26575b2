--- The claim of a leader to get an answer: its token. A closed claim has a mark: the answer is too
-- large to be stored, so no further request may follow it.

local sub = string.sub
local type = type

local _M = {}

local CLOSED = "!"


--- The claim of a flight as it is in the store.
function _M.of(flight)
    return flight.is_closed and flight.token .. CLOSED or flight.token
end


--- Whether the claim of a flight has to be closed.
function _M.is_to_close(flight)
    return not flight.keeps and not flight.is_closed
end


--- Closes the claim of a flight if its answer is too large.
function _M.renew(flight)
    flight.is_closed = not flight.keeps
end


--- What a request may do that finds a claim.
-- @treturn string "follow" or "alone"
-- @treturn string the token, or why it cannot follow
function _M.read(claim)
    if sub(claim, -1) == CLOSED then
        return "alone", "too_large"
    end
    return "follow", claim
end


--- Whether a claim is that of a leader.
-- @tparam any claim as the store returns it
-- @tparam string token
function _M.is_of(claim, token)
    return type(claim) == "string" and (claim == token or claim == token .. CLOSED)
end


return _M
