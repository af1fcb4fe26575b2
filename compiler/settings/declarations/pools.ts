import { type Condition, setting } from '../declaration.ts';
import {
  poolAlgorithm,
  poolBackends,
  poolCooldown,
  poolMaxAttempts,
  poolPath,
  poolRetryStatuses,
  usesPreferred,
} from '../effective.ts';
import {
  ALGORITHMS,
  apiKey,
  duration,
  integer,
  list,
  oneOf,
  pathPrefix,
  poolBackend,
  text,
} from '../types.ts';

const section = 'Pools';
const POOL = 'apisix.yaml: services[].plugins.ai-proxy-multi';
const PROXY = 'apisix.yaml: services[].plugins.azure-openai-proxy';

const BUDGET = 'apisix.yaml: services[].plugins.azure-openai-limits.budget';

const COUNTED: Condition = {
  when: (_, __, pool) => pool?.BUDGET_SOURCE !== 'backend',
  words: 'GATEWAY_POOL_BUDGET_SOURCE_N=count',
  switches: ['GATEWAY_POOL_BUDGET_SOURCE_N'],
};
const BUDGETED: Condition = {
  when: (_, __, pool) => pool?.TOKENS_PER_MINUTE !== undefined || pool?.BUDGET_SOURCE === 'backend',
  words: 'GATEWAY_POOL_TOKENS_PER_MINUTE_N or GATEWAY_POOL_BUDGET_SOURCE_N=backend',
  switches: ['GATEWAY_POOL_TOKENS_PER_MINUTE_N', 'GATEWAY_POOL_BUDGET_SOURCE_N'],
};

const PREFERRED: Condition = {
  when: usesPreferred,
  words: 'LB_ALG=preferred or GATEWAY_POOL_LB_ALG_N=preferred',
  switches: ['LB_ALG', 'GATEWAY_POOL_LB_ALG_N'],
};

/** `GATEWAY_POOL_<FIELD>_N`: one group of settings for each named pool. */
export const poolFields = {
  NAME: setting(
    text(
      '1 to 50 of the characters A-Z a-z 0-9 . _ -, the first a letter or digit',
      /^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$/,
    ),
    {
      section,
      description:
        'Name of a pool in metrics, logs and records. Names must be unique. `default` is the name of the pool of the plain paths.',
      defaultText: 'required',
      example: 'search',
      output: [
        'apisix.yaml: services[].id',
        'apisix.yaml: services[].plugins.azure-openai-errors.pool',
        `${PROXY}.pool.name`,
      ],
      isNew: true,
    },
  ),
  PATH: setting(pathPrefix(), {
    section,
    description:
      'Prefix of the paths that the pool serves, such as `/search/openai/v1/responses`. The gateway removes it before it sends a request on.',
    defaultText: '/ and GATEWAY_POOL_NAME_N',
    example: '/search',
    output: ['apisix.yaml: routes[].uris', 'apisix.yaml: services[].plugins.azure-openai-errors.prefix'],
    effectiveOfPool: poolPath,
    isNew: true,
  }),
  BACKENDS: setting(
    list(poolBackend(), ({ name }) => name.toLowerCase()),
    {
      section,
      description:
        'Backends of the pool, by name, each with a priority and a weight if they differ from those of the backend. A weight above 0 also counts for a backend with AZURE_OPENAI_WEIGHT_N=0.',
      defaultText: 'all backends',
      example: 'swe-ptu:10,swe-payg:5:2',
      output: [`${POOL}.instances[]`],
      effectiveOfPool: poolBackends,
      isNew: true,
    },
  ),
  CLIENTS: setting(
    list(
      text(
        'the name of a client, oidc:SUBJECT for the subject of a token, or oidc:* for all tokens',
        /^(?:[A-Za-z0-9_-]{1,100}|oidc:[^\s,\p{C}]{1,255})$/u,
      ),
    ),
    {
      section,
      description: 'Clients that may use the pool. Others get 403.',
      defaultText: 'all',
      example: 'team-search,team-web',
      output: [`${PROXY}.pool.clients`],
      isNew: true,
    },
  ),
  LB_ALG: setting(oneOf(ALGORITHMS), {
    section,
    description:
      'How a backend of the pool is chosen among those of equal priority. The values are those of LB_ALG.',
    defaultText: 'LB_ALG',
    example: 'preferred',
    output: [`${POOL}.balancer.algorithm`, `${PROXY}.balancer`],
    effectiveOfPool: poolAlgorithm,
    isNew: true,
  }),
  RETRY_STATUSES: setting(list(integer(400, 599)), {
    section,
    description:
      'Statuses of a backend after which a request of the pool makes the next attempt at another backend.',
    defaultText: 'AI_PROXY_RETRY_STATUSES',
    example: '429',
    output: [`${POOL}.fallback_strategy`, `${PROXY}.retry_statuses`],
    effectiveOfPool: poolRetryStatuses,
    isNew: true,
  }),
  MAX_ATTEMPTS: setting(integer(1, 10_000), {
    section,
    description: 'Most attempts for one request of the pool. 1 = no failover.',
    defaultText: 'AI_PROXY_MAX_ATTEMPTS, or the number of backends of the pool',
    example: '2',
    output: [`${POOL}.max_retries`],
    effectiveOfPool: poolMaxAttempts,
    isNew: true,
  }),
  COOLDOWN: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description:
      'Length of the cooldowns that throttled, failing and unreachable backends get after requests of the pool, also if the answer gives another delay. A cooldown that already lasts longer keeps its end. 0 = requests of the pool begin no such cooldowns.',
    defaultText: 'the delay that the answer gives, else AI_PROXY_COOLDOWN',
    example: '60s',
    output: [`${PROXY}.cooldown.fixed_ms`],
    effectiveOfPool: poolCooldown,
    isNew: true,
  }),
  TOKENS_PER_MINUTE: setting(integer(1), {
    section,
    description:
      'Tokens that requests of the pool in both lanes together may use in any minute, for each deployment.',
    defaultText: 'no limit',
    example: '100000',
    output: [`${BUDGET}.tokens_per_minute`],
    needs: COUNTED,
    isNew: true,
  }),
  HIGH_RESERVE: setting(integer(0), {
    section,
    description:
      'Tokens that are reserved for the high lane: requests of the low lane get 429 while the deployment has less than this left.',
    default: 0,
    example: '30000',
    output: [`${BUDGET}.high_reserve`],
    needs: BUDGETED,
    isNew: true,
  }),
  BUDGET_SOURCE: setting(oneOf(['count', 'backend']), {
    section,
    description:
      'Who counts the tokens that are left: the gateway (`count`), or the backends (`backend`), which report them as `x-ratelimit-remaining-tokens`. With `backend` only the low lane is rejected, and only while all backends report a number.',
    default: 'count',
    example: 'backend',
    output: [`${BUDGET}.source`],
    needs: BUDGETED,
    isNew: true,
  }),
} as const;

/** Settings of the endpoint that sets the order of backends for `preferred`. */
export const preferredSettings = {
  CONFIG_API_SHARED_SECRET: setting(apiKey(), {
    section,
    description:
      'Value that a request to /helpers/set-preferred-backends must have in the header `x-config-api-secret`, in addition to the key of a client.',
    defaultText: 'none',
    example: '<16 characters or more>',
    output: ['apisix.yaml: routes[].plugins.azure-openai-preferred.secret'],
    needs: PREFERRED,
    sensitive: true,
  }),
} as const;
