/** Diagnostics about settings that are each valid but make no sense together. */
import { describe, expect, test } from 'vitest';
import { type CompileResult, compile } from '../../compiler/compile.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
import { workspace } from '../support/workspace.ts';

const inFolder = workspace();
const BASE = `AZURE_OPENAI_ENDPOINT_0=https://res.openai.azure.com
AZURE_OPENAI_KEY_0=0123456789abcdef0123456789abcdef
GATEWAY_CLIENT_NAME_0=app
GATEWAY_CLIENT_KEY_0=fedcba9876543210fedcba9876543210
`;

/** Compiles the base with more lines. */
const compiled = (further: string, before = BASE): Promise<CompileResult> =>
  compile({ environment: {}, envFiles: [inFolder('x.env', `${before}${further}\n`)] });
const codes = ({ diagnostics }: CompileResult) =>
  diagnostics.map(({ code, setting }) => `${code} ${setting}`);

test('the base has no diagnostics', async () => {
  expect(codes(await compiled(''))).toEqual([]);
});

describe('a name that occurs twice in one env file', () => {
  test('is reported with all its lines, and the last one is used', async () => {
    const result = await compiled(
      'AZURE_OPENAI_ENDPOINT_0=https://a.openai.azure.com\nAZURE_OPENAI_ENDPOINT_0=https://b.openai.azure.com',
    );
    expect(result.diagnostics).toMatchObject([
      { code: 'DUPLICATE_ASSIGNMENT', severity: 'warning', setting: 'AZURE_OPENAI_ENDPOINT_0', line: 6 },
    ]);
    expect(result.diagnostics[0]?.args).toEqual({ lines: [1, 5], last: 6 });
    expect(result.model?.backends[0]?.origin).toBe('https://b.openai.azure.com');
  });

  test('is not reported for variables of other programs, or in another file', async () => {
    expect(codes(await compiled('NODE_ENV=a\nNODE_ENV=b'))).toEqual([]);
    const files = [
      inFolder('a.env', BASE),
      inFolder('b.env', 'AZURE_OPENAI_ENDPOINT_0=https://b.openai.azure.com\n'),
    ];
    expect(codes(await compile({ environment: {}, envFiles: files }))).toEqual([]);
  });
});

describe('one resource as two backends', () => {
  const second = (further: string) =>
    compiled(`AZURE_OPENAI_ENDPOINT_1=https://res.openai.azure.com/\n${further}`);

  test('is reported when the keys differ or one uses a token', async () => {
    for (const further of [
      'AZURE_OPENAI_KEY_1=00112233445566778899aabbccddeeff',
      'AZURE_OPENAI_AUTH_MODE_1=entra',
    ])
      expect(codes(await second(further))).toEqual(['SAME_RESOURCE AZURE_OPENAI_ENDPOINT_1']);
  });

  test('is reported as a duplicate when the keys are the same', async () => {
    expect(codes(await second('AZURE_OPENAI_KEY_1=0123456789abcdef0123456789abcdef'))).toEqual([
      'DUPLICATE_BACKEND AZURE_OPENAI_ENDPOINT_1',
    ]);
  });

  test('is reported when the hosts differ', async () => {
    for (const host of ['res.cognitiveservices.azure.com', 'res.services.ai.azure.com'])
      for (const [key, code] of [
        ['00112233445566778899aabbccddeeff', 'SAME_RESOURCE'],
        ['0123456789abcdef0123456789abcdef', 'DUPLICATE_BACKEND'],
      ])
        expect(
          codes(await compiled(`AZURE_OPENAI_ENDPOINT_1=https://${host}\nAZURE_OPENAI_KEY_1=${key}`)),
        ).toEqual([`${code} AZURE_OPENAI_ENDPOINT_1`]);
    for (const host of ['res.openai.azure.us', 'res2.cognitiveservices.azure.com'])
      expect(codes(await compiled(`AZURE_OPENAI_ENDPOINT_1=https://${host}\nAZURE_OPENAI_KEY_1=k`))).toEqual(
        [],
      );
  });

  test('is not reported when the deployments differ', async () => {
    const key = 'AZURE_OPENAI_KEY_1=00112233445566778899aabbccddeeff\nAZURE_OPENAI_DEPLOYMENTS_0=gpt-4o';
    expect(codes(await second(`${key}\nAZURE_OPENAI_DEPLOYMENTS_1=gpt-5`))).toEqual([]);
    expect(codes(await second(`${key}\nAZURE_OPENAI_DEPLOYMENTS_1=gpt-5,GPT-4o`))).toEqual([
      'SAME_RESOURCE AZURE_OPENAI_ENDPOINT_1',
    ]);
  });

  test('is not reported for hosts outside of Azure with different keys', async () => {
    const result = await compiled(
      'AZURE_OPENAI_ENDPOINT_1=https://apim.example.com\nAZURE_OPENAI_KEY_1=00112233445566778899aabbccddeeff\nAZURE_OPENAI_ENDPOINT_2=https://apim.example.com\nAZURE_OPENAI_KEY_2=ffeeddccbbaa99887766554433221100',
    );
    expect(codes(result)).toEqual([]);
  });
});

