/** Reads the environment, env files and secret files. Only this file of settings/ does I/O. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { parse as parseDotenv } from 'dotenv';
import type { CatalogArgs } from '../diagnostics/catalog.ts';
import { type Diagnostic, diagnostic, type Source } from '../diagnostics/diagnostic.ts';
import { errnoText } from '../errno.ts';
import { plainSettings } from './declarations/index.ts';
import { otherFormatOf } from './env-file-formats.ts';
import { resolveName } from './names.ts';

export interface RawValue {
  readonly value: string;
  readonly source: Source;
  /** The value was in quotes in an env file. */
  readonly quoted?: true;
  /** The value had white space around it in an env file, outside quotes. */
  readonly padded?: true;
  /** Programs read this assignment differently. */
  readonly ambiguous?: Ambiguity;
}

export interface Ambiguity {
  readonly args: CatalogArgs<'ENV_FILE_VALUE_AMBIGUOUS'>;
  /** The difference matters only for secrets, in which every character counts. */
  readonly isForSecretsOnly: boolean;
}

export interface RawSettings {
  /** All variables, also foreign ones, by name. */
  readonly variables: ReadonlyMap<string, RawValue>;
  /** Contents of the files in `NAME_FILE` variables of sensitive settings, by `NAME`. */
  readonly secretFiles: ReadonlyMap<string, RawValue>;
  readonly diagnostics: readonly Diagnostic[];
}

/** A path, or the content that was already read: a pipe can be read only once. */
export type EnvFile = string | ({ readonly path: string } & FileContent);

export const MAX_ENV_FILE_BYTES = 4 * 1024 * 1024;
const MAX_SECRET_FILE_BYTES = 64 * 1024;

/** The content of a file or pipe, or the reason why it cannot be read. */
export type FileContent = { readonly text: string } | { readonly reason: string };

/** Reads at most `maxBytes`. */
export type ReadFile = (path: string, maxBytes: number) => FileContent;

/**
 * Reads all variables. The environment overrides env files, and later files override earlier ones; a blank value
 * overrides nothing. Files in GATEWAY_ENV_FILES come before the given ones. Never throws.
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

/** Reads the files in `NAME_FILE` variables of sensitive settings. */
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
      // The path is not shown, because it may be a key that was pasted into the wrong variable.
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

/** The files in GATEWAY_ENV_FILES; none if its value is invalid, which the parser reports. */
export function namedEnvFiles(environment: Readonly<Record<string, string | undefined>>): readonly string[] {
  const value = environment.GATEWAY_ENV_FILES?.trim() ?? '';
  const parsed = value === '' ? { value: [] } : plainSettings.GATEWAY_ENV_FILES.type.parse(value);
  return 'value' in parsed ? parsed.value : [];
}

/** Blank secrets are errors, so they must not be ignored. */
function isSecret(name: string): boolean {
  const verdict = resolveName(name);
  return verdict.is === 'setting' && verdict.known.declaration.sensitive === true;
}

/** Longest wait for the writer of a pipe, which may have to query a vault first. */
const PIPE_MS = 60_000;
/** Longest wait for a writer to open the pipe. */
const PIPE_OPENED_MS = 2_000;
const PIPE_POLL_MS = 10;

/**
 * Reads a file or pipe (`--env-file <(…)`), at most `maxBytes`, never a device. It never waits without a limit: a pipe
 * without a writer must not block `watch`.
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
      // For a file the size is known; one byte more detects the end in the same read. A pipe has no size.
      const chunk = Buffer.allocUnsafe(total === 0 && stats.size > 0 ? stats.size + 1 : 64 * 1024);
      const length = stats.isFIFO() ? readPipe(file, chunk, total === 0, started) : readSync(file, chunk);
      if (length === undefined) return { reason: 'no program writes into the pipe' };
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

/** Reads all of standard input, at most `maxBytes`. Waits for its end. */
export function readStandardInput(maxBytes: number): FileContent {
  const chunks: Buffer[] = [];
  try {
    for (let total = 0; total <= maxBytes; ) {
      const chunk = Buffer.allocUnsafe(64 * 1024);
      let length: number;
      try {
        length = readSync(0, chunk);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EAGAIN' && code !== 'EOF') throw error;
        // Windows reports the end of input as an error.
        if (code === 'EOF') length = 0;
        else {
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_POLL_MS);
          continue;
        }
      }
      if (length === 0) return { text: Buffer.concat(chunks).toString('utf8') };
      chunks.push(chunk.subarray(0, length));
      total += length;
    }
    return { reason: `it has more than ${maxBytes} bytes` };
  } catch (error) {
    return { reason: errnoText(error) };
  }
}

/** Like readSync; undefined if the wait timed out. Before the first byte, a writer may still open the pipe. */
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
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_POLL_MS);
  }
}

const UNREAD: ReadonlySet<Diagnostic['code']> = new Set<Diagnostic['code']>([
  'ENV_FILE_UNREADABLE',
  'ENV_FILE_NOT_TEXT',
  'ENV_FILE_FORMAT',
]);

