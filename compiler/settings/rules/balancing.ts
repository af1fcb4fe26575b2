import { cooldown, presetStatuses, retryStatuses, usesAlgorithm } from '../effective.ts';
import type { Rule } from './rule.ts';

/** The keys that chash can use, from APISIX's schema. */
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

const hashKeyFits: Rule = (context) => {
  const { values, given, report } = context;
  if (!usesAlgorithm(context, 'chash') || values.LB_HASH_ON === 'consumer') return;
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

/** Headers that the gateway removes or replaces before it chooses a backend. */
const UNUSABLE_HEADERS = new Set([
  'api-key',
  'authorization',
  'connection',
  'content-length',
  'cookie',
  'host',
  'ocp-apim-subscription-key',
  'transfer-encoding',
  'x-api-key',
]);

const affinityFits: Rule = ({ values, report }) => {
  const affinity = values.LB_AFFINITY;
  if (affinity === undefined) return;
  if (values.LB_ALG === 'chash') {
    report('AFFINITY_WITH_CHASH', 'LB_AFFINITY', {});
  }
  if (affinity.header !== undefined && UNUSABLE_HEADERS.has(affinity.header)) {
    report('AFFINITY_HEADER', 'LB_AFFINITY', { header: affinity.header }, `header:${affinity.header}`);
  }
};

const retryStatusesAgree: Rule = (context) => {
  const { values, usable, report } = context;
  if (!usable('AI_PROXY_FALLBACK_STRATEGY') || !usable('AI_PROXY_RETRY_STATUSES')) return;
  const preset = presetStatuses(context);
  if (preset.join() !== retryStatuses(context).value.join()) {
    report('RETRY_STATUSES_CONFLICT', 'AI_PROXY_RETRY_STATUSES', {
      strategy: values.AI_PROXY_FALLBACK_STRATEGY.join(),
      preset,
    });
  }
};

const cooldownFitsItsCap: Rule = (context) => {
  const { given, report } = context;
  // If the cooldown is not set, its default may be above the maximum: the maximum applies.
  if (given('AI_PROXY_COOLDOWN') && cooldown(context).follows !== undefined) {
    report('ABOVE_LIMIT', 'AI_PROXY_COOLDOWN', {
      low: 'AI_PROXY_COOLDOWN',
      high: 'AI_PROXY_COOLDOWN_MAX',
      effect: 'AI_PROXY_COOLDOWN_MAX applies',
    });
  }
};

export const balancingRules: readonly Rule[] = [
  hashKeyFits,
  affinityFits,
  retryStatusesAgree,
  cooldownFitsItsCap,
];
