/** What the templates of apisix.yaml and config.yaml read beside the model itself. */
import type { Backend, BackendCredential, GatewayModel, Limits } from '../model/model.ts';
import type { Secret } from '../settings/secret.ts';
import { SECRETS_ITEM } from './references.ts';

interface LimitRule {
  readonly key: string;
  readonly count: number | string;
  readonly time_window: number | string;
  readonly header_prefix: string;
}

/**
 * Variables that azure-openai-proxy registers; each is nil where it does not apply, and the limiter then skips its
 * rule. One variable a rule: the limiter skips a rule only when none of its variables resolves.
 */
const VARIABLE = {
  client: 'genai_client',
  highLane: 'genai_lane_high',
  lowLane: 'genai_lane_low',
  highLaneOfClient: 'genai_lane_high_client',
  lowLaneOfClient: 'genai_lane_low_client',
  clientDay: 'genai_client_day',
  clientDayTokens: 'genai_client_day_tokens',
  clientMinute: 'genai_client_minute',
  clientMinuteTokens: 'genai_client_minute_tokens',
  clientRequests: 'genai_client_requests',
  clientRequestsLimit: 'genai_client_requests_limit',
} as const;

const SECONDS_PER_DAY = 86_400;
const SECONDS_PER_MINUTE = 60;

const variable = (name: string) => `\${${name}}`;

const byWindow = (a: LimitRule, b: LimitRule) => Number(a.time_window) - Number(b.time_window);

/** Charged when the answer is there, and charging stops at the first rule that is used up: the longest window first. */
function tokenRules({ limits, clients }: GatewayModel): readonly LimitRule[] | undefined {
  const rules: LimitRule[] = [];
  if (clients.some((each) => each.tokensPerDay !== undefined)) {
    rules.push({
      key: variable(VARIABLE.clientDay),
      count: variable(VARIABLE.clientDayTokens),
      time_window: SECONDS_PER_DAY,
      header_prefix: 'client-day',
    });
  }
  if (limits.lanes) {
    const { scope, window } = limits.lanes;
    const [high, low] =
      scope === 'client'
        ? [VARIABLE.highLaneOfClient, VARIABLE.lowLaneOfClient]
        : [VARIABLE.highLane, VARIABLE.lowLane];
    rules.push({ key: variable(high), count: limits.lanes.high, time_window: window, header_prefix: 'high' });
    rules.push({ key: variable(low), count: limits.lanes.low, time_window: window, header_prefix: 'low' });
  }
  if (clients.some((each) => each.tokensPerMinute !== undefined)) {
    rules.push({
      key: variable(VARIABLE.clientMinute),
      count: variable(VARIABLE.clientMinuteTokens),
      time_window: SECONDS_PER_MINUTE,
      header_prefix: 'client-minute',
    });
  }
  return nonEmpty(rules.sort((a, b) => byWindow(b, a)));
}

const requestKey = (limits: Limits) => (limits.requestKey === 'client' ? VARIABLE.client : 'remote_addr');

/** Counted before they are let through, until a rule refuses: the shortest window first, so that it spares the others. */
function countRules({ limits, clients }: GatewayModel): readonly LimitRule[] | undefined {
  const rules: LimitRule[] = [];
  if (limits.requestQuota) {
    const { count, window } = limits.requestQuota;
    // A prefix of its own keeps the quota's counter apart from that of another rule with the same variable.
    rules.push({
      key: `quota#${variable(requestKey(limits))}`,
      count,
      time_window: window,
      header_prefix: 'quota',
    });
  }
  if (clients.some((each) => each.requestsPerMinute !== undefined)) {
    rules.push({
      key: variable(VARIABLE.clientRequests),
      count: variable(VARIABLE.clientRequestsLimit),
      time_window: SECONDS_PER_MINUTE,
      header_prefix: 'client-requests',
    });
  }
  return nonEmpty(rules.sort(byWindow));
}

