--- Bodies of requests that come compressed.

local ffi = require("ffi")
local harness = require("harness")
local test_gateway = require("test_gateway")
local describe, it, equal = harness.describe, harness.it, harness.equal

ffi.cdef([[
typedef struct {
    const uint8_t *next_in; unsigned int avail_in; unsigned long total_in;
    uint8_t *next_out; unsigned int avail_out; unsigned long total_out;
    const char *msg; void *state; void *zalloc; void *zfree; void *opaque;
    int data_type; unsigned long adler; unsigned long reserved;
} test_z_stream;
const char *zlibVersion(void);
int test_deflate_init(test_z_stream *stream, int level, int method, int bits, int memory,
                      int strategy, const char *version, int size) __asm__("deflateInit2_");
int test_deflate(test_z_stream *stream, int flush) __asm__("deflate");
int test_deflate_end(test_z_stream *stream) __asm__("deflateEnd");
]])
local z = ffi.load("libz.so.1")


local function compressed(bits, text)
    local stream = ffi.new("test_z_stream")
    z.test_deflate_init(stream, 6, 8, bits, 8, 0, z.zlibVersion(), ffi.sizeof(stream))
    local size = #text + 1000
    local out = ffi.new("uint8_t[?]", size)
    stream.next_in, stream.avail_in = ffi.cast("const uint8_t *", text), #text
    stream.next_out, stream.avail_out = out, size
    z.test_deflate(stream, 4)
    local result = ffi.string(out, size - stream.avail_out)
    z.test_deflate_end(stream)
    return result
end


local function gzip(text)
    return compressed(15 + 16, text)
end


local function little_endian(value, count)
    local bytes = {}
    for i = 1, count do
        bytes[i] = string.char(math.floor(value / 256 ^ (i - 1)) % 256)
    end
    return table.concat(bytes)
end


local MAX_BLOCK = 100000


