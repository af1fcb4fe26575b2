--- Whom a bearer token is of: its issuer's signature and its claims, checked once for each token.

local core = require("apisix.core")
local issuers = require("apisix.plugins.azure-openai-auth.issuer")
local token_mod = require("genai.token")
local decode_base64url = require("ngx.base64").decode_base64url
local lrucache = require("resty.lrucache")
local pkey = require("resty.openssl.pkey")
local ngx = ngx
local ngx_now = ngx.now
local concat = table.concat
local setmetatable = setmetatable
local tostring = tostring

local _M = {}

-- In each worker; tokens of two or three kilobytes mostly.
local MAX_REMEMBERED = 1000

local PSS = pkey.PADDINGS.RSA_PKCS1_PSS_PADDING

-- JWTs have the two numbers of such a signature one after the other, OpenSSL in a structure.
local RAW = { ecdsa_use_raw = true }


-- By configuration, which APISIX makes a new table of at each change of its file, though what it
-- says is mostly the same.
local states = setmetatable({}, { __mode = "k" })
local states_by_content = {}


local function state_of(conf)
    local state = states[conf]
    if not state then
        local content = conf.discovery .. "\n" .. concat(conf.audiences, "\n")
        state = states_by_content[content]
        if not state then
            state = { issuer = issuers.new(conf.discovery), audiences = conf.audiences }
            states_by_content[content] = state
        end
        states[conf] = state
    end
    return state
end


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
            core.log.warn("a key of the issuer of tokens is of no use: ", tostring(err))
            return false
        end
    end
    return key.public:verify(signature, parts.signed, algorithm.digest,
                             algorithm.is_pss and PSS or nil,
                             algorithm.type == "EC" and RAW or nil) == true
end


-- The subject and expiry of a token that was not seen before. Or nil and why not, without a reason
-- where the issuer cannot be asked.
local function check(state, token)
    local parts, reason = token_mod.split(token)
    if not parts then
        return nil, reason
    end
    local header = decoded(parts.header)
    local algorithm
    algorithm, reason = token_mod.algorithm(header)
    if not algorithm then
        return nil, reason
    end

    local key, is_unknown = issuers.key(state.issuer, header, algorithm)
    if not key then
        return nil, is_unknown and "its issuer has no such key" or nil
    end
    if not is_signed(key, algorithm, parts) then
        return nil, "its signature is wrong"
    end
    local claims = decoded(parts.payload)
    local subject
    subject, reason = token_mod.subject(claims, state.issuer.name, state.audiences, ngx_now())
    return subject, reason or claims.exp
end


--- Whom a token is of.
-- @tparam table conf `discovery`, the URL of the issuer's document, and `audiences`
-- @tparam string token
-- @treturn string|nil its subject
-- @treturn nil|string why it is refused
-- @treturn nil|number instead of that: milliseconds until its issuer is asked again, which now
--   cannot be
function _M.subject(conf, token)
    local state = state_of(conf)
    local issuer = state.issuer
    local is_usable = issuers.load(issuer)
    -- Signed with keys that are no longer the issuer's, maybe.
    if state.generation ~= issuer.generation then
        state.generation = issuer.generation
        state.remembered = lrucache.new(MAX_REMEMBERED)
    end

    local known = is_usable and state.remembered:get(token)
    if known and token_mod.is_current(known.expiry, ngx_now()) then
        return known.subject
    end

    local subject, detail = check(state, token)
    if subject then
        if state.generation == issuer.generation then
            state.remembered:set(token, { subject = subject, expiry = detail })
        end
        return subject
    elseif detail then
        return nil, detail
    end
    return nil, nil, issuers.retry_ms(issuer)
end


return _M
