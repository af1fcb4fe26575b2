/** Secrets in files: the compiler and the running gateway accept the same contents, and the documents name the files. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type CompileInput, compile } from '../../compiler/compile.ts';
import { runCli } from '../support/cli.ts';
import { GOOD, workspace } from '../support/workspace.ts';

const inFolder = workspace();
const { AZURE_OPENAI_KEY_0: _, ...WITHOUT_KEY } = GOOD;

const compiled = (environment: CompileInput['environment']) => compile({ environment, envFiles: [] });
const errorsOf = async (environment: CompileInput['environment']) =>
  (await compiled(environment)).diagnostics.flatMap(({ code, severity, setting }) =>
    severity === 'error' ? [[code, setting]] : [],
  );

type Case = readonly [what: string, content: string, value: string | null];
/** The same cases test the gateway's own rules, in test/lua/secret_file_test.lua. */
const CASES: readonly Case[] = JSON.parse(
  readFileSync(new URL('../lua/secret_file_cases.json', import.meta.url), 'utf8'),
);

describe('the compiler accepts the same contents of a secret file as the running gateway:', () => {
  test.each(CASES)('%s', async (_what, content, value) => {
    const environment = { ...WITHOUT_KEY, AZURE_OPENAI_KEY_0_FILE: inFolder('key', content) };
    const { settings, documents } = await compiled(environment);
    expect(settings.backends[0]?.KEY?.reveal() ?? null).toBe(value);
    expect(documents === undefined).toBe(value === null);
    const texts = Object.values(documents ?? {}).join('\n');
    // A value of one character occurs in any text.
    if (value !== null && value.length > 1) {
      expect(texts).not.toContain(value);
      expect(texts).not.toContain(JSON.stringify(value).slice(1, -1));
    }
  });
});

describe('the path of a secret file', () => {
  test.each([
    'secrets/key',
    './key',
    '../key',
    '/run/secrets/..',
    '/run/../run/secrets/key',
    '/..',
    '/run/secrets/ke\u0007y',
    '/run/secrets/${file:key}',
    '/run/secrets/$env',
    `/${'k'.repeat(5_000)}`,
  ])('cannot be %s', async (path) => {
    const environment = { ...WITHOUT_KEY, AZURE_OPENAI_KEY_0_FILE: path };
    expect(await errorsOf(environment)).toContainEqual(['SECRET_FILE_PATH', 'AZURE_OPENAI_KEY_0_FILE']);
    // In inline mode only the compiler reads the file, so the path need not make sense to the gateway.
    expect(await errorsOf({ ...environment, GATEWAY_SECRETS: 'inline' })).not.toContainEqual([
      'SECRET_FILE_PATH',
      'AZURE_OPENAI_KEY_0_FILE',
    ]);
  });

  test.each(['..data', 'a key', 'key "of" one\\', 'schlüssel', 'key..', '...'])(
    'may end with %s',
    async (name) => {
      const path = inFolder(name, 'key-of-backend-zero');
      const { documents, needs } = await compiled({ ...WITHOUT_KEY, AZURE_OPENAI_KEY_0_FILE: path });
      expect(documents?.['apisix.yaml']).toContain(JSON.stringify({ AZURE_OPENAI_KEY_0: path }).slice(1, 21));
      expect(needs?.files.apisix).toEqual({ AZURE_OPENAI_KEY_0: path });
    },
  );
});

test('render lists the files that each process must read instead of variables', () => {
  const [key, insights] = [inFolder('key', 'key-of-backend-zero'), inFolder('insights', 'A=b')];
  const env = {
    ...WITHOUT_KEY,
    AZURE_OPENAI_KEY_0_FILE: key,
    APPLICATIONINSIGHTS_CONNECTION_STRING_FILE: insights,
  };
  const rendered = (...more: string[]) => runCli(['render', '--out', inFolder('out'), ...more], { env });
  expect(JSON.parse(rendered('--format', 'json').stdout)).toMatchObject({
    variables: { apisix: ['GATEWAY_CLIENT_KEY_0'], collector: [] },
    secretFiles: {
      apisix: { AZURE_OPENAI_KEY_0: key },
      collector: { APPLICATIONINSIGHTS_CONNECTION_STRING: insights },
    },
  });
  expect(rendered().stdout).toContain(
    `The APISIX process needs to read these files: ${key}\nThe collector process needs to read these files: ${insights}\n`,
  );
  expect(readFileSync(inFolder('out/otel-collector.yaml'), 'utf8')).toContain(`"\${file:${insights}}"`);
});

