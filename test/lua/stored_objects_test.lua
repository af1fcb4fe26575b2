local stored_objects = require("genai.openai.stored_objects")
local stream_events = require("genai.openai.stream_events")
local json_scan = require("genai.util.json_scan")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function of_path(path)
    local collection, id = stored_objects.of_path(path:lower(), path)
    return { collection or false, id or false }
end


local MEMBERS, WORDS = stored_objects.wanted()
local BODY = json_scan.plan(MEMBERS, WORDS)
local MADE = stored_objects.MADE
local ANSWER = json_scan.plan(MADE.response.members, MADE.response.words)


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
    for i, each in ipairs(stored_objects.of_scan(scanned(text, BODY))) do
        found[i] = each.collection .. "/" .. each.id
    end
    return found
end


-- What a body names for which no backend can be asked.
local function unreadable(text)
    local _, found = stored_objects.of_scan(scanned(text, BODY))
    return found or {}
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
        equal(of_path("chat/completions"), { "chat/completions", false })
        equal(of_path("chat/completions/chatcmpl-aB/messages"), { "chat/completions", "chatcmpl-aB" })
        equal(of_path("uploads/upload_1/parts"), { "uploads", "upload_1" })
        equal(of_path("video/generations/jobs/task_1"), { "video/generations/jobs", "task_1" })
        equal(of_path("video/generations/gen_1/content/video"), { "video/generations", "gen_1" })
    end)

    it("keeps the case of ids, and takes collections in any", function()
        equal(of_path("Responses/resp_aBC"), { "responses", "resp_aBC" })
    end)

    it("takes no operation for an id", function()
        equal(of_path("responses/compact"), { "responses", false })
        equal(of_path("responses/input_tokens"), { "responses", false })
        equal(of_path("files/import"), { "files", false })
        equal(of_path("threads/runs"), { "threads", false })
        equal(of_path("videos/edits"), { "videos", false })
        equal(of_path("threads/thread_1/runs"), { "threads", "thread_1" })
    end)

    it("leaves what is not stored alone", function()
        equal(of_path("chat"), { false, false })
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

    it("reads what a video or a chat is made of", function()
        equal(named('{"video":{"id":"video_1"},"prompt":"x"}'), { "videos/video_1" })
        equal(named('{"messages":[{"role":"user","content":[{"type":"file",'
                    .. '"file":{"file_id":"assistant-1"}}]}]}'), { "files/assistant-1" })
        equal(named('{"tool_resources":{"code_interpreter":{"file_ids":["file-1"]},'
                    .. '"file_search":{"vector_store_ids":["vs_1"]}}}'),
              { "vector_stores/vs_1", "files/file-1" })
        equal(named('{"images":[{"file_id":"file-1"}],"mask":{"file_id":"file-2"}}'),
              { "files/file-1", "files/file-2" })
    end)

    it("reads items of responses and conversations, the last one first", function()
        equal(unreadable('{"input":[{"type":"item_reference","id":"rs_1"},{"id":"msg_2","role":"user",'
                         .. '"content":[{"id":"no"}]},{"type":"function_call","id":"fc_3",'
                         .. '"call_id":"call_1"}]}'), { "fc_3", "msg_2", "rs_1" })
        equal(unreadable('{"items":[{"id":"msg_1"}],"metadata":{"id":"no"}}'), { "msg_1" })
        equal(unreadable('{"input":[{"type":"mcp_approval_response","approval_request_id":"mcpr_1"}]}'),
              { "mcpr_1" })
        equal(unreadable('{"input":[{"type":"code_interpreter_call","id":"ci_1",'
                         .. '"container_id":"cntr_1"}]}'), { "ci_1", "cntr_1" })
        equal(unreadable('{"input":"rs_1","id":"no","model":"m"}'), {})
    end)

    it("reads audio of earlier turns, and no calls of tools", function()
        equal(unreadable('{"audio":{"voice":"alloy","format":"wav"},"messages":[{"role":"assistant",'
                         .. '"audio":{"id":"audio_1"}},{"role":"assistant","tool_calls":[{"id":"call_1"}]},'
                         .. '{"role":"user","content":"hi"},{"audio":{"id":"audio_2"}}]}'),
              { "audio_2", "audio_1" })
    end)

    it("reads what is encrypted behind the items that have ids", function()
        equal(unreadable('{"input":[{"type":"reasoning","id":"rs_1","encrypted_content":"s1"},'
                         .. '{"type":"reasoning","id":"rs_2","encrypted_content":"s2"}]}'),
              { "rs_2", "rs_1", "s2", "s1" })
    end)

    it("says from where on a backend accepts only what it has", function()
        local function first_proven(text)
            return (select(3, stored_objects.of_scan(scanned(text, BODY))))
        end
        equal(first_proven('{"input":[{"id":"rs_1"},{"id":"rs_2","encrypted_content":"s1"}]}'), 3)
        equal(first_proven('{"input":[{"id":"rs_1"},{"type":"item_reference","id":"rs_2"}]}'), 1)
        equal(first_proven('{"input":[{"type":"message"}]}'), nil)
    end)

    it("takes a file of a container for no file", function()
        local text = '{"input":[{"content":[{"annotations":[{"type":"container_file_citation",'
                     .. '"container_id":"cntr_1","file_id":"cfile_1"}]}]}]}'
        equal({ named(text), unreadable(text) }, { {}, { "cfile_1", "cntr_1" } })
    end)

    it("keeps the last ones of many items", function()
        local items = {}
        for i = 1, 100 do
            items[i] = '{"id":"msg_' .. i .. '"}'
        end
        local found = unreadable('{"input":[' .. table.concat(items, ",") .. "]}")
        equal({ #found, found[1], found[32] }, { 32, "msg_100", "msg_69" })
    end)

    it("says what is stored of the answer", function()
        local function stores(text)
            return stored_objects.stores(scanned(text, BODY))
        end
        equal({ stores('{"store":true}'), stores('{"store": false }') }, { true, false })
        equal(stores('{"metadata":{"store":true}}'), nil)
        equal(stored_objects.asks_for_audio(scanned('{"audio":{"voice":"alloy"}}', BODY)), true)
        equal(stored_objects.asks_for_audio(scanned('{"modalities":["text","audio"]}', BODY)), true)
        equal(stored_objects.asks_for_audio(scanned('{"messages":[{"audio":{}}]}', BODY)), false)
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
        return stored_objects.made(scanned(text, ANSWER, true))
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
            return stored_objects.made(scanned(data, stream_events.PLAN), "response.id")
        end
        equal(made_by_event('{"type":"response.created","response":{"object":"response",'
                            .. '"id":"resp_1","output":[]}}'), "resp_1")
        equal(made_by_event('{"type":"response.output_text.delta","delta":"a"}'), nil)
        equal(made_by_event('{"response":null}'), nil)
    end)
end)


describe("stored: what an answer makes besides", function()
    local function made(kind, text, with_ids)
        local plan = json_scan.plan(MADE[kind].members, MADE[kind].words)
        return stored_objects.all_made(scanned(text, plan), MADE[kind], with_ids ~= false)
    end

    local RESPONSE = '{"id":"resp_1","output":[{"id":"rs_1","type":"reasoning","encrypted_content":"s1"},'
                     .. '{"id":"msg_1","content":[{"id":"no"}]},{"id":"ci_1","container_id":"cntr_1"}],'
                     .. '"metadata":{"id":"no"}}'

    it("are the items of a response, and what is encrypted", function()
        equal(made("response", RESPONSE), { "rs_1", "msg_1", "ci_1", "cntr_1", "s1" })
        equal(made("response", RESPONSE, false), { "s1" })
        equal(made("response", '{"object":"list","data":[{"id":"msg_1"},{"id":"msg_2"}]}'),
              { "msg_1", "msg_2" })
    end)

    it("are bounded in number", function()
        local items = {}
        for i = 1, 1000 do
            items[i] = '{"id":"' .. i .. '"}'
        end
        equal(#made("response", '{"output":[' .. table.concat(items, ",") .. "]}"),
              stored_objects.MAX_MADE)
    end)

    it("is the audio of a chat completion", function()
        equal(made("chat", '{"id":"chatcmpl-1","choices":[{"message":{"tool_calls":[{"id":"no"}],'
                           .. '"audio":{"id":"audio_1","data":"x"}}}]}'), { "audio_1" })
        equal(made("chat", '{"choices":[{"delta":{"audio":{"id":"audio_1"}}}]}'), { "audio_1" })
    end)

    it("are the file of an upload, and the results of a job", function()
        equal(made("object", '{"id":"upload_1","file":{"id":"file-1"}}'), { "file-1" })
        equal(made("object", '{"id":"batch_1","output_file_id":"file-1","error_file_id":""}'),
              { "file-1" })
        equal(made("object", '{"id":"task_1","generations":[{"id":"gen_1"},{"id":"gen_2"}]}'),
              { "gen_1", "gen_2" })
    end)

    it("are named by events of a stream", function()
        local function of_event(data, with_ids)
            return stored_objects.items_of_event(scanned(data, stream_events.PLAN), with_ids ~= false)
        end
        local item = '{"type":"response.output_item.done","item":{"id":"rs_1","summary":[{"id":"no"}],'
                     .. '"encrypted_content":"s1"}}'
        equal({ of_event(item), of_event(item, false) }, { { "rs_1", "s1" }, { "s1" } })
        equal(of_event('{"type":"response.completed","response":' .. RESPONSE .. "}"),
              { "rs_1", "msg_1", "ci_1", "cntr_1", "s1" })
        equal(of_event('{"type":"response.output_text.delta","item_id":"msg_1","delta":"x"}'), {})
        local mentions = stored_objects.mentions_items
        equal({ mentions('{"type":"response.output_item.added"}', false) }, { true, true })
        equal({ mentions('{"type":"response.completed"}', true) }, { true, false })
        equal({ mentions('{"type":"response.completed"}', false) }, { false, false })
        equal({ mentions('{"type":"response.output_text.delta"}', true) }, { false, false })
    end)
end)


describe("stored: what is encrypted", function()
    it("is known by its beginning", function()
        local long = "gAAAA" .. ("x"):rep(500)
        equal(unreadable('{"input":[{"encrypted_content":"' .. long .. '"},{"encrypted_content": "b"}]}'),
              { "b", long:sub(1, 128) })
    end)

    it("is nothing where there is none", function()
        for _, text in ipairs({ '{"encrypted_content":null}', '{"encrypted_content":"',
                                '{"include":["reasoning.encrypted_content"]}',
                                '{"input":"\\"encrypted_content\\": \\"x\\""}' }) do
            equal(unreadable(text), {}, text)
        end
    end)
end)


describe("stored: a refusal", function()
    local function message(text, code)
        return '{"error":{"message":"' .. text .. '","type":"invalid_request_error","param":null,'
               .. '"code":' .. (code and '"' .. code .. '"' or "null") .. "}}"
    end

    it("of what another resource encrypted has many wordings", function()
        for _, text in ipairs({
            "The encrypted content gAAA... could not be verified.",
            "The encrypted content gAAA could not be decrypted.",
            "The encrypted content for item rs_1 could not be verified. Reason: Encrypted content could "
                .. "not be decrypted or parsed.",
            "Encrypted content organization_id did not match the target organization.",
            "This encrypted reasoning was encrypted by another resource.",
            "Failed to decrypt encrypted_content.",
        }) do
            equal(stored_objects.is_elsewhere(400, message(text)), true, text)
        end
        equal(stored_objects.is_elsewhere(400, message("x", "invalid_encrypted_content")), true)
    end)

    it("of an item or the like that another resource has", function()
        for _, text in ipairs({ "Item with id 'rs_1' not found.", "No such Upload object: upload_1",
                                "Audio with id 'audio_1' not found. It may have expired.",
                                "Container with id 'cntr_1' does not exist." }) do
            equal(stored_objects.is_elsewhere(404, message(text)), true, text)
            equal(stored_objects.is_elsewhere(400, message(text)), true, text)
        end
    end)

    it("of anything else is the client's", function()
        for _, text in ipairs({ "Encrypted content is not supported with this model.",
                                "Item 'msg_1' of type 'message' was provided without its required "
                                    .. "'reasoning' item: 'rs_1'.",
                                "Invalid value: 'x'.", "The requested resource was not found." }) do
            equal(stored_objects.is_elsewhere(400, message(text)), false, text)
        end
        equal(stored_objects.is_elsewhere(400, message("x", "content_filter")), false)
        equal(stored_objects.is_elsewhere(500, message("Item with id 'rs_1' not found.")), false)
    end)
end)
