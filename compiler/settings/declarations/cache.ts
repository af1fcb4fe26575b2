import { type Condition, setting } from '../declaration.ts';
import { apiKey, boolean, duration, host, integer, list, oneOf, size, text } from '../types.ts';
import { hasValue, switchedOn } from './conditions.ts';

const section = 'Answer cache';
const CACHE = 'apisix.yaml: services[].plugins.azure-openai-proxy.cache';
const DICT = 'config.yaml: nginx_config.http.custom_lua_shared_dict.genai-gateway-cache';
const MIB = 1024 ** 2;

const ENABLED: Condition = switchedOn('ENABLE_CACHE');
const CACHING: Condition = {
  when: ({ values }) => values.ENABLE_CACHE && values.CACHE_TTL > 0,
  words: 'ENABLE_CACHE=true and CACHE_TTL above 0',
  switches: ['ENABLE_CACHE', 'CACHE_TTL'],
};
const IN_REDIS: Condition = {
  when: ({ values }) => values.CACHE_POLICY === 'redis',
  words: 'CACHE_POLICY=redis',
  switches: ['CACHE_POLICY'],
};
const ENCRYPTED: Condition = hasValue('CACHE_ENCRYPTION_KEY');
const TTL_ABOVE_ZERO: Condition = {
  when: ({ values }) => !values.ENABLE_CACHE || values.CACHE_TTL > 0,
  words: 'CACHE_TTL above 0',
  switches: ['CACHE_TTL'],
};

/** Operations whose answers can be cached, by their names in metrics and logs. */
export const CACHED_OPERATIONS = ['chat_completions', 'completions', 'embeddings', 'responses'] as const;

/** A key for entries in Redis. A short text would be easy to guess. */
const encryptionKey = () => text('32 to 512 printable ASCII characters', /^[\x20-\x7e]{32,512}$/);

export const cacheSettings = {
  ENABLE_CACHE: setting(boolean(), {
    section,
    description:
      'Turns on the cache of answers: identical requests of one client get the stored answer, and identical requests at the same time become one request to a backend.',
    default: false,
    example: 'true',
    output: [CACHE, DICT],
    needs: TTL_ABOVE_ZERO,
    changed:
      'it caches answers of POST requests; in the accelerator it removed all AI routes from the gateway',
  }),
  CACHE_TTL: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description: 'Lifetime of a stored answer. 0 turns the cache off.',
    default: 300_000,
    example: '10m',
    output: [`${CACHE}.ttl_ms`],
    needs: ENABLED,
  }),
  CACHE_SCOPE: setting(oneOf(['client', 'gateway']), {
    section,
    description:
      'Who shares stored answers: each client has its own (`client`), or all clients share them (`gateway`).',
    default: 'client',
    example: 'client',
    output: [`${CACHE}.scope`],
    needs: CACHING,
    isNew: true,
  }),
  CACHE_OPERATIONS: setting(list(oneOf(CACHED_OPERATIONS)), {
    section,
    description: 'Operations whose answers are stored. Of responses only those with `"store": false`.',
    default: CACHED_OPERATIONS,
    example: 'chat_completions,embeddings',
    output: [`${CACHE}.operations`],
    needs: CACHING,
    isNew: true,
  }),
  CACHE_MAX_ENTRY_SIZE: setting(size(1024, 64 * MIB), {
    section,
    description: 'Largest stored answer. Larger ones are passed on, but not stored.',
    default: 4 * MIB,
    example: '1m',
    output: [`${CACHE}.max_entry`],
    needs: CACHING,
    isNew: true,
  }),
  CACHE_MEMORY: setting(size(MIB, 16 * 1024 * MIB), {
    section,
    description:
      'Memory of a replica for the cache: three quarters for stored answers, a quarter for answers that are arriving. With CACHE_POLICY=redis all of it is for arriving answers.',
    default: 64 * MIB,
    example: '256m',
    output: [`${CACHE}.arriving_memory`, DICT],
    needs: CACHING,
    isNew: true,
  }),
  CACHE_COUNTS_TOKENS: setting(boolean(), {
    section,
    description: 'Charges token budgets for a stored answer as if a backend had made it.',
    default: false,
    example: 'true',
    output: [`${CACHE}.counts_tokens`],
    needs: CACHING,
    isNew: true,
  }),
  CACHE_POLICY: setting(oneOf(['local', 'redis']), {
    section,
    description:
      'Where answers are stored: in the memory of each replica (`local`), or in a Redis that all replicas share (`redis`).',
    default: 'local',
    example: 'redis',
    output: [`${CACHE}.redis`, DICT],
    needs: CACHING,
    isNew: true,
  }),
  CACHE_REDIS_HOST: setting(host(), {
    section,
    description: 'Host of that Redis; required with CACHE_POLICY=redis.',
    defaultText: 'none',
    example: 'redis.internal',
    output: [`${CACHE}.redis.host`],
    needs: IN_REDIS,
    isNew: true,
  }),
  CACHE_REDIS_PORT: setting(integer(1, 65_535), {
    section,
    description: 'Port of that Redis.',
    default: 6379,
    example: '6380',
    output: [`${CACHE}.redis.port`],
    needs: IN_REDIS,
    isNew: true,
  }),
  CACHE_REDIS_USERNAME: setting(text('1 to 256 printable characters', /^[^\p{C}\s]{1,256}$/u), {
    section,
    description: 'User name for that Redis.',
    defaultText: 'none',
    example: 'gateway',
    output: [`${CACHE}.redis.username`],
    needs: IN_REDIS,
    isNew: true,
  }),
  CACHE_REDIS_PASSWORD: setting(apiKey(), {
    section,
    description: 'Password for that Redis.',
    defaultText: 'none',
    example: '<password>',
    output: [`${CACHE}.redis.password`],
    needs: IN_REDIS,
    sensitive: true,
    isNew: true,
  }),
  CACHE_REDIS_DATABASE: setting(integer(0, 1_000_000), {
    section,
    description: 'Database number.',
    default: 0,
    example: '0',
    output: [`${CACHE}.redis.database`],
    needs: IN_REDIS,
    isNew: true,
  }),
  CACHE_REDIS_TLS: setting(boolean(), {
    section,
    description: 'Uses TLS for that Redis and checks its certificate against the host name.',
    default: false,
    example: 'true',
    output: [`${CACHE}.redis.tls`],
    needs: IN_REDIS,
    isNew: true,
  }),
  CACHE_REDIS_TIMEOUT_MS: setting(integer(1, 60_000), {
    section,
    description:
      'Longest wait for that Redis, in milliseconds. A request that waited longer is sent to a backend.',
    default: 250,
    example: '250',
    output: [`${CACHE}.redis.timeout_ms`],
    needs: IN_REDIS,
    isNew: true,
  }),
  CACHE_ENCRYPTION_KEY: setting(encryptionKey(), {
    section,
    description:
      'Secret with which answers are encrypted before they are stored in Redis, at least 32 characters. All replicas need the same. Without it they are stored in plain text.',
    defaultText: 'none',
    example: '<output of openssl rand -base64 48>',
    output: [`${CACHE}.encryption.key`],
    needs: IN_REDIS,
    sensitive: true,
    isNew: true,
  }),
  CACHE_ENCRYPTION_KEY_PREVIOUS: setting(encryptionKey(), {
    section,
    description:
      'The secret before CACHE_ENCRYPTION_KEY was changed: answers that were stored with it are still found.',
    defaultText: 'none',
    example: '<the secret before the last change>',
    output: [`${CACHE}.encryption.previous`],
    needs: ENCRYPTED,
    sensitive: true,
    isNew: true,
  }),
} as const;
