import { retryStatuses } from '../effective.ts';
import type { Rule } from './rule.ts';

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

const cooldownFitsItsCap: Rule = ({ values, given, report }) => {
  // A default that is above the cap is no mistake of anybody's: the cap wins.
  if (given('AI_PROXY_COOLDOWN') && values.AI_PROXY_COOLDOWN > values.AI_PROXY_COOLDOWN_MAX) {
    report('ABOVE_LIMIT', 'AI_PROXY_COOLDOWN', {
      low: 'AI_PROXY_COOLDOWN',
      high: 'AI_PROXY_COOLDOWN_MAX',
      effect: 'the cap wins',
    });
  }
};

export const balancingRules: readonly Rule[] = [hashKeyFits, retryStatusesAgree, cooldownFitsItsCap];
