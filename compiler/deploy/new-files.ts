/** Writes several files, all or nothing. */
import { spawnSync } from 'node:child_process';
import { closeSync, fchmodSync, linkSync, lstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { errnoText } from '../errno.ts';
import { makeFolder } from '../output/write.ts';

export interface NewFile {
  readonly path: string;
  readonly text: string;
  /** Only the owner may read the file, whatever the umask is. */
  readonly isSecret?: boolean;
}

export interface NotWritten {
  readonly path: string;
  /** Undefined: the file exists. */
  readonly reason: string | undefined;
}

/**
 * Writes the files, and creates their folders. A file that exists is an error, or is replaced with `force`.
 * @returns why nothing was written; empty if everything was
 */
export function writeNewFiles(files: readonly NewFile[], force: boolean): readonly NotWritten[] {
  if (!force) {
    const existing = files.filter(({ path }) => exists(path));
    if (existing.length > 0) return existing.map(({ path }) => ({ path, reason: undefined }));
  }
  const temporary = new Map<string, string>();
  const created: string[] = [];
  let current = '';
  try {
    for (const { path, text, isSecret = false } of files) {
      current = path;
      makeFolder(resolve(dirname(path)));
      const temporaryPath = join(dirname(path), `.${basename(path)}.${process.pid}.new`);
      temporary.set(path, temporaryPath);
      write(temporaryPath, text, isSecret);
    }
    for (const [path, from] of temporary) {
      current = path;
      // A link does not replace a file that another program made in the meantime.
      if (force) renameSync(from, path);
      else linkSync(from, path);
      created.push(path);
    }
    return [];
  } catch (error) {
    if (!force) for (const path of created) rmSync(path, { force: true });
    const isTaken = (error as NodeJS.ErrnoException).code === 'EEXIST' && exists(current);
    return [{ path: current, reason: isTaken && !force ? undefined : errnoText(error) }];
  } finally {
    for (const path of temporary.values()) rmSync(path, { force: true });
  }
}

/** Whether anything has this name, also a link to nothing. Writing reports why a path cannot be looked at. */
function exists(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

function write(path: string, text: string, isSecret: boolean): void {
  const file = openSync(path, 'wx', isSecret ? 0o600 : 0o666);
  try {
    if (isSecret) fchmodSync(file, 0o600);
    const bytes = Buffer.from(text, 'utf8');
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
  } finally {
    closeSync(file);
  }
}

/** Whether git ignores the path; undefined without git, and outside of repositories. */
export function isIgnoredByGit(path: string): boolean | undefined {
  const { status } = spawnSync('git', ['check-ignore', '--quiet', basename(path)], {
    cwd: dirname(resolve(path)),
    stdio: 'ignore',
  });
  return status === 0 ? true : status === 1 ? false : undefined;
}
