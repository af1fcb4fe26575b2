local entra = require("genai.identity.entra")
local json = require("json")
local shared_dict = require("shared_dict")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local NOW = 1700000000
local COGNITIVE = "https://cognitiveservices.azure.com/"
local CLIENT = "00000000-1111-2222-3333-444444444444"


local function of(env, conf)
    return entra.of(conf or { resource = COGNITIVE }, env)
end


describe("identity: where tokens come from", function()
    it("is the platform's endpoint where it names one", function()
        local found = of({ IDENTITY_ENDPOINT = "http://localhost:42356/msi/token",
                           IDENTITY_HEADER = "header-0123",
                           AZURE_FEDERATED_TOKEN_FILE = "/token", AZURE_TENANT_ID = "tenant" })
        equal(found.source.kind, "endpoint")
        equal(entra.request(found), {
            method = "GET",
            address = "http://localhost:42356/msi/token",
            headers = { metadata = "true", ["x-identity-header"] = "header-0123",
                        secret = "header-0123" },
            arguments = { ["api-version"] = "2019-08-01", resource = COGNITIVE },
        })
    end)

    it("is the endpoint of the older name before that", function()
        local found = of({ IDENTITY_ENDPOINT = "http://new", MSI_ENDPOINT = "http://old/msi" })
        equal(found.source.address, "http://old/msi")
        equal(entra.request(found).headers, { metadata = "true" })
    end)

    it("has the secret of the newer name before the older one's", function()
        local function secret(header, older)
            return of({ MSI_ENDPOINT = "http://old", IDENTITY_HEADER = header,
                        MSI_SECRET = older }).source.secret
        end
        equal(secret("new", "old"), "new")
        equal(secret(nil, "old"), "old")
        equal(secret(" ", "old"), "old")
        equal(secret(nil, nil), nil)
    end)

    it("is what a configuration names before all of that", function()
        local found = of({ MSI_ENDPOINT = "http://old", IDENTITY_HEADER = "header",
                           AZURE_FEDERATED_TOKEN_FILE = "/token" },
                         { resource = COGNITIVE, endpoint = "http://own", secret = "own" })
        equal(found.source.address, "http://own")
        equal(found.source.secret, "own")
        found = of({ IDENTITY_HEADER = "header" },
                   { resource = COGNITIVE, endpoint = "http://own" })
        equal(found.source.secret, "header")
    end)

    it("is Entra ID itself where there is a token file", function()
        local found = of({ AZURE_FEDERATED_TOKEN_FILE = "/var/run/token",
                           AZURE_TENANT_ID = "tenant-0", AZURE_CLIENT_ID = CLIENT })
        equal(found.source.file, "/var/run/token")
        equal(found.source.problem, nil)
        equal(entra.request(found, "assertion.of.file"), {
            method = "POST",
            address = "https://login.microsoftonline.com/tenant-0/oauth2/v2.0/token",
            headers = { ["content-type"] = "application/x-www-form-urlencoded" },
            arguments = {
                grant_type = "client_credentials",
                client_id = CLIENT,
                client_assertion_type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                client_assertion = "assertion.of.file",
                scope = "https://cognitiveservices.azure.com/.default",
            },
        })
    end)

    it("is the Entra ID of another cloud where one is named", function()
        for given, expected in pairs({
            ["https://login.microsoftonline.us/"] = "https://login.microsoftonline.us",
            ["https://login.microsoftonline.us"] = "https://login.microsoftonline.us",
            ["login.partner.microsoftonline.cn"] = "https://login.partner.microsoftonline.cn",
            ["http://10.0.0.1:8080"] = "http://10.0.0.1:8080",
            [" "] = "https://login.microsoftonline.com",
        }) do
            local found = of({ AZURE_FEDERATED_TOKEN_FILE = "/t", AZURE_TENANT_ID = "tenant",
                               AZURE_AUTHORITY_HOST = given }, { resource = "a", client_id = "b" })
            equal(found.source.address, expected .. "/tenant/oauth2/v2.0/token", given)
        end
    end)

    it("is the Entra ID of the cloud that the token is for, where none is named", function()
        for resource, expected in pairs({
            ["https://cognitiveservices.azure.us/"] = "https://login.microsoftonline.us",
            ["https://cognitiveservices.azure.us"] = "https://login.microsoftonline.us",
            ["https://monitor.azure.cn"] = "https://login.chinacloudapi.cn",
            ["https://cognitiveservices.azure.us/.default"] = "https://login.microsoftonline.us",
            ["https://cognitiveservices.azure.com/"] = "https://login.microsoftonline.com",
            ["https://ai.azure.com"] = "https://login.microsoftonline.com",
            ["https://my.example.us/"] = "https://login.microsoftonline.com",
            ["https://notazure.us/"] = "https://login.microsoftonline.com",
            ["api://azure.us"] = "https://login.microsoftonline.com",
        }) do
            local env = { AZURE_FEDERATED_TOKEN_FILE = "/t", AZURE_TENANT_ID = "tenant" }
            local conf = { resource = resource, client_id = "b" }
            equal(of(env, conf).source.address, expected .. "/tenant/oauth2/v2.0/token", resource)
            env.AZURE_AUTHORITY_HOST = "https://login.microsoftonline.de"
            equal(of(env, conf).source.address,
                  "https://login.microsoftonline.de/tenant/oauth2/v2.0/token", resource)
        end
    end)

    it("cannot be Entra ID without a tenant and a client", function()
        local function problem(tenant, client)
            return of({ AZURE_FEDERATED_TOKEN_FILE = "/t", AZURE_TENANT_ID = tenant },
                      { resource = COGNITIVE, client_id = client }).source.problem
        end
        equal(problem("tenant", CLIENT), nil)
        equal(problem("contoso.onmicrosoft.com", CLIENT), nil)
        equal(problem("tenant", nil), "AZURE_CLIENT_ID is missing")
        for _, tenant in ipairs({ "", " ", "a/b", "a?b", "a b", "a\r\nb", "a%2fb" }) do
            equal(problem(tenant, CLIENT), "AZURE_TENANT_ID is missing or not a tenant id", tenant)
        end
        equal(problem(nil, CLIENT), "AZURE_TENANT_ID is missing or not a tenant id")
    end)

    it("is the metadata service where there is nothing else", function()
        local found = of({ IDENTITY_ENDPOINT = "", IDENTITY_HEADER = "unused", MSI_ENDPOINT = " ",
                           AZURE_FEDERATED_TOKEN_FILE = "", AZURE_CLIENT_ID = "\t" })
        equal(found.source.kind, "metadata")
        equal(entra.request(found), {
            method = "GET",
            address = "http://169.254.169.254/metadata/identity/oauth2/token",
            headers = { metadata = "true" },
            arguments = { ["api-version"] = "2018-02-01", resource = COGNITIVE },
        })
        found = of({ AZURE_POD_IDENTITY_AUTHORITY_HOST = "http://10.0.0.1:4000/" })
        equal(found.source.address, "http://10.0.0.1:4000/metadata/identity/oauth2/token")
    end)

    it("does not mind white space around what it is told", function()
        local found = of({ IDENTITY_ENDPOINT = " http://a \r", IDENTITY_HEADER = " b c\n" })
        equal(found.source.address, "http://a")
        equal(found.source.secret, "b c")
    end)
end)


