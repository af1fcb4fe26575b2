/** Custom templates: `--templates FOLDER`. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runHere } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('--templates', () => {
  const render = async (files: Record<string, string>) => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(inFolder('templates'), name, '..'), { recursive: true });
      writeFileSync(join(inFolder('templates'), name), text);
    }
    return await runHere(
      ['render', '--templates', inFolder('templates'), '--out', inFolder('out'), '--format', 'json'],
      { env: GOOD },
    );
  };
  const finding = (result: { stderr: string }) => JSON.parse(result.stderr).diagnostics[0];

  test('overrides one template and keeps the others', async () => {
    const original = readFileSync(
      join(import.meta.dirname, '../../../templates/apisix/plugins/azure-openai-auth.hbs'),
      'utf8',
    );
    const { code } = await render({
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
  ])('reports %s and writes nothing', async (_, files, expected) => {
    const result = await render(files);
    expect(result.code).toBe(1);
    expect(finding(result)).toMatchObject(expected);
    if (!Object.values(expected).some((each) => String(each).startsWith('DOCUMENT')))
      expect(finding(result).source).toContain(inFolder('templates'));
    expect(existsSync(inFolder('out'))).toBe(false);
  });

  test('prints no secret when a template uses it as part of a text or as a key', async () => {
    const secrets = { ...GOOD, GATEWAY_SECRETS: 'inline' };
    const clients = (line: string) =>
      `{{#each clients}}\n# genai-gateway client: {"name": {{json name}}, ${line}\n{{/each}}\n`;
    for (const line of [
      '"lane": {{json (concat "key " key)}}}',
      '{{json key}}: 1}',
      '"lane": {{{json key}}: 1}}',
      '"{{json key}}',
    ]) {
      await render({ 'apisix/clients.hbs': clients(line) });
      for (const format of ['text', 'json']) {
        const { code, stdout, stderr } = await runHere(
          ['render', '--templates', inFolder('templates'), '--out', inFolder('out'), '--format', format],
          { env: secrets },
        );
        expect(code, line).toBe(1);
        expect(stdout + stderr).not.toContain('key-of-client');
      }
    }
  });

  test('redacts a secret completely when another secret is its prefix', async () => {
    await render({
      'apisix/clients.hbs':
        '{{#each clients}}\n# genai-gateway client: {"name": {{json name}}, {{json key}}: 1}\n{{/each}}\n',
    });
    const { stderr } = await runHere(
      ['render', '--templates', inFolder('templates'), '--out', inFolder('out'), '--format', 'json'],
      {
        env: { ...GOOD, GATEWAY_SECRETS: 'inline', GATEWAY_CLIENT_KEY_0: `${GOOD.AZURE_OPENAI_KEY_0}/tail` },
      },
    );
    expect(stderr).toContain('[redacted]');
    expect(stderr).not.toContain('tail');
  });

  test('lists the variables that the custom templates refer to', async () => {
    const needed = async (files: Record<string, string>) => {
      const { code, stdout, stderr } = await render(files);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      return JSON.parse(stdout).variables;
    };
    expect(await needed({ 'apisix/plugins/response-rewrite.hbs': '# mine\n' })).toEqual({
      apisix: ['AZURE_OPENAI_KEY_0', 'GATEWAY_CLIENT_KEY_0'],
      collector: [],
    });
    // The first template drops a secret and writes another reference. The second writes a reference for the collector.
    expect(
      await needed({
        'apisix/clients.hbs':
          '# genai-gateway client: {"name": "mine", "key": "$env://KEY_OF_MY_OWN", "lane": "high" }\n',
        'collector/exporters.hbs':
          'exporters:\n  nop: {}\n  azure_monitor: {"connection_string": "${env:MY_CONNECTION}"}\n',
      }),
    ).toEqual({ apisix: ['AZURE_OPENAI_KEY_0', 'KEY_OF_MY_OWN'], collector: ['MY_CONNECTION'] });
  });

  test('diff compares documents of a template that can only write references', async () => {
    mkdirSync(inFolder('templates/apisix'), { recursive: true });
    // Inline secrets need no `secrets` item, so the template would fail.
    writeFileSync(
      inFolder('templates/apisix/secrets.hbs'),
      'secrets:\n  - id: {{json secrets.id}}\n    files: {{json secrets.files}}\n',
    );
    const { AZURE_OPENAI_KEY_0: key, ...others } = GOOD;
    const settings = (name: string, weight: string) => {
      const all = { ...others, AZURE_OPENAI_KEY_0_FILE: inFolder('key', key), AZURE_OPENAI_WEIGHT_0: weight };
      const lines = Object.entries(all).map(([variable, value]) => `${variable}=${value}\n`);
      return inFolder(name, lines.join(''));
    };
    const [before, after] = [settings('old.env', '1'), settings('new.env', '3')];
    expect(
      await runHere(['diff', '--templates', inFolder('templates'), '--against', before, '-e', after]),
    ).toMatchObject({ code: 2, stdout: 'backend backend-0: weight 1 → 3\n' });
  });

  test('reports a folder that does not exist or holds no template', async () => {
    expect(await runHere(['check', '--templates', inFolder('nowhere')], { env: GOOD })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('it does not exist'),
    });
    mkdirSync(inFolder('empty'));
    expect(await runHere(['check', '--templates', inFolder('empty')], { env: GOOD })).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('it holds no .hbs file'),
    });
  });
});