const hasLimits = (model: GatewayModel): boolean =>
  (tokenRules(model) ?? countRules(model) ?? model.limits.requestRate) !== undefined;

/** The setting whose file the gateway reads when it runs; undefined: what it needs stands elsewhere. */
const settingOfFile = ({ server }: GatewayModel, secret: Secret | undefined): string | undefined =>
  server.secrets === 'reference' && secret?.file !== undefined ? secret.variable : undefined;

/** Paths of the files that the gateway reads when it runs, by setting; in the order of the document. */
export function apisixSecretFiles(model: GatewayModel): Record<string, string> {
  const { backends, clients, affinity, limits } = model;
  const secrets = [
    affinity.redis?.password,
    ...backends.map(({ credential }) => (credential.kind === 'api-key' ? credential.key : undefined)),
    hasLimits(model) ? limits.redis?.password : undefined,
    ...clients.flatMap(({ key, secondaryKey }) => [key, secondaryKey]),
  ];
  return Object.fromEntries(
    secrets.flatMap((secret) =>
      secret?.file !== undefined && settingOfFile(model, secret) ? [[secret.variable, secret.file]] : [],
    ),
  );
}

/** What azure-openai-proxy must know of a backend beyond its instance; undefined where that is nothing. */
function backendDetails(model: GatewayModel, backend: Backend): object | undefined {
  const { name, region, deployments, credential } = backend;
  const keySetting = credential.kind === 'api-key' ? settingOfFile(model, credential.key) : undefined;
  const details = {
    ...(keySetting === undefined ? {} : { key_setting: keySetting }),
    ...(credential.kind === 'entra' ? { identity: identity(credential) } : {}),
    ...(region === undefined ? {} : { region }),
    ...(deployments
      ? { deployments: Object.fromEntries(deployments.map((each) => [each.name, each.backendName])) }
      : {}),
  };
  return Object.keys(details).length > 0 ? { name, ...details } : undefined;
}

const identity = ({ resource, clientId }: Extract<BackendCredential, { kind: 'entra' }>) => ({
  resource,
  ...(clientId === undefined ? {} : { client_id: clientId }),
});

/** The words ai-proxy-multi has for a set of statuses; azure-openai-proxy has the set itself. */
function fallbackStrategy(statuses: readonly number[]): string[] {
  return [
    ...(statuses.some((each) => each < 500) ? ['http_429'] : []),
    ...(statuses.some((each) => each >= 500) ? ['http_5xx'] : []),
  ];
}

/**
 * Fields of the access log. No query string and no credential header: clients put keys in both. Those that only Lua
 * knows are variables of nginx that azure-openai-proxy sets.
 */
const LOG_FIELDS = {
  time: '$time_iso8601',
  request_id: '$apisix_request_id',
  trace_id: '$genai_trace_id',
  method: '$request_method',
  path: '$uri',
  api_version: '$genai_api_version',
  status: '$status',
  duration_s: '$request_time',
  client_ip: '$remote_addr',
  client: '$genai_client',
  lane: '$genai_lane',
  operation: '$genai_operation',
  requested_model: '$genai_requested_model',
  model: '$genai_model',
  backend: '$genai_backend',
  region: '$genai_region',
  attempts: '$genai_attempts',
  failover: '$genai_failover',
  affinity: '$genai_affinity',
  limiter: '$genai_limiter',
  error: '$genai_error',
  error_source: '$genai_error_source',
  bytes_in: '$request_length',
  bytes_out: '$bytes_sent',
  upstream: '$upstream_addr',
  upstream_status: '$upstream_status',
  request_type: '$request_type',
  time_to_first_token_ms: '$llm_time_to_first_token',
  prompt_tokens: '$llm_prompt_tokens',
  completion_tokens: '$llm_completion_tokens',
  cached_tokens: '$llm_cache_read_input_tokens',
  reasoning_tokens: '$llm_reasoning_tokens',
  estimated_tokens: '$genai_estimated_tokens',
} as const;

