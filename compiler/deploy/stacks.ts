/** Plans and applies the stacks of one environment, and gives each what the others have for it. */
import { rmSync } from 'node:fs';
import type { AzureCli } from './azure-cli.ts';
import { DeployFailure } from './failure.ts';
import type { Environment, Ready } from './preflight.ts';
import { countsOf, describePlan, type Reporter } from './report.ts';
import { STACK_FOLDERS, type StackName } from './steps.ts';
import { ApplyFailure, type PatientlyWith, patiently, type Terraform } from './terraform.ts';
import type { PlannedChange, PlanSummary } from './terraform-json.ts';
import { type Inputs, stateKey, type Values, valuesFor } from './variables.ts';
import { BACKEND_FILE, PLAN_FILE, STATE_FILE, VALUES_FILE, type Workspace } from './workspace.ts';

export interface StacksWith {
  readonly environment: Environment;
  readonly ready: Ready;
  readonly azure: AzureCli;
  readonly terraform: Terraform;
  readonly workspace: Workspace;
  readonly reporter: Reporter;
  readonly patiently: PatientlyWith;
}

/** What the workload gets in addition to the files. */
export interface Chosen {
  readonly image?: string | undefined;
  readonly simulatorImage?: string | undefined;
  readonly secretsRevision?: string;
}

export interface ApplyHooks {
  /** Looks at the plan before it is applied. @throws DeployFailure to stop */
  beforeApply?(plan: PlanSummary): Promise<void>;
  /** @throws DeployFailure unless the user agrees */
  confirm(changes: readonly PlannedChange[]): Promise<void>;
}

export class Stacks {
  readonly #with: StacksWith;
  readonly #outputs = new Map<StackName, Values>();

  constructor(given: StacksWith) {
    this.#with = given;
  }

  /**
   * Whether the storage for states exists. A state of 00-bootstrap that only the storage itself has is fetched: another
   * machine made it.
   */
  async findBootstrap(): Promise<boolean> {
    const { workspace, terraform, environment, azure, reporter } = this.#with;
    if (workspace.has('bootstrap', STATE_FILE))
      return Object.keys(await this.outputs('bootstrap')).length > 0;
    await this.#write('bootstrap', {});
    await terraform.init('bootstrap');
    const plan = await terraform.plan('bootstrap', { lock: false });
    workspace.remove('bootstrap', PLAN_FILE);
    const account = plan?.changes.find(({ type }) => type === 'azurerm_storage_account')?.name;
    if (account === undefined || !(await azure.hasStorageAccount(account))) return false;
    const container = environment.variables.state_container_name;
    const place = {
      account,
      container: typeof container === 'string' && container !== '' ? container : 'tfstate',
      name: stateKey(this.#with.ready.place.environmentCode, 'bootstrap'),
    };
    const file = workspace.path('bootstrap', STATE_FILE);
    const found = await patiently(() => azure.downloadBlob(place, file), this.#with.patiently);
    if (!found) {
      rmSync(file, { force: true });
      throw new DeployFailure(
        'failed',
        `The storage account ${account} exists, but has no state of 00-bootstrap (${place.name} in the container ${place.container}).`,
        `Another machine may have been interrupted while it made the account: run the command there. If nobody needs the account, delete it, or set storage_account_name_override.`,
      );
    }
    reporter.detail(`found the state of 00-bootstrap in the storage account ${account}`);
    return true;
  }

  /** Keeps a copy of the state of 00-bootstrap next to the other states, so that every machine finds it. */
  async keepBootstrapState(): Promise<void> {
    const { azure, workspace } = this.#with;
    const outputs = await this.outputs('bootstrap');
    const place = {
      account: String(outputs.storage_account_name),
      container: String(outputs.state_container_name),
      name: String(outputs.state_blob_key),
    };
    const file = workspace.path('bootstrap', STATE_FILE);
    await patiently(() => azure.uploadBlob(place, file), this.#with.patiently);
  }

  /** The outputs of what was applied last; empty if nothing was. */
  async outputs(stack: StackName): Promise<Values> {
    const known = this.#outputs.get(stack);
    if (known !== undefined) return known;
    await this.#prepare(stack);
    const outputs = await this.#with.terraform.outputs(stack);
    this.#outputs.set(stack, outputs);
    return outputs;
  }

  /** Initialises a stack, with the place of its state. */
  async #prepare(stack: StackName): Promise<void> {
    const { workspace, terraform } = this.#with;
    if (stack !== 'bootstrap') {
      const snippet = (await this.outputs('bootstrap')).backend_snippet;
      if (typeof snippet !== 'string')
        throw new DeployFailure(
          'failed',
          "There is no storage for Terraform's states yet.",
          'Run the command without --stack, --settings-only and --rollback first, or with --stack bootstrap.',
        );
      workspace.write(stack, BACKEND_FILE, snippet.replace('<stack>', STACK_FOLDERS[stack]));
    }
    await terraform.init(stack);
  }

  async #inputs(stack: StackName, { image, simulatorImage, secretsRevision = '' }: Chosen): Promise<Inputs> {
    const { environment, ready } = this.#with;
    const needed: Readonly<Record<StackName, readonly StackName[]>> = {
      bootstrap: [],
      observability: [],
      platform: ['observability'],
      foundry: ['observability'],
      workload: ['bootstrap', 'observability'],
    };
    const outputs: Partial<Record<StackName, Values>> = {};
    for (const name of needed[stack]) outputs[name] = await this.outputs(name);
    return {
      given: environment.variables,
      place: ready.place,
      outputs,
      settings: environment.settings,
      secrets: [...environment.secrets.keys()],
      image,
      simulatorImage,
      testMode: ready.testMode,
      secretsRevision,
      useFoundry: ready.useFoundry,
    };
  }

  /** Writes the values of a stack's variables. */
  async #write(stack: StackName, chosen: Chosen): Promise<void> {
    const { workspace } = this.#with;
    const values = valuesFor(stack, workspace.declared(stack), await this.#inputs(stack, chosen));
    workspace.write(stack, VALUES_FILE, `${JSON.stringify(values, null, 2)}\n`);
  }

  async #planned(
    stack: StackName,
    chosen: Chosen,
    { destroy, lock }: { readonly destroy?: boolean; readonly lock: boolean },
  ): Promise<PlanSummary | undefined> {
    await this.#prepare(stack);
    await this.#write(stack, chosen);
    return this.#with.terraform.plan(stack, { destroy: destroy === true, lock });
  }

