import type { Severity } from './catalog/entry.ts';
import { type CatalogArgs, catalog, type DiagnosticCode } from './catalog.ts';

/** The source of a value. */
export type Source =
  | { readonly kind: 'environment' }
  | { readonly kind: 'file'; readonly path: string; readonly line?: number }
  | { readonly kind: 'secret-file'; readonly path: string };

/** The name of standard input in diagnostics. */
export const STANDARD_INPUT = '<stdin>';

/** A diagnostic as data. Print it only through `worded`, which adds the wording and hides possible keys. */
export interface Diagnostic<C extends DiagnosticCode = DiagnosticCode> {
  readonly code: C;
  readonly severity: Severity;
  /** The variable, file or template that the diagnostic is about. */
  readonly setting: string;
  /** `environment`, or the path of the file; absent without a value. */
  readonly source?: string;
  readonly line?: number;
  /** Arguments for the wording. */
  readonly args: CatalogArgs<C>;
  /** The value as given; absent for a sensitive setting or an unknown name. */
  readonly received?: string;
  /** The environments that have this diagnostic: names, or `all 3`. Absent: there is only one environment. */
  readonly environments?: readonly string[] | string;
}

/** `prod, test`. */
export function environmentsText({ environments }: Pick<Diagnostic, 'environments'>): string | undefined {
  if (environments === undefined || typeof environments === 'string') return environments;
  const [more, shown] = [environments.length - 10, environments.slice(0, 10).join(', ')];
  return more > 0 ? `${shown} and ${more} more` : shown;
}

export interface Place {
  readonly setting: string;
  readonly source?: Source | undefined;
  /** The value to show. Only for settings that are not sensitive. */
  readonly received?: string | undefined;
}

/** Creates a diagnostic. */
export function diagnostic<C extends DiagnosticCode>(
  code: C,
  { setting, source, received }: Place,
  args: CatalogArgs<C>,
): Diagnostic<C> {
  const line = source?.kind === 'file' ? source.line : undefined;
  return {
    code,
    severity: catalog[code].severity,
    setting,
    ...(source ? { source: source.kind === 'environment' ? 'environment' : source.path } : {}),
    ...(line === undefined ? {} : { line }),
    args,
    ...(received === undefined ? {} : { received }),
  };
}

const RANK: Record<Severity, number> = { error: 0, warning: 1, info: 2 };

/** Compares texts with numbers in natural order. Intl.Collator would take longer than the rest of a start. */
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

/** Sorts errors first, then by variable in natural order. The result does not depend on the order of the input. */
export function sortDiagnostics(list: readonly Diagnostic[]): Diagnostic[] {
  return [...list].sort(
    (a, b) =>
      RANK[a.severity] - RANK[b.severity] ||
      natural(a.setting, b.setting) ||
      plain(a.code, b.code) ||
      (a.line ?? 0) - (b.line ?? 0) ||
      natural(JSON.stringify(a.args), JSON.stringify(b.args)),
  );
}

export const hasErrors = (list: readonly Diagnostic[]): boolean =>
  list.some((each) => each.severity === 'error');

/** Turns warnings into errors, except for allowed codes. */
export function strict(list: readonly Diagnostic[], allowed: readonly DiagnosticCode[] = []): Diagnostic[] {
  return list.map((each) =>
    each.severity === 'warning' && !allowed.includes(each.code) ? { ...each, severity: 'error' } : each,
  );
}
