--- Which module may require which, and under which name.

local harness = require("harness")
local sources = require("sources")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

-- Rooms of `gateway/`, from bottom to top. A module requires its own room and those below.
local ROOMS = { "mechanisms", "record", "metrics", "exchange", "credentials", "shared_redis",
                "backends", "affinity", "limits", "cache", "request", "telemetry", "readiness" }

-- Data without any require, which any room may use.
local WITHOUT_ROOM = { ["gateway.proxy_schema"] = true }

local OF_LUAJIT = { bit = true, ffi = true, ["table.new"] = true }

local modules = sources.all()


-- Fails with all that a check finds.
local function none(check)
    local found = {}
    for _, module in ipairs(modules) do
        for _, required in ipairs(sources.requires(module)) do
            local problem = check(module, required)
            if problem then
                found[#found + 1] = module.name .. " " .. problem
            end
        end
    end
    equal(found, {})
end


local function level_of(name)
    local room = name:match("^gateway%.([^.]+)")
    for level, each in ipairs(ROOMS) do
        if each == room then
            return level
        end
    end
    error(name .. " is in no room that the test knows")
end


describe("a module of", function()
    it("genai/ requires modules of genai/ only", function()
        none(function(module, required)
            if module.folder == "genai" and not required.name:find("^genai%.")
               and not OF_LUAJIT[required.name]
            then
                return "requires " .. required.name
            end
        end)
    end)

    it("apisix_internals/ requires nothing else of ours but genai.util", function()
        none(function(module, required)
            local name = required.name
            if module.folder == "apisix_internals" and sources.is_ours(name)
               and not name:find("^apisix_internals%.") and not name:find("^genai%.util%.")
            then
                return "requires " .. name
            end
        end)
    end)

    it("gateway/ requires its own room and rooms below, and no plugin", function()
        none(function(module, required)
            if module.folder ~= "gateway" or WITHOUT_ROOM[required.name] then
                return nil
            elseif required.name:find("^apisix%.plugins%.") then
                return "requires " .. required.name
            elseif required.name:find("^gateway%.") and level_of(required.name) > level_of(module.name) then
                return "requires " .. required.name .. ", which is above it"
            end
        end)
    end)

    it("a plugin requires no other plugin", function()
        none(function(module, required)
            local name = required.name
            if module.folder == "apisix" and name:find("^apisix%.") and sources.is_ours(name) then
                return "requires " .. name
            end
        end)
    end)

    it("any other folder than apisix_internals/ requires apisix.core only of APISIX", function()
        none(function(module, required)
            local is_of_apisix = required.name:find("^apisix%.") or required.name:find("^resty%.apisix%.")
            if module.folder ~= "apisix_internals" and is_of_apisix and required.name ~= "apisix.core" then
                return "requires " .. required.name
            end
        end)
    end)
end)


describe("modules", function()
    it("require each other in no circle", function()
        local requires = {}
        for _, module in ipairs(modules) do
            requires[module.name] = sources.requires(module)
        end
        local state, circles = {}, {}
        local function visit(name, path)
            if state[name] == "open" then
                circles[#circles + 1] = path .. " " .. name
            elseif not state[name] then
                state[name] = "open"
                for _, each in ipairs(requires[name] or {}) do
                    visit(each.name, path .. " " .. name)
                end
                state[name] = "done"
            end
        end
        for _, module in ipairs(modules) do
            visit(module.name, "")
        end
        equal(circles, {})
    end)

    it("have a last segment of their name that no other module has", function()
        local by_segment, twice = {}, {}
        for _, module in ipairs(modules) do
            if by_segment[module.last] then
                twice[#twice + 1] = module.name .. " and " .. by_segment[module.last]
            end
            by_segment[module.last] = module.name
        end
        equal(twice, {})
    end)

    it("are assigned to a local variable of that name wherever they are required", function()
        none(function(_, required)
            local last = required.name:match("[^.]+$")
            if sources.is_ours(required.name) and required.variable ~= last then
                return "calls " .. required.name .. " " .. (required.variable or "nothing")
            end
        end)
    end)

    it("are there, and so is every member that is named after them", function()
        local worker = world_module.new():worker()
        -- The world has stubs of these two.
        local is_stub = { ["apisix_internals.contract"] = true, ["apisix_internals.request_line"] = true }
        local missing = {}
        for _, module in ipairs(modules) do
            local by_variable = {}
            for _, required in ipairs(sources.requires(module)) do
                if required.variable and sources.is_ours(required.name) and not is_stub[required.name] then
                    by_variable[required.variable] = worker.require(required.name)
                end
            end
            for name, member in module.code:gmatch("%f[%w_.]([%a_][%w_]*)[.:]([%a_][%w_]*)") do
                local loaded = by_variable[name]
                if type(loaded) == "table" and loaded[member] == nil then
                    missing[#missing + 1] = module.name .. ": " .. name .. "." .. member
                end
            end
        end
        equal(missing, {})
    end)
end)