const DETAILED_LOG_FIELDS = {
  host: '$host',
  protocol: '$server_protocol',
  user_agent: '$http_user_agent',
  upstream_time_ms: '$apisix_upstream_response_time',
  stream: '$llm_stream',
  route: '$genai_route',
} as const;

/** Variables of nginx that only Lua sets. */
const LUA_LOG_VARIABLES = Object.values({ ...LOG_FIELDS, ...DETAILED_LOG_FIELDS })
  .filter((variable) => variable.startsWith('$genai_'))
  .map((variable) => variable.slice(1));

function logFields(model: GatewayModel): Record<string, string> {
  return model.telemetry.mode === 'prod' ? LOG_FIELDS : { ...LOG_FIELDS, ...DETAILED_LOG_FIELDS };
}

/** Metrics that have a series for each client; those of the first list have many, one for each bound or kind. */
const HISTOGRAMS = [
  'http_latency',
  'bandwidth',
  'llm_latency',
  'llm_prompt_tokens_dist',
  'llm_completion_tokens_dist',
  'llm_active_connections',
] as const;
const COUNTERS = ['http_status', 'llm_prompt_tokens', 'llm_completion_tokens'] as const;

/**
 * The exporter remembers the names of 1,000 series of a metric and makes them anew when there are more, which then is
 * most of what a request costs.
 */
const MAX_CLIENTS_TIMES_BACKENDS = { histograms: 200, counters: 5_000 } as const;

/** Whether there are so many clients that metrics of this kind leave them out; logs still have them. */
function hasTooManyClientsFor(kind: keyof typeof MAX_CLIENTS_TIMES_BACKENDS, model: GatewayModel): boolean {
  const { clients, backends, authentication } = model;
  // Those who come with a token are one client there.
  const combinations = (clients.length + (authentication.oidc ? 1 : 0)) * backends.length;
  return combinations > MAX_CLIENTS_TIMES_BACKENDS[kind];
}

/** Metrics of APISIX that leave the client out. */
function metricsWithoutClient(model: GatewayModel): Record<string, string[]> | undefined {
  const metrics = [
    ...(hasTooManyClientsFor('histograms', model) ? HISTOGRAMS : []),
    ...(hasTooManyClientsFor('counters', model) ? COUNTERS : []),
  ];
  return metrics.length > 0 ? Object.fromEntries(metrics.map((metric) => [metric, ['consumer']])) : undefined;
}

/** What the gateway's own metrics have to know; undefined where that is nothing. */
function ownMetrics(model: GatewayModel): object | undefined {
  const { telemetry, clients } = model;
  const priced = telemetry.metrics.prices.map((each) => each.model);
  // Those of backends' deployments are known; without prices, so are those that backends answer by.
  const listed = clients.flatMap(({ models = [] }) => models.filter((name) => !name.includes('*')));
  const models = priced.length > 0 ? [...new Set([...priced, ...listed])] : undefined;
  const withoutClient = hasTooManyClientsFor('counters', model);
  if (models === undefined && !withoutClient) return undefined;
  return {
    ...(models === undefined ? {} : { models }),
    ...(withoutClient ? { without_client: true } : {}),
  };
}

