local sse = require("genai.openai.sse")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local BYTE_ORDER_MARK = "\239\187\191"


local function events_of(text)
    local events, position = {}, 1
    while true do
        local next_position, data, name = sse.next_event(text, position)
        if not next_position then
            return events, position
        end
        equal(next_position > position, true, "it goes on")
        position = next_position
        if data then
            events[#events + 1] = (name or "-") .. " " .. data
        end
    end
end


-- The events of pieces fed one after another; what was given out must be what went in.
local function feed(pieces)
    local reader = sse.new()
    local events, given = {}, ""
    for _, piece in ipairs(pieces) do
        local complete, long = reader:feed(piece)
        if long then
            local usage = long.scan.members.usage
            events[#events + 1] = (long.name or "-") .. " long " .. (usage and usage.value or "")
        end
        if complete then
            given = given .. complete
            local found, after = events_of(complete)
            equal(complete:sub(after):find("[^\r\n]"), nil, "it is read to its end")
            for _, each in ipairs(found) do
                events[#events + 1] = each
            end
        end
    end
    return events, given
end


local STREAM = 'event: one\ndata: {"a":1}\n\n: a comment\n\ndata:two\ndata: lines\nid: 1\n\n'
               .. "\n\nretry: 5\n\nevent: nothing\n\ndata\n\ndata: [DONE]\n\n"
local EVENTS = { 'one {"a":1}', "- two\nlines", "- ", "- [DONE]" }
local KINDS = { LF = "\n", CRLF = "\r\n", CR = "\r" }


describe("sse: events", function()
    it("are read whichever way lines end, wherever the stream is split", function()
        for kind, line_end in pairs(KINDS) do
            local text = STREAM:gsub("\n", line_end)
            equal({ feed({ text }) }, { EVENTS, text }, kind)
            for first = 1, #text - 1 do
                local events, given = feed({ text:sub(1, first), text:sub(first + 1) })
                -- An event is complete before the second half of its last line end is there.
                local rest = text:sub(#given + 1)
                equal({ events, given .. rest }, { EVENTS, text }, kind .. " split at " .. first)
                equal(rest == "" or rest == "\n", true)
            end
            for size = 1, 4 do
                local pieces = {}
                for position = 1, #text, size do
                    pieces[#pieces + 1] = text:sub(position, position + size - 1)
                end
                equal(feed(pieces), EVENTS, kind .. " in pieces of " .. size)
            end
        end
    end)

    it("are read where line ends are mixed", function()
        for _, blank in ipairs({ "\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\r\n\n", "\r\n\r", "\n\r",
                                 "\r\r\n" }) do
            local text = "data: a" .. blank .. "data: b\r\n\r\n"
            for first = 1, #text - 1 do
                equal(feed({ text:sub(1, first), text:sub(first + 1) }), { "- a", "- b" })
            end
        end
    end)

    it("are given out as soon as they are complete", function()
        local reader = sse.new()
        equal(reader:feed("data: a\n"), nil)
        equal(reader:feed("\n"), "data: a\n\n")
        equal(reader:feed("data: b\n\ndata: c\n\ndata"), "data: b\n\ndata: c\n\n")
        equal(reader:feed(""), nil)
        equal(reader:feed(": d\r\n"), nil)
        equal(reader:feed("\r\n"), "data: d\r\n\r\n")
        equal(reader:feed("data: e"), nil)
    end)

    it("may be of any size, in any number of pieces, and long ones are scanned", function()
        local text = ': x\nevent: e\nid: 1\ndata: {"a":"' .. ("x"):rep(200000)
                     .. '",\ndata:"usage":{"b":\ndata\ndata: 1}}\nno colon\n\n'
        local expected = 'e long {"b":\n\n1}'
        for kind, line_end in pairs(KINDS) do
            local stream = (text .. "data: b\n\n"):gsub("\n", line_end)
            for _, size in ipairs({ 1, 7, 1000, 65536, 1e6 }) do
                local pieces = {}
                for position = 1, #stream, size do
                    pieces[#pieces + 1] = stream:sub(position, position + size - 1)
                end
                local events = feed(pieces)
                if #events[1] > 1000 then
                    -- All of it came at once.
                    events[1] = expected
                end
                equal(events, { expected, "- b" }, kind .. " in pieces of " .. size)
            end
        end
    end)

    it("are not kept without end", function()
        local reader = sse.new()
        local piece = ("x"):rep(50000)
        reader:feed("data: ")
        for _ = 1, 200 do
            equal(reader:feed(piece), nil)
            equal(reader.size <= 65536 and reader.count <= 3, true)
        end
        local complete, long = reader:feed("\n\ndata: b\n\n")
        equal({ complete, long ~= nil }, { "data: b\n\n", true })
        equal(reader:feed("data: c\n\n"), "data: c\n\n")
    end)
end)


describe("sse: next_event", function()
    it("gives data and name", function()
        equal({ sse.next_event("event: e\ndata: d\n\n", 1) }, { 19, "d", "e" })
        equal({ sse.next_event("data: d\nevent:e\n\nx", 1) }, { 18, "d", "e" })
    end)

    it("takes off one space, where there is one", function()
        equal(events_of("data:a\n\ndata: b\n\ndata:  c\n\ndata:\td\n\ndata: a:b \n\n"),
              { "- a", "- b", "-  c", "- \td", "- a:b " })
    end)

    it("joins lines of data", function()
        equal(events_of("data: a\ndata:\ndata\ndata: b\n\n"), { "- a\n\n\nb" })
    end)

    it("tells data that is empty from none", function()
        equal({ sse.next_event("data:\n\n", 1) }, { 8, "" })
        equal({ sse.next_event("event: ping\n\n", 1) }, { 14, nil, "ping" })
        equal({ sse.next_event(": comment\n\n", 1) }, { 12 })
    end)

    it("passes over fields that it does not know", function()
        equal(events_of("Data: a\nDATA: b\n data: c\ndatas: d\nid: 1\n:data: e\ndata: f\n\n"),
              { "- f" })
    end)

    it("passes over empty lines before an event", function()
        equal({ sse.next_event("\n\r\n\rdata: a\n\n", 1) }, { 14, "a" })
        equal(sse.next_event("\n\n\n", 1), nil)
    end)

    it("passes over a byte order mark at the beginning", function()
        equal(events_of(BYTE_ORDER_MARK .. "data: a\n\ndata: b\n\n"), { "- a", "- b" })
        equal(events_of(BYTE_ORDER_MARK .. BYTE_ORDER_MARK .. "data: a\n\ndata: b\n\n"), { "- b" })
        equal(sse.next_event(BYTE_ORDER_MARK, 1), nil)
    end)

    it("gives nothing that is not complete", function()
        for _, text in ipairs({ "", "data", "data: a", "data: a\n", "data: a\r\n", "data: a\r" }) do
            equal(sse.next_event(text, 1), nil, text)
        end
        equal(sse.next_event("data: a\n\n", 10), nil)
        equal(sse.next_event("data: a\n\n", 100), nil)
    end)

    it("goes on where it is told to", function()
        local text = "data: a\n\ndata: b\n\n"
        equal({ sse.next_event(text, 10) }, { 19, "b" })
    end)
end)


describe("sse: mentions_usage", function()
    it("is true for usage that is an object", function()
        for _, text in ipairs({ '{"usage":{"a":1}}', '{"usage": {}}', '{"usage" : {',
                                'data: {"usage":null}\n\ndata: {"a":{"usage":{"b":1}}}\n\n' }) do
            equal(sse.mentions_usage(text), true, text)
        end
    end)

    it("is false for anything else", function()
        for _, text in ipairs({ "", '{"usage":null}', '{"usage": null }', '"usage"', "usage:{",
                                '{"content":"usage"}', '"my usage":1', 'usage"' }) do
            equal(sse.mentions_usage(text), false, text)
        end
    end)
end)
