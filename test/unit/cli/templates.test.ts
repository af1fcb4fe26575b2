/** A user's own templates. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCli } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('--templates', () => {
  const render = (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(inFolder('templates'), name, '..'), { recursive: true });
      writeFileSync(join(inFolder('templates'), name), text);
    }
    return runCli(
      ['render', '--templates', inFolder('templates'), '--out', inFolder('out'), '--format', 'json'],
      { env: GOOD },
    );
  };
  const finding = (result: { stderr: string }) => JSON.parse(result.stderr).diagnostics[0];

  test('overrides a single file and leaves the others', () => {
    const original = readFileSync(
      join(import.meta.dirname, '../../../templates/apisix/plugins/azure-openai-auth.hbs'),
      'utf8',
    );
    const { code } = render({
      'apisix/plugins/azure-openai-auth.hbs': original.replace(
        'required: {{json authentication.required}}',
        'required: {{json authentication.required}} # mine',
      ),
    });
    expect(code).toBe(0);
    expect(readFileSync(inFolder('out/apisix.yaml'), 'utf8')).toContain('        required: true # mine\n');
  });

  test.each<[string, Record<string, string>, object]>([
    [
      'a broken template',
      { 'apisix/routes.hbs': 'routes:\n{{#if x}}\n' },
      { code: 'TEMPLATE_BROKEN', line: 3 },
    ],
    [
      'an unknown helper',
      { 'apisix/routes.hbs': 'routes: []\na: {{json (shout x)}}\n' },
      { code: 'TEMPLATE_BROKEN', line: 2 },
    ],
    [
      'a value that is not there',
      { 'apisix/routes.hbs': 'routes: []\n\na: {{json nonsense}}\n' },
      { code: 'TEMPLATE_BROKEN', line: 3 },
    ],
    [
      'a value written as it is',
      { 'apisix/routes.hbs': 'routes: []\na: {{telemetry.serviceName}}\n' },
      { code: 'TEMPLATE_RAW_VALUE', line: 2 },
    ],
    [
      'a name that overrides nothing',
      { 'apisix/plugin/cors.hbs': '' },
      { code: 'TEMPLATE_UNKNOWN', hint: 'did you mean apisix/plugins/cors?' },
    ],
    [
      'text that is no YAML',
      { 'apisix/routes.hbs': 'routes: [\n' },
      { code: 'DOCUMENT_NOT_YAML', setting: 'apisix.yaml' },
    ],
    [
      'a key that APISIX would ignore',
      {
        'apisix/routes.hbs':
          'routes:\n  - id: a\n    uri: /a\n    service_id: azure-openai\n    prioritty: 1\n',
      },
      { code: 'DOCUMENT_INVALID', setting: 'apisix.yaml' },
    ],
    ['a key twice', { 'apisix/routes.hbs': 'routes: []\nroutes: []\n' }, { code: 'DOCUMENT_NOT_YAML' }],
    [
      'a template expression of APISIX',
      { 'apisix/routes.hbs': 'routes: []\n# ${\\{{X}}\n' },
      { code: 'DOCUMENT_NOT_YAML' },
    ],
    [
      'no #END',
      { 'apisix.yaml.hbs': '{{> apisix/services}}\n{{> apisix/routes}}\n' },
      { code: 'DOCUMENT_NOT_YAML' },
    ],
  ])('%s is a diagnostic, and nothing is written', (_, files, expected) => {
    const result = render(files);
    expect(result.code).toBe(1);
    expect(finding(result)).toMatchObject(expected);
    if (!Object.values(expected).some((each) => String(each).startsWith('DOCUMENT')))
      expect(finding(result).source).toContain(inFolder('templates'));
    expect(existsSync(inFolder('out'))).toBe(false);
  });

  test('no template gets at a secret, as a part of a text or as a key', () => {
    const secrets = { ...GOOD, GATEWAY_SECRETS: 'inline' };
    const consumers = (line: string) =>
      `consumers:\n{{#each clients}}\n  - username: {{json name}}\n    ${line}\n{{/each}}\n`;
    for (const line of [
      'desc: {{json (concat "key " key)}}',
      '{{json key}}: 1',
      'plugins: {{{json key}}: 1}',
      '"{{json key}}',
    ]) {
      render({ 'apisix/consumers.hbs': consumers(line) });
      for (const format of ['text', 'json']) {
        const { code, stdout, stderr } = runCli(
          ['render', '--templates', inFolder('templates'), '--out', inFolder('out'), '--format', format],
          { env: secrets },
        );
        expect(code, line).toBe(1);
        expect(stdout + stderr).not.toContain('key-of-client');
      }
    }
  });

  test('a folder that is not there, or empty, is a diagnostic', () => {
    expect(runCli(['check', '--templates', inFolder('nowhere')], { env: GOOD })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('it does not exist'),
    });
    mkdirSync(inFolder('empty'));
    expect(runCli(['check', '--templates', inFolder('empty')], { env: GOOD })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('it holds no .hbs file'),
    });
  });
});
