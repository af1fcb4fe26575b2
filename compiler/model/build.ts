import type { BackendValues, ClientValues, PoolValues } from '../settings/declarations/index.ts';
import {
  allPools,
  backendAuthMode,
  backendClientId,
  backendHeader,
  backendName,
  cooldown,
  corsRequestHeaders,
  debugExporter,
  highLaneLimit,
  identityClientId,
  ingestion,
  limitStrategy,
  poolAlgorithm,
  poolBackends,
  poolCooldown,
  poolMaxAttempts,
  poolPath,
  poolRetryStatuses,
  recordsClientId,
  requestKey,
  retryStatuses,
  sampleRate,
  tokenAudiences,
  tokenResource,
  usesPreferred,
  usesTokenFile,
} from '../settings/effective.ts';
import type { Settings } from '../settings/parse.ts';
import type { Secret } from '../settings/secret.ts';
import type { Algorithm } from '../settings/types.ts';
import type {
  ApimRecords,
  Authentication,
  Backend,
  Balancing,
  Cache,
  Client,
  Cors,
  Failover,
  GatewayModel,
  Limits,
  Pool,
  Preferred,
  Redis,
  RemoteWrite,
  Telemetry,
  TokenBudget,
} from './model.ts';
import { ModelSecret, type SecretsMode } from './secret.ts';

/**
 * Builds the model of the gateway. The settings must have no errors: this function asserts what the rules guarantee,
 * and a failed assertion is a bug of this program. `secrets` is the form of all secrets.
 */
export function buildModel(
  settings: Settings,
  secrets: SecretsMode = settings.values.GATEWAY_SECRETS,
): GatewayModel {
  const { values } = settings;
  const written: Written = (secret) => secret && new ModelSecret(secret, secrets);
  const backends = settings.backends.map((each) => backend(each, settings, written));
  return {
    backends,
    pools: allPools(settings).map((each) => pool(each, settings, backends)),
    clients: clients(settings, written),
    authentication: authentication(settings),
    balancing: balancing(settings, values.LB_ALG),
    failover: failover(settings),
    ...(usesPreferred(settings) ? { preferred: preferred(settings, written) } : {}),
    ...(values.APISIX_ACTIVE_HEALTH_CHECKS
      ? {
          healthChecks: compact({
            scheme: values.APISIX_ACTIVE_HEALTH_CHECK_SCHEME,
            path: values.APISIX_ACTIVE_HEALTH_CHECK_PATH,
            timeout: values.APISIX_ACTIVE_HEALTH_CHECK_TIMEOUT,
            verifyCertificate: values.APISIX_ACTIVE_HEALTH_CHECK_VERIFY_CERT,
            healthyInterval: values.APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL,
            unhealthyInterval: values.APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL,
          }),
        }
      : {}),
    affinity: {
      ttl: values.RESPONSES_AFFINITY_TTL_SECONDS,
      ...(values.RESPONSES_AFFINITY_REDIS_HOST === undefined
        ? {}
        : {
            redis: {
              ...redis(settings, 'RESPONSES_AFFINITY_REDIS', written),
              timeout: values.RESPONSES_AFFINITY_REDIS_TIMEOUT_MS,
            },
          }),
    },
    limits: limits(settings, written),
    ...(values.ENABLE_CACHE && values.CACHE_TTL > 0 ? { cache: cache(settings, written) } : {}),
    ...(values.ENABLE_CORS ? { cors: cors(settings) } : {}),
    ...(values.ENABLE_IP_RESTRICTION
      ? {
          ipRestriction: values.IP_WHITELIST
            ? { kind: 'allow' as const, ranges: values.IP_WHITELIST }
            : { kind: 'deny' as const, ranges: required(values.IP_BLACKLIST) },
        }
      : {}),
    hardenResponses: values.ENABLE_RESPONSE_REWRITE,
    telemetry: telemetry(settings, written),
    server: compact({
      logLevel: values.APISIX_LOG_LEVEL,
      workers: values.GATEWAY_WORKERS.toLowerCase(),
      maxBodySize: values.GATEWAY_MAX_BODY_SIZE,
      bodyMemory: values.GATEWAY_BODY_MEMORY,
      bodyBuffer: BODY_BUFFER,
      clientSendTimeout: values.GATEWAY_CLIENT_SEND_TIMEOUT,
      allowUntestedApisix: values.GATEWAY_ALLOW_UNTESTED_APISIX,
      trustedProxies: values.GATEWAY_TRUSTED_PROXIES ?? [],
      trustedCaFile: values.GATEWAY_TRUSTED_CA_FILE,
      backendHeader: backendHeader(settings).value,
      e2eTestMode: values.GATEWAY_E2E_TEST_MODE,
      secrets: values.GATEWAY_SECRETS,
    }),
  };
}

