local stored = require("genai.stored")
local events = require("genai.events")
local json_scan = require("genai.json_scan")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function of_path(path)
    local collection, id = stored.of_path(path:lower(), path)
    return { collection or false, id or false }
end


local MEMBERS, WORDS = stored.wanted()
local BODY = json_scan.plan(MEMBERS, WORDS, stored.SEALS_ASKED_FOR)
local ANSWER = json_scan.plan({ { "id", is_first = true } }, stored.sealed_words())


local function scanned(text, plan, is_open)
    local scan = json_scan.new(plan)
    scan:feed(text)
    if not is_open then
        scan:finish()
    end
    return scan
end


local function named(text)
    local found = {}
    for i, each in ipairs(stored.of_scan(scanned(text, BODY))) do
        found[i] = each.collection .. "/" .. each.id
    end
    return found
end


describe("stored: of_path", function()
    it("reads collection and id", function()
        equal(of_path("responses"), { "responses", false })
        equal(of_path("responses/resp_1"), { "responses", "resp_1" })
        equal(of_path("responses/resp_1/input_items"), { "responses", "resp_1" })
        equal(of_path("conversations/conv_1/items/msg_2"), { "conversations", "conv_1" })
        equal(of_path("files/file-1/content"), { "files", "file-1" })
        equal(of_path("vector_stores/vs_1/files/file-2"), { "vector_stores", "vs_1" })
        equal(of_path("fine_tuning/jobs/ftjob-1/events"), { "fine_tuning/jobs", "ftjob-1" })
        equal(of_path("batches/"), { "batches", false })
    end)

    it("keeps the case of ids, and takes collections in any", function()
        equal(of_path("Responses/resp_aBC"), { "responses", "resp_aBC" })
    end)

    it("takes no operation for an id", function()
        equal(of_path("responses/compact"), { "responses", false })
        equal(of_path("responses/input_tokens"), { "responses", false })
        equal(of_path("files/import"), { "files", false })
        equal(of_path("threads/runs"), { "threads", false })
        equal(of_path("threads/thread_1/runs"), { "threads", "thread_1" })
    end)

    it("leaves what is not stored alone", function()
        equal(of_path("chat/completions"), { false, false })
        equal(of_path("models/gpt-4o"), { false, false })
        equal(of_path("fine_tuning"), { false, false })
        equal(of_path(""), { false, false })
        equal(of_path("/"), { false, false })
    end)

    it("takes no id that is longer than any", function()
        equal(of_path("files/" .. ("x"):rep(256)), { "files", ("x"):rep(256) })
        equal(of_path("files/" .. ("x"):rep(257)), { "files", false })
    end)
end)