describe('the models of a client', () => {
  const models = (list: string, deployments = 'gpt-4o,small=gpt-4o-mini') =>
    compiled(`GATEWAY_CLIENT_MODELS_0=${list}\nAZURE_OPENAI_DEPLOYMENTS_0=${deployments}`);

  test('are reported when no backend serves any of them: the client can call nothing', async () => {
    const diagnostics = (await models('gpt-5,o3*')).diagnostics.map(worded);
    expect(diagnostics).toMatchObject([{ code: 'MODELS_NOT_SERVED', setting: 'GATEWAY_CLIENT_MODELS_0' }]);
    expect(diagnostics[0]?.message).toBe(
      'no backend serves gpt-5, o3*, so this client cannot call any model',
    );
    expect(diagnostics[0]?.expected).toContain('gpt-4o, small');
  });

  test('are reported one by one when no backend serves some of them', async () => {
    expect((await models('GPT-4o,gpt-5')).diagnostics[0]?.args).toMatchObject({
      models: ['gpt-5'],
      all: false,
    });
  });

  test('are not reported when they are served in any case or by a wildcard, or when no deployments are declared', async () => {
    for (const list of ['gpt-4o', 'GPT-4O,Small', 'gpt-*', '*', '*-4*'])
      expect(codes(await models(list))).toEqual([]);
    expect(codes(await compiled('GATEWAY_CLIENT_MODELS_0=gpt-5'))).toEqual([]);
  });
});

describe('a backend or client whose variables are empty is one info:', () => {
  test.each([
    ['AZURE_OPENAI_ENDPOINT_1=\nAZURE_OPENAI_KEY_1=', 'AZURE_OPENAI_ENDPOINT_1'],
    ['AZURE_OPENAI_ENDPOINT_1=\nAZURE_OPENAI_KEY_1=\nAZURE_OPENAI_PRIORITY_1=5', 'AZURE_OPENAI_ENDPOINT_1'],
    ['AZURE_OPENAI_ENDPOINT_1=\nAZURE_OPENAI_AUTH_MODE_1=entra', 'AZURE_OPENAI_ENDPOINT_1'],
    ["AZURE_OPENAI_ENDPOINT_1=''\nAZURE_OPENAI_KEY_1='  '", 'AZURE_OPENAI_ENDPOINT_1'],
    ['AZURE_OPENAI_KEY_1=', 'AZURE_OPENAI_KEY_1'],
    ['AZURE_OPENAI_KEY_1=\nAZURE_OPENAI_NAME_1=', 'AZURE_OPENAI_KEY_1'],
    ['GATEWAY_CLIENT_KEY_1=', 'GATEWAY_CLIENT_KEY_1'],
    ['GATEWAY_CLIENT_NAME_1=\nGATEWAY_CLIENT_KEY_1=', 'GATEWAY_CLIENT_NAME_1'],
    ['GATEWAY_CLIENT_NAME_1=\nGATEWAY_CLIENT_KEY_1=\nGATEWAY_CLIENT_PRIORITY_1=low', 'GATEWAY_CLIENT_NAME_1'],
  ])('%s', async (lines, setting) => {
    const result = await compiled(lines);
    expect(codes(result)).toEqual([`EMPTY_GROUP ${setting}`]);
    expect(result.diagnostics[0]?.severity).toBe('info');
    expect([result.model?.backends.length, result.model?.clients.length]).toEqual([1, 1]);
  });

  test('an empty endpoint without other settings counts as not set', async () => {
    expect(codes(await compiled('AZURE_OPENAI_ENDPOINT_1='))).toEqual([]);
  });

  test('half a pair is still an error', async () => {
    for (const [lines, expected] of [
      [
        'AZURE_OPENAI_ENDPOINT_1=https://b.openai.azure.com\nAZURE_OPENAI_KEY_1=',
        'BLANK_SECRET AZURE_OPENAI_KEY_1',
      ],
      ['AZURE_OPENAI_ENDPOINT_1=\nAZURE_OPENAI_KEY_1=x', 'BACKEND_WITHOUT_ENDPOINT AZURE_OPENAI_KEY_1'],
      ['GATEWAY_CLIENT_NAME_1=b\nGATEWAY_CLIENT_KEY_1=', 'BLANK_SECRET GATEWAY_CLIENT_KEY_1'],
      ['AZURE_OPENAI_KEY_1=\nAZURE_OPENAI_PRIORITY_1=5', 'BACKEND_WITHOUT_ENDPOINT AZURE_OPENAI_PRIORITY_1'],
    ] as const)
      expect(codes(await compiled(lines))).toContain(expected);
  });
});