/** A secret in the form for the documents. */
type Written = (secret: Secret | undefined) => ModelSecret | undefined;

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the model was built from settings that have errors');
  return value;
}

/** Removes undefined properties, which exact optional properties do not allow. */
type Compact<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};
function compact<T extends object>(object: T): Compact<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Compact<T>;
}

function backend(each: BackendValues, settings: Settings, written: Written): Backend {
  const credential =
    backendAuthMode(settings, each).value === 'entra'
      ? compact({
          kind: 'entra' as const,
          resource: tokenResource(settings, each).value,
          clientId: backendClientId(settings, each).value,
        })
      : { kind: 'api-key' as const, key: required(written(each.KEY)) };
  return compact({
    name: backendName(settings, each).value,
    origin: required(each.ENDPOINT).origin,
    priority: each.PRIORITY,
    weight: each.WEIGHT,
    credential,
    deployments: each.DEPLOYMENTS,
    region: each.REGION,
  });
}

/** A named pool. `backends` are all of the gateway. */
function pool(each: PoolValues, settings: Settings, backends: readonly Backend[]): Pool {
  const common = failover(settings);
  const fixed = poolCooldown(settings, each).value;
  const byName = new Map(backends.map((one) => [one.name, one]));
  return compact({
    name: required(each.NAME),
    path: required(poolPath(settings, each).value),
    backends: poolBackends(settings, each).value.map(({ name, priority, weight }) => ({
      ...required(byName.get(name)),
      priority,
      weight,
    })),
    clients: each.CLIENTS,
    balancing: balancing(settings, poolAlgorithm(settings, each).value),
    failover: compact({
      ...common,
      retryStatuses: poolRetryStatuses(settings, each).value,
      maxAttempts: poolMaxAttempts(settings, each).value,
      cooldown: fixed === undefined ? common.cooldown : { ...common.cooldown, fixed },
    }),
    budget: poolBudget(each),
  });
}

function poolBudget({ TOKENS_PER_MINUTE, HIGH_RESERVE, BUDGET_SOURCE }: PoolValues): TokenBudget | undefined {
  if (BUDGET_SOURCE === 'backend') return { highReserve: HIGH_RESERVE };
  return TOKENS_PER_MINUTE === undefined
    ? undefined
    : { tokensPerMinute: TOKENS_PER_MINUTE, highReserve: HIGH_RESERVE };
}

function balancing({ values }: Settings, algorithm: Algorithm): Balancing {
  return compact({
    algorithm,
    hash: algorithm === 'chash' ? compact({ on: values.LB_HASH_ON, key: values.LB_HASH_KEY }) : undefined,
    // Consistent hashing already keeps requests together, by another key.
    affinity: algorithm === 'chash' ? undefined : values.LB_AFFINITY,
  });
}

/** The limiters' client of Redis waits as long. */
const PREFERRED_REDIS_TIMEOUT = 500;

function preferred(settings: Settings, written: Written): Preferred {
  const { values } = settings;
  const shared =
    values.RESPONSES_AFFINITY_REDIS_HOST === undefined
      ? values.AI_RATE_LIMIT_POLICY === 'redis'
        ? { ...redis(settings, 'AI_RATE_LIMIT_REDIS', written), timeout: PREFERRED_REDIS_TIMEOUT }
        : undefined
      : {
          ...redis(settings, 'RESPONSES_AFFINITY_REDIS', written),
          timeout: values.RESPONSES_AFFINITY_REDIS_TIMEOUT_MS,
        };
  return compact({ secret: written(values.CONFIG_API_SHARED_SECRET), redis: shared });
}

function clients({ values, clients: indexed }: Settings, written: Written): Client[] {
  const single = written(values.GATEWAY_CLIENT_KEY);
  if (single) return [{ name: 'gateway-client', key: single, lane: 'high' }];
  return indexed.map((each: ClientValues) =>
    compact({
      name: required(each.NAME),
      key: required(written(each.KEY)),
      secondaryKey: written(each.KEY_SECONDARY),
      lane: each.PRIORITY,
      models: each.MODELS,
      tokensPerMinute: each.TOKENS_PER_MINUTE,
      tokensPerDay: each.TOKENS_PER_DAY,
      requestsPerMinute: each.REQUESTS_PER_MINUTE,
    }),
  );
}

function authentication(settings: Settings): Authentication {
  const { values } = settings;
  if (!values.ENABLE_OIDC) return { required: values.GATEWAY_REQUIRE_AUTH };
  return {
    required: values.GATEWAY_REQUIRE_AUTH,
    oidc: {
      discoveryUrl: required(values.OIDC_DISCOVERY_URL),
      audiences: tokenAudiences(settings).value,
    },
  };
}

