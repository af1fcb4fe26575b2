local jwt = require("genai.identity.jwt")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NOW = 1700000000
local ISSUER = "https://login.example.com/tenant/v2.0"
local AUDIENCES = { "1111-2222", "api://1111-2222" }


local function reason(_, why)
    return why
end


local function claims(changes)
    local all = { iss = ISSUER, aud = "1111-2222", exp = NOW + 600, sub = "someone" }
    for name, value in pairs(changes or {}) do
        all[name] = value
    end
    return all
end


local function without(name)
    local all = claims()
    all[name] = nil
    return all
end


local function subject(all)
    return jwt.subject(all, ISSUER, AUDIENCES, NOW)
end


local function rsa(more)
    local key = { kty = "RSA", kid = "a", n = ("n"):rep(342), e = "AQAB" }
    for name, value in pairs(more or {}) do
        key[name] = value
    end
    return key
end


local function ec(more)
    local key = { kty = "EC", kid = "b", crv = "P-256", x = "x", y = "y" }
    for name, value in pairs(more or {}) do
        key[name] = value
    end
    return key
end


describe("token: its parts", function()
    it("are three, and the first two are what is signed", function()
        equal(jwt.split("aA0-_.bB1.cC2"), {
            header = "aA0-_", payload = "bB1", signature = "cC2", signed = "aA0-_.bB1",
        })
    end)

    it("are not fewer, not more, not empty, and of nothing but base64url", function()
        for _, text in ipairs({ "", "a", "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", "a.b.c.d.e",
                                "a.b.c ", " a.b.c", "a.b.c=", "a.b+.c", "a/.b.c", "a.b.c\n",
                                "a.b.\0c", "Bearer a.b.c", "a.b.\195\164" }) do
            equal(reason(jwt.split(text)), "it is not a signed JWT", text)
        end
    end)

    it("are at most 16 KiB together", function()
        local longest = "a.b." .. ("c"):rep(jwt.MAX_BYTES - 4)
        equal(jwt.split(longest).signed, "a.b")
        equal(reason(jwt.split(longest .. "c")), "it is too long")
    end)
end)


describe("token: its algorithm", function()
    it("is one with a public key", function()
        equal(jwt.algorithm({ alg = "RS256" }), { type = "RSA", digest = "sha256" })
        equal(jwt.algorithm({ alg = "PS512" }),
              { type = "RSA", digest = "sha512", is_pss = true })
        equal(jwt.algorithm({ alg = "ES384" }),
              { type = "EC", curve = "P-384", digest = "sha384" })
    end)

    it("is never none, never one with a shared secret, and spelled as it is", function()
        for _, name in ipairs({ "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "rs256",
                                "RS1", "RSA-OAEP", "dir", "", " RS256" }) do
            equal(reason(jwt.algorithm({ alg = name })),
                  "it is not signed with RS, PS or ES 256, 384 or 512", name)
        end
        for _, value in ipairs({ 1, true, {} }) do
            equal(jwt.algorithm({ alg = value }), nil)
        end
        equal(jwt.algorithm({}), nil)
        equal(jwt.algorithm({ alg = { "RS256" } }), nil)
    end)

    it("is not looked for where nothing can be read", function()
        equal(reason(jwt.algorithm(nil)), "its header cannot be read")
        equal(reason(jwt.algorithm("RS256")), "its header cannot be read")
    end)

    it("does not help where the header asks for more", function()
        equal(reason(jwt.algorithm({ alg = "RS256", crit = { "b64" } })),
              "it requires extensions that the gateway does not support")
    end)
end)


