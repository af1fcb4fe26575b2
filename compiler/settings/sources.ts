/** Reads the environment, env files and secret files. The one part of settings/ that touches the world. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { parse as parseDotenv } from 'dotenv';
import { type Diagnostic, diagnostic, type Source } from '../diagnostics/diagnostic.ts';
import { errnoText } from '../errno.ts';
import { plainSettings } from './declarations/index.ts';
import { resolveName } from './names.ts';

export interface RawValue {
  readonly value: string;
  readonly source: Source;
  /** Stood in quotes in an env file. */
  readonly quoted?: true;
  /** Readers of env files take this assignment differently: for any setting, or where every character counts. */
  readonly ambiguous?: 'always' | 'for-secrets';
}

export interface RawSettings {
  /** Every variable, ours or not, by name. */
  readonly variables: ReadonlyMap<string, RawValue>;
  /** Contents of the files that `NAME_FILE` variables of sensitive settings name, by `NAME`. */
  readonly secretFiles: ReadonlyMap<string, RawValue>;
  readonly diagnostics: readonly Diagnostic[];
}

/** A path, or what was read there already: a pipe can be read once. */
export type EnvFile = string | { readonly path: string; readonly text: string };

export const MAX_ENV_FILE_BYTES = 4 * 1024 * 1024;
const MAX_SECRET_FILE_BYTES = 64 * 1024;

/** What a file or pipe holds, or why that cannot be told. */
export type FileContent = { readonly text: string } | { readonly reason: string };

/** Reads no more than a bound. */
export type ReadFile = (path: string, maxBytes: number) => FileContent;

/**
 * Process environment over env files, later files over earlier ones; what is blank overrides nothing. The files that
 * GATEWAY_ENV_FILES names come before those that are given. Never throws.
 */
export function readSources(
  environment: Readonly<Record<string, string | undefined>>,
  envFiles: readonly EnvFile[],
  read: ReadFile = readText,
): RawSettings {
  const variables = new Map<string, RawValue>();
  const diagnostics: Diagnostic[] = [];
  const set = (name: string, raw: RawValue) => {
    if (raw.value.trim() === '' && variables.has(name) && !isSecret(name)) return;
    variables.set(name, raw);
  };
  for (const file of new Set<EnvFile>([...namedEnvFiles(environment), ...envFiles]))
    readEnvFile(file, read, set, diagnostics);
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined) set(name, { value, source: { kind: 'environment' } });
  }
  const secrets = readSecretFiles(variables, read);
  return {
    variables,
    secretFiles: secrets.files,
    diagnostics: [...diagnostics, ...secrets.diagnostics],
  };
}

/** Reads the files that `NAME_FILE` variables of sensitive settings name. */
export function readSecretFiles(
  variables: RawSettings['variables'],
  read: ReadFile = readText,
): { readonly files: RawSettings['secretFiles']; readonly diagnostics: readonly Diagnostic[] } {
  const files = new Map<string, RawValue>();
  const diagnostics: Diagnostic[] = [];
  for (const [name, raw] of variables) {
    if (!name.endsWith('_FILE') || raw.value.trim() === '') continue;
    const verdict = resolveName(name);
    if (verdict.is !== 'secret-file') continue;
    const path = raw.value.trim();
    const content = read(path, MAX_SECRET_FILE_BYTES);
    if ('reason' in content) {
      // Without the path: a key that was pasted in its place must not be shown.
      diagnostics.push(
        diagnostic(
          'SECRET_FILE_UNREADABLE',
          { setting: name, source: raw.source },
          { reason: content.reason },
        ),
      );
    } else {
      const value = content.text.replace(/\r?\n$/, '');
      files.set(verdict.known.name, { value, source: { kind: 'secret-file', path } });
    }
  }
  return { files, diagnostics };
}

/** The files that GATEWAY_ENV_FILES names; none where it is wrong, which is reported like every wrong value. */
export function namedEnvFiles(environment: Readonly<Record<string, string | undefined>>): readonly string[] {
  const value = environment.GATEWAY_ENV_FILES?.trim() ?? '';
  const parsed = value === '' ? { value: [] } : plainSettings.GATEWAY_ENV_FILES.type.parse(value);
  return 'value' in parsed ? parsed.value : [];
}

/** A blank secret is an error, so it must not be passed over. */
function isSecret(name: string): boolean {
  const verdict = resolveName(name);
  return verdict.is === 'setting' && verdict.known.declaration.sensitive === true;
}

/** A command that writes into a pipe may have to ask a vault first. */
const PIPE_MS = 60_000;
/** One that was started beside us has opened its end by then. */
const PIPE_OPENED_MS = 2_000;
const PIPE_LOOK_MS = 10;

/**
 * Reads a file or pipe (`--env-file <(…)`), never more than a bound, never from a device. A pipe that nobody writes into
 * must not hold up those who follow files: nothing here waits without end.
 */
