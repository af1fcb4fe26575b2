import type { Rule } from './rule.ts';

/** IPv6 has colons, and a name has a letter at its end. `isIP` would load node:net, a tenth of the start time. */
const IP_ADDRESS = /:|^[\d.]+$/;

const REDIS = [
  { host: 'AI_RATE_LIMIT_REDIS_HOST', tls: 'AI_RATE_LIMIT_REDIS_TLS' },
  { host: 'CACHE_REDIS_HOST', tls: 'CACHE_REDIS_TLS' },
  { host: 'RESPONSES_AFFINITY_REDIS_HOST', tls: 'RESPONSES_AFFINITY_REDIS_TLS' },
] as const;

/** The gateway checks certificates only against host names, not against IP addresses. */
const redisIsVerifiedByName: Rule = ({ values, report }) => {
  for (const { host, tls } of REDIS) {
    const given = values[host];
    if (values[tls] && given !== undefined && IP_ADDRESS.test(given))
      report('TLS_WITHOUT_NAME', host, { tls }, given);
  }
};

export const redisRules: readonly Rule[] = [redisIsVerifiedByName];
