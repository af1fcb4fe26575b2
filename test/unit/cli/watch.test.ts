/** The watching program as a process: what it says where, and how it ends. */
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { runCli } from '../../support/cli.ts';
import { until } from '../../support/until.ts';
import { envText, startWatch, type Watching } from '../../support/watching.ts';
import { FILES, GOOD, workspace } from '../../support/workspace.ts';

const inFolder = workspace();
const env = (variables: Record<string, string>) => inFolder('gateway.env', envText(variables));
const out = () => inFolder('out');
const file = (name: string) => readFileSync(join(out(), name), 'utf8');

const running: Watching[] = [];
afterEach(async () => {
  for (const each of running.splice(0)) await each.end('SIGKILL');
});
const start = (args: readonly string[], variables: Record<string, string> = {}): Watching => {
  const watching = startWatch(args, variables);
  running.push(watching);
  return watching;
};
const renderedFiles = () =>
  until(() => FILES.every((name) => statSync(join(out(), name), { throwIfNoEntry: false })), 10_000);

describe('watch', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('renders, follows, and ends well at %s', async (signal) => {
    const watching = start(['-e', env(GOOD), '--out', out()]);
    await renderedFiles();
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7' });
    await watching.waitFor('watch: apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
    expect(file('apisix.yaml')).toContain('weight: 7');
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: 'many' });
    await watching.waitFor('[INVALID_VALUE]');
    expect(watching.said).toMatch(/^watch: the settings are not good; .*\nerror AZURE_OPENAI_WEIGHT_0: /m);
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '8' });
    await watching.waitFor('watch: the settings are good again; apisix.yaml written');
    expect(await watching.end(signal)).toBe(0);
    for (const key of [GOOD.AZURE_OPENAI_KEY_0, GOOD.GATEWAY_CLIENT_KEY_0])
      expect(watching.said).not.toContain(key);
  });

  test('says each event as one line of JSON where the format is json', async () => {
    const watching = start(['-e', env(GOOD), '--out', out()], { GATEWAY_LOG_FORMAT: 'json' });
    await renderedFiles();
    const before = watching.said.length;
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7', APISIX_LOG_LEVEL: 'info' });
    await watching.waitFor('"event":"applied"');
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: 'many' });
    await watching.waitFor('"event":"refused"');
    const lines = watching.said.slice(before).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-.*Z$/),
        event: 'applied',
        written: ['apisix.yaml'],
        changed: ['AZURE_OPENAI_WEIGHT_0'],
        isGoodAgain: false,
        diagnostics: [expect.objectContaining({ code: 'CHANGE_NEEDS_START', setting: 'APISIX_LOG_LEVEL' })],
      },
      {
        time: expect.any(String),
        event: 'refused',
        diagnostics: expect.arrayContaining([
          expect.objectContaining({ code: 'INVALID_VALUE', severity: 'error' }),
        ]),
      },
    ]);
  });

  test('with --quiet says errors only', async () => {
    const watching = start(['-e', env(GOOD), '--out', out(), '--quiet']);
    await renderedFiles();
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7', CORS_MAX_AGE: '5' });
    await until(() => file('apisix.yaml').includes('weight: 7'));
    env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: 'many' });
    await watching.waitFor('[INVALID_VALUE]');
    expect(watching.said).toMatch(/^watch: the settings are not good/);
    expect(watching.said).not.toContain('SETTING_WITHOUT_EFFECT');
  });

  test('settings that are bad at its start are exit 1, a folder that cannot be written 3', () => {
    const bad = runCli(['watch', '--out', out()], { env: { ...GOOD, LB_ALG: 'x' } });
    expect(bad).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('INVALID_VALUE') });
    expect(statSync(out(), { throwIfNoEntry: false })).toBeUndefined();
    const inTheWay = inFolder('file', '');
    expect(runCli(['watch', '--out', join(inTheWay, 'out')], { env: GOOD })).toMatchObject({ code: 3 });
  });

  test.each([[['watch']], [['watch', '--out', '']], [['watch', '--out', 'x', '--format', 'sarif']]])(
    'wrong usage is exit 64: %j',
    (args) => {
      expect(runCli(args)).toMatchObject({ code: 64, stdout: '' });
    },
  );

  describe('beside an APISIX that runs', () => {
    const beside = (variables: Record<string, string>, exported: readonly string[]) =>
      start(['-e', inFolder('gateway.env'), '--out', out()], {
        ...variables,
        GENAI_GATEWAY_EXPORTED: exported.join(','),
      });

    test('never writes config.yaml, and takes up what has changed after kill -9', async () => {
      expect(runCli(['render', '-e', env(GOOD), '--out', out()])).toMatchObject({ code: 0 });
      const config = statSync(join(out(), 'config.yaml'), { bigint: true });
      const first = beside(GOOD, Object.keys(GOOD));
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7' });
      await first.waitFor('apisix.yaml written');
      expect(await first.end('SIGKILL')).toBeNull();
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '9', APISIX_LOG_LEVEL: 'debug' });
      // As if it had been killed while it wrote.
      writeFileSync(join(out(), '.apisix.yaml.1.abc.new'), 'half of');
      const second = beside(GOOD, Object.keys(GOOD));
      await second.waitFor('[CHANGE_NEEDS_START]');
      expect(second.said).toContain('apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
      expect(file('apisix.yaml')).toContain('weight: 9');
      const now = statSync(join(out(), 'config.yaml'), { bigint: true });
      expect([now.ino, now.mtimeNs, now.ctimeNs]).toEqual([config.ino, config.mtimeNs, config.ctimeNs]);
      expect(statSync(join(out(), '.apisix.yaml.1.abc.new'), { throwIfNoEntry: false })).toBeUndefined();
      expect(await second.end('SIGTERM')).toBe(0);
    });

    test('a variable of its own environment is none of the files', async () => {
      expect(runCli(['render', '--out', out()], { env: GOOD })).toMatchObject({ code: 0 });
      env({ AZURE_OPENAI_NAME_0: 'from-the-file' });
      const watching = beside({ ...GOOD, AZURE_OPENAI_NAME_0: 'of-the-start' }, ['AZURE_OPENAI_NAME_0']);
      await watching.waitFor('apisix.yaml written (changed: AZURE_OPENAI_NAME_0)');
      expect(file('apisix.yaml')).toContain('from-the-file');
      expect(await watching.end('SIGTERM')).toBe(0);
    });

    test('an empty list of exported variables is one', async () => {
      expect(runCli(['render', '--out', out()], { env: GOOD })).toMatchObject({ code: 0 });
      env({ AZURE_OPENAI_WEIGHT_0: '5', APISIX_LOG_LEVEL: 'debug' });
      const watching = beside(GOOD, []);
      await watching.waitFor('[CHANGE_NEEDS_START]');
      expect(file('apisix.yaml')).toContain('weight: 5');
      expect(file('config.yaml')).not.toContain('debug');
    });

    test('the files of GATEWAY_ENV_FILES are followed, and are not what APISIX was started with', async () => {
      const started = { ...GOOD, GATEWAY_ENV_FILES: env(GOOD) };
      expect(runCli(['render', '--out', out()], { env: { GATEWAY_ENV_FILES: env(GOOD) } })).toMatchObject({
        code: 0,
      });
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '5', APISIX_LOG_LEVEL: 'debug' });
      const watching = start(['--out', out()], {
        ...started,
        GENAI_GATEWAY_EXPORTED: Object.keys(GOOD).join(','),
      });
      await watching.waitFor('[CHANGE_NEEDS_START]');
      expect(watching.said).toContain('apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '6' });
      await watching.waitFor('apisix.yaml written', 2);
    });

    test('without the rendered files it ends with exit 1', async () => {
      env(GOOD);
      const watching = beside(GOOD, Object.keys(GOOD));
      await watching.waitFor('[NOT_RENDERED]');
      await until(() => watching.process.exitCode !== null);
      expect(watching.process.exitCode).toBe(1);
    });

    test('an env file that is missing when it starts is waited for', async () => {
      expect(runCli(['render', '-e', env(GOOD), '--out', out()])).toMatchObject({ code: 0 });
      unlinkSync(inFolder('gateway.env'));
      const watching = beside(GOOD, Object.keys(GOOD));
      await sleep(1_000);
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '3' });
      await watching.waitFor('apisix.yaml written');
      expect(watching.said).not.toContain('not good');
    });
  });
});