function failover(settings: Settings): Failover {
  const { values } = settings;
  return compact({
    retryStatuses: retryStatuses(settings).value,
    maxAttempts: values.AI_PROXY_MAX_ATTEMPTS,
    deadline: values.AI_PROXY_DEADLINE,
    cooldown: { default: cooldown(settings).value, max: values.AI_PROXY_COOLDOWN_MAX },
    timeouts: compact({
      connect: values.AI_PROXY_CONNECT_TIMEOUT,
      send: values.AI_PROXY_SEND_TIMEOUT,
      read: values.AI_PROXY_READ_TIMEOUT,
      firstByte: values.AI_PROXY_FIRST_BYTE_TIMEOUT,
    }),
    keepaliveMaxAge: values.AI_PROXY_KEEPALIVE_MAX_AGE,
    streamHold: values.AI_PROXY_STREAM_HOLD,
    streamHeartbeat: values.AI_PROXY_STREAM_HEARTBEAT || undefined,
  });
}

function redis(
  { values }: Settings,
  prefix: 'RESPONSES_AFFINITY_REDIS' | 'AI_RATE_LIMIT_REDIS' | 'CACHE_REDIS',
  written: Written,
): Redis {
  return compact({
    host: required(values[`${prefix}_HOST`]),
    port: values[`${prefix}_PORT`],
    username: values[`${prefix}_USERNAME`],
    password: written(values[`${prefix}_PASSWORD`]),
    database: values[`${prefix}_DATABASE`],
    tls: values[`${prefix}_TLS`],
  });
}

function cache(settings: Settings, written: Written): Cache {
  const { values } = settings;
  const isShared = values.CACHE_POLICY === 'redis';
  const key = isShared ? written(values.CACHE_ENCRYPTION_KEY) : undefined;
  return compact({
    ttl: values.CACHE_TTL,
    scope: values.CACHE_SCOPE,
    operations: values.CACHE_OPERATIONS,
    maxEntry: values.CACHE_MAX_ENTRY_SIZE,
    memory: values.CACHE_MEMORY,
    countsTokens: values.CACHE_COUNTS_TOKENS,
    redis: isShared
      ? { ...redis(settings, 'CACHE_REDIS', written), timeout: values.CACHE_REDIS_TIMEOUT_MS }
      : undefined,
    encryption:
      key === undefined
        ? undefined
        : compact({ key, previous: written(values.CACHE_ENCRYPTION_KEY_PREVIOUS) }),
  });
}

function limits(settings: Settings, written: Written): Limits {
  const { values } = settings;
  return compact({
    lanes: values.ENABLE_AI_RATE_LIMIT
      ? {
          high: highLaneLimit(settings).value,
          low: values.AI_RATE_LIMIT_LOW_LIMIT,
          window: values.AI_RATE_LIMIT_WINDOW_SECONDS,
          scope: values.AI_RATE_LIMIT_SCOPE,
        }
      : undefined,
    shared:
      values.AI_RATE_LIMIT_SHARED_LIMIT === undefined
        ? undefined
        : {
            tokensPerMinute: values.AI_RATE_LIMIT_SHARED_LIMIT,
            highReserve: values.AI_RATE_LIMIT_HIGH_RESERVE,
          },
    strategy: limitStrategy(settings).value,
    rejection: { status: values.AI_RATE_LIMIT_REJECT_CODE, message: values.AI_RATE_LIMIT_REJECT_MESSAGE },
    requestRate: values.ENABLE_RATE_LIMIT
      ? { perSecond: required(values.RATE_LIMIT_RATE), burst: values.RATE_LIMIT_BURST }
      : undefined,
    requestQuota: values.ENABLE_QUOTA
      ? { count: required(values.QUOTA_COUNT), window: required(values.QUOTA_TIME_WINDOW) }
      : undefined,
    requestKey: requestKey(settings).value,
    redis:
      values.AI_RATE_LIMIT_POLICY === 'redis' ? redis(settings, 'AI_RATE_LIMIT_REDIS', written) : undefined,
  });
}

/**
 * Size of the body buffer in memory, in bytes: enough for ordinary prompts. A waiting request uses up to three times as
 * much.
 */
const BODY_BUFFER = 128 * 1024;

function cors(settings: Settings): Cors {
  const { values } = settings;
  return compact({
    origins: required(values.CORS_ALLOW_ORIGINS),
    methods: values.CORS_ALLOW_METHODS,
    requestHeaders: corsRequestHeaders(settings).value,
    exposedHeaders: values.CORS_EXPOSE_HEADERS,
    maxAge: values.CORS_MAX_AGE,
    credentials: values.CORS_ALLOW_CREDENTIALS,
  });
}

