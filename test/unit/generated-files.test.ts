import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Ajv from 'ajv';
import { parse } from 'dotenv';
import { describe, expect, test } from 'vitest';
import { listSettings } from '../../compiler/settings/declarations/index.ts';
import { resolveName } from '../../compiler/settings/names.ts';
import { runCli } from '../support/cli.ts';

const ROOT = join(import.meta.dirname, '../..');
const file = (name: string) => readFileSync(join(ROOT, name), 'utf8');

test.each([
  ['docs/settings.md', ['docs']],
  ['.env.example', ['docs', 'env-example']],
  ['schemas/settings.schema.json', ['schema']],
])('%s is what the declarations say: run npm run generate', (name, args) => {
  expect(file(name)).toBe(runCli(args).stdout);
});

test('every setting has a row in the reference', () => {
  for (const { name } of listSettings()) expect(file('docs/settings.md')).toContain(`| \`${name}\` |`);
});

test('every row of the reference has the five cells of its table', () => {
  const [settings = ''] = file('docs/settings.md').split('\n## Otherwise');
  for (const line of settings.split('\n').filter((each) => each.startsWith('| `'))) {
    expect(line.replaceAll('\\|', '').split('|'), line).toHaveLength(7);
  }
});

test('.env.example with its comment signs taken off is an env file of known settings with usable values', () => {
  const all = parse(file('.env.example').replace(/^# (?=[A-Z][A-Z0-9_]*=)/gm, ''));
  expect(Object.keys(all).length).toBeGreaterThan(100);
  for (const [name, value] of Object.entries(all)) {
    const verdict = resolveName(name);
    expect(verdict.is, name).toBe('setting');
    if (verdict.is === 'setting' && !verdict.known.declaration.sensitive) {
      expect('value' in verdict.known.declaration.type.parse(value), `${name}=${value}`).toBe(true);
    }
  }
});

describe('the JSON Schema of the settings', () => {
  const validate = new Ajv({ strict: true, allowUnionTypes: true }).compile(
    JSON.parse(file('schemas/settings.schema.json')),
  );

  test.each(['minimal', 'multi-region', 'observability', 'priority-lanes', 'ptu-spillover'])(
    'takes examples/%s.env',
    (name) => {
      expect(validate(parse(file(`examples/${name}.env`)))).toBe(true);
    },
  );

  test.each([
    { AZURE_OPENAI_WEIGHT_0: 'abc' },
    { GATEWAY_REQUIRE_AUTH: 'maybe' },
    { GATEWAY_CLIENT_NAME_3: 'a b' },
    { OTEL_COLLECTOR_ENDPOINT: 'x' },
  ])('refuses %j', (settings) => {
    expect(validate(settings)).toBe(false);
  });
});