/** Whether a diagnostic says that an env file was not read at all. */
export const isUnreadFile = ({ code }: Diagnostic): boolean => UNREAD.has(code);

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
  const { assignments, ignored, refused, text } = scan(content.text);
  const format = ignored.length === 0 ? undefined : otherFormatOf(content.text.replace(/^\uFEFF/, ''));
  if (format !== undefined) {
    diagnostics.push(diagnostic('ENV_FILE_FORMAT', { setting: path }, { format }));
    return;
  }
  for (const line of ignored) {
    diagnostics.push(
      diagnostic('ENV_FILE_LINE_IGNORED', { setting: path, source: { kind: 'file', path, line } }, { line }),
    );
  }
  for (const [spelling, lines] of refused) {
    const source: Source = { kind: 'file', path, ...(lines[0] === undefined ? {} : { line: lines[0] }) };
    diagnostics.push(diagnostic('ENV_FILE_NOT_FOR_DOCKER', { setting: path, source }, { spelling, lines }));
  }
  for (const [name, value] of Object.entries(parseDotenv(text))) {
    const at = assignments.get(name);
    const source: Source = { kind: 'file', path, ...(at ? { line: at.line } : {}) };
    if (at?.before && resolveName(name).is !== 'foreign') {
      const args = { lines: at.before, last: at.line };
      diagnostics.push(diagnostic('DUPLICATE_ASSIGNMENT', { setting: name, source }, args));
    }
    const ambiguous = at && ambiguity(at, value);
    set(name, {
      value,
      source,
      ...(at && /^['"`]/.test(at.rest) ? { quoted: true } : {}),
      ...(at?.padded ? { padded: true } : {}),
      ...(ambiguous ? { ambiguous } : {}),
    });
  }
}

const ASSIGNMENT = /^\s*(export\s+)?([\w.-]+)(\s*=|:\s)(.*)$/;

/** A spelling for which docker --env-file rejects the whole file. */
type Spelling = CatalogArgs<'ENV_FILE_NOT_FOR_DOCKER'>['spelling'];

interface Assignment {
  readonly line: number;
  /** The text after the equals sign, without white space around it. */
  readonly rest: string;
  /** There was white space around an unquoted value. */
  readonly padded: boolean;
  /** The line that closes the quote, if it is a later line. */
  until?: number;
  /** The lines of earlier assignments of the same name. */
  readonly before: readonly number[] | undefined;
}

interface Scan {
  /** The last assignment of each name, which is the one that dotenv uses. */
  readonly assignments: ReadonlyMap<string, Assignment>;
  /** Lines that are neither an assignment, nor blank, nor a comment. */
  readonly ignored: readonly number[];
  /** The lines of each spelling that docker --env-file refuses. */
  readonly refused: ReadonlyMap<Spelling, readonly number[]>;
  /** The text without blank lines and comments, which would slow dotenv down. */
  readonly text: string;
}

/** Finds the line numbers of assignments, which dotenv does not report. */
function scan(text: string): Scan {
  const assignments = new Map<string, Assignment>();
  const ignored: number[] = [];
  const kept: string[] = [];
  const refused = new Map<Spelling, number[]>();
  let open: { readonly quote: string; readonly assignment: Assignment } | undefined;
  for (const [index, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    if (open) {
      kept.push(line);
      if (line.includes(open.quote)) {
        open.assignment.until = index + 1;
        open = undefined;
      }
      continue;
    }
    if (/^\s*(?:#|$)/.test(line)) continue;
    kept.push(line);
    const [, prefix, name, sign = '', untrimmed = ''] = ASSIGNMENT.exec(line) ?? [];
    if (name === undefined) {
      ignored.push(index + 1);
      continue;
    }
    const spelling = refusedSpelling(prefix, sign);
    if (spelling) {
      const lines = refused.get(spelling);
      if (lines) lines.push(index + 1);
      else refused.set(spelling, [index + 1]);
    }
    const rest = untrimmed.trim();
    const quote = /^['"`]/.exec(rest)?.[0];
    const earlier = assignments.get(name);
    const assignment: Assignment = {
      line: index + 1,
      rest,
      padded: quote === undefined && rest !== '' && rest !== untrimmed,
      before: earlier && [...(earlier.before ?? []), earlier.line],
    };
    assignments.set(name, assignment);
    if (
      quote !== undefined &&
      !rest.slice(1).includes(quote) &&
      text.includes(quote, text.indexOf(line) + line.length)
    ) {
      open = { quote, assignment };
    }
  }
  return { assignments, ignored, refused, text: kept.join('\n') };
}

function refusedSpelling(prefix: string | undefined, sign: string): Spelling | undefined {
  if (prefix !== undefined) return 'export';
  if (sign.startsWith(':')) return 'colon';
  return sign === '=' ? undefined : 'space';
}

/**
 * Whether programs disagree on the value of an assignment; otherwise half a key, or a key with quotes, could be used
 * silently. dotenv ends an unquoted value at any `#`, Docker at none, a shell only after white space. dotenv keeps the
 * backslash of an escaped quote. Compose replaces `$NAME` except in single quotes.
 */
function ambiguity({ rest, until }: Assignment, value: string): Ambiguity | undefined {
  const of = (cause: Ambiguity['args']['cause'], isForSecretsOnly = false): Ambiguity => ({
    args: { cause, until },
    isForSecretsOnly,
  });
  const quote = /^['"`]/.exec(rest)?.[0];
  if (quote === undefined) {
    if (/[^\s]#/.test(rest.replace(/\s#.*$/, ''))) return of('comment');
    // dotenv uses the next line as the value if the text after the equals sign is empty.
    if (rest === '' && value !== '') return of('next-line');
    if (/\s#/.test(rest)) return of('comment', true);
    return rest.includes('$') ? of('variable', true) : undefined;
  }
  const end = rest.indexOf(quote, 1);
  if (end === -1) return of(until === undefined ? 'open-quote' : 'many-lines');
  const [inside, behind] = [rest.slice(1, end), rest.slice(end + 1)];
  if (behind.trim() === ',') return of('comma');
  if (!/^(?:\s+#.*)?$/.test(behind)) return of('behind-quote');
  if (quote !== '"') return undefined;
  if (inside.includes('\\')) return of('backslash', true);
  return inside.includes('$') ? of('variable', true) : undefined;
}
