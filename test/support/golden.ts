import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../golden', import.meta.url));
/** A folder that git and the linters ignore. */
const COPIES = fileURLToPath(new URL('../../node_modules/.golden', import.meta.url));

/** Names of the scenarios in test/golden, sorted. */
export const goldenScenarios = (): string[] =>
  readdirSync(ROOT, { withFileTypes: true })
    .filter((each) => each.isDirectory())
    .map((each) => each.name)
    .sort();

export const goldenFolder = (name: string): string => join(ROOT, name);

/** A placeholder in scenarios for the absolute path of their folder, for files of secrets. */
const FOLDER = '/scenario/';

/** The env file of a scenario, with the real path of its folder if it has files of secrets. */
export function goldenEnvFile(name: string): string {
  const folder = goldenFolder(name);
  const file = join(folder, 'input.env');
  if (!existsSync(join(folder, 'secrets'))) return file;
  const copies = join(COPIES, name);
  mkdirSync(copies, { recursive: true });
  const copy = join(copies, 'input.env');
  writeFileSync(copy, readFileSync(file, 'utf8').replaceAll(`=${FOLDER}`, `=${folder}/`));
  return copy;
}

/**
 * Replaces the folder's path in a text made from a scenario. A digest over paths differs in each place, so it is replaced
 * as well.
 */
export function withoutPaths(name: string, envFile: string, text: string): string {
  const plain = text.replaceAll(envFile, 'input.env').replaceAll(`${goldenFolder(name)}/`, FOLDER);
  return plain === text ? text : plain.replace(/("digest": ")[0-9a-f]+"/g, '$1(of the paths too)"');
}
