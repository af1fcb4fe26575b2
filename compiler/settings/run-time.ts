import type { Declaration } from './declaration.ts';
import { type PlainName, plainSettings } from './declarations/index.ts';
import { usesIdentity } from './effective.ts';
import type { Settings } from './parse.ts';

/** The given settings that the running gateway reads from its own environment. */
export const runTimeVariables = (settings: Settings): PlainName[] =>
  usesIdentity(settings)
    ? (Object.keys(plainSettings) as PlainName[]).filter((name) => {
        const declaration: Declaration = plainSettings[name];
        return declaration.readAtRunTime && settings.sources.has(name);
      })
    : [];
