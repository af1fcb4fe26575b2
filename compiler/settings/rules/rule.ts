import type { CatalogArgs, DiagnosticCode } from '../../diagnostics/catalog.ts';
import type { BackendValues, ClientValues } from '../declarations/index.ts';
import type { Settings } from '../parse.ts';

/** What a rule sees, and where it reports. */
export interface RuleContext extends Settings {
  /** Whether the variable was given at all, usable or not: a rule about absence must not follow one about the value. */
  given(name: string): boolean;
  /** Whether a variable that need not be ours is set. */
  hasVariable(name: string): boolean;
  report<C extends DiagnosticCode>(code: C, setting: string, args: CatalogArgs<C>, received?: string): void;
}

/** One rule over several settings, named after what it wants. */
export type Rule = (context: RuleContext) => void;

export const backendVariable = (field: keyof BackendValues, { index }: BackendValues) =>
  `AZURE_OPENAI_${field.toUpperCase()}_${index}`;

export const clientVariable = (field: keyof ClientValues, { index }: ClientValues) =>
  `GATEWAY_CLIENT_${field.toUpperCase()}_${index}`;
