import type { CatalogArgs, DiagnosticCode } from '../../diagnostics/catalog.ts';
import {
  type BackendValues,
  type backendFields,
  type ClientValues,
  type clientFields,
  indexedGroups,
  type PoolValues,
  type poolFields,
} from '../declarations/index.ts';
import type { Settings } from '../parse.ts';

/** The input of a rule, and its function to report. */
export interface RuleContext extends Settings {
  /** Whether the variable was given, valid or not. A rule about a missing setting must not fire for an invalid one. */
  given(name: string): boolean;
  /** Whether the variable was given and is valid. */
  usable(name: string): boolean;
  /** Whether a variable is set, also one that is not a setting. */
  hasVariable(name: string): boolean;
  report<C extends DiagnosticCode>(code: C, setting: string, args: CatalogArgs<C>, received?: string): void;
}

/** A rule over several settings, named after its requirement. */
export type Rule = (context: RuleContext) => void;

/** The variable of a backend's field. */
export const backendVariable = (field: keyof typeof backendFields, { index }: BackendValues): string =>
  `${indexedGroups.backends.prefix}${field}_${index}`;

/** The variable of a client's field. */
export const clientVariable = (field: keyof typeof clientFields, { index }: ClientValues): string =>
  `${indexedGroups.clients.prefix}${field}_${index}`;

/** The variable of a pool's field. */
export const poolVariable = (field: keyof typeof poolFields, { index }: PoolValues): string =>
  `${indexedGroups.pools.prefix}${field}_${index}`;

/**
 * Records the first variable with a key.
 * @returns the earlier variable with this key; undefined if this is the first
 */
export function firstWith(seen: Map<string, string>, key: string, variable: string): string | undefined {
  const first = seen.get(key);
  if (first === undefined) seen.set(key, variable);
  return first;
}
