--- Checks bearer tokens: the issuer's signature and the claims, once for each token.

local by_content = require("gateway.mechanisms.by_content")
local core = require("apisix.core")
local oidc_issuers = require("gateway.credentials.oidc_issuers")
local jwt = require("genai.identity.jwt")
local decode_base64url = require("ngx.base64").decode_base64url
local lrucache = require("resty.lrucache")
local pkey = require("resty.openssl.pkey")
local ngx = ngx
local ngx_now = ngx.now
local concat = table.concat
local tostring = tostring

local _M = {}

-- Limit on remembered tokens in each worker; most tokens have two or three kilobytes.
local MAX_REMEMBERED = 1000

local PSS = pkey.PADDINGS.RSA_PKCS1_PSS_PADDING

-- JWTs contain the two numbers of an ECDSA signature one after the other; OpenSSL expects a
-- structure.
local RAW = { ecdsa_use_raw = true }


local function key_of(conf)
    return conf.discovery .. "\n" .. concat(conf.audiences, "\n")
end


local function new_verifier(conf)
    return { issuer = oidc_issuers.new(conf.discovery), audiences = conf.audiences }
end


local verifiers = by_content.new(key_of, new_verifier)


local function decoded(part)
    local text = decode_base64url(part)
    return text and core.json.decode(text)
end


local function is_signed(key, algorithm, parts)
    local signature = decode_base64url(parts.signature)
    if not signature then
        return false
    end
    if not key.public then
        local err
        key.public, err = pkey.new(core.json.encode({
            kty = key.kty, n = key.n, e = key.e, crv = key.crv, x = key.x, y = key.y,
        }), { format = "JWK" })
        if not key.public then
            core.log.warn("a key of the token issuer cannot be used: ", tostring(err))
            return false
        end
    end
    return key.public:verify(signature, parts.signed, algorithm.digest,
                             algorithm.is_pss and PSS or nil,
                             algorithm.type == "EC" and RAW or nil) == true
end


-- Checks a token that was not seen before. Returns its subject and expiry; or nil and the reason,
-- which is nil if the issuer cannot be reached.
local function check(verifier, token)
    local parts, reason = jwt.split(token)
    if not parts then
        return nil, reason
    end
    local header = decoded(parts.header)
    local algorithm
    algorithm, reason = jwt.algorithm(header)
    if not algorithm then
        return nil, reason
    end

    local key, is_unknown = oidc_issuers.key(verifier.issuer, header, algorithm)
    if not key then
        return nil, is_unknown and "its issuer has no key with this id" or nil
    end
    if not is_signed(key, algorithm, parts) then
        return nil, "its signature is wrong"
    end
    local claims = decoded(parts.payload)
    local subject
    subject, reason = jwt.subject(claims, verifier.issuer.name, verifier.audiences, ngx_now())
    return subject, reason or claims.exp
end


--- The subject of a bearer token.
-- @tparam table conf `discovery`, the URL of the issuer's document, and `audiences`
-- @tparam string token
-- @treturn string|nil the subject
-- @treturn nil|string why the token is rejected
-- @treturn nil|number if the issuer cannot be reached: milliseconds until the next attempt
function _M.subject(conf, token)
    local verifier = verifiers:of(conf)
    local issuer = verifier.issuer
    local is_usable = oidc_issuers.load(issuer)
    -- The remembered tokens may be signed with withdrawn keys.
    if verifier.generation ~= issuer.generation then
        verifier.generation = issuer.generation
        verifier.remembered = lrucache.new(MAX_REMEMBERED)
    end

    local known = is_usable and verifier.remembered:get(token)
    if known and jwt.is_current(known.expiry, ngx_now()) then
        return known.subject
    end

    local subject, detail = check(verifier, token)
    if subject then
        if verifier.generation == issuer.generation then
            verifier.remembered:set(token, { subject = subject, expiry = detail })
        end
        return subject
    elseif detail then
        return nil, detail
    end
    return nil, nil, oidc_issuers.retry_ms(issuer)
end


return _M