describe("stored: of_scan", function()
    it("reads what continues a response or a conversation", function()
        equal(named('{"model":"m","previous_response_id":"resp_1"}'), { "responses/resp_1" })
        equal(named('{"conversation":"conv_1"}'), { "conversations/conv_1" })
        equal(named('{"conversation": {"x": [1], "id": "conv_1"}}'), { "conversations/conv_1" })
        equal(named('{"conversation":null,"previous_response_id":null}'), {})
        equal(named('{"conversation":{"id":7}}'), {})
    end)

    it("reads what a job is made of", function()
        equal(named('{"input_file_id":"file-1","endpoint":"/v1/responses"}'), { "files/file-1" })
        equal(named('{"training_file":"file-1","validation_file":"file-2"}'),
              { "files/file-1", "files/file-2" })
        equal(named('{"assistant_id":"asst_1"}'), { "assistants/asst_1" })
        equal(named('{"name":"n","file_ids":["file-1", "file-2"]}'),
              { "files/file-1", "files/file-2" })
    end)

    it("reads tools and inputs, wherever they stand", function()
        equal(named('{"tools":[{"type":"file_search","vector_store_ids":["vs_1","vs_2"]},'
                    .. '{"type":"code_interpreter","container":"cntr_1"}],'
                    .. '"input":[{"content":[{"type":"input_file","file_id" : "file-9"}]}]}'),
              { "vector_stores/vs_1", "vector_stores/vs_2", "files/file-9", "containers/cntr_1" })
    end)

    it("begins with what ties a request down most, and names nothing twice", function()
        equal(named('{"file_id":"file-1","x":{"file_id":"file-1"},'
                    .. '"previous_response_id":"resp_1"}'),
              { "responses/resp_1", "files/file-1" })
    end)

    it("is not led by what a prompt says, or a schema", function()
        equal(named('{"input":"{\\"file_id\\":\\"file-1\\"}"}'), {})
        equal(named('{"input":"\\\\\\"file_id\\\\\\":\\\\\\"file-1\\\\\\""}'), {})
        equal(named('{"required":["file_id","file_ids"],'
                    .. '"properties":{"file_id":{"type":"string"}}}'),
              {})
        equal(named('{"container":{"type":"auto","file_ids":["file-1"]}}'), { "files/file-1" })
        equal(named('{"metadata":{"previous_response_id":"resp_1"}}'), {})
    end)

    it("ends, whatever it is given", function()
        equal(named('{"file_ids":["file-1","file-2"'), { "files/file-1", "files/file-2" })
        equal(named('{"file_ids":["file-1'), {})
        equal(named('{"file_ids":[{"file_id":"file-2"}]}'), { "files/file-2" })
        equal(named('{"file_id":"'), {})
        equal(named('{"file_id"'), {})
        equal(named('[]'), {})
        equal(named(''), {})
        equal(#named('{"file_ids":["1","2","3","4","5","6","7","8","9","10"]}'), 8)
        equal(named('{"file_id":"' .. ("x"):rep(300) .. '"}'), {})
        equal(named('{"file_id":""}'), {})
    end)
end)


describe("stored: what is made", function()
    local function made(text)
        return stored.made(scanned(text, ANSWER, true))
    end

    it("is the id of the outermost object", function()
        equal(made('{"id":"resp_1","output":[{"id":"msg_1"}]}'), "resp_1")
        equal(made('{"output":[{"id":"msg_1"}],"id":"resp_1","id":"x"}'), "resp_1")
        equal(made('{"object":"list","data":[{"id":"x"}]}'), nil)
        equal(made('[1]'), nil)
        equal(made('{"id":7}'), nil)
        equal(made('{"id":"' .. ("x"):rep(257) .. '"}'), nil)
    end)

    it("is there as soon as its bytes are", function()
        equal(made('{"object":"response","id":"resp_1","out'), "resp_1")
        equal(made('{"object":"response","id":"res'), nil)
        equal(made('{"obj'), nil)
        equal(made(''), nil)
    end)

    it("is in the first events of a stream", function()
        local function made_by_event(data)
            return stored.made(scanned(data, events.PLAN), "response.id")
        end
        equal(made_by_event('{"type":"response.created","response":{"object":"response",'
                            .. '"id":"resp_1","output":[]}}'), "resp_1")
        equal(made_by_event('{"type":"response.output_text.delta","delta":"a"}'), nil)
        equal(made_by_event('{"response":null}'), nil)
    end)
end)


describe("stored: what is encrypted", function()
    local long = "gAAAA" .. ("x"):rep(500)

    it("is known by its beginning", function()
        local text = '{"output":[{"encrypted_content":"' .. long
                     .. '"},{"encrypted_content": "b"}]}'
        equal(stored.all_sealed(scanned(text, ANSWER)), { long:sub(1, 128), "b" })
        equal(stored.last_sealed(scanned(text, BODY)), "b")
        equal(stored.mentions_sealed(text), true)
    end)

    it("is bounded in number", function()
        local items = {}
        for i = 1, 1000 do
            items[i] = '{"encrypted_content":"' .. i .. '"}'
        end
        local scan = scanned("[" .. table.concat(items, ",") .. "]", ANSWER)
        equal(#stored.all_sealed(scan), stored.MAX_SEALS)
    end)

    it("is nothing where there is none", function()
        for _, text in ipairs({ '{"encrypted_content":null}', '{"encrypted_content":"',
                                '{"include":["reasoning.encrypted_content"]}',
                                '{"input":"\\"encrypted_content\\": \\"x\\""}' }) do
            equal(stored.last_sealed(scanned(text, BODY)), nil, text)
        end
        equal(scanned('{"include":["reasoning.encrypted_content"]}', BODY).is_mentioned, true)
    end)

    it("is refused by other resources in two ways", function()
        equal(stored.is_foreign_seal('{"error":{"code":"invalid_encrypted_content"}}'), true)
        equal(stored.is_foreign_seal('{"error":{"code":null,"message":"The encrypted content '
                                     .. 'gAAA... could not be verified."}}'), true)
        equal(stored.is_foreign_seal('{"error":{"code":"content_filter"}}'), false)
    end)
end)
