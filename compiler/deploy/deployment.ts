/** One run of `deploy`: its steps, in order, and how far they came. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkSettings } from '../commands/check.ts';
import { EXIT, type Terminal } from '../commands/terminal.ts';
import type { App, AppStatus } from './azure-cli.ts';
import type { Children } from './children.ts';
import { destroyEverything } from './destroy.ts';
import { DeployFailure } from './failure.ts';
import { byDigest, haveImage, type ImageSource, imageSource, REPOSITORY, type Registry } from './image.ts';
import { SeedError, type SeedProgress, type SeedResult } from './key-vault.ts';
import type { DeployOptions, Outside } from './options.ts';
import type { Environment, Ready } from './preflight.ts';
import { waitForAddress, waitForRevision } from './ready.ts';
import { countsOf, describePlan, duration, type Reporter } from './report.ts';
import { rollBack } from './rollback.ts';
import { plannedSettings } from './settings.ts';
import { settingsChanges } from './settings-changes.ts';
import { simulatorSource } from './simulator-image.ts';
import type { Chosen, Stacks } from './stacks.ts';
import { chosenSteps, isStack, type StackName, type Step } from './steps.ts';
import { ApplyFailure, patiently } from './terraform.ts';
import type { PlannedChange, PlanSummary } from './terraform-json.ts';
import { howToRunScenarios, howToTry } from './try-it.ts';
import type { Workspace } from './workspace.ts';

export interface DeploymentWith {
  readonly environment: Environment;
  readonly options: DeployOptions;
  readonly outside: Outside;
  readonly terminal: Terminal;
  readonly children: Children;
  readonly reporter: Reporter;
  readonly workspace: Workspace;
  readonly stacks: Stacks;
  readonly ready: Ready;
}

type Outcome = { readonly step: string; readonly what: string };

/** A secret was written, and no revision was made of it yet. The file has a time, and no secret. */
const PENDING_SECRETS = 'pending-secrets';

export class Deployment {
  readonly #with: DeploymentWith;
  readonly #done: Outcome[] = [];
  #steps: readonly Step[] = [];
  #current: string | undefined;
  #stoppedAt = '';
  #hasBegun = false;

  constructor(given: DeploymentWith) {
    this.#with = given;
  }

