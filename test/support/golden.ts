import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../golden', import.meta.url));
/** Where git and the linters do not look. */
const COPIES = fileURLToPath(new URL('../../node_modules/.golden', import.meta.url));

/** Names of the scenarios in test/golden, sorted. */
export const goldenScenarios = (): string[] =>
  readdirSync(ROOT, { withFileTypes: true })
    .filter((each) => each.isDirectory())
    .map((each) => each.name)
    .sort();

export const goldenFolder = (name: string): string => join(ROOT, name);

/** Stands in a scenario for the path of its folder, where that must be absolute: of files of secrets. */
const FOLDER = '/scenario/';

/** The env file of a scenario, with the real path of its folder where it has secrets in files. */
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

/** A text that was made of a scenario, as it is wherever the scenario is; a digest over paths is another one in each place. */
export function withoutPaths(name: string, envFile: string, text: string): string {
  const plain = text.replaceAll(envFile, 'input.env').replaceAll(`${goldenFolder(name)}/`, FOLDER);
  return plain === text ? text : plain.replace(/("digest": ")[0-9a-f]+"/, '$1(of the paths too)"');
}
