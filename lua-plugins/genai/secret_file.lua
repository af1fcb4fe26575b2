--- References to secrets in files, what such a file may hold, and when a change of it counts. The
-- rules for values are those of the compiler, for files that have changed since.

local byte = string.byte
local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local sub = string.sub

local _M = {}

--- As many bytes a file may have.
_M.MAX_BYTES = 64 * 1024

-- No secret of the running gateway is longer.
local MAX_LENGTH = 512

--- For so long the last value counts while the file is away or holds nothing that can be one:
-- files are away for a moment while they are replaced, and empty while they are written.
_M.GRACE_S = 5

-- For so long changes that go on hold back those that are complete.
local PATIENCE_S = 4


--- Which item of `secrets` and which of its files a reference names. A name is all there is in a
-- reference: a path stands in the item only.
-- @treturn string|nil the item
-- @treturn string|nil the name
function _M.parse(reference)
    return match(reference, "^%$secret://file/([%w_.-]+)/([A-Z][A-Z0-9_]*)$")
end


local function is_quoted(text)
    local first = byte(text)
    return (first == 34 or first == 39 or first == 96) and #text > 1 and byte(text, -1) == first
end


--- The secret that a file holds. One final line break is not part of it.
-- @tparam string content
-- @treturn string|nil
-- @treturn nil|string why there is none, in words that show nothing of it
function _M.value_of(content)
    local text = gsub(content, "\r?\n$", "")
    if not find(text, "%S") then
        return nil, "it is empty"
    elseif find(text, "[%z\r\n]") then
        return nil, "it holds a line break or NUL"
    elseif find(text, "^%s") or find(text, "%s$") then
        return nil, "it has white space at its ends"
    elseif #text > MAX_LENGTH or find(text, "[^ -~]") then
        return nil, "it is not 1 to " .. MAX_LENGTH .. " printable ASCII characters"
    elseif is_quoted(text) then
        return nil, "it is wrapped in quotes"
    end
    local start = lower(sub(text, 1, 10))
    if start == "$secret://" or sub(start, 1, 7) == "$env://" then
        return nil, "it is a reference"
    end
    return text
end


--- What is known of one file.
-- @treturn table its `value` counts; where there is none, `problem` says why
function _M.new(path)
    return { path = path }
end


--- Takes down what was found when the file was looked at.
-- @tparam table file
-- @tparam string|nil value
-- @tparam string|nil problem why there is none
-- @tparam number now seconds
-- @treturn boolean whether that is something else than at the last look
function _M.found(file, value, problem, now)
    local is_new = not file.is_known or file.found ~= value or file.found_problem ~= problem
    file.is_known, file.found, file.found_problem = true, value, problem
    if value then
        file.bad_since = nil
    else
        file.bad_since = file.bad_since or now
    end
    return is_new
end


--- Makes what was found last what counts.
-- @treturn string|nil "value", where there is another one; "lost", where the last one does not
--   count any more; "problem", where it still does, or where there was none
function _M.take(file, now)
    if file.found then
        file.said = nil
        if file.value ~= file.found then
            file.value, file.problem = file.found, nil
            return "value"
        end
        return nil
    end

    if file.value and now - file.bad_since >= _M.GRACE_S then
        file.value, file.problem, file.said = nil, file.found_problem, file.found_problem
        return "lost"
    end
    if not file.value then
        file.problem = file.found_problem
    end
    -- Once, and not at each look.
    if file.said ~= file.found_problem then
        file.said = file.found_problem
        return "problem"
    end
    return nil
end


--- Whether what one look at all files found can be taken. Files change one after another, and one
-- that is being written holds half a key: what is found counts when the next look finds the same.
-- @tparam table looks what is remembered from look to look: `moving_since`
-- @tparam boolean is_moving whether something changed since the last look
-- @tparam number now seconds
function _M.is_settled(looks, is_moving, now)
    if not is_moving then
        looks.moving_since = nil
        return true
    end
    looks.moving_since = looks.moving_since or now
    if now - looks.moving_since >= PATIENCE_S then
        looks.moving_since = nil
        return true
    end
    return false
end


return _M