  /** Whether anything outside this machine may have changed. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** What was done, what was not. Empty before the first step. */
  progress(): readonly string[] {
    if (this.#steps.length === 0) return [];
    const known = new Set(this.#done.map(({ step }) => step));
    const left = this.#steps
      .map(({ name }) => String(name))
      .filter((name) => !known.has(name) && name !== this.#current);
    const lines = [
      this.#done.length > 0
        ? `Done:      ${this.#done.map(({ step, what }) => `${step} (${what})`).join(', ')}`
        : undefined,
      this.#current === undefined
        ? undefined
        : `Stopped:   ${this.#current}${this.#stoppedAt === '' ? '' : ` (${this.#stoppedAt})`}`,
      left.length > 0 ? `Not done:  ${left.join(', ')}` : undefined,
    ];
    return lines.filter((line) => line !== undefined);
  }

  /** @returns the exit code @throws DeployFailure */
  run(): Promise<number> {
    const { options } = this.#with;
    if (options.destroy) return destroyEverything(this, this.#with);
    if (options.rollback !== undefined) return rollBack(this, this.#with);
    return options.plan ? this.#look() : this.#deploy();
  }

  /** The steps of a run that is no deployment. */
  follow(steps: readonly Step[]): void {
    this.#steps = steps;
  }

  /** Runs one step, and keeps how far it came. */
  async step(step: Step, action: () => Promise<string>): Promise<void> {
    const { reporter, children } = this.#with;
    children.stopIfInterrupted();
    this.#current = step.name;
    const number = this.#steps.findIndex(({ name }) => name === step.name) + 1;
    reporter.step(step, number, this.#steps.length);
    try {
      const what = await action();
      this.#done.push({ step: step.name, what });
      this.#current = undefined;
    } catch (error) {
      if (error instanceof ApplyFailure && error.done > 0)
        this.#stoppedAt = `${error.done} change${error.done === 1 ? ' was' : 's were'} made`;
      throw error;
    }
  }

  /** From here on something outside this machine may change. */
  begin(): void {
    this.#hasBegun = true;
  }

  #chosen() {
    const { options, ready } = this.#with;
    return chosenSteps(options, {
      hasFoundry: ready.useFoundry,
      hasImage: this.#imagesToMake().length === 0,
      hasTestMode: ready.testMode,
    });
  }

  /** The images that no variable names. */
  #imagesToMake(): readonly ImageToMake[] {
    const { environment, ready, outside } = this.#with;
    const all: readonly ImageToMake[] = [
      { is: 'image', variable: 'gateway_image', source: () => imageSource(outside.source) },
      ...(ready.testMode
        ? [{ is: 'simulatorImage', variable: 'simulator_image', source: simulatorSource } as const]
        : []),
    ];
    return all.filter(({ variable }) => named(environment.variables[variable]) === undefined);
  }

  // ---- deploying ----

  async #deploy(): Promise<number> {
    const { stacks, reporter, options } = this.#with;
    const all = this.#chosen();
    for (const { name, skipped } of all)
      if (skipped !== undefined) reporter.line(`      ${name}: left out (${skipped})`);
    this.#steps = all.filter(({ skipped }) => skipped === undefined);
    const first = this.#steps[0]?.name;
    if (first !== 'bootstrap') await this.#requireBootstrap();
    let images: Images = {};
    let url = '';
    for (const step of this.#steps) {
      const { name } = step;
      if (name === 'bootstrap')
        await this.step(step, async () => {
          await stacks.findBootstrap();
          this.begin();
          const what = await stacks.apply('bootstrap', {}, { confirm: (changes) => this.confirm(changes) });
          await stacks.keepBootstrapState();
          return what;
        });
      else if (name === 'image')
        await this.step(step, async () => {
          const registry = await this.#registry();
          let isBuilt = false;
          for (const { is, source } of this.#imagesToMake()) {
            // Pushing needs a role that the platform has just assigned.
            const made = await patiently(
              () =>
                haveImage(
                  registry,
                  { made: source(), localDocker: options.localDocker === true },
                  { azure: this.#with.ready.azure, ...this.#with },
                ),
              { ...this.#with, patience: this.#with.outside.patience },
            );
            images = { ...images, [is]: made.image };
            isBuilt ||= made.built;
            reporter.detail(`${made.tag} is ${made.image}`);
          }
          return isBuilt ? 'built' : 'exists';
        });
      else if (name === 'secrets') await this.step(step, () => this.#seed());
      else if (name === 'workload') await this.step(step, () => this.#applyWorkload(images));
      else if (name === 'ready')
        await this.step(step, async () => {
          url = await this.waitUntilReady();
          return 'ready';
        });
      else
        await this.step(step, () => {
          this.begin();
          return stacks.apply(name, {}, { confirm: (changes) => this.confirm(changes) });
        });
    }
    if (url !== '') await this.printResult(url);
    else reporter.line('Done.');
    return EXIT.ok;
  }

  async #requireBootstrap(): Promise<void> {
    if (!(await this.#with.stacks.findBootstrap()))
      throw new DeployFailure(
        'not-begun',
        `${this.#with.environment.name} is not deployed yet: there is no storage for Terraform's states.`,
        'Run the command without --stack and --settings-only first.',
      );
  }

  async #registry(): Promise<Registry> {
    const platform = await this.#with.stacks.outputs('platform');
    const [name, loginServer] = [platform.platform_acr_name, platform.platform_acr_login_server];
    if (typeof name !== 'string' || typeof loginServer !== 'string')
      throw new DeployFailure('failed', 'There is no registry yet.', 'Run the step platform first.');
    return { name, loginServer };
  }

  async #seed(dryRun = false): Promise<string> {
    const { environment, stacks, outside, reporter, children, ready } = this.#with;
    const { secrets } = environment;
    if (secrets.size === 0) {
      reporter.detail(`no file has secrets; those in the vault stay as they are`);
      return 'no secrets in the files';
    }
    const vaultUri = (await stacks.outputs('platform')).key_vault_uri;
    if (typeof vaultUri !== 'string')
      throw new DeployFailure('failed', 'There is no Key Vault yet.', 'Run the step platform first.');
    if (!dryRun) this.begin();
    const request = {
      vaultUri,
      secrets,
      signal: children.signal,
      dryRun,
      patienceMs: outside.patience.roleMs,
      report: (progress: SeedProgress) => this.#reportSeeding(progress),
    };
    try {
      const result = await outside.seed(request, ready.place.tenantId);
      this.#keepPending(result, dryRun);
      for (const line of seedLines(result, dryRun)) reporter.detail(line);
      const count = result.added.length + result.changed.length + result.recovered.length;
      return count === 0 ? 'no changes' : `${count} written`;
    } catch (error) {
      if (!(error instanceof SeedError)) throw error;
      this.#keepPending(error.done, dryRun);
      for (const line of seedLines(error.done, dryRun)) reporter.detail(line);
      if (error.failure === 'aborted') throw new DeployFailure('interrupted', 'Interrupted.');
      throw new DeployFailure(
        'failed',
        `${error.message} Not written: ${error.pending.join(', ') || 'none'}.`,
        error.advice,
      );
    }
  }

  #reportSeeding(progress: SeedProgress): void {
    const { reporter } = this.#with;
    if (progress.kind === 'waiting-for-role')
      reporter.waiting(
        'the role Key Vault Secrets Officer to take effect',
        progress.elapsedMs,
        progress.patienceMs,
      );
    else if (progress.kind === 'waiting-for-vault')
      reporter.waiting('the address of the vault', progress.elapsedMs, progress.patienceMs);
    else if (progress.kind === 'recovering')
      reporter.detail(`recovering the deleted secret of ${progress.setting}`);
  }

  #pendingFile(): string {
    return join(this.#with.workspace.folder, PENDING_SECRETS);
  }

  /** A later run makes the revision, if this one is interrupted before it does. */
  #keepPending(result: SeedResult, dryRun: boolean): void {
    const isChanged = result.added.length + result.changed.length + result.recovered.length > 0;
    if (isChanged && !dryRun) writeFileSync(this.#pendingFile(), revisionWord(), { mode: 0o600 });
  }

  /** Changes with the secrets, so that new values make a new revision at once. */
  async #secretsRevision(): Promise<string> {
    if (existsSync(this.#pendingFile())) return readFileSync(this.#pendingFile(), 'utf8');
    const present = (await this.#with.stacks.outputs('workload')).secrets_revision;
    return typeof present === 'string' ? present : '';
  }

  /** The image of this run, else what the user names, else the one that runs. */
  async #imageFor(built: string | undefined): Promise<string | undefined> {
    if (built !== undefined) return built;
    const named = this.#with.environment.variables.gateway_image;
    if (typeof named === 'string' && named !== '') return named;
    const running = (await this.running())?.running.image;
    if (running !== undefined && running !== '') return running;
    throw new DeployFailure(
      'failed',
      'There is no image of the gateway yet.',
      'Run the command without --no-image-build, with --stack image, or set gateway_image.',
    );
  }

  /** The same for the simulators; undefined without the test mode. */
  async #simulatorImageFor(built: string | undefined): Promise<string | undefined> {
    const { ready, environment, stacks } = this.#with;
    if (!ready.testMode) return undefined;
    const image =
      built ??
      named(environment.variables.simulator_image) ??
      named((await stacks.outputs('workload')).simulator_image);
    if (image !== undefined) return image;
    throw new DeployFailure(
      'failed',
      'There is no image of the simulators yet.',
      'Run the command without --no-image-build and --settings-only, with --stack image, or set simulator_image.',
    );
  }

  async #applyWorkload(built: Images): Promise<string> {
    const { stacks, options, reporter } = this.#with;
    const chosen: Chosen = {
      image: await this.#imageFor(built.image),
      simulatorImage: await this.#simulatorImageFor(built.simulatorImage),
      secretsRevision: await this.#secretsRevision(),
    };
    const running = await this.running();
    this.begin();
    const what = await stacks.apply('workload', chosen, {
      beforeApply: async (plan) => {
        await this.#checkPlanned(plan);
        for (const line of await this.#changesAgainst(running, plan)) reporter.detail(line);
        if (options.settingsOnly) onlyTheApp(plan.changes);
      },
      confirm: (changes) => this.confirm(changes),
    });
    rmSync(this.#pendingFile(), { force: true });
    return what;
  }

  /** The program's own check, of exactly the settings that the containers will get. */
  async #checkPlanned(plan: PlanSummary): Promise<void> {
    const { environment, options, terminal } = this.#with;
    const planned = plannedSettings(plan.outputs, environment.raw);
    if (planned === undefined) return;
    if (!(await checkSettings(planned.raw, environment.name, options, terminal)))
      throw new DeployFailure(
        'settings',
        'The settings have errors as Terraform would give them to the gateway: see above.',
        `Correct ${environment.files.settings.path} or ${environment.files.variables.path}.`,
      );
  }

  async #changesAgainst(running: AppStatus | undefined, plan: PlanSummary): Promise<readonly string[]> {
    const planned = plannedSettings(plan.outputs, this.#with.environment.raw);
    if (running === undefined || planned === undefined) return [];
    return settingsChanges(running.running, planned);
  }

  /** What runs now; undefined if there is no gateway yet. */
  async running(): Promise<AppStatus | undefined> {
    const app = await this.app();
    return app === undefined ? undefined : this.#with.ready.azure.app(app);
  }

  /** The gateway's Container App, as Terraform knows it. */
  async app(): Promise<App | undefined> {
    const { gateway_app_name: name, resource_group_name: group } =
      await this.#with.stacks.outputs('workload');
    return typeof name === 'string' && typeof group === 'string' ? { name, group } : undefined;
  }

  /** @returns the address of the gateway */
  async waitUntilReady(): Promise<string> {
    const { environment, ready, reporter, stacks } = this.#with;
    const app = await this.app();
    if (app === undefined)
      throw new DeployFailure('failed', 'There is no gateway yet.', 'Run the step workload first.');
    const given = { ...this.#with, azure: ready.azure };
    const revision = await waitForRevision(app, given);
    reporter.detail(`the revision ${revision} is ready`);
    const url = String((await stacks.outputs('workload')).gateway_url);
    if (environment.variables.expose_gateway_public === false)
      reporter.detail(`${url} has no public address, so nothing asks it from here`);
    else await waitForAddress(url, given);
    return url;
  }

  /** Prints the address, where the keys are, and a request to try. */
  async printResult(url: string): Promise<void> {
    const { reporter, stacks, environment } = this.#with;
    const outputs = await stacks.outputs('workload');
    for (const line of howToTry(url, outputs)) reporter.result(line);
    const { settings, secrets } = environment.files;
    const files = [settings, secrets].filter(({ exists }) => exists).map(({ path }) => path);
    for (const line of howToRunScenarios(url, outputs, files)) reporter.result(line);
  }

  /** @throws DeployFailure unless nothing is lost, or the user agrees */
  async confirm(changes: readonly PlannedChange[]): Promise<void> {
    const { options, outside, children } = this.#with;
    const lost = changes.filter(({ kind }) => kind === 'delete' || kind === 'replace');
    if (lost.length === 0 || options.yes) return;
    const answer = await outside.ask(
      `${lost.length === 1 ? 'One resource is' : `${lost.length} resources are`} deleted or replaced (see above). Go on? Type yes: `,
    );
    children.stopIfInterrupted();
    if (answer === 'yes') return;
    throw new DeployFailure(
      'declined',
      answer === undefined
        ? 'No answer about the deletions above: standard input is not a terminal, or has ended.'
        : 'Stopped, because you did not answer yes.',
      answer === undefined ? 'To agree to them in advance, add --yes.' : undefined,
    );
  }

  // ---- looking only ----

  async #look(): Promise<number> {
    const { stacks, reporter } = this.#with;
    const all = this.#chosen();
    this.#steps = all.filter(({ name }) => name !== 'ready');
    let changes = 0;
    let missing: StackName | undefined;
    let chosen: Chosen = {};
    const begun = Date.now();
    if (!(await stacks.findBootstrap()) && this.#steps[0]?.name !== 'bootstrap') missing = 'bootstrap';
    for (const step of this.#steps) {
      const { name } = step;
      const since = Date.now();
      const skipped = all.find((each) => each.name === name)?.skipped;
      reporter.step(step, this.#steps.indexOf(step) + 1, this.#steps.length);
      const end = (text: string) => reporter.detail(`${text} (${seconds(Date.now() - since)})`);
      if (skipped !== undefined) {
        end(`left out: ${skipped}`);
        continue;
      }
      if (missing !== undefined) {
        end(`cannot be planned before ${missing} is applied`);
        continue;
      }
      if (isStack(name)) {
        if (name === 'workload') chosen = await this.#chosenForLook(chosen);
        const running = name === 'workload' ? await this.running() : undefined;
        const plan = await stacks.look(name, chosen);
        changes += plan === undefined ? 0 : Math.max(plan.changes.length, 1);
        if (plan === undefined) end('no changes');
        else {
          end(countsOf(plan.changes));
          for (const line of describePlan(plan.changes)) reporter.result(`      ${line}`);
          if (name === 'workload') {
            await this.#checkPlanned(plan);
            for (const line of await this.#changesAgainst(running, plan)) reporter.result(`      ${line}`);
          }
        }
        if (name !== 'workload' && Object.keys(await stacks.outputs(name)).length === 0) missing = name;
      } else if (name === 'image') {
        for (const each of this.#imagesToMake()) {
          const { image, line, isNew } = await this.#lookAtImage(each);
          chosen = { ...chosen, [each.is]: image };
          changes += isNew ? 1 : 0;
          end(line);
        }
      } else {
        const what = await this.#seed(true);
        changes += what === 'no changes' || what.startsWith('no secrets') ? 0 : 1;
        if (what !== 'no changes' && !what.startsWith('no secrets'))
          chosen = { ...chosen, secretsRevision: revisionWord() };
        end(what.replace('written', 'to write'));
      }
    }
    reporter.line(
      `${changes === 0 ? 'Nothing would change.' : 'Nothing was changed.'} (${duration(Date.now() - begun)})`,
    );
    return changes === 0 && missing === undefined ? EXIT.ok : EXIT.differs;
  }

  async #chosenForLook({ image, simulatorImage, secretsRevision }: Chosen): Promise<Chosen> {
    const named = this.#with.environment.variables.gateway_image;
    const own = image ?? (typeof named === 'string' && named !== '' ? named : undefined);
    return {
      image:
        own ??
        (await this.running())?.running.image ??
        byDigest(await this.#registry(), REPOSITORY, NO_DIGEST),
      simulatorImage: await this.#simulatorImageFor(simulatorImage),
      secretsRevision: secretsRevision ?? (await this.#secretsRevision()),
    };
  }

  async #lookAtImage({
    source,
  }: ImageToMake): Promise<{ readonly image: string; readonly line: string; readonly isNew: boolean }> {
    const registry = await this.#registry();
    const { image } = source();
    const digest = await this.#with.ready.azure.digestOf(registry.name, image);
    return digest === undefined
      ? { image: byDigest(registry, image, NO_DIGEST), line: `${image} would be built`, isNew: true }
      : { image: byDigest(registry, image, digest), line: `${image} exists`, isNew: false };
  }
}

type Images = Pick<Chosen, 'image' | 'simulatorImage'>;

interface ImageToMake {
  readonly is: keyof Images;
  /** The variable in which a user may name one. */
  readonly variable: string;
  source(): ImageSource;
}

const named = (image: unknown): string | undefined =>
  typeof image === 'string' && image !== '' ? image : undefined;

/** Stands for the digest of an image that is not built yet. Nothing with it is ever applied. */
const NO_DIGEST = `sha256:${'0'.repeat(64)}`;

/** @throws DeployFailure if a plan changes more than the gateway's Container App */
function onlyTheApp(changes: readonly PlannedChange[]): void {
  const others = changes.filter(({ type, kind }) => type !== 'azurerm_container_app' || kind !== 'update');
  if (others.length === 0) return;
  throw new DeployFailure(
    'declined',
    `--settings-only would also change: ${others.map(({ address }) => address).join(', ')}.`,
    'Look at the changes with --plan, and run the command without --settings-only.',
  );
}

function seedLines({ added, changed, recovered, unchanged }: SeedResult, dryRun: boolean): readonly string[] {
  const would = dryRun ? 'would be ' : '';
  return [
    ...added.map((name) => `${name}: ${would}added`),
    ...changed.map((name) => `${name}: ${would}changed`),
    ...recovered.map((name) => `${name}: ${would}recovered`),
    ...(unchanged.length > 0 ? [`${unchanged.length} unchanged`] : []),
  ];
}

/** A word for a moment: `20261201t103000123z`. */
const revisionWord = (): string => new Date().toISOString().replaceAll(/[-:.]/g, '').toLowerCase();

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
