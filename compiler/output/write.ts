/** Writes the set of documents: all or nothing, apisix.yaml last, unchanged bytes untouched. */
import {
  chmodSync,
  closeSync,
  copyFileSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  futimesSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { errnoText } from '../errno.ts';

/** File modes: references are readable by everyone, inline secrets only by owner and group. */
export const FILE_MODES = { reference: 0o644, inline: 0o640 } as const;

export type WriteOutcome = 'written' | 'unchanged';

export type WriteResult =
  | { readonly ok: true; readonly outcomes: Readonly<Record<DocumentName, WriteOutcome>> }
  | { readonly ok: false; readonly path: string; readonly reason: string };

interface OldFile {
  readonly bytes: Buffer;
  readonly mode: number;
  readonly modifiedSecond: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * A file that is being replaced: the new bytes are in a temporary file, and the old ones are kept until all files are
 * replaced.
 */
interface Replacement {
  readonly target: string;
  readonly temporary: string;
  readonly backup: string;
  readonly old: OldFile | undefined;
  renamed: boolean;
}

/**
 * Writes the documents to `folder`, and creates the folder if it does not exist. Either all documents are replaced or
 * none. Of two renders at the same time, one waits for the other. `mode` applies before a file gets its name, whatever
 * the umask is; an existing file keeps its owner.
 */
export function writeDocuments(folder: string, documents: Partial<Documents>, mode: number): WriteResult {
  const at = { path: folder };
  try {
    makeFolder(resolve(folder));
    const unlock = lock(folder);
    try {
      removeLeftOvers(folder);
      return { ok: true, outcomes: replaceAll(folder, documents, mode, at) };
    } finally {
      unlock();
    }
  } catch (error) {
    return { ok: false, path: at.path, reason: error instanceof Refused ? error.message : errnoText(error) };
  }
}

/** Creates one folder after another: Node's recursive mkdir never ends where the kernel refuses, as in /proc. */
export function makeFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(folder) !== folder) makeFolder(dirname(folder));
  mkdirSync(folder);
}

const LOCK = '.genai-gateway.lock';
const LOCK_WAIT_MS = 10_000;
/** A render holds the lock for milliseconds. An older lock was left by a killed render. */
const LOCK_STALE_MS = 5_000;

/** A failure that does not come from a system call. */
class Refused extends Error {}

function lock(folder: string): () => void {
  const path = join(folder, LOCK);
  const release = () => remove(path);
  for (const started = Date.now(); ; ) {
    try {
      closeSync(openSync(path, 'wx', 0o600));
      return release;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const since = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    if (since !== undefined && Math.abs(Date.now() - since) > LOCK_STALE_MS) release();
    else if (Date.now() - started > LOCK_WAIT_MS) throw new Refused('another render is writing there');
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
}

/** Removes temporary files that killed renders left, because they can contain inline secrets. */
function removeLeftOvers(folder: string): void {
  for (const file of readdirSync(folder)) {
    if (DOCUMENT_NAMES.some((name) => file.startsWith(`.${name}.`)) && /\.(?:new|old)$/.test(file))
      remove(join(folder, file));
  }
}

function replaceAll(
  folder: string,
  documents: Partial<Documents>,
  mode: number,
  at: { path: string },
): Record<DocumentName, WriteOutcome> {
  const outcomes: Record<DocumentName, WriteOutcome> = {
    'config.yaml': 'unchanged',
    'otel-collector.yaml': 'unchanged',
    'apisix.yaml': 'unchanged',
  };
  const replacements: Replacement[] = [];
  const wrongMode: string[] = [];
  try {
    for (const name of DOCUMENT_NAMES) {
      const text = documents[name];
      if (text === undefined) continue;
      at.path = join(folder, name);
      const bytes = Buffer.from(text, 'utf8');
      const old = existing(at.path);
      const target = old ? targetOf(at.path, folder) : at.path;
      if (old?.bytes.equals(bytes)) {
        if (old.mode !== mode) wrongMode.push(at.path);
        continue;
      }
      outcomes[name] = 'written';
      const prefix = join(
        dirname(target),
        `.${name}.${process.pid}.${Math.random().toString(36).slice(2, 10)}`,
      );
      const replacement = {
        target,
        temporary: `${prefix}.new`,
        backup: `${prefix}.old`,
        old,
        renamed: false,
      };
      replacements.push(replacement);
      writeNew(replacement.temporary, bytes, mode, old);
    }
    for (const each of replacements) {
      at.path = join(folder, basename(each.target));
      if (each.old) keep(each.target, each.backup);
    }
    for (const each of replacements) {
      at.path = join(folder, basename(each.target));
      renameSync(each.temporary, each.target);
      each.renamed = true;
    }
    for (const path of wrongMode) {
      at.path = path;
      chmodSync(path, mode);
    }
    return outcomes;
  } catch (error) {
    for (const each of replacements.filter(({ renamed }) => renamed)) {
      if (each.old) renameSync(each.backup, each.target);
      else remove(each.target);
    }
    throw error;
  } finally {
    for (const { temporary, backup } of replacements) {
      remove(temporary);
      remove(backup);
    }
  }
}

/**
 * The file to replace. A symbolic link inside the folder is followed, as ConfigMaps use them. A link to the outside is
 * rejected: anyone who can write to the folder could make a render overwrite any file.
 */
function targetOf(path: string, folder: string): string {
  const target = realpathSync(path);
  if (!target.startsWith(`${realpathSync(folder)}${sep}`)) {
    throw new Refused(
      `it is a symbolic link to ${target}, outside of the folder: remove the link, or render to ${dirname(target)}`,
    );
  }
  return target;
}

/** Removes a file that may not exist. fs.rmSync would load a large part of Node. */
function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Keeps the old file under a second name: as a hard link, or as a copy if the file system has no links (SMB). */
function keep(target: string, backup: string): void {
  try {
    linkSync(target, backup);
  } catch {
    copyFileSync(target, backup);
  }
}

function existing(path: string): OldFile | undefined {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return undefined;
  return {
    bytes: readFileSync(path),
    mode: stats.mode & 0o777,
    modifiedSecond: Math.floor(stats.mtimeMs / 1000),
    uid: stats.uid,
    gid: stats.gid,
  };
}

function writeNew(path: string, bytes: Buffer, mode: number, old: OldFile | undefined): void {
  const file = openSync(path, 'wx', 0o600);
  try {
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
    if (old) keepOwner(file, old, mode);
    fchmodSync(file, mode);
    // APISIX detects a change only by the whole second of the time stamp, so each version needs a different second.
    const now = Date.now() / 1000;
    if (old && Math.floor(now) <= old.modifiedSecond) futimesSync(file, now, old.modifiedSecond + 1);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** The new file keeps the owner of the old one, because APISIX's user must be able to read it. */
function keepOwner(file: number, { uid, gid }: OldFile, mode: number): void {
  try {
    fchownSync(file, uid, gid);
  } catch (error) {
    // The owner does not matter for a file that everyone can read.
    if ((mode & 0o004) === 0) throw error;
  }
}
