local http_head = require("genai.http.http_head")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local OK = "HTTP/1.1 200 OK\r\n"


-- Headers as a list of lines.
local function lines_of(response)
    local headers, lines = response.headers, {}
    for i = 1, headers.count do
        equal(headers.lower_names[i], headers.names[i]:lower())
        lines[i] = headers.names[i] .. ": " .. headers.values[i]
    end
    equal(headers.names[headers.count + 1], nil)
    return lines
end


local function written(...)
    return harness.flat(http_head.request(...))
end


describe("http_head: a request", function()
    it("is written as it is sent", function()
        equal(written("POST", "/a", nil, ""), "POST /a HTTP/1.1\r\n\r\n")
        equal(written("GET", "/a", "b=c", "host: h\r\n"),
              "GET /a?b=c HTTP/1.1\r\nhost: h\r\n\r\n")
        equal(written("GET", "/a", "", ""), "GET /a? HTTP/1.1\r\n\r\n")
    end)

    it("may have its lines in pieces, and a last one with the end", function()
        equal(written("GET", "/a", nil, { "host: h\r\n", { "a: b\r\n", "c: d\r\n" } }),
              "GET /a HTTP/1.1\r\nhost: h\r\na: b\r\nc: d\r\n\r\n")
        equal(written("GET", "/a", nil, "host: h\r\n", "x: y\r\n\r\n"),
              "GET /a HTTP/1.1\r\nhost: h\r\nx: y\r\n\r\n")
    end)

    it("is not written where the target would end its line", function()
        for _, bad in ipairs({ " ", "\n", "\r\n", "\r", "x HTTP/1.1\r\ninjected: 1" }) do
            equal(http_head.request("GET", "/a" .. bad, nil, ""), nil)
            equal(http_head.request("GET", "/a", bad, ""), nil)
        end
    end)
end)


