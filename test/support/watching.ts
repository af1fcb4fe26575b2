/** `genai-gateway watch` as in a deployment, and the ways in which platforms change the files that it follows. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { PROGRAM } from './cli.ts';
import { until } from './until.ts';

export interface Watching {
  readonly process: ChildProcess;
  /** Everything it has written to stderr. */
  readonly said: string;
  /** Its lines that begin with `watch: `. */
  readonly lines: readonly string[];
  /** Waits until a text was written this number of times. */
  waitFor(text: string, times?: number): Promise<void>;
  /** Ends it. Returns its exit code, or null when a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

/** Starts the built program with this environment and the path of Node. */
export function startWatch(args: readonly string[], env: Readonly<Record<string, string>>): Watching {
  const child = spawn(PROGRAM, ['watch', ...args], {
    env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  return {
    process: child,
    get said() {
      return said;
    },
    get lines() {
      return said.split('\n').filter((line) => line.startsWith('watch: '));
    },
    waitFor: async (text, times = 1) => {
      await until(() => said.split(text).length > times, 15_000).catch(() => {
        throw new Error(`not said ${times} times: ${text}\nwhat was said:\n${said}`);
      });
    },
    end: async (signal) => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill(signal);
        await once(child, 'exit');
      }
      return child.exitCode;
    },
  };
}

export const envText = (variables: Readonly<Record<string, string | undefined>>): string =>
  Object.entries(variables)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}='${value}'\n`)
    .join('');

/** A folder as Kubernetes mounts a ConfigMap or a Secret: links through `..data`, which is switched at once. */
export class MountedVolume {
  readonly #folder: string;
  #versions = 0;

  constructor(folder: string, files: Readonly<Record<string, string>>) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    this.swap(files);
    for (const name of Object.keys(files)) symlinkSync(join('..data', name), this.path(name));
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  swap(files: Readonly<Record<string, string>>): void {
    const version = `..version-${this.#versions++}`;
    mkdirSync(this.path(version));
    for (const [name, content] of Object.entries(files))
      writeFileSync(this.path(join(version, name)), content);
    const data = this.path('..data');
    const old = this.#versions > 1 ? readlinkSync(data) : undefined;
    symlinkSync(version, this.path('..data_tmp'));
    renameSync(this.path('..data_tmp'), data);
    if (old !== undefined) rmSync(this.path(old), { recursive: true });
  }
}
