/** Runs the tests of the Lua modules, each as a vitest test, on the given LuaJIT. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { luaRuns } from '../lua.mjs';

const ROOT = join(import.meta.dirname, '../..');
const PATIENCE_MS = 120_000;
const FUZZ_SECONDS = 2;
const FUZZ_SEED = 20_251_122;

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  /** Its stderr, and the reason if it did not run to its end. */
  readonly trouble: string;
}

/** Runs a program in the root of the repository. */
export function run(
  command: string,
  args: readonly string[],
  { input, env = {} }: { readonly input?: Buffer; readonly env?: Readonly<Record<string, string>> } = {},
): Outcome {
  const { status, stdout, stderr, error, signal } = spawnSync(command, args, {
    cwd: ROOT,
    input,
    env: { ...process.env, ...env },
    timeout: PATIENCE_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
  const trouble = [stderr?.toString() ?? '', error?.message ?? '', signal ? `ended by ${signal}` : ''];
  return { status, stdout: stdout?.toString() ?? '', trouble: trouble.filter((each) => each).join('\n') };
}

/** Runs LuaJIT with these arguments and more environment variables. */
export type LuaJit = (args: readonly string[], env?: Readonly<Record<string, string>> | undefined) => Outcome;

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

/** The file whose tests measure time, and the prefix of its group names. */
const MEASURING = { file: 'test/lua/cost_test.lua', prefix: 'cost: ' };
const MEASUREMENTS = 3;

/**
 * The tests, without failed measurements that succeed when repeated: a busy machine may disturb one measurement, but a
 * slow module fails all of them.
 */
function withMeasurementsRepeated(tests: readonly LuaTest[], luajit: LuaJit): LuaTest[] {
  let failed = tests.filter(
    ({ group, failure }) => failure !== undefined && group.startsWith(MEASURING.prefix),
  );
  for (let run = 1; run < MEASUREMENTS && failed.length > 0; run++) {
    const passed = testsIn(luajit(['test/lua/run.lua', MEASURING.file]).stdout).filter(
      ({ failure }) => failure === undefined,
    );
    failed = failed.filter(
      (one) => !passed.some(({ group, name }) => group === one.group && name === one.name),
    );
  }
  return tests.map((each) => {
    const isMeasurement = each.group.startsWith(MEASURING.prefix);
    return isMeasurement && !failed.includes(each) ? { ...each, failure: undefined } : each;
  });
}

/** Declares one test for each test of the Lua files. */
export function luaTests(luajit: LuaJit): void {
  describe.each(luaRuns())('$folder', ({ files, args, env }) => {
    const outcome = luajit(args, env);
    const tests = withMeasurementsRepeated(testsIn(outcome.stdout), luajit);

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
  });

  test('no random input breaks them', { timeout: PATIENCE_MS }, () => {
    const fuzz = luajit(['test/lua/fuzz.lua', String(FUZZ_SECONDS), String(FUZZ_SEED)]);
    expect(fuzz).toMatchObject({
      status: 0,
      trouble: '',
      stdout: expect.stringMatching(/^\d+ cases of each/),
    });
  });
}
