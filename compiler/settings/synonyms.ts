/** Maps names that SDKs, samples, Terraform modules and other gateways use to our settings. */
import { type GroupName, indexedGroups } from './declarations/index.ts';

export interface Meant {
  /** The setting with its index; undefined if there is no such setting. */
  readonly nearest: string | undefined;
  /** A note: why there is no setting, or other advice. */
  readonly note?: string;
}

/** Prefixes that other software uses for the settings of a backend. A prefix of another prefix comes after it. */
const BACKEND_PREFIX =
  /^(?:AZURE_?OPEN_?AI|AZURE_AI(?:_FOUNDRY|_SERVICES|_INFERENCE)?|AZURE_FOUNDRY|AI_FOUNDRY|FOUNDRY|AZURE_COGNITIVE_SERVICES|AOAI|OPEN_?AI|LLM|BACKEND|UPSTREAM)(?:_|$)/;
/** `AZURE_` alone is not specific to OpenAI, so only these names are matched. */
const AZURE_ALONE = /^AZURE_(?=API_(?:KEY|BASE|ENDPOINT|URL|VERSION)$)/;
const POOL_PREFIX = /^GATEWAY_POOL(?:_|$)/;
const CLIENT_PREFIX = /^(?:GATEWAY_CLIENT|GATEWAY_CONSUMER|GATEWAY_USER|GATEWAY|CLIENT|CONSUMER)(?:_|$)/;

/** Synonyms for the fields of a group. The name of a field is its own synonym. */
const FIELD_WORDS: Readonly<Record<GroupName, Readonly<Record<string, string>>>> = {
  backends: {
    ENDPOINT:
      'API_ENDPOINT ENDPOINTS ENDPOINT_URL ENDPOINT_URI API_BASE API_BASE_URL BASE_URL BASE BASEURL URL URI API_URL HOST HOSTNAME API_HOST SERVICE_URL SERVER RESOURCE RESOURCE_NAME RESOURCE_URL RESOURCE_ENDPOINT INSTANCE_NAME API_INSTANCE_NAME SERVICE SERVICE_NAME ACCOUNT_NAME ACCOUNT_ENDPOINT BASE_PATH ADDRESS',
    KEY: 'API_KEY APIKEY API_KEYS KEYS SECRET SECRET_KEY API_SECRET ACCESS_KEY ACCOUNT_KEY SUBSCRIPTION_KEY PRIMARY_KEY RESOURCE_KEY AUTH_KEY API_TOKEN KEY1 CREDENTIAL_KEY PRIMARY_ACCESS_KEY',
    NAME: 'LABEL ALIAS ID BACKEND BACKEND_NAME DISPLAY_NAME',
    PRIORITY: 'PRIO PRIORITIES ORDER TIER RANK PREFERENCE',
    WEIGHT: 'WEIGHTS SHARE RATIO TRAFFIC TRAFFIC_WEIGHT',
    AUTH_MODE:
      'AUTH AUTHMODE AUTH_TYPE AUTH_METHOD AUTHENTICATION AUTHENTICATION_TYPE AUTHENTICATION_MODE API_TYPE CREDENTIAL CREDENTIAL_TYPE USE_MANAGED_IDENTITY USE_MSI USE_ENTRA USE_AAD USE_AZURE_AD MANAGED_IDENTITY',
    TOKEN_RESOURCE:
      'AUDIENCE TOKEN_AUDIENCE TOKEN_SCOPE SCOPE SCOPES AD_RESOURCE AAD_RESOURCE ENTRA_RESOURCE CREDENTIAL_SCOPE CREDENTIAL_SCOPES',
    MSI_CLIENT_ID:
      'CLIENT_ID IDENTITY_CLIENT_ID MANAGED_IDENTITY_CLIENT_ID MI_CLIENT_ID UAMI_CLIENT_ID IDENTITY MSI MSI_ID',
    DEPLOYMENTS:
      'DEPLOYMENT DEPLOYMENT_NAME DEPLOYMENT_NAMES DEPLOYMENT_ID API_DEPLOYMENT_NAME API_DEPLOYMENT DEPLOYMENT_MODEL CHAT_DEPLOYMENT CHAT_DEPLOYMENT_NAME CHATGPT_DEPLOYMENT CHATGPT_MODEL GPT_DEPLOYMENT COMPLETION_DEPLOYMENT_NAME EMBEDDING_DEPLOYMENT EMBEDDING_DEPLOYMENT_NAME EMBEDDINGS_DEPLOYMENT EMBEDDINGS_DEPLOYMENT_NAME EMB_DEPLOYMENT MODEL MODELS MODEL_NAME MODEL_NAMES MODEL_DEPLOYMENT ENGINE',
    REGION: 'LOCATION REGION_NAME ZONE GEO',
  },
  clients: {
    NAME: 'ID USERNAME USER CONSUMER APP APP_NAME LABEL CLIENT CLIENT_NAME',
    KEY: 'API_KEY APIKEY API_KEYS KEYS SECRET TOKEN ACCESS_KEY SUBSCRIPTION_KEY PRIMARY_KEY MASTER_KEY PASSWORD BEARER_TOKEN AUTH_KEY AUTH_TOKEN VIRTUAL_KEY',
    KEY_SECONDARY:
      'SECONDARY_KEY KEY_2ND SECOND_KEY KEY2 OLD_KEY PREVIOUS_KEY NEXT_KEY KEY_OLD KEY_NEW KEY_ALT',
    PRIORITY: 'LANE PRIO TIER CLASS',
    MODELS: 'MODEL ALLOWED_MODELS MODEL_NAMES DEPLOYMENTS DEPLOYMENT ALLOWED_DEPLOYMENTS MODEL_ALLOWLIST',
    TOKENS_PER_MINUTE:
      'TPM TPM_LIMIT TOKENS TOKEN_LIMIT TOKENS_MINUTE TOKEN_RATE_LIMIT MAX_TPM TOKENS_PER_MIN',
    REQUESTS_PER_MINUTE: 'RPM RPM_LIMIT REQUESTS REQUEST_LIMIT RATE_LIMIT MAX_RPM REQUESTS_PER_MIN',
    TOKENS_PER_DAY: 'TPD TPD_LIMIT DAILY_TOKENS TOKENS_DAY TOKENS_DAILY DAILY_LIMIT MAX_BUDGET BUDGET QUOTA',
  },
  pools: {
    NAME: 'ID LABEL POOL POOL_NAME',
    PATH: 'PREFIX PATH_PREFIX URL_PREFIX ROUTE URI BASE_PATH',
    BACKENDS: 'BACKEND MEMBERS UPSTREAMS INSTANCES ENDPOINTS TARGETS',
    CLIENTS: 'CLIENT ALLOWED_CLIENTS CONSUMERS USERS',
    LB_ALG: 'ALG ALGORITHM LB_ALGORITHM BALANCER STRATEGY ROUTING',
    RETRY_STATUSES: 'RETRY_STATUS RETRY_ON RETRY_CODES STATUSES',
    MAX_ATTEMPTS: 'ATTEMPTS MAX_RETRIES RETRIES NUM_RETRIES',
    COOLDOWN: 'COOLDOWN_TIME COOL_DOWN COOLDOWN_SECONDS',
  },
};

