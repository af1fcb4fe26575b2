--- Prefixes of all keys in the shared memory `genai-gateway-state`, so that no two modules use the
-- same one. Metrics and owners of stored objects have their own shared memory.

return {
    -- Cooldowns (`genai.balancing.cooldown`), by backend id and optionally scope.
    COOLDOWN = "cool|",
    COOLDOWN_PROBE = "probe|",
    COOLDOWN_SUSPECT = "suspect|",
    BACKEND_CHANGES = "backend-changes",

    -- Health (`genai.balancing.probe_rules`, `gateway.backends.probes`).
    UNHEALTHY = "unhealthy|",
    PROBE_LEADER = "health-leader",

    -- Times to first byte (`genai.balancing.latency_stats`), by backend id and kind.
    LATENCY = "ttfb|",

    -- The last attempt on an unreachable backend (`gateway.backends.availability`).
    UNREACHABLE_TRIED = "again|",

    -- Whether a backend accepts the gateway's credential (`gateway.backends.access_check`).
    ACCESS = "access|",
    ACCESS_LOCK = "access-lock|",

    -- The order of backends that a request has set (`gateway.backends.preferred_order`).
    PREFERRED_ORDER = "preferred-order",
    PREFERRED_UNSHARED = "preferred-unshared",
    PREFERRED_ASKED = "preferred-asked",
    PREFERRED_LOCK = "preferred-lock",

    -- Memory of request bodies (`gateway.exchange.body_memory`), by worker number.
    BODY_MEMORY = "body-memory|",

    -- Names of models and backends for the metrics page (`gateway.metrics`).
    MODEL_NAMES = "model-names",
    ANSWER_MODELS = "answer-models",
    SHOWN_COOLDOWNS = "shown-cooldowns",
    SHOWN_BACKENDS = "shown-backends",
    SHOWN_OTHER = "shown-other|",

    -- Tokens of Entra ID (`genai.identity.entra`), by identity.
    ENTRA_TOKEN = "identity",

    -- Keys of an OIDC issuer (`gateway.credentials.oidc_issuers`), by its URL.
    OIDC_DOCUMENTS = "oidc.documents:",
    OIDC_VERSION = "oidc.version:",
    OIDC_LOCK = "oidc.lock:",
    OIDC_PAUSE = "oidc.pause:",

    -- A failing Redis of the limiters (`gateway.limits.redis_guard`), by its address.
    LIMITER_REDIS_DOWN = "limits-redis-down|",

    -- Token budgets (`gateway.limits.shared_budgets`), by pool, deployment and slot of the minute.
    BUDGET = "budget|",

    -- What backends report that they have left (`gateway.limits.backend_reports`), by pool and
    -- deployment.
    BUDGET_REPORT = "budget-report|",
    BUDGET_FRESH = "budget-fresh|",
    BUDGET_SINCE = "budget-since|",

    -- Recently logged lines (`gateway.mechanisms.throttled_log`).
    LOGGED = "logged|",

    -- Workers' reports of loaded items (`gateway.readiness`).
    WORKER_REPORT = "readiness|worker|",
    READY = "readiness|ready",
}
