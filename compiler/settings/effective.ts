/**
 * Effective values that depend on several settings. Declarations refer to these functions, so this file must not use a
 * declaration when it is loaded.
 */
import type { BackendValues, PoolValues } from './declarations/index.ts';
import type { Settings } from './parse.ts';
import type { Secret } from './secret.ts';
import { testPools } from './test-mode.ts';
import type { Algorithm, PoolBackend } from './types.ts';

/** The effective value of a setting, and the other setting that determines it, if any. */
export interface Effective<T> {
  readonly value: T;
  readonly follows?: string;
}

/** The setting's own value; undefined if it is not set. */
const own = <T>(value: T | undefined): Effective<T> | undefined =>
  value === undefined ? undefined : { value };

/** A value from another setting; undefined if that is not set. */
const following = <T>(follows: string, value: T | undefined): Effective<T> | undefined =>
  value === undefined ? undefined : { value, follows };

const NOTHING: Effective<undefined> = { value: undefined };

/** The name of a backend. The default uses its index, so that removing a backend does not rename the others. */
export const backendName = (_: Settings, backend: BackendValues): Effective<string> => ({
  value: backend.NAME ?? `backend-${backend.index}`,
});

/** How the gateway authenticates to a backend; undefined if no setting determines it. */
export const backendAuthMode = (
  { values }: Settings,
  backend: BackendValues,
): Effective<'api-key' | 'entra' | undefined> =>
  own(backend.AUTH_MODE) ??
  following(`AZURE_OPENAI_KEY_${backend.index}`, backend.KEY && 'api-key') ??
  following('AZURE_OPENAI_AUTH_MODE', values.AZURE_OPENAI_AUTH_MODE) ??
  NOTHING;

/** Azure's clouds by top-level domain. */
export type Cloud = 'com' | 'us' | 'cn';

/** The default token audience of each cloud. */
export const AUDIENCES: Readonly<Record<Cloud, string>> = {
  com: 'https://cognitiveservices.azure.com/',
  us: 'https://cognitiveservices.azure.us/',
  cn: 'https://cognitiveservices.azure.cn/',
};

/** The default authority of each cloud for workload identity; `genai/identity/entra.lua` has the same table. */
export const AUTHORITIES: Readonly<Record<Cloud, string>> = {
  com: 'https://login.microsoftonline.com',
  us: 'https://login.microsoftonline.us',
  cn: 'https://login.chinacloudapi.cn',
};

