--- Whether a stream is complete, judged by its last events.

local sse = require("genai.openai.sse")
local stream_events = require("genai.openai.stream_events")
local verdict = require("genai.openai.verdict")
local type = type

local _M = {}


--- Evaluates the last event of a text; pings do not count.
-- @tparam string complete text of complete events
-- @tparam function decode decodes one JSON value; returns nil on invalid JSON
-- @tparam boolean|nil may_be_cut whether the last event may be cut off: its name is then not used
-- @treturn boolean whether the stream may end with it
-- @treturn boolean whether the stream's end is missing
function _M.of_text(complete, decode, may_be_cut)
    local is_over, is_unfinished = false, false
    local position = 1
    while true do
        local next_position, data, name = sse.next_event(complete, position)
        if not next_position then
            return is_over, is_unfinished
        end
        position = next_position
        if data then
            local event = stream_events.of_data(data, decode)
            if not verdict.is_ping(name, event, data) then
                if may_be_cut and type(event) ~= "table" then
                    name = nil
                end
                is_over, is_unfinished = verdict.is_terminal(name, event, data)
            end
        end
    end
end


--- Whether a long event, which was scanned and not kept, ends the stream.
-- @tparam table long as `sse` returns it
function _M.of_long(long, decode)
    return verdict.is_terminal(long.name, stream_events.of_scan(long.scan, decode))
end


return _M
