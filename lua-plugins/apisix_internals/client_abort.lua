--- Watches the connection of a client whose body has been read, so that the gateway can stop a
-- backend when its client disconnects.
-- With `lua_check_client_abort` nginx watches the connection, except while it reads a body. The Lua
-- module resumes watching only if it had to wait for the body. Most bodies have already arrived by
-- then, so that without this module a disconnect before the answer would go unnoticed.

local contract = require("apisix_internals.contract")
local ffi = require("ffi")
local C = ffi.C
local cast = ffi.cast
local pcall = pcall

local need = contract.part("client_abort")
local get_request = need("resty.core.base", "get_request")

ffi.cdef([[
typedef struct {
    uint32_t  signature;
    void     *connection;
    void     *ctx;
    void     *main_conf;
    void     *srv_conf;
    void     *loc_conf;
    void     *read_event_handler;
} genai_gateway_request;

void ngx_http_block_reading(void *r);
void ngx_http_lua_rd_check_broken_connection(void *r);
]])

local _M = {}

local request_type = ffi.typeof("genai_gateway_request *")

-- "HTTP", the value by which nginx marks a request structure.
local SIGNATURE = 0x50545448

-- The two handlers for events of the client's connection: one ignores events, one detects a
-- disconnect. If a build of nginx hides these functions, this module changes nothing.
local has_both, ignore, notice = pcall(function()
    return cast("void *", C.ngx_http_block_reading),
           cast("void *", C.ngx_http_lua_rd_check_broken_connection)
end)


--- Makes nginx detect a disconnect of this request's client, if it does not already.
function _M.watch()
    if not has_both then
        return
    end
    local request = cast(request_type, get_request())
    if request.signature == SIGNATURE and request.read_event_handler == ignore then
        request.read_event_handler = notice
    end
end


return _M