/** The cloud of an Azure URL; undefined for other hosts. */
export function cloudOf(url: string): Cloud | undefined {
  const [, cloud] = /^https?:\/\/(?:[^/?#]*\.)?azure\.(com|us|cn)(?=[:/?#]|$)/i.exec(url) ?? [];
  return cloud?.toLowerCase() as Cloud | undefined;
}

/** The cloud of an authority. */
export function cloudOfAuthority(authority: string): Cloud | undefined {
  const host = authority
    .replace(/^https?:\/\//i, '')
    .replace(/[:/].*$/, '')
    .toLowerCase();
  if (host === 'login.microsoftonline.com' || host === 'login.windows.net') return 'com';
  if (host === 'login.microsoftonline.us') return 'us';
  return host === 'login.chinacloudapi.cn' || host === 'login.partner.microsoftonline.cn' ? 'cn' : undefined;
}

/** The token audience for a backend. The default is that of the endpoint's cloud. */
export function tokenResource({ values, sources }: Settings, backend: BackendValues): Effective<string> {
  if (backend.TOKEN_RESOURCE !== undefined) return { value: backend.TOKEN_RESOURCE };
  const cloud = backend.ENDPOINT && cloudOf(backend.ENDPOINT.origin);
  return cloud === undefined || sources.has('AZURE_OPENAI_TOKEN_RESOURCE')
    ? { value: values.AZURE_OPENAI_TOKEN_RESOURCE, follows: 'AZURE_OPENAI_TOKEN_RESOURCE' }
    : { value: AUDIENCES[cloud], follows: `AZURE_OPENAI_ENDPOINT_${backend.index}` };
}

/** Whether any backend uses a token of the gateway's identity. */
export const usesEntra = (settings: Settings): boolean =>
  settings.backends.some((each) => backendAuthMode(settings, each).value === 'entra');

/** Whether the gateway needs tokens of its own identity. */
export const usesIdentity = (settings: Settings): boolean =>
  usesEntra(settings) || settings.values.APIM_GATEWAY_LOGS_INGEST_URI !== undefined;

/** The client id of the user-assigned identity. Older names of the setting are used if it is not set. */
export const identityClientId = ({ values }: Settings): Effective<string | undefined> =>
  own(values.AZURE_CLIENT_ID) ??
  following('IDENTITY_CLIENT_ID', values.IDENTITY_CLIENT_ID) ??
  following('MSI_CLIENT_ID', values.MSI_CLIENT_ID) ??
  NOTHING;

/** The client id of the identity as the default of a more specific setting. */
const fromIdentity = (settings: Settings): Effective<string | undefined> => {
  const { value, follows = 'AZURE_CLIENT_ID' } = identityClientId(settings);
  return following(follows, value) ?? NOTHING;
};

/** The client id for backends that use Entra ID. */
export const backendsClientId = (settings: Settings): Effective<string | undefined> =>
  own(settings.values.AZURE_OPENAI_MSI_CLIENT_ID) ?? fromIdentity(settings);

/** The client id for one backend. */
export const backendClientId = (settings: Settings, backend: BackendValues): Effective<string | undefined> =>
  own(backend.MSI_CLIENT_ID) ??
  following('AZURE_OPENAI_MSI_CLIENT_ID', settings.values.AZURE_OPENAI_MSI_CLIENT_ID) ??
  fromIdentity(settings);

/** The platform's token endpoint. The order must match `genai/identity/entra.lua`, which reads it at run time. */
const platformEndpoint = ({ values }: Settings): Effective<string> | undefined =>
  following('MSI_ENDPOINT', values.MSI_ENDPOINT) ?? following('IDENTITY_ENDPOINT', values.IDENTITY_ENDPOINT);

/** Whether tokens come from a workload identity file, because the platform has no token endpoint. */
export const usesTokenFile = (settings: Settings): boolean =>
  settings.values.AZURE_FEDERATED_TOKEN_FILE !== undefined && platformEndpoint(settings) === undefined;

/** The token endpoint for APIM-style records. */
export const recordsTokenEndpoint = (settings: Settings): Effective<string | undefined> =>
  own(settings.values.APIM_GATEWAY_LOGS_MSI_ENDPOINT) ?? platformEndpoint(settings) ?? NOTHING;

/** The header value for that endpoint. */
export const recordsTokenSecret = ({ values }: Settings): Effective<Secret | undefined> =>
  own(values.APIM_GATEWAY_LOGS_MSI_SECRET) ??
  following('IDENTITY_HEADER', values.IDENTITY_HEADER) ??
  following('MSI_SECRET', values.MSI_SECRET) ??
  NOTHING;

/** The client id for the token to Azure Monitor. */
export const recordsClientId = (settings: Settings): Effective<string | undefined> =>
  own(settings.values.APIM_GATEWAY_LOGS_MSI_CLIENT_ID) ?? fromIdentity(settings);

/** Whether a use of the token file lacks a client id; undefined if nothing uses the token file. */
export function tokenFileUse(settings: Settings): { readonly lacksClient: boolean } | undefined {
  if (!usesTokenFile(settings)) return undefined;
  const { APIM_GATEWAY_LOGS_INGEST_URI: uri, APIM_GATEWAY_LOGS_MSI_ENDPOINT: endpoint } = settings.values;
  const clients = [
    ...settings.backends
      .filter((each) => backendAuthMode(settings, each).value === 'entra')
      .map((each) => backendClientId(settings, each).value),
    ...(uri !== undefined && endpoint === undefined ? [recordsClientId(settings).value] : []),
  ];
  return clients.length === 0 ? undefined : { lacksClient: clients.includes(undefined) };
}

/** The destination of APIM-style records. */
export interface Ingestion {
  readonly uri: string;
  /** The audience of its tokens. */
  readonly resource: string;
}

const STREAM_PATH = /^(.*\/dataCollectionRules\/[^/]+)(?:\/streams(?:\/([^/]+))?)?\/?$/i;
const INGESTION_VERSION = '2023-01-01';
/** Azure's sovereign clouds. All other names, also private ones, count as the public cloud. */
const SOVEREIGN_CLOUD = /\.monitor\.azure\.(us|cn)$/i;

/** The stream for records. A stream in the URI has precedence. */
export function recordsStream({ values }: Settings): Effective<string> {
  const [address = ''] = values.APIM_GATEWAY_LOGS_INGEST_URI?.split('?') ?? [];
  const [, , named] = STREAM_PATH.exec(address) ?? [];
  return following('APIM_GATEWAY_LOGS_INGEST_URI', named) ?? { value: values.APIM_GATEWAY_LOGS_STREAM };
}

/** Undefined if the URI is not the logs ingestion URI of a data collection rule. */
export function ingestion(settings: Settings): Ingestion | undefined {
  const uri = settings.values.APIM_GATEWAY_LOGS_INGEST_URI;
  if (uri === undefined) return undefined;
  const [address = '', query = ''] = uri.split('?');
  const [, rule] = STREAM_PATH.exec(address) ?? [];
  if (rule === undefined) return undefined;
  const parameters = query.split('&').filter((each) => each !== '');
  if (!parameters.some((each) => /^api-version=./i.test(each)))
    parameters.push(`api-version=${INGESTION_VERSION}`);
  const [, cloud = 'com'] = SOVEREIGN_CLOUD.exec(new URL(uri).hostname) ?? [];
  return {
    uri: `${rule}/streams/${recordsStream(settings).value}?${parameters.join('&')}`,
    resource: `https://monitor.azure.${cloud.toLowerCase()}`,
  };
}

/** The limit of the high lane. The older name is used if it is not set. */
export const highLaneLimit = ({ values, sources }: Settings): Effective<number> =>
  (sources.has('AI_RATE_LIMIT_HIGH_LIMIT')
    ? undefined
    : following('AI_RATE_LIMIT_LIMIT', values.AI_RATE_LIMIT_LIMIT)) ?? {
    value: values.AI_RATE_LIMIT_HIGH_LIMIT,
  };

/** `req` applies only to lanes. If the lanes are off, token budgets of clients still count tokens. */
export const limitStrategy = ({ values }: Settings) =>
  values.ENABLE_AI_RATE_LIMIT || values.AI_RATE_LIMIT_STRATEGY !== 'req'
    ? { value: values.AI_RATE_LIMIT_STRATEGY }
    : { value: 'total_tokens' as const, follows: 'ENABLE_AI_RATE_LIMIT' };

/** Whether limits of requests count by client or by IP address. */
export const requestKey = ({ values }: Settings): Effective<'client' | 'ip'> =>
  own(values.RATE_LIMIT_KEY) ?? {
    value: values.GATEWAY_REQUIRE_AUTH ? 'client' : 'ip',
    follows: 'GATEWAY_REQUIRE_AUTH',
  };

const RETRY_PRESETS = { http_429: [408, 429], http_5xx: [500, 502, 503, 504, 529] } as const;

/** The statuses of AI_PROXY_FALLBACK_STRATEGY. */
export const presetStatuses = ({ values }: Settings): readonly number[] =>
  ascending(
    values.AI_PROXY_FALLBACK_STRATEGY.flatMap((each) =>
      each === 'instance_health_and_rate_limiting'
        ? [...RETRY_PRESETS.http_429, ...RETRY_PRESETS.http_5xx]
        : RETRY_PRESETS[each],
    ),
  );

/** The statuses that lead to the next attempt, ascending. */
export const retryStatuses = (settings: Settings): Effective<readonly number[]> =>
  settings.values.AI_PROXY_RETRY_STATUSES === undefined
    ? { value: presetStatuses(settings), follows: 'AI_PROXY_FALLBACK_STRATEGY' }
    : { value: ascending(settings.values.AI_PROXY_RETRY_STATUSES) };

const ascending = (statuses: readonly number[]): readonly number[] =>
  [...new Set(statuses)].sort((a, b) => a - b);

/** How long a backend may think before the first byte of its answer, in milliseconds. */
export const firstByteTimeout = ({ values }: Settings): Effective<number> =>
  own(values.AI_PROXY_FIRST_BYTE_TIMEOUT) ?? {
    value: values.AI_PROXY_READ_TIMEOUT,
    follows: 'AI_PROXY_READ_TIMEOUT',
  };

/** The cooldown of a backend whose answer gives no delay, at most AI_PROXY_COOLDOWN_MAX. */
export const cooldown = ({ values }: Settings): Effective<number> =>
  values.AI_PROXY_COOLDOWN > values.AI_PROXY_COOLDOWN_MAX
    ? { value: values.AI_PROXY_COOLDOWN_MAX, follows: 'AI_PROXY_COOLDOWN_MAX' }
    : { value: values.AI_PROXY_COOLDOWN };

/** The pools of the settings, and those of the test mode. */
export const allPools = (settings: Settings): readonly PoolValues[] => [
  ...settings.pools,
  ...testPools(settings),
];

/** Whether answers name their backend. The scenarios of the test mode read that. */
export const backendHeader = ({ values, sources }: Settings): Effective<boolean> =>
  values.GATEWAY_E2E_TEST_MODE && !sources.has('GATEWAY_BACKEND_HEADER')
    ? { value: true, follows: 'GATEWAY_E2E_TEST_MODE' }
    : { value: values.GATEWAY_BACKEND_HEADER };

/** The path prefix of a pool. */
export const poolPath = (_: Settings, pool: PoolValues): Effective<string | undefined> =>
  own(pool.PATH) ?? following(`GATEWAY_POOL_NAME_${pool.index}`, pool.NAME && `/${pool.NAME}`) ?? NOTHING;

/** A backend of a pool with its priority and weight there. */
export interface Member extends PoolBackend {
  readonly priority: number;
  readonly weight: number;
}

/** The backends of a pool, with the priorities and weights that they have there. Unknown names are left out. */
export function poolBackends(settings: Settings, pool: PoolValues): Effective<readonly Member[]> {
  const { BACKENDS: listed } = pool;
  const all = settings.backends.map((each) => ({
    name: backendName(settings, each).value,
    priority: each.PRIORITY,
    weight: each.WEIGHT,
  }));
  if (listed === undefined) return { value: all };
  return {
    value: listed.flatMap(({ name, priority, weight }) => {
      const own = all.find((each) => each.name.toLowerCase() === name.toLowerCase());
      return own
        ? [{ name: own.name, priority: priority ?? own.priority, weight: weight ?? own.weight }]
        : [];
    }),
  };
}

/** The algorithm by which a pool chooses a backend. */
export const poolAlgorithm = ({ values }: Settings, pool: PoolValues): Effective<Algorithm> =>
  own(pool.LB_ALG) ?? { value: values.LB_ALG, follows: 'LB_ALG' };

/** Whether the plain paths or a pool use an algorithm. */
export const usesAlgorithm = (settings: Settings, algorithm: Algorithm): boolean =>
  settings.values.LB_ALG === algorithm ||
  allPools(settings).some((pool) => poolAlgorithm(settings, pool).value === algorithm);

/** Whether the plain paths or a pool follow an order that a request sets. */
export const usesPreferred = (settings: Settings): boolean => usesAlgorithm(settings, 'preferred');

/** The statuses that lead to the next attempt in a pool, ascending. */
export function poolRetryStatuses(settings: Settings, pool: PoolValues): Effective<readonly number[]> {
  if (pool.RETRY_STATUSES !== undefined) return { value: ascending(pool.RETRY_STATUSES) };
  const { value, follows = 'AI_PROXY_RETRY_STATUSES' } = retryStatuses(settings);
  return { value, follows };
}

/** Most attempts for one request of a pool; undefined: one at each backend. */
export const poolMaxAttempts = ({ values }: Settings, pool: PoolValues): Effective<number | undefined> =>
  own(pool.MAX_ATTEMPTS) ?? following('AI_PROXY_MAX_ATTEMPTS', values.AI_PROXY_MAX_ATTEMPTS) ?? NOTHING;

/** The length of the cooldowns that requests of a pool begin, at most AI_PROXY_COOLDOWN_MAX; undefined: as elsewhere. */
export const poolCooldown = ({ values }: Settings, pool: PoolValues): Effective<number | undefined> =>
  pool.COOLDOWN !== undefined && pool.COOLDOWN > values.AI_PROXY_COOLDOWN_MAX
    ? { value: values.AI_PROXY_COOLDOWN_MAX, follows: 'AI_PROXY_COOLDOWN_MAX' }
    : { value: pool.COOLDOWN };

/**
 * Headers that OpenAI SDKs and clients of the gateway send. Browsers do not accept `*` for them together with
 * credentials.
 */
const SDK_HEADERS = [
  'Authorization',
  'Content-Type',
  'Accept',
  'api-key',
  'x-api-key',
  'ocp-apim-subscription-key',
  'x-priority',
  'X-Request-ID',
  'OpenAI-Beta',
  'x-stainless-arch',
  'x-stainless-lang',
  'x-stainless-os',
  'x-stainless-package-version',
  'x-stainless-retry-count',
  'x-stainless-runtime',
  'x-stainless-runtime-version',
  'x-stainless-timeout',
  'x-stainless-helper-method',
  'x-ms-client-request-id',
] as const;

/** The request headers that web pages may send. `*` does not include Authorization, which must be named. */
export function corsRequestHeaders({ values }: Settings): Effective<readonly string[]> {
  const given = values.CORS_ALLOW_HEADERS;
  if (given !== undefined) return { value: given.includes('*') ? [...given, 'authorization'] : given };
  return {
    value: values.CORS_ALLOW_CREDENTIALS ? SDK_HEADERS : ['*', 'authorization'],
    follows: 'CORS_ALLOW_CREDENTIALS',
  };
}

/** The accepted audiences of tokens, those of the gateway's own client id first. */
export function tokenAudiences({ values }: Settings): Effective<readonly string[]> {
  const { OIDC_CLIENT_ID: clientId, OIDC_AUDIENCES: listed } = values;
  // Entra ID uses the second form in tokens of version 1.
  const ofGateway = clientId === undefined ? [] : [clientId, `api://${clientId}`];
  if (clientId !== undefined && listed === undefined) return { value: ofGateway, follows: 'OIDC_CLIENT_ID' };
  return { value: [...new Set([...ofGateway, ...(listed ?? []).flatMap(withAndWithoutSlash)])] };
}

/** Azure's services accept both forms of their URL, and SDKs request either. */
function withAndWithoutSlash(audience: string): string[] {
  if (!/^[a-z][a-z0-9+.-]*:\/\/./i.test(audience)) return [audience];
  const bare = audience.replace(/\/+$/, '');
  return [bare, `${bare}/`];
}

const SAMPLE_RATES = { prod: 0.1, test: 0.5, dev: 1 } as const;

/** The share of recorded traces. */
export const sampleRate = ({ values }: Settings): Effective<number> =>
  own(values.OTEL_SAMPLE_RATE) ?? {
    value: SAMPLE_RATES[values.GATEWAY_LOG_MODE],
    follows: 'GATEWAY_LOG_MODE',
  };

/** Whether the collector prints all telemetry. */
export const debugExporter = ({ values }: Settings): Effective<boolean> =>
  own(values.ENABLE_DEBUG_EXPORTER) ?? {
    value: values.GATEWAY_LOG_MODE === 'dev',
    follows: 'GATEWAY_LOG_MODE',
  };
