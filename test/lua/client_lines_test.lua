local client_lines = require("genai.identity.client_lines")
local json = require("json")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local cases = json.decode(io.open(here .. "/client_line_cases.json"):read("*a"))

local PREFIX = "# genai-gateway client: "


-- One block after the other, of so many lines each.
local function blocks_of(list, size)
    local i = 1 - size
    return function()
        i = i + size
        return list[i] and table.concat(list, "\n", i, math.min(i + size - 1, #list)) .. "\n"
    end
end


local function nothing()
end


-- Reads lines, and returns what came of it, what the digest got, and the number of pauses.
local function read(list, size, decode)
    local parts, pauses = {}, 0
    local digest = { update = function(_, text) parts[#parts + 1] = text end }
    local found = client_lines.read(blocks_of(list, size or 100), decode or json.decode,
                                    digest, function()
        pauses = pauses + 1
    end)
    return found, table.concat(parts), pauses
end


local function problem_of(text)
    local found = read({ PREFIX .. text, "#END" }).invalid
    return found[1] and found[1].problem, found[1] and found[1].name
end


describe("lines with clients", function()
    it("are comments with JSON, and all else is left alone", function()
        local found, digested = read({
            "# Rendered by genai-gateway",
            "services:",
            "# genai-gateway clients: {}",
            " " .. PREFIX .. '{"name": "indented", "key": "k"}',
            PREFIX .. '{"name": "a", "key": "k1", "lane": "high"}',
            PREFIX .. '{"name": "b", "key": "k2", "secondary_key": "k3", "models": ["m"],'
                .. ' "tokens_per_minute": 5, "tokens_per_day": 6, "requests_per_minute": 7}',
            "#END",
        })
        equal(found.clients, {
            { name = "a", key = "k1", lane = "high" },
            {
                name = "b", key = "k2", secondary_key = "k3", models = { "m" },
                tokens_per_minute = 5, tokens_per_day = 6, requests_per_minute = 7,
            },
        })
        equal(found.count, 2)
        equal(found.invalid, {})
        equal(digested, PREFIX .. '{"name": "a", "key": "k1", "lane": "high"}\n' .. PREFIX
                        .. '{"name": "b", "key": "k2", "secondary_key": "k3", "models": ["m"],'
                        .. ' "tokens_per_minute": 5, "tokens_per_day": 6, "requests_per_minute": 7}\n')
    end)

    it("may be none", function()
        local found, digested = read({ "services:", "#END" })
        equal({ #found.clients, found.count, digested }, { 0, 0, "" })
    end)

    it("are only taken from a file that has its end", function()
        local client = PREFIX .. '{"name": "a", "key": "k1"}'
        for _, ending in ipairs({ "#END", "#END  ", "routes: [] #END", "#END\r" }) do
            equal(#read({ client, ending, "" }).clients, 1, ending)
        end
        for _, ending in ipairs({ "", "#EN", "#END of it", client }) do
            equal(read({ client, ending }), nil, ending)
        end
        equal(read({}), nil)
    end)

    it("are dropped one by one where they are not valid, without showing a value", function()
        for text, problem in pairs({
            ['{'] = "it is not a JSON object",
            ['"text"'] = "it is not a JSON object",
            ['{}'] = "it has no name",
            ['{"key": "secret"}'] = "it has no name",
            ['{"name": "a"}'] = "it has no key",
            ['{"name": "a", "key": ""}'] = "its key is not valid",
            ['{"name": "a", "key": 5}'] = "its key is not valid",
            ['{"name": "a", "key": "secret", "secondary_key": 5}'] = "its secondary_key is not valid",
            ['{"name": 5, "key": "secret"}'] = "its name is not valid",
            ['{"name": "a", "key": "secret", "lane": "middle"}'] = "its lane is not valid",
            ['{"name": "a", "key": "secret", "models": []}'] = "its models is not valid",
            ['{"name": "a", "key": "secret", "models": [5]}'] = "its models is not valid",
            ['{"name": "a", "key": "secret", "models": {"m": "m"}}'] = "its models is not valid",
            ['{"name": "a", "key": "secret", "tokens_per_day": 0}'] = "its tokens_per_day is not valid",
            ['{"name": "a", "key": "secret", "tokens_per_day": 1.5}'] =
                "its tokens_per_day is not valid",
            ['{"name": "a", "key": "secret", "tokens_per_day": "5"}'] =
                "its tokens_per_day is not valid",
            ['{"name": "a", "key": "secret", "secret": 5}'] = "it has a field that is not known",
        }) do
            equal(problem_of(text), problem, text)
        end
    end)

    for _, case in ipairs(cases) do
        local what, client, is_valid = case[1], case[2], case[3]
        it("are taken or not as by the compiler: " .. what, function()
            local found = read({ PREFIX, "#END" }, nil, function() return { client } end)
            equal(#found.clients, is_valid and 1 or 0)
        end)
    end

    it("are named by the client, or else by the line", function()
        equal(select(2, problem_of('{"name": "a"}')), "a")
        equal(select(2, problem_of('{"name": 5, "key": "secret"}')), "line 1")
        local found = read({ "services:", PREFIX .. "{", PREFIX .. '{"name": "a", "key": "k"}', "#END" })
        equal(found.invalid, { { name = "line 2", problem = "it is not a JSON object" } })
        equal(#found.clients, 1)
        equal(found.count, 2)
    end)

    it("are dropped where another client has the name", function()
        local line = PREFIX .. '{"name": "a", "key": "k"}'
        local found = read({ line, line, "#END" })
        equal(#found.clients, 1)
        equal(found.invalid, { { name = "a", problem = "another client has its name" } })
    end)

    it("may stand anywhere, and in any blocks", function()
        local list = { "services:" }
        for i = 1, 30 do
            list[#list + 1] = PREFIX .. '{"name": "client-' .. i .. '", "key": "k"}'
            if i % 7 == 0 then
                list[#list + 1] = "# another comment"
                list[#list + 1] = PREFIX .. "{" .. i
            end
        end
        list[#list + 1] = "#END"
        local expected, digested = read(list)
        equal(#expected.clients, 30)
        equal(expected.count, 34)
        equal(expected.invalid[2], { name = "line 19", problem = "it is not a JSON object" })
        for size = 1, #list do
            local found, text = read(list, size)
            equal(found, expected, "blocks of " .. size)
            equal(text, digested, "blocks of " .. size)
        end
    end)

    it("are one client each", function()
        local found = read({ PREFIX .. '{"name": "a", "key": "k"}, {"name": "b", "key": "k"}', "#END" })
        equal(found.clients, {})
        equal(found.invalid, { { name = "line 1", problem = "it is not a JSON object" } })
    end)

    it("are counted without being decoded", function()
        local updates = 0
        local digest = { update = function() updates = updates + 1 end }
        local list = { PREFIX .. '{"name": "a", "key": "k"}', PREFIX .. "{", "#END" }
        local found = client_lines.read(blocks_of(list, 100), nil, digest, nothing)
        equal(found, { clients = {}, invalid = {}, count = 2 })
        equal(updates, 1)
    end)

    it("let others have their turn after every block", function()
        equal(select(3, read({ "a:", PREFIX .. '{"name": "a", "key": "k"}', "#END" }, 1)), 3)
    end)
end)


describe("clients by their keys", function()
    local function resolved(keys)
        return function(text)
            return keys[text] or not keys[text] and text:sub(1, 1) ~= "$" and text or nil
        end
    end

    it("have first and second keys, as they are or as they are resolved", function()
        local a = { name = "a", key = "k1", secondary_key = "$env://A" }
        local b = { name = "b", key = "$env://B" }
        local keys, unresolved, shared =
            client_lines.by_key({ a, b }, resolved({ ["$env://A"] = "k2", ["$env://B"] = "k3" }), nothing)
        equal(keys, { k1 = a, k2 = a, k3 = b })
        equal(unresolved, {})
        equal(shared, {})
    end)

    it("lack a key that cannot be resolved or is blank, not the other one", function()
        local a = { name = "a", key = "$env://A", secondary_key = "k2" }
        local b = { name = "b", key = "$env://B" }
        local keys, unresolved = client_lines.by_key({ a, b }, resolved({ ["$env://B"] = " " }), nothing)
        equal(keys, { k2 = a })
        equal(unresolved, { "a", "b" })
    end)

    it("lack a key that several clients have", function()
        local a = { name = "a", key = "same", secondary_key = "k2" }
        local b = { name = "b", key = "same" }
        local c = { name = "c", key = "k3", secondary_key = "same" }
        local keys, _, shared = client_lines.by_key({ a, b, c }, resolved({}), nothing)
        equal(keys, { k2 = a, k3 = c })
        equal(shared, { { "a", "b" }, { "b", "c" } })
    end)

    it("keep a key that is the first and the second one of the same client", function()
        local a = { name = "a", key = "same", secondary_key = "same" }
        local keys, _, shared = client_lines.by_key({ a }, resolved({}), nothing)
        equal(keys, { same = a })
        equal(shared, {})
    end)

    it("let others have their turn after every slice", function()
        local list, pauses = {}, 0
        for i = 1, 3 * client_lines.SLICE + 1 do
            list[i] = { name = "client-" .. i, key = "k" .. i }
        end
        client_lines.by_key(list, resolved({}), function() pauses = pauses + 1 end)
        equal(pauses, 3)
    end)
end)
