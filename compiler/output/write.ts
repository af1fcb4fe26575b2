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
import { basename, dirname, join, resolve } from 'node:path';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { errnoText } from '../errno.ts';

/** Everyone may read references; inline secrets only owner and group. */
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

/** A file being replaced: its new bytes beside it, and the old ones kept until all are in place. */
interface Replacement {
  readonly target: string;
  readonly temporary: string;
  readonly backup: string;
  readonly old: OldFile | undefined;
  renamed: boolean;
}

/**
 * Replaces the given documents in `folder`, which is made when missing. Either every document has its new content
 * afterwards, or none was touched; of two renders at once one waits for the other. `mode` is set before a file
 * appears under its name, whatever the umask; an existing file keeps its owner.
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
    return { ok: false, path: at.path, reason: error instanceof Locked ? error.message : errnoText(error) };
  }
}

/** One folder after another: where the kernel refuses, as in /proc, Node's recursive mkdir never ends. */
function makeFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
  if (dirname(folder) !== folder) makeFolder(dirname(folder));
  mkdirSync(folder);
}

const LOCK = '.genai-gateway.lock';
const LOCK_WAIT_MS = 10_000;
/** A render holds the lock for milliseconds; what is older was left behind by one that was killed. */
const LOCK_STALE_MS = 5_000;

class Locked extends Error {}

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
    else if (Date.now() - started > LOCK_WAIT_MS) throw new Locked('another render is writing there');
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
}

/** Temporary files of renders that were killed hold documents, and inline secrets with them. */
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
      if (old?.bytes.equals(bytes)) {
        if (old.mode !== mode) wrongMode.push(at.path);
        continue;
      }
      outcomes[name] = 'written';
      // A link stays one: what it leads to is replaced.
      const target = old ? realpathSync(at.path) : at.path;
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

/** Removes a file that may not be there; rmSync would load more of Node than all the rest of this needs. */
function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** A second name for the old file; a copy where the file system (SMB, say) has no links. */
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
    // APISIX sees a change by the whole second of the time stamp: two versions within one would be one.
    const now = Date.now() / 1000;
    if (old && Math.floor(now) <= old.modifiedSecond) futimesSync(file, now, old.modifiedSecond + 1);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** APISIX's user was given the old file: it must be able to read the new one. */
function keepOwner(file: number, { uid, gid }: OldFile, mode: number): void {
  try {
    fchownSync(file, uid, gid);
  } catch (error) {
    // What everyone may read needs no owner.
    if ((mode & 0o004) === 0) throw error;
  }
}