-- A frame of stored blocks, or of one byte again and again, with a window of 2^`window`.
local function zstd(text, repeated, window)
    local parts = { "\40\181\47\253\0", string.char(((window or 17) - 10) * 8) }
    local length = repeated or #text
    local position = 0
    repeat
        local size = math.min(MAX_BLOCK, length - position)
        local is_last = position + size == length
        parts[#parts + 1] = little_endian((is_last and 1 or 0) + (repeated and 2 or 0) + size * 8, 3)
        parts[#parts + 1] = repeated and text or text:sub(position + 1, position + size)
        position = position + size
    until position == length
    return table.concat(parts)
end


local CODINGS = {
    gzip = gzip,
    ["x-gzip"] = gzip,
    deflate = function(text)
        return compressed(15, text)
    end,
    ["Deflate"] = function(text)
        return compressed(-15, text)
    end,
    zstd = zstd,
    ["gzip, zstd"] = function(text)
        return zstd(gzip(text))
    end,
    ["zstd, deflate, gzip , x-gzip"] = function(text)
        return gzip(gzip(compressed(15, zstd(text))))
    end,
}

local RENAMED = { { name = "a", deployments = { ["gpt-4o"] = "four" } } }


local function json_body(size)
    return '{"messages":["' .. ("é"):rep(size / 2) .. '"],"model":"gpt-4o","stream":true}'
end


local function post(gateway, body, coding, more)
    local options = more or {}
    options.body = body
    options.headers = options.headers or {}
    options.headers["content-encoding"] = coding
    local request = gateway:post(options)
    if request.new_body_file then
        os.remove(request.new_body_file)
    end
    return request
end


describe("a compressed body", function()
    it("is read, and sent on decoded", function()
        for coding, encode in pairs(CODINGS) do
            for _, size in ipairs({ 2, 1000, 60000, 400000 }) do
                local gateway = test_gateway.new({ backends = RENAMED })
                local body = json_body(size)
                local request = post(gateway, encode(body), coding)
                local sent = gateway:sent_to("a")[1]
                equal({ request.status, sent.body == body:gsub("gpt%-4o", "four"),
                        sent.headers["content-encoding"], sent.headers["content-length"] },
                      { 200, true, nil, tostring(#body - 2) }, coding .. " of " .. size)
                equal(request.record.wants_stream, true)
            end
        end
    end)

    it("is held to the client's list of models", function()
        local gateway = test_gateway.new({ backends = { "a" }, models = { "gpt-4o-mini" } })
        equal(post(gateway, gzip(json_body(10)), "gzip").status, 403)
        equal(post(gateway, gzip('{"model":"gpt-4o-mini"}'), "gzip").status, 200)
    end)

    it("may be of several parts, one after the other", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        post(gateway, gzip('{"model":') .. gzip("") .. gzip('"gpt-4o"}'), "gzip")
        post(gateway, zstd('{"model":') .. "\80\42\77\24\4\0\0\0skip" .. zstd('"gpt-4o"}'), "zstd")
        equal({ gateway:sent_to("a")[1].body, gateway:sent_to("a")[2].body },
              { '{"model":"gpt-4o"}', '{"model":"gpt-4o"}' })
    end)

    it("of a form is read as one", function()
        local gateway = test_gateway.new({ backends = { { name = "a", deployments = { w = "x" } } } })
        local form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw\r\n--b--\r\n"
        post(gateway, gzip(form), "gzip", {
            path = "/openai/v1/audio/transcriptions",
            headers = { ["content-type"] = "multipart/form-data; boundary=b" },
        })
        equal(gateway:sent_to("a")[1].body, (form:gsub("\nw\r", "\nx\r")))
    end)

    it("that is none is left as it is", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        local body = json_body(10)
        post(gateway, body, "identity")
        equal(gateway:sent_to("a")[1].body, body)
        equal(post(gateway, "", "gzip", { path = "/openai/v1/files" }).status, 200)
        equal(post(gateway, false, "gzip", { method = "GET", path = "/openai/v1/files" }).status, 200)
    end)
end)


local function refused(body, coding, status, code, words)
    local gateway = test_gateway.new({
        backends = { "a" },
        settings = { nginx_config = { http = { client_max_body_size = 1000000 } } },
    })
    local request = post(gateway, body, coding)
    equal({ request.status, request.json.error.code, gateway:called() }, { status, code, "" }, coding)
    local message = request.json.error.message
    equal(message:find(words, 1, true) ~= nil, true, message)
    equal({ request.var.genai_error, request.var.genai_error_source }, { code, "gateway" })
    return request, gateway
end


describe("a compressed body is refused", function()
    it("in a coding that is not known, with those that are", function()
        for _, coding in ipairs({ "br", "compress", "gzip, br", "gzip,gzip,gzip,gzip,gzip" }) do
            local request = refused("x", coding, 415, "unsupported_content_encoding", "gzip, deflate")
            equal(request.response_headers["accept-encoding"], "gzip, deflate, zstd, identity")
        end
    end)

    it("where it is damaged, ends early, or goes on after its end", function()
        local body = json_body(100)
        for coding, encode in pairs({ gzip = gzip, zstd = zstd, deflate = CODINGS.deflate }) do
            local coded = encode(body)
            local words = "cannot be decoded as " .. coding
            local code = "invalid_content_encoding"
            refused(body, coding, 400, code, words)
            refused("x", coding, 400, code, words)
            refused(coded:sub(1, 5), coding, 400, code, words)
            refused(coded:sub(1, -2), coding, 400, code, "ends early")
            refused(coded .. "x", coding, 400, code, words)
            refused(coded .. "garbage behind it", coding, 400, code, words)
        end
        local coded = gzip(body)
        refused(coded:sub(1, -7) .. "xx" .. coded:sub(-4), "gzip", 400, "invalid_content_encoding",
                "incorrect data check")
    end)

    it("where its window is larger than 8 MB", function()
        equal(post(test_gateway.new({ backends = { "a" } }), zstd("{}", nil, 23), "zstd").status, 200)
        refused(zstd("{}", nil, 24), "zstd", 400, "invalid_content_encoding", "too much memory")
    end)

    it("where it comes to more than a body may have, at whichever coding", function()
        local code, words = "request_too_large", "The decoded request body"
        refused(gzip(("x"):rep(1000001)), "gzip", 413, code, words)
        refused(zstd("x", 100000000), "zstd", 413, code, words)
        refused(gzip(zstd("x", 100000000)), "zstd, gzip", 413, code, words)
        -- The first coding comes to too much; the second one, a frame that is skipped, to nothing.
        refused(gzip("\80\42\77\24" .. little_endian(1000000, 4) .. ("x"):rep(1000000)),
                "zstd, gzip", 413, code, words)
        local gateway = test_gateway.new({
            backends = { "a" },
            settings = { nginx_config = { http = { client_max_body_size = 1000000 } } },
        })
        equal(post(gateway, gzip(("x"):rep(1000000)), "gzip").status, 200)
    end)

    it("where there is no memory for it, and its memory is free again", function()
        local gateway = test_gateway.new({
            backends = { "a" },
            settings = { plugin_attr = { ["azure-openai-proxy"] = { body_memory = 3000000,
                                                                    body_buffer = 100000 } } },
        })
        local memory = gateway.worker.require("gateway.exchange.body_memory")
        local holder = { body_memory = nil }
        memory.take(holder, 100)
        memory.grow(holder, 2000000)
        local request = post(gateway, zstd("x", 100000, 23), "zstd")
        equal({ request.status, request.json.error.code }, { 503, "body_memory_exhausted" })
        memory.release(holder)
        equal(memory.used(), 0)
        equal(post(gateway, zstd("x", 100000, 20), "zstd").status, 200)
        equal(memory.used(), 0)
    end)
end)


describe("the memory of a compressed body", function()
    it("is counted by its length once it is decoded", function()
        local gateway = test_gateway.new({ backends = { "a" } })
        gateway:serve("a", { takes = 60, status = 200 })
        local body = json_body(1000)
        gateway:start({ body = gzip(body), headers = { ["content-encoding"] = "gzip" } })
        equal(gateway.worker.require("gateway.exchange.body_memory").used(), 3 * #body)
    end)
end)


-- As `gateway.exchange.turns`, but every piece is the end of a turn.
local SHORT_TURNS = [[
    local _M = {}
    function _M.new()
        return {
            read = function(_, count)
                ngx.bytes_read = (ngx.bytes_read or 0) + count
                ngx.sleep(0)
            end,
        }
    end
    return _M
]]


describe("a compressed body that takes long", function()
    it("lets others have their turn at each piece", function()
        local gateway = test_gateway.new({ backends = { "a" },
                                           sources = { ["gateway.exchange.turns"] = SHORT_TURNS } })
        local long = gateway:start({ body = zstd(gzip(("x"):rep(4000000))),
                                     headers = { ["content-encoding"] = "gzip, zstd" } })
        equal(gateway:post().status, 200)
        equal(long.is_done, nil)
        equal(gateway:finish(long).status, 200)
        os.remove(long.new_body_file)
        equal(gateway.worker.ngx.bytes_read > 4000000, true)
    end)
end)
