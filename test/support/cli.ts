import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../../compiler/cli.ts';

export const PROGRAM = fileURLToPath(new URL('../../dist/genai-gateway.cjs', import.meta.url));

export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the built program as a shell does, with this environment and the path of Node. */
export function runCli(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string; input?: string } = {},
): RunResult {
  const { status, stdout, stderr } = spawnSync(PROGRAM, args, {
    env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, ...options.env },
    cwd: options.cwd,
    input: options.input,
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
  });
  return { code: status, stdout, stderr };
}

/** Runs it in this process, ten times as fast, for tests that do not need a process. */
export async function runHere(
  args: readonly string[],
  { env = {} }: { env?: Readonly<Record<string, string>> } = {},
): Promise<RunResult> {
  const written = { out: '', err: '' };
  const code = await run([...args], {
    environment: env,
    wantsColor: () => false,
    out: (text) => {
      written.out += text;
    },
    err: (text) => {
      written.err += text;
    },
  });
  return { code, stdout: written.out, stderr: written.err };
}
