--- Watches an answer as it passes, and remembers the owner of the objects that it creates: stored
-- objects, items of responses, audio, and encrypted reasoning.

local json_scan = require("genai.util.json_scan")
local owner_memory = require("gateway.affinity.owner_memory")
local sse = require("genai.openai.sse")
local stored_objects = require("genai.openai.stored_objects")
local stream_events = require("genai.openai.stream_events")
local token_usage = require("genai.openai.token_usage")
local find = string.find
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable

local Watch = {}
local mt = { __index = Watch }

-- If the first events of a stream do not contain the id of the new object, later events do not
-- either.
local MAX_EVENTS = 8

local AUDIO = '"audio"'

-- What the scan of a JSON answer looks for, by kind of answer.
local PLANS = {}
for kind, made in pairs(stored_objects.MADE) do
    local members = {}
    for _, list in ipairs({ made.members, token_usage.WANTED }) do
        for _, each in ipairs(list) do
            members[#members + 1] = each
        end
    end
    PLANS[kind] = json_scan.plan(members, made.words)
end

-- What the scan of a chat completion event looks for.
local CHAT_EVENT = json_scan.plan(stored_objects.MADE.chat.members, stored_objects.MADE.chat.words)

-- Collections in which a GET answer can name objects for the first time: a background response and
-- its items, the results of a job.
local READ = { ["responses"] = true, ["conversations"] = true, ["batches"] = true,
               ["video/generations/jobs"] = true }


local _M = {}


-- The kind of objects that an answer creates, one of `stored_objects.MADE`, and whether the answer
-- has a new id of its own; nil: it creates none.
local function kind_of(record, affinity)
    local target, method = record.target, record.method
    local collection = target.collection
    if not collection or method ~= "POST" and not (method == "GET" and READ[collection]) then
        return nil
    end
    local is_new = method == "POST" and not target.stored_id
    if collection == "responses" or collection == "conversations" then
        return "response", is_new
    elseif target.operation ~= "chat_completions" then
        return "object", is_new
    elseif is_new and (affinity.is_stored or affinity.has_audio) then
        return "chat", affinity.is_stored
    end
    return nil
end


--- Creates a watch; returns nil if the answer creates nothing that has an owner. A backend that
-- accepts a name which only its owner can accept is remembered as that owner.
-- @tparam table record
-- @tparam table backend the answering backend
-- @tparam table exchange
function _M.new(record, backend, exchange)
    local affinity, status = record.affinity, exchange.status
    if not affinity or status < 200 or status > 299 then
        return nil
    end
    local conf = record.pool.conf.affinity
    local shown = affinity.refusals and affinity.unknown or affinity.proven
    if shown then
        owner_memory.remember(conf, shown, backend.origin)
    end
    local kind, is_new = kind_of(record, affinity)
    if not kind then
        return nil
    end
    return setmetatable({
        conf = conf,
        scope = affinity.scope,
        origin = backend.origin,
        kind = kind,
        wants_id = is_new,
        -- Items of a response that is not stored have no owner, but its encrypted reasoning and
        -- audio have.
        with_ids = kind == "chat" or affinity.is_stored ~= false,
        events_left = MAX_EVENTS,
        audio_left = MAX_EVENTS,
        noted = {},
        left = stored_objects.MAX_MADE,
        -- what the scan of a JSON answer looks for
        plan = PLANS[kind],
    }, mt)
end


-- Remembers ids and encrypted reasoning once each, because they appear in their item and again in
-- the complete response.
function Watch:note(ids)
    local keys
    for _, id in ipairs(ids) do
        if not self.noted[id] and self.left > 0 then
            self.noted[id] = true
            self.left = self.left - 1
            keys = keys or {}
            keys[#keys + 1] = owner_memory.key_of(self.scope, id)
        end
    end
    if keys then
        owner_memory.remember(self.conf, keys, self.origin)
    end
end


--- Reads new ids from the scan of a JSON answer, before the scanned bytes are sent.
function Watch:scanned(scan)
    if self.wants_id and scan.members.id then
        self.wants_id = false
        self:note({ stored_objects.made(scan) })
    end
end


--- Reads the remaining ids from the scan of a complete JSON answer.
function Watch:ended(scan)
    self:note(stored_objects.all_made(scan, stored_objects.MADE[self.kind], self.with_ids))
end


local function scan_of(data, plan)
    local scan = json_scan.new(plan)
    scan:feed(data)
    scan:finish()
    return scan
end


-- The first events of a stream contain the id of the object that it creates.
function Watch:note_id(scan, name)
    if self.wants_id and self.events_left > 0 then
        local id = stored_objects.made(scan, name)
        self.events_left = self.events_left - 1
        self.wants_id = not id and self.events_left > 0
        self:note({ id })
    end
end


--- Handles one event of a response stream, scanned for `stream_events.PLAN`.
function Watch:event(scan)
    if self.kind == "response" then
        self:note_id(scan, "response.id")
        self:note(stored_objects.items_of_event(scan, self.with_ids))
    end
end


-- Whether a text of one or more events must be scanned.
function Watch:is_of_interest(text)
    if self.kind == "chat" then
        return self.wants_id or self.audio_left > 0 and find(text, AUDIO, 1, true) ~= nil
    end
    local has_items, is_item = stored_objects.mentions_items(text, not self.has_items)
    if is_item then
        -- The complete response repeats the items that were already remembered.
        self.has_items = true
    end
    return self.wants_id or has_items
end


--- Handles complete events of a stream.
function Watch:events(complete)
    if self.kind == "object" or not self:is_of_interest(complete) then
        return
    end
    local position = 1
    while true do
        local next_position, data = sse.next_event(complete, position)
        if not next_position then
            return
        end
        position = next_position
        if data and self:is_of_interest(data) then
            if self.kind == "response" then
                self:event(scan_of(data, stream_events.PLAN))
            else
                local scan = scan_of(data, CHAT_EVENT)
                self:note_id(scan, "id")
                local ids = stored_objects.all_made(scan, stored_objects.MADE.chat, self.with_ids)
                self.audio_left = self.audio_left - (find(data, AUDIO, 1, true) and 1 or 0)
                self:note(ids)
            end
        end
    end
end


return _M
