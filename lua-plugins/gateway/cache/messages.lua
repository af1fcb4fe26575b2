--- The parts of an arriving answer as one worker passes them to another.

local answers = require("genai.caching.answers")
local core = require("apisix.core")
local concat = table.concat
local sub = string.sub

local _M = {}

local HEAD, DATA, END, FAILED = "h", "d", "e", "x"

-- The answer is gone, because its leader is, or because its bytes were not passed on in time.
local GONE = "gone"


local function decode(text)
    return (core.json.decode(text))
end


--- The parts of a flight that have not been passed on. They count as passed on then.
-- @tparam table flight
-- @treturn table list of texts
function _M.pending(flight)
    local list = {}
    if not flight.head or flight.has_gap then
        return list
    end
    if not flight.is_head_sent then
        flight.is_head_sent = true
        list[1] = HEAD .. core.json.encode(flight.head)
    end
    if flight.published + 1 < flight.first then
        flight.has_gap = true
        list[#list + 1] = FAILED .. GONE
    elseif flight.count > flight.published then
        list[#list + 1] = DATA .. concat(flight.pieces, "", flight.published + 1, flight.count)
        flight.published = flight.count
    end
    return list
end


--- The last parts of a flight that has ended.
-- @tparam table flight
-- @tparam boolean is_stored whether others find the answer in the store
function _M.last(flight, is_stored)
    if flight.state == "failed" then
        return { FAILED .. flight.reason }
    elseif is_stored then
        return {}
    end
    local list = _M.pending(flight)
    -- Without its bytes, an answer that is not stored is of no use to others.
    list[#list + 1] = flight.head and END .. core.json.encode(flight.meta)
                      or FAILED .. (flight.left_out or "not_stored")
    return list
end


--- Applies a part to the flight of another worker.
function _M.apply(flight, message)
    local kind, text = sub(message, 1, 1), sub(message, 2)
    if kind == HEAD then
        local head = decode(text)
        if answers.is_meta(head) then
            flight:open(head)
        else
            flight:abandon(GONE)
        end
    elseif kind == DATA then
        flight:add(text)
    elseif kind == END then
        local meta = decode(text)
        flight:finish(nil, answers.is_meta(meta) and meta or flight.head or {})
    elseif kind == FAILED then
        flight:abandon(text)
    end
end


--- Ends a flight whose leader has given up its claim.
-- @tparam table flight
-- @tparam string|nil text the entry in the store
function _M.ended(flight, text)
    if flight.state == "done" or flight.state == "failed" then
        return
    end
    local entry = text and answers.decode(text, decode)
    if not entry or flight.state == "live" and entry.id ~= flight.token then
        -- An answer of another leader does not continue the one that was begun.
        flight:abandon(GONE)
        return
    end
    if flight.state == "live" then
        local rest = sub(entry.body, flight.size + 1)
        if rest ~= "" then
            flight:add(rest)
        end
    end
    flight:finish(entry, entry)
end


return _M
