--- Secrets in files: when a change of a file counts, who is told of it, and who uses the value.

local harness = require("harness")
local test_gateway = require("test_gateway")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NAME = "gateway.credentials.secret_files"


-- A world whose file of KEY holds `first`, written some time ago, and a worker that follows it.
local function setup(files)
    local world = world_module.new()
    local paths = {}
    for name, content in pairs(files or { KEY = "first" }) do
        paths[name] = "/secrets/" .. name
        world.files:write(paths[name], content, world.scheduler.now - 100)
    end
    world:load("secrets", { { id = "file/settings", files = paths } }, 1)
    local secret_files = world:worker().require(NAME)
    secret_files.start()
    world:advance(0)
    return world, secret_files
end


local function write(world, content, name)
    world.files:write("/secrets/" .. (name or "KEY"), content)
end


describe("a secret in a file", function()
    it("is read without its final line break", function()
        local _, secret_files = setup({ KEY = "first\n" })
        equal(secret_files.value("KEY"), "first")
    end)

    it("is another one when two looks in a row have found the same", function()
        local world, secret_files = setup()
        world:advance(1.5)
        write(world, "sec")
        world:advance(1)
        equal(secret_files.value("KEY"), "first", "after one look")
        write(world, "second")
        world:advance(1)
        equal(secret_files.value("KEY"), "first", "while it changes")
        world:advance(1)
        equal(secret_files.value("KEY"), "second", "when it has settled")
        equal(world:lines("the file of KEY has changed", "warn"), 1)
    end)

    it("counts for five seconds after its file is gone", function()
        local world, secret_files = setup()
        world:advance(1.5)
        world.files:write("/secrets/KEY", nil)
        world:advance(4)
        equal(secret_files.value("KEY"), "first")
        world:advance(4)
        equal({ secret_files.value("KEY"), world:lines("KEY has no value until", "error") }, { nil, 1 })
        write(world, "back")
        world:advance(2)
        equal(secret_files.value("KEY"), "back")
    end)

    local UNUSABLE = {
        { "is empty", "\n", "it is empty" },
        { "holds two lines", "a\nb", "it holds a line break or NUL" },
        { "is too long", ("x"):rep(70000), "it has more than 65536 bytes" },
        { "holds a reference", "$env://KEY", "it is a reference" },
    }
    for _, case in ipairs(UNUSABLE) do
        it("is none where its file " .. case[1] .. ", and no line shows what it holds", function()
            local world, secret_files = setup({ KEY = case[2] })
            equal({ secret_files.resolve("$secret://file/settings/KEY") }, { nil, case[3] })
            equal({ world:lines(case[3], "error"), world:lines("env://") }, { 1, 0 })
        end)
    end

    it("is none where there is no file, or none is named", function()
        local world, secret_files = setup()
        world:load("secrets", { { id = "file/settings", files = { KEY = "/none" } } }, 2)
        equal({ secret_files.resolve("$secret://file/settings/KEY") }, { nil, "it does not exist" })
        equal({ secret_files.resolve("$secret://file/settings/OTHER") }, { nil, "no file is named for it" })
        equal({ secret_files.get({ id = "file/settings" }, "OTHER") }, { nil, "no file is named for it" })
    end)

    it("is read again at once where its value was refused", function()
        local world, secret_files = setup()
        write(world, "second")
        secret_files.look_again("KEY")
        equal(secret_files.value("KEY"), "second")
    end)

    it("is another one where its name moves to another file", function()
        local world, secret_files = setup()
        local told
        secret_files.follow("KEY", {}, function(_, value)
            told = value
        end)
        world.files:write("/secrets/new", "moved")
        world:load("secrets", { { id = "file/settings", files = { KEY = "/secrets/new" } } }, 2)
        world:advance(1)
        equal({ secret_files.value("KEY"), told }, { "moved", "moved" })
    end)

    it("has another version whenever a value is another one", function()
        local world, secret_files = setup()
        local before = secret_files.version()
        world:advance(3)
        equal(secret_files.version(), before)
        write(world, "second")
        world:advance(2)
        equal(secret_files.version() > before, true)
    end)
end)


describe("who follows a secret in a file", function()
    it("gets its value, and each one that it changes to", function()
        local world, secret_files = setup()
        local follower, values = {}, {}
        equal(secret_files.follow("KEY", follower, function(who, value)
            values[#values + 1] = { who == follower, value }
        end), "first")
        write(world, "second")
        world:advance(3)
        equal(values, { { true, "second" } })
    end)

    it("does not keep others from being told where it fails", function()
        local world, secret_files = setup()
        local told, followers = 0, { {}, {} }
        for _, follower in ipairs(followers) do
            secret_files.follow("KEY", follower, function()
                told = told + 1
                error("broken for the test")
            end)
        end
        write(world, "second")
        world:advance(3)
        equal({ told, world:lines("the new value of KEY was not applied", "error") }, { 2, 2 })
    end)

    it("is told of two files that were swapped at the same time", function()
        local world, secret_files = setup({ KEY_A = "one", KEY_B = "two" })
        local seen
        secret_files.follow("KEY_A", setup, function()
            seen = { secret_files.value("KEY_A"), secret_files.value("KEY_B") }
        end)
        write(world, "two", "KEY_A")
        write(world, "one", "KEY_B")
        world:advance(3)
        equal(seen, { "two", "one" })
    end)
end)


describe("a backend whose key is in a file", function()
    local function new_gateway(content)
        local world = world_module.new()
        world:load("secrets", { { id = "file/settings", files = { KEY = "/secrets/KEY" } } }, 1)
        world.files:write("/secrets/KEY", content, world.scheduler.now - 100)
        return test_gateway.new({ world = world, backends = { { name = "a", key_setting = "KEY" } } }), world
    end

    it("is sent the key that the file holds now", function()
        local gateway, world = new_gateway("first")
        gateway:post()
        write(world, "second")
        world:advance(3)
        gateway:post()
        local sent = gateway:sent_to("a")
        equal({ sent[1].headers["api-key"], sent[2].headers["api-key"] }, { "first", "second" })
    end)

    it("gets no requests while there is none, and gets them when there is one", function()
        local gateway, world = new_gateway(nil)
        local request = gateway:post()
        equal({ request.status, request.json.error.code, gateway:called() },
              { 502, "upstream_credentials", "" })
        write(world, "first")
        world:advance(3)
        equal(gateway:post().status, 200)
    end)

    it("is no longer closed for the key before", function()
        local gateway, world = new_gateway("first")
        gateway:serve("a", function(request)
            return request.headers["api-key"] == "second" and test_gateway.OK
                   or test_gateway.failure(401, nil, "invalid_api_key")
        end)
        equal(gateway:post().status, 502)
        equal(gateway:metric("genai_cooldowns_total"), "a * credentials=1")
        write(world, "second")
        world:advance(3)
        equal(gateway:post().status, 200)
    end)
end)
