import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { diagnostic } from '../../compiler/diagnostics/diagnostic.ts';
import { looksLikeKey, MASK, withoutKeys } from '../../compiler/diagnostics/keys.ts';
import { worded } from '../../compiler/diagnostics/words.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import { resolveName } from '../../compiler/settings/names.ts';
import { goldenScenarios } from '../support/golden.ts';

const HEX = '0f1e2d3c4b5a69788796a5b4c3d2e1f0';
const NEW = '7Vb2Kq9mXw4Zr8Tn1Lp6Js3Hd5Gf0YcAeUiOoPaSdFgHjKlQwErTyUiZxCvBnMJQQJ99BCACYeBjFXJ3w3AA';

describe('a text that looks like a key is masked:', () => {
  test.each([
    ['32 hexadecimal digits', HEX],
    ['the same in capitals', HEX.toUpperCase()],
    ['64 of them', HEX.repeat(2)],
    ['an Azure key of 84 characters', NEW.slice(0, 84)],
    ['sk-', 'sk-verysecretkey123456'],
    ['sk-proj-', 'sk-proj-A1b2C3d4E5f6G7h8I9j0K1l2'],
    ['a token', 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg'],
    ['base64', 'q83vEjRWeJq83vEjRWeJq+w/ASNFZ4mrze8BI0VniavN=='],
    ['base64 as a URL writes it', 'q83vEjRWeJCrze8S%2BNFZ4kKvN7xI0%2FVniQq83vEj%3D'],
    ['a client secret of Entra', 'aBc8Q~Xy1.zW2_vU3-tS4rQ5~pO6nM7lK8.jI9hG'],
    ['an access key of AWS', 'AKIAIOSFODNN7EXAMPLE'],
    ['sk-ant-', 'sk-ant-api03-abc-DEF_ghi-JKL0123456789mnopQR'],
    ['base64 of URLs', 'q83vEjRWeJq83vEjRWeJq-w_ASNFZ4mrze8BI0VniavN'],
  ])('%s', (_, key) => {
    expect(looksLikeKey(key)).toBe(true);
    for (const text of [key, `x "${key}" y`, `key=${key};`, `https://${key}@x/y?sig=${key}`, `('${key}')`])
      for (let at = 0; at + 12 <= key.length; at++)
        expect(withoutKeys(text)).not.toContain(key.slice(at, at + 12));
    expect(withoutKeys(`received ${key}.`)).toBe(`received ${MASK}.`);
  });

  test('a part of a key with 20 characters or more', () => {
    expect(withoutKeys(HEX.slice(0, 20))).toBe(MASK);
    expect(withoutKeys(NEW.slice(0, 24))).toBe(MASK);
  });
});

describe('a text that does not look like a key is shown:', () => {
  test.each([
    'my-very-long-resource-name-in-sweden-central-production-01.openai.azure.com',
    'sk-telecom-openai-prod.openai.azure.com',
    'mycompanyopenaiswedencentralproduction.openai.azure.com',
    'GatewayBackendCredentialsRefused',
    'RESPONSES_AFFINITY_REDIS_TIMEOUT_MS',
    'gpt-4o=gpt-4o-eastus2,gpt-4o-mini=gpt-4o-mini-2024-07-18-globalstandard',
    '00000000-1111-2222-3333-444444444444',
    'https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0/.well-known/openid-configuration',
    'https://my-dce.westeurope-1.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef0123456789abcdef/streams/Custom-APIMGatewayLogs_CL?api-version=2023-01-01',
    'TeamA-Search-Service-Production-2024',
    '/etc/genai-gateway/environments/production/secrets/azure-openai-key-0',
    '12345678901234567890123456789012',
  ])('%s', (text) => {
    expect(looksLikeKey(text)).toBe(false);
    expect(withoutKeys(text)).toBe(text);
  });

  // A part of a key could look like these, so they are masked in output. They are no error in a setting.
  test.each(['GPT4o-Prod-EastUS2-GlobalStandard', 'AzureOpenAIProdSwedenCentralPTU01'])('%s', (name) => {
    expect(looksLikeKey(name)).toBe(false);
  });

  test('any text of the program itself', () => {
    const folder = join(import.meta.dirname, '../golden');
    const texts = goldenScenarios().map((name) =>
      readFileSync(join(folder, name, 'expected/diagnostics.txt'), 'utf8'),
    );
    const words = listSettings().flatMap(({ name, declaration: each }) => [
      name,
      each.description,
      each.type.expected,
      each.example,
    ]);
    for (const text of [...texts, ...words]) expect(withoutKeys(text)).toBe(text);
  });
});

test('a long value is cut before a key, not inside of it', () => {
  const received = `${' '.repeat(460)}x${HEX}`;
  const found = diagnostic('INVALID_VALUE', { setting: 'X', received }, { expected: 'x', example: 'x' });
  const { received: shown = '' } = worded(found);
  expect(shown).not.toContain(HEX.slice(0, 4));
});

describe('a key in a setting that is no secret', () => {
  const base = {
    AZURE_OPENAI_ENDPOINT_0: 'https://res.openai.azure.com',
    AZURE_OPENAI_KEY_0: '0123456789abcdef0123456789abcdef',
    GATEWAY_CLIENT_NAME_0: 'app',
    GATEWAY_CLIENT_KEY_0: 'fedcba9876543210fedcba9876543210',
    GATEWAY_REQUIRE_AUTH: 'true',
  };
  const MAY = ['OIDC_CLIENT_ID', 'OIDC_AUDIENCES'];
  const names = listSettings()
    .filter(({ declaration }) => !declaration.sensitive)
    .map(({ name }) => name.replace(/_N$/, '_0'))
    .filter((name) => !MAY.includes(name));

  test.each(names)('is an error in %s', async (name) => {
    const { diagnostics, documents } = await compile({ environment: { ...base, [name]: HEX }, envFiles: [] });
    expect(documents).toBeUndefined();
    expect(diagnostics.filter((each) => each.setting === name).map(worded)).toContainEqual(
      expect.objectContaining({ code: 'LOOKS_LIKE_KEY', severity: 'error', received: MASK }),
    );
  });

  test('is hidden completely, also when a separator is inside the key', async () => {
    const value = `${NEW.slice(0, 18)}.${NEW.slice(18)}`;
    const { diagnostics } = await compile({ environment: { ...base, LB_ALG: value }, envFiles: [] });
    const found = diagnostics.map(worded).find(({ setting }) => setting === 'LB_ALG');
    expect(found).toMatchObject({ code: 'LOOKS_LIKE_KEY', received: MASK });
    expect(JSON.stringify(found)).not.toContain(NEW.slice(0, 12));
  });

  test('is not assumed for ids of issuers and hashes of commits', async () => {
    const commit = 'a94a8fe5ccb19ba61c4c0873d391e987982fbbd3';
    for (const [name, value] of [
      ['SERVICE_VERSION', commit],
      ['OIDC_CLIENT_ID', 'K7f2Xw9Qp4Zr8Tn1Lm6Js3Hd5Gv0Ycb2'],
    ] as const) {
      const { diagnostics } = await compile({ environment: { ...base, [name]: value }, envFiles: [] });
      expect(diagnostics.filter(({ code }) => code === 'LOOKS_LIKE_KEY')).toEqual([]);
    }
  });

  test('leads to a hint that names the right setting', async () => {
    const { diagnostics } = await compile({
      environment: { ...base, GATEWAY_CLIENT_NAME_0: HEX },
      envFiles: [],
    });
    expect(diagnostics.map(worded).find(({ code }) => code === 'LOOKS_LIKE_KEY')?.hint).toContain(
      'GATEWAY_CLIENT_KEY_0',
    );
    expect(resolveName('GATEWAY_CLIENT_KEY_0').is).toBe('setting');
  });
});
