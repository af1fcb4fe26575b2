local multipart = require("genai.multipart")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local LINE = "\r\n"


local function part(head, value)
    return "--b" .. LINE .. head .. LINE .. LINE .. value .. LINE
end


local function field(name, value)
    return part('Content-Disposition: form-data; name="' .. name .. '"', value)
end


local function read(body, name)
    local value, first, last = multipart.field(body, name or "model", "b")
    if value then
        equal(body:sub(first, last), value)
    end
    return value
end


local FILE = part('Content-Disposition: form-data; name="file"; filename="a.wav"' .. LINE
                  .. "Content-Type: audio/wav", "RIFF\0\1\2\r\n\r\nmore")


describe("multipart: field", function()
    it("is found before and behind a file", function()
        equal(read(field("model", "whisper-1") .. FILE .. "--b--"), "whisper-1")
        equal(read(FILE .. field("model", "whisper-1") .. "--b--"), "whisper-1")
        equal(read(FILE .. field("language", "en") .. "--b--"), nil)
        equal(read(field("model", "")), "")
    end)

    it("is found however clients write its head", function()
        for _, head in ipairs({
            'Content-Disposition: form-data; name="model"',
            'content-disposition: form-data; name="model"',
            'CONTENT-DISPOSITION: FORM-DATA; name="model"',
            'Content-Disposition:form-data;name="model"',
            "Content-Disposition: form-data; name=model",
            'Content-Disposition: form-data; name="model"' .. LINE .. "Content-Type: text/plain",
            "Content-Type: text/plain; charset=utf-8" .. LINE
                .. "Content-Disposition: form-data; name=model",
        }) do
            equal(read(part(head, "whisper-1")), "whisper-1", head)
        end
    end)

    it("is not a field of which the name only begins or ends so", function()
        equal(read(field("models", "x") .. field("my-model", "y")), nil)
        equal(read(part("Content-Disposition: form-data; name=models", "x")), nil)
        equal(read(part('Content-Disposition: form-data; name="file"; filename="model"', "x")), nil)
        equal(read(part("Content-Disposition: form-data; name=file; filename=model", "x")), nil)
        equal(read(part('Content-Disposition: form-data; name="f"; filename="; name=model;"', "x")),
              nil)
    end)

    it("is not what an upload or another header says", function()
        equal(read(part('Content-Disposition: form-data; name="file"',
                        'about name="model"\r\n\r\nx')), nil)
        equal(read(part('X-Content-Disposition: form-data; name="model"', "x")), nil)
        equal(read(part('Content-Disposition: attachment; name="model"', "x")), nil)
    end)

    it("is not one that breaks off or does not end soon", function()
        local whole = field("model", "whisper-1")
        for length = 1, #whole - 1 do
            equal(read(whole:sub(1, length)), nil)
        end
        equal(read(field("model", ("x"):rep(multipart.WINDOW + 1))), nil)
        equal(read(field("model", ("x"):rep(multipart.WINDOW - 2))),
              ("x"):rep(multipart.WINDOW - 2))
    end)

    it("is not what stands in a file like a part of its own", function()
        local forged = LINE .. 'Content-Disposition: form-data; name="model"' .. LINE .. LINE
                       .. "allowed" .. LINE
        equal(read(part('Content-Disposition: form-data; name="file"; filename="a"', forged)
                   .. field("model", "forbidden")), "forbidden")
        equal(read(forged .. field("model", "forbidden")), "forbidden")
        equal(read(part('Content-Disposition: form-data; name="file"', "x--b" .. forged)), nil)
    end)

    it("is none where it is there twice", function()
        equal(read(field("model", "a") .. FILE .. field("model", "b")), nil)
        local _, _, _, is_twice = multipart.field(field("model", "a") .. field("model", "a"),
                                                  "model", "b")
        equal(is_twice, true)
    end)

    it("has its boundary in the type of the body", function()
        equal(multipart.boundary("multipart/form-data; boundary=b"), "b")
        equal(multipart.boundary('Multipart/Form-Data; charset=utf-8; Boundary="a b"; x'), "a b")
        equal(multipart.boundary("multipart/form-data; boundary=----x'1;y"), "----x'1")
        equal(multipart.boundary("multipart/form-data"), nil)
    end)

    it("is found by a name with characters that patterns use", function()
        equal(read(field("a%.b", "x"), "a%.b"), "x")
        equal(read(field("timestamp_granularities[]", "word"), "timestamp_granularities[]"), "word")
    end)
end)
