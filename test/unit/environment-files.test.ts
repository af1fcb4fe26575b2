import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type EnvironmentFiles,
  environmentFiles,
  readEnvironment,
} from '../../compiler/deploy/environment-files.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'genai-gateway-environment-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function filesOf(contents: Readonly<Record<string, string>>): EnvironmentFiles {
  for (const [name, text] of Object.entries(contents)) writeFileSync(join(folder, name), text);
  const files = environmentFiles(folder, 'prod');
  if ('reason' in files) throw new Error(files.reason);
  return files;
}

function readAll(contents: Readonly<Record<string, string>>) {
  const read = readEnvironment(filesOf(contents));
  if ('diagnostics' in read) throw new Error(JSON.stringify(read.diagnostics));
  return {
    settings: Object.fromEntries(read.settings),
    secrets: Object.fromEntries([...read.secrets].map(([name, secret]) => [name, secret.reveal()])),
    raw: read.raw,
    secretObjects: read.secrets,
  };
}

describe('the files of an environment', () => {
  test('have the name of the environment, and may exist', () => {
    mkdirSync(join(folder, 'prod.secrets.env'));
    expect(filesOf({ 'prod.env': '' })).toEqual({
      name: 'prod',
      folder,
      settings: { path: join(folder, 'prod.env'), exists: true },
      secrets: { path: join(folder, 'prod.secrets.env'), exists: false },
      variables: { path: join(folder, 'prod.tfvars'), exists: false },
    });
  });

  test.each(['prod', 'a', 'team-a-dev', 'x1', 'a'.repeat(32)])('may have the name %s', (name) => {
    expect(environmentFiles(folder, name)).toHaveProperty('settings');
  });

  test.each(['', 'Prod', 'prod.secrets', '../prod', 'a/b', '-a', 'a-', 'a b', 'prod\n', 'a'.repeat(33)])(
    'cannot have the name %j',
    (name) => {
      expect(environmentFiles(folder, name)).toEqual({ reason: expect.stringContaining('such as prod') });
    },
  );
});

describe('reading them', () => {
  test('gives settings, and secrets from either file', () => {
    const read = readAll({
      'prod.env':
        'GATEWAY_CLIENT_NAME_0=app\nAZURE_OPENAI_KEY_0=key-in-the-wrong-file\nOTHER=1\nEMPTY=\n# no\nSPACED=  x  \n',
      'prod.secrets.env':
        'GATEWAY_CLIENT_KEY_0=key\nGATEWAY_CLIENT_KEY_1=\nAZURE_OPENAI_ENDPOINT_0=https://secret.example\n',
    });
    expect(read.settings).toEqual({ GATEWAY_CLIENT_NAME_0: 'app', OTHER: '1', SPACED: 'x' });
    expect(read.secrets).toEqual({
      AZURE_OPENAI_KEY_0: 'key-in-the-wrong-file',
      GATEWAY_CLIENT_KEY_0: 'key',
      AZURE_OPENAI_ENDPOINT_0: 'https://secret.example',
    });
    expect(JSON.stringify([...read.secretObjects])).not.toContain('key-in-the-wrong-file');
    expect([...read.raw.variables.keys()]).toContain('GATEWAY_CLIENT_KEY_1');
  });

  test('gives the content of a file that a variable names, and not its path', () => {
    writeFileSync(join(folder, 'key'), 'key-of-a-file\n');
    const read = readAll({ 'prod.secrets.env': `GATEWAY_CLIENT_KEY_0_FILE=${join(folder, 'key')}\n` });
    expect(read.secrets).toEqual({ GATEWAY_CLIENT_KEY_0: 'key-of-a-file' });
    expect(read.settings).toEqual({});
  });

  test('takes nothing from the environment of the process', () => {
    process.env.GATEWAY_PRODUCT_ID = 'of-the-process';
    try {
      expect(readAll({ 'prod.env': 'OTHER=1\n' }).settings).toEqual({ OTHER: '1' });
    } finally {
      delete process.env.GATEWAY_PRODUCT_ID;
    }
  });

  test('gives nothing when no file exists', () => {
    expect(readAll({})).toMatchObject({ settings: {}, secrets: {} });
  });

  test('reports a file that cannot be read', () => {
    expect(readEnvironment(filesOf({ 'prod.env': 'A=1\0\n' }))).toMatchObject({
      diagnostics: [{ code: 'ENV_FILE_NOT_TEXT', setting: join(folder, 'prod.env') }],
    });
  });
});