/** Words that others use for a backend, but that are settings of the whole gateway, or not settings. */
const ofAllBackends = once(
  (): Readonly<Record<string, Meant>> => ({
    ...meaning(
      'AI_PROXY_READ_TIMEOUT',
      'TIMEOUT REQUEST_TIMEOUT API_TIMEOUT READ_TIMEOUT TIMEOUT_SECONDS STREAM_TIMEOUT',
    ),
    ...meaning('AI_PROXY_CONNECT_TIMEOUT', 'CONNECT_TIMEOUT CONNECTION_TIMEOUT'),
    ...meaning(
      'AI_PROXY_MAX_ATTEMPTS',
      'MAX_RETRIES RETRIES NUM_RETRIES MAX_RETRY RETRY_COUNT MAX_ATTEMPTS MAX_FALLBACKS',
    ),
    ...meaning('AI_PROXY_COOLDOWN', 'COOLDOWN COOLDOWN_TIME COOLDOWN_SECONDS RETRY_AFTER'),
    ...meaning(
      undefined,
      'API_VERSION APIVERSION VERSION API_VERSION_DATE',
      'clients name the api-version in their requests, and it is passed on',
    ),
    ...meaning(
      undefined,
      'TPM RPM TPM_LIMIT RPM_LIMIT CAPACITY QUOTA TOKENS_PER_MINUTE REQUESTS_PER_MINUTE RATE_LIMIT MAX_PARALLEL_REQUESTS',
      'a backend has no limit of its own here, for it says itself when it has no capacity; clients have GATEWAY_CLIENT_TOKENS_PER_MINUTE_N',
    ),
    ...meaning(
      undefined,
      'AD_TOKEN AZURE_AD_TOKEN ACCESS_TOKEN BEARER_TOKEN TOKEN AAD_TOKEN',
      'the gateway gets its own tokens with AZURE_OPENAI_AUTH_MODE_N=entra',
    ),
  }),
);

