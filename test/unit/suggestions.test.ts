/** Suggestions for a wrong value or name: by meaning, by spelling, and by the form of the value. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import { resolveName } from '../../compiler/settings/names.ts';

const base = {
  AZURE_OPENAI_ENDPOINT_0: 'https://res.openai.azure.com',
  AZURE_OPENAI_KEY_0: '0123456789abcdef0123456789abcdef',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'fedcba9876543210fedcba9876543210',
  GATEWAY_REQUIRE_AUTH: 'true',
};

async function findingsOf(name: string, value: string) {
  const { diagnostics } = await compile({ environment: { ...base, [name]: value }, envFiles: [] });
  return diagnostics.filter(({ setting }) => setting === name).map(worded);
}

async function fixOf(name: string, value: string): Promise<string> {
  const found = await findingsOf(name, value);
  const invalid = found.find(({ code }) => code === 'INVALID_VALUE');
  expect(invalid, `${name}=${value} gives ${JSON.stringify(found)}`).toBeDefined();
  return invalid?.hint ?? '';
}

describe('the suggested word is the nearest one by meaning, then by spelling', () => {
  test.each([
    ['AZURE_OPENAI_AUTH_MODE_0', 'managed-identity', 'entra'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'managed_identity', 'entra'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'MSI', 'entra'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'DefaultAzureCredential', 'entra'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'workload identity', 'entra'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'azure_ad', 'entra'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'key', 'api-key'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'api key', 'api-key'],
    ['AZURE_OPENAI_AUTH_MODE_0', 'entar', 'entra'],
    ['LB_ALG', 'round-robin', 'roundrobin'],
    ['LB_ALG', 'least-conn', 'latency'],
    ['LB_ALG', 'least_connections', 'latency'],
    ['LB_ALG', 'fastest', 'latency'],
    ['LB_ALG', 'latency-based-routing', 'latency'],
    ['LB_ALG', 'simple-shuffle', 'roundrobin'],
    ['LB_ALG', 'weighted', 'roundrobin'],
    ['LB_ALG', 'consistent-hash', 'chash'],
    ['LB_ALG', 'sticky', 'chash'],
    ['LB_ALG', 'latnecy', 'latency'],
    ['LB_HASH_ON', 'client', 'consumer'],
    ['RATE_LIMIT_KEY', 'consumer', 'client'],
    ['RATE_LIMIT_KEY', 'remote_addr', 'ip'],
    ['AI_RATE_LIMIT_POLICY', 'in-memory', 'local'],
    ['AI_RATE_LIMIT_STRATEGY', 'requests', 'req'],
    ['AI_RATE_LIMIT_STRATEGY', 'output-tokens', 'completion_tokens'],
    ['APISIX_LOG_LEVEL', 'warning', 'warn'],
    ['APISIX_LOG_LEVEL', 'critical', 'crit'],
    ['APISIX_LOG_LEVEL', 'trace', 'debug'],
    ['GATEWAY_LOG_MODE', 'production', 'prod'],
    ['GATEWAY_LOG_MODE', 'staging', 'test'],
    ['GATEWAY_LOG_FORMAT', 'structured', 'json'],
    ['GATEWAY_SECRETS', 'references', 'reference'],
    ['GATEWAY_CLIENT_PRIORITY_0', 'batch', 'low'],
    ['AI_PROXY_FALLBACK_STRATEGY', '429;5xx', 'http_429,http_5xx'],
    ['ENABLE_CORS', 'enabled', 'true'],
    ['ENABLE_CORS', 'flase', 'false'],
    ['ENABLE_CORS', 'disable', 'false'],
  ])('%s=%s: %s', async (name, value, meant) => {
    expect(await fixOf(name, value)).toBe(`write ${name}=${meant}`);
  });

  test('lists all allowed words when none is near', async () => {
    expect(await fixOf('LB_ALG', 'fubar')).toBe('write one of roundrobin, chash, latency, preferred');
    expect(await fixOf('AZURE_OPENAI_AUTH_MODE_0', 'x')).toBe('write one of api-key, entra');
  });
});

test.each([
  ['AI_PROXY_COOLDOWN', '10sec', '10s'],
  ['AI_PROXY_COOLDOWN', '1h30m', '90m'],
  ['AI_PROXY_COOLDOWN', '1.5s', '1500ms'],
  ['AI_PROXY_COOLDOWN', '5 minutes', '5m'],
  ['AI_PROXY_COOLDOWN', 'PT30S', '30s'],
  ['AI_PROXY_COOLDOWN', '00:01:30', '90s'],
  ['GATEWAY_MAX_BODY_SIZE', '100MB', '100m'],
  ['GATEWAY_MAX_BODY_SIZE', '1 GiB', '1g'],
  ['GATEWAY_MAX_BODY_SIZE', '1.5m', '1536k'],
  ['GATEWAY_CLIENT_TOKENS_PER_MINUTE_0', '20k', '20000'],
  ['GATEWAY_CLIENT_TOKENS_PER_MINUTE_0', '1.5M', '1500000'],
  ['GATEWAY_CLIENT_TOKENS_PER_MINUTE_0', '10_000', '10000'],
  ['GATEWAY_CLIENT_TOKENS_PER_MINUTE_0', '1,000,000', '1000000'],
  ['GATEWAY_CLIENT_TOKENS_PER_MINUTE_0', '1e6', '1000000'],
  ['AZURE_OPENAI_WEIGHT_0', '2.0', '2'],
  ['AZURE_OPENAI_WEIGHT_0', '007', '7'],
  ['OTEL_SAMPLE_RATE', '10%', '0.1'],
  ['OTEL_SAMPLE_RATE', '0,5', '0.5'],
  ['OTEL_SAMPLE_RATE', '.25', '0.25'],
  ['OTEL_COLLECTOR_ENDPOINT', 'http://localhost:4318', 'localhost:4318'],
  ['OTEL_COLLECTOR_ENDPOINT', 'http://collector:4318/v1/traces', 'collector:4318'],
  ['AI_RATE_LIMIT_REDIS_HOST', 'rediss://redis.internal:6380/0', 'redis.internal'],
  ['GATEWAY_TRUSTED_PROXIES', '["10.0.0.0/8", "10.1.0.0/16"]', '10.0.0.0/8,10.1.0.0/16'],
  ['AI_PROXY_RETRY_STATUSES', '429 503', '429,503'],
  ['AZURE_OPENAI_NAME_0', 'swe ptu/1', 'swe-ptu-1'],
  ['AZURE_OPENAI_NAME_0', 'swe\u200bptu', 'sweptu'],
  ['AZURE_OPENAI_NAME_0', 'café', 'cafe'],
])('%s=%s gets the suggestion %s', async (name, value, meant) => {
  expect(await fixOf(name, value)).toBe(`write ${name}=${meant}`);
});

test('a message names characters that are invisible or easily confused', async () => {
  for (const [value, said] of [
    ['swe\u200bptu', 'U+200B'],
    ['swe\u00a0ptu', 'U+00A0'],
    ['caf\u00e9', 'é (U+00E9)'],
    ['caf\ufffd', 'U+FFFD'],
  ] as const) {
    const [found] = await findingsOf('AZURE_OPENAI_NAME_0', value);
    expect(found?.message).toContain(said);
  }
});

test('invisible characters of a received value are shown escaped', async () => {
  const [found] = await findingsOf('AZURE_OPENAI_NAME_0', 'swe\u200b\u202e\u00a0\u2028ptu é');
  expect(found?.received).toBe(String.raw`swe\u200b\u202e\u00a0\u2028ptu é`);
});

describe('a message about an endpoint names its fault', () => {
  test.each([
    ['x.openai.azure.com', 'scheme is missing', 'https://x.openai.azure.com'],
    ['x.openai.azure.com/openai/v1', 'scheme is missing', 'https://x.openai.azure.com/openai/v1'],
    ['localhost:8080', 'scheme is missing', 'http://localhost:8080'],
    ['htps://x.openai.azure.com', 'scheme is htps', 'https://x.openai.azure.com'],
    ['wss://x.openai.azure.com', 'scheme is wss', 'https://x.openai.azure.com'],
    ['https:/x.openai.azure.com', 'no :// after https', 'https://x.openai.azure.com'],
    ['https//x.openai.azure.com', 'no :// after https', 'https://x.openai.azure.com'],
    ['https:x.openai.azure.com', 'no :// after https', 'https://x.openai.azure.com'],
    ['https:\\\\x.openai.azure.com', 'no :// after https', 'https://x.openai.azure.com'],
    ['https://x.openai.azure.com,', 'ends with a comma', 'https://x.openai.azure.com'],
    ['https://x.openai.azure.com.', 'around it', 'https://x.openai.azure.com'],
    ["https://x.openai.azure.com'", 'around it', 'https://x.openai.azure.com'],
    ['(https://x.openai.azure.com)', 'around it', 'https://x.openai.azure.com'],
    ['https://https://x.openai.azure.com', 'two schemes', 'https://x.openai.azure.com'],
    ['https://x\u200b.openai.azure.com', 'U+200B', 'https://x.openai.azure.com'],
    ['https://x.openai.azure.com//', 'path', 'https://x.openai.azure.com'],
    ['https://x.openai.azure.com/v1/chat', 'path', 'https://x.openai.azure.com'],
    ['https://x.services.ai.azure.com/api/projects/p', 'Foundry project', 'https://x.services.ai.azure.com'],
    ['https://x.services.ai.azure.com/models', 'model inference', 'https://x.services.ai.azure.com'],
    ['my-company', 'a name, not a URL', 'https://my-company.openai.azure.com'],
    ['https://my_company.openai.azure.com', 'underscore', 'https://my-company.openai.azure.com'],
    ['https://x.openai.com', 'almost like', 'https://x.openai.azure.com'],
    ['https://x.openai.com/openai/v1', 'almost like', 'https://x.openai.azure.com'],
  ])('%s', async (value, said, meant) => {
    const [found] = await findingsOf('AZURE_OPENAI_ENDPOINT_0', value);
    expect(found?.message).toContain(said);
    expect(found?.hint).toBe(`write AZURE_OPENAI_ENDPOINT_0=${meant}`);
  });

  test.each([
    ['https://<your-resource>.openai.azure.com', 'it is a placeholder', 'write your own value'],
    ['<endpoint>', 'it is a placeholder', 'write your own value'],
    ['your-endpoint', 'it is a placeholder', 'write your own value'],
    ['https://${NAME}.openai.azure.com', 'not expanded', 'write the value itself'],
    ['$AZURE_OPENAI_ENDPOINT', 'not expanded', 'write the value itself'],
    ['https://$NAME.openai.azure.com', 'not expanded', 'write the value itself'],
    ['%ENDPOINT%', 'not expanded', 'write the value itself'],
    ['{{ endpoint }}', 'not expanded', 'write the value itself'],
    ['#{Endpoint}#', 'not expanded', 'write the value itself'],
    ['https://x y.openai.azure.com', 'white space', 'without white space'],
    [
      'https://a.openai.azure.com,https://b.openai.azure.com',
      '2 URLs',
      'AZURE_OPENAI_ENDPOINT_N with the next free',
    ],
    [
      'https://a.openai.azure.com https://b.openai.azure.com',
      '2 URLs',
      'write AZURE_OPENAI_ENDPOINT_0=https://a.openai',
    ],
    ['https://openai.azure.com', 'name of the resource is missing', 'https://NAME.openai.azure.com'],
    [
      'https://openai.azure.com/openai/v1',
      'name of the resource is missing',
      'https://NAME.openai.azure.com',
    ],
    ['https://api.openai.com/v1', 'address of OpenAI', 'endpoint of an Azure OpenAI resource'],
    ['https://api.openai.com', 'address of OpenAI', 'endpoint of an Azure OpenAI resource'],
    ['https://ai.azure.com/build/overview', 'address of a portal', 'the portal shows for your resource'],
    ['https://portal.azure.com/#home', 'address of a portal', 'the portal shows for your resource'],
    ['https://models.inference.ai.azure.com', 'GitHub Models', 'endpoint of an Azure OpenAI resource'],
    ['sk-verysecretkey123456', 'looks like a key', 'set AZURE_OPENAI_KEY_0 to the key'],
  ])('%s', async (value, said, advised) => {
    const [found] = await findingsOf('AZURE_OPENAI_ENDPOINT_0', value);
    expect(found?.message).toContain(said);
    expect(found?.hint).toContain(advised);
    expect(found?.hint).not.toContain('my-ptu');
  });

  test('suggests an Azure host for one that is nearly spelt like it', async () => {
    for (const host of ['x.openai.azurecom', 'x.openai.azure', 'xopenai.azure.com']) {
      const [found] = await findingsOf('AZURE_OPENAI_ENDPOINT_0', `https://${host}`);
      expect(found, host).toMatchObject({ code: 'ENDPOINT_HOST', severity: 'warning' });
      expect(found?.hint).toBe('write AZURE_OPENAI_ENDPOINT_0=https://x.openai.azure.com');
    }
    for (const host of [
      'x.openai.azure.us',
      'x.openai.azure.cn',
      'apim.azure-api.net',
      'mock',
      'x.privatelink.openai.azure.com',
    ])
      expect(await findingsOf('AZURE_OPENAI_ENDPOINT_0', `https://${host}`), host).toEqual([]);
  });
});

test.each(['https://x.openai.azure.com', 'x.openai.azure.com', 'X.cognitiveservices.azure.us/openai/v1'])(
  'a URL or a host in place of a key is an error that names the setting for URLs: %s',
  async (value) => {
    const [found] = await findingsOf('AZURE_OPENAI_KEY_0', value);
    expect(found).toMatchObject({ code: 'SECRET_IS_URL', severity: 'error' });
    expect(found?.hint).toContain('AZURE_OPENAI_ENDPOINT_0');
    expect(JSON.stringify(found)).not.toContain(value.slice(0, 10));
  },
);

test.each([
  ['AZURE_OPENAI_KEY_0', 'Zk7TqQv9mWb3\u200bXc5RpLs8JdHg', 'U+200B'],
  ['GATEWAY_CLIENT_KEY_0', 'Zk7TqQv9mWb3Xc5\ufeffRpLs8JdHg', 'U+FEFF'],
  ['GATEWAY_CLIENT_KEY_0', '\u201cZk7TqQv9mWb3Xc5RpLs8JdHg\u201d', '\u201c (U+201C)'],
  ['GATEWAY_CLIENT_KEY_0', '\u201eZk7TqQv9mWb3Xc5RpLs8JdHg\u201c', '\u201e (U+201E)'],
])(
  '%s with the value %j: the message names the character %s, and nothing else',
  async (name, value, said) => {
    const [found] = await findingsOf(name, value);
    expect(found).toMatchObject({ code: 'INVALID_VALUE', severity: 'error' });
    expect(found?.message).toBe(
      `the value is not usable: it contains ${said}, which is probably a mistake of copying`,
    );
    expect(found?.hint).toBe(`set ${name} again without this character`);
    expect(JSON.stringify(found)).not.toContain('Zk7');
  },
);

test('a letter of a secret is never shown', async () => {
  const [found] = await findingsOf('AZURE_OPENAI_KEY_0', 'Zk7TqQv9é-ß');
  expect(found).toMatchObject({ code: 'INVALID_VALUE', message: 'the value is not usable' });
});

test.each([
  ['GATEWAY_CLIENT_KEY_0', 'my key with blanks 123', 'white space'],
  ['GATEWAY_CLIENT_KEY_SECONDARY_0', 'my key with blanks 123', 'white space'],
  ['AZURE_OPENAI_KEY_0', '0123456789abcdef 0123456789abcdef', 'white space'],
  ['GATEWAY_CLIENT_KEY_0', 'Bearer fedcba9876543210fedcba9876543210', 'begins with a part of a header'],
  ['AZURE_OPENAI_KEY_0', 'api-key: 0123456789abcdef0123456789abcdef', 'begins with a part of a header'],
])('a key with white space in %s is a warning: %s', async (name, value, said) => {
  const found = await findingsOf(name, value);
  expect(found).toMatchObject([{ code: 'KEY_WITH_SPACE', severity: 'warning' }]);
  expect(found[0]?.message).toContain(said);
  expect(JSON.stringify(found)).not.toContain(value.slice(-8));
});

test.each([
  ['gpt-4o', undefined, 'AZURE_OPENAI_DEPLOYMENTS_0=gpt-4o'],
  ['gpt-4o/chat/completions', undefined, 'AZURE_OPENAI_DEPLOYMENTS_0=gpt-4o'],
  ['gpt-4o', 'gpt-4o,gpt-5', undefined],
  ['a%20b', undefined, undefined],
])('the message about a dropped path of the deployment %s names its setting', async (path, set, said) => {
  const environment = {
    ...base,
    AZURE_OPENAI_ENDPOINT_0: `https://res.openai.azure.com/openai/deployments/${path}`,
    ...(set === undefined ? {} : { AZURE_OPENAI_DEPLOYMENTS_0: set }),
  };
  const { diagnostics } = await compile({ environment, envFiles: [] });
  expect(diagnostics).toMatchObject([{ code: 'ENDPOINT_PATH_DROPPED', args: { limit: said } }]);
  const [found] = diagnostics.map(worded);
  if (said === undefined) expect(JSON.stringify(found)).not.toContain('DEPLOYMENTS');
  else for (const text of [found?.message, found?.hint]) expect(text).toContain(said);
});

test.each([
  ['AZURE_OPENAI_API_KEY_3', 'AZURE_OPENAI_KEY_3'],
  ['AZURE_OPENAI_URL_0', 'AZURE_OPENAI_ENDPOINT_0'],
  ['AZURE_OPENAI_BASE_URL_0', 'AZURE_OPENAI_ENDPOINT_0'],
  ['AZURE_OPENAI_API_BASE_1', 'AZURE_OPENAI_ENDPOINT_1'],
  ['AZURE_OPENAI_DEPLOYMENT_NAME_0', 'AZURE_OPENAI_DEPLOYMENTS_0'],
  ['AZURE_OPENAI_MODELS_2', 'AZURE_OPENAI_DEPLOYMENTS_2'],
  ['AZURE_OPENAI_LOCATION_2', 'AZURE_OPENAI_REGION_2'],
  ['AZURE_OPENAI_AUTH_12', 'AZURE_OPENAI_AUTH_MODE_12'],
  ['AZURE_OPENAI_1_KEY', 'AZURE_OPENAI_KEY_1'],
  ['AZURE_OPENAI_TIMEOUT', 'AI_PROXY_READ_TIMEOUT'],
  ['AZURE_OPENAI_MAX_RETRIES', 'AI_PROXY_MAX_ATTEMPTS'],
  ['GATEWAY_API_KEY_0', 'GATEWAY_CLIENT_KEY_0'],
  ['GATEWAY_API_KEY', 'GATEWAY_CLIENT_KEY'],
  ['GATEWAY_CLIENT_0', 'GATEWAY_CLIENT_NAME_0'],
  ['GATEWAY_CLIENT_TPM_3', 'GATEWAY_CLIENT_TOKENS_PER_MINUTE_3'],
  ['GATEWAY_LOG_LEVEL', 'APISIX_LOG_LEVEL'],
  ['GATEWAY_TIMEOUT', 'AI_PROXY_READ_TIMEOUT'],
  ['LB_STRATEGY', 'LB_ALG'],
  ['IP_WHITE_LIST', 'IP_WHITELIST'],
  ['OIDC_ISSUER_URL', 'OIDC_DISCOVERY_URL'],
  ['CORS_ALLOWED_ORIGINS', 'CORS_ALLOW_ORIGINS'],
])('the unknown name %s gets the suggestion %s', (name, meant) => {
  expect(resolveName(name)).toEqual({ is: 'unknown', nearest: meant });
});

test.each(['AZURE_OPENAI_TPM_0', 'AZURE_OPENAI_API_VERSION_0'])(
  'the unknown name %s gets an explanation instead of a suggestion',
  (name) => {
    expect(resolveName(name)).toEqual({
      is: 'unknown',
      nearest: undefined,
      note: expect.stringMatching(/\w{4}/),
    });
  },
);

test('similar fields are only suggested when their spelling is close', () => {
  // Three different letters in a name of fifteen make another word.
  expect(resolveName('AZURE_OPENAI_FOO_1')).toEqual({ is: 'unknown', nearest: undefined });
});

test('every suggested name is a setting', () => {
  for (const { name } of listSettings()) {
    const verdict = resolveName(name.replace(/_N$/, '_3').replace(/_/, '_X'));
    if (verdict.is === 'unknown' && verdict.nearest !== undefined)
      expect(resolveName(verdict.nearest).is, verdict.nearest).toBe('setting');
  }
});

describe('names of other programs in an env file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-names-'));
  const inFile = async (text: string) => {
    const file = join(folder, 'x.env');
    writeFileSync(file, text);
    try {
      return (await compile({ environment: {}, envFiles: [file] })).diagnostics.map(worded);
    } finally {
      rmSync(file);
    }
  };
  const gateway = Object.entries(base)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');

  test.each([
    ['AZURE_API_KEY', 'AZURE_OPENAI_KEY_0'],
    ['AZURE_OPENAI_API_KEY', 'AZURE_OPENAI_KEY_0'],
    ['OPENAI_API_KEY', 'AZURE_OPENAI_KEY_0'],
    ['OPENAI_KEY_0', 'AZURE_OPENAI_KEY_0'],
    ['AZUREOPENAI_KEY_1', 'AZURE_OPENAI_KEY_1'],
    ['AZURE_OPEN_AI_KEY_1', 'AZURE_OPENAI_KEY_1'],
  ])('%s is reported with the setting %s', async (name, meant) => {
    const found = (await inFile(`${name}=x\nAZURE_OPENAI_NAME_7=x\n`)).find(
      ({ setting }) => setting === name,
    );
    expect(found).toMatchObject({ code: 'NOT_A_SETTING', severity: 'info', line: 1 });
    expect(found?.message).toContain(meant);
  });

  test.each([
    'AZURE_API_BASE',
    'AZURE_OPENAI_API_ENDPOINT',
    'AOAI_ENDPOINT',
    'OPENAI_API_BASE',
    'AZURE_OPENAI_ENDPOINT',
  ])('NO_BACKEND is reported once, and its hint names %s', async (name) => {
    const found = await inFile(`${name}=https://x.openai.azure.com\n`);
    const about = found.filter(({ code }) => code === 'NO_BACKEND' || code === 'NOT_A_SETTING');
    expect(about).toMatchObject([{ code: 'NO_BACKEND' }]);
    expect(about[0]?.hint).toContain(`AZURE_OPENAI_ENDPOINT_0 to the value of ${name}`);
  });

  test.each([
    ['AI_RATELIMIT_HIGH_LIMIT', 'AI_RATE_LIMIT_HIGH_LIMIT'],
    ['APISIX_LOGLEVEL', 'APISIX_LOG_LEVEL'],
    ['REDIS_HOST', 'AI_RATE_LIMIT_REDIS_HOST'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_COLLECTOR_ENDPOINT'],
  ])('%s is reported next to good settings, with the suggestion %s', async (name, meant) => {
    const found = await inFile(`${gateway}${name}=x\n`);
    expect(found).toMatchObject([{ code: 'NOT_A_SETTING', setting: name }]);
    expect(found[0]?.message).toContain(`did you mean ${meant}?`);
  });

  test('GATEWAY_PORT with a number is reported, and the URL that Kubernetes writes is not', async () => {
    const [found, ...others] = await inFile(`${gateway}GATEWAY_PORT=8080\n`);
    expect(found).toMatchObject({ code: 'NOT_A_SETTING', severity: 'info', setting: 'GATEWAY_PORT' });
    expect(found?.message).toContain('listens on port 9080');
    expect(others).toEqual([]);
    expect(await inFile(`${gateway}GATEWAY_PORT=tcp://10.0.0.1:80\n`)).toEqual([]);
  });

  test("names of an application are not reported when the gateway's settings are complete", async () => {
    const own =
      'AZURE_OPENAI_API_KEY=x\nAZURE_OPENAI_ENDPOINT=x\nOPENAI_API_VERSION=x\nOPENAI_API_KEY=x\nNODE_ENV=x\nDATABASE_URL=x\nPORT=1\n';
    expect(await inFile(gateway + own)).toEqual([]);
  });
});
