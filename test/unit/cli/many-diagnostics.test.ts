/** Diagnostics that --allow exempts from --strict, groups of similar diagnostics, and the hint about an unused .env file. */
import { describe, expect, test } from 'vitest';
import { runCli, runHere } from '../../support/cli.ts';
import { GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();

describe('--allow', () => {
  const env = { ...GOOD, AZURE_OPENAI_ENDPOINT_0: 'http://internal.example.com' };

  test('keeps warnings of the given code as warnings under --strict, and no others', async () => {
    expect((await runHere(['check', '--strict'], { env })).code).toBe(1);
    const { code, stdout } = await runHere(['check', '--strict', '--allow', 'ENDPOINT_INSECURE'], { env });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^warning AZURE_OPENAI_ENDPOINT_0/);
    const others = await runHere(['check', '--strict', '--allow', 'endpoint_insecure'], {
      env: { ...env, GATEWAY_CLIENT_KEY_0: 'short' },
    });
    expect(others.code).toBe(1);
    expect(others.stdout).toContain('error GATEWAY_CLIENT_KEY_0');
  });

  test('accepts several options and comma-separated lists', async () => {
    const both = { ...env, GATEWAY_CLIENT_KEY_0: 'short' };
    for (const allowed of [
      ['--allow', 'ENDPOINT_INSECURE', '--allow', 'SHORT_CLIENT_KEY'],
      ['--allow', 'ENDPOINT_INSECURE, SHORT_CLIENT_KEY'],
    ])
      for (const command of [['check'], ['preview'], ['render', '--out', inFolder('out')]])
        expect((await runHere([...command, '--strict', ...allowed], { env: both })).code).toBe(0);
  });

  test('does not exempt errors', async () => {
    const bad = { ...GOOD, LB_ALG: 'x' };
    expect((await runHere(['check', '--strict', '--allow', 'INVALID_VALUE'], { env: bad })).code).toBe(1);
  });

  test('exits with 64 for an unknown code and suggests the nearest one', async () => {
    const { code, stderr } = await runHere(['check', '--allow', 'ENDPOINT_INSECRE'], { env });
    expect(code).toBe(64);
    expect(stderr).toContain('Did you mean ENDPOINT_INSECURE?');
  });
});

describe('GATEWAY_STRICT', () => {
  const env = { ...GOOD, GATEWAY_CLIENT_KEY_0: 'short' };
  const commands = (out: string) => [
    ['check'],
    ['preview'],
    ['render', '--out', out],
    ['container', '--out', out],
  ];

  test('treats warnings as errors in every command that compiles, also from an env file', async () => {
    for (const command of commands(inFolder('out'))) {
      expect((await runHere(command, { env })).code, command[0]).toBe(0);
      expect((await runHere(command, { env: { ...env, GATEWAY_STRICT: 'true' } })).code, command[0]).toBe(1);
      expect((await runHere(command, { env: { ...env, GATEWAY_STRICT: 'false' } })).code, command[0]).toBe(0);
    }
    const file = inFolder('strict.env', 'GATEWAY_STRICT=true\n');
    expect((await runHere(['check', '-e', file], { env })).stdout).toMatch(/^error GATEWAY_CLIENT_KEY_0/);
    expect((await runHere(['check', '-e', file], { env: GOOD })).code).toBe(0);
  });

  test('takes the exceptions of --allow', async () => {
    for (const command of commands(inFolder('out')).slice(0, 3)) {
      const args = [...command, '--allow', 'SHORT_CLIENT_KEY'];
      expect((await runHere(args, { env: { ...env, GATEWAY_STRICT: 'true' } })).code, command[0]).toBe(0);
    }
  });
});

