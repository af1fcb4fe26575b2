/**
 * The folder in which Terraform runs, `environments/.deploy/NAME`: a copy of the stacks, with the values of one environment,
 * Terraform's own files, and the state of 00-bootstrap. Environments have nothing in common there.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { errnoText } from '../errno.ts';
import { DeployFailure } from './failure.ts';
import { STACK_FOLDERS, type StackName } from './steps.ts';

/** What the stacks consist of, and what they read: which settings are secret, alert rules, the dashboard. */
const SOURCES = ['deploy/azure/modules', 'deploy/azure/stacks', 'schemas', 'examples/observability'] as const;

/** Files that a copy must not replace or remove: those of Terraform and of the environment. */
const OWN = /(?:^|[\\/])(?:\.terraform|\.terraform\.lock\.hcl|terraform\.tfstate[^\\/]*|deploy\.[^\\/]+)$/;
/** Files of the sources that a deployment does not need, and values that a checkout has for the commands by hand. */
const NOT_COPIED =
  /(?:^|[\\/])(?:tests|\.terraform|\.terraform\.tfstate\.lock\.info|terraform\.tfstate[^\\/]*|backend\.hcl|[^\\/]+\.tfvars|[^\\/]+\.auto\.tfvars\.json|[^\\/]+\.tfplan)$/;

export const VALUES_FILE = 'deploy.auto.tfvars.json';
export const BACKEND_FILE = 'deploy.backend.hcl';
export const PLAN_FILE = 'deploy.tfplan';
export const INIT_STAMP = 'deploy.init.json';
export const STATE_FILE = 'terraform.tfstate';

export class Workspace {
  /** Absolute. */
  readonly folder: string;
  /** The package or checkout that this program is part of. */
  readonly source: string;

  private constructor(folder: string, source: string) {
    this.folder = folder;
    this.source = source;
  }

  /**
   * Makes the folder, or brings its copy of the stacks up to date.
   * @param source the folder with deploy/azure: the package, or a checkout
   */
  static open(environmentsFolder: string, name: string, source: string): Workspace {
    const missing = SOURCES.find((path) => !existsSync(join(source, path)));
    if (missing !== undefined)
      throw new DeployFailure('not-begun', `${missing} is missing from ${source}: reinstall the package.`);
    const parent = join(environmentsFolder, '.deploy');
    const workspace = new Workspace(resolve(parent, name), source);
    try {
      // It has values of the environment and the state of 00-bootstrap.
      mkdirSync(workspace.folder, { recursive: true, mode: 0o700 });
      chmodSync(workspace.folder, 0o700);
      if (!existsSync(join(parent, '.gitignore'))) writeFileSync(join(parent, '.gitignore'), '*\n');
    } catch (error) {
      throw new DeployFailure('not-begun', `${workspace.folder} cannot be written: ${errnoText(error)}.`);
    }
    return workspace;
  }

  /** Copies the stacks. A file that the sources no longer have is removed. */
  refresh(): void {
    for (const path of SOURCES) {
      const [from, to] = [join(this.source, path), join(this.folder, path)];
      removeForeign(to, from);
      cpSync(from, to, {
        recursive: true,
        filter: (file) => {
          const inSource = relative(from, file);
          if (NOT_COPIED.test(inSource)) return false;
          // Terraform adds checksums of this platform to the lock file of the copy.
          return !(OWN.test(inSource) && existsSync(join(to, inSource)));
        },
      });
    }
    // Modules take the versions of the stack that calls them.
    for (const stack of Object.keys(STACK_FOLDERS) as StackName[]) this.#followLockFile(stack);
  }

  /** A newer package may have other versions of providers: its lock file then replaces that of the copy. */
  #followLockFile(stack: StackName): void {
    const name = '.terraform.lock.hcl';
    const [source, copy, stamp] = [
      join(this.source, 'deploy/azure/stacks', STACK_FOLDERS[stack], name),
      this.path(stack, name),
      this.path(stack, 'deploy.lock.hcl'),
    ];
    if (!existsSync(source)) return;
    const text = readFileSync(source, 'utf8');
    if (existsSync(copy) && existsSync(stamp) && readFileSync(stamp, 'utf8') === text) return;
    writeFileSync(copy, text);
    writeFileSync(stamp, text);
  }

  stack(name: StackName): string {
    return join(this.folder, 'deploy/azure/stacks', STACK_FOLDERS[name]);
  }

  path(stack: StackName, file: string): string {
    return join(this.stack(stack), file);
  }

  /** Plugins of the providers, once for all stacks. Terraform's cache takes one process, so environments share none. */
  get plugins(): string {
    const folder = join(this.folder, '.plugins');
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  get lockFile(): string {
    return join(this.folder, 'run.lock');
  }

  /** The variables that a stack declares. */
  declared(stack: StackName): readonly string[] {
    const text = readFileSync(this.path(stack, 'variables.tf'), 'utf8');
    return [...text.matchAll(/^variable "(\w+)"/gm)].map(([, name = '']) => name);
  }

  /** Writes a file that only this user can read. */
  write(stack: StackName, file: string, content: string): void {
    const path = this.path(stack, file);
    writeFileSync(path, content, { mode: 0o600 });
    chmodSync(path, 0o600);
  }

  has(stack: StackName, file: string): boolean {
    return existsSync(this.path(stack, file));
  }

  remove(stack: StackName, file: string): void {
    rmSync(this.path(stack, file), { force: true });
  }
}

/** Removes what is in a copy and neither in its source nor of Terraform or the environment. */
function removeForeign(copy: string, source: string): void {
  if (!existsSync(copy)) return;
  for (const entry of readdirSync(copy, { withFileTypes: true })) {
    const [inCopy, inSource] = [join(copy, entry.name), join(source, entry.name)];
    if (OWN.test(entry.name)) continue;
    if (!existsSync(inSource)) rmSync(inCopy, { recursive: true, force: true });
    else if (entry.isDirectory()) removeForeign(inCopy, inSource);
  }
}