describe("token: keys of an issuer", function()
    it("are kept as far as they are needed", function()
        equal(jwt.usable_keys({ keys = {
            rsa({ use = "sig", x5c = { "certificate" }, x5t = "print", d = "private" }),
            ec({ alg = "ES256", key_ops = { "verify" }, d = "private" }),
        } }), { rsa(), ec({ alg = "ES256" }) })
    end)

    it("are left out where they are of no use", function()
        equal(jwt.usable_keys({ keys = {
            rsa({ use = "enc" }), rsa({ key_ops = { "encrypt" } }), rsa({ key_ops = {} }),
            rsa({ n = ("n"):rep(341) }), rsa({ n = 7 }), rsa({ e = {} }), rsa({ kty = "rsa" }),
            ec({ crv = "secp256k1" }), ec({ crv = 1 }), ec({ x = 1 }), ec({ kty = "OKP" }),
            { kty = "oct", k = "secret", kid = "c" }, "key", 1, {}, { kty = "RSA" },
        } }), {})
    end)

    it("are a list in an object", function()
        for _, document in ipairs({ "keys", 1, {}, { keys = "a" }, { keys = 1 }, { rsa() } }) do
            equal(jwt.usable_keys(document), {})
        end
        equal(jwt.usable_keys(nil), {})
    end)

    it("are not more than could be needed", function()
        local keys = {}
        for i = 1, 1000 do
            keys[i] = rsa({ kid = "key " .. i })
        end
        equal(#jwt.usable_keys({ keys = keys }), 100)
    end)
end)


describe("token: the key that it is signed with", function()
    local RS256, ES256 = jwt.algorithm({ alg = "RS256" }), jwt.algorithm({ alg = "ES256" })

    local function kid_of(keys, header, algorithm)
        local key = jwt.key_for(keys, header, algorithm)
        return key and (key.kid or "unnamed")
    end

    it("is the one that it names", function()
        local keys = { rsa(), rsa({ kid = "c" }), ec() }
        equal(kid_of(keys, { alg = "RS256", kid = "c" }, RS256), "c")
        equal(kid_of(keys, { alg = "ES256", kid = "b" }, ES256), "b")
        equal(kid_of(keys, { alg = "RS256", kid = "d" }, RS256), nil)
        equal(kid_of(keys, { alg = "RS256", kid = "" }, RS256), nil)
        equal(kid_of(keys, { alg = "RS256", kid = 1 }, RS256), nil)
        equal(kid_of(keys, { alg = "RS256", kid = {} }, RS256), nil)
    end)

    it("is of the kind that its algorithm takes", function()
        local keys = { rsa(), ec(), ec({ kid = "wide", crv = "P-384" }),
                       rsa({ kid = "pss", alg = "PS256" }) }
        equal(kid_of(keys, { alg = "ES256", kid = "a" }, ES256), nil)
        equal(kid_of(keys, { alg = "RS256", kid = "b" }, RS256), nil)
        equal(kid_of(keys, { alg = "ES256", kid = "wide" }, ES256), nil)
        equal(kid_of(keys, { alg = "RS256", kid = "pss" }, RS256), nil)
        equal(kid_of(keys, { alg = "PS256", kid = "pss" }, RS256), "pss")
    end)

    it("is the only one of its kind where it names none", function()
        equal(kid_of({ rsa(), ec() }, { alg = "RS256" }, RS256), "a")
        equal(kid_of({ { kty = "RSA" }, ec() }, { alg = "RS256" }, RS256), "unnamed")
        equal(kid_of({ rsa(), rsa({ kid = "c" }) }, { alg = "RS256" }, RS256), nil)
        equal(kid_of({}, { alg = "RS256" }, RS256), nil)
    end)

    it("is found by its kind where two have one name", function()
        equal(jwt.key_for({ rsa(), ec({ kid = "a" }) }, { alg = "ES256", kid = "a" }, ES256),
              ec({ kid = "a" }))
    end)
end)


describe("token: its subject", function()
    it("is whom it names", function()
        equal(subject(claims()), "someone")
        equal(subject(claims({ sub = "a b|c:d#e${f}" })), "a b|c:d#e${f}")
        equal(subject(claims({ sub = ("s"):rep(255) })), ("s"):rep(255))
    end)

    it("is nobody where it names none that can be told", function()
        equal(reason(subject(without("sub"))), "it has no subject")
        for _, value in ipairs({ "", 7, true, {} }) do
            equal(reason(subject(claims({ sub = value }))), "it has no subject")
        end
        for _, value in ipairs({ ("s"):rep(256), "a\nb", "a\0", "\195\164", "a\127" }) do
            equal(reason(subject(claims({ sub = value }))),
                  "its subject is not one of up to 255 printable ASCII characters")
        end
    end)

    it("counts from its own issuer alone", function()
        for _, value in ipairs({ ISSUER .. "/", ISSUER:upper(), "", 1, {}, { ISSUER } }) do
            equal(reason(subject(claims({ iss = value }))), "its issuer is not the expected one")
        end
        equal(reason(subject(without("iss"))), "its issuer is not the expected one")
    end)

    it("counts for this gateway alone", function()
        equal(subject(claims({ aud = "api://1111-2222" })), "someone")
        equal(subject(claims({ aud = { "other", "1111-2222" } })), "someone")
        for _, value in ipairs({ "1111", "1111-2222 ", "API://1111-2222", "", 1, {}, { "other" },
                                 { { "1111-2222" } } }) do
            equal(reason(subject(claims({ aud = value }))), "its audience is not the expected one")
        end
        equal(reason(subject(without("aud"))), "its audience is not the expected one")
    end)

    it("counts until its token expires, and a minute for clocks that differ", function()
        equal(subject(claims({ exp = NOW - 59 })), "someone")
        equal(reason(subject(claims({ exp = NOW - 60 }))), "it has expired")
        equal(reason(subject(claims({ exp = 0 }))), "it has expired")
        equal(reason(subject(without("exp"))), "it has no expiry time")
        equal(reason(subject(claims({ exp = tostring(NOW + 600) }))),
              "it has no expiry time")
    end)

    it("counts from when its token is valid, less that minute", function()
        equal(subject(claims({ nbf = NOW + 60 })), "someone")
        equal(reason(subject(claims({ nbf = NOW + 61 }))), "it is not valid yet")
        equal(reason(subject(claims({ nbf = "yesterday" }))), "it is not valid yet")
    end)

    it("cannot be had of what are no claims", function()
        for _, value in ipairs({ "claims", 1, true }) do
            equal(reason(subject(value)), "its claims cannot be read")
        end
        equal(reason(subject(nil)), "its claims cannot be read")
    end)
end)


describe("token: a discovery document", function()
    local URL = ISSUER .. "/.well-known/openid-configuration"

    local function keys_of(document, url)
        local issuer, keys = jwt.discovered(document, url or URL)
        return issuer and keys
    end

    it("names the issuer and where its keys are", function()
        local issuer, keys = jwt.discovered({ issuer = ISSUER, jwks_uri = "https://keys" }, URL)
        equal({ issuer, keys }, { ISSUER, "https://keys" })
    end)

    it("is of no use without either", function()
        for _, document in ipairs({ {}, { issuer = ISSUER }, { jwks_uri = "https://keys" }, "a",
                                    { issuer = "", jwks_uri = "https://keys" },
                                    { issuer = 1, jwks_uri = "https://keys" },
                                    { issuer = ISSUER, jwks_uri = {} } }) do
            equal(keys_of(document), nil)
        end
        equal(jwt.discovered(nil, URL), nil)
    end)

    it("does not lead from https to http", function()
        local plain = { issuer = ISSUER, jwks_uri = "http://keys" }
        equal(keys_of(plain), nil)
        equal(keys_of(plain, "HTTPS://login.example.com/"), nil)
        equal(keys_of({ issuer = ISSUER, jwks_uri = "file:///keys" }), nil)
        equal(keys_of(plain, "http://login.example.com/"), "http://keys")
    end)
end)
