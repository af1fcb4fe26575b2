/** What `explain` reports of a setting: its effective value, where that comes from, and whether it has an effect. */
import { describe, expect, test } from 'vitest';
import { listSettings } from '../../../compiler/settings/declarations/index.ts';
import { runHere } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

interface Explanation {
  readonly source: string;
  readonly becomes: string;
  readonly effect?: string;
}

const explain = async (name: string, env: Readonly<Record<string, string>>): Promise<Explanation> =>
  JSON.parse((await runHere(['explain', name, '--format', 'json'], { env })).stdout);

const WORKSPACE =
  'https://name.westeurope-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-0/streams/Microsoft-PrometheusMetrics';
const RULE = 'https://dce.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0';
const DEFAULT = 'not set: the default applies';

describe('the source and effective value', () => {
  test.each<[name: string, env: Record<string, string>, source: string, becomes: string]>([
    ['LB_ALG', {}, DEFAULT, 'roundrobin'],
    ['LB_ALG', { LB_ALG: 'latency' }, 'the environment', 'latency'],
    ['LB_HASH_KEY', {}, DEFAULT, 'none'],
    ['AZURE_OPENAI_NAME_0', {}, DEFAULT, 'backend-0'],
    ['AZURE_OPENAI_NAME_7', {}, DEFAULT, 'backend-7'],
    ['AZURE_OPENAI_WEIGHT_7', {}, DEFAULT, '1'],
    ['GATEWAY_CLIENT_PRIORITY_7', {}, DEFAULT, 'high'],
    ['AZURE_OPENAI_AUTH_MODE_0', {}, 'follows AZURE_OPENAI_KEY_0', 'api-key'],
    [
      'AZURE_OPENAI_AUTH_MODE_3',
      { AZURE_OPENAI_AUTH_MODE: 'aad' },
      'follows AZURE_OPENAI_AUTH_MODE=entra',
      'entra',
    ],
    [
      'AZURE_OPENAI_AUTH_MODE_3',
      {},
      DEFAULT,
      'api-key if AZURE_OPENAI_KEY_N is set, else AZURE_OPENAI_AUTH_MODE',
    ],
    [
      'AZURE_OPENAI_TOKEN_RESOURCE_1',
      { AZURE_OPENAI_ENDPOINT_1: 'https://b.openai.azure.us' },
      'follows AZURE_OPENAI_ENDPOINT_1=https://b.openai.azure.us',
      'https://cognitiveservices.azure.us/',
    ],
    [
      'AZURE_OPENAI_TOKEN_RESOURCE_1',
      { AZURE_OPENAI_ENDPOINT_1: 'https://b.example' },
      'follows AZURE_OPENAI_TOKEN_RESOURCE=https://cognitiveservices.azure.com/',
      'https://cognitiveservices.azure.com/',
    ],
    [
      'AZURE_OPENAI_MSI_CLIENT_ID_0',
      { AZURE_OPENAI_MSI_CLIENT_ID: 'a-1', AZURE_CLIENT_ID: 'b-1' },
      'follows AZURE_OPENAI_MSI_CLIENT_ID=a-1',
      'a-1',
    ],
    ['AZURE_OPENAI_MSI_CLIENT_ID_0', { MSI_CLIENT_ID: 'c-1' }, 'follows MSI_CLIENT_ID=c-1', 'c-1'],
    ['AZURE_OPENAI_MSI_CLIENT_ID', { AZURE_CLIENT_ID: 'b-1' }, 'follows AZURE_CLIENT_ID=b-1', 'b-1'],
    ['APIM_GATEWAY_LOGS_MSI_CLIENT_ID', { AZURE_CLIENT_ID: 'b-1' }, 'follows AZURE_CLIENT_ID=b-1', 'b-1'],
    [
      'AZURE_CLIENT_ID',
      { IDENTITY_CLIENT_ID: 'd-1', MSI_CLIENT_ID: 'c-1' },
      'follows IDENTITY_CLIENT_ID=d-1',
      'd-1',
    ],
    [
      'AI_PROXY_RETRY_STATUSES',
      { AI_PROXY_FALLBACK_STRATEGY: 'http_429' },
      'follows AI_PROXY_FALLBACK_STRATEGY=http_429',
      '408,429',
    ],
    ['AI_PROXY_RETRY_STATUSES', { AI_PROXY_RETRY_STATUSES: '503,429' }, 'the environment', '429,503'],
    ['AI_PROXY_COOLDOWN', {}, DEFAULT, '10s'],
    ['AI_PROXY_COOLDOWN', { AI_PROXY_COOLDOWN_MAX: '5s' }, 'follows AI_PROXY_COOLDOWN_MAX=5s', '5s'],
    [
      'AI_PROXY_COOLDOWN',
      { AI_PROXY_COOLDOWN: '10m' },
      'the environment, but follows AI_PROXY_COOLDOWN_MAX=2m',
      '2m',
    ],
    ['AI_RATE_LIMIT_HIGH_LIMIT', { AI_RATE_LIMIT_LIMIT: '70' }, 'follows AI_RATE_LIMIT_LIMIT=70', '70'],
    [
      'AI_RATE_LIMIT_HIGH_LIMIT',
      { AI_RATE_LIMIT_LIMIT: '70', AI_RATE_LIMIT_HIGH_LIMIT: '80' },
      'the environment',
      '80',
    ],
    [
      'AI_RATE_LIMIT_STRATEGY',
      { AI_RATE_LIMIT_STRATEGY: 'req' },
      'the environment, but follows ENABLE_AI_RATE_LIMIT=false',
      'total_tokens',
    ],
    ['RATE_LIMIT_KEY', {}, 'follows GATEWAY_REQUIRE_AUTH=true', 'client'],
    ['RATE_LIMIT_KEY', { GATEWAY_REQUIRE_AUTH: 'no' }, 'follows GATEWAY_REQUIRE_AUTH=false', 'ip'],
    ['CORS_ALLOW_HEADERS', {}, 'follows CORS_ALLOW_CREDENTIALS=false', '*,authorization'],
    ['CORS_ALLOW_HEADERS', { CORS_ALLOW_HEADERS: 'x-a' }, 'the environment', 'x-a'],
    ['OIDC_AUDIENCES', {}, DEFAULT, 'none'],
    ['OIDC_AUDIENCES', { OIDC_CLIENT_ID: 'app-1' }, 'follows OIDC_CLIENT_ID=app-1', 'app-1,api://app-1'],
    [
      'OIDC_AUDIENCES',
      { OIDC_AUDIENCES: 'https://ai.azure.com' },
      'the environment',
      'https://ai.azure.com,https://ai.azure.com/',
    ],
    ['OTEL_SAMPLE_RATE', { GATEWAY_LOG_MODE: 'test' }, 'follows GATEWAY_LOG_MODE=test', '0.5'],
    ['OTEL_SAMPLE_RATE', {}, 'follows GATEWAY_LOG_MODE=prod', '0.1'],
    ['ENABLE_DEBUG_EXPORTER', { GATEWAY_LOG_MODE: 'dev' }, 'follows GATEWAY_LOG_MODE=dev', 'true'],
    [
      'APIM_GATEWAY_LOGS_STREAM',
      {
        APIM_GATEWAY_LOGS_INGEST_URI: `${RULE}/streams/Custom-A`,
        APIM_GATEWAY_LOGS_STREAM: 'Custom-B',
      },
      `the environment, but follows APIM_GATEWAY_LOGS_INGEST_URI=${RULE}/streams/Custom-A`,
      'Custom-A',
    ],
    [
      'APIM_GATEWAY_LOGS_MSI_ENDPOINT',
      { IDENTITY_ENDPOINT: 'http://127.0.0.1:1/i', MSI_ENDPOINT: 'http://127.0.0.1:1/m' },
      'follows MSI_ENDPOINT=http://127.0.0.1:1/m, which the gateway reads at run time',
      'http://127.0.0.1:1/m',
    ],
    [
      'APIM_GATEWAY_LOGS_MSI_SECRET',
      { IDENTITY_HEADER: 'header-of-the-platform', MSI_SECRET: 'secret-of-the-platform' },
      'follows IDENTITY_HEADER, which the gateway reads at run time',
      'a secret that is not written into any file',
    ],
    [
      'OIDC_CLIENT_SECRET',
      { OIDC_CLIENT_SECRET: 'abcd1234' },
      'the environment',
      'a secret that is not written into any file',
    ],
    ['AZURE_OPENAI_KEY_0', { GATEWAY_SECRETS: 'inline' }, 'the environment', 'the value, inline'],
    ['GATEWAY_SHARED_DIR', { GATEWAY_SHARED_DIR: '/shared' }, 'the environment', '/shared'],
  ])('of %s are explained with %j', async (name, env, source, becomes) => {
    expect(await explain(name, { ...GOOD, ...env })).toMatchObject({ source, becomes });
  });

  test('of a setting in an env file has the path and line', async () => {
    const file = inFolder('a.env', '\nGATEWAY_LOG_MODE=dev\n');
    const { stdout } = await runHere(['explain', 'GATEWAY_LOG_MODE', '-e', file]);
    expect(stdout).toContain(`  source     ${file}:2\n  becomes    dev\n`);
  });
});

