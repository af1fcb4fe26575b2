--- Decodes compressed request bodies (gzip, deflate, zstd) in pieces. Memory is bounded whatever
-- the decoded size, and other requests get their turn.

local body_budget = require("genai.http.body_budget")
local body_memory = require("gateway.exchange.body_memory")
local content_codings = require("genai.http.content_codings")
local core = require("apisix.core")
local errors = require("genai.openai.errors")
local ffi = require("ffi")
local temp_space = require("gateway.exchange.temp_space")
local turns = require("gateway.exchange.turns")
local C = ffi.C
local cast = ffi.cast
local concat = table.concat
local error = error
local ffi_gc = ffi.gc
local ffi_new = ffi.new
local ffi_string = ffi.string
local io_open = io.open
local ipairs = ipairs
local min = math.min
local append_body = ngx.req.append_body
local finish_body = ngx.req.finish_body
local init_body = ngx.req.init_body
local pcall = pcall
local remove = table.remove
local insert = table.insert
local setmetatable = setmetatable
local tonumber = tonumber
local type = type

-- The C functions get names of our own, because another module may declare the original names
-- differently.
ffi.cdef([[
typedef struct {
    const uint8_t *next_in;
    unsigned int avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned int avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *zalloc;
    void *zfree;
    void *opaque;
    int data_type;
    unsigned long adler;
    unsigned long reserved;
} genai_z_stream;
const char *genai_zlib_version(void) __asm__("zlibVersion");
int genai_inflate_init(genai_z_stream *stream, int bits, const char *version, int size)
    __asm__("inflateInit2_");
int genai_inflate(genai_z_stream *stream, int flush) __asm__("inflate");
int genai_inflate_reset(genai_z_stream *stream) __asm__("inflateReset");
int genai_inflate_end(genai_z_stream *stream) __asm__("inflateEnd");

typedef struct { const void *src; size_t size; size_t pos; } genai_zstd_in;
typedef struct { void *dst; size_t size; size_t pos; } genai_zstd_out;
void *genai_zstd_create(void) __asm__("ZSTD_createDStream");
size_t genai_zstd_free(void *stream) __asm__("ZSTD_freeDStream");
size_t genai_zstd_set(void *stream, int parameter, int value) __asm__("ZSTD_DCtx_setParameter");
size_t genai_zstd_decompress(void *stream, genai_zstd_out *output, genai_zstd_in *input)
    __asm__("ZSTD_decompressStream");
size_t genai_zstd_size(const void *stream) __asm__("ZSTD_sizeof_DStream");
unsigned genai_zstd_is_error(size_t code) __asm__("ZSTD_isError");
const char *genai_zstd_error(size_t code) __asm__("ZSTD_getErrorName");

size_t genai_fread(void *buffer, size_t size, size_t count, void *file) __asm__("fread");
]])

local _M = {}

local PIECE = body_budget.PIECE

local bytes_type = ffi.typeof("const uint8_t *")
local buffer_type = ffi.typeof("uint8_t[?]")
local z_stream_type = ffi.typeof("genai_z_stream")
local zstd_in_type = ffi.typeof("genai_zstd_in")
local zstd_out_type = ffi.typeof("genai_zstd_out")

-- Constants of zlib.
local Z_OK, Z_STREAM_END, Z_MEM_ERROR, Z_BUF_ERROR = 0, 1, -4, -5
local GZIP_BITS, ZLIB_BITS, RAW_BITS = 15 + 16, 15, -15

-- Constants of zstd: the number of its parameter ZSTD_d_windowLogMax, and the value for it. 2^23
-- bytes is the window that RFC 8878 requires every decoder to support.
local WINDOW_LOG_MAX, MAX_WINDOW_LOG = 100, 23

local ENDS_EARLY = "the data ends early"
local MORE_AFTER_END = "there is more data after its end"

-- Memory of a decoder, without zstd's window.
local DECODER_BYTES = PIECE

-- The most memory that zstd allocates, for a library that does not report its allocation.
local MOST_OF_ZSTD = 9 * 1024 * 1024

-- Libraries by coding; false: missing. The image contains both, and nginx itself contains zlib.
local libraries = {}


local function member(library, name)
    return library[name]
end


local function has(library, name)
    return (pcall(member, library, name))
end


local function load(names, needed)
    for _, name in ipairs(names) do
        local ok, library = pcall(ffi.load, name)
        if ok and has(library, needed) then
            return library
        end
    end
    return has(C, needed) and C or nil
end


local SOURCES = {
    gzip = { { "libz.so.1", "z" }, "genai_inflate" },
    zstd = { { "libzstd.so.1", "zstd" }, "genai_zstd_decompress" },
}
SOURCES.deflate = SOURCES.gzip


local function library_of(coding)
    local library = libraries[coding]
    if library == nil then
        local source = SOURCES[coding]
        library = load(source[1], source[2]) or false
        libraries[coding] = library
        if not library then
            core.log.error("request bodies in ", coding, " are rejected with 415: the library ",
                           source[1][1], " is missing")
        end
    end
    return library
end


