/** Secrets in files: the compiler and the running gateway take the same files, and documents name them. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type CompileInput, compile } from '../../compiler/compile.ts';
import { neededFiles, neededVariables } from '../../compiler/emit/emit.ts';
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
/** Those of the gateway's own rules, test/lua/secret_file_test.lua. */
const CASES: readonly Case[] = JSON.parse(
  readFileSync(new URL('../lua/secret_file_cases.json', import.meta.url), 'utf8'),
);

describe('what a file may hold is what it may hold when the gateway runs', () => {
  test.each(CASES)('%s', async (_what, content, value) => {
    const environment = { ...WITHOUT_KEY, AZURE_OPENAI_KEY_0_FILE: inFolder('key', content) };
    const { settings, documents } = await compiled(environment);
    expect(settings.backends[0]?.KEY?.reveal() ?? null).toBe(value);
    expect(documents === undefined).toBe(value === null);
    const texts = Object.values(documents ?? {}).join('\n');
    // A single quote is found in anything.
    if (value !== null && value.length > 1) {
      expect(texts).not.toContain(value);
      expect(texts).not.toContain(JSON.stringify(value).slice(1, -1));
    }
  });
});

describe('the path of a file', () => {
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
    // Rendering reads it from where it runs, and nobody else does.
    expect(await errorsOf({ ...environment, GATEWAY_SECRETS: 'inline' })).not.toContainEqual([
      'SECRET_FILE_PATH',
      'AZURE_OPENAI_KEY_0_FILE',
    ]);
  });

  test.each(['..data', 'a key', 'key "of" one\\', 'schlüssel', 'key..', '...'])(
    'may end with %s',
    async (name) => {
      const path = inFolder(name, 'key-of-backend-zero');
      const { documents, model } = await compiled({ ...WITHOUT_KEY, AZURE_OPENAI_KEY_0_FILE: path });
      expect(documents?.['apisix.yaml']).toContain(JSON.stringify({ AZURE_OPENAI_KEY_0: path }).slice(1, 21));
      expect(model && neededFiles(model).apisix).toEqual({ AZURE_OPENAI_KEY_0: path });
    },
  );
});

test('render names the files that each process reads, and no variable for them', () => {
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
    `APISIX's process must be able to read: ${key}\nThe collector's process must be able to read: ${insights}\n`,
  );
  expect(readFileSync(inFolder('out/otel-collector.yaml'), 'utf8')).toContain(`"\${file:${insights}}"`);
});

test('the key of the one client may be a file', async () => {
  const { documents } = await compiled({
    AZURE_OPENAI_ENDPOINT_0: GOOD.AZURE_OPENAI_ENDPOINT_0,
    AZURE_OPENAI_KEY_0: GOOD.AZURE_OPENAI_KEY_0,
    GATEWAY_CLIENT_KEY_FILE: inFolder('key', 'key-of-the-one-client'),
  });
  expect(documents?.['apisix.yaml']).toContain('key: "$secret://file/settings/GATEWAY_CLIENT_KEY"');
  expect(documents?.['apisix.yaml']).toContain(`{"GATEWAY_CLIENT_KEY": "${inFolder('key')}"}`);
});

test('inline, values of files are written and nothing is read when the gateway runs', async () => {
  const environment = {
    ...WITHOUT_KEY,
    GATEWAY_SECRETS: 'inline',
    AZURE_OPENAI_KEY_0_FILE: inFolder('key', 'key-of-a-file\n'),
  };
  const { documents, model, settings } = await compiled(environment);
  if (!documents || !model) throw new Error('there are no documents');
  expect(documents['apisix.yaml']).toContain('"key-of-a-file"');
  expect(documents['apisix.yaml']).not.toMatch(/secrets:|key_setting|\$secret/);
  expect(neededFiles(model)).toEqual({ apisix: {}, collector: {} });
  expect(neededVariables(documents, settings)).toEqual({ apisix: [], collector: [] });
});
