import { type Condition, setting } from '../declaration.ts';
import {
  allPools,
  corsRequestHeaders,
  highLaneLimit,
  limitStrategy,
  requestKey,
  tokenAudiences,
  usesPreferred,
} from '../effective.ts';
import type { Settings } from '../parse.ts';
import { apiKey, boolean, cidr, host, integer, list, number, oneOf, text, url } from '../types.ts';
import { hasValue, LANES, switchedOn } from './conditions.ts';

const section = 'Guardrails';
const PLUGINS = 'apisix.yaml: services[].plugins';
const AI_LIMIT = `${PLUGINS}.ai-rate-limiting`;
const PER_CLIENT = 'the limit is per client, not per IP address, if authentication is on (RATE_LIMIT_KEY)';
const GATEWAY_WIDE = 'there is one budget for the whole gateway, not one for each backend and route';
const PREFLIGHT = 'preflight requests work; in the accelerator OPTIONS returned 404';

const BUDGET = `${PLUGINS}.azure-openai-limits.budget`;

const inEveryLimiter = <const Key extends string>(key: Key) =>
  [
    `${AI_LIMIT}.${key}`,
    `${PLUGINS}.limit-count.${key}`,
    `${PLUGINS}.limit-req.${key}`,
    `${BUDGET}.${key}`,
  ] as const;

const hasTokenLimits = ({ values, clients }: Settings): boolean =>
  values.ENABLE_AI_RATE_LIMIT ||
  clients.some((each) => each.TOKENS_PER_MINUTE !== undefined || each.TOKENS_PER_DAY !== undefined);

const TOKEN_LIMITS: Condition = {
  when: hasTokenLimits,
  words: 'ENABLE_AI_RATE_LIMIT=true or token budgets of clients',
  switches: ['ENABLE_AI_RATE_LIMIT'],
};
const ANY_LIMIT: Condition = {
  when: (settings) =>
    hasTokenLimits(settings) ||
    settings.values.ENABLE_RATE_LIMIT ||
    settings.values.ENABLE_QUOTA ||
    settings.values.AI_RATE_LIMIT_SHARED_LIMIT !== undefined ||
    allPools(settings).some((each) => each.TOKENS_PER_MINUTE !== undefined) ||
    settings.clients.some((each) => each.REQUESTS_PER_MINUTE !== undefined) ||
    // Replicas share the order of backends in the same Redis.
    usesPreferred(settings),
  words: 'a limit to count',
  switches: ['ENABLE_AI_RATE_LIMIT', 'ENABLE_RATE_LIMIT', 'ENABLE_QUOTA', 'AI_RATE_LIMIT_SHARED_LIMIT'],
};
const LIMITS_IN_REDIS: Condition = {
  when: ({ values }) => values.AI_RATE_LIMIT_POLICY === 'redis',
  words: 'AI_RATE_LIMIT_POLICY=redis',
  switches: ['AI_RATE_LIMIT_POLICY'],
};
const REQUEST_RATE: Condition = switchedOn('ENABLE_RATE_LIMIT');
const REQUEST_QUOTA: Condition = switchedOn('ENABLE_QUOTA');
const REQUEST_LIMITS: Condition = {
  when: ({ values }) => values.ENABLE_RATE_LIMIT || values.ENABLE_QUOTA,
  words: 'ENABLE_RATE_LIMIT=true or ENABLE_QUOTA=true',
  switches: ['ENABLE_RATE_LIMIT', 'ENABLE_QUOTA'],
};
const SHARED_BUDGET: Condition = hasValue('AI_RATE_LIMIT_SHARED_LIMIT');
const CORS: Condition = switchedOn('ENABLE_CORS');
const IP_RESTRICTION: Condition = switchedOn('ENABLE_IP_RESTRICTION');
const OIDC: Condition = switchedOn('ENABLE_OIDC');

