/** One deployment of an environment at a time on this machine. Between machines, Terraform locks its states. */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { errnoText } from '../errno.ts';
import { DeployFailure } from './failure.ts';

interface Holder {
  readonly pid: number;
  readonly host: string;
  readonly user: string;
  readonly command: string;
  readonly since: string;
}

/**
 * Takes the lock file. The lock of a process that has ended is taken over.
 * @returns a function that gives the lock back
 * @throws DeployFailure that names the other run
 */
export function takeLock(path: string, command: string, environment: string): () => void {
  const own: Holder = {
    pid: process.pid,
    host: hostname(),
    user: userName(),
    command,
    since: new Date().toISOString(),
  };
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const file = openSync(path, 'wx', 0o600);
      writeSync(file, JSON.stringify(own));
      closeSync(file);
      return () => {
        if (holderOf(path)?.pid === own.pid) rmSync(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
        throw new DeployFailure('not-begun', `${path} cannot be written: ${errnoText(error)}.`);
    }
    const holder = holderOf(path);
    if (holder !== undefined && (holder.host !== own.host || isAlive(holder.pid))) {
      throw new DeployFailure(
        'not-begun',
        `Another run is deploying ${environment}: ${holder.command}, process ${holder.pid} of ${holder.user} on ${holder.host}, since ${holder.since}.`,
        `Wait until it has ended, or end it with Ctrl-C. If it ended without removing its lock, remove the file ${path}.`,
      );
    }
    rmSync(path, { force: true });
  }
  throw new DeployFailure('not-begun', `Another run is taking the lock ${path} right now.`);
}

/** Undefined for a file that is gone or has no holder: a run that was killed while it wrote the file. */
function holderOf(path: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder>;
    return typeof holder.pid === 'number' ? (holder as Holder) : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `user ${process.getuid?.() ?? ''}`.trim();
  }
}
