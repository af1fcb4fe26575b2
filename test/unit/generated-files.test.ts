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
  ['docs/diagnostics.md', ['docs', 'diagnostics']],
  ['docs/client-errors.md', ['docs', 'client-errors']],
  ['.env.example', ['docs', 'env-example']],
  ['schemas/settings.schema.json', ['schema']],
])('%s is up to date with the declarations (if not: npm run generate)', (name, args) => {
  expect(file(name)).toBe(runCli(args).stdout);
});

test('docs/settings.md has an entry for every setting, with its value and default', () => {
  expect(listSettings().length).toBeGreaterThan(100);
  const [settings = ''] = file('docs/settings.md').split('\n| Variable | Difference |');
  const entries = settings.split('\n### ').slice(1);
  expect(entries.map((each) => each.split('\n')[0])).toHaveLength(listSettings().length);
  for (const { name, declaration } of listSettings()) {
    const entry = entries.find((each) => each.startsWith(`${name}\n`));
    expect(entry, name).toMatch(/\n- Value: .+\n- Default: .+\n/);
    for (const path of declaration.output) expect(entry, name).toContain(`- Written to \`${path}\`\n`);
  }
});

test('.env.example without its comment signs is an env file with known settings and valid values', () => {
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
    'accepts examples/%s.env',
    (name) => {
      expect(validate(parse(file(`examples/${name}.env`)))).toBe(true);
    },
  );

  test.each([
    { AZURE_OPENAI_WEIGHT_0: 'abc' },
    { GATEWAY_REQUIRE_AUTH: 'maybe' },
    { GATEWAY_CLIENT_NAME_3: 'a b' },
    { OTEL_COLLECTOR_ENDPOINT: 'x' },
  ])('rejects %j', (settings) => {
    expect(validate(settings)).toBe(false);
  });
});