/** `**` is not allowed: APISIX would allow everything, even with credentials. */
const httpToken = (expected: string) => text(expected, /^(?:\*|[A-Za-z0-9!#$%&'+.^_|~-]+)$/);

/** A browser origin, or `*`. APISIX compares it byte for byte with the Origin header. */
const origin = text(
  '* or an origin such as https://app.example.com',
  /^(?:\*|[a-z][a-z0-9]*:\/\/[^\s,/?#"'\\]+)$/,
);

/** Ids of some issuers consist of random letters and digits, and look like keys. */
const ID_OF_AN_ISSUER = /^(?!sk[-_]|eyJ)/;

export const guardrailSettings = {
  ENABLE_AI_RATE_LIMIT: setting(boolean(), {
    section,
    description: 'Turns on token limits for the two lanes (priority classes), high and low.',
    default: false,
    example: 'true',
    output: [AI_LIMIT],
  }),
  AI_RATE_LIMIT_STRATEGY: setting(oneOf(['total_tokens', 'req', 'prompt_tokens', 'completion_tokens']), {
    section,
    description:
      'What the limits of lanes and the token budgets of clients count: a kind of tokens, or, only for lanes, requests that a backend answered (`req`).',
    default: 'total_tokens',
    example: 'total_tokens',
    output: [`${AI_LIMIT}.limit_strategy`, `${AI_LIMIT}.cost_expr`],
    needs: TOKEN_LIMITS,
    effective: limitStrategy,
  }),
  AI_RATE_LIMIT_WINDOW_SECONDS: setting(integer(1, 31_536_000), {
    section,
    description: 'Length of the time window of the lane limits, in seconds.',
    default: 60,
    example: '60',
    output: [`${AI_LIMIT}.rules[].time_window`],
    needs: LANES,
  }),
  AI_RATE_LIMIT_HIGH_LIMIT: setting(integer(1), {
    section,
    description:
      'Tokens that requests of the high lane may use per time window; requests with AI_RATE_LIMIT_STRATEGY=req.',
    default: 200,
    example: '100000',
    output: [`${AI_LIMIT}.rules[].count`],
    needs: LANES,
    effective: highLaneLimit,
    changed: GATEWAY_WIDE,
  }),
  AI_RATE_LIMIT_LOW_LIMIT: setting(integer(1), {
    section,
    description:
      'Tokens that requests of the low lane may use per time window; requests with AI_RATE_LIMIT_STRATEGY=req.',
    default: 20,
    example: '20000',
    output: [`${AI_LIMIT}.rules[].count`],
    needs: LANES,
    changed: 'it applies to every route; in the accelerator it applied only to one route of the test mode',
  }),
  AI_RATE_LIMIT_SHARED_LIMIT: setting(integer(1), {
    section,
    description:
      'Tokens that requests of both lanes together may use in any minute, for each deployment. It works with and without the separate limits of the lanes, and always counts all tokens.',
    defaultText: 'no limit',
    example: '100000',
    output: [`${BUDGET}.tokens_per_minute`],
    isNew: true,
  }),
  AI_RATE_LIMIT_HIGH_RESERVE: setting(integer(0), {
    section,
    description:
      'Tokens of AI_RATE_LIMIT_SHARED_LIMIT that are reserved for the high lane: requests of the low lane get 429 while less than this is left.',
    default: 0,
    example: '30000',
    output: [`${BUDGET}.high_reserve`],
    needs: SHARED_BUDGET,
    isNew: true,
  }),
  AI_RATE_LIMIT_REJECT_CODE: setting(integer(400, 599), {
    section,
    description:
      'Status of a rejected request. 408, 444 and 499 are not possible, because nginx does not send them.',
    default: 503,
    example: '429',
    output: [`${AI_LIMIT}.rejected_code`],
    needs: TOKEN_LIMITS,
  }),
  AI_RATE_LIMIT_REJECT_MESSAGE: setting(text('1 to 512 printable characters', /^[^\p{C}]{1,512}$/u), {
    section,
    description: 'Message of a rejected request.',
    default: 'rate limited',
    example: 'rate limited',
    output: [`${AI_LIMIT}.rejected_msg`],
    needs: TOKEN_LIMITS,
  }),
  AI_RATE_LIMIT_SCOPE: setting(oneOf(['gateway', 'client']), {
    section,
    description:
      'Whether a lane has one limit for the whole gateway (`gateway`), or one for each client (`client`).',
    default: 'gateway',
    example: 'client',
    output: [`${AI_LIMIT}.rules[].key`],
    needs: LANES,
    isNew: true,
  }),
  AI_RATE_LIMIT_POLICY: setting(oneOf(['local', 'redis']), {
    section,
    description:
      'Where the limits of this section are counted: in each replica (`local`), or in a Redis that all replicas share (`redis`).',
    default: 'local',
    example: 'redis',
    output: inEveryLimiter('policy'),
    needs: ANY_LIMIT,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_HOST: setting(host(), {
    section,
    description: 'Host of that Redis; required with AI_RATE_LIMIT_POLICY=redis.',
    defaultText: 'none',
    example: 'redis.internal',
    output: inEveryLimiter('redis_host'),
    needs: LIMITS_IN_REDIS,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_PORT: setting(integer(1, 65_535), {
    section,
    description: 'Port of that Redis.',
    default: 6379,
    example: '6380',
    output: inEveryLimiter('redis_port'),
    needs: LIMITS_IN_REDIS,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_USERNAME: setting(text('1 to 256 printable characters', /^[^\p{C}\s]{1,256}$/u), {
    section,
    description: 'User name for that Redis.',
    defaultText: 'none',
    example: 'gateway',
    output: inEveryLimiter('redis_username'),
    needs: LIMITS_IN_REDIS,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_PASSWORD: setting(apiKey(), {
    section,
    description: 'Password for that Redis.',
    defaultText: 'none',
    example: '<password>',
    output: inEveryLimiter('redis_password'),
    needs: LIMITS_IN_REDIS,
    sensitive: true,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_DATABASE: setting(integer(0, 1_000_000), {
    section,
    description: 'Database number.',
    default: 0,
    example: '0',
    output: inEveryLimiter('redis_database'),
    needs: LIMITS_IN_REDIS,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_TLS: setting(boolean(), {
    section,
    description: 'Uses TLS for that Redis and checks its certificate against the host name.',
    default: false,
    example: 'true',
    output: [...inEveryLimiter('redis_ssl'), ...inEveryLimiter('redis_ssl_verify')],
    needs: LIMITS_IN_REDIS,
    isNew: true,
  }),
  ENABLE_RATE_LIMIT: setting(boolean(), {
    section,
    description: 'Turns on a limit of requests per second. Requests above it get 429.',
    default: false,
    example: 'true',
    output: [`${PLUGINS}.limit-req`],
    changed: PER_CLIENT,
  }),
  RATE_LIMIT_RATE: setting(number({ exclusiveMin: 0, max: 1_000_000 }), {
    section,
    description: 'Requests per second.',
    defaultText: 'required with ENABLE_RATE_LIMIT',
    example: '100',
    output: [`${PLUGINS}.limit-req.rate`],
    needs: REQUEST_RATE,
  }),
  RATE_LIMIT_BURST: setting(integer(0, 1_000_000), {
    section,
    description: 'Number of requests above the rate that pass without delay.',
    default: 0,
    example: '20',
    output: [`${PLUGINS}.limit-req.burst`],
    needs: REQUEST_RATE,
    changed: 'a burst passes without delay; the accelerator delayed it',
  }),
  ENABLE_QUOTA: setting(boolean(), {
    section,
    description: 'Turns on a limit of requests in a time window. Requests above it get 429.',
    default: false,
    example: 'true',
    output: [`${PLUGINS}.limit-count`],
    changed: PER_CLIENT,
  }),
  QUOTA_COUNT: setting(integer(1), {
    section,
    description: 'Requests in a time window.',
    defaultText: 'required with ENABLE_QUOTA',
    example: '1000',
    output: [`${PLUGINS}.limit-count.rules[].count`],
    needs: REQUEST_QUOTA,
  }),
  QUOTA_TIME_WINDOW: setting(integer(1, 31_536_000), {
    section,
    description: 'Length of that time window, in seconds.',
    defaultText: 'required with ENABLE_QUOTA',
    example: '60',
    output: [`${PLUGINS}.limit-count.rules[].time_window`],
    needs: REQUEST_QUOTA,
  }),
  RATE_LIMIT_KEY: setting(oneOf(['client', 'ip']), {
    section,
    description:
      'Whether RATE_LIMIT_RATE and QUOTA_COUNT apply to each client (`client`) or to each IP address (`ip`).',
    defaultText: 'client if authentication is on, else ip',
    example: 'client',
    output: [`${PLUGINS}.limit-req.key`, `${PLUGINS}.limit-count.rules[].key`],
    needs: REQUEST_LIMITS,
    effective: requestKey,
    isNew: true,
  }),
  ENABLE_CORS: setting(boolean(), {
    section,
    description: 'Allows web pages of other origins to call the gateway (CORS).',
    default: false,
    example: 'true',
    output: [`${PLUGINS}.cors`],
    changed: PREFLIGHT,
  }),
  CORS_ALLOW_ORIGINS: setting(list(origin), {
    section,
    description: 'Origins whose web pages may call the gateway.',
    defaultText: 'required with ENABLE_CORS',
    example: 'https://app.example.com',
    output: [`${PLUGINS}.cors.allow_origins`],
    needs: CORS,
  }),
  CORS_ALLOW_METHODS: setting(list(text('an HTTP method', /^[A-Z]{3,16}$/)), {
    section,
    description: 'HTTP methods that web pages may use.',
    default: ['GET', 'POST', 'DELETE', 'OPTIONS'],
    example: 'GET,POST,DELETE,OPTIONS',
    output: [`${PLUGINS}.cors.allow_methods`],
    needs: CORS,
  }),
  CORS_ALLOW_HEADERS: setting(list(httpToken('a header name, or *')), {
    section,
    description: 'Request headers that web pages may send.',
    defaultText: '*, or with CORS_ALLOW_CREDENTIALS the headers that the OpenAI SDKs send',
    example: 'Authorization,Content-Type',
    output: [`${PLUGINS}.cors.allow_headers`],
    needs: CORS,
    effective: corsRequestHeaders,
  }),
  CORS_EXPOSE_HEADERS: setting(list(httpToken('a header name, or *')), {
    section,
    description: 'Response headers that scripts of web pages may read.',
    defaultText: 'none',
    example: 'X-Request-ID',
    output: [`${PLUGINS}.cors.expose_headers`],
    needs: CORS,
  }),
  CORS_MAX_AGE: setting(integer(-1, 31_536_000), {
    section,
    description:
      'How long a browser may cache the answer to a preflight request, in seconds. -1 = not at all.',
    default: 86_400,
    example: '3600',
    output: [`${PLUGINS}.cors.max_age`],
    needs: CORS,
  }),
  CORS_ALLOW_CREDENTIALS: setting(boolean(), {
    section,
    description: 'Allows web pages to send cookies and credentials. It cannot be used together with `*`.',
    default: false,
    example: 'false',
    output: [`${PLUGINS}.cors.allow_credential`],
    needs: CORS,
  }),
  ENABLE_IP_RESTRICTION: setting(boolean(), {
    section,
    description:
      'Restricts who may call the gateway by IP address. Set exactly one of IP_WHITELIST and IP_BLACKLIST.',
    default: false,
    example: 'true',
    output: [`${PLUGINS}.ip-restriction`],
  }),
  IP_WHITELIST: setting(list(cidr()), {
    section,
    description: 'Only these addresses may call the gateway.',
    defaultText: 'none',
    example: '10.0.0.0/8,192.168.0.0/16',
    output: [`${PLUGINS}.ip-restriction.whitelist`],
    needs: IP_RESTRICTION,
  }),
  IP_BLACKLIST: setting(list(cidr()), {
    section,
    description: 'These addresses may not call the gateway.',
    defaultText: 'none',
    example: '203.0.113.0/24',
    output: [`${PLUGINS}.ip-restriction.blacklist`],
    needs: IP_RESTRICTION,
  }),
  ENABLE_RESPONSE_REWRITE: setting(boolean(), {
    section,
    description:
      'Removes the response headers Server and X-Powered-By, and adds X-Content-Type-Options nosniff and X-Frame-Options DENY.',
    default: false,
    example: 'true',
    output: [`${PLUGINS}.response-rewrite`],
  }),
  ENABLE_OIDC: setting(boolean(), {
    section,
    description:
      'Accepts tokens of an OIDC issuer in Authorization: Bearer. Clients can still send a client key in api-key, x-api-key or ocp-apim-subscription-key; a request needs a valid token or a valid key.',
    default: false,
    example: 'true',
    output: [`${PLUGINS}.azure-openai-auth.oidc`],
    changed:
      "tokens are checked with the issuer's public keys, not at its introspection endpoint; an incomplete setup is an error, not ignored",
  }),
  OIDC_CLIENT_ID: setting(text('1 to 256 printable ASCII characters', /^[\x21-\x7e]{1,256}$/), {
    section,
    description:
      'Client id of the gateway at the issuer. Tokens with the audience ID or api://ID are accepted, in addition to OIDC_AUDIENCES.',
    defaultText: 'required with ENABLE_OIDC, unless OIDC_AUDIENCES is set',
    example: '00000000-0000-0000-0000-000000000000',
    output: [`${PLUGINS}.azure-openai-auth.oidc.audiences`],
    needs: OIDC,
    mayLookLikeKey: ID_OF_AN_ISSUER,
  }),
  OIDC_AUDIENCES: setting(
    list(text('1 to 256 printable ASCII characters without a comma', /^[\x21-\x2b\x2d-\x7e]{1,256}$/)),
    {
      section,
      description:
        "Audiences of the tokens that the gateway accepts, for example those for which Azure's SDKs request tokens. A URL matches with and without a final slash.",
      defaultText: 'OIDC_CLIENT_ID alone',
      example: 'https://cognitiveservices.azure.com,https://ai.azure.com',
      output: [`${PLUGINS}.azure-openai-auth.oidc.audiences`],
      needs: OIDC,
      effective: tokenAudiences,
      mayLookLikeKey: ID_OF_AN_ISSUER,
      isNew: true,
    },
  ),
  OIDC_CLIENT_SECRET: setting(apiKey(), {
    section,
    description:
      'Client secret of the gateway at the issuer. It is not used: public keys are enough to check tokens.',
    defaultText: 'none',
    example: '<client secret>',
    output: [],
    needs: OIDC,
    sensitive: true,
  }),
  OIDC_DISCOVERY_URL: setting(url(), {
    section,
    description: "URL of the issuer's discovery document. For Entra ID, use the URL of one tenant.",
    defaultText: 'required with ENABLE_OIDC',
    example:
      'https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0/.well-known/openid-configuration',
    output: [`${PLUGINS}.azure-openai-auth.oidc.discovery`],
    needs: OIDC,
  }),
  OIDC_REDIRECT_URI: setting(url(), {
    section,
    description:
      'Redirect URI registered at the issuer. It is not used: the gateway does not redirect clients.',
    defaultText: 'none',
    example: 'https://gateway.example.com/callback',
    output: [],
    needs: OIDC,
  }),
} as const;
