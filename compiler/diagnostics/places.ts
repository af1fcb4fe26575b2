/** The file and line of a diagnostic, and its text, for reports. Pure. */
import { isAboutFile } from './descriptions.ts';
import { type Diagnostic, environmentsText, STANDARD_INPUT } from './diagnostic.ts';
import { nameWithoutKeys } from './keys.ts';
import type { Worded } from './words.ts';

/** The part of a workspace that reports use. */
export interface Places {
  /** The path of a file relative to the workspace's root; undefined for a file outside it. */
  place(path: string): string | undefined;
  /** For a value from no file of the workspace: the file that most likely sets it. */
  fallback?(each: Diagnostic): string | undefined;
}

/** Leaves paths unchanged. */
export const AS_GIVEN: Places = {
  place: (path) => (path === STANDARD_INPUT ? undefined : path.replaceAll('\\', '/')),
};

export interface FilePlace {
  readonly file: string;
  readonly line?: number;
}

/** The file that a diagnostic is about, if it is in the workspace. */
export function placeOf(each: Diagnostic, workspace: Places): FilePlace | undefined {
  const path = pathOf(each);
  const file = path === undefined ? undefined : workspace.place(path);
  return file === undefined ? undefined : { file, ...(each.line === undefined ? {} : { line: each.line }) };
}

/** Diagnostics whose `setting` is the file itself. */
const NAMES_ITS_FILE: ReadonlySet<Diagnostic['code']> = new Set<Diagnostic['code']>([
  'ENV_FILE_UNREADABLE',
  'ENV_FILE_NOT_READ',
  'ENV_FILE_NOT_TEXT',
  'ENV_FILE_FORMAT',
  'POLICY_FILE_UNREADABLE',
  'POLICY_FILE_INVALID',
]);

function pathOf({ code, setting, source }: Diagnostic): string | undefined {
  if (source !== undefined) return source === 'environment' ? undefined : source;
  return NAMES_ITS_FILE.has(code) ? setting : undefined;
}

/** The source of the value as a sentence, for diagnostics without a file in the workspace. */
export function origin({ code, setting, source, line }: Diagnostic): string {
  if (source === undefined || (isAboutFile(code) && source === setting)) return '';
  if (source === 'environment') return ' The value comes from the environment.';
  return ` The value comes from ${nameWithoutKeys(source)}${line === undefined ? '' : `, line ${line}`}.`;
}

/** The whole diagnostic as one paragraph. */
export function sentence(each: Worded): string {
  const environments = environmentsText(each);
  return `${each.setting}: ${statement(each)}${environments === undefined ? '' : ` Environments: ${environments}.`}`;
}

/** The whole diagnostic as one paragraph, without the name of the setting. */
export const statement = (each: Worded): string =>
  `${each.message}. Expected ${each.expected}.${each.received === undefined ? '' : ` Received ${each.received}.`} ${ended(`${each.hint.charAt(0).toUpperCase()}${each.hint.slice(1)}`)}`;

const ended = (text: string) => (/[.?!]$/.test(text) ? text : `${text}.`);
