import type { Secret } from './secret.ts';
import type { ValueType } from './types.ts';

/** The headings of the settings reference, in its order. */
export const SECTIONS = [
  'Backends',
  'Clients',
  'Gateway',
  'Balancing and failover',
  'Guardrails',
  'Telemetry',
  'Managed identity',
  'Accepted for compatibility',
] as const;
export type Section = (typeof SECTIONS)[number];

/** Everything there is to say about one setting. Parsing, help, schema, reference and did-you-mean derive from it. */
export interface Declaration<T = unknown> {
  readonly section: Section;
  readonly type: ValueType<T>;
  /** One line for the reference: what the setting does. */
  readonly description: string;
  /** A value that a user could write, as text. */
  readonly example: string;
  /** Where it lands, as `file: path`; several are separated by `; `. */
  readonly output: string;
  /** The value when the variable is unset. */
  readonly default?: T;
  /** The default in words, where it depends on other settings or there is none. */
  readonly defaultText?: string;
  /** Never printed; written as a reference unless GATEWAY_SECRETS=inline. */
  readonly sensitive?: true;
  /** Read by the gateway when it runs, from its own process's variable; never written into a file. */
  readonly readAtRunTime?: true;
  /** Not known to the accelerator. */
  readonly isNew?: true;
  /** How it acts otherwise than in the accelerator; said once per render when the variable is set. */
  readonly changed?: string;
  /** The variable is accepted but something else should be written: what. */
  readonly replacedBy?: string;
  /** Values that are accepted for compatibility, and what replaces each. */
  readonly replacedValues?: Readonly<Record<string, string>>;
}

/** Keeps the literal type of a declaration, so that `default` and `sensitive` reach the type of the parsed value. */
export function setting<T, const D extends Omit<Declaration<T>, 'type'>>(
  type: ValueType<T>,
  declaration: D & (D extends { default: unknown } ? { default: T } : unknown),
): D & { type: ValueType<T> } {
  return { type, ...declaration };
}

/** The type of a setting's parsed value: a Secret, the type's value, or that or undefined without a default. */
export type SettingValue<D> = D extends { type: ValueType<infer T> }
  ? D extends { sensitive: true }
    ? Secret | undefined
    : D extends { default: unknown }
      ? T
      : T | undefined
  : never;

export type SettingValues<Group> = { readonly [Name in keyof Group]: SettingValue<Group[Name]> };
