/** Reads the environment, env files and secret files. The one part of settings/ that touches the world. */
import { readFileSync, type Stats, statSync } from 'node:fs';
import { parse as parseDotenv } from 'dotenv';
import { type Diagnostic, diagnostic, type Source } from '../diagnostics/diagnostic.ts';
import { resolveName } from './names.ts';

export interface RawValue {
  readonly value: string;
  readonly source: Source;
}

export interface RawSettings {
  /** Every variable, ours or not, by name. */
  readonly variables: ReadonlyMap<string, RawValue>;
  /** Contents of the files that `NAME_FILE` variables of sensitive settings name, by `NAME`. */
  readonly secretFiles: ReadonlyMap<string, RawValue>;
  readonly diagnostics: readonly Diagnostic[];
}

const MAX_ENV_FILE_BYTES = 16 * 1024 * 1024;
const MAX_SECRET_FILE_BYTES = 64 * 1024;

/** Process environment over env files, later files over earlier ones. Never throws. */
export function readSources(
  environment: Readonly<Record<string, string | undefined>>,
  envFiles: readonly string[],
): RawSettings {
  const variables = new Map<string, RawValue>();
  const diagnostics: Diagnostic[] = [];
  for (const path of envFiles) readEnvFile(path, variables, diagnostics);
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined) variables.set(name, { value, source: { kind: 'environment' } });
  }
  const secretFiles = new Map<string, RawValue>();
  for (const [name, raw] of variables) {
    if (!name.endsWith('_FILE') || raw.value.trim() === '') continue;
    const verdict = resolveName(name);
    if (verdict.is !== 'secret-file') continue;
    const path = raw.value.trim();
    const content = readText(path, MAX_SECRET_FILE_BYTES);
    if ('reason' in content) {
      diagnostics.push(
        diagnostic(
          'SECRET_FILE_UNREADABLE',
          { setting: name, source: raw.source },
          { path, reason: content.reason },
        ),
      );
    } else {
      const value = content.text.replace(/\r?\n$/, '');
      secretFiles.set(verdict.known.name, { value, source: { kind: 'secret-file', path } });
    }
  }
  return { variables, secretFiles, diagnostics };
}

function readText(path: string, maxBytes: number): { text: string } | { reason: string } {
  let stats: Stats;
  try {
    stats = statSync(path);
    if (stats.isDirectory()) return { reason: 'it is a folder' };
    if (stats.size > maxBytes) return { reason: `it has ${stats.size} bytes, more than ${maxBytes}` };
    const bytes = readFileSync(path);
    return bytes.length > maxBytes
      ? { reason: `it has more than ${maxBytes} bytes` }
      : { text: bytes.toString('utf8') };
  } catch (error) {
    return { reason: errnoText(error) };
  }
}

const ERRNO: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  EACCES: 'permission denied',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space is left',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'too many symbolic links',
};

/** Words for a failed system call. Messages of Node name paths, which callers already do. */
export function errnoText(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  return ERRNO[code] ?? code;
}

const ASSIGNMENT = /^\s*(?:export\s+)?([\w.-]+)(?:\s*=|:\s)(.*)$/;

function readEnvFile(path: string, variables: Map<string, RawValue>, diagnostics: Diagnostic[]): void {
  const content = readText(path, MAX_ENV_FILE_BYTES);
  if ('reason' in content) {
    diagnostics.push(diagnostic('ENV_FILE_UNREADABLE', { setting: path }, { reason: content.reason }));
    return;
  }
  if (content.text.includes('\0')) {
    diagnostics.push(diagnostic('ENV_FILE_NOT_TEXT', { setting: path }, {}));
    return;
  }
  const parsed = parseDotenv(content.text);
  // dotenv tells no lines; the last assignment of a name is the one it took.
  const lines = new Map<string, { line: number; rest: string }>();
  const multiLine = Object.values(parsed).some((value) => value.includes('\n'));
  for (const [index, line] of content.text.split(/\r\n|\n|\r/).entries()) {
    const [, name, rest = ''] = ASSIGNMENT.exec(line) ?? [];
    if (name !== undefined && Object.hasOwn(parsed, name)) {
      lines.set(name, { line: index + 1, rest });
    } else if (!multiLine && !/^\s*(?:#.*)?$/.test(line.replace(/^\uFEFF/, ''))) {
      const source: Source = { kind: 'file', path, line: index + 1 };
      diagnostics.push(diagnostic('ENV_FILE_LINE_IGNORED', { setting: path, source }, { line: index + 1 }));
    }
  }
  for (const [name, value] of Object.entries(parsed)) {
    const at = lines.get(name);
    const source: Source = { kind: 'file', path, ...(at ? { line: at.line } : {}) };
    variables.set(name, { value, source });
    if (at && isAmbiguous(at.rest) && resolveName(name).is === 'setting') {
      diagnostics.push(diagnostic('ENV_FILE_VALUE_AMBIGUOUS', { setting: name, source }, {}));
    }
  }
}

/**
 * Whether readers of env files disagree on an assignment: dotenv ends a bare value at any `#`, where Docker and shells
 * want white space before it, and keeps the backslash of an escaped quote. Half a key would be used without a word.
 */
function isAmbiguous(rest: string): boolean {
  const written = rest.trim();
  const quote = /^['"`]/.exec(written)?.[0];
  if (quote === undefined) return /[^\s]#/.test(written.replace(/\s#.*$/, ''));
  const end = written.indexOf(quote, 1);
  return end !== -1 && !/^\s*(?:#.*)?$/.test(written.slice(end + 1));
}
