import { setting } from '../declaration.ts';
import { absolutePath, apiKey, boolean, duration, host, integer, list, oneOf, text } from '../types.ts';

const section = 'Balancing and failover';
const POOL = 'apisix.yaml: services[].plugins.ai-proxy-multi';
const PROXY = 'apisix.yaml: services[].plugins.azure-openai-proxy';
const NO_EFFECT = 'it acts now; there it had no effect';

export const FALLBACK_STRATEGIES = ['http_429', 'http_5xx'] as const;

export const balancingSettings = {
  LB_ALG: setting(oneOf(['roundrobin', 'chash', 'latency']), {
    section,
    description:
      'Choice among backends of equal priority: `roundrobin` is smooth weighted round robin; `chash` keeps what has the same key together; `latency` takes the better of two, by their time to first byte.',
    default: 'roundrobin',
    example: 'chash',
    output: `${POOL}.balancer.algorithm; ${PROXY}.balancer`,
  }),
  LB_HASH_ON: setting(oneOf(['consumer', 'header', 'cookie', 'vars', 'vars_combinations']), {
    section,
    description: 'What chash hashes.',
    default: 'consumer',
    example: 'header',
    output: `${POOL}.balancer.hash_on`,
  }),
  LB_HASH_KEY: setting(text('1 to 256 printable ASCII characters', /^[\x21-\x7e]{1,256}$/), {
    section,
    description: 'Header, cookie or variable that chash hashes; required but for LB_HASH_ON=consumer.',
    defaultText: 'none',
    example: 'X-Session-Id',
    output: `${POOL}.balancer.key`,
  }),
  AI_PROXY_CONNECT_TIMEOUT: setting(duration({ max: 600_000 }), {
    section,
    description: 'Longest wait for a connection to a backend.',
    default: 5_000,
    example: '5s',
    output: `${PROXY}.timeouts.connect_ms`,
    changed: NO_EFFECT,
  }),
  AI_PROXY_SEND_TIMEOUT: setting(duration({ max: 3_600_000 }), {
    section,
    description: 'Longest wait between two writes of the request.',
    default: 60_000,
    example: '60s',
    output: `${PROXY}.timeouts.send_ms`,
    changed: NO_EFFECT,
  }),
  AI_PROXY_READ_TIMEOUT: setting(duration({ max: 3_600_000 }), {
    section,
    description: 'Longest wait for the first byte of the answer, and between bytes.',
    default: 300_000,
    example: '300s',
    output: `${PROXY}.timeouts.read_ms`,
    changed: NO_EFFECT,
  }),
  AI_PROXY_FALLBACK_STRATEGY: setting(
    list(oneOf([...FALLBACK_STRATEGIES, 'instance_health_and_rate_limiting'])),
    {
      section,
      description:
        'Presets of AI_PROXY_RETRY_STATUSES: `http_429` (408, 429), `http_5xx` (500, 502, 503, 504, 529).',
      defaultText: 'http_429,http_5xx',
      example: 'http_429,http_5xx',
      output: `${POOL}.fallback_strategy; ${PROXY}.retry_statuses`,
      replacedValues: { instance_health_and_rate_limiting: 'http_429,http_5xx' },
    },
  ),
  AI_PROXY_RETRY_STATUSES: setting(list(integer(400, 599)), {
    section,
    description: 'Statuses of a backend on which the next one is tried.',
    defaultText: '408,429,500,502,503,504,529',
    example: '429,503',
    output: `${POOL}.fallback_strategy; ${PROXY}.retry_statuses`,
    isNew: true,
  }),
  AI_PROXY_STREAM_HOLD: setting(duration({ min: 0, max: 60_000 }), {
    section,
    description:
      'How long leading stream events without output are held to see whether an error follows; 0 = not.',
    default: 1_000,
    example: '1s',
    output: `${PROXY}.stream_hold_ms`,
    isNew: true,
  }),
  AI_PROXY_MAX_ATTEMPTS: setting(integer(1, 10_000), {
    section,
    description: 'Attempts for one request. Five failing ones end it in any case.',
    defaultText: 'the number of backends',
    example: '3',
    output: `${POOL}.max_retries`,
    isNew: true,
  }),
  AI_PROXY_DEADLINE: setting(duration({ max: 3_600_000 }), {
    section,
    description: 'No new attempt starts after this time.',
    defaultText: 'none',
    example: '60s',
    output: `${PROXY}.deadline_ms`,
    isNew: true,
  }),
  AI_PROXY_COOLDOWN: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description:
      'Cooldown of a backend that names no delay; 0 = only delays that backends name are remembered.',
    default: 10_000,
    example: '10s',
    output: `${PROXY}.cooldown.default_ms`,
    isNew: true,
  }),
  AI_PROXY_COOLDOWN_MAX: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description: 'Longest cooldown and longest Retry-After, whatever the backend names.',
    default: 120_000,
    example: '120s',
    output: `${PROXY}.cooldown.max_ms`,
    isNew: true,
  }),
  AI_PROXY_LOG_SUMMARIES: setting(boolean(), {
    section,
    description: 'Model, duration and tokens of each request in the logs.',
    default: true,
    example: 'true',
    output: `${POOL}.logging.summaries`,
  }),
  APISIX_ACTIVE_HEALTH_CHECKS: setting(boolean(), {
    section,
    description:
      'Probe each backend in the background, without its key, and pass it over while that fails. Every status below 500 means reachable, 401 too.',
    default: false,
    example: 'false',
    output: `${PROXY}.health_checks`,
    changed: NO_EFFECT,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_SCHEME: setting(oneOf(['http', 'https']), {
    section,
    description:
      "Scheme of the probes; they go to the endpoint's port where it names one, else to the scheme's.",
    defaultText: "the endpoint's",
    example: 'https',
    output: `${PROXY}.health_checks.scheme`,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_PATH: setting(absolutePath(), {
    section,
    description: 'Path of the probes.',
    default: '/openai/v1/models',
    example: '/openai/v1/models',
    output: `${PROXY}.health_checks.path`,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_TIMEOUT: setting(duration({ max: 60_000 }), {
    section,
    description: 'Longest wait for the answer to a probe.',
    default: 1_000,
    example: '1s',
    output: `${PROXY}.health_checks.timeout_ms`,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_VERIFY_CERT: setting(boolean(), {
    section,
    description: 'Probes verify the certificate.',
    default: true,
    example: 'true',
    output: `${PROXY}.health_checks.verify_certificate`,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL: setting(duration({ min: 1_000, max: 3_600_000 }), {
    section,
    description: 'Time between probes of a healthy backend.',
    default: 10_000,
    example: '10s',
    output: `${PROXY}.health_checks.healthy_interval_ms`,
  }),
  APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL: setting(duration({ min: 1_000, max: 3_600_000 }), {
    section,
    description: 'Time between probes of an unhealthy backend.',
    default: 5_000,
    example: '5s',
    output: `${PROXY}.health_checks.unhealthy_interval_ms`,
  }),
  RESPONSES_AFFINITY_REDIS_HOST: setting(host(), {
    section,
    description: 'Redis that replicas share for affinity of Responses, conversations, files and batches.',
    defaultText: 'none',
    example: 'redis.internal',
    output: `${PROXY}.affinity.redis.host`,
  }),
  RESPONSES_AFFINITY_REDIS_PORT: setting(integer(1, 65_535), {
    section,
    description: 'Port of that Redis.',
    default: 6379,
    example: '6380',
    output: `${PROXY}.affinity.redis.port`,
  }),
  RESPONSES_AFFINITY_REDIS_USERNAME: setting(text('1 to 256 printable characters', /^[^\p{C}\s]{1,256}$/u), {
    section,
    description: 'User name for that Redis.',
    defaultText: 'none',
    example: 'gateway',
    output: `${PROXY}.affinity.redis.username`,
    isNew: true,
  }),
  RESPONSES_AFFINITY_REDIS_PASSWORD: setting(apiKey(), {
    section,
    description: 'Password for that Redis.',
    defaultText: 'none',
    example: '<password>',
    output: `${PROXY}.affinity.redis.password`,
    sensitive: true,
  }),
  RESPONSES_AFFINITY_REDIS_DATABASE: setting(integer(0, 1_000_000), {
    section,
    description: 'Database number.',
    default: 0,
    example: '0',
    output: `${PROXY}.affinity.redis.database`,
    isNew: true,
  }),
  RESPONSES_AFFINITY_REDIS_TLS: setting(boolean(), {
    section,
    description: 'Speak TLS to that Redis, with its certificate verified.',
    default: false,
    example: 'true',
    output: `${PROXY}.affinity.redis.tls`,
    isNew: true,
  }),
  RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: setting(integer(1, 60_000), {
    section,
    description: 'Longest wait for that Redis, in milliseconds.',
    default: 1_000,
    example: '1000',
    output: `${PROXY}.affinity.redis.timeout_ms`,
  }),
  RESPONSES_AFFINITY_TTL_SECONDS: setting(integer(1, 31_536_000), {
    section,
    description: 'How long it is remembered which backend owns an id, in seconds.',
    default: 86_400,
    example: '86400',
    output: `${PROXY}.affinity.ttl_seconds`,
  }),
} as const;