describe("identity: for what, and as whom", function()
    it("is the backend's client before the process's own", function()
        local env = { AZURE_CLIENT_ID = "of-the-process" }
        equal(of(env).client_id, "of-the-process")
        equal(of(env, { resource = COGNITIVE, client_id = CLIENT }).client_id, CLIENT)
        equal(entra.request(of(env)).arguments.client_id, "of-the-process")
        equal(of({}).client_id, nil)
    end)

    it("is a resource where a scope was given", function()
        for given, expected in pairs({
            ["https://cognitiveservices.azure.com/"] = "https://cognitiveservices.azure.com/",
            ["https://cognitiveservices.azure.com"] = "https://cognitiveservices.azure.com",
            ["https://ai.azure.com/.default"] = "https://ai.azure.com",
            ["https://cognitiveservices.azure.us//.default"]
                = "https://cognitiveservices.azure.us/",
            ["https://a/x.default"] = "https://a/x.default",
        }) do
            equal(of({}, { resource = given }).resource, expected, given)
            local workload = of({ AZURE_FEDERATED_TOKEN_FILE = "/t", AZURE_TENANT_ID = "t",
                                  AZURE_CLIENT_ID = "c" }, { resource = given })
            equal(entra.request(workload).arguments.scope,
                  (expected:gsub("/$", "")) .. "/.default", given)
        end
    end)

    it("has a key of its own for each token", function()
        local env = { IDENTITY_ENDPOINT = "http://a" }
        local keys, count = {}, 0
        for _, each in ipairs({
            of(env), of(env, { resource = "https://b/" }), of({}),
            of(env, { resource = COGNITIVE, client_id = "c" }),
            of(env, { resource = COGNITIVE, client_id = "d" }),
            of({ IDENTITY_ENDPOINT = "http://b" }),
            of({ AZURE_FEDERATED_TOKEN_FILE = "/t", AZURE_TENANT_ID = "t" }),
            of({ AZURE_FEDERATED_TOKEN_FILE = "/t", AZURE_TENANT_ID = "u" }),
        }) do
            count = count + (keys[each.key] and 0 or 1)
            keys[each.key] = true
        end
        equal(count, 8)
        equal(of(env).key, of(env, { resource = COGNITIVE .. "/.default" }).key)
    end)

    it("is told in logs without the secret", function()
        local found = of({ IDENTITY_ENDPOINT = "http://a", IDENTITY_HEADER = "planted" },
                         { resource = COGNITIVE, client_id = CLIENT })
        equal(found.label, COGNITIVE .. " as " .. CLIENT)
        equal(found.key:find("planted", 1, true), nil)
        equal(of({}).label, COGNITIVE)
    end)
end)


