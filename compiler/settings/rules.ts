/** Rules over several settings. Each is one named function; all of them run, whatever the others found. */
import type { CatalogArgs, DiagnosticCode } from '../diagnostics/catalog.ts';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import type { BackendValues, ClientValues, PlainName } from './declarations/index.ts';
import type { Settings } from './parse.ts';
import type { Secret } from './secret.ts';

interface RuleContext extends Settings {
  /** Whether the variable was given at all, usable or not: a rule about absence must not follow one about the value. */
  given(name: string): boolean;
  /** Whether a variable that need not be ours is set. */
  hasVariable(name: string): boolean;
  report<C extends DiagnosticCode>(code: C, setting: string, args: CatalogArgs<C>, received?: string): void;
}
type Rule = (context: RuleContext) => void;

export const RETRY_PRESETS = { http_429: [408, 429], http_5xx: [500, 502, 503, 504] } as const;

/** Runs every rule; `hasVariable` tells of variables that are not ours, which some hints need. */
export function checkRules(settings: Settings, hasVariable: (name: string) => boolean): Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  const context: RuleContext = {
    ...settings,
    given: (name) => settings.sources.has(name),
    hasVariable,
    report: (code, setting, args, received) =>
      diagnostics.push(diagnostic(code, { setting, source: settings.sources.get(setting), received }, args)),
  };
  for (const rule of RULES) rule(context);
  return diagnostics;
}

const backendVariable = (field: keyof BackendValues, { index }: BackendValues) =>
  `AZURE_OPENAI_${field.toUpperCase()}_${index}`;
const clientVariable = (field: keyof ClientValues, { index }: ClientValues) =>
  `GATEWAY_CLIENT_${field.toUpperCase()}_${index}`;

/** The name of a backend that was not given one: of its index, so that removing another backend renames nothing. */
export const backendName = (backend: BackendValues): string => backend.NAME ?? `backend-${backend.index}`;

/** How a backend signs in, or undefined where nothing says. */
export const backendAuthMode = (
  backend: BackendValues,
  settings: Settings,
): 'api-key' | 'entra' | undefined =>
  backend.AUTH_MODE ?? (backend.KEY ? 'api-key' : settings.values.AZURE_OPENAI_AUTH_MODE);

const atLeastOneBackend: Rule = ({ backends, hasVariable, report }) => {
  if (backends.length === 0)
    report('NO_BACKEND', 'AZURE_OPENAI_ENDPOINT_0', { unindexed: hasVariable('AZURE_OPENAI_ENDPOINT') });
  else if (backends.every((each) => each.WEIGHT === 0)) {
    report('ALL_BACKENDS_DRAINED', `AZURE_OPENAI_WEIGHT_${backends[0]?.index}`, {});
  }
};

const backendFieldsNeedEndpoint: Rule = ({ backends, given, report }) => {
  for (const backend of backends) {
    const endpoint = backendVariable('ENDPOINT', backend);
    if (given(endpoint)) continue;
    for (const field of [
      'KEY',
      'NAME',
      'PRIORITY',
      'WEIGHT',
      'AUTH_MODE',
      'TOKEN_RESOURCE',
      'MSI_CLIENT_ID',
      'DEPLOYMENTS',
      'REGION',
    ] as const) {
      const variable = backendVariable(field, backend);
      if (given(variable)) report('BACKEND_WITHOUT_ENDPOINT', variable, { endpoint });
    }
  }
};

const endpointsAreUsable: Rule = ({ backends, report }) => {
  for (const backend of backends) {
    if (!backend.ENDPOINT) continue;
    const variable = backendVariable('ENDPOINT', backend);
    const { insecure, dropped, origin } = backend.ENDPOINT;
    if (insecure) report('ENDPOINT_INSECURE', variable, {}, origin);
    if (dropped !== undefined) report('ENDPOINT_PATH_DROPPED', variable, { dropped, origin });
  }
};

const backendsHaveCredentials: Rule = (context) => {
  const { backends, given, report } = context;
  for (const backend of backends) {
    const key = backendVariable('KEY', backend);
    if (!given(backendVariable('ENDPOINT', backend))) continue;
    const mode = backendAuthMode(backend, context);
    if (mode === 'entra') {
      if (backend.KEY) report('KEY_UNUSED_WITH_ENTRA', key, { index: backend.index });
    } else if (mode === 'api-key') {
      if (!given(key)) {
        report('REQUIRED_SETTING', key, {
          because: `backend ${backend.index} signs in with a key`,
          example: '<key of the resource>',
        });
      }
    } else if (![key, backendVariable('AUTH_MODE', backend), 'AZURE_OPENAI_AUTH_MODE'].some(given)) {
      report('BACKEND_WITHOUT_CREDENTIAL', key, { index: backend.index });
    }
  }
};

