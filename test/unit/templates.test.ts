import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Handlebars from 'handlebars';
import { describe, expect, test } from 'vitest';
import { rawValues } from '../../compiler/emit/overrides.ts';
import { templateNames } from '../../compiler/emit/templates.ts';
import { listSettings } from '../../compiler/settings/declarations/index.ts';

const ROOT = fileURLToPath(new URL('../../templates', import.meta.url));
const source = (name: string) => readFileSync(join(ROOT, `${name}.hbs`), 'utf8');

test('every file in templates/ is a template of the bundle', () => {
  const files = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.hbs'),
  );
  expect(files.map((file) => file.slice(0, -'.hbs'.length)).sort()).toEqual([...templateNames]);
});

describe.each([...templateNames])('%s', (name) => {
  const settings = listSettings().map((each) => each.name);

  test('opens with a comment that names the settings it reads, and they exist', () => {
    const [, comment = ''] = /^\{\{!--(.*?)--\}\}/s.exec(source(name)) ?? [];
    expect(comment).toMatch(/Settings: /);
    for (const [word] of comment.matchAll(/\b[A-Z][A-Z0-9]+_[A-Z0-9_]+\*?/g)) {
      const pattern = new RegExp(`^${word.replace(/\*$/, '.*')}(?:_N)?$`);
      expect(
        settings.some((setting) => pattern.test(setting) || setting.startsWith(word.replace(/_?\*$/, ''))),
        word,
      ).toBe(true);
    }
  });

  test('writes values through the json helper only', () => {
    expect(rawValues(Handlebars.parse(source(name)), source(name))).toEqual([]);
  });
});

test.each([
  'a: {{x}}',
  'a: {{{json x}}}{{ y }}',
  '{{#if x}}{{y}}{{/if}}',
  '{{#each x}}\n- {{this}}\n{{/each}}',
  '{{#unless x}}a{{else}}{{y}}{{/unless}}',
  '{{concat x}}',
  '{{{{raw}}}}{{x}}{{{{/raw}}}} {{x}}',
])('a value written as it is would be found: %s', (text) => {
  expect(rawValues(Handlebars.parse(text), text).length).toBeGreaterThan(0);
});