describe("http_head: a response", function()
    it("is read with its headers and what follows", function()
        local response = http_head.response(OK .. "Content-Type: text/plain\r\nx-a: b: c\r\n\r\n"
                                            .. "xyz")
        equal({ response.status, response.version, response.rest }, { 200, "1.1", "xyz" })
        equal(lines_of(response), { "Content-Type: text/plain", "x-a: b: c" })
        equal(http_head.response(OK .. "\r\n").headers.count, 0)
        equal(http_head.response(OK .. "\r\n\r\n\r\n").rest, "\r\n\r\n")
    end)

    it("finds headers by their lower-case names, the first of a kind", function()
        local headers = http_head.response(OK .. "X-A: 1\r\nx-a: 2\r\nContent-Length: 5\r\n\r\n")
                        .headers
        equal(headers["x-a"], "1")
        equal(headers["content-length"], "5")
        equal(headers["X-A"], nil)
        equal(headers["missing"], nil)
        equal(headers[1], nil)
        equal(headers.count, 3)
    end)

    it("needs no reason phrase", function()
        for _, line in ipairs({ "HTTP/1.1 200\r\n", "HTTP/1.1 200 \r\n", "HTTP/1.1 200\n",
                                "HTTP/1.1 200 A very long: reason\r\n" }) do
            local response = http_head.response(line .. "a: b\r\n\r\n")
            equal(response.status, 200)
            equal(lines_of(response), { "a: b" })
        end
    end)

    it("may be of any status and of HTTP/1.0", function()
        for _, status in ipairs({ 100, 103, 204, 304, 429, 599, 999 }) do
            equal(http_head.response("HTTP/1.1 " .. status .. " x\r\n\r\n").status, status)
        end
        equal(http_head.response("HTTP/1.0 200 OK\r\n\r\n").version, "1.0")
    end)

    it("leaves the answer behind an interim one as the rest", function()
        local response = http_head.response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n"
                                            .. "link: x\r\n\r\n" .. OK .. "a: b\r\n\r\nbody")
        equal(response.status, 100)
        response = http_head.response(response.rest)
        equal(response.status, 103)
        response = http_head.response(response.rest)
        equal({ response.status, response.rest }, { 200, "body" })
    end)

    it("may end its lines with LF, or with both", function()
        local response = http_head.response("HTTP/1.1 200 OK\na: 1\nb: 2\n\nx\r\n\r\ny")
        equal(lines_of(response), { "a: 1", "b: 2" })
        equal(response.rest, "x\r\n\r\ny")
        response = http_head.response("HTTP/1.1 200 OK\na: 1\n\r\nrest")
        equal({ lines_of(response), response.rest }, { { "a: 1" }, "rest" })
        response = http_head.response("HTTP/1.1 200 OK\r\na: 1\r\n\nrest")
        equal({ lines_of(response), response.rest }, { { "a: 1" }, "rest" })
    end)

    it("takes headers without value and blanks around values", function()
        local response = http_head.response(OK .. "a:\r\nb:  \r\nc:1\r\nd: \t 1 2 \t\r\n"
                                            .. "e:\t1\r\n\r\n")
        equal(lines_of(response), { "a: ", "b: ", "c: 1", "d: 1 2", "e: 1" })
    end)

    it("joins folded lines to the header before them", function()
        local response = http_head.response(OK .. "x: a\r\n b\r\n\tc: d\r\ny:\r\n  1\r\n \r\n"
                                            .. "z: 1\r\n\r\n")
        equal(lines_of(response), { "x: a b c: d", "y:  1", "z: 1" })
        equal(http_head.response(OK .. " connection: x\r\na: b\r\n\r\n").headers.count, 1)
    end)

    it("takes blanks off names, and leaves out what is no header", function()
        local response = http_head.response(OK .. "Transfer-Encoding : chunked\r\n: x\r\n"
                                            .. "no colon\r\na b: c\r\nx\0y: 1\r\n"
                                            .. "\195\164: 1\r\n(x): 1\r\nz: 1\r\n\r\n")
        equal(lines_of(response), { "Transfer-Encoding: chunked", "z: 1" })
        equal(response.headers["transfer-encoding"], "chunked")
    end)

    it("lets no line break into a header", function()
        local response = http_head.response(OK .. "a: b\rc: d\r\n\r: 1\r\nx\r: 1\r\ny: 1\r\r\n"
                                            .. " e\rf\r\nz: 1\r\n\r\n")
        equal(lines_of(response), { "z: 1" })
    end)

    it("is read the same however it arrives", function()
        local text = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nx-folded: a\r\n b\r\n"
                     .. "Content-Length: 2\r\n\r\n"
        for length = 0, #text - 1 do
            local response, err = http_head.response(text:sub(1, length))
            equal({ response, err }, {}, "the first " .. length)
        end
        equal(#lines_of(http_head.response(text)), 3)
        local lf = text:gsub("\r", "")
        for length = 0, #lf - 1 do
            equal(http_head.response(lf:sub(1, length)), nil)
        end
        equal(#lines_of(http_head.response(lf)), 3)
    end)

    it("is not what is no HTTP", function()
        for _, line in ipairs({ "", "x", "HTTP/2 200", "HTTP/1.2 200 OK", "HTTP/1.1 20 OK",
                                "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK", "HTTP/1.1 1e2 OK",
                                "HTTP/1.1 0x1 OK", "HTTP/1.1 -20 OK", "HTTP/1.1  200 OK",
                                "HTTP/1.1-200 OK", "HTTP/1.1 200OK", "HTTP/1.1 abc", "http/1.1 200",
                                "ICY 200 OK", "\21\3\1\0\2\2\50", "GET / HTTP/1.1" }) do
            local response, err = http_head.response(line .. "\r\n\r\n")
            equal({ response, err }, { nil, "its first line is not HTTP" }, line)
        end
        equal(select(2, http_head.response("\r\n\r\n")), "its first line is not HTTP")
    end)

    it("must not be too long", function()
        local long = OK .. "a: " .. ("x"):rep(http_head.MAX)
        local response, err = http_head.response(long)
        equal({ response, err }, { nil, "its head is too long" })
        equal({ http_head.response(long:sub(1, http_head.MAX)) }, {})
        equal(http_head.response(OK .. "\r\n" .. ("x"):rep(300000)).status, 200)
    end)

    it("may use any number of names", function()
        for i = 1, 2500 do
            equal(http_head.response(OK .. "X-" .. i .. ": 1\r\n\r\n").headers["x-" .. i], "1")
        end
    end)
end)
