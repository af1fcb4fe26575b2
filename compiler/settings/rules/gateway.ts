import type { PlainName } from '../declarations/index.ts';
import { ingestion, usesEntra } from '../effective.ts';
import type { Settings } from '../parse.ts';
import type { Rule, RuleContext } from './rule.ts';

const inlineSecretsAreSaid: Rule = ({ values, report }) => {
  if (values.GATEWAY_SECRETS === 'inline') report('SECRETS_INLINE', 'GATEWAY_SECRETS', {});
};

/** Read before any env file is, or by the image's entrypoint alone. */
const ofTheProcessOnly: Rule = ({ sources, report }) => {
  for (const name of ['GATEWAY_ENV_FILES', 'GATEWAY_SHARED_DIR'] as const)
    if (sources.get(name)?.kind === 'file') report('NOT_FROM_ENV_FILE', name, {});
};

/** What the gateway cannot do yet, the variables of this environment that ask for it, and what can stand there. */
interface Unbuilt {
  readonly feature: string;
  readonly askedBy: (context: RuleContext) => readonly string[];
  readonly instead?: string;
}

const on =
  (name: PlainName) =>
  ({ values }: RuleContext) =>
    values[name] === true ? [name] : [];

/** A line goes when its feature is built; the declarations and docs/migration.md say "not built yet" of the same. */
const UNBUILT: readonly Unbuilt[] = [
  { feature: 'the toolkit scenarios', askedBy: on('GATEWAY_E2E_TEST_MODE') },
  { feature: 'the cache of exact answers', askedBy: on('ENABLE_CACHE') },
];

const notBuiltYet: Rule = (context) => {
  for (const { feature, askedBy, instead } of UNBUILT)
    for (const name of askedBy(context)) context.report('NOT_BUILT_YET', name, { feature, instead });
};

/** Where records go, and that the setting for the stream agrees with it. */
const recordsHaveAPlace: Rule = (context) => {
  const { values, given, report } = context;
  const uri = values.APIM_GATEWAY_LOGS_INGEST_URI;
  if (uri === undefined) return;
  const place = ingestion(context);
  if (place === undefined) {
    report('INGESTION_PATH', 'APIM_GATEWAY_LOGS_INGEST_URI', {}, uri);
    return;
  }
  if (/^http:/i.test(uri)) report('INGESTION_INSECURE', 'APIM_GATEWAY_LOGS_INGEST_URI', {}, uri);
  const { APIM_GATEWAY_LOGS_STREAM: stream } = values;
  if (place.namedStream !== undefined && given('APIM_GATEWAY_LOGS_STREAM') && place.namedStream !== stream)
    report('INGESTION_STREAM', 'APIM_GATEWAY_LOGS_STREAM', { named: place.namedStream }, stream);
};

const telemetryIsConsistent: Rule = ({ values, given, report }) => {
  const below = (low: PlainName, high: PlainName) => {
    if (Number(values[low]) >= Number(values[high]))
      report('NOT_BELOW', given(low) ? low : high, { low, high });
  };
  below('PROMETHEUS_SCRAPE_TIMEOUT', 'PROMETHEUS_SCRAPE_INTERVAL');
  if (values.OTEL_MEMORY_LIMIT_MIB !== undefined) below('OTEL_MEMORY_SPIKE_MIB', 'OTEL_MEMORY_LIMIT_MIB');
  const endpoint = values.AZURE_MONITOR_WORKSPACE_ENDPOINT;
  if (endpoint !== undefined && /\/api\/v1\/write\/?(?:\?|$)|\?/.test(endpoint)) {
    report('REMOTE_WRITE_PATH', 'AZURE_MONITOR_WORKSPACE_ENDPOINT', {}, endpoint);
  } else if (
    endpoint !== undefined &&
    /\.prometheus\.monitor\.azure\.(?:com|us|cn)$/i.test(new URL(endpoint).hostname)
  ) {
    report('REMOTE_WRITE_QUERIES', 'AZURE_MONITOR_WORKSPACE_ENDPOINT', {}, endpoint);
  }
};

/** Settings that nothing reads while a switch is off: `names` while `unused`, unless a switch among `switches` is itself wrong. */
interface Unused {
  readonly unused: boolean;
  readonly names: RegExp;
  readonly needs: string;
  readonly switches: readonly PlainName[];
}

const anyTokenLimit = ({ values, clients }: Settings) =>
  values.ENABLE_AI_RATE_LIMIT ||
  clients.some((each) => each.TOKENS_PER_MINUTE !== undefined || each.TOKENS_PER_DAY !== undefined);

const anyLimit = (settings: Settings) =>
  anyTokenLimit(settings) ||
  settings.values.ENABLE_RATE_LIMIT ||
  settings.values.ENABLE_QUOTA ||
  settings.clients.some((each) => each.REQUESTS_PER_MINUTE !== undefined);

