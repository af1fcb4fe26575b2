--- Explains TLS problems: for each kind, a line in the error log says who has to do what.

local core = require("apisix.core")
local throttled_log = require("gateway.mechanisms.throttled_log")
local wrong_scheme = require("genai.http.wrong_scheme")
local match = string.match
local ngx = ngx
local timer_at = ngx.timer.at

local _M = {}

-- Time limit for each step of finding out which protocol a port speaks.
local STEP_MS = 1000

local ENOUGH = 4096

-- OpenSSL error codes (X509_V_ERR_...).
local NOT_YET_VALID, EXPIRED = "9", "10"

local OTHER_NAME = "certificate host mismatch"
local NOT_TLS = "the TLS handshake failed"


local function address_of(target)
    return target.host .. ":" .. target.port
end


local function report(target, what, advice)
    throttled_log.write(core.log.error, "tls", address_of(target), what, ". ", advice)
end


local function of_certificate(target, code, reason)
    local what = "the certificate of " .. address_of(target)
    local advice
    if reason == OTHER_NAME then
        what = what .. " is for another name"
        advice = "Write a host that the certificate names into the endpoint; or the owner of the"
                 .. " endpoint has to replace the certificate."
    elseif code == EXPIRED then
        what = what .. " has expired"
        advice = "The owner of the endpoint has to renew it."
    elseif code == NOT_YET_VALID then
        what = what .. " is not valid yet"
        advice = "The owner of the endpoint has to replace it, unless the clock of this machine is"
                 .. " wrong."
    else
        what = what .. " cannot be verified: " .. reason
        advice = "If it is issued by a CA of your own, set GATEWAY_TRUSTED_CA_FILE to a file with"
                 .. " all CAs, that one included; otherwise the owner of the endpoint has to"
                 .. " install a certificate of a public CA, with its intermediate certificates."
    end
    report(target, what, "No request is sent there. " .. advice)
    return what
end


-- A port's answer to plain HTTP; the request contains no credential.
local function answer_to_http(target, address)
    local socket = ngx.socket.tcp()
    socket:settimeouts(STEP_MS, STEP_MS, STEP_MS)
    local text = ""
    if socket:connect(address, target.port) then
        socket:send("GET / HTTP/1.1\r\nhost: " .. target.host .. "\r\nconnection: close\r\n\r\n")
        text = socket:receiveany(ENOUGH) or ""
        socket:close()
    end
    return text
end


local function find_out(premature, target, address)
    if premature then
        return
    end
    local text = answer_to_http(target, address)
    if #text > 0 and wrong_scheme.may_be_http(text) and not wrong_scheme.asks_for_https(text) then
        report(target, address_of(target)
                       .. " speaks plain HTTP, and its endpoint begins with https://",
               "Write http:// into the endpoint, or the port that speaks TLS.")
    else
        report(target, "the TLS handshake with " .. address_of(target) .. " failed",
               "The owner of the endpoint has to find out why; with APISIX_LOG_LEVEL=info the line"
               .. " before this one names the reason.")
    end
end


--- Explains a failed TLS handshake.
-- @tparam table target of the connection
-- @tparam string address
-- @tparam string err as `sslhandshake` returns it
-- @treturn string the error in words
-- @treturn boolean|nil whether another address of the host would fail the same way
function _M.of_handshake(target, address, err)
    local code, reason = match(err, "^(%d+): (.*)$")
    if code or err == OTHER_NAME then
        return of_certificate(target, code, reason or err), true
    elseif err == "handshake failed" then
        if throttled_log.is_due("handshake", address_of(target)) then
            timer_at(0, find_out, target, address)
        end
        return NOT_TLS
    end
    return err
end


--- Explains an endpoint with http:// whose port speaks TLS.
-- @treturn string the error in words
function _M.of_plain_http(target)
    local what = address_of(target) .. " speaks TLS, and its endpoint begins with http://"
    report(target, what, "Write https:// into the endpoint.")
    return what
end


return _M
