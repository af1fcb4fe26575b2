/** Writes the set of documents: all or nothing, apisix.yaml last, unchanged bytes untouched. */
import {
  chmodSync,
  closeSync,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  futimesSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DOCUMENT_NAMES, type DocumentName, type Documents } from '../emit/emit.ts';
import { errnoText } from '../settings/sources.ts';

export type WriteOutcome = 'written' | 'unchanged';

export type WriteResult =
  | { readonly ok: true; readonly outcomes: Readonly<Record<DocumentName, WriteOutcome>> }
  | { readonly ok: false; readonly path: string; readonly reason: string };

/** A file being replaced: its new bytes beside it, and the old ones kept until all are in place. */
interface Replacement {
  readonly name: DocumentName;
  readonly target: string;
  readonly temporary: string;
  readonly backup: string;
  hadOld: boolean;
  renamed: boolean;
}

/**
 * Replaces the documents in `folder`, which is made when missing. Either every document has its new content
 * afterwards, or none was touched. `mode` is set before a file appears under its name, whatever the umask.
 */
export function writeDocuments(folder: string, documents: Documents, mode: number): WriteResult {
  const outcomes: Record<DocumentName, WriteOutcome> = {
    'config.yaml': 'unchanged',
    'otel-collector.yaml': 'unchanged',
    'apisix.yaml': 'unchanged',
  };
  const replacements: Replacement[] = [];
  let path = folder;
  try {
    mkdirSync(folder, { recursive: true });
    for (const name of DOCUMENT_NAMES) {
      path = join(folder, name);
      const bytes = Buffer.from(documents[name], 'utf8');
      const old = existing(path);
      if (old?.bytes.equals(bytes)) {
        if (old.mode !== mode) chmodSync(path, mode);
        continue;
      }
      outcomes[name] = 'written';
      const suffix = `.${process.pid}.${Math.random().toString(36).slice(2, 10)}`;
      const replacement = {
        name,
        target: path,
        temporary: join(folder, `.${name}${suffix}.new`),
        backup: join(folder, `.${name}${suffix}.old`),
        hadOld: old !== undefined,
        renamed: false,
      };
      replacements.push(replacement);
      writeNew(replacement.temporary, bytes, mode, old?.modifiedSecond);
    }
    for (const each of replacements) {
      path = each.target;
      if (each.hadOld) keep(each.target, each.backup);
    }
    for (const each of replacements) {
      path = each.target;
      renameSync(each.temporary, each.target);
      each.renamed = true;
    }
    if (replacements.length > 0) syncFolder(folder);
    return { ok: true, outcomes };
  } catch (error) {
    for (const each of replacements.filter(({ renamed }) => renamed)) {
      if (each.hadOld) renameSync(each.backup, each.target);
      else rmSync(each.target, { force: true });
    }
    return { ok: false, path, reason: errnoText(error) };
  } finally {
    for (const { temporary, backup } of replacements) {
      rmSync(temporary, { force: true });
      rmSync(backup, { force: true });
    }
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

function existing(path: string): { bytes: Buffer; mode: number; modifiedSecond: number } | undefined {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return undefined;
  return {
    bytes: readFileSync(path),
    mode: stats.mode & 0o777,
    modifiedSecond: Math.floor(stats.mtimeMs / 1000),
  };
}

function writeNew(path: string, bytes: Buffer, mode: number, oldSecond: number | undefined): void {
  const file = openSync(path, 'wx', 0o600);
  try {
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
    fchmodSync(file, mode);
    // APISIX sees a change by the whole second of the time stamp: two versions within one would be one.
    const now = Date.now() / 1000;
    if (oldSecond !== undefined && Math.floor(now) <= oldSecond) futimesSync(file, now, oldSecond + 1);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Makes the renames last over a crash, where the platform can. */
function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
