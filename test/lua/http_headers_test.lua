local http_headers = require("genai.http.http_headers")
local http_head = require("genai.http.http_head")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- Lines by name, for they come in no order.
local function to_backend(sent, replaced)
    local list, err = http_headers.to_backend(sent, replaced or {})
    if not list then
        return nil, err
    end
    local lines = table.concat(list)
    local read, count = {}, 0
    for name, value in lines:gmatch("([^\r\n]-): ([^\r\n]*)\r\n") do
        read[name] = read[name] and read[name] .. " | " .. value or value
        count = count + #name + #value + 4
    end
    equal(count, #lines, "nothing but lines")
    return read
end


local function to_client(lines)
    local response = http_head.response("HTTP/1.1 200 OK\r\n" .. lines .. "\r\n")
    local passed, order = {}, {}
    http_headers.to_client(response.headers, function(name, value)
        equal(passed[name], nil, name .. " is passed once")
        passed[name] = value
        order[#order + 1] = name
    end)
    return passed, order
end


describe("headers: to a backend", function()
    it("pass as they are", function()
        local sent = { ["content-type"] = "application/json", accept = "*/*", ["user-agent"] = "u",
                       ["x-ms-client-request-id"] = "1", ["x-priority"] = "low", cookie = "a=b",
                       ["x-stainless-lang"] = "js", ["openai-beta"] = "x", empty = "",
                       ["x-consumer"] = "no prefix", ["xx-consumer-a"] = "nor this" }
        equal(to_backend(sent), sent)
        equal(to_backend({}), {})
    end)

    it("are not those of one connection", function()
        local sent = { connection = "keep-alive", ["keep-alive"] = "1", te = "trailers",
                       trailer = "x", ["transfer-encoding"] = "chunked", upgrade = "h2c",
                       ["proxy-authenticate"] = "x", ["proxy-authorization"] = "x",
                       ["proxy-connection"] = "x", ["http2-settings"] = "x", host = "h",
                       ["content-length"] = "1", expect = "100-continue",
                       ["accept-encoding"] = "gzip" }
        equal(to_backend(sent), {})
    end)

    it("are not those that Connection names", function()
        for _, value in ipairs({ "x-one, X-Two", "close,x-one,x-two", " X-ONE ,\tx-two , ",
                                 "Keep-Alive, x-two, x-one" }) do
            equal(to_backend({ connection = value, ["x-one"] = "1", ["x-two"] = "2",
                               ["x-three"] = "3" }), { ["x-three"] = "3" }, value)
        end
        equal(to_backend({ connection = { "x-one", "x-two" }, ["x-one"] = "1", ["x-two"] = "2" }),
              {})
        equal(to_backend({ connection = "close", close = "1" }), { close = "1" })
    end)

    it("are no credentials and nothing internal", function()
        local sent = { ["x-consumer-username"] = "a", ["x-consumer-"] = "a",
                       ["x-credential-identifier"] = "a", ["x-forwarded-for"] = "a",
                       ["x-forwarded-host"] = "a", ["x-http-method-override"] = "DELETE",
                       ["x-http-method"] = "DELETE", ["x-method-override"] = "DELETE",
                       ["x-original-url"] = "/", ["x-rewrite-url"] = "/",
                       forwarded = "a", ["x-real-ip"] = "a",
                       ["x-gateway-backend"] = "a", ["x-apisix-x"] = "a", ["x-userinfo"] = "a",
                       ["x-access-token"] = "a", ["x-id-token"] = "a",
                       ["x-refresh-token"] = "a" }
        for _, name in ipairs(http_headers.CREDENTIALS) do
            sent[name] = "secret"
        end
        equal(http_headers.CREDENTIALS,
              { "authorization", "api-key", "x-api-key", "ocp-apim-subscription-key" })
        equal(to_backend(sent), {})
    end)

    it("are not those that the gateway sets", function()
        equal(to_backend({ ["x-key"] = "client's", other = "1" }, { ["x-key"] = true }),
              { other = "1" })
    end)

    it("keep lists, a line each", function()
        equal(to_backend({ accept = { "a", "b" } }), { accept = "a | b" })
        equal(http_headers.to_backend({ accept = { "a", "b" } }, {}),
              { "accept: a\r\naccept: b\r\n" })
    end)

    it("are left out where they have no value at all", function()
        equal(to_backend({ flag = true }), {})
    end)

    it("never end a line", function()
        for _, bad in ipairs({ "a\r\nx-injected: 1", "a\n", "\r", "a\0b" }) do
            local lines, err = to_backend({ ["x-a"] = bad })
            equal(lines, nil)
            equal(err, "the header x-a holds a line break")
            equal(to_backend({ ["x-a"] = { "fine", bad } }), nil)
            equal(http_headers.line("x", bad), nil)
        end
        equal(to_backend({ authorization = "a\nb" }), {})
    end)

    it("are known however many names there have been", function()
        for i = 1, 2500 do
            equal(to_backend({ ["x-name-" .. i] = "1", ["x-gateway-" .. i] = "1" }),
                  { ["x-name-" .. i] = "1" })
        end
    end)
end)


describe("headers: one line", function()
    it("takes texts, numbers and lists", function()
        equal(http_headers.line("a", "b"), "a: b\r\n")
        equal(http_headers.line("a", 12), "a: 12\r\n")
        equal(http_headers.line("a", ""), "a: \r\n")
        equal(http_headers.line("a", { "b", 1 }), "a: b\r\na: 1\r\n")
        equal(http_headers.line("a", {}), "")
    end)
end)


describe("headers: to the client", function()
    it("pass in their order, as they are written", function()
        local passed, order = to_client("Content-Type: a\r\nx-ms-region: West Europe\r\n"
                                        .. "Content-Length: 5\r\nX-Empty:\r\n")
        equal(passed, { ["Content-Type"] = "a", ["x-ms-region"] = "West Europe",
                        ["Content-Length"] = "5", ["X-Empty"] = "" })
        equal(order, { "Content-Type", "x-ms-region", "Content-Length", "X-Empty" })
    end)

    it("are not those of one connection, nor Server", function()
        equal(to_client("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: x\r\nTrailer: x\r\n"
                        .. "TRANSFER-ENCODING: chunked\r\nUpgrade: h2\r\nProxy-Authenticate: x\r\n"
                        .. "server: uvicorn\r\nDate: d\r\n"), { Date = "d" })
    end)

    it("are not those that any Connection names", function()
        equal(to_client("connection: close, X-One\r\nX-One: 1\r\nConnection: x-two\r\nx-TWO: 2\r\n"
                        .. "x-three: 3\r\n"), { ["x-three"] = "3" })
    end)

    it("give one that occurs more than once as a list, once", function()
        local passed, order = to_client("Set-Cookie: a\r\nx: 1\r\nset-cookie: b\r\nx: 2\r\n"
                                        .. "Set-Cookie: c\r\n")
        equal(passed, { ["Set-Cookie"] = { "a", "b", "c" }, x = { "1", "2" } })
        equal(order, { "Set-Cookie", "x" })
    end)

    it("give no length where the body has a transfer coding", function()
        equal(to_client("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), {})
        equal(to_client("transfer-encoding: chunked\r\ncontent-length: 5\r\na: b\r\n"), { a = "b" })
    end)
end)


describe("the coding of a body", function()
    it("is one where Content-Encoding names any but identity", function()
        for coding, expected in pairs({ gzip = true, br = true, ["gzip, identity"] = true,
                                        identity = false, Identity = false, [""] = false })
        do
            equal(http_headers.is_encoded({ ["content-encoding"] = coding }), expected, coding)
        end
        equal(http_headers.is_encoded({}), false)
    end)
end)
