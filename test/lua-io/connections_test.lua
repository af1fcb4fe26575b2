--- Connections: which are used again, for how long, and which address is next.

local harness = require("harness")
local world_module = require("world")
local describe, it, equal = harness.describe, harness.it, harness.equal

local TIMEOUTS = { connect_ms = 4000, send_ms = 5000, read_ms = 6000 }


-- A world with sockets of its own. `connects(address)` returns true, or nil and an error; it may
-- wait. Kept connections are taken last in, first out.
local function setup(host, connects)
    local world = world_module.new()
    local worker = world:worker()
    local setting = { world = world, connects = connects, log = {}, kept = {}, numbers = 0 }
    local function note(...)
        setting.log[#setting.log + 1] = table.concat({ ... }, " ")
    end

    worker.ngx.socket.tcp = function()
        local socket = {}
        function socket:settimeouts(connect_ms)
            self.connect_ms = connect_ms
        end
        function socket:connect(address, port, options)
            setting.options = options
            local number = table.remove(setting.kept)
            if number then
                self.number, self.reused = number, 1
                note("reuses", number)
                return true
            end
            note("connects", address, port, math.floor(self.connect_ms + 0.5))
            local ok, err = true, nil
            if setting.connects then
                ok, err = setting.connects(address)
            end
            if not ok then
                return nil, err
            end
            setting.numbers = setting.numbers + 1
            self.number, self.reused = setting.numbers, 0
            return true
        end
        function socket:sslhandshake(_, name, verify)
            note("tls", name, tostring(verify))
            return not setting.tls_fails, setting.tls_fails
        end
        function socket:getreusedtimes()
            return self.reused
        end
        function socket:getfd()
            return self.number
        end
        function socket:setkeepalive()
            note("keeps", self.number)
            table.insert(setting.kept, self.number)
        end
        function socket:close()
            note("closes", self.number)
        end
        return socket
    end
    setting.connections = worker.require("gateway.exchange.connections")
    setting.addresses = worker.require("gateway.exchange.addresses")
    setting.target = { scheme = "http", host = host, port = 80, max_age_ms = 100000 }
    return setting
end


local function resolves(setting, ...)
    local list = { ... }
    local addresses = {}
    for _, each in ipairs(list) do
        addresses[each] = true
    end
    local name = setting.addresses.of(setting.target.host)
    name.list, name.addresses, name.due = list, addresses, math.huge
end


local function open(setting, is_fresh)
    return setting.world:call(setting.connections.open, setting.target, TIMEOUTS, is_fresh)
end


local function taken(setting)
    local log = setting.log
    setting.log = {}
    return log
end


describe("a connection", function()
    it("is kept and used again", function()
        local setting = setup("10.0.0.1")
        local socket, is_kept = open(setting)
        equal(is_kept, false)
        setting.connections.keep(socket, 1000, 8)
        socket, is_kept = open(setting)
        equal(is_kept, true)
        setting.connections.keep(socket, 1000, 8)
        equal(taken(setting), { "connects 10.0.0.1 80 4000", "keeps 1", "reuses 1", "keeps 1" })
    end)

    it("that was kept is not used where it has to be a fresh one", function()
        local setting = setup("10.0.0.1")
        setting.connections.keep(open(setting), 1000, 8)
        local _, is_kept = open(setting, true)
        equal(is_kept, false)
        equal(taken(setting), { "connects 10.0.0.1 80 4000", "keeps 1", "reuses 1", "closes 1",
                                "connects 10.0.0.1 80 4000" })
    end)

    it("ends after its longest lifetime, between requests", function()
        local setting = setup("10.0.0.1")
        setting.connections.keep(open(setting), 1000, 8)
        setting.world:advance(79)
        setting.connections.keep(open(setting), 1000, 8)
        -- As random numbers are 0 in the world, a lifetime is four fifths of the longest one.
        setting.world:advance(2)
        taken(setting)
        local socket = open(setting)
        equal(taken(setting), { "reuses 1", "closes 1", "connects 10.0.0.1 80 4000" })
        setting.world:advance(81)
        setting.connections.keep(socket, 1000, 8)
        equal(taken(setting), { "closes 2" })
    end)

    it("to an address that its host no longer has is not used", function()
        local setting = setup("a.test")
        resolves(setting, "10.0.0.1")
        setting.connections.keep(open(setting), 1000, 8)
        resolves(setting, "10.0.0.2")
        taken(setting)
        open(setting)
        equal(taken(setting), { "reuses 1", "closes 1", "connects 10.0.0.2 80 4000" })
    end)

    it("goes to each address in turn, within the time as a whole", function()
        local setting = setup("a.test")
        local world = setting.world
        resolves(setting, "10.0.0.1", "10.0.0.2", "10.0.0.3")
        setting.connects = function(address)
            if address == "10.0.0.1" then
                world.scheduler:sleep(1)
                return nil, "timeout"
            end
            return address == "10.0.0.3", "connection refused"
        end
        open(setting)
        equal(taken(setting), { "connects 10.0.0.1 80 1333", "connects 10.0.0.2 80 1500",
                                "connects 10.0.0.3 80 3000" })
        open(setting)
        equal(taken(setting), { "connects 10.0.0.3 80 1333" })
    end)

    it("fails with the error of the last address", function()
        local setting = setup("a.test", function(address)
            return nil, "refused by " .. address
        end)
        resolves(setting, "10.0.0.1", "10.0.0.2")
        local socket, err = open(setting)
        equal({ socket, err }, { nil, "refused by 10.0.0.2" })
    end)

    it("that begins TLS does so with the host's name, and not again when it is used again", function()
        local setting = setup("a.test")
        setting.target.scheme, setting.target.ssl_server_name, setting.target.ssl_verify =
            "https", "a.test", true
        resolves(setting, "10.0.0.1")
        setting.connections.keep(open(setting), 1000, 8)
        open(setting)
        equal(taken(setting), { "connects 10.0.0.1 80 4000", "tls a.test true", "keeps 1", "reuses 1" })
    end)

    local CERTIFICATE = "the certificate of a.test:80 "
    for err, expected in pairs({
        ["18: self-signed certificate"] =
            { CERTIFICATE .. "cannot be verified: self-signed certificate", "GATEWAY_TRUSTED_CA_FILE" },
        ["10: certificate has expired"] = { CERTIFICATE .. "has expired", "has to renew it" },
        ["9: certificate is not yet valid"] = { CERTIFICATE .. "is not valid yet", "the clock" },
        ["certificate host mismatch"] = { CERTIFICATE .. "is for another name", "into the endpoint" },
    }) do
        it("is not tried elsewhere after a certificate failed (" .. err .. ")", function()
            local setting = setup("a.test")
            setting.target.scheme, setting.tls_fails = "https", err
            setting.target.ssl_server_name, setting.target.ssl_verify = "a.test", true
            resolves(setting, "10.0.0.1", "10.0.0.2")
            for _ = 1, 2 do
                local _, why = open(setting)
                equal(why, expected[1])
                equal(taken(setting)[2], "tls a.test true")
            end
            equal({ setting.world:lines(expected[1], "error"), setting.world:lines(expected[2], "error") },
                  { 1, 1 })
        end)
    end
end)
