/** The environments in a folder: env files over a shared base. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoText } from '../errno.ts';
import { environmentOf } from '../policy/evaluate.ts';

export interface EnvironmentFiles {
  readonly name: string;
  /** Later files win. The shared base files are not included. */
  readonly files: readonly string[];
}

/** Example files to copy, and backup files of editors. */
const NOT_MEANT = /\.(?:example|sample|template|dist|bak|swp|orig)(?:\.env)?$|~$/;

/**
 * Each `NAME.env` and `.env.NAME` is one environment. A folder with such files or a `.env` is one environment too; its
 * files apply in the order of their names. Base files are not environments.
 */
export function environmentsIn(
  folder: string,
  base: readonly string[],
): readonly EnvironmentFiles[] | { readonly reason: string } {
  try {
    const excepted = new Set(base.flatMap((path) => resolved(path) ?? []));
    const isMeant = (path: string) => {
      const real = resolved(path);
      return real !== undefined && !excepted.has(real);
    };
    const found = new Map<string, string[]>();
    for (const name of readdirSync(folder).sort()) {
      const path = join(folder, name);
      const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
      const environment = isFolder ? name : environmentName(name);
      const files = isFolder ? envFilesIn(path) : [path];
      if (environment === undefined || (isFolder && name.startsWith('.'))) continue;
      const meant = files.filter(isMeant);
      if (meant.length > 0) found.set(environment, [...(found.get(environment) ?? []), ...meant]);
    }
    const environments = [...found].map(([name, files]) => ({ name, files }));
    return environments.length > 0
      ? environments
      : { reason: 'it contains no environment (NAME.env, .env.NAME, or a folder with env files)' };
  } catch (error) {
    return { reason: errnoText(error) };
  }
}

const environmentName = (file: string): string | undefined =>
  NOT_MEANT.test(file) ? undefined : environmentOf(file);

const envFilesIn = (folder: string): string[] =>
  readdirSync(folder)
    .sort()
    .filter((name) => name === '.env' || environmentName(name) !== undefined)
    .map((name) => join(folder, name));

/** The real path of a file; undefined for a folder or a missing file. */
function resolved(path: string): string | undefined {
  try {
    return statSync(path).isDirectory() ? undefined : realpathSync(path);
  } catch {
    return undefined;
  }
}