const backendNamesAreUnique: Rule = ({ backends, report }) => {
  const seen = new Map<string, string>();
  for (const backend of backends) {
    const name = backendName(backend);
    const variable = backendVariable('NAME', backend);
    const other = seen.get(name.toLowerCase());
    if (other !== undefined) report('DUPLICATE_NAME', variable, { other, name });
    else seen.set(name.toLowerCase(), variable);
  }
};

const backendsAreDifferentResources: Rule = ({ backends, report }) => {
  const seen = new Map<string, string>();
  for (const backend of backends) {
    if (!backend.ENDPOINT) continue;
    const variable = backendVariable('ENDPOINT', backend);
    const identity = `${backend.ENDPOINT.origin} ${backend.KEY?.reveal() ?? `entra ${backend.MSI_CLIENT_ID ?? ''}`}`;
    const other = seen.get(identity);
    if (other !== undefined) report('DUPLICATE_BACKEND', variable, { other });
    else seen.set(identity, variable);
  }
};

const clientsAreContiguous: Rule = ({ clients, report }) => {
  const last = clients.at(-1);
  if (!last || last.index === clients.length - 1) return;
  const present = new Set(clients.map((each) => each.index));
  const missing = Array.from({ length: last.index }, (_, index) => index).filter(
    (index) => !present.has(index),
  );
  report('CLIENT_INDEX_GAP', clientVariable('NAME', last), { missing, highest: last.index });
};

const clientsAreComplete: Rule = ({ clients, given, report }) => {
  for (const client of clients) {
    const fields = [
      'NAME',
      'KEY',
      'KEY_SECONDARY',
      'PRIORITY',
      'MODELS',
      'TOKENS_PER_MINUTE',
      'REQUESTS_PER_MINUTE',
      'TOKENS_PER_DAY',
    ] as const;
    const present = fields.map((field) => clientVariable(field, client)).find(given) ?? '';
    for (const field of ['NAME', 'KEY'] as const) {
      const variable = clientVariable(field, client);
      if (!given(variable)) report('CLIENT_INCOMPLETE', variable, { present });
    }
  }
};

const clientNamesAreUnique: Rule = ({ clients, report }) => {
  const seen = new Map<string, string>();
  for (const client of clients) {
    if (client.NAME === undefined) continue;
    const variable = clientVariable('NAME', client);
    const other = seen.get(client.NAME);
    if (other !== undefined) report('DUPLICATE_NAME', variable, { other, name: client.NAME });
    else seen.set(client.NAME, variable);
  }
};

const MIN_KEY_LENGTH = 16;

const clientKeysAreUniqueAndLong: Rule = ({ clients, values, report }) => {
  const seen = new Map<string, string>();
  const check = (variable: string, key: Secret | undefined) => {
    if (!key) return;
    const other = seen.get(key.reveal());
    if (other !== undefined) report('DUPLICATE_CLIENT_KEY', variable, { other });
    else seen.set(key.reveal(), variable);
    if (key.length < MIN_KEY_LENGTH) report('SHORT_CLIENT_KEY', variable, { length: key.length });
  };
  check('GATEWAY_CLIENT_KEY', values.GATEWAY_CLIENT_KEY);
  for (const client of clients) {
    check(clientVariable('KEY', client), client.KEY);
    check(clientVariable('KEY_SECONDARY', client), client.KEY_SECONDARY);
  }
};

const oneWayOfNamingClients: Rule = ({ clients, given, report }) => {
  const [first] = clients;
  if (!first || !given('GATEWAY_CLIENT_KEY')) return;
  const indexed =
    [clientVariable('NAME', first), clientVariable('KEY', first)].find(given) ??
    `clients with index ${first.index}`;
  report('SINGLE_AND_INDEXED_CLIENTS', 'GATEWAY_CLIENT_KEY', { indexed });
};

