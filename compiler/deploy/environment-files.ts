/** The files of one environment: `NAME.env`, `NAME.secrets.env` and `NAME.tfvars`. They are read, never written. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Diagnostic } from '../diagnostics/diagnostic.ts';
import { resolveName } from '../settings/names.ts';
import { Secret } from '../settings/secret.ts';
import { isUnreadFile, type RawSettings, type RawValue, readSources } from '../settings/sources.ts';

/** The folder of environments, relative to the current folder. */
export const ENVIRONMENTS_FOLDER = 'environments';

export interface EnvironmentFile {
  /** As the user would write it: relative if the folder was. */
  readonly path: string;
  /** Whether a file, a pipe or a link to one has this name. */
  readonly exists: boolean;
}

export interface EnvironmentFiles {
  readonly name: string;
  readonly folder: string;
  /** `NAME.env`: settings that are not secret. */
  readonly settings: EnvironmentFile;
  /** `NAME.secrets.env`: secret settings. Optional: the secrets may already be in the vault. */
  readonly secrets: EnvironmentFile;
  /** `NAME.tfvars`: variables of Terraform. */
  readonly variables: EnvironmentFile;
}

/**
 * A name of an environment becomes a part of file names, of keys of Terraform's states and of names in Azure. So it is
 * short, in lower case, and has no dot: `prod.secrets` would be the environment of the file `prod.secrets.env`.
 */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/;

/**
 * The paths of an environment's files and which of them exist. Reads no file.
 * @returns the reason, for an error message, if the name cannot be the name of an environment
 */
export function environmentFiles(
  folder: string,
  name: string,
): EnvironmentFiles | { readonly reason: string } {
  if (!NAME.test(name)) {
    return {
      reason:
        'the name of an environment has 1 to 32 lower-case letters, digits and hyphens, and begins and ends with a letter or a digit, such as prod or team-a-dev',
    };
  }
  const file = (suffix: string): EnvironmentFile => {
    const path = join(folder, `${name}${suffix}`);
    return { path, exists: isFile(path) };
  };
  return { name, folder, settings: file('.env'), secrets: file('.secrets.env'), variables: file('.tfvars') };
}

/** A path that cannot be looked at (no permission) counts as existing, so that reading it reports the reason. */
function isFile(path: string): boolean {
  try {
    const stats = statSync(path);
    return stats.isFile() || stats.isFIFO();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

export interface EnvironmentSettings {
  /** All variables of both files, for `compileSettings`. Nothing comes from the environment of the process. */
  readonly raw: RawSettings;
  /** Settings that are not secret and not blank, as written: for Terraform's `app_settings`. */
  readonly settings: ReadonlyMap<string, string>;
  /**
   * Secrets by the name of the setting, without blank ones: all of `NAME.secrets.env`, the secret settings of `NAME.env`, and the contents
   * of the files that `NAME_FILE` variables of secret settings name. For `seedKeyVault`.
   */
  readonly secrets: ReadonlyMap<string, Secret>;
}

/**
 * Reads `NAME.env` and `NAME.secrets.env`, if they exist, with the reader of env files that all commands use.
 * @returns diagnostics if a file cannot be read. Diagnostics of single lines are in `raw.diagnostics`
 */
export function readEnvironment(
  files: EnvironmentFiles,
): EnvironmentSettings | { readonly diagnostics: readonly Diagnostic[] } {
  const paths = [files.settings, files.secrets].flatMap(({ path, exists }) => (exists ? [path] : []));
  const raw = readSources({}, paths);
  if (raw.diagnostics.some(isUnreadFile)) return { diagnostics: raw.diagnostics };
  const settings = new Map<string, string>();
  const secrets = new Map<string, Secret>();
  for (const [name, given] of raw.variables) {
    if (given.value.trim() === '') continue;
    const kind = kindOf(name, given, files.secrets.path);
    if (kind === 'setting') settings.set(name, given.value.trim());
    else if (kind === 'secret') secrets.set(name, new Secret(name, given.value.trim()));
  }
  for (const [name, { value, source }] of raw.secretFiles)
    secrets.set(name, new Secret(name, value, source.kind === 'secret-file' ? source.path : undefined));
  return { raw, settings, secrets };
}

/** A `NAME_FILE` variable is neither: its content is the secret, and its path means nothing in a container. */
function kindOf(name: string, { source }: RawValue, secretsPath: string): 'setting' | 'secret' | 'neither' {
  const verdict = resolveName(name);
  if (verdict.is === 'secret-file') return 'neither';
  if (verdict.is === 'setting' && verdict.known.declaration.sensitive) return 'secret';
  return source.kind === 'file' && source.path === secretsPath ? 'secret' : 'setting';
}