--- Whether a coding can be decoded here.
-- @tparam string coding "gzip", "deflate" or "zstd"
function _M.is_available(coding)
    return library_of(coding) ~= false
end


-- Buffers for pieces, for reuse.
local free_buffers = {}


local function take_buffer()
    return remove(free_buffers) or buffer_type(PIECE)
end


-- Throws a failure: the status, code and message for the client.
local function fail(status, code, message)
    return error({ status = status, code = code, message = message }, 0)
end


local function damaged(stage, detail)
    return fail(400, errors.CODE.invalid_content_encoding,
                content_codings.problem(stage.coding, detail))
end


-- A stage receives pieces, decodes one coding, and passes the result to the next stage. Stages fail
-- by throwing, so that all memory is released in one place.
local function emit(stage, count)
    stage.length = stage.length + count
    if stage.length > stage.limit then
        fail(413, errors.CODE.request_too_large,
             "The decoded request body is larger than this gateway accepts.")
    end
    stage.pace:read(count)
    stage.next:feed(stage.buffer, count)
end


local zlib = {}
zlib.__index = zlib


function zlib:open(bits)
    local stream = z_stream_type()
    local library = self.library
    if library.genai_inflate_init(stream, bits, library.genai_zlib_version(),
                                  ffi.sizeof(z_stream_type)) ~= Z_OK
    then
        fail(503, errors.CODE.body_memory_exhausted)
    end
    self.stream = ffi_gc(stream, library.genai_inflate_end)
end


function zlib:close()
    if self.stream then
        self.library.genai_inflate_end(ffi_gc(self.stream, nil))
        self.stream = nil
    end
end


-- Decodes a piece; sets `is_ended` at the end of a stream, after which gzip may have another one.
function zlib:inflate(bytes, count)
    local stream, buffer, library = self.stream, self.buffer, self.library
    stream.next_in, stream.avail_in = bytes, count
    stream.next_out, stream.avail_out = buffer, PIECE
    while true do
        if self.is_ended and stream.avail_in > 0 then
            if self.coding ~= "gzip" then
                damaged(self, MORE_AFTER_END)
            end
            library.genai_inflate_reset(stream)
            self.is_ended = false
        end
        local code = library.genai_inflate(stream, 0)
        if code == Z_STREAM_END then
            self.is_ended = true
        elseif code == Z_MEM_ERROR then
            fail(503, errors.CODE.body_memory_exhausted)
        elseif code ~= Z_OK and code ~= Z_BUF_ERROR then
            damaged(self, stream.msg ~= nil and ffi_string(stream.msg) or nil)
        end

        local is_full = stream.avail_out == 0
        local is_read = stream.avail_in == 0 and (self.is_ended or not is_full)
        if is_full or is_read then
            local produced = PIECE - stream.avail_out
            if produced > 0 then
                emit(self, produced)
                stream.next_out, stream.avail_out = buffer, PIECE
            end
        elseif code == Z_BUF_ERROR then
            damaged(self)
        end
        if is_read then
            return
        end
    end
end


function zlib:feed(bytes, count)
    if count == 0 then
        return
    elseif self.stream then
        return self:inflate(bytes, count)
    elseif self.coding == "gzip" then
        self:open(GZIP_BITS)
        return self:inflate(bytes, count)
    end

    -- The first two bytes show which of the two forms of deflate this is.
    local first = self.first
    if not first and count == 1 then
        self.first = ffi_new(buffer_type, 1)
        self.first[0] = bytes[0]
        return
    end
    local second = first and bytes[0] or bytes[1]
    self:open(content_codings.is_zlib(first and first[0] or bytes[0], second) and ZLIB_BITS
              or RAW_BITS)
    if first then
        self:inflate(first, 1)
    end
    return self:inflate(bytes, count)
end


function zlib:finish()
    if not self.is_ended then
        damaged(self, ENDS_EARLY)
    end
end


local zstd = {}
zstd.__index = zstd


function zstd:open()
    local library = self.library
    local stream = library.genai_zstd_create()
    if stream == nil then
        fail(503, errors.CODE.body_memory_exhausted)
    end
    self.stream = ffi_gc(stream, library.genai_zstd_free)
    library.genai_zstd_set(stream, WINDOW_LOG_MAX, MAX_WINDOW_LOG)
    self.tells_size = has(library, "genai_zstd_size")
    self.input, self.output = zstd_in_type(), zstd_out_type()
    self.output.dst, self.output.size = self.buffer, PIECE
end


function zstd:close()
    if self.stream then
        self.library.genai_zstd_free(ffi_gc(self.stream, nil))
        self.stream = nil
    end
end


-- Counts the memory that the decoder has allocated, mostly the window that the frame requires.
function zstd:count_memory()
    local size = self.tells_size and tonumber(self.library.genai_zstd_size(self.stream))
                 or MOST_OF_ZSTD
    if size > self.memory then
        if not body_memory.grow(self.record, size - self.memory) then
            fail(503, errors.CODE.body_memory_exhausted)
        end
        self.memory = size
    end
end