const authenticationHasClients: Rule = ({ values, clients, given, report }) => {
  if (!values.GATEWAY_REQUIRE_AUTH) report('AUTH_OFF', 'GATEWAY_REQUIRE_AUTH', {});
  else if (clients.length === 0 && !given('GATEWAY_CLIENT_KEY') && !values.ENABLE_OIDC)
    report('NO_CLIENT', 'GATEWAY_CLIENT_NAME_0', {});
  if (!given('GATEWAY_REQUIRE_AUTH')) report('AUTH_REQUIRED_BY_DEFAULT', 'GATEWAY_REQUIRE_AUTH', {});
};

const inlineSecretsAreSaid: Rule = ({ values, report }) => {
  if (values.GATEWAY_SECRETS === 'inline') report('SECRETS_INLINE', 'GATEWAY_SECRETS', {});
};

const notBuiltYet: Rule = ({ values, report }) => {
  if (values.ENABLE_CACHE) report('NOT_BUILT_YET', 'ENABLE_CACHE', { feature: 'the cache of exact answers' });
  if (values.GATEWAY_WATCH)
    report('NOT_BUILT_YET', 'GATEWAY_WATCH', { feature: 'following files at run time' });
};

/** What chash can hash, as APISIX's own schema has it. */
const HASH_KEYS = {
  header: { pattern: /^[A-Za-z0-9_-]+$/, expected: 'a header name', example: 'X-Session-Id' },
  cookie: { pattern: /^[A-Za-z0-9_-]+$/, expected: 'a cookie name', example: 'session' },
  vars: {
    pattern:
      /^(?:uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|arg_[0-9A-Za-z_-]+)$/,
    expected:
      'one of uri, server_name, server_addr, request_uri, remote_port, remote_addr, query_string, host, hostname, arg_NAME',
    example: 'remote_addr',
  },
  vars_combinations: {
    pattern: /\$\w/,
    expected: 'text with variables such as $remote_addr$http_x_session',
    example: '$remote_addr$arg_user',
  },
} as const;

const hashKeyFits: Rule = ({ values, given, report }) => {
  if (values.LB_ALG !== 'chash' || values.LB_HASH_ON === 'consumer') return;
  const { pattern, expected, example } = HASH_KEYS[values.LB_HASH_ON];
  if (!given('LB_HASH_KEY')) {
    report('REQUIRED_SETTING', 'LB_HASH_KEY', {
      because: `LB_HASH_ON=${values.LB_HASH_ON} needs it`,
      example,
    });
  } else if (values.LB_HASH_KEY !== undefined && !pattern.test(values.LB_HASH_KEY)) {
    report(
      'HASH_KEY_INVALID',
      'LB_HASH_KEY',
      { hashOn: values.LB_HASH_ON, expected, example },
      values.LB_HASH_KEY,
    );
  }
};

/** The statuses on which the next backend is tried, ascending. */
export function retryStatuses({ values }: Settings): number[] {
  const strategies = values.AI_PROXY_FALLBACK_STRATEGY ?? ['http_429', 'http_5xx'];
  const presets = strategies.flatMap((each) =>
    each === 'instance_health_and_rate_limiting'
      ? [...RETRY_PRESETS.http_429, ...RETRY_PRESETS.http_5xx]
      : [...RETRY_PRESETS[each]],
  );
  return [...new Set(values.AI_PROXY_RETRY_STATUSES ?? presets)].sort((a, b) => a - b);
}

const retryStatusesAgree: Rule = (context) => {
  const { values, report } = context;
  if (!values.AI_PROXY_FALLBACK_STRATEGY || !values.AI_PROXY_RETRY_STATUSES) return;
  const preset = retryStatuses({ ...context, values: { ...values, AI_PROXY_RETRY_STATUSES: undefined } });
  if (preset.join() !== retryStatuses(context).join()) {
    report('RETRY_STATUSES_CONFLICT', 'AI_PROXY_RETRY_STATUSES', {
      strategy: values.AI_PROXY_FALLBACK_STRATEGY.join(),
      preset,
    });
  }
};

const cooldownFitsItsCap: Rule = ({ values, report }) => {
  if (values.AI_PROXY_COOLDOWN > values.AI_PROXY_COOLDOWN_MAX) {
    report('ABOVE_LIMIT', 'AI_PROXY_COOLDOWN', { other: 'AI_PROXY_COOLDOWN_MAX', effect: 'the cap wins' });
  }
};

