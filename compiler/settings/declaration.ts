import type { BackendValues, PlainName, PoolValues } from './declarations/index.ts';
import type { Effective } from './effective.ts';
import type { Settings } from './parse.ts';
import type { Secret } from './secret.ts';
import type { ValueType } from './types.ts';

/** The sections of the settings reference, in order. */
export const SECTIONS = [
  'Backends',
  'Clients',
  'Gateway',
  'Balancing and failover',
  'Pools',
  'Guardrails',
  'Answer cache',
  'Telemetry',
  'Managed identity',
  'Accepted for compatibility',
] as const;
export type Section = (typeof SECTIONS)[number];

export type DocumentName = 'apisix.yaml' | 'config.yaml' | 'otel-collector.yaml';

/** A place in a document: names separated by dots; `[]` after the name of a list stands for each item. */
export type OutputPath = `${DocumentName}: ${string}`;

/**
 * The condition under which a setting has an effect. Constants need this type annotation, because a condition reads the
 * settings, whose type derives from the declarations.
 */
export interface Condition {
  /**
   * @param backend present for a field of a backend
   * @param pool present for a field of a pool
   */
  when(settings: Settings, backend?: BackendValues, pool?: PoolValues): boolean;
  /** The text after "has no effect without". `N` stands for the index of the backend or pool. */
  readonly words: string;
  /** If one of these settings has an invalid value, it is unknown whether the condition holds. */
  readonly switches: readonly (
    | PlainName
    | 'AZURE_OPENAI_AUTH_MODE_N'
    | 'GATEWAY_POOL_LB_ALG_N'
    | 'GATEWAY_POOL_TOKENS_PER_MINUTE_N'
    | 'GATEWAY_POOL_BUDGET_SOURCE_N'
  )[];
}

/** Everything about one setting. Parsing, help, schema, reference and suggestions derive from it. */
export interface Declaration<T = unknown> {
  readonly section: Section;
  readonly type: ValueType<T>;
  /** What the setting does, for the reference. */
  readonly description: string;
  /** A value that a user could write, as text. */
  readonly example: string;
  /** Where the rendered documents contain the value. */
  readonly output: readonly OutputPath[];
  /** Where the value has its effect, in words, for a setting that no document contains. */
  readonly outputText?: string;
  /** The value when the variable is unset. */
  readonly default?: T;
  /** The default in words, if it depends on other settings or if there is none. */
  readonly defaultText?: string;
  /** The effective value, if other settings influence it. Only fields of a backend use `backend`. */
  effective?(settings: Settings, backend: BackendValues): Effective<T | Secret | undefined>;
  /** The same for a field of a pool. */
  effectiveOfPool?(settings: Settings, pool: PoolValues): Effective<T | undefined>;
  /** The conditions under which the setting has an effect; all of them must hold. */
  readonly needs?: Condition | readonly Condition[];
  /** The value is never printed, and is written as a reference unless GATEWAY_SECRETS=inline. */
  readonly sensitive?: true;
  /** Values that look like keys but may be something else, such as ids of other systems or hashes. */
  readonly mayLookLikeKey?: RegExp;
  /** The gateway reads it at run time from its own environment; it is never written to a file. */
  readonly readAtRunTime?: true;
  /** The accelerator does not have this setting. */
  readonly isNew?: true;
  /** How it differs from the accelerator; reported once per render if the variable is set. */
  readonly changed?: string;
  /** The setting is accepted only for compatibility; this one replaces it. */
  readonly replacedBy?: string;
  /** Values that are accepted only for compatibility, with their replacements. */
  readonly replacedValues?: Readonly<Record<string, string>>;
}

/** All conditions without which a setting has no effect. */
export const conditionsOf = ({ needs }: Declaration): readonly Condition[] =>
  needs === undefined ? [] : [needs].flat();

/** Keeps the literal types of `default` and `sensitive`, from which the type of the parsed value derives. */
export function setting<T, const D extends Omit<Declaration<T>, 'type'>>(
  type: ValueType<T>,
  declaration: D & (D extends { default: unknown } ? { default: T } : unknown),
): D & { type: ValueType<T> } {
  return { type, ...declaration };
}

/** The type of a parsed value: Secret if sensitive, else T; with undefined if there is no default. */
export type SettingValue<D> = D extends { type: ValueType<infer T> }
  ? D extends { sensitive: true }
    ? Secret | undefined
    : D extends { default: unknown }
      ? T
      : T | undefined
  : never;

export type SettingValues<Group> = { readonly [Name in keyof Group]: SettingValue<Group[Name]> };