describe('white space around a secret in an env file is reported:', () => {
  test.each([
    'AZURE_OPENAI_KEY_0=0123456789abcdef   ',
    'AZURE_OPENAI_KEY_0= 0123456789abcdef',
    'AZURE_OPENAI_KEY_0=0123456789abcdef\u00a0',
    'AZURE_OPENAI_KEY_0=0123456789abcdef\t',
  ])('%j', async (line) => {
    const result = await compiled('', BASE.replace(/^AZURE_OPENAI_KEY_0.*$/m, line));
    expect(codes(result)).toEqual(['SECRET_PADDED AZURE_OPENAI_KEY_0']);
    const inline = await compiled('GATEWAY_SECRETS=inline', BASE.replace(/^AZURE_OPENAI_KEY_0.*$/m, line));
    expect(codes(inline)).not.toContain('SECRET_PADDED AZURE_OPENAI_KEY_0');
  });

  test('white space around other values and Windows line ends are not reported', async () => {
    expect(codes(await compiled('LB_ALG=roundrobin  '))).toEqual([]);
    expect(codes(await compiled('', BASE.replaceAll('\n', '\r\n')))).toEqual([]);
  });
});

describe('changes since the accelerator are reported to its users only', () => {
  const spoken = ({ diagnostics }: CompileResult) =>
    diagnostics.filter(({ code }) => code === 'CHANGED_MEANING' || code === 'AUTH_REQUIRED_BY_DEFAULT')
      .length;

  test.each([
    '',
    'GATEWAY_REQUIRE_AUTH=true',
    'ENABLE_QUOTA=true\nQUOTA_COUNT=1\nQUOTA_TIME_WINDOW=1',
    'APISIX_ACTIVE_HEALTH_CHECKS=true',
    'GATEWAY_LOG_MODE=dev\nGATEWAY_CLIENT_MODELS_0=*',
  ])('not with %j', async (further) => {
    expect(spoken(await compiled(further))).toBe(0);
  });

  test.each([
    'GATEWAY_LOG_MODE=prod',
    'AI_RATE_LIMIT_LIMIT=1000',
    'SHARED_ROOT=/shared-configs',
    'KEY_VAULT_NAME=x',
  ])('with %s', async (further) => {
    const { diagnostics } = await compiled(`${further}\nAPISIX_ACTIVE_HEALTH_CHECKS=true`);
    const said = diagnostics.map(({ code, setting }) => `${code} ${setting}`);
    expect(said).toContain('CHANGED_MEANING APISIX_ACTIVE_HEALTH_CHECKS');
    expect(said).toContain('AUTH_REQUIRED_BY_DEFAULT GATEWAY_REQUIRE_AUTH');
  });
});

