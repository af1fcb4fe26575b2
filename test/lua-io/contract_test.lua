--- The check of the contract with APISIX, on modules that stand for APISIX's.

local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local DIFFERS = "APISIX differs from what this gateway relies on: "
local ADVICE = ". Use APISIX 3.18.0"

-- A module whose source is at hand, for what a source must contain.
local WITH_SOURCE = "genai.util.memo"

local ERR, WARN = 4, 5


-- Loads the contract into a process of its own: with these terms, and these modules of APISIX.
local function process(terms, modules, settings)
    local names = { "apisix_internals.contract", "apisix_internals.contract_terms" }
    local logged = {}
    ngx = {
        ERR = ERR,
        WARN = WARN,
        log = function(level, ...)
            logged[#logged + 1] = { level, table.concat({ ... }) }
        end,
    }
    for name, module in pairs(modules or {}) do
        names[#names + 1] = name
        package.loaded[name] = module
    end
    local all = { core_members = {} }
    for name, part in pairs(terms or {}) do
        all[name] = part
        names[#names + 1] = "apisix_internals." .. name
        package.loaded["apisix_internals." .. name] = {}
    end
    package.loaded["apisix_internals.contract_terms"] = all
    package.loaded["apisix.core.version"] = settings and settings.version_module
        or { VERSION = settings and settings.version or "3.18.0" }
    package.loaded["apisix.core"] = modules and modules["apisix.core"] or {
        config = {
            local_conf = function()
                return { plugin_attr = settings and settings.plugin_attr }
            end,
        },
    }
    names[#names + 1] = "apisix.core.version"
    names[#names + 1] = "apisix.core"
    package.loaded["apisix_internals.contract"] = nil
    local contract = require("apisix_internals.contract")
    return contract, logged, function()
        for _, name in ipairs(names) do
            package.loaded[name] = nil
        end
        ngx = nil
    end
end


-- What the check of one entry reports.
local function problems_of(entry, module)
    local contract, _, finish = process({ part = { entry } }, { [entry.module] = module })
    contract.part("part")
    local problems = contract.problems()
    finish()
    return problems
end


local function differs(what)
    return { DIFFERS .. what .. ADVICE }
end


describe("the version of APISIX", function()
    local function reported(settings)
        local contract, logged, finish = process({ part = {} }, {}, settings)
        contract.part("part")
        contract.part("part")
        finish()
        return contract.problems(), logged
    end

    local untested = "APISIX 3.19.0 is not one of the versions that this gateway was tested with (3.18.0)"
    local refused = untested .. ". Use a tested version, or set GATEWAY_ALLOW_UNTESTED_APISIX=true to start"
                    .. " anyway"

    it("is no problem where it was tested", function()
        local problems, logged = reported()
        equal({ problems, logged }, { {}, {} })
    end)

    it("is a problem where it was not, and logged once", function()
        local problems, logged = reported({ version = "3.19.0" })
        equal(problems, { refused })
        equal(logged, { { ERR, refused } })
    end)

    it("is a warning where the setting allows it", function()
        local problems, logged = reported({
            version = "3.19.0",
            plugin_attr = { ["azure-openai-proxy"] = { allow_untested_apisix = true } },
        })
        equal(problems, {})
        equal(logged, { { WARN, untested .. ". It starts because GATEWAY_ALLOW_UNTESTED_APISIX=true" } })
    end)

    it("is a problem where the setting is off, or another type", function()
        for _, value in ipairs({ false, "true", 1 }) do
            local problems = reported({
                version = "3.19.0",
                plugin_attr = { ["azure-openai-proxy"] = { allow_untested_apisix = value } },
            })
            equal(problems, { refused }, tostring(value))
        end
    end)

    it("is a problem where there is none", function()
        equal(reported({ version_module = {} }), differs("apisix.core.version has no string VERSION"))
    end)
end)


describe("the shape of APISIX", function()
    it("holds where functions, fields and source are as expected", function()
        local entry = {
            module = WITH_SOURCE,
            functions = { one = "a", ["inner.open"] = "a, ...", none = "" },
            fields = { name = "string" },
            -- In the source, there is an empty line in the middle of it.
            mentions = { "local _M = {} -- Clients and backends" },
            behaviour = { ["one returns what it gets"] = function(module)
                return module.one(5) == 5
            end },
        }
        equal(problems_of(entry, {
            one = function(a)
                return a
            end,
            none = function() end,
            name = "x",
            inner = { open = function(a, ...)
                return a, ...
            end },
        }), {})
    end)

    it("names a function that is missing", function()
        local entry = { module = "apisix.x", functions = { one = "a" } }
        local expected = differs("apisix.x has no function one")
        equal(problems_of(entry, {}), expected)
        equal(problems_of(entry, { one = "text" }), expected)
        entry = { module = "apisix.x", functions = { ["inner.one"] = "a" } }
        expected = differs("apisix.x has no function inner.one")
        equal(problems_of(entry, {}), expected)
        equal(problems_of(entry, { inner = 1 }), expected)
    end)

    it("checks functions that are replaced in the same way", function()
        equal(problems_of({ module = "apisix.x", functions = { one = "" }, replaced = { two = "" } }, {
            one = function() end,
        }), differs("apisix.x has no function two"))
    end)

    it("names a function with another number of parameters", function()
        local entry = { module = "apisix.x", functions = { one = "self, key" } }
        equal(problems_of(entry, { one = function(a, b, c)
            return a, b, c
        end }), differs("the function one of apisix.x takes 3 parameters, not 2 (self, key)"))
        equal(problems_of(entry, { one = function(a)
            return a
        end }), differs("the function one of apisix.x takes 1 parameter, not 2 (self, key)"))
        equal(problems_of(entry, { one = function(a, b, ...)
            return a, b, ...
        end }), differs("the function one of apisix.x takes 2 or more parameters, not 2 (self, key)"))
        equal(problems_of({ module = "apisix.x", functions = { one = "a, ..." } }, { one = function() end }),
              differs("the function one of apisix.x takes 0 parameters, not 1 or more (a, ...)"))
    end)

    it("names a field of another type", function()
        equal(problems_of({ module = "apisix.x", fields = { ERROR = "number" } }, { ERROR = "2" }),
              differs("apisix.x has no number ERROR"))
    end)

    it("names behaviour that does not hold, also where it throws", function()
        for _, probe in ipairs({ function() return false end, function() return 1 end,
                                 function() error("x") end }) do
            equal(problems_of({ module = "apisix.x", behaviour = { ["one returns 1"] = probe } }, {}),
                  differs("in apisix.x, this does not hold: one returns 1"))
        end
    end)

    it("leaves behaviour out where a function is missing", function()
        equal(problems_of({
            module = "apisix.x",
            functions = { one = "" },
            behaviour = { ["one returns 1"] = function() return false end },
        }, {}), differs("apisix.x has no function one"))
    end)

    it("names a piece of source that is missing", function()
        equal(problems_of({ module = WITH_SOURCE, mentions = { "local _M = {}", "ctx.not_there" } }, {}),
              differs("the source of genai.util.memo does not contain: ctx.not_there"))
        equal(problems_of({ module = "apisix.x", mentions = { "ctx.y" } }, {}),
              differs("the source of apisix.x cannot be read"))
    end)

    it("names a function of nginx that is missing", function()
        equal(problems_of({ module = "apisix.x", symbols = { "ngx_no_such_function" } }, {}),
              differs("nginx has no function ngx_no_such_function"))
    end)

    it("names a module that is missing, and needs no source for what is only read", function()
        equal(problems_of({ module = "apisix.no_such", functions = { one = "" } }, nil),
              differs("there is no module apisix.no_such"))
        equal(problems_of({ module = WITH_SOURCE, mentions = { "local _M = {}" } }, nil), {})
    end)

    it("reports all that differs, each once and in one order", function()
        local entry = {
            module = "apisix.x",
            functions = { b = "", a = "", c = "" },
            fields = { d = "string" },
        }
        local contract, logged, finish = process({ first = { entry, entry }, second = { entry } },
                                                 { ["apisix.x"] = { c = function() end } })
        contract.part("first")
        contract.part("second")
        contract.part("first")
        finish()
        local expected = {}
        for i, name in ipairs({ "function a", "function b", "string d" }) do
            expected[i] = DIFFERS .. "apisix.x has no " .. name .. ADVICE
        end
        equal(contract.problems(), expected)
        equal(#logged, 3)
    end)
end)


describe("a part", function()
    local function one() end
    local terms = { part = { { module = "apisix.x", functions = { ["inner.one"] = "" } } } }

    it("gets modules and their members from need", function()
        local module = { inner = { one = one } }
        local contract, _, finish = process(terms, { ["apisix.x"] = module })
        local need = contract.part("part")
        finish()
        equal({ need("apisix.x") == module, need("apisix.x", "inner.one") == one }, { true, true })
        equal({ need("apisix.x", "inner.two"), need("apisix.x", "outer.one") }, {})
    end)

    it("gets an empty table for a module that is missing", function()
        local contract, _, finish = process(terms, {})
        local need = contract.part("part")
        finish()
        equal({ need("apisix.x"), need("apisix.x", "inner.one") }, { {} })
    end)

    it("without terms is an error of the gateway's own", function()
        local contract, _, finish = process({}, {})
        local ok, err = pcall(contract.part, "unknown")
        finish()
        equal({ ok, err:match("no terms of the part unknown") ~= nil }, { false, true })
    end)
end)


describe("opening a part", function()
    local terms = { part = { { module = "apisix.x", functions = { one = "a" } } } }

    -- Opens the part twice; returns how often its patch was applied, and with what.
    local function opened(module)
        local contract, _, finish = process(terms, { ["apisix.x"] = module })
        local calls = {}
        package.loaded["apisix_internals.part"].install = function(argument)
            calls[#calls + 1] = argument
            local original = module.one
            module.one = function(a)
                return original(a) + 1
            end
        end
        contract.open("part", "first")
        contract.open("part", "second")
        finish()
        return calls
    end

    it("applies its patches once, also where plugins are loaded again", function()
        local module = { one = function(a)
            return a
        end }
        equal(opened(module), { "first" })
        equal(module.one(1), 2)
    end)

    it("applies none where APISIX differs", function()
        equal(opened({ one = function() end }), {})
    end)

    it("needs no patches", function()
        local contract, _, finish = process(terms, { ["apisix.x"] = { one = function(a) return a end } })
        contract.open("part")
        finish()
        equal(contract.problems(), {})
    end)
end)


describe("something that differs after the start", function()
    it("is reported once", function()
        local contract, logged, finish = process()
        contract.report("nginx has no request line")
        contract.report("nginx has no request line")
        finish()
        equal(contract.problems(), differs("nginx has no request line"))
        equal(logged, { { ERR, DIFFERS .. "nginx has no request line" .. ADVICE } })
    end)

    it("reaches whoever listens, with all that is known", function()
        local contract, _, finish = process()
        local heard = {}
        contract.report("a")
        contract.listen(function(problems)
            heard[#heard + 1] = #problems
        end)
        contract.report("b")
        contract.report("b")
        finish()
        equal(heard, { 1, 2 })
    end)
end)
