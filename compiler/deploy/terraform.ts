/** Runs Terraform in the stacks of one environment. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { AWAITED, adviceFor, causeOf, isWorthWaiting } from './causes.ts';
import type { Children, Ran } from './children.ts';
import { DeployFailure } from './failure.ts';
import type { Reporter } from './report.ts';
import type { StackName } from './steps.ts';
import {
  type Diagnosis,
  eventOf,
  outputsOf,
  type PlanSummary,
  planOf,
  stateLockIn,
} from './terraform-json.ts';
import { BACKEND_FILE, INIT_STAMP, PLAN_FILE, type Workspace } from './workspace.ts';

/** How long a deployment waits for roles and for Azure, and how often it looks. */
export interface Patience {
  /** For a role that was just assigned. */
  readonly roleMs: number;
  /** Waits between attempts; the last one is repeated. */
  readonly pausesMs: readonly number[];
  /** For a new revision to become ready. */
  readonly readyMs: number;
  readonly pollMs: number;
}

export const PATIENCE: Patience = {
  roleMs: 15 * 60_000,
  pausesMs: [10_000, 15_000, 20_000, 30_000],
  readyMs: 15 * 60_000,
  pollMs: 5_000,
};

export interface PlanRequest {
  readonly destroy?: boolean;
  /** A plan that is only looked at takes no lock, so that it disturbs nobody. */
  readonly lock: boolean;
}

/** What an apply did, also if it failed. */
export interface Applied {
  readonly done: number;
}

export class ApplyFailure extends DeployFailure {
  readonly done: number;

  constructor({ kind, message, advice }: DeployFailure, done: number) {
    super(kind, message, advice);
    this.done = done;
  }
}

const COMMON = ['-input=false', '-no-color'] as const;

export class Terraform {
  readonly #children: Children;
  readonly #workspace: Workspace;
  readonly #reporter: Reporter;
  readonly #patience: Patience;
  readonly #environment: Readonly<Record<string, string | undefined>>;

  constructor(given: {
    readonly children: Children;
    readonly workspace: Workspace;
    readonly reporter: Reporter;
    readonly patience: Patience;
    readonly environment: Readonly<Record<string, string | undefined>>;
  }) {
    this.#children = given.children;
    this.#workspace = given.workspace;
    this.#reporter = given.reporter;
    this.#patience = given.patience;
    this.#environment = given.environment;
  }

  /** Initialises a stack, unless it was with the same versions and the same place for its state. */
  async init(stack: StackName): Promise<void> {
    const stamp = this.#stamp(stack);
    const stampPath = this.#workspace.path(stack, INIT_STAMP);
    const isInitialised =
      this.#workspace.has(stack, '.terraform') &&
      existsSync(stampPath) &&
      readFileSync(stampPath, 'utf8') === stamp;
    if (isInitialised) return;
    this.#workspace.remove(stack, INIT_STAMP);
    const backend = stack === 'bootstrap' ? [] : ['-reconfigure', `-backend-config=${BACKEND_FILE}`];
    await this.#patiently(async () => {
      const ran = await this.#run(stack, ['init', ...COMMON, ...backend]);
      if (ran.code !== 0) throw failureOf(`terraform init of ${stack} failed`, textOfInit(ran));
    });
    this.#workspace.write(stack, INIT_STAMP, this.#stamp(stack));
  }

  /** A digest of everything on which an initialisation depends. */
  #stamp(stack: StackName): string {
    const hash = createHash('sha256');
    for (const file of ['versions.tf', 'deploy.lock.hcl', 'backend.tf', BACKEND_FILE]) {
      if (this.#workspace.has(stack, file))
        hash.update(`${file}\0`).update(readFileSync(this.#workspace.path(stack, file)));
    }
    return `${JSON.stringify({ digest: hash.digest('hex') })}\n`;
  }

  /**
   * Plans a stack, and keeps the plan for `apply`.
   * @returns undefined if nothing would change
   */
  async plan(stack: StackName, { destroy = false, lock }: PlanRequest): Promise<PlanSummary | undefined> {
    const args = [
      'plan',
      '-json',
      ...COMMON,
      '-detailed-exitcode',
      `-lock=${lock}`,
      `-out=${PLAN_FILE}`,
      ...(destroy ? ['-destroy'] : []),
    ];
    const code = await this.#patiently(async () => {
      const errors: Diagnosis[] = [];
      const ran = await this.#run(stack, args, (line) => {
        const event = eventOf(line);
        if (event?.kind === 'diagnostic' && event.diagnosis.severity === 'error')
          errors.push(event.diagnosis);
      });
      if (ran.code === 0 || ran.code === 2) return ran.code;
      throw failureOf(`terraform plan of ${stack} failed`, textOf(errors, ran));
    });
    if (code === 0) {
      this.#workspace.remove(stack, PLAN_FILE);
      return undefined;
    }
    const shown = await this.#run(stack, ['show', '-json', '-no-color', PLAN_FILE]);
    if (shown.code !== 0) throw failureOf(`terraform show of ${stack} failed`, shown.stderr);
    return parsed(stack, () => planOf(shown.stdout));
  }

  /**
   * Applies the plan that `plan` kept.
   * @throws ApplyFailure
   */
  async apply(stack: StackName, total: number): Promise<Applied> {
    const errors: Diagnosis[] = [];
    const ended = new Set<string>();
    const progress = this.#reporter.applying(total);
    try {
      const ran = await this.#run(stack, ['apply', '-json', ...COMMON, PLAN_FILE], (line) => {
        const event = eventOf(line);
        if (event === undefined) return;
        if (event.kind === 'diagnostic') {
          if (event.diagnosis.severity === 'error') errors.push(event.diagnosis);
          return;
        }
        if (event.kind === 'ended' && event.ok) ended.add(event.address);
        progress(event);
      });
      if (ran.code !== 0) throw failureOf(`terraform apply of ${stack} failed`, textOf(errors, ran));
      return { done: ended.size };
    } catch (error) {
      if (!(error instanceof DeployFailure)) throw error;
      throw new ApplyFailure(error, ended.size);
    } finally {
      this.#workspace.remove(stack, PLAN_FILE);
    }
  }

  /** The outputs of what was applied last; empty if nothing was. They may contain secrets. */
  async outputs(stack: StackName): Promise<Readonly<Record<string, unknown>>> {
    return this.#patiently(async () => {
      const ran = await this.#run(stack, ['output', '-json', '-no-color']);
      if (ran.code !== 0) throw failureOf(`terraform output of ${stack} failed`, ran.stderr);
      return parsed(stack, () => outputsOf(ran.stdout));
    });
  }

  /** Repeats an action while it fails for a reason that time removes. */
  async #patiently<Result>(action: () => Promise<Result>): Promise<Result> {
    return patiently(action, {
      children: this.#children,
      reporter: this.#reporter,
      patience: this.#patience,
    });
  }

  #run(stack: StackName, args: readonly string[], onLine?: (line: string) => void): Promise<Ran> {
    const { TF_PLUGIN_CACHE_DIR: cache } = this.#environment;
    return this.#children.run('terraform', args, {
      folder: this.#workspace.stack(stack),
      variables: {
        TF_IN_AUTOMATION: '1',
        CHECKPOINT_DISABLE: '1',
        ...(cache === undefined
          ? {
              TF_PLUGIN_CACHE_DIR: this.#workspace.plugins,
              // The copy's lock file may lack the checksums of this platform, which a cached plugin does not add.
              TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE: '1',
            }
          : {}),
      },
      ...(onLine === undefined ? {} : { onLine }),
    });
  }
}

