import { setting } from '../declaration.ts';
import { apiKey, boolean, cidr, duration, host, integer, list, number, oneOf, text, url } from '../types.ts';

const section = 'Guardrails';
const PLUGINS = 'apisix.yaml: services[].plugins';
const AI_LIMIT = `${PLUGINS}.ai-rate-limiting`;
const PER_CLIENT = 'counts per client, no longer per IP address, when authentication is on (RATE_LIMIT_KEY)';
const GATEWAY_WIDE = 'one budget for the whole gateway, no longer one for each backend and route';
const PREFLIGHT = 'preflight requests work now; in the accelerator OPTIONS was a 404';

/** `**` would make APISIX allow everything, credentials or not. */
const httpToken = (expected: string) => text(expected, /^(?:\*|[A-Za-z0-9!#$%&'+.^_|~-]+)$/);

/** A browser origin, or `*`; APISIX compares it byte for byte with the Origin header. */
const origin = text(
  '* or an origin such as https://app.example.com',
  /^(?:\*|[a-z][a-z0-9]*:\/\/[^\s,/?#"'\\]+)$/,
);

export const guardrailSettings = {
  ENABLE_AI_RATE_LIMIT: setting(boolean(), {
    section,
    description: 'Token budgets for the two priority lanes.',
    default: false,
    example: 'true',
    output: AI_LIMIT,
  }),
  AI_RATE_LIMIT_STRATEGY: setting(oneOf(['total_tokens', 'req', 'prompt_tokens', 'completion_tokens']), {
    section,
    description:
      'What the lanes and the token budgets of clients count: tokens of a kind; or, for the lanes, requests that a backend answered (`req`).',
    default: 'total_tokens',
    example: 'total_tokens',
    output: `${AI_LIMIT}.limit_strategy`,
  }),
  AI_RATE_LIMIT_WINDOW_SECONDS: setting(integer(1, 31_536_000), {
    section,
    description: 'Length of the window, in seconds.',
    default: 60,
    example: '60',
    output: `${AI_LIMIT}.rules[].time_window`,
  }),
  AI_RATE_LIMIT_HIGH_LIMIT: setting(integer(1), {
    section,
    description: 'Budget of the high lane for each window.',
    default: 200,
    example: '100000',
    output: `${AI_LIMIT}.rules[].count`,
    changed: GATEWAY_WIDE,
  }),
  AI_RATE_LIMIT_LOW_LIMIT: setting(integer(1), {
    section,
    description: 'Budget of the low lane for each window.',
    default: 20,
    example: '20000',
    output: `${AI_LIMIT}.rules[].count`,
    changed: 'acts on every route; in the accelerator only on one route of the test mode',
  }),
  AI_RATE_LIMIT_REJECT_CODE: setting(integer(400, 599), {
    section,
    description: 'Status of a rejection; not 408, 444 or 499, which nginx does not answer with.',
    default: 503,
    example: '429',
    output: `${AI_LIMIT}.rejected_code`,
  }),
  AI_RATE_LIMIT_REJECT_MESSAGE: setting(text('1 to 512 printable characters', /^[^\p{C}]{1,512}$/u), {
    section,
    description: 'Message of a rejection.',
    default: 'rate limited',
    example: 'rate limited',
    output: `${AI_LIMIT}.rejected_msg`,
  }),
  AI_RATE_LIMIT_SCOPE: setting(oneOf(['gateway', 'client']), {
    section,
    description: 'One budget for each lane, or one for each lane and client.',
    default: 'gateway',
    example: 'client',
    output: `${AI_LIMIT}.rules[].key`,
    isNew: true,
  }),
  AI_RATE_LIMIT_POLICY: setting(oneOf(['local', 'redis']), {
    section,
    description: 'Where every limit of this section counts: in each replica, or in a Redis that all share.',
    default: 'local',
    example: 'redis',
    output: `${PLUGINS}.{ai-rate-limiting,limit-count,limit-req}.policy`,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_HOST: setting(host(), {
    section,
    description: 'Host of that Redis; required with AI_RATE_LIMIT_POLICY=redis.',
    defaultText: 'none',
    example: 'redis.internal',
    output: `${PLUGINS}.*.redis_host`,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_PORT: setting(integer(1, 65_535), {
    section,
    description: 'Port of that Redis.',
    default: 6379,
    example: '6380',
    output: `${PLUGINS}.*.redis_port`,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_USERNAME: setting(text('1 to 256 printable characters', /^[^\p{C}\s]{1,256}$/u), {
    section,
    description: 'User name for that Redis.',
    defaultText: 'none',
    example: 'gateway',
    output: `${PLUGINS}.*.redis_username`,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_PASSWORD: setting(apiKey(), {
    section,
    description: 'Password for that Redis.',
    defaultText: 'none',
    example: '<password>',
    output: `${PLUGINS}.*.redis_password`,
    sensitive: true,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_DATABASE: setting(integer(0, 1_000_000), {
    section,
    description: 'Database number.',
    default: 0,
    example: '0',
    output: `${PLUGINS}.*.redis_database`,
    isNew: true,
  }),
  AI_RATE_LIMIT_REDIS_TLS: setting(boolean(), {
    section,
    description: 'Speak TLS to that Redis; its certificate is verified, by name.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.*.redis_ssl`,
    isNew: true,
  }),
  ENABLE_RATE_LIMIT: setting(boolean(), {
    section,
    description: 'Limit requests a second; 429 above it.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.limit-req`,
    changed: PER_CLIENT,
  }),
  RATE_LIMIT_RATE: setting(number({ exclusiveMin: 0, max: 1_000_000 }), {
    section,
    description: 'Requests a second.',
    defaultText: 'required with ENABLE_RATE_LIMIT',
    example: '100',
    output: `${PLUGINS}.limit-req.rate`,
  }),
  RATE_LIMIT_BURST: setting(integer(0, 1_000_000), {
    section,
    description: 'Requests above the rate that are let through at once.',
    default: 0,
    example: '20',
    output: `${PLUGINS}.limit-req.burst`,
    changed: 'lets a burst through at once; the accelerator delayed it',
  }),
  ENABLE_QUOTA: setting(boolean(), {
    section,
    description: 'Limit requests in a window; 429 above it.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.limit-count`,
    changed: PER_CLIENT,
  }),
  QUOTA_COUNT: setting(integer(1), {
    section,
    description: 'Requests in a window.',
    defaultText: 'required with ENABLE_QUOTA',
    example: '1000',
    output: `${PLUGINS}.limit-count.rules[].count`,
  }),
  QUOTA_TIME_WINDOW: setting(integer(1, 31_536_000), {
    section,
    description: 'Length of the window, in seconds.',
    defaultText: 'required with ENABLE_QUOTA',
    example: '60',
    output: `${PLUGINS}.limit-count.rules[].time_window`,
  }),
  RATE_LIMIT_KEY: setting(oneOf(['client', 'ip']), {
    section,
    description: 'Whom the two limits above count.',
    defaultText: 'client with authentication, else ip',
    example: 'client',
    output: `${PLUGINS}.limit-req.key; ${PLUGINS}.limit-count.rules[].key`,
    isNew: true,
  }),
  ENABLE_CORS: setting(boolean(), {
    section,
    description: 'Let browsers of other origins call the gateway.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.cors`,
    changed: PREFLIGHT,
  }),
  CORS_ALLOW_ORIGINS: setting(list(origin), {
    section,
    description: 'Origins that may call.',
    defaultText: 'required with ENABLE_CORS',
    example: 'https://app.example.com',
    output: `${PLUGINS}.cors.allow_origins`,
  }),
  CORS_ALLOW_METHODS: setting(list(text('an HTTP method', /^[A-Z]{3,16}$/)), {
    section,
    description: 'Methods that may be used.',
    default: ['GET', 'POST', 'DELETE', 'OPTIONS'],
    example: 'GET,POST,DELETE,OPTIONS',
    output: `${PLUGINS}.cors.allow_methods`,
  }),
  CORS_ALLOW_HEADERS: setting(list(httpToken('a header name, or *')), {
    section,
    description: 'Request headers that may be sent.',
    defaultText: '*; with credentials the headers that the OpenAI SDKs send',
    example: 'Authorization,Content-Type',
    output: `${PLUGINS}.cors.allow_headers`,
  }),
  CORS_EXPOSE_HEADERS: setting(list(httpToken('a header name, or *')), {
    section,
    description: 'Response headers that scripts may read.',
    defaultText: 'none',
    example: 'X-Request-ID',
    output: `${PLUGINS}.cors.expose_headers`,
  }),
  CORS_MAX_AGE: setting(integer(-1, 31_536_000), {
    section,
    description: 'Seconds that a browser may remember a preflight; -1 = not at all.',
    default: 86_400,
    example: '3600',
    output: `${PLUGINS}.cors.max_age`,
  }),
  CORS_ALLOW_CREDENTIALS: setting(boolean(), {
    section,
    description: 'Allow cookies and credentials; not together with `*`.',
    default: false,
    example: 'false',
    output: `${PLUGINS}.cors.allow_credential`,
  }),
  ENABLE_IP_RESTRICTION: setting(boolean(), {
    section,
    description: 'Restrict by IP address; exactly one of the two lists.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.ip-restriction`,
  }),
  IP_WHITELIST: setting(list(cidr()), {
    section,
    description: 'Only these may call.',
    defaultText: 'none',
    example: '10.0.0.0/8,192.168.0.0/16',
    output: `${PLUGINS}.ip-restriction.whitelist`,
  }),
  IP_BLACKLIST: setting(list(cidr()), {
    section,
    description: 'These may not call.',
    defaultText: 'none',
    example: '203.0.113.0/24',
    output: `${PLUGINS}.ip-restriction.blacklist`,
  }),
  ENABLE_RESPONSE_REWRITE: setting(boolean(), {
    section,
    description: 'Drop Server and X-Powered-By; add X-Content-Type-Options nosniff and X-Frame-Options DENY.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.response-rewrite`,
  }),
  ENABLE_OIDC: setting(boolean(), {
    section,
    description:
      'Authorization: Bearer is then a token of an OIDC issuer, beside client keys in api-key and ocp-apim-subscription-key; one of them must be valid.',
    default: false,
    example: 'true',
    output: `${PLUGINS}.azure-openai-auth.oidc`,
    changed:
      "tokens are checked with the issuer's public keys, not at its introspection endpoint; an incomplete setup is an error, no longer skipped without a word",
  }),
  OIDC_CLIENT_ID: setting(text('1 to 256 printable ASCII characters', /^[\x21-\x7e]{1,256}$/), {
    section,
    description: 'Client id of the gateway at the issuer. Tokens must be for it, or for api:// and it.',
    defaultText: 'required with ENABLE_OIDC',
    example: '00000000-0000-0000-0000-000000000000',
    output: `${PLUGINS}.azure-openai-auth.oidc.audiences`,
  }),
  OIDC_CLIENT_SECRET: setting(apiKey(), {
    section,
    description:
      'Client secret of the gateway at the issuer. Nothing is done with it: public keys are enough to check tokens.',
    defaultText: 'required with ENABLE_OIDC',
    example: '<client secret>',
    output: 'none',
    sensitive: true,
  }),
  OIDC_DISCOVERY_URL: setting(url(), {
    section,
    description: "The issuer's discovery document. Of Entra ID it is that of one tenant.",
    defaultText: 'required with ENABLE_OIDC',
    example:
      'https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0/.well-known/openid-configuration',
    output: `${PLUGINS}.azure-openai-auth.oidc.discovery`,
  }),
  OIDC_REDIRECT_URI: setting(url(), {
    section,
    description:
      'Redirect URI registered at the issuer. Nothing is done with it: the gateway redirects nobody.',
    defaultText: 'required with ENABLE_OIDC',
    example: 'https://gateway.example.com/callback',
    output: 'none',
  }),
  ENABLE_CACHE: setting(boolean(), {
    section,
    description: 'Cache of exact answers. Not built yet: turning it on is an error.',
    default: false,
    example: 'false',
    output: 'none',
  }),
  CACHE_TTL: setting(duration({ min: 0, max: 86_400_000 }), {
    section,
    description: 'Lifetime of a cached answer. Unused until the cache is built.',
    defaultText: 'none',
    example: '60',
    output: 'none',
  }),
} as const;
