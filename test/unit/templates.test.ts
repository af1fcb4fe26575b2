import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse as parseDotenv } from 'dotenv';
import Handlebars, { type RuntimeOptions, type TemplateDelegate } from 'handlebars';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { emitDocuments } from '../../compiler/emit/emit.ts';
import { compileOverrides, rawValues } from '../../compiler/emit/overrides.ts';
import { templateNames } from '../../compiler/emit/templates.ts';
import { type ListedSetting, listSettings } from '../../compiler/settings/declarations/index.ts';
import { goldenEnvFile } from '../support/golden.ts';
import { goodScenarios } from '../support/scenarios.ts';

const ROOT = fileURLToPath(new URL('../../templates', import.meta.url));
const source = (name: string) => readFileSync(join(ROOT, `${name}.hbs`), 'utf8');

test('every file in templates/ is a template of the bundle', () => {
  const files = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.hbs'),
  );
  expect(files.map((file) => file.slice(0, -'.hbs'.length)).sort()).toEqual([...templateNames]);
});

/** The texts that the templates write for a gateway, by template name; undefined when the settings have errors. */
type Texts = ReadonlyMap<string, string>;

const writer = async (): Promise<(variables: Variables) => Promise<Texts | undefined>> => {
  const sources = new Map(templateNames.map((name) => [name, { path: name, text: source(name) }]));
  const { overrides } = await compileOverrides(sources);
  let written = new Map<string, string>();
  const recording = new Map(
    [...overrides].map(([name, template]): [string, TemplateDelegate] => [
      name,
      Object.assign((context: unknown, options?: RuntimeOptions) => {
        const text = template(context, options);
        written.set(name, `${written.get(name) ?? ''}${text}`);
        return text;
      }, template),
    ]),
  );
  return async (variables) => {
    const { model } = await compile({ environment: variables, envFiles: [] });
    if (!model) return undefined;
    written = new Map();
    emitDocuments(model, recording);
    return written;
  };
};

type Variables = Readonly<Record<string, string>>;
const scenarios: readonly Variables[] = goodScenarios().map((name) =>
  parseDotenv(readFileSync(goldenEnvFile(name), 'utf8')),
);

/** Values of a setting to try: its example, those of the scenarios, and the words of its type. */
function candidates({ name, declaration }: ListedSetting, variable: string): string[] {
  const used = scenarios.flatMap((each) => each[variable] ?? []);
  const words = declaration.type.expected.split(/, | or /);
  const usable = [declaration.example, ...used, ...words].filter(
    (each) => 'value' in declaration.type.parse(each),
  );
  return name.startsWith('GATEWAY_SECRETS') ? [] : [...new Set(usable)];
}

/** The settings of a scenario without this setting, and with each other value of it. */
function* variations(listed: ListedSetting, variables: Variables): Generator<Variables> {
  const variable = listed.name.replace(/_N$/, '_0');
  const { [variable]: value, [`${variable}_FILE`]: file, ...without } = variables;
  if (value !== undefined || file !== undefined) yield without;
  for (const other of candidates(listed, variable))
    if (other !== value) yield { ...without, [variable]: other };
}

describe('the settings named at the top of each template change what it writes', async () => {
  const textsOf = await writer();
  const before = await Promise.all(scenarios.map(textsOf));

  /** Whether another value of one of the settings changes the output of a template in at least one scenario. */
  async function changes(template: string, settings: readonly ListedSetting[]): Promise<boolean> {
    const experiments = scenarios.flatMap((variables, index) =>
      settings.map((setting) => ({ variables, text: before[index]?.get(template), setting })),
    );
    // Try scenarios that have the setting first: they most often show a difference.
    const has = ({ variables, setting: { name } }: (typeof experiments)[number]) =>
      Object.keys(variables).some((variable) => variable.startsWith(name.replace(/_N$/, '_0')));
    for (const each of [...experiments.filter(has), ...experiments.filter((one) => !has(one))]) {
      for (const changed of variations(each.setting, each.variables)) {
        const after = await textsOf(changed);
        if (after && after.get(template) !== each.text) return true;
      }
    }
    return false;
  }

  test.each([...templateNames])('%s', async (name) => {
    const [, comment = ''] = /^\{\{!--(.*?)--\}\}/s.exec(source(name)) ?? [];
    const [, named] = /Settings: (.*)$/s.exec(comment) ?? [];
    if (named === undefined) expect.fail('there is no comment with "Settings: " at its beginning');
    for (const [word] of named.matchAll(/\b[A-Z][A-Z0-9_*]+/g)) {
      const pattern = new RegExp(`^${word.replaceAll('*', '.*')}(?:_N)?$`);
      const meant = listSettings().filter((each) => pattern.test(each.name));
      // A word without an underscore may be a plain word of the comment.
      if (meant.length === 0 && !word.includes('_')) continue;
      expect(
        await changes(name, meant),
        `no golden scenario is rendered differently here with another ${word}`,
      ).toBe(true);
    }
  });
});

test.each([...templateNames])('%s writes values through the json helper only', (name) => {
  expect(rawValues(Handlebars.parse(source(name)), source(name))).toEqual([]);
});

test.each([
  'a: {{x}}',
  'a: {{{json x}}}{{ y }}',
  '{{#if x}}{{y}}{{/if}}',
  '{{#each x}}\n- {{this}}\n{{/each}}',
  '{{#unless x}}a{{else}}{{y}}{{/unless}}',
  '{{concat x}}',
  '{{{{raw}}}}{{x}}{{{{/raw}}}} {{x}}',
])('a value written without the json helper is detected: %s', (text) => {
  expect(rawValues(Handlebars.parse(text), text).length).toBeGreaterThan(0);
});