test('a secret file for the token endpoint of the records is rendered as a reference', async () => {
  const path = inFolder('secret', 'secret-of-the-endpoint');
  const { documents, needs } = await compiled({
    ...GOOD,
    APIM_GATEWAY_LOGS_INGEST_URI:
      'https://a.ingest.monitor.azure.com/dataCollectionRules/dcr-0123456789abcdef',
    APIM_GATEWAY_LOGS_MSI_ENDPOINT: 'http://127.0.0.1:42356/msi/token',
    APIM_GATEWAY_LOGS_MSI_SECRET_FILE: path,
  });
  expect(documents?.['apisix.yaml']).toContain(
    'msi_secret: "$secret://file/settings/APIM_GATEWAY_LOGS_MSI_SECRET"',
  );
  expect(documents?.['apisix.yaml']).toContain(`files: {"APIM_GATEWAY_LOGS_MSI_SECRET": "${path}"}`);
  expect(needs?.files.apisix).toEqual({ APIM_GATEWAY_LOGS_MSI_SECRET: path });
});

test('the file of the Redis password for limits is listed only when there are limits', async () => {
  const environment = {
    ...GOOD,
    AI_RATE_LIMIT_POLICY: 'redis',
    AI_RATE_LIMIT_REDIS_HOST: 'redis.example.com',
    AI_RATE_LIMIT_REDIS_PASSWORD_FILE: inFolder('password', 'password-of-redis'),
  };
  const filesWith = async (more: CompileInput['environment']) =>
    Object.keys((await compiled({ ...environment, ...more })).needs?.files.apisix ?? {});
  expect(await filesWith({})).toEqual([]);
  for (const limit of [
    { ENABLE_AI_RATE_LIMIT: 'true' },
    { ENABLE_RATE_LIMIT: 'true', RATE_LIMIT_RATE: '5' },
    { ENABLE_QUOTA: 'true', QUOTA_COUNT: '5', QUOTA_TIME_WINDOW: '60' },
  ])
    expect(await filesWith(limit), Object.keys(limit)[0]).toEqual(['AI_RATE_LIMIT_REDIS_PASSWORD']);
});

test('GATEWAY_CLIENT_KEY can be a secret file', async () => {
  const { documents } = await compiled({
    AZURE_OPENAI_ENDPOINT_0: GOOD.AZURE_OPENAI_ENDPOINT_0,
    AZURE_OPENAI_KEY_0: GOOD.AZURE_OPENAI_KEY_0,
    GATEWAY_CLIENT_KEY_FILE: inFolder('key', 'key-of-the-one-client'),
  });
  expect(documents?.['apisix.yaml']).toContain(
    `"key": "$secret://file/settings/GATEWAY_CLIENT_KEY", "key_file": "${inFolder('key')}"`,
  );
});

test('in inline mode the value of a secret file is written, and the gateway reads no file', async () => {
  const environment = {
    ...WITHOUT_KEY,
    GATEWAY_SECRETS: 'inline',
    AZURE_OPENAI_KEY_0_FILE: inFolder('key', 'key-of-a-file\n'),
  };
  const { documents, needs } = await compiled(environment);
  if (!documents) throw new Error('there are no documents');
  expect(documents['apisix.yaml']).toContain('"key-of-a-file"');
  expect(documents['apisix.yaml']).not.toMatch(/secrets:|key_setting|\$secret/);
  expect(needs).toEqual({
    variables: { apisix: [], collector: [] },
    files: { apisix: {}, collector: {} },
  });
});