export function readText(path: string, maxBytes: number): FileContent {
  const tooLarge = { reason: `it has more than ${maxBytes} bytes` };
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = fstatSync(file);
    if (stats.isDirectory()) return { reason: 'it is a folder' };
    if (!stats.isFile() && !stats.isFIFO()) return { reason: 'it is not a file' };
    if (stats.size > maxBytes) return tooLarge;
    const chunks: Buffer[] = [];
    const started = Date.now();
    for (let total = 0; total <= maxBytes; ) {
      // A file tells its size, a pipe does not; one byte more finds the end in the same read.
      const chunk = Buffer.allocUnsafe(total === 0 && stats.size > 0 ? stats.size + 1 : 64 * 1024);
      const length = stats.isFIFO() ? readPipe(file, chunk, total === 0, started) : readSync(file, chunk);
      if (length === undefined) return { reason: 'nobody writes into the pipe' };
      if (length === 0) return { text: Buffer.concat(chunks).toString('utf8') };
      chunks.push(chunk.subarray(0, length));
      total += length;
    }
    return tooLarge;
  } catch (error) {
    return { reason: errnoText(error) };
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** As readSync; undefined where nothing comes. Before its first byte a pipe without a writer may still get one. */
function readPipe(file: number, chunk: Buffer, isFirst: boolean, started: number): number | undefined {
  for (;;) {
    let hasWriter = false;
    try {
      const length = readSync(file, chunk);
      if (length > 0 || !isFirst) return length;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      hasWriter = true;
    }
    if (Date.now() - started > (hasWriter ? PIPE_MS : PIPE_OPENED_MS)) return undefined;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_LOOK_MS);
  }
}

function readEnvFile(
  file: EnvFile,
  read: ReadFile,
  set: (name: string, raw: RawValue) => void,
  diagnostics: Diagnostic[],
): void {
  const path = typeof file === 'string' ? file : file.path;
  const content = typeof file === 'string' ? read(file, MAX_ENV_FILE_BYTES) : file;
  if ('reason' in content) {
    diagnostics.push(diagnostic('ENV_FILE_UNREADABLE', { setting: path }, { reason: content.reason }));
    return;
  }
  if (content.text.includes('\0')) {
    diagnostics.push(diagnostic('ENV_FILE_NOT_TEXT', { setting: path }, {}));
    return;
  }
  const { assignments, ignored, text } = scan(content.text);
  for (const line of ignored) {
    diagnostics.push(
      diagnostic('ENV_FILE_LINE_IGNORED', { setting: path, source: { kind: 'file', path, line } }, { line }),
    );
  }
  for (const [name, value] of Object.entries(parseDotenv(text))) {
    const at = assignments.get(name);
    const source: Source = { kind: 'file', path, ...(at ? { line: at.line } : {}) };
    const ambiguous = at && ambiguity(at.rest, value);
    set(name, {
      value,
      source,
      ...(at && /^['"`]/.test(at.rest) ? { quoted: true } : {}),
      ...(ambiguous ? { ambiguous } : {}),
    });
  }
}

const ASSIGNMENT = /^\s*(?:export\s+)?([\w.-]+)(?:\s*=|:\s)(.*)$/;

interface Scan {
  /** The last assignment of each name, which is the one that dotenv takes. */
  readonly assignments: ReadonlyMap<string, { readonly line: number; readonly rest: string }>;
  /** Lines that are neither an assignment, nor blank, nor a comment. */
  readonly ignored: readonly number[];
  /** Without blank lines and comments, which take dotenv long where there are many. */
  readonly text: string;
}

/** dotenv tells no lines: this finds them. */
function scan(text: string): Scan {
  const assignments = new Map<string, { line: number; rest: string }>();
  const ignored: number[] = [];
  const kept: string[] = [];
  let openQuote: string | undefined;
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    if (openQuote !== undefined) {
      kept.push(line);
      if (line.includes(openQuote)) openQuote = undefined;
      continue;
    }
    if (/^\s*(?:#|$)/.test(line)) continue;
    kept.push(line);
    const [, name, untrimmed = ''] = ASSIGNMENT.exec(line) ?? [];
    if (name === undefined) {
      ignored.push(index + 1);
      continue;
    }
    const rest = untrimmed.trim();
    assignments.set(name, { line: index + 1, rest });
    const quote = /^['"`]/.exec(rest)?.[0];
    if (
      quote !== undefined &&
      !rest.slice(1).includes(quote) &&
      text.includes(quote, text.indexOf(line) + line.length)
    ) {
      openQuote = quote;
    }
  }
  return { assignments, ignored, text: kept.join('\n') };
}

/**
 * Whether readers of env files disagree on what stands behind a name's equals sign: half a key, or one with quotes
 * around it, would be used without a word. dotenv ends a bare value at any `#`, Docker at none, a shell where white
 * space stands before it; dotenv keeps an escaped quote's backslash; Compose replaces `$NAME` but in single quotes.
 */
function ambiguity(rest: string, value: string): RawValue['ambiguous'] {
  const quote = /^['"`]/.exec(rest)?.[0];
  if (quote === undefined) {
    if (/[^\s]#/.test(rest.replace(/\s#.*$/, ''))) return 'always';
    // dotenv takes the next line for the value of a name with nothing behind it.
    if (rest === '' && value !== '') return 'always';
    return /\s#|\$/.test(rest) ? 'for-secrets' : undefined;
  }
  const end = rest.indexOf(quote, 1);
  if (end === -1) return value.includes('\n') ? undefined : 'always';
  if (!/^(?:\s+#.*)?$/.test(rest.slice(end + 1))) return 'always';
  return quote === '"' && /[\\$]/.test(rest.slice(1, end)) ? 'for-secrets' : undefined;
}