const limitsAreComplete: Rule = ({ values, given, report }) => {
  const needs = (name: PlainName, because: string, example: string) => {
    if (!given(name)) report('REQUIRED_SETTING', name, { because, example });
  };
  if (values.ENABLE_RATE_LIMIT) needs('RATE_LIMIT_RATE', 'ENABLE_RATE_LIMIT needs it', '100');
  if (values.ENABLE_QUOTA) {
    needs('QUOTA_COUNT', 'ENABLE_QUOTA needs it', '1000');
    needs('QUOTA_TIME_WINDOW', 'ENABLE_QUOTA needs it', '60');
  }
  if (values.AI_RATE_LIMIT_POLICY === 'redis')
    needs('AI_RATE_LIMIT_REDIS_HOST', 'AI_RATE_LIMIT_POLICY=redis needs it', 'redis.internal');
  if (values.ENABLE_AI_RATE_LIMIT && values.AI_RATE_LIMIT_LOW_LIMIT > values.AI_RATE_LIMIT_HIGH_LIMIT) {
    report('ABOVE_LIMIT', 'AI_RATE_LIMIT_LOW_LIMIT', {
      other: 'AI_RATE_LIMIT_HIGH_LIMIT',
      effect: 'the low lane gets more than the high one',
    });
  }
};

const requestsOrTokens: Rule = ({ values, clients, report }) => {
  if (!values.ENABLE_AI_RATE_LIMIT || values.AI_RATE_LIMIT_STRATEGY !== 'req') return;
  for (const client of clients) {
    for (const field of ['TOKENS_PER_MINUTE', 'TOKENS_PER_DAY'] as const) {
      if (client[field] !== undefined)
        report('REQUESTS_AND_TOKENS', 'AI_RATE_LIMIT_STRATEGY', { budget: clientVariable(field, client) });
    }
  }
};

const limitsPerClientNeedClients: Rule = ({ values, report }) => {
  if (values.GATEWAY_REQUIRE_AUTH) return;
  if (values.RATE_LIMIT_KEY === 'client') report('PER_CLIENT_WITHOUT_AUTH', 'RATE_LIMIT_KEY', {});
  if (values.AI_RATE_LIMIT_SCOPE === 'client') report('PER_CLIENT_WITHOUT_AUTH', 'AI_RATE_LIMIT_SCOPE', {});
};

const corsIsConsistent: Rule = ({ values, given, report }) => {
  if (!values.ENABLE_CORS) return;
  if (!given('CORS_ALLOW_ORIGINS')) {
    report('REQUIRED_SETTING', 'CORS_ALLOW_ORIGINS', {
      because: 'ENABLE_CORS needs it',
      example: 'https://app.example.com',
    });
  }
  for (const name of [
    'CORS_ALLOW_ORIGINS',
    'CORS_ALLOW_METHODS',
    'CORS_ALLOW_HEADERS',
    'CORS_EXPOSE_HEADERS',
  ] as const) {
    const list = values[name];
    if (!list?.includes('*')) continue;
    if (values.CORS_ALLOW_CREDENTIALS)
      report('CORS_WILDCARD', name, { reason: 'browsers refuse it together with CORS_ALLOW_CREDENTIALS' });
    else if (list.length > 1) report('CORS_WILDCARD', name, { reason: 'it stands beside other values' });
  }
};

const exactlyOneIpList: Rule = ({ values, given, report }) => {
  if (!values.ENABLE_IP_RESTRICTION) return;
  const lists = ['IP_WHITELIST', 'IP_BLACKLIST'].filter(given).length;
  if (lists !== 1) report('IP_LISTS', 'ENABLE_IP_RESTRICTION', { both: lists === 2 });
};

const oidcIsComplete: Rule = ({ values, given, report }) => {
  if (!values.ENABLE_OIDC) return;
  const examples = {
    OIDC_CLIENT_ID: '<client id>',
    OIDC_CLIENT_SECRET: '<client secret>',
    OIDC_DISCOVERY_URL: 'https://<issuer>/.well-known/openid-configuration',
    OIDC_REDIRECT_URI: 'https://<gateway>/callback',
  } as const;
  for (const [name, example] of Object.entries(examples)) {
    if (!given(name)) report('REQUIRED_SETTING', name, { because: 'ENABLE_OIDC needs it', example });
  }
};

