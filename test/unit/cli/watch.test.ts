/** The command `watch` as a process: its output, and how it ends. */
import { mkdtempSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { MASK } from '../../../compiler/diagnostics/keys.ts';
import { runCli } from '../../support/cli.ts';
import { until } from '../../support/until.ts';
import { envText, startWatch, type Watching } from '../../support/watching.ts';
import { FILES, GOOD } from '../../support/workspace.ts';

interface Place {
  /** A path in the test's own folder. Writes a file there when `content` is given. */
  inFolder(name: string, content?: string): string;
  /** Writes the env file and returns its path. */
  env(variables: Record<string, string>): string;
  /** The folder that `watch` renders to. */
  readonly out: string;
  file(name: string): string;
  start(args: readonly string[], variables?: Record<string, string>): Watching;
  /** Starts `watch` for an APISIX that was started with these variables. */
  beside(variables: Record<string, string>, exported: readonly string[]): Watching;
  renderedFiles(): Promise<void>;
}

/** Most of these tests wait for the next poll of the files, so they run concurrently, each in its own folder. */
const inPlace = (run: (place: Place) => Promise<void>) => async () => {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-test-'));
  const running: Watching[] = [];
  const inFolder = (name: string, content?: string) => {
    const path = join(folder, name);
    if (content !== undefined) writeFileSync(path, content);
    return path;
  };
  const out = inFolder('out');
  const start: Place['start'] = (args, variables = {}) => {
    const watching = startWatch(args, variables);
    running.push(watching);
    return watching;
  };
  try {
    await run({
      inFolder,
      env: (variables) => inFolder('gateway.env', envText(variables)),
      out,
      file: (name) => readFileSync(join(out, name), 'utf8'),
      start,
      beside: (variables, exported) =>
        start(['-e', inFolder('gateway.env'), '--out', out], {
          ...variables,
          GENAI_GATEWAY_EXPORTED: exported.join(','),
        }),
      renderedFiles: () =>
        until(() => FILES.every((name) => statSync(join(out, name), { throwIfNoEntry: false })), 10_000),
    });
  } finally {
    for (const each of running) await each.end('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
};

describe.concurrent('watch', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('renders, follows changes, and exits with 0 on %s', (signal) =>
    inPlace(async ({ env, out, file, start, renderedFiles }) => {
      const watching = start(['-e', env(GOOD), '--out', out]);
      await renderedFiles();
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7' });
      await watching.waitFor('watch: apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
      expect(file('apisix.yaml')).toContain('weight: 7');
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: 'many' });
      await watching.waitFor('[INVALID_VALUE]');
      expect(watching.said).toMatch(/^watch: the settings have errors; .*\nerror AZURE_OPENAI_WEIGHT_0: /m);
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '8' });
      await watching.waitFor('watch: the settings have no errors any more; apisix.yaml written');
      expect(await watching.end(signal)).toBe(0);
      for (const key of [GOOD.AZURE_OPENAI_KEY_0, GOOD.GATEWAY_CLIENT_KEY_0])
        expect(watching.said).not.toContain(key);
    })(),
  );

  test(
    'logs each event as one line of JSON with GATEWAY_LOG_FORMAT=json',
    inPlace(async ({ env, out, start, renderedFiles }) => {
      const watching = start(['-e', env(GOOD), '--out', out], { GATEWAY_LOG_FORMAT: 'json' });
      await renderedFiles();
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7', APISIX_LOG_LEVEL: 'info' });
      await watching.waitFor('"event":"applied"');
      const key = 'Zk7TqQv9mWb3Xc5RpLs8JdHg2NfYt4Ae';
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: key });
      await watching.waitFor('"event":"refused"');
      // The report of the first render has several lines and no event.
      const lines = watching.said.split('\n').filter((line) => line.startsWith('{"'));
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
            expect.objectContaining({
              code: 'LOOKS_LIKE_KEY',
              severity: 'error',
              message: expect.stringContaining('looks like a key'),
              received: MASK,
              hint: expect.stringContaining('AZURE_OPENAI_KEY_0'),
            }),
          ]),
        },
      ]);
      expect(watching.said).not.toContain(key.slice(0, 8));
    }),
  );

  test(
    'logs only errors with --quiet',
    inPlace(async ({ env, out, file, start, renderedFiles }) => {
      const watching = start(['-e', env(GOOD), '--out', out, '--quiet']);
      await renderedFiles();
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7', CORS_MAX_AGE: '5' });
      await until(() => file('apisix.yaml').includes('weight: 7'));
      env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: 'many' });
      await watching.waitFor('[INVALID_VALUE]');
      expect(watching.said).toMatch(/^watch: the settings have errors/);
      expect(watching.said).not.toContain('SETTING_WITHOUT_EFFECT');
    }),
  );

  test(
    'exits with 1 for wrong settings at the start, and with 3 when it cannot write',
    inPlace(async ({ inFolder, out }) => {
      const bad = runCli(['watch', '--out', out], { env: { ...GOOD, LB_ALG: 'x' } });
      expect(bad).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('INVALID_VALUE') });
      expect(statSync(out, { throwIfNoEntry: false })).toBeUndefined();
      const inTheWay = inFolder('file', '');
      expect(runCli(['watch', '--out', join(inTheWay, 'out')], { env: GOOD })).toMatchObject({ code: 3 });
    }),
  );

  test.each([[['watch']], [['watch', '--out', '']], [['watch', '--out', 'x', '--format', 'sarif']]])(
    'exits with 64 for the wrong usage %j',
    (args) => {
      expect(runCli(args)).toMatchObject({ code: 64, stdout: '' });
    },
  );

  describe('next to a running APISIX', () => {
    test(
      'never writes config.yaml, and applies pending changes after kill -9',
      inPlace(async ({ env, out, file, beside }) => {
        expect(runCli(['render', '-e', env(GOOD), '--out', out])).toMatchObject({ code: 0 });
        const config = statSync(join(out, 'config.yaml'), { bigint: true });
        const first = beside(GOOD, Object.keys(GOOD));
        env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '7' });
        await first.waitFor('apisix.yaml written');
        expect(await first.end('SIGKILL')).toBeNull();
        env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '9', APISIX_LOG_LEVEL: 'debug' });
        // Simulate a kill in the middle of a write.
        writeFileSync(join(out, '.apisix.yaml.1.abc.new'), 'half of');
        const second = beside(GOOD, Object.keys(GOOD));
        await second.waitFor('[CHANGE_NEEDS_START]');
        expect(second.said).toContain('apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
        expect(file('apisix.yaml')).toContain('weight: 9');
        const now = statSync(join(out, 'config.yaml'), { bigint: true });
        expect([now.ino, now.mtimeNs, now.ctimeNs]).toEqual([config.ino, config.mtimeNs, config.ctimeNs]);
        expect(statSync(join(out, '.apisix.yaml.1.abc.new'), { throwIfNoEntry: false })).toBeUndefined();
        expect(await second.end('SIGTERM')).toBe(0);
      }),
    );

    test(
      'lets an env file override a variable that only the env files of the start had set',
      inPlace(async ({ env, out, file, beside }) => {
        expect(runCli(['render', '--out', out], { env: GOOD })).toMatchObject({ code: 0 });
        env({ AZURE_OPENAI_NAME_0: 'from-the-file' });
        const watching = beside({ ...GOOD, AZURE_OPENAI_NAME_0: 'of-the-start' }, ['AZURE_OPENAI_NAME_0']);
        await watching.waitFor('apisix.yaml written (changed: AZURE_OPENAI_NAME_0)');
        expect(file('apisix.yaml')).toContain('from-the-file');
        expect(await watching.end('SIGTERM')).toBe(0);
      }),
    );

    test(
      'accepts an empty list of exported variables',
      inPlace(async ({ env, out, file, beside }) => {
        expect(runCli(['render', '--out', out], { env: GOOD })).toMatchObject({ code: 0 });
        env({ AZURE_OPENAI_WEIGHT_0: '5', APISIX_LOG_LEVEL: 'debug' });
        const watching = beside(GOOD, []);
        await watching.waitFor('[CHANGE_NEEDS_START]');
        expect(file('apisix.yaml')).toContain('weight: 5');
        expect(file('config.yaml')).not.toContain('debug');
      }),
    );

    test(
      'follows the files in GATEWAY_ENV_FILES, and does not take their values for the variables of APISIX',
      inPlace(async ({ env, out, start }) => {
        const started = { ...GOOD, GATEWAY_ENV_FILES: env(GOOD) };
        expect(runCli(['render', '--out', out], { env: { GATEWAY_ENV_FILES: env(GOOD) } })).toMatchObject({
          code: 0,
        });
        env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '5', APISIX_LOG_LEVEL: 'debug' });
        const watching = start(['--out', out], {
          ...started,
          GENAI_GATEWAY_EXPORTED: Object.keys(GOOD).join(','),
        });
        await watching.waitFor('[CHANGE_NEEDS_START]');
        expect(watching.said).toContain('apisix.yaml written (changed: AZURE_OPENAI_WEIGHT_0)');
        env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '6' });
        await watching.waitFor('apisix.yaml written', 2);
      }),
    );

    test(
      'exits with 1 when there are no rendered files',
      inPlace(async ({ env, beside }) => {
        env(GOOD);
        const watching = beside(GOOD, Object.keys(GOOD));
        await watching.waitFor('[NOT_RENDERED]');
        await until(() => watching.process.exitCode !== null);
        expect(watching.process.exitCode).toBe(1);
      }),
    );

    test(
      'waits for an env file that is missing at the start',
      inPlace(async ({ inFolder, env, out, beside }) => {
        expect(runCli(['render', '-e', env(GOOD), '--out', out])).toMatchObject({ code: 0 });
        unlinkSync(inFolder('gateway.env'));
        const watching = beside(GOOD, Object.keys(GOOD));
        await sleep(1_000);
        env({ ...GOOD, AZURE_OPENAI_WEIGHT_0: '3' });
        await watching.waitFor('apisix.yaml written');
        expect(watching.said).not.toContain('not good');
      }),
    );
  });
});