function unusedSettings(settings: Settings): Unused[] {
  const { values } = settings;
  const debug = values.ENABLE_DEBUG_EXPORTER ?? values.GATEWAY_LOG_MODE === 'dev';
  const metrics = debug || values.AZURE_MONITOR_WORKSPACE_ENDPOINT !== undefined;
  const when = (unused: boolean, names: RegExp, needs: string, ...switches: PlainName[]): Unused => ({
    unused,
    names,
    needs,
    switches,
  });
  return [
    when(
      !usesEntra(settings) &&
        ![...settings.unusable].some((name) => name.startsWith('AZURE_OPENAI_AUTH_MODE')),
      /^AZURE_OPENAI_(?:TOKEN_RESOURCE|MSI_CLIENT_ID)$/,
      'AZURE_OPENAI_AUTH_MODE_N=entra',
    ),
    when(values.LB_ALG !== 'chash', /^LB_HASH_/, 'LB_ALG=chash', 'LB_ALG'),
    when(
      !values.APISIX_ACTIVE_HEALTH_CHECKS,
      /^APISIX_ACTIVE_HEALTH_CHECK_/,
      'APISIX_ACTIVE_HEALTH_CHECKS=true',
      'APISIX_ACTIVE_HEALTH_CHECKS',
    ),
    when(
      values.RESPONSES_AFFINITY_REDIS_HOST === undefined,
      /^RESPONSES_AFFINITY_REDIS_(?!HOST)/,
      'RESPONSES_AFFINITY_REDIS_HOST',
      'RESPONSES_AFFINITY_REDIS_HOST',
    ),
    when(
      !values.ENABLE_AI_RATE_LIMIT,
      /^AI_RATE_LIMIT_(?:WINDOW|HIGH|LOW|SCOPE|LIMIT)/,
      'ENABLE_AI_RATE_LIMIT=true',
      'ENABLE_AI_RATE_LIMIT',
    ),
    when(
      !anyTokenLimit(settings),
      /^AI_RATE_LIMIT_(?:STRATEGY|REJECT)/,
      'ENABLE_AI_RATE_LIMIT=true or token budgets of clients',
      'ENABLE_AI_RATE_LIMIT',
    ),
    when(
      !anyLimit(settings),
      /^AI_RATE_LIMIT_POLICY$/,
      'a limit to count',
      'ENABLE_AI_RATE_LIMIT',
      'ENABLE_RATE_LIMIT',
      'ENABLE_QUOTA',
    ),
    when(
      values.AI_RATE_LIMIT_POLICY !== 'redis',
      /^AI_RATE_LIMIT_REDIS_/,
      'AI_RATE_LIMIT_POLICY=redis',
      'AI_RATE_LIMIT_POLICY',
    ),
    when(!values.ENABLE_RATE_LIMIT, /^RATE_LIMIT_(?!KEY)/, 'ENABLE_RATE_LIMIT=true', 'ENABLE_RATE_LIMIT'),
    when(
      !values.ENABLE_RATE_LIMIT && !values.ENABLE_QUOTA,
      /^RATE_LIMIT_KEY$/,
      'ENABLE_RATE_LIMIT=true or ENABLE_QUOTA=true',
      'ENABLE_RATE_LIMIT',
      'ENABLE_QUOTA',
    ),
    when(!values.ENABLE_QUOTA, /^QUOTA_/, 'ENABLE_QUOTA=true', 'ENABLE_QUOTA'),
    when(!values.ENABLE_CORS, /^CORS_/, 'ENABLE_CORS=true', 'ENABLE_CORS'),
    when(
      !values.ENABLE_IP_RESTRICTION,
      /^IP_(?:WHITE|BLACK)LIST$/,
      'ENABLE_IP_RESTRICTION=true',
      'ENABLE_IP_RESTRICTION',
    ),
    when(!values.ENABLE_OIDC, /^OIDC_/, 'ENABLE_OIDC=true', 'ENABLE_OIDC'),
    when(!values.ENABLE_CACHE, /^CACHE_TTL$/, 'the cache, which is not built yet'),
    when(
      values.APIM_GATEWAY_LOGS_INGEST_URI === undefined,
      /^(?:APIM_GATEWAY_LOGS_(?!INGEST_URI)|APIM_GATEWAY_ID$|GATEWAY_PRODUCT_ID$)/,
      'APIM_GATEWAY_LOGS_INGEST_URI',
      'APIM_GATEWAY_LOGS_INGEST_URI',
    ),
    when(
      values.AZURE_MONITOR_WORKSPACE_ENDPOINT === undefined,
      /^PROMETHEUS_REMOTE_WRITE_/,
      'AZURE_MONITOR_WORKSPACE_ENDPOINT',
      'AZURE_MONITOR_WORKSPACE_ENDPOINT',
    ),
    when(
      !metrics,
      /^(?:PROMETHEUS_SCRAPE_|MODEL_PRICES$|APISIX_GATEWAY_ENDPOINT$)/,
      'AZURE_MONITOR_WORKSPACE_ENDPOINT or ENABLE_DEBUG_EXPORTER=true',
      'AZURE_MONITOR_WORKSPACE_ENDPOINT',
      'ENABLE_DEBUG_EXPORTER',
    ),
    when(
      values.OTEL_MEMORY_LIMIT_MIB === undefined,
      /^OTEL_MEMORY_SPIKE_MIB$/,
      'OTEL_MEMORY_LIMIT_MIB',
      'OTEL_MEMORY_LIMIT_MIB',
    ),
    when(
      values.OTEL_COLLECTOR_ENDPOINT === undefined,
      /^OTEL_SAMPLE_RATE$/,
      'OTEL_COLLECTOR_ENDPOINT',
      'OTEL_COLLECTOR_ENDPOINT',
    ),
  ];
}

/** A setting that was given although nothing reads it: often a guardrail that its owner believes to be on. */
const settingsHaveAnEffect: Rule = (context) => {
  const { sources, unusable, report } = context;
  const groups = unusedSettings(context).filter(
    ({ unused, switches }) => unused && !switches.some((each) => unusable.has(each)),
  );
  for (const name of sources.keys()) {
    const group = groups.find(({ names }) => names.test(name));
    if (group) report('SETTING_WITHOUT_EFFECT', name, { needs: group.needs });
  }
};

export const gatewayRules: readonly Rule[] = [
  inlineSecretsAreSaid,
  ofTheProcessOnly,
  notBuiltYet,
  recordsHaveAPlace,
  telemetryIsConsistent,
  settingsHaveAnEffect,
];