function zstd:feed(bytes, count)
    if count == 0 then
        return
    elseif not self.stream then
        self:open()
    end
    local library, input, output = self.library, self.input, self.output
    input.src, input.size, input.pos = bytes, count, 0
    while true do
        output.pos = 0
        local before = input.pos
        local rest = library.genai_zstd_decompress(self.stream, output, input)
        if library.genai_zstd_is_error(rest) ~= 0 then
            damaged(self, ffi_string(library.genai_zstd_error(rest)))
        end
        self:count_memory()
        local produced = tonumber(output.pos)
        if produced > 0 then
            emit(self, produced)
        end
        self.is_ended = rest == 0
        if input.pos == input.size and (self.is_ended or produced < PIECE) then
            return
        elseif input.pos == before and produced == 0 then
            damaged(self)
        end
    end
end


zstd.finish = zlib.finish


-- The target of the decoded body: memory, or nginx's file once the body is longer than the buffer.
local target = {}
target.__index = target


-- nginx throws if there is no space.
local function store(...)
    local ok, err = pcall(...)
    if not ok then
        core.log.error("the request body cannot be stored: ", err)
        temp_space.report()
        fail(503, errors.CODE.body_storage_full, temp_space.MESSAGE)
    end
end


function target:feed(bytes, count)
    self.length = self.length + count
    local piece = ffi_string(bytes, count)
    if self.is_in_file then
        return store(append_body, piece)
    end
    local pieces = self.pieces
    pieces[#pieces + 1] = piece
    if self.length > body_memory.buffer() then
        self.is_in_file = true
        store(init_body, PIECE)
        for _, each in ipairs(pieces) do
            store(append_body, each)
        end
        self.pieces = nil
    end
end


function target:finish()
    if self.is_in_file then
        store(finish_body)
    end
end


function target.close()
end


local KINDS = { gzip = zlib, deflate = zlib, zstd = zstd }


-- The stages of some codings, in decoding order; the last one is the target.
local function stages_of(record, codings, limit)
    local stages = { setmetatable({ length = 0, pieces = {} }, target) }
    local pace = turns.new()
    for i = #codings, 1, -1 do
        local coding = codings[i]
        insert(stages, 1, setmetatable({
            coding = coding,
            library = library_of(coding),
            next = stages[1],
            record = record,
            pace = pace,
            limit = limit,
            buffer = take_buffer(),
            length = 0,
            memory = 0,
        }, KINDS[coding]))
    end
    return stages, pace
end


local function feed_file(file, first, pace)
    local buffer = take_buffer()
    local ok, err = pcall(function()
        while true do
            local count = tonumber(C.genai_fread(buffer, 1, PIECE, file))
            if count == 0 then
                return
            end
            first:feed(buffer, count)
            pace:read(count)
        end
    end)
    free_buffers[#free_buffers + 1] = buffer
    if not ok then
        error(err, 0)
    end
end


local function feed_data(data, first, pace)
    local bytes, length, position = cast(bytes_type, data), #data, 0
    while position < length do
        local count = min(PIECE, length - position)
        first:feed(bytes + position, count)
        pace:read(count)
        position = position + count
    end
end


local function run(stages, body, file, pace)
    if file then
        feed_file(file, stages[1], pace)
    else
        feed_data(body.data, stages[1], pace)
    end
    for _, stage in ipairs(stages) do
        stage:finish()
    end
end


--- Decodes a body that nginx has read. If the result does not fit into nginx's buffer, it replaces
-- the original body in nginx's file.
-- @tparam table record of the request; the decoders' memory is added to its reservation
-- @tparam table body `data` or `file`, not empty
-- @tparam table codings as `content_codings.of` returns them
-- @tparam number limit on the result of each coding, in bytes
-- @treturn table|nil `data`, or `is_in_file`; `length`
-- @treturn nil|table the failure: `status`, `code` and, except for a lack of memory, `message`
function _M.decode(record, body, codings, limit)
    -- This must be opened before nginx gets the decoded body, because nginx then deletes the file.
    local file, err
    if body.file then
        file, err = io_open(body.file, "rb")
        if not file then
            core.log.error("the request body cannot be read: ", err)
            return nil, { status = 500 }
        end
    end

    local taken = body_memory.buffer() + #codings * DECODER_BYTES
    if not body_memory.grow(record, taken) then
        if file then
            file:close()
        end
        return nil, { status = 503, code = errors.CODE.body_memory_exhausted }
    end
    local stages, pace = stages_of(record, codings, limit)
    local ok, failure = pcall(run, stages, body, file, pace)
    for _, stage in ipairs(stages) do
        stage:close()
        taken = taken + (stage.memory or 0)
        if stage.buffer then
            free_buffers[#free_buffers + 1] = stage.buffer
        end
    end
    if file then
        file:close()
    end
    body_memory.shrink(record, taken)

    if not ok then
        if type(failure) ~= "table" then
            error(failure, 0)
        end
        return nil, failure
    end
    local last = stages[#stages]
    return { data = last.pieces and concat(last.pieces), is_in_file = last.is_in_file,
             length = last.length }
end


return _M
