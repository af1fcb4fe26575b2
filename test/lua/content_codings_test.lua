local content_codings = require("genai.http.content_codings")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("codings of a body", function()
    it("are undone in reverse order", function()
        for header, expected in pairs({
            ["gzip"] = { "gzip" },
            ["X-GZIP"] = { "gzip" },
            ["deflate, gzip"] = { "gzip", "deflate" },
            ["gzip,zstd ,\tdeflate"] = { "deflate", "zstd", "gzip" },
            ["identity"] = {},
            ["gzip, identity"] = { "gzip" },
            [""] = {},
            [", gzip,,"] = { "gzip" },
            ["gzip,gzip,gzip,gzip"] = { "gzip", "gzip", "gzip", "gzip" },
        }) do
            equal(content_codings.of(header), expected, header)
        end
        equal(content_codings.of({ "deflate", "gzip, zstd" }), { "zstd", "gzip", "deflate" })
    end)

    it("are refused where one is not known or there are too many", function()
        for _, header in ipairs({ "br", "compress", "gzip, br", "gzip;q=1", "gzip zstd", "*", "x-zstd",
                                  "gzip,gzip,gzip,gzip,gzip", "identity,gzip,gzip,gzip,gzip" }) do
            equal(content_codings.of(header), nil, header)
        end
    end)

    it("that are accepted are those that can be undone", function()
        equal(content_codings.accepted(function()
            return true
        end), "gzip, deflate, zstd, identity")
        equal(content_codings.accepted(function(name)
            return name ~= "zstd"
        end), "gzip, deflate, identity")
    end)

    it("of deflate are told apart by the first two bytes", function()
        for _, each in ipairs({ { 0x78, 0x01 }, { 0x78, 0x5e }, { 0x78, 0x9c }, { 0x78, 0xda },
                                { 0x18, 0x19 } }) do
            equal(content_codings.is_zlib(each[1], each[2]), true)
        end
        for _, each in ipairs({ { 0x4b, 0x4c }, { 0xab, 0x56 }, { 0x78, 0x9d }, { 0x88, 0x1c } }) do
            equal(content_codings.is_zlib(each[1], each[2]), false)
        end
    end)
end)
