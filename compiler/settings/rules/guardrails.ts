import type { PlainName } from '../declarations/index.ts';
import { highLaneLimit } from '../effective.ts';
import { clientVariable, type Rule } from './rule.ts';

const limitsAreComplete: Rule = (context) => {
  const { values, given, report } = context;
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
  if (values.ENABLE_AI_RATE_LIMIT && values.AI_RATE_LIMIT_LOW_LIMIT > highLaneLimit(context).value) {
    const low = 'AI_RATE_LIMIT_LOW_LIMIT';
    const high = 'AI_RATE_LIMIT_HIGH_LIMIT';
    report('ABOVE_LIMIT', given(low) ? low : high, {
      low,
      high,
      effect: 'the low lane gets more than the high lane',
    });
  }
};

/** The defaults come from the accelerator, and are less than one conversation needs. */
const lanesHaveLimitsOfTheirOwn: Rule = (context) => {
  const { values, given, report } = context;
  const hasHigh = given('AI_RATE_LIMIT_HIGH_LIMIT') || given('AI_RATE_LIMIT_LIMIT');
  const hasLow = given('AI_RATE_LIMIT_LOW_LIMIT');
  if (!values.ENABLE_AI_RATE_LIMIT || (hasHigh && hasLow)) return;
  report('LIMITS_BY_DEFAULT', 'ENABLE_AI_RATE_LIMIT', {
    high: hasHigh ? undefined : highLaneLimit(context).value,
    low: hasLow ? undefined : values.AI_RATE_LIMIT_LOW_LIMIT,
    window: values.AI_RATE_LIMIT_WINDOW_SECONDS,
    counted: values.AI_RATE_LIMIT_STRATEGY,
    scope: values.AI_RATE_LIMIT_SCOPE,
    status: values.AI_RATE_LIMIT_REJECT_CODE,
  });
};

const requestsOrTokens: Rule = ({ values, clients, report }) => {
  if (values.AI_RATE_LIMIT_STRATEGY !== 'req') return;
  for (const client of clients) {
    for (const field of ['TOKENS_PER_MINUTE', 'TOKENS_PER_DAY'] as const) {
      if (client[field] !== undefined)
        report('REQUESTS_AND_TOKENS', 'AI_RATE_LIMIT_STRATEGY', { budget: clientVariable(field, client) });
    }
  }
};

/** For these statuses nginx closes the connection without an answer. */
const SILENT_STATUSES = [408, 444, 499];

const rejectionsAreAnswers: Rule = ({ values, report }) => {
  const status = values.AI_RATE_LIMIT_REJECT_CODE;
  if (SILENT_STATUSES.includes(status))
    report('SILENT_STATUS', 'AI_RATE_LIMIT_REJECT_CODE', { statuses: SILENT_STATUSES }, String(status));
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
      report('CORS_WILDCARD', name, {
        reason: 'browsers do not accept it together with CORS_ALLOW_CREDENTIALS',
      });
    else if (list.length > 1) report('CORS_WILDCARD', name, { reason: 'the list has other values too' });
  }
};

const exactlyOneIpList: Rule = ({ values, given, report }) => {
  if (!values.ENABLE_IP_RESTRICTION) return;
  const lists = ['IP_WHITELIST', 'IP_BLACKLIST'].filter(given).length;
  if (lists !== 1) report('IP_LISTS', 'ENABLE_IP_RESTRICTION', { both: lists === 2 });
};

/** Discovery documents for all tenants contain an issuer that no token has. */
const NO_TENANT = /^https:\/\/login\.microsoftonline\.(?:com|us)\/(?:common|organizations)\//i;

const oidcIsComplete: Rule = ({ values, given, report }) => {
  if (!values.ENABLE_OIDC) return;
  if (!given('OIDC_DISCOVERY_URL'))
    report('REQUIRED_SETTING', 'OIDC_DISCOVERY_URL', {
      because: 'ENABLE_OIDC needs it',
      example: 'https://<issuer>/.well-known/openid-configuration',
    });
  if (!given('OIDC_CLIENT_ID') && !given('OIDC_AUDIENCES'))
    report('REQUIRED_SETTING', 'OIDC_CLIENT_ID', {
      because: 'ENABLE_OIDC needs it or OIDC_AUDIENCES',
      example: '<client id>',
    });
  const discovery = values.OIDC_DISCOVERY_URL;
  if (discovery === undefined) return;
  if (/^http:/i.test(discovery)) report('ISSUER_INSECURE', 'OIDC_DISCOVERY_URL', {}, discovery);
  if (NO_TENANT.test(discovery)) report('ISSUER_WITHOUT_TENANT', 'OIDC_DISCOVERY_URL', {}, discovery);
};

export const guardrailRules: readonly Rule[] = [
  limitsAreComplete,
  lanesHaveLimitsOfTheirOwn,
  requestsOrTokens,
  rejectionsAreAnswers,
  limitsPerClientNeedClients,
  corsIsConsistent,
  exactlyOneIpList,
  oidcIsComplete,
];
