--- Random and broken inputs: luajit test/lua/fuzz.lua [SECONDS [SEED]]
--
-- Nothing throws, nothing takes long, and what comes out does not depend on how the input was cut.
-- A failure names the seed of its case, which as SEED begins with that case.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../../lua-plugins/?.lua;" .. package.path

local credential_places = require("genai.http.credential_places")
local chunked = require("genai.http.chunked")
local http_headers = require("genai.http.http_headers")
local entra = require("genai.identity.entra")
local http_head = require("genai.http.http_head")
local json = require("json")
local json_scan = require("genai.util.json_scan")
local model_lists = require("genai.openai.model_lists")
local stored_objects = require("genai.openai.stored_objects")
local multipart = require("genai.http.multipart")
local sse = require("genai.openai.sse")
local paths = require("genai.openai.paths")
local targets = require("genai.openai.targets")
local jwt = require("genai.identity.jwt")
local token_usage = require("genai.openai.token_usage")
local harness = require("harness")
local equal = harness.equal

local concat = table.concat
local random = math.random

local SLOW_S = 2


local function any(list)
    return list[random(#list)]
end


-- Up to `most` pieces of a list of them.
local function some(list, most)
    local pieces = {}
    for i = 1, random(0, most) do
        pieces[i] = any(list)
    end
    return concat(pieces)
end


-- A text broken in a place or two.
local function mutated(text, pieces)
    for _ = 1, random(0, 3) do
        local first = random(0, #text)
        local last = random(3) == 1 and random(first, #text) or first
        text = text:sub(1, first) .. (random(3) == 1 and "" or any(pieces)) .. text:sub(last + 1)
    end
    return text
end


local function split(text)
    local pieces, position = {}, 1
    local most = any({ 1, 3, 20, 1000 })
    while position <= #text do
        local last = position + random(most) - 1
        pieces[#pieces + 1] = text:sub(position, last)
        position = last + 1
    end
    return pieces
end


local function begins_with(text, beginning)
    return text:sub(1, #beginning) == beginning
end


local tests = {}


local CHUNK_PIECES = { "\r\n", "\r", "\n", "0", "5", "a", "F", ";x=y", "hello", "0\r\n\r\n", " ",
                       "-", "x", "ffffffffffff", "\0" }


local function decode_chunks(pieces)
    local decoder, body, err = chunked.new(), "", nil
    for _, piece in ipairs(pieces) do
        local payload
        payload, err = decoder:feed(piece)
        if err then
            break
        end
        body = body .. (payload or "")
    end
    return { body = body, err = err, done = decoder.done, rest = decoder.done and decoder.rest }
end


function tests.chunked()
    local body, coded = "", ""
    for _ = 1, random(0, 6) do
        local data = some(CHUNK_PIECES, 12)
        if data ~= "" then
            body = body .. data
            coded = coded .. (any({ "%x", "%X", "%04x" })):format(#data)
                    .. any({ "", "", " ", ";a", ";a=\"b\"" }) .. "\r\n" .. data .. "\r\n"
        end
    end
    local surplus = any({ "", "", "HTTP/1.1 200", "\r\n" })
    coded = coded .. any({ "0", "000", "0;x" }) .. "\r\n" .. any({ "", "", "A: b\r\n" }) .. "\r\n"
            .. surplus
    equal(decode_chunks(split(coded)), { body = body, done = true,
                                         rest = surplus ~= "" and surplus or nil }, coded)

    local broken = mutated(coded, CHUNK_PIECES)
    local whole, cut = decode_chunks({ broken }), decode_chunks(split(broken))
    equal({ cut.err, cut.done }, { whole.err, whole.done }, broken)
    -- Before an error more may have been given out.
    equal(begins_with(cut.body, whole.body), true, broken)
    if not whole.err then
        equal(cut, whole, broken)
    end
end


local SSE_PIECES = { "\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "data", "data: ", ":", " ", "x",
                     "event: e", "id", '{"usage":{}}', '"usage" : null', "\0", "data:y\n\n" }


-- The standard's way: lines, and an event at each that is empty.
local function reference_events(text)
    text = text:gsub("^\239\187\191", ""):gsub("\r\n", "\n"):gsub("\r", "\n")
    local events, data, name = {}, nil, nil
    for line in text:gmatch("([^\n]*)\n") do
        local field, value = line:match("^([^:]*): ?(.*)$")
        field, value = field or line, value or ""
        if line == "" then
            if data then
                events[#events + 1] = { data = data, name = name }
            end
            data, name = nil, nil
        elseif field == "data" then
            data = data and data .. "\n" .. value or value
        elseif field == "event" then
            name = value
        end
    end
    return events
end


function tests.sse()
    local text = any({ "", "", "\239\187\191" }) .. some(SSE_PIECES, 40)
    if random(3) == 1 then
        text = text:gsub("\r?\n", any({ "\n", "\r", "\r\n" }))
    end

    local reader, given, events = sse.new(), "", {}
    for _, piece in ipairs(split(text)) do
        local complete = reader:feed(piece)
        if complete then
            given = given .. complete
            local position = 1
            while true do
                local next_position, data, name = sse.next_event(complete, position)
                if not next_position then
                    break
                end
                equal(next_position > position, true, text)
                position = next_position
                if data then
                    events[#events + 1] = { data = data, name = name }
                end
            end
        end
    end
    equal(begins_with(text, given), true, text)
    equal(events, reference_events(text), text)
    equal(sse.mentions_usage(text), text:find('usage"[ :]*{') ~= nil, text)
end


local NAMES = { "A", "x-b", "Content-Type", "content-length", "Connection", "Transfer-Encoding",
                "Keep-Alive", "Set-Cookie", "Server", "x-forwarded-for", "X-Consumer-Name",
                "Api-Key", "Authorization", "ocp-apim-subscription-key", "Upgrade", "TE", "Host",
                "x-gateway-y", "x-apisix-z", "Proxy-Connection", "X-Credential-Identifier",
                "trailer" }
local VALUES = { "", "1", "a b", "x-b", "close", "keep-alive", "chunked", "x-b, A", "Set-Cookie",
                 "a:b", "\195\164", ("x"):rep(300) }
local HEAD_PIECES = { "\r\n", "\n", "\r", " ", "\t", ":", ": ", "HTTP/1.1 200 OK", "\0", "\r\n\r\n",
                      "\n\n", "a: b\r\n", "Connection: a", "\r\n ", "x" }

-- Written anew, as a reading of its own.
local NEVER_SENT = { "^connection$", "^keep%-alive$", "^te$", "^trailer$", "^transfer%-encoding$",
                     "^upgrade$", "^proxy%-auth", "^proxy%-connection$", "^host$",
                     "^content%-length$", "^authorization$", "^api%-key$",
                     "^ocp%-apim%-subscription%-key$", "^x%-consumer%-",
                     "^x%-credential%-identifier$", "^x%-forwarded%-", "^x%-gateway%-",
                     "^x%-apisix%-" }
local NEVER_RETURNED = { "^connection$", "^keep%-alive$", "^te$", "^trailer$",
                         "^transfer%-encoding$", "^upgrade$", "^proxy%-auth", "^proxy%-connection$",
                         "^server$" }


local function is_one_of(name, patterns)
    for _, pattern in ipairs(patterns) do
        if name:lower():find(pattern) then
            return true
        end
    end
    return false
end


local function is_named(name, connection)
    for each in connection:lower():gmatch("[^%s,]+") do
        if each == name:lower() and each ~= "close" and each ~= "keep-alive" then
            return true
        end
    end
    return false
end


function tests.http_head()
    local sent, text = {}, "HTTP/1." .. random(0, 1) .. " " .. random(100, 999)
                           .. any({ "", " ", " OK", " Not: found" }) .. "\r\n"
    for i = 1, random(0, 12) do
        sent[i] = { any(NAMES), any(VALUES) }
        text = text .. sent[i][1] .. ":" .. any({ "", " ", " \t " }) .. sent[i][2]
               .. any({ "", " " }) .. "\r\n"
    end
    text = text .. "\r\n" .. some(HEAD_PIECES, 5)
    if random(3) == 1 then
        text = text:gsub("\r\n", "\n")
    end
    local headers = http_head.response(text).headers
    equal(headers.count, #sent, text)
    for i, each in ipairs(sent) do
        equal({ headers.names[i], headers.values[i] }, each, text)
    end

    text = mutated(text, HEAD_PIECES)
    local complete
    for length = 0, #text do
        local response, err = http_head.response(text:sub(1, length))
        complete = complete or response or nil
        if response then
            equal(response.rest, text:sub(#text - #response.rest - (#text - length) + 1, length))
            equal(response.headers.values, complete.headers.values, text)
        elseif err then
            equal(complete, nil, text)
            break
        end
    end
    if not complete then
        return
    end

    headers = complete.headers
    local connection = ""
    for i = 1, headers.count do
        equal(headers.names[i]:find("[^%w%-]") and headers.names[i]:find('[%z\1-\32:,()"]'), nil,
              text)
        equal(headers.values[i]:find("[\r\n]"), nil, text)
        if headers.lower_names[i] == "connection" then
            connection = connection .. "," .. headers.values[i]
        end
    end
    local passed = {}
    http_headers.to_client(headers, function(name, value)
        equal(passed[name:lower()], nil, text)
        passed[name:lower()] = value
        equal(is_one_of(name, NEVER_RETURNED) or is_named(name, connection), false, text)
        for _, each in ipairs(type(value) == "table" and value or { value }) do
            equal(each:find("[\r\n]"), nil, text)
        end
    end)
end


function tests.headers()
    local sent = {}
    for _ = 1, random(0, 15) do
        local value = random(30) == 1 and some(HEAD_PIECES, 3) or any(VALUES)
        sent[any(NAMES):lower()] = random(5) == 1 and { value, any(VALUES) } or value
    end
    local list = http_headers.to_backend(sent, {})
    if not list then
        return
    end
    local lines = concat(list)

    local connection = sent.connection or ""
    if type(connection) == "table" then
        connection = concat(connection, ",")
    end
    local expected = {}
    for name, value in pairs(sent) do
        if not is_one_of(name, NEVER_SENT) and not is_named(name, connection) then
            for _, each in ipairs(type(value) == "table" and value or { value }) do
                expected[#expected + 1] = name .. ": " .. each
            end
        end
    end
    local found = {}
    for line in lines:gmatch("(.-)\r\n") do
        equal(line:find("[\r\n%z]"), nil)
        found[#found + 1] = line
    end
    table.sort(expected)
    table.sort(found)
    equal(found, expected)
    local head = http_head.request("POST", "/a" .. some(HEAD_PIECES, 1), nil, lines)
    equal(head == nil or harness.flat(head):find("^POST /[^\r\n ]* HTTP/1.1\r\n") ~= nil, true)
end


local JSON_PIECES = { '"', "\\", "{", "}", "[", "]", ",", ":", '"model"', '"usage":{}', "1", " ",
                      "\\u0022", '\\"', "null", "\n" }
local STRINGS = { "", "a", "model", "usage", '\\"', "\\\\", "}", "{", "]", "[", ",", ":", "\\n",
                  "mod\\u0065l", "\\u0022", '\\"model\\":', "\\\\\\\\", "\195\164" }


local function json_string()
    return '"' .. some(STRINGS, 4) .. '"'
end


local function space()
    return any({ "", "", "", " ", "\n", "\t ", "\r\n" })
end


local json_value


local function json_object(depth)
    local members = {}
    for i = 1, random(0, 5) do
        local name = any({ '"model"', '"stream"', '"usage"', '"mod\\u0065l"', json_string() })
        members[i] = space() .. name .. space() .. ":" .. space() .. json_value(depth + 1)
                     .. space()
    end
    return "{" .. (members[1] and concat(members, ",") or space()) .. "}"
end


function json_value(depth)
    local kind = random(depth > 4 and 6 or 9)
    if kind <= 2 then
        return json_string()
    elseif kind <= 6 then
        return any({ "0", "-1.5e3", "12", "true", "false", "null", '{"prompt_tokens":3}', "[1,2,3]",
                     '{"input_tokens":1,"output_tokens":2}' })
    elseif kind == 7 then
        return json_object(depth)
    end
    local items = {}
    for i = 1, random(0, 5) do
        items[i] = space() .. json_value(depth + 1) .. space()
    end
    return "[" .. (items[1] and concat(items, ",") or space()) .. "]"
end


local WANTED = json_scan.plan({ "model", { "stream", is_raw = true }, { "usage", is_raw = true } })
local MEMBERS, WORDS = stored_objects.wanted()
local STORED = json_scan.plan(MEMBERS, WORDS)


-- What a scan found in a text, in pieces of any size.
local function scanned(text, plan)
    local scan = json_scan.new(plan)
    for _, piece in ipairs(split(text)) do
        scan:feed(piece)
    end
    return scan, scan:finish()
end


-- Whether a text has a name twice in one object, as far as its spelling says.
local function may_have_twice(text, name)
    local _, count = text:gsub('"' .. name .. '"', "")
    return count > 1 or text:find("\\u00", 1, true) ~= nil
end


function tests.json_scan()
    local text = space() .. json_object(0) .. space()
    local whole = json.decode(text)
    equal(type(whole), "table", text)
    local scan, is_whole = scanned(text, WANTED)
    equal(is_whole, true, text)
    for _, name in ipairs({ "model", "stream", "usage" }) do
        local member = scan.members[name]
        equal(member ~= nil, whole[name] ~= nil, text)
        if member then
            local value = whole[name]
            equal(member.kind == "string", type(value) == "string", text)
            if member.kind == "string" then
                equal(member.value, value, text)
                equal(json.decode(text:sub(member.first, member.last)), value, text)
            elseif member.kind == "literal" or name ~= "model" then
                equal(json.decode(member.value), value, text)
                equal(text:sub(member.first, member.first + #member.value - 1), member.value, text)
            end
        end
        if scan.duplicate == name then
            equal(may_have_twice(text, name), true, text)
        end
    end
    equal(token_usage.of_scan(scan, json.decode), token_usage.of(whole.usage), text)

    -- However it is cut, the same is found.
    local broken = mutated(text, JSON_PIECES)
    local first, first_whole = scanned(broken, WANTED)
    local second, second_whole = scanned(broken, WANTED)
    equal({ first.members, first_whole, first.duplicate, first.problem },
          { second.members, second_whole, second.duplicate, second.problem }, broken)
    -- What is taken for an object is one, or is to a reader that is not exact about numbers.
    if first_whole and not json.decode(broken) then
        local exact = broken:gsub('"[^"\\]*"', '""'):find("[%w.+-]%s*[%w.+-]")
                      or broken:find("[%w%-.+]") or broken:find("\\", 1, true)
        equal(exact ~= nil, true, broken)
    end
    for _, each in ipairs(stored_objects.of_scan(scanned(broken, STORED))) do
        equal(type(each.id) == "string" and each.id ~= "", true, broken)
    end
end


function tests.models()
    local list, name = { some({ "a", "b", "*", "ab", "." }, 8) }, some({ "a", "b", "ab", "." }, 8)
    local pattern = "^" .. list[1]:gsub("%.", "%%."):gsub("%*+", ".*") .. "$"
    equal(model_lists.is_allowed(list, name), name:find(pattern) ~= nil, list[1] .. " " .. name)
end


local PATH_PIECES = { "/", "/", "/openai", "/openai/v1/", "/openai/deployments/", "..", ".", "%2e",
                      "%2F", "%2f", "%5C", "\\", "#", "?", "chat/completions", "responses", "gpt",
                      "%20", "%00", "%", "%41", "//", "a", "%252f", "V1", "=&", "%76" }


-- nginx's reading of a path; nil for what it refuses.
local function normalized(path)
    path = path:gsub("#.*$", "")
    if path:find("%%%X") or path:find("%%%x%X") or path:find("%%%x?$") or path:find("%%00") then
        return nil
    end
    path = path:gsub("%%(%x%x)", function(digits)
        return string.char(tonumber(digits, 16))
    end)
    local segments = {}
    for segment in path:gsub("/+", "/"):gmatch("/([^/]*)") do
        if segment == ".." then
            if #segments == 0 then
                return nil
            end
            segments[#segments] = nil
        elseif segment ~= "." then
            segments[#segments + 1] = segment
        end
    end
    local is_folder = path:find("/%.?%.?$")
    return "/" .. concat(segments, "/")
           .. (is_folder and #segments > 0 and segments[#segments] ~= "" and "/" or "")
end


local QUERY_KEYS = { ["key-of-a-client"] = true }
local QUERY_PIECES = { "&", "&", ";", "=", "a", "%2", "%3D", "+", "key", "api-key", "key-of-a-client",
                       "key%2dof-a-client", "Bearer+key-of-a-client", "?", "%26", "" }


function tests.query()
    local query = some(QUERY_PIECES, 10)
    local kept, has_some = credential_places.query_without(query, QUERY_KEYS)
    equal({ credential_places.query_without(kept, QUERY_KEYS) }, { kept, false }, query)
    equal(kept == query, not has_some, query)
    -- What is left are whole parameters, in their order.
    local position = 1
    for each in kept:gmatch("[^&;]+") do
        local _, last = query:find(each, position, true)
        equal(last ~= nil, true, query)
        position = last + 1
    end
    equal(credential_places.cookies_without(kept, QUERY_KEYS) == nil, false, query)
end


function tests.target()
    local uri = "/" .. some(PATH_PIECES, 3)
    if random(2) == 1 then
        uri = any({ "/openai/v1/", "/openai/deployments/", "/openai/" })
    end
    uri = uri .. some(PATH_PIECES, 8)
    local path, query = uri:match("^([^?]*)%??(.*)$")
    local form = paths.normal(path)
    if not form then
        equal(targets.parse(uri, normalized(path) or "/", "POST"), nil, uri)
        return
    end
    equal(paths.normal(form), form, uri)
    -- A path that is nearly right is routed by its form.
    local plain = form == path and normalized(path) or paths.decoded(form)
    local found = targets.parse(uri, plain, "POST")
    if not found then
        return
    end
    local once = paths.decoded(form)
    equal(once, plain, uri)
    for _, bad in ipairs({ "/%.%.?/", "/%.%.?$", "//", "\\", "#", "%c" }) do
        equal(bad == "#" and form:find("#") or bad ~= "#" and once:find(bad) or nil, nil, uri)
    end
    equal({ found.path, found.query or "" }, { form, query }, uri)
    equal(found.api == "v1", once:lower():find("^/openai/v1/") ~= nil, uri)
    local as_sent = form:match("^/openai/deployments/([^/]+)/")
    equal(found.deployment ~= nil, as_sent ~= nil, uri)
    if found.deployment then
        local tail = form:match("^/[^/]+/[^/]+/[^/]+(/.*)$")
        equal(targets.renamed_path(found, "n"), form:sub(1, #"/openai/deployments/") .. "n" .. tail,
              uri)
        equal(found.deployment:find("/"), nil, uri)
    end
end


local PART_PIECES = { "\r\n", "--b\r\n", 'Content-Disposition: form-data; name="model"', "\r\n\r\n",
                      "whisper-1", 'name="file"; filename="model"', "name=model", "\r", "\n", '"',
                      "Content-Disposition: form-data; ", "Content-Type: a", "x" }


local function scanned_form(text)
    local scan = multipart.new("b", { model = true })
    for _, piece in ipairs(split(text)) do
        scan:feed(piece)
    end
    return scan, scan:finish()
end


function tests.multipart()
    local text = some(PART_PIECES, 15)
    local scan, is_plain = scanned_form(text)
    local field = scan.fields.model
    if field then
        equal(text:sub(field.first, field.last), field.value, text)
        equal(text:find("^\r?\n?%-%-b", field.last + 1) ~= nil, true, text)
    end
    local other, other_is_plain = scanned_form(text)
    equal({ other.fields, other.duplicate, other_is_plain },
          { scan.fields, scan.duplicate, is_plain }, text)

    local before, name = some(PART_PIECES, 6), any({ '"model"', "model" })
    local part = "--b\r\nContent-Disposition: form-data; name=" .. name .. "\r\n\r\nwhisper-1"
                 .. "\r\n--b--"
    equal(scanned_form(before .. "\r\n" .. part).fields.model ~= nil, true, before)
end


local TOKEN_PIECES = { '"access_token":', '"expires_on":', '"expires_in":', '"error":', '"a.b-c_d"',
                       '"1700003600"', "1700003600", "-1", "0", "null", "{", "}", ",", '"a b"',
                       '""',
                       '"\\r\\n"', '"invalid_client"', "[", "]", "1e999", "true", '"nan"' }


function tests.identity()
    local text = random(2) == 1 and some(TOKEN_PIECES, 10)
                 or mutated('{"access_token":"a.b-c_d","expires_on":"1700003600"}', TOKEN_PIECES)
    local status = any({ 200, 200, 200, 400 })
    local answer, err = entra.answer(status, json.decode(text), 1700000000)
    equal((answer == nil) ~= (err == nil), true, text)
    if answer then
        equal({ status, answer.token:find("[%s%c]") }, { 200 }, text)
        equal(answer.ends_at > 1700000000 and answer.ends_at < 1800000000, true, text)
    else
        equal(err:find("a.b-c_d", 1, true), nil, text)
    end
end


local TOKEN_PIECES = { ".", ".", ".", "a", "eyJ", "_", "-", "=", " ", "\n", "\0", "+", "none", "" }
local CLAIMS = { "https://issuer", "audience", "api://audience", "subject", "", "s\n", 0, 1e9,
                 1700000000, 1e400, -1, true, false, {}, { "audience" }, { { "audience" } },
                 { 1, "a" }, ("s"):rep(300) }


function tests.token()
    local text = some(TOKEN_PIECES, 8)
    local parts = jwt.split(text)
    if parts then
        equal(concat({ parts.header, parts.payload, parts.signature }, "."), text)
        equal(parts.signed .. "." .. parts.signature, text)
    end

    local claims = {}
    for _, name in ipairs({ "iss", "aud", "exp", "nbf", "sub" }) do
        claims[name] = random(4) > 1 and any(CLAIMS) or nil
    end
    local subject, reason = jwt.subject(random(9) > 1 and claims or any(CLAIMS),
                                          "https://issuer", { "audience", "api://audience" },
                                          1700000000)
    equal(subject == nil, reason ~= nil)
    if subject then
        equal({ subject, claims.iss }, { claims.sub, "https://issuer" })
        equal(subject:find("[^ -~]"), nil)
        equal(claims.exp > 1700000000 - 60, true)
    end

    local keys, header = {}, {}
    for i = 1, random(0, 4) do
        keys[i] = random(9) > 1 and {
            kty = any({ "RSA", "EC", "oct", 1 }), crv = any({ "P-256", "P-384", {} }),
            kid = any({ "a", "b", 1, {} }), alg = any({ "RS256", "ES256", true }),
            n = ("n"):rep(any({ 10, 342 })), e = any({ "AQAB", 1 }), x = "x", y = any({ "y", 1 }),
            use = any({ "sig", "enc", 1 }), key_ops = any({ {}, { "verify" }, "verify", 1 }),
        } or any(CLAIMS)
    end
    header.alg = any({ "RS256", "ES256", "PS256", "none", "HS256", 1, {} })
    header.kid = random(2) == 1 and any({ "a", "b", 1 }) or nil
    local algorithm = jwt.algorithm(header)
    if algorithm then
        local key = jwt.key_for(jwt.usable_keys({ keys = keys }), header, algorithm)
        equal(key and key.kty or algorithm.type, algorithm.type)
        equal(key and header.kid and key.kid or header.kid, header.kid)
    end
    jwt.discovered(any(CLAIMS), "https://issuer")
    jwt.usable_keys(any(CLAIMS))
end


local names = {}
for name in pairs(tests) do
    names[#names + 1] = name
end
table.sort(names)

local seconds, seed = tonumber(arg[1]) or 2, tonumber(arg[2]) or os.time()
local started, count = os.clock(), 0
while os.clock() - started < seconds do
    for _, name in ipairs(names) do
        local case_started = os.clock()
        math.randomseed(seed + count)
        local ok, err = xpcall(tests[name], debug.traceback)
        if not ok or os.clock() - case_started > SLOW_S then
            print(("%s, seed %d: %s"):format(name, seed + count, ok and "too slow" or err))
            os.exit(1)
        end
    end
    count = count + 1
end
print(("%d cases of each of %s"):format(count, concat(names, ", ")))