function telemetry(settings: Settings, written: Written): Telemetry {
  const { values } = settings;
  return compact({
    mode: values.GATEWAY_LOG_MODE,
    serviceName: values.OTEL_SERVICE_NAME,
    resource: {
      version: values.SERVICE_VERSION,
      environment: values.ENVIRONMENT,
      cloudPlatform: values.CLOUD_PLATFORM,
    },
    clusterName: values.CLUSTER_NAME,
    logSummaries: values.AI_PROXY_LOG_SUMMARIES,
    traces:
      values.OTEL_COLLECTOR_ENDPOINT === undefined
        ? undefined
        : { collector: values.OTEL_COLLECTOR_ENDPOINT, sampleRate: sampleRate(settings).value },
    accessLogPath: values.APISIX_LOGS_PATH,
    metrics: {
      path: values.APISIX_METRICS_PATH,
      target: values.APISIX_GATEWAY_ENDPOINT,
      scrapeInterval: values.PROMETHEUS_SCRAPE_INTERVAL,
      scrapeTimeout: values.PROMETHEUS_SCRAPE_TIMEOUT,
      prices: values.MODEL_PRICES ?? [],
      memory: values.GATEWAY_METRICS_MEMORY,
    },
    collector: compact({
      logLevel: values.OTEL_LOG_LEVEL,
      batch: { timeout: values.OTEL_BATCH_TIMEOUT, size: values.OTEL_BATCH_SIZE },
      memory: compact({ limit: values.OTEL_MEMORY_LIMIT_MIB, spike: values.OTEL_MEMORY_SPIKE_MIB }),
      debug: debugExporter(settings).value,
      applicationInsights: written(values.APPLICATIONINSIGHTS_CONNECTION_STRING),
      remoteWrite: values.AZURE_MONITOR_WORKSPACE_ENDPOINT === undefined ? undefined : remoteWrite(settings),
    }),
    apimRecords:
      values.APIM_GATEWAY_LOGS_INGEST_URI === undefined ? undefined : apimRecords(settings, written),
  });
}

function remoteWrite(settings: Settings): RemoteWrite {
  const { values } = settings;
  return compact({
    endpoint: required(values.AZURE_MONITOR_WORKSPACE_ENDPOINT).replace(/\/+$/, ''),
    // With a client id the collector would query the metadata service. Without one it uses the token file and its
    // environment.
    identityClientId: usesTokenFile(settings) ? undefined : identityClientId(settings).value,
    orgId: values.PROMETHEUS_REMOTE_WRITE_ORG_ID,
    timeout: values.PROMETHEUS_REMOTE_WRITE_TIMEOUT,
    queue: {
      enabled: values.PROMETHEUS_REMOTE_WRITE_QUEUE_ENABLED,
      size: values.PROMETHEUS_REMOTE_WRITE_QUEUE_SIZE,
      consumers: values.PROMETHEUS_REMOTE_WRITE_QUEUE_CONSUMERS,
    },
    retry: {
      enabled: values.PROMETHEUS_REMOTE_WRITE_RETRY_ENABLED,
      initial: values.PROMETHEUS_REMOTE_WRITE_RETRY_INITIAL,
      max: values.PROMETHEUS_REMOTE_WRITE_RETRY_MAX,
      maxElapsed: values.PROMETHEUS_REMOTE_WRITE_RETRY_MAX_ELAPSED,
    },
  });
}

function apimRecords(settings: Settings, written: Written): ApimRecords {
  const { values } = settings;
  const { uri, resource } = required(ingestion(settings));
  return compact({
    ingestUri: uri,
    includeRequestBody: values.APIM_GATEWAY_LOGS_INCLUDE_REQ_BODY,
    batch: {
      maxSize: values.APIM_GATEWAY_LOGS_BATCH_MAX_SIZE,
      flushInterval: values.APIM_GATEWAY_LOGS_BATCH_FLUSH_INTERVAL,
      maxRetry: values.APIM_GATEWAY_LOGS_BATCH_MAX_RETRY,
    },
    timeout: values.APIM_GATEWAY_LOGS_TIMEOUT_MS,
    gatewayId: values.APIM_GATEWAY_ID,
    productId: values.GATEWAY_PRODUCT_ID,
    identity: compact({
      resource,
      clientId: recordsClientId(settings).value,
      endpoint: values.APIM_GATEWAY_LOGS_MSI_ENDPOINT,
      secret: written(values.APIM_GATEWAY_LOGS_MSI_SECRET),
    }),
  });
}
