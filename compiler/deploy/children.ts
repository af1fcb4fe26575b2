/** Runs terraform, az and docker. Only this module of deploy/ starts programs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Interruption } from '../commands/local/interruption.ts';
import { resolveName } from '../settings/names.ts';
import { DeployFailure } from './failure.ts';

export type Tool = 'terraform' | 'az' | 'docker';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  readonly folder?: string;
  /** Variables in addition to those that the tool inherits. */
  readonly variables?: Readonly<Record<string, string>>;
  /** Receives each line as it is printed. */
  onLine?(line: string): void;
}

/** A program prints at most this much that is kept; the rest is dropped from the front. */
const KEPT_CHARACTERS = 16 * 1024 * 1024;

/**
 * Variables of the other tools: a credential goes to no program that does not need it. A log of Terraform would have the
 * values of all variables and states.
 */
const NOT_FOR: Readonly<Record<Tool, RegExp>> = {
  // Options and values of the shell for Terraform's own commands would change what the files say.
  terraform: /^(?:TF_(?:VAR_|CLI_ARGS|WORKSPACE$|DATA_DIR$|INPUT$|LOG)|DOCKER_(?!HOST$|CONFIG$))/,
  az: /^(?:ARM_|TF_|DOCKER_(?!HOST$|CONFIG$))/,
  docker: /^(?:ARM_|TF_|AZURE_|AZD_|IDENTITY_|MSI_|ACTIONS_ID_TOKEN_)/,
};

/** Settings that are secret for the gateway, and part of how a machine signs in to Azure. */
const OF_THE_MACHINE = /^(?:IDENTITY_HEADER|MSI_SECRET)$/;

/**
 * The variables that a tool inherits: those of this process without the secret settings of a gateway, without every
 * variable that has one of the `secrets` as its value, and without the credentials of the other tools.
 */
export function inherited(
  tool: Tool,
  environment: Readonly<Record<string, string | undefined>>,
  secrets: ReadonlySet<string>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) => {
      const isLeftOut =
        value === undefined ||
        NOT_FOR[tool].test(name) ||
        secrets.has(value) ||
        (isSecretSetting(name) && !(tool !== 'docker' && OF_THE_MACHINE.test(name)));
      return isLeftOut ? [] : [[name, value]];
    }),
  );
}

function isSecretSetting(name: string): boolean {
  const verdict = resolveName(name);
  return verdict.is === 'setting' && verdict.known.declaration.sensitive === true;
}

export class Children {
  readonly #environment: Readonly<Record<string, string | undefined>>;
  readonly #interruption: Interruption;
  readonly #secrets = new Set<string>();

  constructor(environment: Readonly<Record<string, string | undefined>>, interruption: Interruption) {
    this.#environment = environment;
    this.#interruption = interruption;
  }

  /** No child gets a variable with one of these values. */
  withhold(secrets: Iterable<string>): void {
    for (const secret of secrets) this.#secrets.add(secret);
  }

  get interrupted(): boolean {
    return this.#interruption.signal.aborted;
  }

  get signal(): AbortSignal {
    return this.#interruption.signal;
  }

  /** @throws DeployFailure if the user has interrupted the deployment */
  stopIfInterrupted(): void {
    if (this.interrupted) throw new DeployFailure('interrupted', 'Interrupted.');
  }

  /** Waits. @throws DeployFailure if the user interrupts the wait */
  async wait(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const elapsed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([elapsed, this.#interruption.once]);
    clearTimeout(timer);
    this.stopIfInterrupted();
  }

  /**
   * Runs a program to its end. The first interruption is passed on to it, once: Terraform then ends what it is doing and
   * writes its state. The second one is passed on too, after which Terraform ends at once; others are killed.
   * @throws DeployFailure if the program does not exist, or was interrupted
   */
  async run(tool: Tool, args: readonly string[], options: ChildOptions = {}): Promise<Ran> {
    this.stopIfInterrupted();
    const child = spawn(tool, args, {
      ...(options.folder === undefined ? {} : { cwd: options.folder }),
      env: { ...inherited(tool, this.#environment, this.#secrets), ...options.variables },
      stdio: ['ignore', 'pipe', 'pipe'],
      // Ctrl-C reaches all processes of the terminal's foreground group. In a group of its own the program gets it from here.
      detached: process.platform !== 'win32',
      windowsHide: true,
    });
    const kept = { stdout: '', stderr: '' };
    const ended = this.#ended(child, tool);
    for (const stream of ['stdout', 'stderr'] as const) {
      createInterface({ input: child[stream], crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
        kept[stream] = `${kept[stream]}${line}\n`.slice(-KEPT_CHARACTERS);
        options.onLine?.(line);
      });
    }
    let running = true;
    void this.#interruption.once.then(() => running && signalTo(child, 'SIGINT'));
    void this.#interruption.twice.then(
      () => running && signalTo(child, tool === 'terraform' ? 'SIGINT' : 'SIGKILL'),
    );
    const code = await ended;
    running = false;
    // A program that came to its end in spite of the interruption has done its work; the next one does not start.
    if (this.interrupted && code !== 0) throw new DeployFailure('interrupted', 'Interrupted.');
    return { code, ...kept };
  }

  #ended(child: ChildProcess, tool: Tool): Promise<number> {
    return new Promise((resolve, reject) => {
      child.once('error', (error: NodeJS.ErrnoException) => {
        const reason = error.code === 'ENOENT' ? 'it is not installed, or not on the PATH' : error.code;
        reject(new DeployFailure('not-begun', `${tool} cannot be started: ${reason}.`));
      });
      child.once('close', (code) => resolve(code ?? 1));
    });
  }
}

/** The whole group: `az` is a script that starts Python. */
function signalTo({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, signal);
  } catch {
    // It has just ended.
  }
}
