--- The record of a request: it has the fields that are declared, and each is written by the modules
-- that its declaration names.

local harness = require("harness")
local sources = require("sources")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NAME = "gateway.record.request_record"


local function record_module(is_strict)
    local request_record = world_module.new():worker().require(NAME)
    request_record.set_strict(is_strict)
    return request_record
end


describe("a record", function()
    local KINDS = { "record", "attempt", "choice", "answer", "affinity", "reservation", "facts" }

    it("refuses to read and to write a field that is not declared, of each kind", function()
        local request_record = record_module(true)
        for _, kind in ipairs(KINDS) do
            local values = request_record.new(kind, {})
            local _, err = pcall(function()
                return values.unheard_of
            end)
            equal(err:match("the field unheard_of of a request's (%w+) is not declared"), kind, "reading")
            _, err = pcall(function()
                values.unheard_of = 1
            end)
            equal(err:match("the field unheard_of of a request's (%w+) is not declared"), kind, "writing")
            equal(pcall(request_record.new, kind, { unheard_of = 1 }), false, "first values")
        end
        equal(pcall(function()
            return request_record.of({}).unheard_of
        end), false, "the record of a request")
    end)

    it("keeps the fields that are declared, and has none of them at first", function()
        local request_record = record_module(true)
        for kind, fields in pairs(request_record.FIELDS) do
            local values = request_record.new(kind, {})
            for field in pairs(fields) do
                equal(values[field], nil)
                values[field] = field
                equal(values[field], field)
            end
        end
    end)

    it("is made once for a request", function()
        local request_record = record_module(true)
        local ctx = {}
        local record = request_record.of(ctx)
        equal({ request_record.of(ctx) == record, ctx.genai == record }, { true, true })
        equal(request_record.is_admitted(record), false)
        record.target = {}
        equal(request_record.is_admitted(record), true)
    end)

    it("is a plain table in production", function()
        local request_record = record_module(false)
        equal({ getmetatable(request_record.new("record", {})), getmetatable(request_record.of({})) }, {})
    end)

    it("is strict where config.yaml of a test says so", function()
        for strict, expected in pairs({ [true] = false, [false] = true }) do
            local world = world_module.new({ settings = {
                plugin_attr = { ["azure-openai-proxy"] = { testing = { strict = strict } } },
            } })
            local request_record = world:worker({ is_bare = true }).require(NAME)
            equal(pcall(request_record.new, "record", { unheard_of = 1 }), expected)
        end
    end)
end)


local FIELDS = record_module(true).FIELDS

-- How a table of the record is named where a field of it is assigned.
local KIND_OF = { record = "record", choice = "choice", answer = "answer", attempt = "attempt",
                  facts = "facts", affinity = "affinity", reservation = "reservation",
                  ["request_record.of(ctx)"] = "record", ["_M.last(record)"] = "attempt" }

-- Further names of variables that hold such a table where a field of it is read.
local ALSO_READ_AS = { attempt = { each = true, last = true, first_failed = true },
                       choice = { request = true, about = true }, answer = { seen = true } }


-- Whose field an assignment's left side is: the kind and the field. `record.choice.tried[x]` is the
-- field `tried` of a choice.
local function field_of(target)
    target = target:gsub("%b[]$", "")
    local owner, field = target:match("^(.*)%.([%a_][%w_]*)$")
    if not owner then
        return nil
    end
    return KIND_OF[owner] or owner:find("^[%w_.]+$") and KIND_OF[owner:match("[^.]+$")] or nil, field
end


-- Calls `found(kind, field)` for each field that a module assigns, also where the table is made.
local function each_write(module, found)
    for line in ("\n" .. module.code):gmatch("\n%s*([%a_][^\n=~<>]-) = ") do
        if not line:find("^local ") then
            for target in (line .. ","):gmatch("%s*(.-),") do
                local kind, field = field_of(target)
                if kind then
                    found(kind, field)
                end
            end
        end
    end
    for kind, values in module.code:gmatch('request_record%.new%("(%w+)", (%b{})%)') do
        for field in values:sub(2, -2):gsub("%b{}", ""):gmatch("([%a_][%w_]*) =") do
            found(kind, field)
        end
    end
end


-- The modules that a declaration names as writers.
local function writers_of(declaration)
    local writers = {}
    for name in declaration[2]:gmatch("[^,%s]+") do
        writers[name] = true
    end
    return writers
end


describe("a field of a record", function()
    local written = {}
    local strangers, undeclared = {}, {}
    for _, module in ipairs(sources.all()) do
        each_write(module, function(kind, field)
            local declaration = FIELDS[kind][field]
            if not declaration then
                undeclared[#undeclared + 1] = module.name .. " writes " .. kind .. "." .. field
                return
            end
            if not writers_of(declaration)[module.last] then
                strangers[#strangers + 1] = module.name .. " writes " .. kind .. "." .. field
            end
            written[kind .. "." .. field .. " by " .. module.last] = true
        end)
    end

    it("is declared if a module assigns it", function()
        equal(undeclared, {})
    end)

    it("is assigned by no module that its declaration does not name", function()
        equal(strangers, {})
    end)

    it("is assigned by each module that its declaration names", function()
        local missing = {}
        for kind, fields in pairs(FIELDS) do
            for field, declaration in pairs(fields) do
                for writer in pairs(writers_of(declaration)) do
                    local about = kind .. "." .. field .. " by " .. writer
                    if not written[about] then
                        missing[#missing + 1] = about
                    end
                end
            end
        end
        table.sort(missing)
        equal(missing, {})
    end)

    it("is read somewhere", function()
        local read = {}
        for _, module in ipairs(sources.all()) do
            -- What is left of an assignment is no reading.
            local code = module.code:gsub("(\n%s*)([%a_][^\n=~<>]-)( = )", function(indent, targets, sign)
                return indent .. (targets:find("^local ") and targets or "") .. sign
            end)
            for position, field in code:gmatch("()%.([%a_][%w_]*)") do
                local owner = code:sub(position - 30, position - 1):match("[%w_%])]+$") or ""
                for kind in pairs(FIELDS) do
                    -- A list's item, or what a call returns, is an attempt.
                    local is_attempt = kind == "attempt" and owner:find("[%])]$")
                    if KIND_OF[owner] == kind or is_attempt or (ALSO_READ_AS[kind] or {})[owner] then
                        read[kind .. "." .. field] = true
                    end
                end
            end
        end
        local unread = {}
        for kind, fields in pairs(FIELDS) do
            for field in pairs(fields) do
                local name = kind .. "." .. field
                unread[#unread + 1] = not read[name] and name or nil
            end
        end
        table.sort(unread)
        equal(unread, {})
    end)

    it("is declared with a phase, its writers and what it is", function()
        local PHASES = { rewrite = true, access = true, before_proxy = true, log = true, any = true }
        local names = {}
        for _, module in ipairs(sources.all()) do
            names[module.last] = true
        end
        for kind, fields in pairs(FIELDS) do
            for field, declaration in pairs(fields) do
                local about = kind .. "." .. field
                equal({ PHASES[declaration[1]], type(declaration[3]) }, { true, "string" }, about)
                for writer in pairs(writers_of(declaration)) do
                    equal(names[writer], true, about .. ": the module " .. writer)
                end
            end
        end
    end)
end)
