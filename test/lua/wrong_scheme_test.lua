local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal
local wrong_scheme = require("genai.http.wrong_scheme")


describe("wrong_scheme", function()
    it("takes every beginning of an answer of HTTP/1 for one", function()
        local text = "HTTP/1.1 200 OK\r\n"
        for length = 0, #text do
            equal(wrong_scheme.may_be_http(text:sub(1, length)), true, length)
        end
        equal(wrong_scheme.may_be_http("HTTP/1.0 400 Bad Request"), true)
    end)

    it("takes nothing else for an answer of HTTP/1", function()
        for _, bytes in ipairs({ "\21\3\1\0\2\2\70", "\22\3\3", "\r\nHTTP/1.1 200 OK", "http/1.1",
                                 "HTTP/2", "HTTPS/1.", "\0\0\18\4" }) do
            equal(wrong_scheme.may_be_http(bytes), false, bytes)
        end
    end)

    it("knows an alert and a handshake of TLS", function()
        equal(wrong_scheme.is_tls("\21\3\1\0\2\2\70"), true)
        equal(wrong_scheme.is_tls("\22\3\3\0\80"), true)
        for _, bytes in ipairs({ "", "\21", "\21\2\1", "\23\3\3", "HTTP/1.1" }) do
            equal(wrong_scheme.is_tls(bytes), false, bytes)
        end
    end)

    it("knows the 400 of nginx, Go and Apache for HTTP at a port for TLS", function()
        for _, text in ipairs({
            "<center>The plain HTTP request was sent to HTTPS port</center>",
            "Client sent an HTTP request to an HTTPS server.\n",
            "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        }) do
            equal(wrong_scheme.asks_for_https(text), true, text)
        end
        equal(wrong_scheme.asks_for_https("<h1>400 Bad Request</h1> https://example.com"), false)
        equal(wrong_scheme.asks_for_https(""), false)
    end)
end)
