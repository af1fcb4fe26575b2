/** `check FOLDER`: all environments over a shared base, in one report. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCli, runHere } from '../../support/cli.ts';
import { workspace } from '../../support/workspace.ts';

const inFolder = workspace();

const BASE = `AZURE_OPENAI_ENDPOINT_0=https://one.openai.azure.com
AZURE_OPENAI_KEY_0=key-of-backend-zero
GATEWAY_REQUIRE_AUTH=true
GATEWAY_CLIENT_NAME_0=app
GATEWAY_CLIENT_KEY_0=key-of-client-zero
`;

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(inFolder(name)), { recursive: true });
    writeFileSync(inFolder(name), text);
  }
}

const check = (...args: string[]) => runCli(['check', 'envs', ...args], { cwd: inFolder('.') });

describe('the environments of a folder', () => {
  test('are its env files, named by file, and its folders with env files, each over the base', () => {
    write({
      'envs/base.env': BASE,
      'envs/prod.env': 'GATEWAY_CLIENT_NAME_0=prod\n',
      'envs/.env.test': 'GATEWAY_CLIENT_NAME_0=test\n',
      'envs/eu/10-region.env': 'AZURE_OPENAI_REGION_0=swedencentral\n',
      'envs/eu/.env': 'GATEWAY_CLIENT_NAME_0=eu\n',
      'envs/prod.env.example': 'nonsense',
      'envs/README.md': 'nonsense',
      'envs/notes/README.md': 'nonsense',
    });
    const { code, stdout, stderr } = check('-e', 'envs/base.env', '--format', 'json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout).environments).toEqual([
      { name: 'test', files: ['envs/.env.test'], good: true },
      { name: 'eu', files: ['envs/eu/.env', 'envs/eu/10-region.env'], good: true },
      { name: 'prod', files: ['envs/prod.env'], good: true },
    ]);
    expect(check('-e', 'envs/base.env').stderr).toBe('The settings of all 3 environments are valid.\n');
  });

  test('must exist: check exits with 3 for a folder without any, and with 64 for a file', () => {
    write({ 'envs/README.md': 'nothing' });
    expect(check()).toMatchObject({ code: 3, stdout: '' });
    expect(check().stderr).toContain(
      'it contains no environment (NAME.env, .env.NAME, or a folder with env files)',
    );
    write({ 'prod.env': BASE });
    const file = runCli(['check', 'prod.env'], { cwd: inFolder('.') });
    expect(file).toMatchObject({ code: 64, stdout: '' });
    expect(file.stderr).toContain('(For an env file write -e prod.env)\nRun genai-gateway check --help');
  });
});

describe('the report on several environments', () => {
  const bad = () =>
    write({
      'base.env': `${BASE}AZURE_OPENAI_WEIGHT_0=heavy\n`,
      'envs/dev.env': 'LB_ALG=nonsense\nGATEWAY_REQUIRE_AUTH=false\n',
      'envs/prod.env': 'GATEWAY_CLIENT_NAME_1=b\n',
      'envs/test.env': 'GATEWAY_CLIENT_NAME_1=b\n',
    });

  test('shows each error once, with the environments that have it', () => {
    bad();
    const { code, stdout, stderr } = check('-e', 'base.env');
    expect(code).toBe(1);
    const heads = stdout.split('\n').filter((line) => /^(?:error|warning)/.test(line));
    expect(heads).toEqual([
      expect.stringContaining('error AZURE_OPENAI_WEIGHT_0: the value is not usable (base.env:6) in all 3'),
      expect.stringContaining('error GATEWAY_CLIENT_KEY_1: '),
      expect.stringContaining('error LB_ALG: the value is not usable (envs/dev.env:1) in dev'),
      expect.stringContaining('warning GATEWAY_REQUIRE_AUTH: '),
    ]);
    expect(heads[1]).toMatch(/ in prod, test$/);
    expect(stderr).toBe('3 of 3 environments have errors: dev, prod, test.\n');
  });

  test('names the environments in every format', () => {
    bad();
    const json = JSON.parse(check('-e', 'base.env', '--format', 'json').stdout);
    expect(json.summary).toEqual({ error: 3, warning: 1, info: 0 });
    expect(json.diagnostics.map(({ environments }: { environments: unknown }) => environments)).toEqual([
      'all 3',
      ['prod', 'test'],
      ['dev'],
      ['dev'],
    ]);
    expect(check('-e', 'base.env', '--format', 'github').stdout).toContain('Environments: prod, test.');
    const sarif = JSON.parse(check('-e', 'base.env', '--format', 'sarif').stdout);
    expect(
      sarif.runs[0].results.map(
        (each: { locations: [{ physicalLocation: { artifactLocation: { uri: string } } }] }) =>
          each.locations[0].physicalLocation.artifactLocation.uri,
      ),
    ).toEqual(['base.env', 'envs/prod.env', 'envs/dev.env', 'envs/dev.env']);
    const markdown = check('-e', 'base.env', '--format', 'markdown').stdout;
    expect(markdown).toContain('| `dev` | **errors** |\n| `prod` | **errors** |\n');
    expect(markdown).toContain('Environments: `prod, test`.');
  });

  test('names the environments with errors when others are good', () => {
    write({ 'base.env': BASE, 'envs/a.env': '', 'envs/b.env': 'LB_ALG=x\n' });
    const { code, stderr } = check('-e', 'base.env');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '1 of 2 environments has errors: b.\n' });
    expect(check('-e', 'base.env', '--quiet').stderr).toBe('');
  });

  test('applies the policy to each environment', () => {
    write({
      'base.env': BASE,
      'envs/dev.env': 'APISIX_LOG_LEVEL=debug\n',
      'envs/prod.env': 'APISIX_LOG_LEVEL=debug\n',
      'genai-gateway.policy.yaml': 'rules: {log-level: error}\nenvironments: {dev: {log-level: off}}\n',
    });
    const { code, stdout, stderr } = check('-e', 'base.env');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^error APISIX_LOG_LEVEL: .* \(envs\/prod\.env:1\) in prod\n/);
    expect(stderr).toBe('1 of 2 environments has errors: prod.\n');
  });

  test('shows an error of the policy once', () => {
    write({
      'base.env': BASE,
      'envs/a.env': '',
      'envs/b.env': '',
      'policy.yaml': 'rules: {nonsense: error}\n',
    });
    const { code, stdout } = check('-e', 'base.env', '--policy', 'policy.yaml');
    expect(code).toBe(1);
    expect(stdout.match(/POLICY_FILE_INVALID/g)).toHaveLength(1);
  });

  test('accepts the base on standard input', () => {
    write({ 'envs/a.env': '', 'envs/b.env': '' });
    const { code, stderr } = runCli(['check', 'envs', '-e', '-'], { cwd: inFolder('.'), input: BASE });
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'The settings of all 2 environments are valid.\n' });
  });
});

test('checking fifty environments takes at most twelve times as long as checking one', async () => {
  const settings = (index: number) =>
    Array.from({ length: 5 }, (_, each) => `AZURE_OPENAI_WEIGHT_0=${index + each}\n`).join('');
  write({ 'base.env': BASE });
  for (let index = 0; index < 50; index++) write({ [`fifty/env-${index}.env`]: settings(index) });
  write({ 'one/env.env': settings(1) });
  const time = (folder: string) => {
    const started = process.hrtime.bigint();
    expect(runCli(['check', folder, '-e', 'base.env'], { cwd: inFolder('.') }).code).toBe(0);
    return Number(process.hrtime.bigint() - started);
  };
  // Take the minimum of several runs: other load on the machine only adds time.
  const least = (folder: string) => Math.min(...Array.from({ length: 5 }, () => time(folder)));
  time('one');
  expect(least('fifty') / least('one')).toBeLessThanOrEqual(12);
  expect((await runHere(['check', inFolder('fifty'), '-e', inFolder('base.env')])).code).toBe(0);
});
