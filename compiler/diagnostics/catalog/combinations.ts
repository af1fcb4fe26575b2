/** Diagnostics about settings that conflict with each other. */
import { error, list, warning } from './entry.ts';

export const combinations = {
  HASH_KEY_INVALID: error((a: { hashOn: string; expected: string; example: string }, name) => ({
    message: `the value is not a key for LB_HASH_ON=${a.hashOn}`,
    expected: a.expected,
    hint: `write for example ${name}=${a.example}`,
  })),
  AFFINITY_WITH_CHASH: error((_, name) => ({
    message: `${name} cannot be used with LB_ALG=chash, which already chooses backends by a key`,
    expected: `${name} with LB_ALG=roundrobin or latency, or LB_ALG=chash alone`,
    hint: `unset ${name}, or write LB_ALG=roundrobin`,
  })),
  AFFINITY_HEADER: error((a: { header: string }, name) => ({
    message: `${name} names the header ${a.header}, which the gateway removes or replaces before it chooses a backend`,
    expected: 'a header that has the same value in all requests of one conversation or session',
    hint: `write for example ${name}=header:X-Session-Id`,
  })),
  RETRY_STATUSES_CONFLICT: error((a: { strategy: string; preset: readonly number[] }, name) => ({
    message: `${name} and AI_PROXY_FALLBACK_STRATEGY=${a.strategy} name different statuses`,
    expected: `only one of the two settings, or the statuses ${list(a.preset.map(String))}`,
    hint: `unset AI_PROXY_FALLBACK_STRATEGY and list all statuses in ${name}`,
  })),
  ABOVE_LIMIT: warning((a: { low: string; high: string; effect: string }) => ({
    message: `${a.low} is above ${a.high}: ${a.effect}`,
    expected: `${a.low} at most ${a.high}`,
    hint: `lower ${a.low} or raise ${a.high}`,
  })),
  NOT_BELOW: error((a: { low: string; high: string }) => ({
    message: `${a.low} is not less than ${a.high}`,
    expected: `${a.low} less than ${a.high}`,
    hint: `lower ${a.low} or raise ${a.high}`,
  })),
  RESERVE_ABOVE_LIMIT: error((a: { limit: string }) => ({
    message: `the reserve of the high lane is above ${a.limit}: no request of the low lane would pass`,
    expected: `at most the value of ${a.limit}`,
    hint: `lower the reserve or raise ${a.limit}`,
  })),
  LIMITS_BY_DEFAULT: warning(
    (
      a: {
        /** The default of the high lane; undefined if a limit is set. */
        high: number | undefined;
        /** The same of the low lane. */
        low: number | undefined;
        window: number;
        counted: string;
        scope: string;
        status: number;
      },
      name,
    ) => {
      const unit = a.counted === 'req' ? 'requests' : a.counted.replace('total_', '').replace('_', ' ');
      const time = a.window === 60 ? 'a minute' : `in ${a.window} seconds`;
      const lanes = [
        { lane: 'high', limit: a.high, setting: 'AI_RATE_LIMIT_HIGH_LIMIT', example: '100000' },
        { lane: 'low', limit: a.low, setting: 'AI_RATE_LIMIT_LOW_LIMIT', example: '20000' },
      ].filter(({ limit }) => limit !== undefined);
      const [only] = lanes.length === 1 ? lanes : [];
      const defaults = lanes.map(({ lane, limit }) => `${limit} ${unit} ${time} in the ${lane} lane`);
      return {
        message: `${only ? `${only.setting} is not set, so its default applies` : 'no limit is set, so the defaults apply'}: ${defaults.join(' and ')}, ${a.scope === 'client' ? 'for each client' : 'for the whole gateway'}; requests above that are rejected with ${a.status}`,
        expected: `${lanes.map(({ setting }) => setting).join(' and ')}, in ${unit} ${time}`,
        hint: `set for example ${lanes.map(({ setting, example }) => `${setting}=${example}`).join(' and ')}, or remove ${name}`,
      };
    },
  ),
  CACHE_ENTRY_SIZE: error((a: { share: number }) => ({
    message: `CACHE_MEMORY is less than ${a.share} times CACHE_MAX_ENTRY_SIZE, so that one answer could evict most others`,
    expected: `CACHE_MEMORY of at least ${a.share} times CACHE_MAX_ENTRY_SIZE`,
    hint: 'raise CACHE_MEMORY or lower CACHE_MAX_ENTRY_SIZE',
  })),
  CACHE_NOT_ENCRYPTED: warning(() => ({
    message:
      'answers are stored in Redis in plain text: everyone who can read that Redis can read the answers',
    expected: 'CACHE_ENCRYPTION_KEY',
    hint: 'set CACHE_ENCRYPTION_KEY to the output of: openssl rand -base64 48',
  })),
  CACHE_SAME_KEYS: error(() => ({
    message: 'CACHE_ENCRYPTION_KEY and CACHE_ENCRYPTION_KEY_PREVIOUS are the same secret',
    expected: 'the secret before the last change',
    hint: 'remove CACHE_ENCRYPTION_KEY_PREVIOUS, or set CACHE_ENCRYPTION_KEY to a new secret',
  })),
  REQUESTS_AND_TOKENS: error((a: { budget: string }, name) => ({
    message: `${a.budget} counts tokens, but with ${name}=req the limiter counts requests`,
    expected: 'a token strategy, or no token budgets of clients',
    hint: `use GATEWAY_CLIENT_REQUESTS_PER_MINUTE_N instead of ${a.budget}, or ${name}=total_tokens`,
  })),
  SILENT_STATUS: error((a: { statuses: readonly number[] }, name) => ({
    message: 'nginx closes the connection instead of sending this status',
    expected: `a status from 400 to 599, except ${a.statuses.join(', ')}`,
    hint: `write ${name}=429 or ${name}=503`,
  })),
  TLS_WITHOUT_NAME: error((a: { tls: string }, name) => ({
    message: `${name} is an IP address, but with ${a.tls} the gateway checks the server's certificate against a host name`,
    expected: "the host name in the server's certificate",
    hint: `set ${name} to that host name, or remove ${a.tls}`,
  })),
  PER_CLIENT_WITHOUT_AUTH: error((_, name) => ({
    message: `${name}=client needs clients that authenticate, but authentication is off`,
    expected: 'GATEWAY_REQUIRE_AUTH=true',
    hint: `set GATEWAY_REQUIRE_AUTH=true, or remove ${name}`,
  })),
  CORS_WILDCARD: error((a: { reason: string }, name) => ({
    message: `* is not allowed here: ${a.reason}`,
    expected: 'a list without *',
    hint: `list each value in ${name}`,
  })),
  ISSUER_INSECURE: warning((_, name) => ({
    message:
      "the gateway fetches the issuer's keys unencrypted: anyone on the network path can forge valid tokens",
    expected: 'an https URL',
    hint: `write ${name} with https://`,
  })),
  ISSUER_WITHOUT_TENANT: error((_, name) => ({
    message: 'the URL is for all tenants: its document names an issuer that no token has',
    expected: 'the URL of the discovery document of one tenant',
    hint: `write the tenant id into the URL in ${name}`,
  })),
  IP_LISTS: error((a: { both: boolean }) => ({
    message: a.both
      ? 'IP_WHITELIST and IP_BLACKLIST are both set'
      : 'neither IP_WHITELIST nor IP_BLACKLIST is set',
    expected: 'exactly one of the two lists',
    hint: a.both ? 'unset one of the two' : 'set IP_WHITELIST or IP_BLACKLIST',
  })),
};
