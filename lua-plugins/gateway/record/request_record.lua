--- The record of a request, `ctx.genai`: everything that the gateway knows about it. Each field is
-- declared here, with the phase in which it is written, the module that writes it, and its meaning.
-- A nil field has not been written: the request ended before, or the field does not apply.
-- In production a record is a plain table. With `plugin_attr.azure-openai-proxy.testing.strict`,
-- which tests set, reading or writing an undeclared field is an error.

local process_config = require("apisix_internals.process_config")
local error = error
local new_table = require("table.new")
local pairs = pairs
local rawset = rawset
local setmetatable = setmetatable

local _M = {}

--- Fields by kind of table, each with phase, writer and meaning.
_M.FIELDS = {
    -- The request as a whole.
    record = {
        -- the client, and how the request is traced
        client = { "rewrite", "azure-openai-auth",
                   "the client's policy (lane, models, limits); nil: a token's subject, or no client" },
        client_name = { "rewrite", "azure-openai-auth", "the client's name in logs and traces" },
        has_credential = { "rewrite", "presented", "whether it has a header for credentials" },
        key_client = { "rewrite", "presented", "the client of a key in any of them except Authorization" },
        bearer = { "rewrite", "presented", "the token or key in Authorization" },
        has_key_in_query = { "rewrite", "presented", "true: its query contained a credential" },
        pool_name = { "rewrite", "azure-openai-errors", "the pool's name; nil: there is only one pool" },
        path_prefix = { "rewrite", "azure-openai-errors", "the prefix of the pool's paths; nil: none" },
        wants_websocket = { "rewrite", "presented", "true: it asks for a WebSocket" },
        trace = { "rewrite", "azure-openai-traces", "the request_trace, if it is recorded" },
        trace_id = { "rewrite", "azure-openai-traces", "set even if it is not recorded" },
        lane = { "access", "lanes", "\"high\" or \"low\"; computed on first use" },

        -- the target of the request
        method = { "access", "admission", "in upper case" },
        target = { "access", "admission", "path, query, operation, as genai.openai.targets reads them" },
        pool = { "access", "admission", "the pool of backends, from gateway.backends.pools" },
        choice = { "access", "admission", "inputs to the choice of a backend" },
        answer = { "access", "admission", "observations of the answer" },
        attempts = { "access", "admission", "the list of attempts, in order" },
        body = { "before_proxy", "preparation", "the body, as gateway.exchange.request_body reads it" },
        content_type = { "before_proxy", "preparation", "of the body" },
        wants_stream = { "before_proxy", "preparation", "true: the body asks for a stream" },
        passed_lines = { "before_proxy", "preparation", "header lines that are sent to the backend" },
        empty_length = { "before_proxy", "preparation", "0: an empty body is sent with a content-length" },
        cache = { "before_proxy", "caching", "its part in the answer cache; nil: there is no cache" },
        body_memory = { "before_proxy", "body_memory", "bytes of memory reserved for the body" },

        -- limits
        limiters = { "any", "azure-openai-limits, shared_budgets", "names of the limiters that check it" },
        budget = { "access", "azure-openai-limits", "the configuration of the token budget that lanes share" },
        reservation = { "before_proxy", "shared_budgets", "what the request reserves of it" },
        counts_requests = { "access", "azure-openai-limits", "true: budgets count requests" },
        refused_by = { "any", "azure-openai-errors, shared_budgets", "the limiter that rejected it" },

        -- attempts and failures
        started = { "before_proxy", "failover", "start of the search for the first backend, in seconds" },
        affinity = { "before_proxy", "owner_lookup", "state of the search for its owner" },
        best_failure = { "before_proxy", "failures", "the failure that is most useful to the client" },
        failing = { "before_proxy", "failures", "number of attempts that failed because of the backend" },
        named_ms = { "before_proxy", "failures", "the shortest delay that a backend named" },
        suspects = { "before_proxy", "failures", "cooldowns that begin if the backend is at fault" },
        fingerprint = { "before_proxy", "failures", "distinguishes it from other requests" },

        -- the answer and its end
        is_open = { "before_proxy", "open_stream",
                    "true: the head of a stream was sent before there was output" },
        is_answered = { "before_proxy", "answering", "true: the last attempt's answer is passed on" },
        status = { "before_proxy", "answering, caching, final_error",
                   "of that answer, or of the gateway's error" },
        error_code = { "any", "azure-openai-errors, final_error",
                       "the code of the gateway's error, for answer, log, metric and span" },
        is_broken = { "before_proxy", "azure-openai-proxy", "true: the gateway itself failed" },
        facts = { "log", "settlement", "data for logs, metrics and traces" },
    },

    -- One attempt at a backend. `attempts` is the only module that writes one.
    attempt = {
        backend = { "before_proxy", "attempts", "the backend, from the pool" },
        started = { "before_proxy", "attempts", "seconds" },
        ended = { "any", "attempts", "seconds; nil: in progress" },
        status = { "before_proxy", "attempts", "of the backend's answer" },
        outcome = { "any", "attempts", "one of the outcomes in docs/metrics.md" },
        is_repeated = { "before_proxy", "attempts", "true: the same backend is tried again" },
        has_state = { "before_proxy", "attempts", "true: nginx's upstream variables have an entry for it" },
        span_id = { "before_proxy", "attempts", "if the request is recorded" },
        served_as = { "before_proxy", "attempts", "the backend's name of the deployment" },
    },

    -- The inputs to the choice of a backend, and the balancer's notes about it.
    choice = {
        names = { "access", "admission", "names of models that are metric labels" },
        pool_name = { "access", "admission", "the name of the pool, for metrics" },
        keeps_longer = { "access", "admission", "true: its cooldowns do not shorten running ones" },
        lane = { "before_proxy", "preparation", "\"high\" or \"low\"" },
        tried = { "before_proxy", "admission, failover, owner_lookup", "the set of backends not to try again" },
        deployment = { "before_proxy", "preparation", "the deployment that the client names" },
        cooldown_label = { "before_proxy", "preparation", "the deployment or the operation, for metrics" },
        cooldown_scope = { "before_proxy", "preparation", "the scope of a cooldown: deployment or operation" },
        permission_scope = { "before_proxy", "preparation", "the same for a missing permission" },
        permission_label = { "before_proxy", "preparation", "the same, for metrics" },
        asks_for_stream = { "before_proxy", "preparation", "true: the body asks for a stream" },
        hash_key = { "before_proxy", "preparation, owner_lookup", "key of the consistent hash" },
        affinity_key = { "before_proxy", "preparation", "key that keeps requests at one backend if possible" },
        pinned = { "before_proxy", "owner_lookup", "the only origin that can serve it" },
        includes_drained = { "before_proxy", "owner_lookup", "true: a drained backend may have the named object" },
        makes_stored = { "before_proxy", "owner_lookup", "true: later requests must go to the same backend" },
        client_models = { "before_proxy", "owner_lookup", "the list of the client's models" },
        ignores_health = { "before_proxy", "availability", "true: health marks are ignored" },
        last_resorts = { "before_proxy", "availability", "number of backends tried while cooling down" },
        probing = { "before_proxy", "availability", "the backend that it tries after or during a cooldown" },
        skipped = { "before_proxy", "metrics", "skipped backends, with the reason" },
        kind = { "before_proxy", "latency", "kind of request for latency statistics" },
        awaited = { "before_proxy", "latency", "statistics of the backend that it waits for" },
        awaited_since = { "before_proxy", "latency", "milliseconds" },
        answered_by = { "before_proxy", "latency", "statistics of the backend that answered" },
        took = { "before_proxy", "latency", "milliseconds until that backend answered" },
    },

    -- The answer that is passed on, as it was observed.
    answer = {
        answered_at = { "before_proxy", "backend_call", "arrival of its head, in seconds" },
        images = { "before_proxy", "answering", "number of images in a stream, if more than one" },
        images_done = { "before_proxy", "forwarding", "number of complete ones" },
        has_begun = { "before_proxy", "forwarding, open_stream", "true: a part of the body was sent" },
        first_output_at = { "before_proxy", "forwarding", "seconds" },
        events = { "before_proxy", "forwarding", "number of events of a stream" },
        usage = { "before_proxy", "forwarding", "tokens, as genai.openai.token_usage reads them" },
        model = { "before_proxy", "served_by", "the model's name in the answer" },
        service_tier = { "before_proxy", "served_by", "the service tier that the answer names" },
        tail = { "before_proxy", "served_by", "the last events of a stream without usage" },
        is_complete = { "before_proxy", "forwarding", "true: a stream has its end; only with a cache" },
        is_spilled = { "before_proxy", "metrics", "true: Azure spilled the request over" },
        awaited_by = { "before_proxy", "latency", "the choice that waits for the first output" },
    },

    -- The tokens that the request reserves of a budget until its usage is known.
    reservation = {
        key = { "before_proxy", "shared_budgets", "the key of the budget: pool and deployment" },
        tokens = { "before_proxy", "shared_budgets", "the estimate" },
        second = { "before_proxy", "shared_budgets", "when they were counted; nil: they are not counted" },
        is_sent = { "before_proxy", "shared_budgets", "whether they count until the backend reports more" },
        left = { "before_proxy", "shared_budgets", "tokens that are left, for a header; nil: unknown" },
        requests = { "before_proxy", "shared_budgets", "the same for requests, as the backend reports it" },
    },

    -- The owner of the stored objects that the request names.
    affinity = {
        scope = { "before_proxy", "owner_lookup", "the client's name, a part of each key" },
        found = { "before_proxy", "owner_lookup", "\"memory\", \"redis\", \"search\", \"none\" or \"failed\"" },
        is_stored = { "before_proxy", "owner_lookup", "false: nothing of the answer is stored" },
        has_audio = { "before_proxy", "owner_lookup", "true: the answer contains an audio id" },
        unknown = { "before_proxy", "owner_lookup", "keys of names whose owner an attempt can reveal" },
        proven = { "before_proxy", "owner_lookup", "those of them that only the owner accepts" },
        refusals = { "before_proxy", "owner_lookup", "number of backends that refused the names" },
        refusal = { "before_proxy", "owner_lookup", "the answer of the first of these backends" },
    },

    -- What logs, metrics and traces report at the end.
    facts = {
        requested_model = { "log", "settlement", "for logs; \"other\" if no backend knows it" },
        model = { "log", "settlement", "the same, by the backend's name" },
        model_label = { "log", "settlement", "for metrics" },
        served_label = { "log", "settlement", "the same, by the backend's name" },
        answer_model = { "log", "settlement", "the model's name in the answer, for logs" },
        service_tier = { "log", "settlement", "one of genai.telemetry.labels, or nil" },
        first_ms = { "log", "settlement", "milliseconds to the first output, or to the answer's head" },
        backend_ms = { "log", "settlement", "total milliseconds of all attempts" },
        saved = { "log", "settlement", "tokens of a stored answer, as genai.openai.token_usage reads them" },
        estimated_tokens = { "log", "settlement", "estimate for an answer without usage" },
        error = { "log", "settlement", "a code, a status or an outcome; nil: no error" },
        error_source = { "log", "settlement", "\"gateway\", \"backend\" or \"client\"" },
        failover = { "log", "settlement", "\"saved\" or \"failed\", if another backend was tried" },
    },
}


