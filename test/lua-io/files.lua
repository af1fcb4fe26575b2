--- Files of a world, which are there only where a test wrote them.

local gmatch = string.gmatch
local io_open = io.open
local ipairs = ipairs
local match = string.match
local setmetatable = setmetatable
local sub = string.sub
local type = type

local _M = {}
local mt = { __index = _M }


function _M.new(scheduler)
    return setmetatable({ scheduler = scheduler, by_path = {}, real = {}, inode = 0 }, mt)
end


--- Writes a file, or with nil removes it.
-- @tparam number|nil at its time stamp; the clock by default
function _M:write(path, content, at)
    self.inode = self.inode + 1
    local time = at or self.scheduler.now
    self.by_path[path] = content and { content = content, ino = self.inode, dev = 1, mode = "file",
                                       size = #content, modification = time, change = time }
end


--- Makes a file of the machine one of the world, for those who read it through C.
function _M:share(path)
    self.real[path] = true
end


--- As `lfs.attributes`.
function _M:attributes(path, result)
    local file = self.by_path[path]
    if not file then
        return nil, "No such file or directory", 2
    end
    result = result or {}
    for _, name in ipairs({ "ino", "dev", "mode", "size", "modification", "change" }) do
        result[name] = file[name]
    end
    return result
end


local Handle = {}
local handle_mt = { __index = Handle }


-- `and_line`: "*L", for the rest of the line in addition.
function Handle:read(what, and_line)
    local rest = sub(self.content, self.position)
    local text = type(what) == "number" and sub(rest, 1, what) or rest
    local line = and_line and match(rest, "^[^\n]*\n?", #text + 1)
    self.position = self.position + #text + #(line or "")
    return text ~= "" and text or nil, line ~= "" and line or nil
end


function Handle:lines()
    return gmatch(self.content, "([^\n]*)\n?")
end


function Handle:seek()
    return #self.content
end


function Handle:close()
    return true
end


--- As `io.open`.
function _M:open(path, mode)
    if self.real[path] then
        return io_open(path, mode)
    end
    local file = self.by_path[path]
    if not file then
        return nil, path .. ": No such file or directory", 2
    end
    return setmetatable({ content = file.content, position = 1 }, handle_mt)
end


return _M
