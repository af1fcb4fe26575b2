import { type Condition, setting } from '../declaration.ts';
import { cooldown, firstByteTimeout, retryStatuses, usesAlgorithm } from '../effective.ts';
import {
  ALGORITHMS,
  absolutePath,
  affinityKey,
  apiKey,
  boolean,
  duration,
  host,
  integer,
  list,
  oneOf,
  text,
} from '../types.ts';
import { hasValue, switchedOn } from './conditions.ts';

const section = 'Balancing and failover';
const POOL = 'apisix.yaml: services[].plugins.ai-proxy-multi';
const PROXY = 'apisix.yaml: services[].plugins.azure-openai-proxy';
const NO_EFFECT = 'this setting has an effect; in the accelerator it had none';

export const FALLBACK_STRATEGIES = ['http_429', 'http_5xx'] as const;

const CONSISTENT_HASH: Condition = {
  when: (settings) => usesAlgorithm(settings, 'chash'),
  words: 'LB_ALG=chash or GATEWAY_POOL_LB_ALG_N=chash',
  switches: ['LB_ALG', 'GATEWAY_POOL_LB_ALG_N'],
};
const HEALTH_CHECKS: Condition = switchedOn('APISIX_ACTIVE_HEALTH_CHECKS');
const AFFINITY_REDIS: Condition = hasValue('RESPONSES_AFFINITY_REDIS_HOST');

