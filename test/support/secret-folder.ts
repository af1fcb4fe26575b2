/**
 * A folder of secrets, one in each file, as platforms mount them. Its path is the same on this host, where settings are
 * checked, and in the gateway's container, where the files are read.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Gateway } from './gateway.ts';

export interface SecretFolder {
  readonly path: string;
  /** `SETTING_FILE` for each file, without `SETTING`. Files are named after settings. */
  readonly settings: Readonly<Record<string, string>>;
  /** Removes the folder from this host. */
  remove(): void;
}

/** Contents by names of settings. */
export function secretFolder(contents: Readonly<Record<string, string>>): SecretFolder {
  const path = mkdtempSync(join(tmpdir(), 'genai-gateway-secrets-'));
  for (const [name, content] of Object.entries(contents)) writeFileSync(join(path, name), content);
  const names = Object.keys(contents);
  return {
    path,
    settings: Object.fromEntries(
      names.flatMap((name) => [
        [name, ''],
        [`${name}_FILE`, join(path, name)],
      ]),
    ),
    remove: () => rmSync(path, { recursive: true }),
  };
}

/**
 * Changes files as Kubernetes and the Key Vault driver do: a new folder with all files, and the link `..data`, through
 * which each file is found, switched to it in one step.
 */
export async function publish(
  { apisix }: Gateway,
  { path }: SecretFolder,
  contents: Readonly<Record<string, string>>,
): Promise<void> {
  const script = [
    'set -e; cd "$1"; shift',
    'old=$(readlink ..data || true); next=..$(date +%s%N); mkdir "$next"',
    'for file in *; do cp --dereference "$file" "$next/$file"; done',
    'while [ $# -gt 0 ]; do printf %s "$2" > "$next/$1"; shift 2; done',
    'chmod 644 "$next"/*; ln -s "$next" ..data_tmp; mv -T ..data_tmp ..data',
    'for file in *; do [ -L "$file" ] || { ln -s "..data/$file" ".$file" && mv -T ".$file" "$file"; }; done',
    '[ -z "$old" ] || rm -r "$old"',
  ].join('\n');
  await apisix.asRoot(script, path, ...Object.entries(contents).flat());
}

/** Changes a file as editors do: truncated, then written. */
export async function overwrite(
  { apisix }: Gateway,
  { path }: SecretFolder,
  name: string,
  content: string,
): Promise<void> {
  await apisix.asRoot('printf %s "$2" > "$1"', join(path, name), content);
}
