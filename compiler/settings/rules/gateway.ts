import type { Rule } from './rule.ts';

const inlineSecretsAreSaid: Rule = ({ values, report }) => {
  if (values.GATEWAY_SECRETS === 'inline') report('SECRETS_INLINE', 'GATEWAY_SECRETS', {});
};

const notBuiltYet: Rule = ({ values, report }) => {
  if (values.ENABLE_CACHE) report('NOT_BUILT_YET', 'ENABLE_CACHE', { feature: 'the cache of exact answers' });
  if (values.GATEWAY_WATCH)
    report('NOT_BUILT_YET', 'GATEWAY_WATCH', { feature: 'following files at run time' });
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

export const gatewayRules: readonly Rule[] = [
  inlineSecretsAreSaid,
  notBuiltYet,
  telemetryIsConsistent,
  settingsHaveAnEffect,
];
