/**
 * Terraform, and what is linted with it, over copies of deploy/azure. The plugins of the providers come from wherever this
 * host's Terraform takes them: a mirror that its configuration names, or the registry.
 */
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** Write-only arguments, which keep the key of Redis out of the state, came with this version. */
const OLDEST: readonly [number, number] = [1, 11];

/** The stack that needs every provider. */
const PROBED = 'deploy/azure/stacks/20-workload';

/** Initialises without a backend. */
const INIT = ['init', '-backend=false', '-input=false', '-no-color'];

/** The same with the versions of the folder's lock file, and no others. */
const INIT_LOCKED = [...INIT, '-lockfile=readonly'];

const LOCK = '.terraform.lock.hcl';

const INIT_PATIENCE_MS = 300_000;

const program = (): string => process.env.TERRAFORM || 'terraform';

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Why tests of deploy/azure cannot run here; undefined where they can. */
export function terraformProblem(): string | undefined {
  const { status, stdout } = spawnSync(program(), ['version', '-json'], { encoding: 'utf8' });
  if (status !== 0) return `there is no terraform ${OLDEST.join('.')} or later, on the PATH or at TERRAFORM`;
  const { terraform_version: version } = JSON.parse(stdout) as { terraform_version: string };
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    return `terraform is ${version}, and deploy/azure needs ${OLDEST.join('.')} or later`;
  return providersProblem();
}

/** Initialises a folder with nothing but the providers of all stacks. */
function providersProblem(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-providers-'));
  try {
    for (const name of ['versions.tf', LOCK]) cpSync(join(REPOSITORY, PROBED, name), join(folder, name));
    const { status, stderr } = spawnSync(program(), INIT_LOCKED, {
      cwd: folder,
      env: environment(folder),
      encoding: 'utf8',
      timeout: INIT_PATIENCE_MS,
    });
    if (status === 0) return undefined;
    // The first error alone: each provider has one.
    const said = stderr
      .replaceAll(/[\s│╷╵]+/g, ' ')
      .trim()
      .split(/Error: /)[1];
    return `terraform cannot install the providers of deploy/azure: ${said ?? 'it does not end'}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Why tflint cannot lint with the rules for azurerm; undefined where it can. */
export function tflintProblem(): string | undefined {
  const { status, stdout } = spawnSync('tflint', ['--version', `--config=${TFLINT_CONFIG}`], {
    encoding: 'utf8',
  });
  if (status !== 0) return 'there is no tflint';
  return stdout.includes('ruleset.azurerm') ? undefined : 'tflint has no ruleset azurerm: tflint --init';
}

export const TFLINT_CONFIG = join(REPOSITORY, 'deploy/azure/.tflint.hcl');

/** One copy of the plugins for all folders; what a shell sets for plans and applies of its own has no effect here. */
function environment(folder: string): NodeJS.ProcessEnv {
  const cache = join(folder, '.plugins');
  mkdirSync(cache, { recursive: true });
  const inherited = Object.entries(process.env).filter(([name]) => !/^(?:TF_(?!CLI_CONFIG)|ARM_)/.test(name));
  return {
    ...Object.fromEntries(inherited),
    TF_PLUGIN_CACHE_DIR: cache,
    // A lock file without checksums would have each folder download the plugins again.
    TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE: 'true',
    TF_IN_AUTOMATION: 'true',
    CHECKPOINT_DISABLE: 'true',
  };
}

/** Files of the repository in a folder of their own, in which Terraform may leave its own files. */
export class TerraformCopy {
  readonly folder = mkdtempSync(join(tmpdir(), 'genai-gateway-terraform-'));
  private readonly initialised = new Map<string, Promise<Ran>>();

  /** Paths in the repository. */
  constructor(files: readonly string[]) {
    for (const file of files) {
      mkdirSync(dirname(this.path(file)), { recursive: true });
      cpSync(join(REPOSITORY, file), this.path(file));
    }
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** What Terraform needs in its environment here. */
  environment(): NodeJS.ProcessEnv {
    return environment(this.folder);
  }

  /** Runs terraform in a folder of the copy. */
  run(folder: string, args: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Ran> {
    return run(program(), args, this.path(folder), { ...this.environment(), ...more });
  }

  /** Once for each folder. A module has no lock file: it gets the versions that stacks have. */
  init(folder: string): Promise<Ran> {
    let running = this.initialised.get(folder);
    if (running === undefined) {
      const lock = this.path(join(folder, LOCK));
      const isLocked = existsSync(lock);
      if (!isLocked) cpSync(join(REPOSITORY, PROBED, LOCK), lock);
      running = this.run(folder, isLocked ? INIT_LOCKED : INIT);
      this.initialised.set(folder, running);
    }
    return running;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs a program to its end without blocking this process. */
export const run = (
  command: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Ran> =>
  new Promise((resolve) => {
    const child = execFile(command, args, { cwd, env, maxBuffer: 2 ** 28 }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });

/** What terraform printed with -json, a message a line. */
export const messagesOf = (stdout: string): readonly Record<string, unknown>[] =>
  stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
