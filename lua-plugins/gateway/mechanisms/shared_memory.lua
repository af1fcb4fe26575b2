--- The memory that all workers share. `genai.util.shared_keys` lists the prefixes of its keys.

local shared = ngx.shared

return {
    --- Cooldowns, health, tokens, worker reports. nil if APISIX loads a plugin only to validate a
    -- file.
    state = shared["genai-gateway-state"],

    --- The owners of stored objects.
    owners = shared["genai-gateway-affinity"],

    --- Failed authentications by address. Separate, so that an attacker cannot evict other entries.
    failures = shared["genai-gateway-failures"],

    --- Stored and arriving answers; nil unless the answer cache is on and stores them here.
    cache = shared["genai-gateway-cache"],

    --- Counted metrics; nil if config.yaml does not list the plugin prometheus.
    metrics = shared["prometheus-metrics"],
}
