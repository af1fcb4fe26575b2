/** Maps files to paths relative to the repository's root, as GitHub and other readers of reports expect. */
import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { type Diagnostic, STANDARD_INPUT } from './diagnostic.ts';
import type { Places } from './places.ts';

/** The files at which a diagnostic is shown if its setting comes from no file, for example because it is missing. */
export interface SettingFiles {
  /** For all settings; later files win. */
  readonly files: readonly string[];
  /** For one diagnostic. */
  of?(each: Diagnostic): string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Variables of GitHub Actions, Azure Pipelines and GitLab that name the folder of the checkout. */
const ROOTS = ['GITHUB_WORKSPACE', 'BUILD_SOURCESDIRECTORY', 'CI_PROJECT_DIR'];

/**
 * The workspace of this run: the folder from the CI system, else the git checkout around the current folder, else the
 * current folder.
 */
export function findWorkspace(environment: Environment, { files, of }: SettingFiles): Places {
  const here = process.cwd();
  const named = ROOTS.map((name) => environment[name]).find((value) => value !== undefined && value !== '');
  const root = real(named === undefined ? (checkout(here) ?? here) : resolve(named));
  const place = (path: string): string | undefined => {
    if (path === STANDARD_INPUT) return undefined;
    const absolute = resolve(path);
    // A link inside the workspace counts as a file of the workspace; the workspace itself may be reached through a
    // link.
    return within(root, absolute) ?? within(root, join(real(dirname(absolute)), basename(absolute)));
  };
  const existing = (path: string) => (existsSync(path) ? (place(path) ?? []) : []);
  const fallback = files.flatMap(existing).at(-1) ?? workflow(environment);
  return {
    place,
    fallback: (each) => [of?.(each) ?? []].flat().flatMap(existing).at(0) ?? fallback,
  };
}

function within(root: string, path: string): string | undefined {
  const inside = relative(root, path);
  if (inside === '' || inside === '..' || inside.startsWith(`..${sep}`) || resolve(inside) === inside)
    return undefined;
  return inside.replaceAll('\\', '/');
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The nearest parent folder with a `.git`, which is a file in worktrees. */
function checkout(folder: string): string | undefined {
  if (existsSync(join(folder, '.git'))) return folder;
  const parent = dirname(folder);
  return parent === folder ? undefined : checkout(parent);
}

/** The workflow file: it sets the variables of the process. */
function workflow({
  GITHUB_WORKFLOW_REF: ref = '',
  GITHUB_REPOSITORY: repository = '',
}: Environment): string | undefined {
  const path = ref.replace(/@.*/, '');
  return repository !== '' && path.startsWith(`${repository}/`)
    ? path.slice(repository.length + 1)
    : undefined;
}
