/** Finds settings that were given but have no effect, by the conditions in their declarations. */
import { conditionsOf, type Declaration } from './declaration.ts';
import { type BackendValues, indexedGroups, plainSettings } from './declarations/index.ts';
import type { Settings } from './parse.ts';

/** The unmet conditions of a setting, in the words of its declaration. */
export function lackingFor(
  declaration: Declaration,
  settings: Settings,
  backend?: BackendValues | undefined,
): string[] {
  return conditionsOf(declaration)
    .filter(
      (each) =>
        !each.when(settings, backend) && !each.switches.some((name) => isUnusable(name, settings, backend)),
    )
    .map(({ words }) => (backend ? words.replace('_N', `_${backend.index}`) : words));
}

/** Whether a setting has an invalid value. For a name that ends in `_N`: of this backend, or else of any. */
function isUnusable(name: string, { unusable }: Settings, backend: BackendValues | undefined): boolean {
  if (!name.endsWith('_N')) return unusable.has(name);
  const stem = name.slice(0, -1);
  if (backend) return unusable.has(`${stem}${backend.index}`);
  return [...unusable].some((each) => each.startsWith(stem) && /^\d+$/.test(each.slice(stem.length)));
}

export interface WithoutEffect {
  readonly name: string;
  readonly lacking: string;
}

export function settingsWithoutEffect(settings: Settings): WithoutEffect[] {
  const found: WithoutEffect[] = [];
  const check = (name: string, declaration: Declaration, backend?: BackendValues) => {
    if (declaration.needs === undefined || !settings.sources.has(name)) return;
    for (const lacking of lackingFor(declaration, settings, backend)) found.push({ name, lacking });
  };
  for (const [name, declaration] of Object.entries<Declaration>(plainSettings)) check(name, declaration);
  const { prefix, fields } = indexedGroups.backends;
  const needy = Object.entries<Declaration>(fields).filter(([, { needs }]) => needs !== undefined);
  for (const backend of settings.backends)
    for (const [field, declaration] of needy)
      check(`${prefix}${field}_${backend.index}`, declaration, backend);
  return found;
}
