--- Stores answers in the memory that all workers of this replica share, and passes arriving answers
-- from one worker to another.

local claims = require("gateway.cache.claims")
local messages = require("gateway.cache.messages")
local random = require("resty.random")
local sealing = require("gateway.cache.sealing")
local shared_memory = require("gateway.mechanisms.shared_memory")
local to_hex = require("resty.string").to_hex
local concat = table.concat
local ipairs = ipairs
local match = string.match
local ngx_now = ngx.now
local pairs = pairs
local sub = string.sub

local _M = {
    -- A finished answer is stored at once.
    is_immediate = true,
    -- Interval at which workers look for parts of arriving answers, in seconds.
    tick_s = 0.02,
}

-- Large values fragment the shared memory, so entries are stored in pieces.
local PIECE = 30 * 1024

-- How long a leader's claim outlives a killed worker, and how often it is renewed, in seconds.
local LEASE_S, RENEW_S = 6, 2

-- How long a worker's interest in an arriving answer counts, and how long its parts are kept.
local WANT_S, PART_S = 2, 30

local ENTRY, ENTRY_PIECE, LEASE, WANT, PART = "e", "p", "l", "w", "m"

local INLINE, IN_PIECES = "i", "p"

local dict = shared_memory.cache


local function new_token()
    return to_hex(random.bytes(8))
end


local function piece_key(id, number)
    return ENTRY_PIECE .. id .. number
end


-- Removes the pieces of an entry.
local function remove_pieces(head)
    local count, id = match(head, "^p(%d+) (.*)$")
    for i = 1, count or 0 do
        dict:delete(piece_key(id, i))
    end
end


local function get(name)
    local head = dict:get(ENTRY .. name)
    if not head then
        return nil
    elseif sub(head, 1, 1) == INLINE then
        return sub(head, 2)
    end
    local count, id = match(head, "^p(%d+) (.*)$")
    local pieces = {}
    for i = 1, count + 0 do
        local piece = dict:get(piece_key(id, i))
        if not piece then
            -- The memory of a piece was needed for something else.
            dict:delete(ENTRY .. name)
            remove_pieces(head)
            return nil
        end
        pieces[i] = piece
    end
    return concat(pieces)
end


-- Stores an entry. Returns false if there is no memory for it.
local function put(name, text, ttl_s)
    local key = ENTRY .. name
    local before = dict:get(key)
    if before and sub(before, 1, 1) == IN_PIECES then
        dict:delete(key)
        remove_pieces(before)
    end
    if #text <= PIECE then
        return (dict:set(key, INLINE .. text, ttl_s))
    end
    local id, count = new_token(), 0
    for from = 1, #text, PIECE do
        count = count + 1
        if not dict:set(piece_key(id, count), sub(text, from, from + PIECE - 1), ttl_s) then
            remove_pieces(IN_PIECES .. count .. " " .. id)
            return false
        end
    end
    if not dict:set(key, IN_PIECES .. count .. " " .. id, ttl_s) then
        remove_pieces(IN_PIECES .. count .. " " .. id)
        return false
    end
    return true
end


--- Finds an entry, or claims the right to make it.
-- @tparam string request the digest of a request
-- @treturn string "hit", "lead", "follow" or "alone"
-- @treturn string the entry; or the token of the leader; or why nothing can be shared
function _M:begin(request)
    local name = sealing.name(request)
    local text = get(name)
    if text then
        return "hit", text
    end
    for _ = 1, 2 do
        local token = new_token()
        local ok, err = dict:add(LEASE .. name, token, LEASE_S)
        if ok then
            -- Another leader may have finished between the two looks.
            text = get(name)
            if text then
                dict:delete(LEASE .. name)
                return "hit", text
            end
            return "lead", token
        elseif err ~= "exists" then
            return "alone", "no_memory"
        end
        token = dict:get(LEASE .. name)
        if token then
            return claims.read(token)
        end
    end
    return "alone", "no_memory"
end


local function send(flight, list)
    for _, message in ipairs(list) do
        flight.messages = flight.messages + 1
        dict:set(PART .. flight.token .. flight.messages, message, PART_S)
    end
end


--- Ends a flight: stores the entry, passes its last parts on, and gives up the leader's claim.
-- @tparam table flight
-- @tparam string|nil text the entry; nil: it is not stored
-- @tparam number ttl_s
-- @treturn string|nil "stored" or "no_memory"
function _M:finish(flight, text, ttl_s)
    local name = sealing.name(flight.name)
    local result
    if text then
        result = put(name, text, ttl_s) and "stored" or "no_memory"
    end
    if flight.is_shared then
        if flight.is_wanted or dict:get(WANT .. flight.token) then
            send(flight, messages.last(flight, result == "stored"))
        end
        if dict:get(LEASE .. name) == claims.of(flight) then
            dict:delete(LEASE .. name)
        end
    end
    return result
end


local function lead(flight, now)
    flight.is_wanted = dict:get(WANT .. flight.token) ~= nil
    if flight.is_wanted then
        send(flight, messages.pending(flight))
    end
    if now >= (flight.renew_at or 0) or claims.is_to_close(flight) then
        flight.renew_at = now + RENEW_S
        local key = LEASE .. sealing.name(flight.name)
        if dict:get(key) == claims.of(flight) then
            claims.renew(flight)
            dict:set(key, claims.of(flight), LEASE_S)
        end
    end
end


local function relay(flight)
    local name, token = sealing.name(flight.name), flight.token
    dict:set(WANT .. token, true, WANT_S)
    local holder = dict:get(LEASE .. name)
    while true do
        local message = dict:get(PART .. token .. flight.messages + 1)
        if not message then
            break
        end
        flight.messages = flight.messages + 1
        messages.apply(flight, message)
    end
    if not claims.is_of(holder, token) then
        messages.ended(flight, get(name))
    end
end


--- Passes parts of arriving answers on, and takes those of other workers.
-- @tparam table led set of flights with a leader in this worker
-- @tparam table relayed set of flights with a leader in another worker
function _M:tick(led, relayed)
    local now = ngx_now()
    for flight in pairs(led) do
        lead(flight, now)
    end
    for flight in pairs(relayed) do
        relay(flight)
    end
end


return _M
