/** Microsoft's SARIF validator, from the npm package that contains its program. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const fromHere = createRequire(import.meta.url);

/** The folder of the package for this platform, or undefined when npm installed none. */
function folder(): string | undefined {
  try {
    return dirname(fromHere.resolve(`@microsoft/sarif-multitool-${process.platform}/package.json`));
  } catch {
    return undefined;
  }
}

/** ICU is not needed, because nothing here depends on a language. */
const ENVIRONMENT = { ...process.env, DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: '1' };

function program(): string {
  const path = join(folder() ?? '', 'Sarif.Multitool');
  // The package's install script does this, but npm may not have run it.
  if (process.platform !== 'win32' && existsSync(path)) chmodSync(path, 0o755);
  return path;
}

/** Why the validator does not run here, or undefined when it does. */
export function multitoolProblem(): string | undefined {
  if (folder() === undefined)
    return `@microsoft/sarif-multitool has no program for ${process.platform}: npm ci`;
  const { status, error } = spawnSync(program(), ['--version'], { env: ENVIRONMENT, encoding: 'utf8' });
  return error === undefined && status !== null
    ? undefined
    : `the program of @microsoft/sarif-multitool does not start: ${error?.message}`;
}

/** The schema of SARIF 2.1.0 that comes with the validator. */
export const sarifSchema = (): object =>
  JSON.parse(readFileSync(join(folder() ?? '', 'sarif-2.1.0.json'), 'utf8').replace(/^\uFEFF/, ''));

/** What the validator finds in files, by the rules of SARIF and of GitHub code scanning. */
export function validate(files: readonly string[]): {
  readonly findings: readonly string[];
  readonly scanned: number;
} {
  const args = ['validate', ...files, '--rule-kind', 'Sarif;Ghas'];
  const { stdout } = spawnSync(program(), args, { env: ENVIRONMENT, encoding: 'utf8' });
  return {
    findings: stdout.split('\n').filter((line) => /: (?:error|warning) [A-Z]+\d+:/.test(line)),
    scanned: Number(/^Done\. (\d+) files scanned/m.exec(stdout)?.[1] ?? 0),
  };
}