describe('the expected value of a diagnostic as text', () => {
  const linesOf = async (env: Record<string, string>) =>
    (await runHere(['check'], { env })).stdout.split('\n');

  test.each([
    ['a missing setting', { ...GOOD, ENABLE_QUOTA: 'true', QUOTA_COUNT: '1' }],
    ['a missing endpoint', { ...GOOD, AZURE_OPENAI_NAME_9: 'x' }],
    ['an unknown name', { ...GOOD, LB_STRATEGY: 'x' }],
    ['an unknown name without a suggestion', { ...GOOD, LB_QXZ: 'x' }],
    ['an unknown word', { ...GOOD, LB_ALG: 'fubar' }],
  ])('is left out when it only repeats the message or the fix: %s', async (_, env) => {
    const [head, fix] = await linesOf(env);
    expect(head).toMatch(/^(?:error|warning) /);
    expect(fix).toMatch(/^ {2}(?:fix|received) /);
  });

  test('is shown when it says more, and is always there for programs', async () => {
    const env = { ...GOOD, GATEWAY_CLIENT_KEY_0: 'short', AZURE_OPENAI_NAME_9: 'x' };
    expect(await linesOf(env)).toContain('  expected  16 characters or more');
    const { stdout } = await runHere(['check', '--format', 'json'], { env });
    for (const each of JSON.parse(stdout).diagnostics) expect(each.expected).toMatch(/\w/);
  });
});

describe('similar diagnostics', () => {
  const text = Array.from(
    { length: 50 },
    (_, index) =>
      `AZURE_OPENAI_ENDPOINT_${index}=ftp://${index}.example.com\nAZURE_OPENAI_KEY_${index}=key-number-${index}\n`,
  ).join('');
  const check = (format: string) => runHere(['check', '-e', inFolder('x.env', text), '--format', format]);

  test('are shown as three and a list of the other names, in formats for people', async () => {
    const { stdout } = await check('text');
    expect(stdout.match(/^error AZURE_OPENAI_ENDPOINT_/gm)).toHaveLength(3);
    expect(stdout).toContain('and 47 more like it: AZURE_OPENAI_ENDPOINT_3 (line 7), ');
    expect(stdout).toContain('and 37 others');
    expect(stdout).toMatch(/^5\d errors$/m);
    expect(stdout.split('\n').length).toBeLessThan(40);
    const annotations = (await check('github')).stdout.trim().split('\n');
    expect(annotations.length).toBeLessThan(10);
    expect((await check('markdown')).stdout).toContain('and 47 more like it');
  });

  test('are all in the output, in formats for programs', async () => {
    expect(JSON.parse((await check('json')).stdout).summary.error).toBeGreaterThanOrEqual(50);
    expect(JSON.parse((await check('sarif')).stdout).runs[0].results.length).toBeGreaterThanOrEqual(50);
  });

  test('are all shown when there are only four', async () => {
    const four = text.split('\n').slice(0, 8).join('\n');
    const { stdout } = await runHere(['check', '-e', inFolder('x.env', four)]);
    expect(stdout.match(/^error AZURE_OPENAI_ENDPOINT_/gm)).toHaveLength(4);
    expect(stdout).not.toContain('more like it');
  });
});

describe('a .env in the current folder', () => {
  const good = Object.entries(GOOD)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');

  test('is mentioned when there is no backend and no env file was given', () => {
    const cwd = inFolder('.env', good).replace(/\/\.env$/, '');
    for (const args of [['check'], ['render', '--out', 'out'], ['preview']]) {
      const { code, stdout, stderr } = runCli(args, { cwd });
      expect(code).toBe(1);
      expect(stdout + stderr).toContain('add -e .env');
    }
    expect(runCli(['check', '-e', '.env'], { cwd })).toMatchObject({ code: 0, stdout: '' });
    expect(runCli(['check'], { cwd, env: GOOD })).toMatchObject({ code: 0, stdout: '' });
    expect(runCli(['check', '-e', inFolder('other.env', 'LB_ALG=latency\n')], { cwd }).stdout).not.toContain(
      '-e .env',
    );
  });
});

test('check --strict accepts plain HTTP to a backend on the loopback interface', async () => {
  for (const host of ['localhost:8080', '127.0.0.1:8080', '[::1]:8080'])
    expect(
      (await runHere(['check', '--strict'], { env: { ...GOOD, AZURE_OPENAI_ENDPOINT_0: `http://${host}` } }))
        .code,
    ).toBe(0);
});