/** Synonyms for settings without an index. */
const plain = once(
  (): Readonly<Record<string, Meant>> => ({
    ...meaning(
      'GATEWAY_CLIENT_KEY',
      'LITELLM_MASTER_KEY GATEWAY_API_KEY GATEWAY_APIKEY GATEWAY_KEY GATEWAY_SECRET GATEWAY_TOKEN GATEWAY_MASTER_KEY MASTER_KEY PROXY_API_KEY',
    ),
    ...meaning(
      'GATEWAY_REQUIRE_AUTH',
      'GATEWAY_AUTH GATEWAY_AUTH_ENABLED GATEWAY_ENABLE_AUTH ENABLE_AUTH ENABLE_AUTHENTICATION REQUIRE_AUTH AUTH_ENABLED GATEWAY_AUTHENTICATION ENABLE_KEY_AUTH ENABLE_API_KEY_AUTH',
    ),
    ...meaning(
      'APISIX_LOG_LEVEL',
      'LOG_LEVEL LOGLEVEL APISIX_LOGLEVEL GATEWAY_LOG_LEVEL GATEWAY_LOGLEVEL NGINX_LOG_LEVEL ERROR_LOG_LEVEL LITELLM_LOG',
    ),
    ...meaning(
      'GATEWAY_WORKERS',
      'WORKERS WORKER_PROCESSES NGINX_WORKER_PROCESSES APISIX_WORKERS NUM_WORKERS GATEWAY_WORKER_PROCESSES',
    ),
    ...meaning(
      'GATEWAY_MAX_BODY_SIZE',
      'MAX_BODY_SIZE CLIENT_MAX_BODY_SIZE GATEWAY_BODY_SIZE GATEWAY_CLIENT_MAX_BODY_SIZE MAX_REQUEST_SIZE',
    ),
    ...meaning(
      'GATEWAY_TRUSTED_PROXIES',
      'TRUSTED_PROXIES REAL_IP_FROM TRUSTED_ADDRESSES GATEWAY_TRUSTED_ADDRESSES',
    ),
    ...meaning(
      'GATEWAY_TRUSTED_CA_FILE',
      'SSL_CERT_FILE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS GATEWAY_CA_FILE CA_FILE SSL_TRUSTED_CERTIFICATE',
    ),
    ...meaning(
      'LB_ALG',
      'LB_ALGORITHM LB_STRATEGY LB_POLICY LB_METHOD LB_TYPE LOAD_BALANCER LOAD_BALANCING LOAD_BALANCER_ALGORITHM LOAD_BALANCING_ALGORITHM LOAD_BALANCING_STRATEGY ROUTING_STRATEGY BALANCER_ALGORITHM AI_PROXY_LB_ALG AI_PROXY_ALGORITHM',
    ),
    ...meaning('LB_AFFINITY', 'SESSION_AFFINITY LB_STICKY LB_SESSION STICKY_SESSIONS LB_SESSION_AFFINITY'),
    ...meaning(
      'AI_PROXY_READ_TIMEOUT',
      'REQUEST_TIMEOUT GATEWAY_TIMEOUT GATEWAY_READ_TIMEOUT GATEWAY_REQUEST_TIMEOUT PROXY_READ_TIMEOUT AI_PROXY_TIMEOUT AI_PROXY_REQUEST_TIMEOUT UPSTREAM_TIMEOUT',
    ),
    ...meaning(
      'AI_PROXY_CONNECT_TIMEOUT',
      'PROXY_CONNECT_TIMEOUT CONNECT_TIMEOUT AI_PROXY_CONNECTION_TIMEOUT',
    ),
    ...meaning(
      'AI_PROXY_MAX_ATTEMPTS',
      'NUM_RETRIES MAX_RETRIES RETRY_COUNT AI_PROXY_RETRIES AI_PROXY_MAX_RETRIES AI_PROXY_ATTEMPTS',
    ),
    ...meaning(
      'AI_PROXY_COOLDOWN',
      'COOLDOWN_TIME COOLDOWN COOLDOWN_SECONDS AI_PROXY_COOLDOWN_TIME AI_PROXY_COOLDOWN_SECONDS AI_PROXY_COOL_DOWN',
    ),
    ...meaning(
      'AI_PROXY_RETRY_STATUSES',
      'RETRY_STATUSES RETRY_ON RETRY_STATUS_CODES AI_PROXY_RETRY_ON AI_PROXY_RETRY_CODES AI_PROXY_STATUSES',
    ),
    ...meaning(
      'ENABLE_AI_RATE_LIMIT',
      'ENABLE_TOKEN_RATE_LIMIT ENABLE_TOKEN_LIMIT ENABLE_AI_RATE_LIMITING ENABLE_TOKEN_LIMITS AI_RATE_LIMIT AI_RATE_LIMIT_ENABLED',
    ),
    ...meaning(
      'AI_RATE_LIMIT_HIGH_LIMIT',
      'AI_RATE_LIMIT_TOKENS AI_RATE_LIMIT_TPM TPM_LIMIT TOKENS_PER_MINUTE AI_RATE_LIMIT_HIGH',
    ),
    ...meaning('AI_RATE_LIMIT_LOW_LIMIT', 'AI_RATE_LIMIT_LOW'),
    ...meaning(
      'AI_RATE_LIMIT_WINDOW_SECONDS',
      'AI_RATE_LIMIT_WINDOW AI_RATE_LIMIT_TIME_WINDOW AI_RATE_LIMIT_PERIOD',
    ),
    ...meaning(
      'AI_RATE_LIMIT_REDIS_HOST',
      'REDIS_HOST REDIS_HOSTNAME REDIS_SERVER REDIS_URL REDIS_ENDPOINT AI_RATE_LIMIT_REDIS AI_RATE_LIMIT_REDIS_URL RATE_LIMIT_REDIS_HOST',
    ),
    ...meaning('AI_RATE_LIMIT_REDIS_PORT', 'REDIS_PORT RATE_LIMIT_REDIS_PORT'),
    ...meaning('AI_RATE_LIMIT_REDIS_USERNAME', 'REDIS_USER REDIS_USERNAME AI_RATE_LIMIT_REDIS_USER'),
    ...meaning(
      'AI_RATE_LIMIT_REDIS_PASSWORD',
      'REDIS_PASSWORD REDIS_AUTH REDIS_KEY REDIS_ACCESS_KEY REDIS_SECRET AI_RATE_LIMIT_REDIS_KEY RATE_LIMIT_REDIS_PASSWORD',
    ),
    ...meaning('AI_RATE_LIMIT_REDIS_TLS', 'REDIS_TLS REDIS_SSL AI_RATE_LIMIT_REDIS_SSL'),
    ...meaning('AI_RATE_LIMIT_REDIS_DATABASE', 'REDIS_DB REDIS_DATABASE AI_RATE_LIMIT_REDIS_DB'),
    ...meaning('RESPONSES_AFFINITY_REDIS_TLS', 'RESPONSES_AFFINITY_REDIS_SSL'),
    ...meaning(
      'RESPONSES_AFFINITY_REDIS_HOST',
      'RESPONSES_AFFINITY_REDIS RESPONSES_AFFINITY_REDIS_URL RESPONSES_AFFINITY_HOST',
    ),
    ...meaning('RESPONSES_AFFINITY_TTL_SECONDS', 'RESPONSES_AFFINITY_TTL RESPONSES_AFFINITY_REDIS_TTL'),
    ...meaning(
      'ENABLE_RATE_LIMIT',
      'ENABLE_RATE_LIMITING ENABLE_REQUEST_RATE_LIMIT ENABLE_REQUEST_LIMIT ENABLE_LIMIT_REQ RATE_LIMIT_ENABLED',
    ),
    ...meaning(
      'RATE_LIMIT_RATE',
      'RATE_LIMIT_RPS RATE_LIMIT_REQUESTS RATE_LIMIT_PER_SECOND RATE_LIMIT_LIMIT RPS',
    ),
    ...meaning('QUOTA_COUNT', 'QUOTA_LIMIT QUOTA_REQUESTS QUOTA_MAX'),
    ...meaning('QUOTA_TIME_WINDOW', 'QUOTA_WINDOW QUOTA_PERIOD QUOTA_WINDOW_SECONDS'),
    ...meaning(
      'CORS_ALLOW_ORIGINS',
      'CORS_ORIGINS CORS_ALLOWED_ORIGINS CORS_ORIGIN ALLOWED_ORIGINS ALLOW_ORIGINS CORS_ALLOW_ORIGIN',
    ),
    ...meaning('CORS_ALLOW_METHODS', 'CORS_METHODS CORS_ALLOWED_METHODS'),
    ...meaning('CORS_ALLOW_HEADERS', 'CORS_HEADERS CORS_ALLOWED_HEADERS'),
    ...meaning('CORS_EXPOSE_HEADERS', 'CORS_EXPOSED_HEADERS'),
    ...meaning('ENABLE_CORS', 'CORS_ENABLED GATEWAY_ENABLE_CORS CORS'),
    ...meaning(
      'IP_WHITELIST',
      'IP_ALLOWLIST IP_ALLOW_LIST IP_ALLOWED IP_WHITE_LIST ALLOWED_IPS IP_ALLOWED_LIST IP_WHITELISTED IP_WHITELIST_CIDRS',
    ),
    ...meaning(
      'IP_BLACKLIST',
      'IP_DENYLIST IP_DENY_LIST IP_BLOCKLIST IP_BLACK_LIST DENIED_IPS IP_BLOCK_LIST BLOCKED_IPS',
    ),
    ...meaning(
      'ENABLE_IP_RESTRICTION',
      'ENABLE_IP_RESTRICTIONS ENABLE_IP_FILTER ENABLE_IP_WHITELIST ENABLE_IP_ALLOWLIST',
    ),
    ...meaning('ENABLE_OIDC', 'ENABLE_JWT OIDC_ENABLED ENABLE_OPENID ENABLE_ENTRA ENABLE_OPENID_CONNECT'),
    ...meaning(
      'OIDC_DISCOVERY_URL',
      'OIDC_ISSUER OIDC_ISSUER_URL OIDC_DISCOVERY OIDC_DISCOVERY_ENDPOINT OIDC_METADATA_URL OIDC_WELL_KNOWN OIDC_WELL_KNOWN_URL OIDC_AUTHORITY OIDC_URL',
    ),
    ...meaning('OIDC_AUDIENCES', 'OIDC_AUDIENCE OIDC_AUD OIDC_ALLOWED_AUDIENCES'),
    ...meaning('OIDC_CLIENT_ID', 'OIDC_CLIENTID OIDC_APP_ID OIDC_ID'),
    ...meaning('OIDC_CLIENT_SECRET', 'OIDC_SECRET OIDC_CLIENTSECRET'),
    ...meaning('OIDC_REDIRECT_URI', 'OIDC_REDIRECT_URL OIDC_CALLBACK_URL'),
    ...meaning(
      'OTEL_COLLECTOR_ENDPOINT',
      'OTEL_EXPORTER_OTLP_ENDPOINT OTEL_ENDPOINT OTLP_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT OTEL_COLLECTOR_URL OTEL_COLLECTOR_HOST',
    ),
    ...meaning(
      'OTEL_SAMPLE_RATE',
      'OTEL_TRACES_SAMPLER_ARG OTEL_SAMPLING_RATE OTEL_SAMPLE_RATIO TRACE_SAMPLE_RATE',
    ),
    ...meaning(
      'APPLICATIONINSIGHTS_CONNECTION_STRING',
      'APPINSIGHTS_CONNECTION_STRING APPLICATION_INSIGHTS_CONNECTION_STRING APPINSIGHTS_CONNECTIONSTRING APPLICATIONINSIGHTS_CONNECTIONSTRING',
    ),
    ...meaning(
      'AZURE_MONITOR_WORKSPACE_ENDPOINT',
      'AZURE_MONITOR_WORKSPACE PROMETHEUS_REMOTE_WRITE_URL PROMETHEUS_REMOTE_WRITE_ENDPOINT REMOTE_WRITE_URL',
    ),
    ...meaning('PROMETHEUS_SCRAPE_INTERVAL', 'PROMETHEUS_INTERVAL SCRAPE_INTERVAL'),
    ...meaning('MODEL_PRICES', 'MODEL_PRICE MODEL_COSTS MODEL_COST PRICES'),
    ...meaning(
      'APIM_GATEWAY_LOGS_INGEST_URI',
      'APIM_GATEWAY_LOGS_URI APIM_GATEWAY_LOGS_ENDPOINT APIM_GATEWAY_LOGS_INGEST_URL',
    ),
    ...meaning(
      'AZURE_CLIENT_ID',
      'MANAGED_IDENTITY_CLIENT_ID UAMI_CLIENT_ID AZURE_MANAGED_IDENTITY_CLIENT_ID',
    ),
    ...meaning(
      undefined,
      'AZURE_API_VERSION OPENAI_API_VERSION',
      'clients name the api-version in their requests, and it is passed on',
    ),
    ...meaning(
      undefined,
      'GATEWAY_HOST GATEWAY_LISTEN GATEWAY_PORT GATEWAY_HTTP_PORT APISIX_PORT',
      'the gateway listens on port 9080 of every address; publish it as another one',
    ),
  }),
);

