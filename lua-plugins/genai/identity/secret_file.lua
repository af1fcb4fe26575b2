--- References to secrets in files, the rules for such a file, and when a change applies. The rules
-- for values are the same as the compiler's; they are checked again because files change at run
-- time.

local byte = string.byte
local find = string.find
local gsub = string.gsub
local lower = string.lower
local match = string.match
local sub = string.sub

local _M = {}

--- The maximum size of a file in bytes.
_M.MAX_BYTES = 64 * 1024

-- The maximum length of a secret.
local MAX_LENGTH = 512

--- How long the last value stays in use while the file is missing or invalid: files are missing for
-- a moment when they are replaced, and empty while they are written.
_M.GRACE_S = 5

-- Maximum time to wait for files to stop changing before complete changes apply.
local PATIENCE_S = 4


--- The item of `secrets` and the setting that a reference names. A reference never contains a path;
-- the item does.
-- @treturn string|nil the item
-- @treturn string|nil the setting
function _M.parse(reference)
    return match(reference, "^%$secret://file/([%w_.-]+)/([A-Z][A-Z0-9_]*)$")
end


local function is_quoted(text)
    local first = byte(text)
    return (first == 34 or first == 39 or first == 96) and #text > 1 and byte(text, -1) == first
end


--- The secret in a file. One final line break is not part of it.
-- @tparam string content
-- @treturn string|nil
-- @treturn nil|string why there is none, without showing any of it
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


--- The state of one file.
-- @treturn table `value`: the value in use; if nil, `problem` gives the reason
function _M.new(path)
    return { path = path }
end


--- Records the result of a check of the file.
-- @tparam table file
-- @tparam string|nil value
-- @tparam string|nil problem why there is none
-- @tparam number now seconds
-- @treturn boolean whether the result differs from the last check
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


--- Applies the last result.
-- @treturn string|nil "value": there is a new value; "lost": the last value is no longer in use;
--   "problem": the last value is still in use, or there was none
function _M.take(file, now)
    if file.found then
        file.logged_problem = nil
        if file.value ~= file.found then
            file.value, file.problem = file.found, nil
            return "value"
        end
        return nil
    end

    if file.value and now - file.bad_since >= _M.GRACE_S then
        file.value, file.problem, file.logged_problem = nil, file.found_problem, file.found_problem
        return "lost"
    end
    if not file.value then
        file.problem = file.found_problem
    end
    -- Report a problem once, not at each check.
    if file.logged_problem ~= file.found_problem then
        file.logged_problem = file.found_problem
        return "problem"
    end
    return nil
end


--- Whether the results of a check can be applied. Files change one after another, and a file that
-- is being written contains half a key. So a result applies when the next check finds the same.
-- @tparam table looks state between checks: `moving_since`
-- @tparam boolean is_moving whether something changed since the last check
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
