--- Tests of tests: removes one statement of a function after another, and demands that one of some
-- checks fails for each. With MUTANTS=1 it prints which check caught which mutant.

local concat = table.concat
local error = error
local find = string.find
local getenv = os.getenv
local gsub = string.gsub
local insert = table.insert
local ipairs = ipairs
local match = string.match
local pcall = pcall
local print = print
local sub = string.sub
local tostring = tostring
local world = require("world")

local _M = {}


local function lines_of(text)
    local lines = {}
    for line in (text .. "\n"):gmatch("(.-)\n") do
        lines[#lines + 1] = line
    end
    return lines
end


local function indent_of(line)
    return #match(line, "^ *")
end


-- The last line of the statement that begins at a line: what is indented deeper belongs to it, and
-- so do `else` and `end` of a block.
local function end_of(lines, first)
    local indent = indent_of(lines[first])
    local last = first
    for i = first + 1, #lines do
        local line = lines[i]
        local is_inside = line == "" or indent_of(line) > indent
        local goes_on = indent_of(line) == indent and find(line, "^ *else")
        local ends = indent_of(line) == indent and find(line, "^ *end")
        if ends then
            return i
        elseif not is_inside and not goes_on then
            return last
        elseif line ~= "" then
            last = i
        end
    end
    return last
end


local function is_block(line)
    return find(line, "^ *if .*then$") or find(line, "^ *if ") or find(line, "^ *for ")
           or find(line, "^ *while ")
end


local function without(lines, first, last)
    local rest = {}
    for i, line in ipairs(lines) do
        rest[#rest + 1] = (i < first or i > last) and line or nil
    end
    return concat(rest, "\n")
end


-- The same with a condition that always holds.
local function unconditional(lines, first)
    local changed = {}
    for i, line in ipairs(lines) do
        changed[i] = i == first and gsub(line, "if .* then$", "if true then") or line
    end
    return concat(changed, "\n")
end


-- Adds the mutants of the statements from one line to another.
local function add(mutants, lines, first, last)
    local i = first
    while i <= last do
        local line = lines[i]
        if line == "" or find(line, "^ *%-%-") or find(line, "^ *els") or find(line, "^ *end") then
            i = i + 1
        else
            local till = end_of(lines, i)
            local words = match(line, "^ *(.*)$")
            insert(mutants, { name = "without `" .. words .. (till > i and " …`" or "`"),
                              source = without(lines, i, till) })
            if is_block(line) then
                if find(line, "then$") then
                    insert(mutants, { name = "always `" .. words .. "`", source = unconditional(lines, i) })
                end
                add(mutants, lines, i + 1, till - 1)
            end
            i = till + 1
        end
    end
end


--- The mutants of a function: without each of its statements, and with each of its conditions true.
-- @tparam string text the source of its module
-- @tparam string signature its first line
-- @treturn table a list of `name` and `source`
function _M.of(text, signature)
    local lines = lines_of(text)
    for i, line in ipairs(lines) do
        if line == signature then
            local mutants = {}
            add(mutants, lines, i + 1, end_of(lines, i) - 1)
            return mutants
        end
    end
    error("there is no line: " .. signature, 2)
end


--- Demands that each mutant of a function fails one of some checks, and the source itself none.
-- @tparam string module
-- @tparam string signature the function's first line
-- @tparam table checks a list of a name and a function that gets texts of modules by their names
-- @tparam table|nil equivalent why a mutant does the same as the source, by its name
function _M.are_caught(module, signature, checks, equivalent)
    local text = world.source(module)
    for _, check in ipairs(checks) do
        check[2]({})
    end
    local survivors = {}
    for _, mutant in ipairs(_M.of(text, signature)) do
        local caught_by, why
        for _, check in ipairs(checks) do
            local ok, err = pcall(check[2], { [module] = mutant.source })
            if not ok then
                caught_by, why = check[1], match(tostring(err), "^[^\n]*")
                break
            end
        end
        local reason = equivalent and equivalent[mutant.name]
        if caught_by and reason then
            error(mutant.name .. " is not equivalent: " .. why, 2)
        elseif not caught_by and not reason then
            survivors[#survivors + 1] = mutant.name
        end
        if getenv("MUTANTS") then
            print(("mutant of %s %s: %s%s"):format(module, mutant.name,
                  caught_by and "caught by: " .. caught_by or reason and "equivalent: " .. reason
                  or "NOT CAUGHT",
                  why and " (" .. sub(why, 1, 160) .. ")" or ""))
        end
    end
    if #survivors > 0 then
        error("no check fails for " .. concat(survivors, "; "), 2)
    end
end


return _M