  /**
   * Plans a stack and changes nothing.
   * @returns undefined if nothing would change
   */
  async look(stack: StackName, chosen: Chosen = {}, destroy = false): Promise<PlanSummary | undefined> {
    const plan = await this.#planned(stack, chosen, { destroy, lock: false });
    this.#with.workspace.remove(stack, PLAN_FILE);
    return plan;
  }

  /**
   * Plans a stack and applies the plan. Repeats both while a role has no effect yet.
   * @returns what was done, for the summary
   */
  async apply(stack: StackName, chosen: Chosen, hooks: ApplyHooks, destroy = false): Promise<string> {
    const { terraform, reporter, workspace } = this.#with;
    let done = 0;
    let shown = '';
    try {
      return await patiently(async () => {
        const plan = await this.#planned(stack, chosen, { destroy, lock: true });
        this.#outputs.delete(stack);
        if (plan === undefined) {
          if (done > 0) return `${done} changes`;
          reporter.detail('no changes');
          return 'no changes';
        }
        const lines = describePlan(plan.changes).join('\n');
        if (lines !== shown) {
          reporter.detail(countsOf(plan.changes));
          if (lines !== '') reporter.detail(lines);
          await hooks.beforeApply?.(plan);
          await hooks.confirm(plan.changes);
          shown = lines;
        }
        try {
          done += (await terraform.apply(stack, plan.changes.length)).done;
        } catch (error) {
          if (error instanceof ApplyFailure) done += error.done;
          throw error;
        }
        return countDone(done);
      }, this.#with.patiently);
    } catch (error) {
      if (!(error instanceof DeployFailure)) throw error;
      throw new ApplyFailure(error, done);
    } finally {
      workspace.remove(stack, PLAN_FILE);
    }
  }
}

const countDone = (count: number): string => `${count} change${count === 1 ? '' : 's'}`;