local function refuse(kind, field)
    error("the field " .. field .. " of a request's " .. kind .. " is not declared in"
          .. " gateway/record/request_record.lua", 3)
end


-- Metatables that reject undeclared fields, by kind.
local strict = {}
for kind, fields in pairs(_M.FIELDS) do
    strict[kind] = {
        __index = function(_, field)
            if not fields[field] then
                refuse(kind, field)
            end
            return nil
        end,
        __newindex = function(self, field, value)
            if not fields[field] then
                refuse(kind, field)
            end
            rawset(self, field, value)
        end,
    }
end


local is_strict = (process_config.plugin_attr("azure-openai-proxy").testing or {}).strict == true

-- Preallocates the fields of most requests, so that the table does not grow step by step.
local ROOM = 32


--- Makes a table of the record.
-- @tparam string kind one of `FIELDS`
-- @tparam table values its first fields
-- @treturn table the same table
function _M.new(kind, values)
    if is_strict then
        for field in pairs(values) do
            if not _M.FIELDS[kind][field] then
                refuse(kind, field)
            end
        end
        return setmetatable(values, strict[kind])
    end
    return values
end


--- The record of a request; made on first use.
function _M.of(ctx)
    local record = ctx.genai
    if not record then
        record = _M.new("record", new_table(0, ROOM))
        ctx.genai = record
    end
    return record
end


--- Whether the request was admitted: its target and its pool are known.
function _M.is_admitted(record)
    return record.target ~= nil
end


--- Turns the rejection of undeclared fields on or off, for tests that run without a configuration.
function _M.set_strict(wanted)
    is_strict = wanted
end


return _M