describe("Entra in Azure's other clouds", () => {
  const entra = (endpoint: string, further = '') =>
    compiled(
      further,
      BASE.replace(/=https.*$/m, `=${endpoint}`).replace(
        /^AZURE_OPENAI_KEY_0=.*$/m,
        'AZURE_OPENAI_AUTH_MODE_0=entra',
      ),
    );
  const audience = ({ model }: CompileResult) => {
    const [backend] = model?.backends ?? [];
    return backend?.credential.kind === 'entra' ? backend.credential.resource : undefined;
  };

  test.each([
    ['https://x.openai.azure.us', 'https://cognitiveservices.azure.us/'],
    ['https://X.OpenAI.Azure.US', 'https://cognitiveservices.azure.us/'],
    ['https://x.openai.azure.cn', 'https://cognitiveservices.azure.cn/'],
    ['https://x.cognitiveservices.azure.us:443', 'https://cognitiveservices.azure.us/'],
    ['https://x.openai.azure.com', 'https://cognitiveservices.azure.com/'],
    ['https://apim.example.us', 'https://cognitiveservices.azure.com/'],
  ])('a token for %s has the audience %s', async (endpoint, expected) => {
    const result = await entra(endpoint);
    expect(audience(result)).toBe(expected);
    expect(codes(result)).toEqual([]);
  });

  test('the configured audience is used, and reported when it belongs to another cloud', async () => {
    const wrong = await entra(
      'https://x.openai.azure.us',
      'AZURE_OPENAI_TOKEN_RESOURCE=https://cognitiveservices.azure.com/',
    );
    expect(audience(wrong)).toBe('https://cognitiveservices.azure.com/');
    expect(codes(wrong)).toEqual(['OTHER_CLOUD AZURE_OPENAI_TOKEN_RESOURCE']);
    const own = await entra(
      'https://x.openai.azure.us',
      'AZURE_OPENAI_TOKEN_RESOURCE_0=https://ai.example.com/',
    );
    expect(audience(own)).toBe('https://ai.example.com/');
    expect(codes(own)).toEqual([]);
    const file = 'AZURE_FEDERATED_TOKEN_FILE=/t\nAZURE_TENANT_ID=t\nAZURE_CLIENT_ID=c';
    const authority = (host: string) =>
      entra('https://x.openai.azure.us', `${file}\nAZURE_AUTHORITY_HOST=${host}`);
    expect(codes(await authority('https://login.microsoftonline.com/'))).toEqual([
      'OTHER_CLOUD AZURE_AUTHORITY_HOST',
    ]);
    expect(codes(await authority('login.microsoftonline.us'))).toEqual([]);
  });
});

describe('token limits without numbers', () => {
  const limits = async (further: string) =>
    (await compiled(`ENABLE_AI_RATE_LIMIT=true\n${further}`)).diagnostics
      .filter(({ code }) => code === 'LIMITS_BY_DEFAULT')
      .map(worded);

  test('are a warning with both numbers, their unit and their scope', async () => {
    const [found] = await limits('');
    expect(found).toMatchObject({ severity: 'warning', setting: 'ENABLE_AI_RATE_LIMIT' });
    expect(found?.message).toContain(
      '200 tokens a minute in the high lane and 20 tokens a minute in the low lane, for the whole gateway',
    );
    const [other] = await limits(
      'AI_RATE_LIMIT_STRATEGY=req\nAI_RATE_LIMIT_WINDOW_SECONDS=10\nAI_RATE_LIMIT_SCOPE=client',
    );
    expect(other?.message).toContain('200 requests in 10 seconds');
    expect(other?.message).toContain('for each client');
  });

  test.each([
    ['AI_RATE_LIMIT_HIGH_LIMIT=1000', 'AI_RATE_LIMIT_LOW_LIMIT', '20 tokens a minute in the low lane'],
    ['AI_RATE_LIMIT_LIMIT=1000', 'AI_RATE_LIMIT_LOW_LIMIT', '20 tokens a minute in the low lane'],
    ['AI_RATE_LIMIT_LOW_LIMIT=100', 'AI_RATE_LIMIT_HIGH_LIMIT', '200 tokens a minute in the high lane'],
  ])('with %s alone are a warning about %s', async (further, missing, said) => {
    const [found, ...others] = await limits(further);
    expect(found?.message).toContain(`${missing} is not set, so its default applies: ${said}, for the whole`);
    expect(found?.hint).toMatch(
      new RegExp(`^set for example ${missing}=\\d+, or remove ENABLE_AI_RATE_LIMIT$`),
    );
    expect(others).toEqual([]);
  });

  test('are not reported when both lanes have a limit', async () => {
    for (const high of ['AI_RATE_LIMIT_HIGH_LIMIT=1000', 'AI_RATE_LIMIT_LIMIT=1000'])
      expect(await limits(`${high}\nAI_RATE_LIMIT_LOW_LIMIT=100`)).toEqual([]);
  });
});
