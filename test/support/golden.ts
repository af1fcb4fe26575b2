import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../golden', import.meta.url));

/** Names of the scenarios in test/golden, sorted. */
export const goldenScenarios = (): string[] =>
  readdirSync(ROOT, { withFileTypes: true })
    .filter((each) => each.isDirectory())
    .map((each) => each.name)
    .sort();

export const goldenFolder = (name: string): string => join(ROOT, name);