const telemetryIsConsistent: Rule = ({ values, report }) => {
  if (values.PROMETHEUS_SCRAPE_TIMEOUT >= values.PROMETHEUS_SCRAPE_INTERVAL) {
    report('NOT_BELOW', 'PROMETHEUS_SCRAPE_TIMEOUT', { other: 'PROMETHEUS_SCRAPE_INTERVAL' });
  }
  if (values.OTEL_MEMORY_SPIKE_MIB >= values.OTEL_MEMORY_LIMIT_MIB) {
    report('NOT_BELOW', 'OTEL_MEMORY_SPIKE_MIB', { other: 'OTEL_MEMORY_LIMIT_MIB' });
  }
  if (/\/api\/v1\/write\/?$/.test(values.AZURE_MONITOR_WORKSPACE_ENDPOINT ?? '')) {
    report(
      'REMOTE_WRITE_PATH',
      'AZURE_MONITOR_WORKSPACE_ENDPOINT',
      {},
      values.AZURE_MONITOR_WORKSPACE_ENDPOINT,
    );
  }
};

/** A setting that was given although nothing reads it: often a guardrail that its owner believes to be on. */
const settingsHaveAnEffect: Rule = (context) => {
  const { values, sources, report } = context;
  const groups: readonly [unused: boolean, names: RegExp, needs: string][] = [
    [values.LB_ALG !== 'chash', /^LB_HASH_/, 'LB_ALG=chash'],
    [!values.APISIX_ACTIVE_HEALTH_CHECKS, /^APISIX_ACTIVE_HEALTH_CHECK_/, 'APISIX_ACTIVE_HEALTH_CHECKS=true'],
    [
      values.RESPONSES_AFFINITY_REDIS_HOST === undefined,
      /^RESPONSES_AFFINITY_REDIS_(?!HOST)/,
      'RESPONSES_AFFINITY_REDIS_HOST',
    ],
    [
      !values.ENABLE_AI_RATE_LIMIT,
      /^AI_RATE_LIMIT_(?!REDIS|POLICY|REJECT|STRATEGY)/,
      'ENABLE_AI_RATE_LIMIT=true',
    ],
    [values.AI_RATE_LIMIT_POLICY !== 'redis', /^AI_RATE_LIMIT_REDIS_/, 'AI_RATE_LIMIT_POLICY=redis'],
    [!values.ENABLE_RATE_LIMIT, /^RATE_LIMIT_(?!KEY)/, 'ENABLE_RATE_LIMIT=true'],
    [
      !values.ENABLE_RATE_LIMIT && !values.ENABLE_QUOTA,
      /^RATE_LIMIT_KEY$/,
      'ENABLE_RATE_LIMIT=true or ENABLE_QUOTA=true',
    ],
    [!values.ENABLE_QUOTA, /^QUOTA_/, 'ENABLE_QUOTA=true'],
    [!values.ENABLE_CORS, /^CORS_/, 'ENABLE_CORS=true'],
    [!values.ENABLE_IP_RESTRICTION, /^IP_(?:WHITE|BLACK)LIST$/, 'ENABLE_IP_RESTRICTION=true'],
    [!values.ENABLE_OIDC, /^OIDC_/, 'ENABLE_OIDC=true'],
    [!values.ENABLE_CACHE, /^CACHE_TTL$/, 'the cache, which is not built yet'],
    [
      values.APIM_GATEWAY_LOGS_INGEST_URI === undefined,
      /^APIM_GATEWAY_LOGS_(?!INGEST_URI)/,
      'APIM_GATEWAY_LOGS_INGEST_URI',
    ],
    [
      values.AZURE_MONITOR_WORKSPACE_ENDPOINT === undefined,
      /^PROMETHEUS_REMOTE_WRITE_/,
      'AZURE_MONITOR_WORKSPACE_ENDPOINT',
    ],
  ];
  for (const name of sources.keys()) {
    const group = groups.find(([unused, names]) => unused && names.test(name));
    if (group) report('SETTING_WITHOUT_EFFECT', name, { needs: group[2] });
  }
};

const RULES: readonly Rule[] = [
  atLeastOneBackend,
  backendFieldsNeedEndpoint,
  endpointsAreUsable,
  backendsHaveCredentials,
  backendNamesAreUnique,
  backendsAreDifferentResources,
  clientsAreContiguous,
  clientsAreComplete,
  clientNamesAreUnique,
  clientKeysAreUniqueAndLong,
  oneWayOfNamingClients,
  authenticationHasClients,
  inlineSecretsAreSaid,
  notBuiltYet,
  hashKeyFits,
  retryStatusesAgree,
  cooldownFitsItsCap,
  limitsAreComplete,
  requestsOrTokens,
  limitsPerClientNeedClients,
  corsIsConsistent,
  exactlyOneIpList,
  oidcIsComplete,
  telemetryIsConsistent,
  settingsHaveAnEffect,
];
