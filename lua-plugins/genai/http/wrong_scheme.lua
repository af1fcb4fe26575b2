--- Recognizes from an answer that a server does not speak the protocol of its endpoint's scheme.

local byte = string.byte
local find = string.find
local lower = string.lower
local sub = string.sub

local _M = {}

local BEGINNING = "HTTP/1."

-- Types of TLS records that begin an answer, and the first byte of their version.
local ALERT, HANDSHAKE, VERSION = 21, 22, 3

-- Texts of the 400 answers of nginx, Go and Apache to plain HTTP at a TLS port.
local COMPLAINTS = {
    "plain http request was sent to https port",
    "sent an http request to an https server",
    "speaking plain http to an ssl-enabled server port",
}


--- Whether an answer with these first bytes can be HTTP/1.
function _M.may_be_http(bytes)
    return sub(bytes, 1, #BEGINNING) == BEGINNING
           or #bytes < #BEGINNING and sub(BEGINNING, 1, #bytes) == bytes
end


--- Whether the first bytes of an answer are TLS.
function _M.is_tls(bytes)
    local kind, version = byte(bytes, 1, 2)
    return (kind == ALERT or kind == HANDSHAKE) and version == VERSION
end


--- Whether the text of an answer says that its port is for HTTPS.
function _M.asks_for_https(text)
    text = lower(text)
    for i = 1, #COMPLAINTS do
        if find(text, COMPLAINTS[i], 1, true) then
            return true
        end
    end
    return false
end


return _M
