local multipart = require("genai.http.multipart")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local LINE = "\r\n"


local function part(head, value)
    return "--b" .. LINE .. head .. LINE .. LINE .. value .. LINE
end


local function field(name, value)
    return part('Content-Disposition: form-data; name="' .. name .. '"', value)
end


local function scanned(body, name, size, boundary)
    local scan = multipart.new(boundary or "b", { [name or "model"] = true })
    size = size or math.max(#body, 1)
    for position = 1, #body, size do
        if not scan:feed(body:sub(position, position + size - 1)) then
            break
        end
    end
    return scan, scan:finish()
end


-- The field's value, which is the same in pieces of all sizes and stands where the scan says.
local function read(body, name)
    local scan, is_plain = scanned(body, name)
    local field = scan.fields[name or "model"]
    for _, size in ipairs({ 1, 2, 3, 7 }) do
        local other, plain = scanned(body, name, size)
        equal({ other.fields[name or "model"], plain, other.duplicate },
              { field, is_plain, scan.duplicate }, "in pieces of " .. size)
    end
    if field then
        equal(body:sub(field.first, field.last), field.value)
    end
    return field and field.value, scan, is_plain
end


local FILE = part('Content-Disposition: form-data; name="file"; filename="a.wav"' .. LINE
                  .. "Content-Type: audio/wav", "RIFF\0\1\2\r\n\r\nmore")


describe("multipart: field", function()
    it("is found before and behind a file", function()
        equal((read(field("model", "whisper-1") .. FILE .. "--b--")), "whisper-1")
        equal((read(FILE .. field("model", "whisper-1") .. "--b--")), "whisper-1")
        equal((read(FILE .. field("language", "en") .. "--b--")), nil)
        equal((read(field("model", "") .. "--b--")), "")
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
            equal((read(part(head, "whisper-1") .. "--b--")), "whisper-1", head)
        end
    end)

    it("is not a field of which the name only begins or ends so", function()
        equal((read(field("models", "x") .. field("my-model", "y") .. "--b--")), nil)
        equal((read(part("Content-Disposition: form-data; name=models", "x") .. "--b--")),
              nil)
        equal((read(part('Content-Disposition: form-data; name="file"; filename="model"', "x")
                    .. "--b--")), nil)
        equal((read(part("Content-Disposition: form-data; name=file; filename=model", "x")
                    .. "--b--")), nil)
        equal((read(part('Content-Disposition: form-data; name="f"; filename="; name=model;"', "x")
                    .. "--b--")), nil)
    end)

    it("is not what an upload or another header says", function()
        equal(read(part('Content-Disposition: form-data; name="file"',
                        'about name="model"\r\n\r\nx')), nil)
        equal((read(part('X-Content-Disposition: form-data; name="model"', "x") .. "--b--")),
              nil)
        equal((read(part('Content-Disposition: attachment; name="model"', "x") .. "--b--")),
              nil)
    end)

    it("is doubtful where readers may find another one in an odd head", function()
        for _, head in ipairs({
            'Content-Disposition: attachment; name="model"',
            'Content-Disposition: "form-data"; name="model"',
            'Content-Disposition: ; name="model"',
            'Content-Disposition: name="model"',
            'Content-Disposition : form-data; name="model"',
            'Content-Disposition\t: form-data; name="model"',
            ' Content-Disposition: form-data; name="model"',
            'Content-Disposition: form-data; name="x"\r\n'
                .. 'Content-Disposition: attachment; name="model"',
            'Content-Disposition: form-data; name="Model"',
            "Content-Disposition: form-data; name='model'",
            'Content-Disposition: form-data; name="=?utf-8?b?bW9kZWw=?="',
            'Content-Disposition: form-data; name="model "',
        }) do
            local value, _, is_plain = read(field("model", "a") .. part(head, "b") .. "--b--")
            equal({ value, is_plain }, { "a", false }, head)
        end
        for _, head in ipairs({
            'Content-Disposition: form-data; name="file"; filename="model.wav"',
            "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''model.wav",
            'Content-Disposition: form-data; name="file"; filename="=?utf-8?b?bW9kZWw=?="',
            'Content-Disposition: form-data; name="language"\r\nContent-Type: text/model',
        }) do
            local value, _, is_plain = read(field("model", "a") .. part(head, "b") .. "--b--")
            equal({ value, is_plain }, { "a", true }, head)
        end
    end)

    it("is not one that breaks off", function()
        local whole = field("model", "whisper-1") .. "--b"
        for length = 1, #whole - 1 do
            equal((read(whole:sub(1, length))), nil)
        end
        equal((read(whole)), "whisper-1")
    end)

    it("may be long, and its beginning is kept", function()
        local scan = scanned(field("model", ("x"):rep(100000)) .. "--b--")
        equal(scan.fields.model.value, ("x"):rep(2048))
        equal(scan.fields.model.last - scan.fields.model.first, 99999)
    end)

    it("may hold line breaks", function()
        local value, _, is_plain = read(field("model", "a\r\nb\nc\r--b\r\n-b") .. "--b--")
        equal({ value, is_plain }, { "a\r\nb\nc", false })
        equal((read(field("model", "a\r\nb\nc\r-b\r\n--\r\n-b") .. "--b--")),
              "a\r\nb\nc\r-b\r\n--\r\n-b")
    end)

    it("is not what stands in a file like a part of its own", function()
        local forged = LINE .. 'Content-Disposition: form-data; name="model"' .. LINE .. LINE
                       .. "allowed" .. LINE
        equal((read(part('Content-Disposition: form-data; name="file"; filename="a"', forged)
                   .. field("model", "forbidden") .. "--b--")), "forbidden")
        equal((read(forged .. field("model", "forbidden") .. "--b--")), "forbidden")
        equal((read(part('Content-Disposition: form-data; name="file"', "x--b" .. forged))), nil)
    end)

    it("is reported where it is there twice, however its name is written", function()
        for _, second in ipairs({ field("model", "b"),
                                  part("Content-Disposition: form-data; name=model", "b"),
                                  part('content-disposition:form-data;NAME = "model"', "b"),
                                  part("Content-Disposition: form-data;\r\n name=model", "b"),
                                  part("Content-Disposition: form-data; name*=utf-8''mod%65l",
                                       "b"),
                                  part('Content-Disposition: form-data; name="mod\\el"', "b"),
                                  part('Content-Disposition: form-data; filename="a\\"; '
                                       .. 'name="model"; x="', "b") }) do
            local _, scan = read(field("model", "a") .. FILE .. second .. "--b--")
            equal(scan.duplicate, "model", second)
        end
        local _, scan = read(field("model", "a") .. "--b--\r\n" .. field("model", "b") .. "--b--")
        equal(scan.duplicate, "model")
        _, scan = read(field("model", "a") .. field("models", "b") .. "--b--")
        equal(scan.duplicate, nil)
    end)

    it("is doubtful where readers of forms do not agree", function()
        local _, _, is_plain = read(field("model", "a") .. FILE .. "--b--\r\n")
        equal(is_plain, true)
        for _, other in ipairs({
            field("model", "a"):gsub("\r\n", "\n"),
            field("model", "a"):gsub("\r\n", "\r"),
            FILE:gsub("\r\n$", "\n") .. field("model", "a"),
            field("model", "a"):gsub("^%-%-b", "--bc"),
            field("model", "a"):gsub("^%-%-b", "--b-"),
            field("model", "a"):gsub("^%-%-b", "--b--x"),
            part('Content-Disposition: form-data; name="model"; name="x"', "a"),
            part('Content-Disposition: form-data; name="mod\\el"', "a"),
            part('Content-Disposition: form-data; name="model"\r\n'
                 .. "Content-Transfer-Encoding: base64", "YQ=="),
            part('Content-Disposition: form-data; name="model"\r\n'
                 .. "Content-Type: text/plain; charset=utf-16", "a"),
            part('Content-Disposition: form-data; name="model"; filename="x"', "a"),
            part('Content-Disposition: form-data; name*0="mo"; name*1="del"', "a"),
            part('X: y\rContent-Disposition: form-data; name="model"', "a"),
            "--b\r\n" .. field("model", "a"):gsub("^%-%-b", "--bc"),
        }) do
            _, _, is_plain = read(other .. "--b--\r\n")
            equal(is_plain, false, other)
        end
    end)

    it("has a head of a bounded length", function()
        for _, size in ipairs({ 100, 1000, 1e6 }) do
            local function problem(length)
                local head = 'Content-Disposition: form-data; name="model"\r\nX: '
                return (scanned(part(head .. ("x"):rep(length), "a") .. "--b--", nil, size)).problem
            end
            equal(problem(16000), nil)
            equal(problem(17000), "part_head_too_long")
            equal((scanned("--b\r\n" .. ("x"):rep(100000), nil, size)).problem,
                  "part_head_too_long")
        end
        equal((scanned("--b\r\n" .. ("--b\r\nX: y\r\n"):rep(10000))).problem, nil)
    end)

    it("has a boundary of a bounded length", function()
        equal((scanned("", nil, 1, ("b"):rep(256))).problem, nil)
        equal((scanned("", nil, 1, ("b"):rep(257))).problem, "boundary_too_long")
    end)

    it("has its boundary in the type of the body", function()
        equal(multipart.boundary("multipart/form-data; boundary=b"), "b")
        equal(multipart.boundary('Multipart/Form-Data; charset=utf-8; Boundary="a b"; x'), "a b")
        equal(multipart.boundary("multipart/form-data; boundary=----x'1;y"), "----x'1")
        equal(multipart.boundary("multipart/form-data"), nil)
        equal(multipart.boundary("multipart/form-data; xboundary=a; boundary=b"), "b")
        equal(multipart.boundary('multipart/form-data; x="; boundary=a"; boundary=b'), "b")
        equal({ multipart.boundary("multipart/form-data; boundary=a; boundary=b") }, { "a", true })
        equal({ multipart.boundary('multipart/form-data; boundary="a\\"b"') }, { "a\\", true })
        equal({ multipart.boundary("multipart/form-data; boundary=a") }, { "a", false })
        equal(multipart.boundary("multipart/form-data; boundary="), nil)
    end)

    it("is found by a name with characters that patterns use", function()
        equal((read(field("a%.b", "x") .. "--b--", "a%.b")), "x")
        equal((read(field("timestamp_granularities[]", "word") .. "--b--",
                    "timestamp_granularities[]")), "word")
    end)
end)
