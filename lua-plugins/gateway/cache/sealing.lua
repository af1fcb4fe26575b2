--- Encrypts what the cache stores outside this gateway, with AES-256-GCM, and hides what it is
-- about: names of entries are keyed digests, so that nobody can confirm a guessed prompt.

local cipher = require("resty.openssl.cipher")
local memo = require("genai.util.memo")
local random = require("resty.random")
local secret_files = require("gateway.credentials.secret_files")
local secrets = require("apisix_internals.secrets")
local sha256 = require("resty.sha256")
local to_hex = require("resty.string").to_hex
local ipairs = ipairs
local sub = string.sub

local _M = {}

local ALGORITHM = "aes-256-gcm"
local IV_BYTES, TAG_BYTES = 12, 16

-- What a stored text begins with: plain, or sealed.
local PLAIN, SEALED = "p", "s"


local function digest(...)
    local hash = sha256:new()
    for _, part in ipairs({ ... }) do
        hash:update(part)
    end
    return hash:final()
end


-- The keys that are derived from a secret: one to encrypt, one for names.
local keys_of = memo.of(function(secret)
    return {
        entry = digest("genai-gateway cache: entries\n", secret),
        name = digest("genai-gateway cache: names\n", secret),
    }
end)


local function secret_of(value, setting)
    if setting then
        return secret_files.value(setting)
    end
    return value and not secrets.is_reference(value) and value or nil
end


--- The current keys.
-- @tparam table|nil conf `encryption` of the cache's configuration; nil: nothing is encrypted
-- @treturn table|nil the keys for new entries and, as `previous`, those of the secret before; nil:
--   the secret has no value now, so nothing may be stored
function _M.keys(conf)
    if not conf then
        return {}
    end
    local secret = secret_of(conf.key, conf.key_setting)
    if not secret then
        return nil
    end
    local before = secret_of(conf.previous, conf.previous_setting)
    return { current = keys_of(secret), previous = before and keys_of(before) or nil }
end


--- The name of an entry in the store, in hex digits.
-- @tparam string request the digest of a request
-- @tparam table|nil key one of `keys`; nil: not encrypted
function _M.name(request, key)
    return to_hex(key and digest(key.name, request) or request)
end


--- Seals a text.
-- @tparam string text
-- @tparam table|nil key one of `keys`; nil: the text stays plain
-- @tparam string about the place of the text: it can be opened for the same place only
-- @treturn string|nil
-- @treturn nil|string the error
function _M.seal(text, key, about)
    if not key then
        return PLAIN .. text
    end
    local iv = random.bytes(IV_BYTES, true) or random.bytes(IV_BYTES)
    local aes, err = cipher.new(ALGORITHM)
    if not aes then
        return nil, err
    end
    local sealed
    sealed, err = aes:encrypt(key.entry, iv, text, false, about)
    if not sealed then
        return nil, err
    end
    local tag
    tag, err = aes:get_aead_tag(TAG_BYTES)
    if not tag then
        return nil, err
    end
    return SEALED .. iv .. tag .. sealed
end


--- Opens a sealed text.
-- @treturn string|nil nil: the text was not sealed with this key, or for another place
function _M.open(text, key, about)
    local kind = sub(text, 1, 1)
    if not key then
        return kind == PLAIN and sub(text, 2) or nil
    elseif kind ~= SEALED or #text < 1 + IV_BYTES + TAG_BYTES then
        -- A plain text in the place of a sealed one did not come from this gateway.
        return nil
    end
    local aes = cipher.new(ALGORITHM)
    return aes and aes:decrypt(key.entry, sub(text, 2, 1 + IV_BYTES),
                               sub(text, 2 + IV_BYTES + TAG_BYTES), false, about,
                               sub(text, 2 + IV_BYTES, 1 + IV_BYTES + TAG_BYTES)) or nil
end


return _M