describe("identity: an answer", function()
    local function answer(text, status)
        return entra.answer(status or 200, json.decode(text), NOW)
    end

    it("tells the token's end as a time or as what is left, in digits or as a number", function()
        for text, ends_at in pairs({
            ['"expires_on":"1700003600"'] = NOW + 3600,
            ['"expires_on":1700003600'] = NOW + 3600,
            ['"expires_in":"3599"'] = NOW + 3599,
            ['"expires_in":3599'] = NOW + 3599,
            ['"expires_on":"1700000100","expires_in":"3599"'] = NOW + 100,
            ['"expires_on":"11/14/2023 23:13:20 PM +00:00","expires_in":100'] = NOW + 100,
            ['"expires_on":null,"expires_in":100'] = NOW + 100,
            ['"expires_on":1700003600.5'] = NOW + 3600.5,
            ['"expires_on":null'] = NOW + 600,
            ['"token_type":"Bearer"'] = NOW + 600,
            -- milliseconds, most likely
            ['"expires_on":1700003600000'] = NOW + 172800,
        }) do
            equal(answer('{"access_token":"a.b-c_d","resource":"r",' .. text .. '}'),
                  { token = "a.b-c_d", ends_at = ends_at }, text)
        end
    end)

    it("without a token is none", function()
        for _, text in ipairs({
            "{}", '{"access_token":""}', '{"access_token":null}', '{"access_token":7}',
            '{"access_token":{"a":"b"}}', '{"token":"a"}', '{"access_token":"a b"}',
            '{"access_token":"a\\r\\nx-injected: b"}', '{"access_token":"a\\u0000"}',
            '{"access_token":"\\u00e9"}',
        }) do
            local found, err = answer(text)
            equal({ found, err }, { nil, "its answer has no token" }, text)
        end
    end)

    it("that is no JSON is none", function()
        for _, text in ipairs({ "", "<html>", "null", "7", '"a"', '{"access_token":"a"' }) do
            local found, err = answer(text)
            equal({ found, err }, { nil, "its answer is not a JSON object" }, text)
        end
    end)

    it("with a token that has ended is none", function()
        for _, text in ipairs({ '"expires_on":"1700000000"', '"expires_on":5', '"expires_in":0',
                                '"expires_in":-5' }) do
            local found, err = answer('{"access_token":"a",' .. text .. '}')
            equal({ found, err }, { nil, "the token in its answer has expired" }, text)
        end
    end)

    it("with an end that is no time is none", function()
        for _, text in ipairs({ '"expires_on":"soon"', '"expires_in":"1h"', '"expires_on":"-1"',
                                '"expires_on":"0x10"', '"expires_on":""', '"expires_in":"1e3"' }) do
            local found, err = answer('{"access_token":"a",' .. text .. '}')
            equal({ found, err },
                  { nil, "its answer has no expiry time for the token" }, text)
        end
    end)

    it("that is an error tells its status, and no more than a known word", function()
        local function err(status, text)
            return (select(2, answer(text, status)))
        end
        equal(err(500, "secret"), "it answered 500")
        equal(err(400, '{"error":"invalid_request","error_description":"secret"}'),
              "it answered 400 (invalid_request)")
        equal(err(401, '{"error":"unauthorized_client"}'), "it answered 401 (unauthorized_client)")
        equal(err(400, '{"error":"a-secret"}'), "it answered 400")
        equal(err(400, '{"error":{"code":"invalid_client"}}'), "it answered 400")
        equal(err(400, '{"error":null}'), "it answered 400")
        equal(err(404, '{"access_token":"a","expires_in":100}'), "it answered 404")
        equal(err(302, ""), "it answered 302")
        equal(err(204, ""), "it answered 204")
    end)
end)


