--- Checks the form and claims of a bearer token, and returns its subject. The signature is checked
-- elsewhere.

local find = string.find
local match = string.match
local ipairs = ipairs
local type = type

local _M = {}

--- Maximum bytes of a token. Tokens with many groups are long; longer ones are rejected without a
-- check.
_M.MAX_BYTES = 16384

-- Tolerance for differing clocks.
local LEEWAY_S = 60

-- OpenID Connect's limit; a subject becomes part of counter keys and log lines.
local MAX_SUBJECT = 255

local MAX_KEYS = 100

-- 2,048 bits in base64url, the minimum that RFC 7518 allows.
local MIN_MODULUS = 342


-- Only asymmetric algorithms, and not `none`: an issuer's public keys must not be enough to sign a
-- token.
local ALGORITHMS = {
    RS256 = { type = "RSA", digest = "sha256" },
    RS384 = { type = "RSA", digest = "sha384" },
    RS512 = { type = "RSA", digest = "sha512" },
    PS256 = { type = "RSA", digest = "sha256", is_pss = true },
    PS384 = { type = "RSA", digest = "sha384", is_pss = true },
    PS512 = { type = "RSA", digest = "sha512", is_pss = true },
    ES256 = { type = "EC", curve = "P-256", digest = "sha256" },
    ES384 = { type = "EC", curve = "P-384", digest = "sha384" },
    ES512 = { type = "EC", curve = "P-521", digest = "sha512" },
}

local CURVES = { ["P-256"] = true, ["P-384"] = true, ["P-521"] = true }


--- Splits a signed token.
-- @tparam string token
-- @treturn table|nil `header`, `payload` and `signature` in base64url, and `signed`, the signed
--   text
-- @treturn nil|string why it is not a signed token
function _M.split(token)
    if #token > _M.MAX_BYTES then
        return nil, "it is too long"
    end
    local signed, signature = match(token, "^([%w_-]+%.[%w_-]+)%.([%w_-]+)$")
    if not signed then
        return nil, "it is not a signed JWT"
    end
    local header, payload = match(signed, "^([^.]+)%.([^.]+)$")
    return { header = header, payload = payload, signature = signature, signed = signed }
end


--- The signature algorithm of a token.
-- @tparam any header decoded
-- @treturn table|nil `type` and `curve` of the key, `digest`, `is_pss`
-- @treturn nil|string why it cannot be checked
function _M.algorithm(header)
    if type(header) ~= "table" then
        return nil, "its header cannot be read"
    end
    -- The token requires extensions; the gateway supports none.
    if header.crit ~= nil then
        return nil, "it requires extensions that the gateway does not support"
    end
    local algorithm = type(header.alg) == "string" and ALGORITHMS[header.alg]
    if not algorithm then
        return nil, "it is not signed with RS, PS or ES 256, 384 or 512"
    end
    return algorithm
end


local function text(value)
    return type(value) == "string" and value or nil
end


local function is_for_verifying(key)
    if text(key.use) and key.use ~= "sig" then
        return false
    end
    if type(key.key_ops) ~= "table" then
        return true
    end
    for _, each in ipairs(key.key_ops) do
        if each == "verify" then
            return true
        end
    end
    return false
end


--- An issuer's keys that can verify signatures, reduced to the needed fields.
-- @tparam any document a decoded JWK set
-- @treturn table a list without unusable keys
function _M.usable_keys(document)
    local keys = {}
    local list = type(document) == "table" and document.keys
    for _, key in ipairs(type(list) == "table" and list or {}) do
        local usable
        if type(key) == "table" and is_for_verifying(key) then
            if key.kty == "RSA" and text(key.e) and text(key.n) and #key.n >= MIN_MODULUS then
                usable = { kty = "RSA", n = key.n, e = key.e }
            elseif key.kty == "EC" and CURVES[text(key.crv) or ""] and text(key.x)
                   and text(key.y)
            then
                usable = { kty = "EC", crv = key.crv, x = key.x, y = key.y }
            end
        end
        if usable and #keys < MAX_KEYS then
            usable.kid, usable.alg = text(key.kid), text(key.alg)
            keys[#keys + 1] = usable
        end
    end
    return keys
end


--- The key that a token must be signed with. A token without a key id needs an issuer with a single
-- matching key.
-- @tparam table keys as `usable_keys` returns them
-- @tparam table header decoded
-- @tparam table algorithm as `algorithm` returns it
-- @treturn table|nil
function _M.key_for(keys, header, algorithm)
    local kid = header.kid
    local found
    for _, key in ipairs(keys) do
        if key.kty == algorithm.type and key.crv == algorithm.curve
           and (not key.alg or key.alg == header.alg) and (kid == nil or key.kid == kid)
        then
            if kid ~= nil then
                return key
            elseif found then
                return nil
            end
            found = key
        end
    end
    return found
end


local function is_for(audience, audiences)
    if type(audience) ~= "table" then
        audience = { audience }
    end
    for _, each in ipairs(audience) do
        for _, wanted in ipairs(audiences) do
            if each == wanted then
                return true
            end
        end
    end
    return false
end


--- Whether a token has not expired yet.
-- @tparam number expiry its claim `exp`
-- @tparam number now in seconds
function _M.is_current(expiry, now)
    return now < expiry + LEEWAY_S
end


--- The subject of a token whose signature is valid.
-- @tparam any claims decoded
-- @tparam string issuer the expected issuer
-- @tparam table audiences a list, of which the token must name one
-- @tparam number now in seconds
-- @treturn string|nil its subject
-- @treturn nil|string why the token is rejected
function _M.subject(claims, issuer, audiences, now)
    if type(claims) ~= "table" then
        return nil, "its claims cannot be read"
    elseif claims.iss ~= issuer then
        return nil, "its issuer is not the expected one"
    elseif not is_for(claims.aud, audiences) then
        return nil, "its audience is not the expected one"
    elseif type(claims.exp) ~= "number" then
        return nil, "it has no expiry time"
    elseif not _M.is_current(claims.exp, now) then
        return nil, "it has expired"
    elseif claims.nbf ~= nil and (type(claims.nbf) ~= "number" or now < claims.nbf - LEEWAY_S) then
        return nil, "it is not valid yet"
    end

    local subject = claims.sub
    if type(subject) ~= "string" or subject == "" then
        return nil, "it has no subject"
    elseif #subject > MAX_SUBJECT or find(subject, "[^\32-\126]") then
        return nil, "its subject is not one of up to 255 printable ASCII characters"
    end
    return subject
end


--- Reads the needed fields of an issuer's discovery document.
-- @tparam any document decoded
-- @tparam string url of the document
-- @treturn string|nil the issuer, as its tokens name it
-- @treturn string the URL of its keys, or why the document cannot be used
function _M.discovered(document, url)
    local issuer = type(document) == "table" and text(document.issuer)
    local keys = type(document) == "table" and text(document.jwks_uri)
    if not issuer or issuer == "" or not keys then
        return nil, "it has no issuer or no jwks_uri"
    elseif find(url, "^[Hh][Tt][Tt][Pp][Ss]:") and not find(keys, "^[Hh][Tt][Tt][Pp][Ss]://") then
        return nil, "its jwks_uri is not https"
    end
    return issuer, keys
end


return _M
