import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'dotenv';
import { describe, expect, test } from 'vitest';
import { compile } from '../../compiler/compile.ts';
import { runHere } from '../support/cli.ts';
import { blocks } from '../support/readme.ts';
import { textOf } from '../support/repository.ts';
import { workspace } from '../support/workspace.ts';

const inFolder = workspace();
const base = {
  AZURE_OPENAI_ENDPOINT_0: 'https://res.openai.azure.com',
  AZURE_OPENAI_KEY_0: '0123456789abcdef0123456789abcdef',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'fedcba9876543210fedcba9876543210',
  GATEWAY_REQUIRE_AUTH: 'true',
};
const codesOf = async (environment: Record<string, string>) =>
  (await compile({ environment, envFiles: [] })).diagnostics.map(({ code, setting }) => `${code} ${setting}`);

describe('a placeholder is a warning in check, and an error under --strict or when the gateway is to run', () => {
  test.each([
    ['AZURE_OPENAI_KEY_0', 'replace-with-the-key-of-the-resource'],
    ['AZURE_OPENAI_KEY_0', '<your-api-key>'],
    ['AZURE_OPENAI_KEY_0', '<key of the resource>'],
    ['AZURE_OPENAI_KEY_0', 'YOUR_API_KEY'],
    ['AZURE_OPENAI_KEY_0', 'your-azure-openai-key'],
    ['AZURE_OPENAI_KEY_0', 'your-key-here'],
    ['AZURE_OPENAI_KEY_0', 'changeme'],
    ['AZURE_OPENAI_KEY_0', 'change_me'],
    ['AZURE_OPENAI_KEY_0', 'REPLACE_ME'],
    ['AZURE_OPENAI_KEY_0', 'insert-key-here'],
    ['AZURE_OPENAI_KEY_0', 'ReplaceWithYourKeyPlease'],
    ['AZURE_OPENAI_KEY_0', 'YourKeyHere'],
    ['AZURE_OPENAI_KEY_0', 'xxxxxxxxxxxxxxxx'],
    ['AZURE_OPENAI_KEY_0', '****************'],
    ['AZURE_OPENAI_KEY_0', 'undefined'],
    ['AZURE_OPENAI_KEY_0', '@Microsoft.KeyVault(SecretUri=x)'],
    ['AZURE_OPENAI_KEY_0', '${AZURE_OPENAI_KEY}'],
    ['AZURE_OPENAI_KEY_0', '$AZURE_OPENAI_KEY'],
    ['AZURE_OPENAI_KEY_0', '%AZURE_OPENAI_KEY%'],
    ['AZURE_OPENAI_KEY_0', '{{ azure_openai_key }}'],
    ['AZURE_OPENAI_KEY_0', '#{AzureOpenAIKey}#'],
    ['GATEWAY_CLIENT_KEY_0', 'replace-with-a-random-key-0'],
    ['GATEWAY_CLIENT_KEY_0', '<16 characters or more>'],
    ['GATEWAY_CLIENT_KEY_SECONDARY_0', 'replace-with-a-second-random-key'],
    ['AZURE_OPENAI_ENDPOINT_0', 'https://my-resource.openai.azure.com'],
    ['AZURE_OPENAI_ENDPOINT_0', 'https://my-ptu.openai.azure.com/'],
    ['AZURE_OPENAI_ENDPOINT_0', 'https://your-resource.openai.azure.com'],
    ['AZURE_OPENAI_ENDPOINT_0', 'https://YOUR-RESOURCE-NAME.openai.azure.com'],
  ])('%s=%s', async (name, value) => {
    const env = { ...base, [name]: value };
    const checked = await runHere(['check'], { env });
    expect(checked.code).toBe(0);
    expect(checked.stdout).toMatch(
      new RegExp(`^warning ${name}: .*\\n.*\\n(?:.*\\n)*?.*\\[PLACEHOLDER\\]`, 'm'),
    );
    expect((await runHere(['check', '--strict'], { env })).code).toBe(1);
    const rendered = await runHere(['render', '--out', inFolder('out')], { env });
    expect(rendered.code).toBe(1);
    expect(rendered.stderr).toMatch(new RegExp(`^error ${name}: `, 'm'));
    if (!name.includes('ENDPOINT')) expect(checked.stdout + rendered.stderr).not.toContain(value);
  });

  test.each([
    ['AZURE_OPENAI_KEY_0', '$uper-Secret-with-a-dollar'],
    ['AZURE_OPENAI_KEY_0', 'key-of-the-ptu-resource'],
    ['AZURE_OPENAI_KEY_0', 'YoUrQvWmBxReplaceMeZkTqQvXc'],
    ['AZURE_OPENAI_KEY_0', 'p<q>r-0123456789abcdef'],
    ['AZURE_OPENAI_ENDPOINT_0', 'https://my-company.openai.azure.com'],
    ['AZURE_OPENAI_ENDPOINT_0', 'https://yourcompany.openai.azure.com'],
    ['AZURE_OPENAI_ENDPOINT_0', 'http://mock:8080'],
  ])('%s=%s is not a placeholder', async (name, value) => {
    const found = await codesOf({ ...base, [name]: value });
    expect(found.filter((each) => each.startsWith('PLACEHOLDER'))).toEqual([]);
  });

  test('a placeholder for a password of Redis is found as well', async () => {
    const env = {
      AI_RATE_LIMIT_POLICY: 'redis',
      AI_RATE_LIMIT_REDIS_HOST: 'redis',
      ENABLE_QUOTA: 'true',
      QUOTA_COUNT: '1',
      QUOTA_TIME_WINDOW: '1',
      AI_RATE_LIMIT_REDIS_PASSWORD: 'replace-with-the-password',
    };
    expect(await codesOf({ ...base, ...env })).toContain('PLACEHOLDER AI_RATE_LIMIT_REDIS_PASSWORD');
  });
});