/** Creates a value at first use: most renders need no suggestions. */
function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function meaning(nearest: string | undefined, words: string, note?: string): Record<string, Meant> {
  const meant: Meant = note === undefined ? { nearest } : { nearest, note };
  return Object.fromEntries(words.split(' ').map((word) => [word, meant]));
}

/** The field for each synonym, by group. */
const fields = once(() => ({
  backends: words('backends'),
  clients: words('clients'),
  pools: words('pools'),
}));

const words = (group: GroupName): ReadonlyMap<string, string> =>
  new Map(
    Object.entries(FIELD_WORDS[group]).flatMap(([field, others]) =>
      [field, ...others.split(' ')].map((word): [string, string] => [word, field]),
    ),
  );

/** Splits a name into its stem and its index, also for `AZURE_OPENAI_1_KEY` and `AZURE_OPENAI_KEY1`. */
export function splitIndex(name: string): { readonly stem: string; readonly index: string | undefined } {
  const [, before = '', digits = '', after = ''] =
    /^(.*?[A-Z])_?(\d{1,4})(?:_([A-Z][A-Z_]*))?$/.exec(name) ?? [];
  if (digits === '') return { stem: name, index: undefined };
  return { stem: after === '' ? before : `${before}_${after}`, index: String(Number(digits)) };
}