export interface PatientlyWith {
  readonly children: Children;
  readonly reporter: Reporter;
  readonly patience: Patience;
}

/**
 * Repeats an action while it fails for a reason that time removes, and reports what is awaited.
 * @throws DeployFailure the last failure, if patience ends or time does not help
 */
export async function patiently<Result>(
  action: () => Promise<Result>,
  { children, reporter, patience }: PatientlyWith,
): Promise<Result> {
  const begun = Date.now();
  for (let attempt = 0; ; attempt++) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof DeployFailure) || error.kind !== 'failed') throw error;
      const cause = causeOf(error.message);
      const elapsed = Date.now() - begun;
      const pause = patience.pausesMs[Math.min(attempt, patience.pausesMs.length - 1)] ?? 0;
      if (!isWorthWaiting(cause) || elapsed + pause > patience.roleMs) throw error;
      reporter.waiting(AWAITED[cause], elapsed, patience.roleMs);
      await children.wait(pause);
    }
  }
}

function parsed<Result>(stack: StackName, read: () => Result): Result {
  try {
    return read();
  } catch {
    throw new DeployFailure('failed', `terraform's JSON about ${stack} cannot be read.`);
  }
}

const MAX_ERRORS = 10;

/** Terraform's errors, each with its resource; else the end of what it printed. */
function textOf(errors: readonly Diagnosis[], { stderr }: Ran): string {
  if (errors.length === 0) return lastLines(stderr);
  const shown = errors
    .slice(0, MAX_ERRORS)
    .map(({ summary, detail, address }) =>
      [address === undefined ? summary : `${address}: ${summary}`, detail.trim()]
        .filter((text) => text !== '')
        .join('\n'),
    );
  const more = errors.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more errors`] : [])].join('\n');
}

const textOfInit = ({ stdout, stderr }: Ran): string => lastLines(stderr.trim() === '' ? stdout : stderr);

const LAST_LINES = 20;
export const lastLines = (text: string, count = LAST_LINES): string =>
  text
    .trim()
    .split('\n')
    .map((line) => line.replace(/^[\s│╷╵]+/, '').trimEnd())
    .filter((line) => line !== '')
    .slice(-count)
    .join('\n');

/** A failure with the advice that its text leads to. */
export function failureOf(what: string, text: string): DeployFailure {
  const lock = stateLockIn(text);
  if (lock !== undefined) {
    return new DeployFailure(
      'failed',
      `Another run holds the lock of this stack's state: ${lock.who || 'unknown'}, since ${lock.since || 'unknown'} (${lock.operation || 'unknown'}).`,
      `Wait until it has ended, and run the command again. If that run was killed, remove its lock: terraform force-unlock ${lock.id}, or break the lease of the state's blob in the portal.`,
    );
  }
  return new DeployFailure('failed', `${what}:\n${text}`, adviceFor(causeOf(text), text));
}