describe("identity: the memory of a token", function()
    local one = of({})

    local function stored(lifetime, random)
        local dict = shared_dict.new(NOW * 1000)
        local entry, ok = entra.store(dict, one, { token = "t", ends_at = NOW + lifetime }, NOW,
                                         random or 0)
        equal(ok, true)
        return entry, dict
    end

    it("is asked for anew at four fifths of its time, or five minutes before its end", function()
        for lifetime, seconds in pairs({ [86400] = 69120, [3600] = 2880, [1500] = 1200,
                                         [1200] = 900, [600] = 300, [400] = 200, [10] = 5 }) do
            equal(stored(lifetime).refresh_at - NOW, seconds, tostring(lifetime))
        end
    end)

    it("is asked for anew a little earlier by some than by others", function()
        equal(stored(3600, 1).refresh_at - NOW, 2736)
        equal(stored(3600, 0.5).refresh_at - NOW, 2808)
    end)

    it("is not used in its last moments", function()
        equal(stored(3600).usable_until - NOW, 3570)
        equal(stored(100).usable_until - NOW, 95)
    end)

    it("ends when the token does", function()
        local _, dict = stored(100)
        equal(entra.stored(dict, one, NOW), { token = "t", refresh_at = NOW + 50,
                                                 usable_until = NOW + 95 })
        equal(entra.stored(dict, one, NOW + 94.9).token, "t")
        equal(entra.stored(dict, one, NOW + 95), nil)
        dict.now = (NOW + 95) * 1000
        equal(dict:get(one.key), nil)
    end)

    it("keeps tokens of others apart", function()
        local _, dict = stored(100)
        equal(entra.stored(dict, of({}, { resource = "https://b" }), NOW), nil)
    end)

    it("says where it does not fit", function()
        local dict = shared_dict.new(NOW * 1000)
        function dict.set()
            return false, "no memory"
        end
        local entry, ok, err = entra.store(dict, one, { token = "t", ends_at = NOW + 100 }, NOW,
                                              0)
        equal({ entry.token, ok, err }, { "t", false, "no memory" })
    end)
end)


describe("identity: after a failure", function()
    local one = of({})

    it("the next try waits, longer each time", function()
        local dict = shared_dict.new(NOW * 1000)
        equal(entra.pause(dict, one, NOW), nil)
        local now, pauses = NOW, {}
        for i = 1, 8 do
            pauses[i] = entra.failed(dict, one, now, "reason " .. i)
            local reason, left = entra.pause(dict, one, now)
            equal({ reason, left }, { "reason " .. i, pauses[i] })
            now = now + pauses[i] / 1000
            dict.now = now * 1000
            equal(entra.pause(dict, one, now), nil)
            -- It is time for the next try, and the last one has failed none the less.
            equal(entra.has_failed(dict, one), true)
        end
        equal(pauses, { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 })
    end)

    it("a token ends the row", function()
        local dict = shared_dict.new(NOW * 1000)
        equal(entra.has_failed(dict, one), false)
        entra.failed(dict, one, NOW, "x")
        entra.failed(dict, one, NOW, "x")
        equal(entra.has_failed(dict, one), true)
        entra.store(dict, one, { token = "t", ends_at = NOW + 100 }, NOW, 0)
        equal(entra.has_failed(dict, one), false)
        equal(entra.pause(dict, one, NOW), nil)
        equal(entra.failed(dict, one, NOW, "x"), 1000)
    end)

    it("so does a long time", function()
        local dict = shared_dict.new(NOW * 1000)
        entra.failed(dict, one, NOW, "x")
        dict.now = (NOW + 301) * 1000
        equal(entra.failed(dict, one, NOW + 301, "x"), 1000)
    end)

    it("others do not wait", function()
        local dict = shared_dict.new(NOW * 1000)
        entra.failed(dict, one, NOW, "x")
        equal(entra.pause(dict, of({}, { resource = "https://b" }), NOW), nil)
    end)
end)


describe("identity: asking", function()
    local one = of({})

    it("has a lock of its own for each identity", function()
        equal(entra.lock_key(one), entra.lock_key(of({})))
        equal(entra.lock_key(one) ~= entra.lock_key(of({}, { resource = "https://b" })), true)
    end)

    it("in place of a token that is refused is for once in a while", function()
        local dict = shared_dict.new(NOW * 1000)
        equal(entra.may_replace(dict, one), true)
        equal(entra.may_replace(dict, one), false)
        dict.now = dict.now + entra.REJECTION_S * 1000
        equal(entra.may_replace(dict, one), true)
    end)
end)
