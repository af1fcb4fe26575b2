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

/** What the gateway's own metrics have to know; undefined where that is nothing. */
function ownMetrics(model: GatewayModel): object | undefined {
  const { telemetry, clients } = model;
  const priced = telemetry.metrics.prices.map((each) => each.model);
  // Those of backends' deployments are known; without prices, so are those that backends answer by.
  const listed = clients.flatMap(({ models = [] }) => models.filter((name) => !name.includes('*')));
  const models = priced.length > 0 ? [...new Set([...priced, ...listed])] : undefined;
  return models === undefined ? undefined : { models };
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
    accessLogFields: logFields(model),
  };
}

const nonEmpty = <T>(list: readonly T[]): readonly T[] | undefined => (list.length > 0 ? list : undefined);

const KIB = 1024;
const MIB = 1024 ** 2;

/** What the default of GATEWAY_METRICS_MEMORY has room for: 100 clients, 20 models, 10 backends and 5 operations. */
const METRICS_AT_40_MIB = { lines: 25_000, bytes: 5_000_000 } as const;

/** How the memory for metrics is divided, and how large the page may become. `bench:gateway metrics` measures it. */
function metricsBudget({ telemetry }: GatewayModel): object {
  const memory = telemetry.metrics.memory;
  const part = memory / (40 * MIB);
  const bytes = Math.floor(METRICS_AT_40_MIB.bytes * part);
  // The old page and the new one, and what nginx itself needs.
  const page = Math.ceil((2.06 * bytes) / KIB) + 512;
  return {
    lines: Math.floor(METRICS_AT_40_MIB.lines * part),
    bytes,
    page: `${page}k`,
    values: `${Math.floor(memory / KIB) - page}k`,
  };
}

/** What the template of config.yaml reads. */
export function configView(model: GatewayModel): object {
  const { telemetry, limits } = model;
  const used: readonly [plugin: string, used: unknown][] = [
    ['azure-openai-errors', true],
    ['request-id', true],
    ['prometheus', true],
    ['azure-openai-metrics', true],
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
    metricsBudget: metricsBudget(model),
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
