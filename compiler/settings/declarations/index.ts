import type { Declaration, SettingValues } from '../declaration.ts';
import { backendDefaults, backendFields } from './backends.ts';
import { balancingSettings } from './balancing.ts';
import { cacheSettings } from './cache.ts';
import { clientFields } from './clients.ts';
import { gatewaySettings } from './gateway.ts';
import { guardrailSettings } from './guardrails.ts';
import { compatibilitySettings, identitySettings } from './platform.ts';
import { poolFields, preferredSettings } from './pools.ts';
import { telemetrySettings } from './telemetry.ts';

export { backendFields, clientFields, poolFields };

/** Every setting without an index, by name. */
export const plainSettings = {
  ...backendDefaults,
  ...gatewaySettings,
  ...balancingSettings,
  ...preferredSettings,
  ...guardrailSettings,
  ...cacheSettings,
  ...telemetrySettings,
  ...identitySettings,
  ...compatibilitySettings,
} as const;

/** The groups of settings with an index: `PREFIX` + field + `_` + index. */
export const indexedGroups = {
  backends: { prefix: 'AZURE_OPENAI_', fields: backendFields },
  clients: { prefix: 'GATEWAY_CLIENT_', fields: clientFields },
  pools: { prefix: 'GATEWAY_POOL_', fields: poolFields },
} as const;
export type GroupName = keyof typeof indexedGroups;

export type PlainName = keyof typeof plainSettings;
// These types are interfaces because of a cycle: functions in a declaration take them as parameters, and they derive
// from the type of the declarations. TypeScript resolves a type alias at once, before that type is known; it resolves an
// interface only when it needs a member.
export interface PlainValues extends SettingValues<typeof plainSettings> {}
export interface BackendValues extends SettingValues<typeof backendFields> {
  readonly index: number;
}
export interface ClientValues extends SettingValues<typeof clientFields> {
  readonly index: number;
}
export interface PoolValues extends SettingValues<typeof poolFields> {
  readonly index: number;
}

export interface ListedSetting {
  /** As in the reference: `LB_ALG`, `AZURE_OPENAI_WEIGHT_N`. */
  readonly name: string;
  readonly declaration: Declaration;
}

/** All settings in the order of the reference. */
export function listSettings(): ListedSetting[] {
  const listed: ListedSetting[] = [];
  for (const { prefix, fields } of Object.values(indexedGroups)) {
    for (const [field, declaration] of Object.entries(fields)) {
      listed.push({ name: `${prefix}${field}_N`, declaration: declaration as Declaration });
    }
  }
  for (const [name, declaration] of Object.entries(plainSettings)) {
    listed.push({ name, declaration: declaration as Declaration });
  }
  return listed;
}