/** The setting for a name of other software; undefined if the name is unknown. */
export function meantBy(name: string): Meant | undefined {
  if (Object.hasOwn(plain(), name)) return plain()[name];
  const { stem, index } = splitIndex(name);
  const backend = stem.replace(AZURE_ALONE, 'AZURE_OPENAI_').replace(BACKEND_PREFIX, '');
  if (backend !== stem) {
    // A prefix alone, with an index, stands for the endpoint.
    const field = backend === '' ? index && 'ENDPOINT' : fields().backends.get(backend);
    if (field) return { nearest: indexed('backends', field, index ?? '0') };
    if (Object.hasOwn(ofAllBackends(), backend)) return ofAllBackends()[backend];
  }
  const pool = stem.replace(POOL_PREFIX, '');
  if (pool !== stem) {
    const field = pool === '' ? 'NAME' : fields().pools.get(pool);
    return field === undefined ? undefined : { nearest: indexed('pools', field, index ?? '0') };
  }
  if (index === undefined && !stem.startsWith('GATEWAY_CLIENT_')) return undefined;
  const client = stem.replace(CLIENT_PREFIX, '');
  if (client === stem) return undefined;
  const field = client === '' ? 'NAME' : fields().clients.get(client);
  return field === undefined ? undefined : { nearest: indexed('clients', field, index ?? '0') };
}

const indexed = (group: GroupName, field: string, index: string) =>
  `${indexedGroups[group].prefix}${field}_${index}`;

/** Names without an index that other software uses for the endpoint, the most usual first. */
export const ENDPOINT_NAMES = [
  'AZURE_OPENAI_ENDPOINT',
  'AZURE_OPENAI_API_ENDPOINT',
  'AZURE_OPENAI_API_BASE',
  'AZURE_OPENAI_BASE_URL',
  'AZURE_API_BASE',
  'AOAI_ENDPOINT',
  'OPENAI_API_BASE',
  'OPENAI_BASE_URL',
  'AZURE_AI_ENDPOINT',
  'AZURE_INFERENCE_ENDPOINT',
] as const;

export const isEndpointName = (name: string): boolean => (ENDPOINT_NAMES as readonly string[]).includes(name);
