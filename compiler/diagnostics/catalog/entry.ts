/** The type of an entry of the catalogue: the severity of a diagnostic, and its wording. */

export type Severity = 'error' | 'warning' | 'info';

/** Arguments for the wording. A `Secret` is not assignable, so no diagnostic can contain one. */
export type Arg = string | number | boolean | undefined | readonly string[] | readonly number[];
export type Args = Readonly<Record<string, Arg>>;

export interface Wording {
  /** What is wrong, as a sentence without a full stop. */
  readonly message: string;
  readonly expected: string;
  /** What to write instead. */
  readonly hint: string;
}

export interface Entry<A extends Args> {
  readonly severity: Severity;
  /** `setting` is the name of the variable, file or template. */
  readonly words: (args: A, setting: string) => Wording;
}

/** For diagnostics without arguments. */
type NoArgs = Readonly<Record<string, never>>;

const entry =
  (severity: Severity) =>
  <A extends Args = NoArgs>(words: Entry<A>['words']): Entry<A> => ({ severity, words });

export const error = entry('error');
export const warning = entry('warning');
export const info = entry('info');

/** Several names as one text. */
export const list = (names: readonly string[]) => names.join(', ');