/** What the templates of apisix.yaml read. */
export function apisixView(model: GatewayModel): object {
  const { limits, failover, balancing, affinity } = model;
  const secretFiles = apisixSecretFiles(model);
  const byLatency = balancing.algorithm === 'latency';
  return {
    ...model,
    // ai-proxy-multi has no such algorithm.
    poolBalancer: !byLatency,
    ownBalancer: byLatency ? balancing.algorithm : undefined,
    limits: {
      ...limits,
      tokenRules: tokenRules(model),
      countRules: countRules(model),
      requestRateKey: requestKey(limits),
      any: hasLimits(model),
      passwordSetting: settingOfFile(model, limits.redis?.password),
    },
    affinityPasswordSetting: settingOfFile(model, affinity.redis?.password),
    backendDetails: nonEmpty(
      model.backends.map((each) => backendDetails(model, each)).filter((each) => each !== undefined),
    ),
    secrets: Object.keys(secretFiles).length > 0 ? { id: SECRETS_ITEM, files: secretFiles } : undefined,
    fallbackStrategy: fallbackStrategy(failover.retryStatuses),
    maxRetries: failover.maxAttempts === undefined ? undefined : { count: failover.maxAttempts - 1 },
    ownMetrics: ownMetrics(model),
    metricsWithoutClient: metricsWithoutClient(model),
    accessLogFields: logFields(model),
  };
}

const nonEmpty = <T>(list: readonly T[]): readonly T[] | undefined => (list.length > 0 ? list : undefined);

/**
 * Bounds of histograms; of times in milliseconds, up to ten minutes: reasoning models take their time. Each bound is a
 * series for each combination of labels, and counting is most of what a request costs beside its bytes.
 */
const BUCKETS = {
  latency: [10, 100, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 600_000],
  modelLatency: [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000],
  promptTokens: [100, 500, 2000, 10_000, 50_000, 200_000, 1_000_000],
  completionTokens: [10, 100, 500, 2000, 10_000, 50_000, 200_000],
} as const;

/** Metrics of APISIX that have further labels: lanes and operations are few. */
const EXTRA_LABELS = Object.fromEntries(
  ['http_status', 'http_latency', 'llm_latency', 'llm_prompt_tokens', 'llm_completion_tokens'].map(
    (metric) => [metric, { extra_labels: [{ lane: '$genai_lane' }, { operation: '$genai_operation' }] }],
  ),
);

/** What the template of config.yaml reads. */
export function configView(model: GatewayModel): object {
  const { telemetry, limits } = model;
  const used: readonly [plugin: string, used: unknown][] = [
    ['azure-openai-errors', true],
    ['request-id', true],
    ['prometheus', true],
    ['azure-openai-auth', true],
    ['azure-openai-proxy', true],
    ['ai-proxy-multi', true],
    ['azure-openai-limits', hasLimits(model)],
    ['ai-rate-limiting', tokenRules(model)],
    ['limit-req', limits.requestRate],
    ['limit-count', countRules(model)],
    ['cors', model.cors],
    ['ip-restriction', model.ipRestriction],
    ['response-rewrite', model.hardenResponses],
    ['azure-openai-traces', telemetry.traces],
    ['file-logger', telemetry.accessLogPath],
    ['apim-gateway-logger', telemetry.apimRecords],
  ];
  return {
    ...model,
    plugins: used.filter(([, isUsed]) => isUsed).map(([plugin]) => plugin),
    workers: model.server.workers === 'auto' ? 'auto' : Number(model.server.workers),
    buckets: BUCKETS,
    extraLabels: EXTRA_LABELS,
    accessLogFormat: accessLogFormat(model),
    luaVariables: luaVariables(),
  };
}

/**
 * Variables that are empty where no Lua comes to set them. Lua may set only those that something is made of, and not
 * every log has all of them: hence the last one, which nobody asks for.
 */
function luaVariables(): string {
  const all = LUA_LOG_VARIABLES.map((name) => `$${name}`);
  return [...all.map((name) => [`""`, name]), [`"${all.join('')}"`, '$genai_all']]
    .map(([source, name]) => `map ${source} ${name} { default ""; }\n`)
    .join('');
}

/** nginx writes the variables into the text with JSON escaping, so the text is JSON around them. */
function accessLogFormat(model: GatewayModel): string {
  return `{${Object.entries(logFields(model))
    .map(([name, value]) => `"${name}":"${value}"`)
    .join(',')}}`;
}
