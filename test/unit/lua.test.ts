/** The Lua modules under the plugins, on LuaJIT: each test of test/lua as one here. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { APISIX_IMAGE, gatewayTestsAvailable } from '../support/apisix.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LUAJIT_OF_IMAGE = '/usr/local/openresty/luajit/bin/luajit';
const PATIENCE_MS = 120_000;
const FUZZ_SECONDS = 2;
const FUZZ_SEED = 20_251_122;

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  /** What it wrote beside its output, and whatever kept it from running to its end. */
  readonly trouble: string;
}

function run(command: string, args: readonly string[], input?: Buffer): Outcome {
  const { status, stdout, stderr, error, signal } = spawnSync(command, args, {
    cwd: ROOT,
    input,
    timeout: PATIENCE_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
  const trouble = [stderr?.toString() ?? '', error?.message ?? '', signal ? `ended by ${signal}` : ''];
  return { status, stdout: stdout?.toString() ?? '', trouble: trouble.filter((each) => each).join('\n') };
}

type LuaJit = (...args: string[]) => Outcome;

/** LuaJIT of this machine, or else that of the gateway's image, which gets the files through its standard input. */
function findLuaJit(): LuaJit | undefined {
  if (run('luajit', ['-v']).status === 0) return (...args) => run('luajit', args);

  const image = gatewayTestsAvailable();
  if (!image.available) {
    process.stderr.write(`\nSKIPPED tests of the Lua modules: there is no luajit, and ${image.reason}\n`);
    return undefined;
  }
  const archive = spawnSync('tar', ['-c', 'test/lua', 'lua-plugins/genai'], {
    cwd: ROOT,
    maxBuffer: 2 ** 26,
  });
  const script = `tar -x -C /tmp && cd /tmp && exec ${LUAJIT_OF_IMAGE} "$@"`;
  const container = ['run', '--rm', '-i', '--network', 'none', '--entrypoint', 'bash', APISIX_IMAGE];
  return (...args) => run('docker', [...container, '-c', script, 'bash', ...args], archive.stdout);
}

interface LuaTest {
  readonly group: string;
  readonly name: string;
  readonly failure: string | undefined;
}

function testsIn(output: string): LuaTest[] {
  return output.split('\n').flatMap((line) => {
    const [outcome, group, name, failure = ''] = line.split('\t');
    if (group === undefined || name === undefined) return [];
    return [{ group, name, failure: outcome === 'ok' ? undefined : failure.replaceAll('\\n', '\n') }];
  });
}

const luajit = findLuaJit();

describe.skipIf(!luajit)('Lua modules', () => {
  const files = readdirSync(`${ROOT}/test/lua`)
    .filter((name) => name.endsWith('_test.lua'))
    .map((name) => `test/lua/${name}`);
  const outcome = luajit?.('test/lua/run.lua', ...files) ?? { status: 0, stdout: '', trouble: '' };
  const tests = testsIn(outcome.stdout);

  for (const group of new Set(tests.map((each) => each.group))) {
    describe(group, () => {
      for (const { name, failure } of tests.filter((each) => each.group === group)) {
        test(name, () => {
          if (failure !== undefined) expect.fail(failure);
        });
      }
    });
  }

  test('all of their tests ran', () => {
    expect(outcome.trouble).toBe('');
    expect(outcome.stdout).toContain(`\n${tests.length} tests, `);
    expect(tests.length).toBeGreaterThan(files.length);
  });

  test('no random input breaks them', { timeout: PATIENCE_MS }, () => {
    const fuzz = luajit?.('test/lua/fuzz.lua', String(FUZZ_SECONDS), String(FUZZ_SEED));
    expect(fuzz).toMatchObject({
      status: 0,
      trouble: '',
      stdout: expect.stringMatching(/^\d+ cases of each/),
    });
  });
});
