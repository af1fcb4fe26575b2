import { type CatalogArgs, catalog, type DiagnosticCode, type Wording } from './catalog.ts';

export type Severity = 'error' | 'warning' | 'info';

/** Where a value came from. */
export type Source =
  | { readonly kind: 'environment' }
  | { readonly kind: 'file'; readonly path: string; readonly line?: number }
  | { readonly kind: 'secret-file'; readonly path: string };

/** One finding, as data; reporters are functions of a list of these. */
export interface Diagnostic {
  readonly code: DiagnosticCode;
  readonly severity: Severity;
  /** The exact variable, or the file or template that the finding is about. */
  readonly setting: string;
  /** `environment`, or the path of the file the value came from; absent where there is no value. */
  readonly source?: string;
  readonly line?: number;
  /** What is wrong, as a sentence without a full stop. */
  readonly message: string;
  readonly expected: string;
  /** The value as given; absent for a sensitive setting or an unknown name. */
  readonly received?: string;
  /** What to write instead. */
  readonly hint: string;
}

export interface Place {
  readonly setting: string;
  readonly source?: Source | undefined;
  /** Shown to the user: only for a value that is declared not to be sensitive. */
  readonly received?: string | undefined;
}

/** Makes a finding out of a code, its place and the arguments that its wording in the catalogue needs. */
export function diagnostic<C extends DiagnosticCode>(
  code: C,
  place: Place,
  args: CatalogArgs<C>,
): Diagnostic {
  // A variable's name may hold anything but = and NUL, terminal escapes included.
  const setting = /^[\x20-\x7e]+$/.test(place.setting) ? place.setting : printable(place.setting);
  const wording = (catalog[code] as (args: CatalogArgs<C>, setting: string) => Wording)(args, setting);
  const { source } = place;
  const line = source?.kind === 'file' ? source.line : undefined;
  return {
    code,
    severity: wording.severity,
    setting,
    ...(source ? { source: source.kind === 'environment' ? 'environment' : source.path } : {}),
    ...(line === undefined ? {} : { line }),
    message: wording.message,
    expected: wording.expected,
    ...(place.received === undefined ? {} : { received: printable(place.received) }),
    hint: wording.hint,
  };
}

const RECEIVED_MAX = 120;

/** A text without what may be a credential in it: URLs and connection strings hold some. */
export const withoutCredentials = (text: string): string =>
  text
    .replace(/:\/\/\S*@/g, '://…@')
    .replace(/(:\/\/[^#]*)#.*/g, '$1#…')
    .replace(/([?&][^=&#\s]*=)[^&#\s]*/g, '$1…')
    .replace(/(Key|Secret|Password|Token)=[^;\s]+/gi, '$1=…');

/** A text without credentials; control characters and length are tamed. */
function printable(value: string): string {
  const masked = withoutCredentials(value.slice(0, 4 * RECEIVED_MAX));
  const escaped = JSON.stringify(masked).slice(1, -1).replace(/\\"/g, '"').replace(/\\\\/g, '\\');
  return escaped.length > RECEIVED_MAX ? `${escaped.slice(0, RECEIVED_MAX)}…` : escaped;
}

const RANK: Record<Severity, number> = { error: 0, warning: 1, info: 2 };

/** Compares with numbers as numbers; a collator of Intl would cost more than the rest of a start. */
function natural(a: string, b: string): number {
  const split = (text: string) => text.split(/(\d+)/);
  const [left, right] = [split(a), split(b)];
  for (let index = 0; index < Math.min(left.length, right.length); index++) {
    const [x = '', y = ''] = [left[index], right[index]];
    if (x !== y) return (index % 2 === 1 && Number(x) - Number(y)) || (x < y ? -1 : 1);
  }
  return left.length - right.length;
}
const plain = (a: string, b: string) => (a === b ? 0 : a < b ? -1 : 1);

/** Errors first, then by variable in natural order: the same list whatever order the findings were made in. */
export function sortDiagnostics(list: readonly Diagnostic[]): Diagnostic[] {
  return [...list].sort(
    (a, b) =>
      RANK[a.severity] - RANK[b.severity] ||
      natural(a.setting, b.setting) ||
      plain(a.code, b.code) ||
      plain(a.message, b.message),
  );
}

export const hasErrors = (list: readonly Diagnostic[]): boolean =>
  list.some((each) => each.severity === 'error');

/** Under --strict every warning is an error. */
export function strict(list: readonly Diagnostic[]): Diagnostic[] {
  return list.map((each) => (each.severity === 'warning' ? { ...each, severity: 'error' } : each));
}