describe('examples', () => {
  const examples = readdirSync(join(import.meta.dirname, '../../examples')).filter((name) =>
    name.endsWith('.env'),
  );

  test.each(examples)('%s is named an example by check and render, and does not start', async (name) => {
    const file = inFolder('x.env', textOf(`examples/${name}`));
    const folder = inFolder('out');
    for (const args of [
      ['check', '--strict', '-e', file],
      ['render', '--strict', '-e', file, '--out', folder],
    ]) {
      const { code, stdout, stderr } = await runHere(args);
      expect(code).toBe(0);
      expect(stdout + stderr).toMatch(/info GATEWAY_CLIENT_KEY\w*: .*from an example.*\[EXAMPLE_SETTINGS\]/);
    }
    const started = await runHere(['container', '--out', folder], { env: parse(textOf(`examples/${name}`)) });
    expect(started.code).toBe(1);
    expect(started.stderr).toMatch(/error GATEWAY_CLIENT_KEY\w*: .*from an example/);
  });

  test.each(examples)(
    '%s renders unchanged, and no longer when only a part of it is filled in',
    async (name) => {
      const text = textOf(`examples/${name}`);
      const render = (changed: string) =>
        runHere(['render', '--strict', '-e', inFolder('x.env', changed), '--out', inFolder('out')]);
      expect((await render(text)).code).toBe(0);
      for (const changed of [
        text.replace(/^(AZURE_OPENAI_KEY_0)=.*$/m, '$1=0123456789abcdef0123456789abcdef'),
        text.replace(/^(AZURE_OPENAI_ENDPOINT_0)=.*$/m, '$1=https://contoso.openai.azure.com'),
        text.replace(/^(GATEWAY_CLIENT_KEY_0)=.*$/m, '$1=0123456789abcdef0123456789abcdef'),
      ]) {
        expect(changed).not.toBe(text);
        const { code, stderr } = await render(changed);
        expect(code).toBe(1);
        expect(stderr).toContain('[PLACEHOLDER]');
      }
    },
  );

  test('the placeholder check knows every resource name in the examples and recipes', async () => {
    const texts = [
      ...examples.map((name) => textOf(`examples/${name}`)),
      ...blocks('env'),
      textOf('.env.example'),
    ];
    const endpoints = texts.flatMap(
      (text) => text.match(/https:\/\/my-[a-z0-9-]+\.openai\.azure\.com/g) ?? [],
    );
    expect(new Set(endpoints).size).toBeGreaterThan(5);
    for (const endpoint of new Set(endpoints))
      expect(await codesOf({ ...base, AZURE_OPENAI_ENDPOINT_0: endpoint }), endpoint).toEqual([
        'PLACEHOLDER AZURE_OPENAI_ENDPOINT_0',
      ]);
  });
});

describe('a key that the accelerator writes is a warning', () => {
  test.each(['dev-key-0', 'test-key-1', 'prod-key-0'])('%s', async (key) => {
    const { diagnostics, documents } = await compile({
      environment: { ...base, GATEWAY_CLIENT_KEY_0: key },
      envFiles: [],
      toRun: 'now',
    });
    expect(diagnostics).toMatchObject([{ code: 'ACCELERATOR_EXAMPLE_KEY', severity: 'warning' }]);
    expect(documents).toBeDefined();
  });

  test('pending-foundry', async () => {
    const environment = { ...base, AZURE_OPENAI_KEY_0: 'pending-foundry' };
    const { diagnostics, documents } = await compile({ environment, envFiles: [], toRun: 'now' });
    expect(diagnostics).toMatchObject([
      { code: 'ACCELERATOR_PENDING_KEY', setting: 'AZURE_OPENAI_KEY_0', severity: 'warning' },
    ]);
    expect(documents).toBeDefined();
  });
});
