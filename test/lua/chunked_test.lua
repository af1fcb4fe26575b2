local chunked = require("genai.http.chunked")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


-- What comes of pieces, fed one after another.
local function feed(pieces)
    local decoder = chunked.new()
    local body = ""
    for _, piece in ipairs(pieces) do
        local payload, err = decoder:feed(piece)
        if err then
            equal(payload, nil)
            return body, err, decoder
        end
        equal(payload == "", false, "no bytes are nil")
        body = body .. (payload or "")
    end
    return body, nil, decoder
end


local function each_byte(text)
    local pieces = {}
    for i = 1, #text do
        pieces[i] = text:sub(i, i)
    end
    return pieces
end


-- The same however it is split: at every position, and into bytes.
local function always(text, expected, is_done, rest)
    local function check(pieces, about)
        local body, err, decoder = feed(pieces)
        equal({ err, body, decoder.done, is_done and decoder.rest },
              { nil, expected, is_done, rest }, about)
    end
    check({ text }, "whole")
    for position = 1, #text - 1 do
        check({ text:sub(1, position), text:sub(position + 1) }, "split behind " .. position)
    end
    check(each_byte(text), "in bytes")
end


local function never(text, message)
    local function check(pieces, about)
        local _, err, decoder = feed(pieces)
        equal({ err, decoder.done }, { message, false }, about)
    end
    check({ text }, "whole")
    for position = 1, #text - 1 do
        check({ text:sub(1, position), text:sub(position + 1) }, "split behind " .. position)
    end
    check(each_byte(text), "in bytes")
end


local NO_SIZE = "a chunk has no size"
local TOO_LONG = "a chunk is longer than its size"


describe("chunked", function()
    it("takes the coding off", function()
        always("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", true)
        always("0\r\n\r\n", "", true)
        always("a\r\n0123456789\r\nA\r\n0123456789\r\n0a\r\n0123456789\r\n0\r\n\r\n",
               ("0123456789"):rep(3), true)
        always("000000000005\r\nhello\r\n000000\r\n\r\n", "hello", true)
    end)

    it("is not misled by what is in chunks", function()
        always("7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n\r\n", true)
        always("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", true)
    end)

    it("passes over extensions and trailers", function()
        always('5;a=b\r\nhello\r\n3 ;c="d"\r\nabc\r\n0;x\r\nA: b\r\nC: d\r\n\r\n', "helloabc",
               true)
        always("5 \r\nhello\r\n0\t\r\n\r\n", "hello", true)
    end)

    it("keeps what comes behind", function()
        always("3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200", "abc", true, "HTTP/1.1 200")
        always("0\r\n\r\n\r\n", "", true, "\r\n")
    end)

    it("is not done before the end", function()
        local text = "5\r\nhello\r\n0\r\nA: b\r\n\r\n"
        for length = 0, #text - 1 do
            local _, err, decoder = feed({ text:sub(1, length) })
            equal({ err, decoder.done }, { nil, false }, "the first " .. length)
        end
        equal(feed({ "5\r\nhel" }), "hel")
    end)

    it("gives bytes as they come", function()
        local decoder = chunked.new()
        equal(decoder:feed("6\r\nab"), "ab")
        equal(decoder:feed("cd"), "cd")
        equal(decoder:feed("ef\r"), "ef")
        equal(decoder:feed("\n1"), nil)
        equal(decoder:feed("\r\ng\r\n1\r\nh\r\n"), "gh")
        equal(decoder.done, false)
    end)

    it("refuses what is no size", function()
        for _, size in ipairs({ "", "g", "-5", "+5", "0x5", " 5", "5g", "5-", "5,5", "\n5",
                                "1234567890abc", ("f"):rep(100), "5\n" }) do
            never(size .. "\r\n", NO_SIZE)
        end
        never("5\r\nhello\r\n\r\n", NO_SIZE)
        never("<html></html>\r\n", NO_SIZE)
    end)

    it("refuses chunks that are longer than they say", function()
        never("3\r\nabcd\r\n", TOO_LONG)
        never("3\r\nabcd", TOO_LONG)
        never("3\r\nabc\n0", TOO_LONG)
        never("3\r\nabc\rx", TOO_LONG)
    end)

    it("refuses lines without end", function()
        local long = ("x"):rep(8200)
        local message = "a chunk's head is too long"
        for _, text in ipairs({ "5;" .. long, "5;" .. long .. "\r\nhello\r\n", "0\r\n" .. long,
                                "0\r\n" .. long .. "\r\n\r\n" }) do
            equal(select(2, feed({ text })), message)
            equal(select(2, feed(each_byte(text))), message)
        end
    end)

    it("takes huge chunks without waiting for them", function()
        local body, err, decoder = feed({ "ffffffffffff\r\n", "abc", ("x"):rep(100000) })
        equal({ #body, err, decoder.done }, { 100003, nil, false })
        local megabyte = ("x"):rep(1048576)
        body, err, decoder = feed({ "100000\r\n" .. megabyte .. "\r\n0\r\n\r\n" })
        equal({ body == megabyte, err, decoder.done }, { true, nil, true })
    end)
end)
