/** Finds settings that were given but have no effect, by the conditions in their declarations. */
import { conditionsOf, type Declaration } from './declaration.ts';
import { type BackendValues, indexedGroups, type PoolValues, plainSettings } from './declarations/index.ts';
import type { Settings } from './parse.ts';

/** The unmet conditions of a setting, in the words of its declaration. */
export function lackingFor(
  declaration: Declaration,
  settings: Settings,
  backend?: BackendValues | undefined,
  pool?: PoolValues | undefined,
): string[] {
  const index = (backend ?? pool)?.index;
  return conditionsOf(declaration)
    .filter(
      (each) =>
        !each.when(settings, backend, pool) &&
        !each.switches.some((name) => isUnusable(name, settings, index)),
    )
    .map(({ words }) => (index === undefined ? words : words.replace(/_N\b/g, `_${index}`)));
}

/** Whether a setting has an invalid value. For a name that ends in `_N`: with this index, or else with any. */
function isUnusable(name: string, { unusable }: Settings, index: number | undefined): boolean {
  if (!name.endsWith('_N')) return unusable.has(name);
  const stem = name.slice(0, -1);
  if (index !== undefined) return unusable.has(`${stem}${index}`);
  return [...unusable].some((each) => each.startsWith(stem) && /^\d+$/.test(each.slice(stem.length)));
}

export interface WithoutEffect {
  readonly name: string;
  readonly lacking: string;
}

export function settingsWithoutEffect(settings: Settings): WithoutEffect[] {
  const found: WithoutEffect[] = [];
  const check = (name: string, declaration: Declaration, backend?: BackendValues, pool?: PoolValues) => {
    if (declaration.needs === undefined || !settings.sources.has(name)) return;
    for (const lacking of lackingFor(declaration, settings, backend, pool)) found.push({ name, lacking });
  };
  for (const [name, declaration] of Object.entries<Declaration>(plainSettings)) check(name, declaration);
  const needy = (fields: Readonly<Record<string, Declaration>>) =>
    Object.entries(fields).filter(([, { needs }]) => needs !== undefined);
  const { backends, pools } = indexedGroups;
  const ofBackends = needy(backends.fields);
  for (const backend of settings.backends)
    for (const [field, declaration] of ofBackends)
      check(`${backends.prefix}${field}_${backend.index}`, declaration, backend);
  const ofPools = needy(pools.fields);
  for (const pool of settings.pools)
    for (const [field, declaration] of ofPools)
      check(`${pools.prefix}${field}_${pool.index}`, declaration, undefined, pool);
  return found;
}
