import type { CatalogArgs, DiagnosticCode } from '../../diagnostics/catalog.ts';
import {
  type BackendValues,
  type backendFields,
  type ClientValues,
  type clientFields,
  indexedGroups,
} from '../declarations/index.ts';
import type { Settings } from '../parse.ts';

/** What a rule sees, and where it reports. */
export interface RuleContext extends Settings {
  /** Whether the variable was given at all, usable or not: a rule about absence must not follow one about the value. */
  given(name: string): boolean;
  /** Whether what was given can be used; false also where nothing was. */
  usable(name: string): boolean;
  /** Whether a variable that need not be ours is set. */
  hasVariable(name: string): boolean;
  report<C extends DiagnosticCode>(code: C, setting: string, args: CatalogArgs<C>, received?: string): void;
}

/** One rule over several settings, named after what it wants. */
export type Rule = (context: RuleContext) => void;

/** The variable of a backend's field. */
export const backendVariable = (field: keyof typeof backendFields, { index }: BackendValues): string =>
  `${indexedGroups.backends.prefix}${field}_${index}`;

/** The variable of a client's field. */
export const clientVariable = (field: keyof typeof clientFields, { index }: ClientValues): string =>
  `${indexedGroups.clients.prefix}${field}_${index}`;

/** The variable that was first with a key, or undefined, and this one is first from now on. */
export function firstWith(seen: Map<string, string>, key: string, variable: string): string | undefined {
  const first = seen.get(key);
  if (first === undefined) seen.set(key, variable);
  return first;
}