/** Default texts of settings that have no value unless one is set. */
const NO_VALUE = [
  /^none(?: \(the system-assigned identity\))?$/,
  /^required/,
  /^no limit$/,
  /^all$/,
  /^all deployments, with the names that clients use$/,
  /^the number of backends$/,
  /^the endpoint's$/,
  /^the system's CAs$/,
  /^from the platform$/,
  // The gateway and the collector compute these at run time.
  /^http:\/\/169\.254\.169\.254$/,
  /^https:\/\/login\.microsoftonline\.com, or the authority of the token.s cloud/,
  /^75 % of the memory of the collector's container$/,
  /^a fifth of that limit$/,
];

describe('a default that is described in words has a function that computes it:', () => {
  const inWords = listSettings().filter(
    ({ declaration: { defaultText = 'none', default: value } }) =>
      value === undefined && !NO_VALUE.some((each) => each.test(defaultText)),
  );

  test('there are more than ten such defaults', () => {
    expect(inWords.length).toBeGreaterThan(10);
  });

  test.each(inWords)('$name', ({ declaration }) => {
    expect(declaration.effective ?? declaration.effectiveOfPool).toBeTypeOf('function');
  });
});

describe('a setting without an effect', () => {
  test.each<[name: string, env: Record<string, string>, effect: string | undefined]>([
    ['LB_HASH_ON', {}, 'none without LB_ALG=chash or GATEWAY_POOL_LB_ALG_N=chash'],
    ['LB_HASH_ON', { GATEWAY_POOL_NAME_0: 'search', GATEWAY_POOL_LB_ALG_0: 'chash' }, undefined],
    ['LB_HASH_ON', { LB_ALG: 'chash' }, undefined],
    ['LB_HASH_ON', { LB_ALG: 'shash' }, undefined],
    ['CONFIG_API_SHARED_SECRET', { GATEWAY_POOL_LB_ALG_3: 'prefered' }, undefined],
    ['CORS_ALLOW_ORIGINS', { CORS_ALLOW_ORIGINS: '*' }, 'none without ENABLE_CORS=true'],
    ['AZURE_OPENAI_TOKEN_RESOURCE', {}, 'none without AZURE_OPENAI_AUTH_MODE_N=entra'],
    ['AZURE_OPENAI_TOKEN_RESOURCE', { AZURE_OPENAI_AUTH_MODE_0: 'entra' }, undefined],
    ['AZURE_OPENAI_TOKEN_RESOURCE', { AZURE_OPENAI_AUTH_MODE_0: 'entry' }, undefined],
    ['AZURE_OPENAI_MSI_CLIENT_ID_0', {}, 'none without AZURE_OPENAI_AUTH_MODE_0=entra'],
    ['AZURE_OPENAI_MSI_CLIENT_ID_0', { AZURE_OPENAI_AUTH_MODE_0: 'entry' }, undefined],
    ['AZURE_OPENAI_MSI_CLIENT_ID_5', { AZURE_OPENAI_AUTH_MODE_0: 'entry' }, undefined],
    ['RATE_LIMIT_KEY', { ENABLE_QUOTA: 'true' }, undefined],
    ['RATE_LIMIT_RATE', { ENABLE_QUOTA: 'true' }, 'none without ENABLE_RATE_LIMIT=true'],
    ['MODEL_PRICES', { AZURE_MONITOR_WORKSPACE_ENDPOINT: WORKSPACE }, undefined],
    ['MODEL_PRICES', { GATEWAY_LOG_MODE: 'dev' }, undefined],
    [
      'MODEL_PRICES',
      { GATEWAY_LOG_MODE: 'dev', ENABLE_DEBUG_EXPORTER: 'false' },
      'none without AZURE_MONITOR_WORKSPACE_ENDPOINT or ENABLE_DEBUG_EXPORTER=true',
    ],
    [
      'AZURE_FEDERATED_TOKEN_FILE',
      { AZURE_FEDERATED_TOKEN_FILE: '/token', AZURE_OPENAI_AUTH_MODE_0: 'entra' },
      'none without AZURE_TENANT_ID and AZURE_CLIENT_ID',
    ],
    [
      'AZURE_FEDERATED_TOKEN_FILE',
      {
        AZURE_FEDERATED_TOKEN_FILE: '/token',
        AZURE_OPENAI_AUTH_MODE_0: 'entra',
        MSI_ENDPOINT: 'http://m.example',
      },
      undefined,
    ],
  ])('%s with %j', async (name, env, effect) => {
    expect((await explain(name, { ...GOOD, ...env })).effect).toBe(effect);
  });

  test('is reported by check in the same words as by explain', async () => {
    const env = { ...GOOD, CORS_MAX_AGE: '5', AZURE_OPENAI_MSI_CLIENT_ID_0: 'a-1' };
    const { stdout } = await runHere(['check', '--format', 'text'], { env });
    expect(stdout.match(/\S+ has no effect without \S+/g)).toEqual([
      'AZURE_OPENAI_MSI_CLIENT_ID_0 has no effect without AZURE_OPENAI_AUTH_MODE_0=entra',
      'CORS_MAX_AGE has no effect without ENABLE_CORS=true',
    ]);
  });

  test('depends only on settings that exist', () => {
    const names = new Set(listSettings().map(({ name }) => name));
    for (const { name, declaration } of listSettings())
      for (const { words, switches } of [declaration.needs ?? []].flat())
        for (const each of [...switches, ...(words.match(/\b[A-Z]+(?:_[A-Z]+)+\b/g) ?? [])])
          expect(names, name).toContain(each);
  });
});