export const balancingSettings = {
  LB_ALG: setting(oneOf(ALGORITHMS), {
    section,
    description:
      'How a backend is chosen among those of equal priority: `roundrobin` is smooth weighted round robin; `chash` sends requests with the same key to the same backend; `latency` takes the faster of two random backends, by time to first byte; `preferred` follows the order that a request to /helpers/set-preferred-backends has set, whatever the priorities, and is `roundrobin` without such an order.',
    default: 'roundrobin',
    example: 'chash',
    output: [`${POOL}.balancer.algorithm`, `${PROXY}.balancer`],
  }),
  LB_HASH_ON: setting(oneOf(['consumer', 'header', 'cookie', 'vars', 'vars_combinations']), {
    section,
    description: 'Kind of key that `LB_ALG=chash` uses.',
    default: 'consumer',
    example: 'header',
    output: [`${POOL}.balancer.hash_on`],
    needs: CONSISTENT_HASH,
  }),
  LB_HASH_KEY: setting(text('1 to 256 printable ASCII characters', /^[\x21-\x7e]{1,256}$/), {
    section,
    description:
      'Header, cookie or variable that `LB_ALG=chash` uses as the key. Required unless LB_HASH_ON=consumer.',
    defaultText: 'none',
    example: 'X-Session-Id',
    output: [`${POOL}.balancer.key`],
    needs: CONSISTENT_HASH,
  }),
  LB_AFFINITY: setting(affinityKey(), {
    section,
    description:
      'Sends requests with the same value to the same backend, to use its prompt cache, while that backend is available and not far above its share. The value is the `prompt_cache_key` of the body, the `client`, or `header:NAME`. LB_ALG balances requests without a value.',
    defaultText: 'none',
    example: 'prompt_cache_key',
    output: [`${PROXY}.soft_affinity`],
    isNew: true,
  }),
  AI_PROXY_CONNECT_TIMEOUT: setting(duration({ max: 600_000 }), {
    section,
    description:
      'Longest time to connect to a backend: name resolution, TCP to its addresses in turn, and TLS together.',
    default: 5_000,
    example: '5s',
    output: [`${PROXY}.timeouts.connect_ms`],
    changed: NO_EFFECT,
  }),
  AI_PROXY_SEND_TIMEOUT: setting(duration({ max: 3_600_000 }), {
    section,
    description: 'Longest wait between two writes of the request.',
    default: 60_000,
    example: '60s',
    output: [`${PROXY}.timeouts.send_ms`],
    changed: NO_EFFECT,
  }),
  AI_PROXY_READ_TIMEOUT: setting(duration({ max: 3_600_000 }), {
    section,
    description: 'Longest wait for the first byte of the answer, and between bytes.',
    default: 300_000,
    example: '300s',
    output: [`${PROXY}.timeouts.read_ms`],
    changed: NO_EFFECT,
  }),
  AI_PROXY_FIRST_BYTE_TIMEOUT: setting(duration({ max: 3_600_000 }), {
    section,
    description:
      'Longest wait for the first byte of the answer, instead of AI_PROXY_READ_TIMEOUT, which then counts between bytes only. For a gateway behind a proxy that ends silent requests: AI_PROXY_STREAM_HEARTBEAT keeps a stream open only after its first byte.',
    defaultText: 'AI_PROXY_READ_TIMEOUT',
    example: '230s',
    output: [`${PROXY}.timeouts.first_byte_ms`],
    effective: firstByteTimeout,
    isNew: true,
  }),
  AI_PROXY_KEEPALIVE_MAX_AGE: setting(duration({ min: 1_000 }), {
    section,
    description:
      'Longest lifetime of a connection to a backend that is reused for several requests. Each connection is closed between two requests, after 80 to 100 percent of this time.',
    default: 300_000,
    example: '5m',
    output: [`${PROXY}.keepalive_max_age_ms`],
    isNew: true,
  }),
  AI_PROXY_FALLBACK_STRATEGY: setting(
    list(oneOf([...FALLBACK_STRATEGIES, 'instance_health_and_rate_limiting'])),
    {
      section,
      description:
        'Presets of AI_PROXY_RETRY_STATUSES: `http_429` (408, 429), `http_5xx` (500, 502, 503, 504, 529).',
      default: ['http_429', 'http_5xx'],
      example: 'http_429,http_5xx',
      output: [`${POOL}.fallback_strategy`, `${PROXY}.retry_statuses`],
      replacedValues: { instance_health_and_rate_limiting: 'http_429,http_5xx' },
    },
  ),
  AI_PROXY_RETRY_STATUSES: setting(list(integer(400, 599)), {
    section,
    description: 'Statuses of a backend after which the gateway makes the next attempt at another backend.',
    defaultText: '408,429,500,502,503,504,529',
    example: '429,503',
    output: [`${POOL}.fallback_strategy`, `${PROXY}.retry_statuses`],
    effective: retryStatuses,
    isNew: true,
  }),
  AI_PROXY_STREAM_HOLD: setting(duration({ min: 0, max: 60_000 }), {
    section,
    description:
      'How long the gateway holds the headers and the preamble of a stream (its events before the first output), so that an error there can still fail over. 0 = the gateway does not hold them.',
    default: 1_000,
    example: '1s',
    output: [`${PROXY}.stream_hold_ms`],
    isNew: true,
  }),
  AI_PROXY_STREAM_HEARTBEAT: setting(duration({ min: 0, max: 3_600_000 }), {
    section,
    description:
      'Time without data in a stream after which the gateway sends a comment (`: ping`), so that clients and proxies with idle time-outs keep waiting. 0 = no comments.',
    default: 0,
    example: '15s',
    output: [`${PROXY}.stream_heartbeat_ms`],
    isNew: true,
  }),
  AI_PROXY_MAX_ATTEMPTS: setting(integer(1, 10_000), {
    section,
    description:
      'Most attempts for one request. After five failed attempts with the reason `failing` a request ends in any case.',
    defaultText: 'the number of backends',
    example: '3',
    output: [`${POOL}.max_retries`],
    isNew: true,
  }),
  AI_PROXY_DEADLINE: setting(duration({ max: 3_600_000 }), {
    section,
    description: 'Time from the start of a request after which no new attempt starts.',
    defaultText: 'none',
    example: '60s',
    output: [`${PROXY}.deadline_ms`],
    isNew: true,
  }),
  AI_PROXY_COOLDOWN: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description:
      'Cooldown of a backend whose answer gives no delay. 0 = a backend cools down only when its answer gives a delay.',
    default: 10_000,
    example: '10s',
    output: [`${PROXY}.cooldown.default_ms`],
    effective: cooldown,
    isNew: true,
  }),
  AI_PROXY_COOLDOWN_MAX: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description: 'Longest cooldown and longest Retry-After, even if a backend gives a longer delay.',
    default: 120_000,
    example: '120s',
    output: [`${PROXY}.cooldown.max_ms`],
    isNew: true,
  }),
  AI_PROXY_LOG_SUMMARIES: setting(boolean(), {
    section,
    description: 'Logs the model, the duration and the tokens of each request.',
    default: true,
    example: 'true',
    output: [`${POOL}.logging.summaries`],
  }),
  APISIX_ACTIVE_HEALTH_CHECKS: setting(boolean(), {
    section,
    description:
      'Probes each backend in the background, without its key, and skips it while the probe fails. A status below 500 is a success, also 401.',
    default: false,
    example: 'false',
    output: [`${PROXY}.health_checks`],
    changed: NO_EFFECT,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_SCHEME: setting(oneOf(['http', 'https']), {
    section,
    description:
      "Scheme of the probes. They use the port of the endpoint if it has one, else the scheme's default port.",
    defaultText: "the endpoint's",
    example: 'https',
    output: [`${PROXY}.health_checks.scheme`],
    needs: HEALTH_CHECKS,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_PATH: setting(absolutePath(), {
    section,
    description: 'Path of the probes.',
    default: '/openai/v1/models',
    example: '/openai/v1/models',
    output: [`${PROXY}.health_checks.path`],
    needs: HEALTH_CHECKS,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_TIMEOUT: setting(duration({ max: 60_000 }), {
    section,
    description: 'Longest wait for the answer to a probe.',
    default: 1_000,
    example: '1s',
    output: [`${PROXY}.health_checks.timeout_ms`],
    needs: HEALTH_CHECKS,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_VERIFY_CERT: setting(boolean(), {
    section,
    description: 'Verifies the certificate of the backend in probes.',
    default: true,
    example: 'true',
    output: [`${PROXY}.health_checks.verify_certificate`],
    needs: HEALTH_CHECKS,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL: setting(duration({ min: 1_000, max: 3_600_000 }), {
    section,
    description: 'Time between probes of a healthy backend.',
    default: 10_000,
    example: '10s',
    output: [`${PROXY}.health_checks.healthy_interval_ms`],
    needs: HEALTH_CHECKS,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL: setting(duration({ min: 1_000, max: 3_600_000 }), {
    section,
    description: 'Time between probes of an unhealthy backend.',
    default: 5_000,
    example: '5s',
    output: [`${PROXY}.health_checks.unhealthy_interval_ms`],
    needs: HEALTH_CHECKS,
  }),
  RESPONSES_AFFINITY_REDIS_HOST: setting(host(), {
    section,
    description:
      'Host of the Redis that replicas share, to know which backend holds a stored object (responses, conversations, files, batches).',
    defaultText: 'none',
    example: 'redis.internal',
    output: [`${PROXY}.affinity.redis.host`],
  }),
  RESPONSES_AFFINITY_REDIS_PORT: setting(integer(1, 65_535), {
    section,
    description: 'Port of that Redis.',
    default: 6379,
    example: '6380',
    output: [`${PROXY}.affinity.redis.port`],
    needs: AFFINITY_REDIS,
  }),
  RESPONSES_AFFINITY_REDIS_USERNAME: setting(text('1 to 256 printable characters', /^[^\p{C}\s]{1,256}$/u), {
    section,
    description: 'User name for that Redis.',
    defaultText: 'none',
    example: 'gateway',
    output: [`${PROXY}.affinity.redis.username`],
    needs: AFFINITY_REDIS,
    isNew: true,
  }),
  RESPONSES_AFFINITY_REDIS_PASSWORD: setting(apiKey(), {
    section,
    description: 'Password for that Redis.',
    defaultText: 'none',
    example: '<password>',
    output: [`${PROXY}.affinity.redis.password`],
    needs: AFFINITY_REDIS,
    sensitive: true,
  }),
  RESPONSES_AFFINITY_REDIS_DATABASE: setting(integer(0, 1_000_000), {
    section,
    description: 'Database number.',
    default: 0,
    example: '0',
    output: [`${PROXY}.affinity.redis.database`],
    needs: AFFINITY_REDIS,
    isNew: true,
  }),
  RESPONSES_AFFINITY_REDIS_TLS: setting(boolean(), {
    section,
    description: 'Uses TLS for that Redis and checks its certificate against the host name.',
    default: false,
    example: 'true',
    output: [`${PROXY}.affinity.redis.tls`],
    needs: AFFINITY_REDIS,
    isNew: true,
  }),
  RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: setting(integer(1, 60_000), {
    section,
    description: 'Longest wait for that Redis, in milliseconds.',
    default: 1_000,
    example: '1000',
    output: [`${PROXY}.affinity.redis.timeout_ms`],
    needs: AFFINITY_REDIS,
  }),
  RESPONSES_AFFINITY_TTL_SECONDS: setting(integer(1, 31_536_000), {
    section,
    description: 'How long the gateway remembers which backend holds a stored object, in seconds.',
    default: 86_400,
    example: '86400',
    output: [`${PROXY}.affinity.ttl_s`],
  }),
} as const;
