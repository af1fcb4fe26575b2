/** Settings that are not built yet are refused, and docs/migration.md lists exactly those. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';

const MIGRATION = readFileSync(join(import.meta.dirname, '../../docs/migration.md'), 'utf8');

const unbuilt = listSettings().filter(({ declaration }) => declaration.notBuilt !== undefined);

const BASE = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero-9a2b',
};

async function refused(environment: Record<string, string>): Promise<string[]> {
  const { diagnostics } = await compile({ environment, envFiles: [] });
  return diagnostics.flatMap(({ code, setting }) => (code === 'NOT_BUILT_YET' ? [setting] : []));
}

test('at least one setting is not built yet', () => {
  expect(unbuilt.map(({ name }) => name)).toContain('GATEWAY_E2E_TEST_MODE');
});

test.each(unbuilt)('$name is refused because it is not built yet', async ({ name, declaration }) => {
  const { example } = declaration;
  const value = example === 'false' || example === 'true' ? 'true' : example;
  expect(await refused({ ...BASE, [name.replace(/_N$/, '_0')]: value })).toEqual([name.replace(/_N$/, '_0')]);
});

test.each(unbuilt)('docs/migration.md lists $name', ({ name }) => {
  const [, list = ''] = MIGRATION.split('## Not built yet');
  expect(list).toMatch(new RegExp(`\`${name}[=\`]`));
});

test('no other setting is refused as not built yet', async () => {
  const known = new Set(unbuilt.map(({ name }) => name));
  const others = listSettings().filter(({ name }) => !known.has(name));
  const environment = Object.fromEntries(
    others.map(({ name, declaration }) => [name.replace(/_N$/, '_0'), declaration.example]),
  );
  expect(await refused(environment)).toEqual([]);
});
