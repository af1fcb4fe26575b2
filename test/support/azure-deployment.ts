/** Environments of deploy/azure, planned or applied by the real providers on a double of Azure. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AzureDouble, SUBSCRIPTION, TENANT } from './azure-double.ts';
import { ROOT } from './repository.ts';
import type { Ran, TerraformCopy } from './terraform.ts';

export const BOOTSTRAP = 'deploy/azure/stacks/00-bootstrap';
export const OBSERVABILITY = 'deploy/azure/stacks/05-observability';
export const PLATFORM = 'deploy/azure/stacks/10-platform';
export const FOUNDRY = 'deploy/azure/stacks/15-foundry';
export const WORKLOAD = 'deploy/azure/stacks/20-workload';

export type Values = Readonly<Record<string, unknown>>;

/** What stands in variable files for the stacks of one environment, and what its operator has to write besides. */
export interface Environment {
  readonly foundry: string;
  readonly workload: string;
  /** Of the workload. */
  readonly completed: Values;
}

/** The accelerator's examples have the values of secrets; ours take their names. */
const WITHOUT_SECRETS: Values = { secrets: {}, secret_settings: ['GATEWAY_CLIENT_KEY_0'] };

export const ENVIRONMENTS: Readonly<Record<string, Environment>> = {
  ...Object.fromEntries(
    ['dev', 'prod'].map((name) => [
      `the accelerator's ${name}`,
      {
        foundry: `${ROOT}/test/fixtures/azure/accelerator-${name}/foundry.tfvars`,
        workload: `${ROOT}/test/fixtures/azure/accelerator-${name}/workload.tfvars`,
        completed: WITHOUT_SECRETS,
      },
    ]),
  ),
  ...Object.fromEntries(
    ['dev', 'prod'].map((name) => [
      `our ${name}`,
      {
        foundry: `${ROOT}/${FOUNDRY}/terraform.tfvars.${name}.example`,
        workload: `${ROOT}/${WORKLOAD}/terraform.tfvars.${name}.example`,
        completed: {},
      },
    ]),
  ),
};

const group = (name: string): string => `/subscriptions/${SUBSCRIPTION}/resourceGroups/${name}`;

export interface Upstream {
  readonly vault: string;
  /** Resource IDs. */
  readonly appInsights: string;
  /** Variables of the workload. */
  readonly values: Values;
}

/** Puts a vault and Application Insights into the double, as other stacks would have: what the workload has to know of them. */
export function putUpstream(azure: AzureDouble, of: string): Upstream {
  const suffix = of.replaceAll(/\W+/g, '-');
  const platform = `${group('rg-platform')}/providers`;
  const observability = `${group('rg-obs')}/providers`;
  const vault = `kv-${suffix}`;
  const key_vault_id = `${platform}/Microsoft.KeyVault/vaults/${vault}`;
  const app_insights_id = `${observability}/Microsoft.Insights/components/appi-${suffix}`;
  azure.put(key_vault_id, { enableRbacAuthorization: true });
  azure.put(app_insights_id);
  const rules = `${observability}/Microsoft.Insights/dataCollectionRules`;
  return {
    vault,
    appInsights: app_insights_id,
    values: {
      platform_acr_id: `${platform}/Microsoft.ContainerRegistry/registries/crupstream`,
      key_vault_id,
      key_vault_uri: `https://${vault}.vault.azure.net/`,
      aca_managed_identity_id: `${platform}/Microsoft.ManagedIdentity/userAssignedIdentities/id-reader`,
      app_insights_id,
      log_analytics_workspace_id: `${observability}/Microsoft.OperationalInsights/workspaces/log-upstream`,
      gateway_log_ingest_uri: `https://dce-ab12.eastus-1.ingest.monitor.azure.com/dataCollectionRules/dcr-${'0'.repeat(32)}/streams/Custom-APISIXGatewayLogs?api-version=2023-01-01`,
      gateway_log_ingest_dcr_id: `${rules}/dcr-logs`,
      azure_monitor_workspace_id: `${observability}/Microsoft.Monitor/accounts/amw-upstream`,
      azure_monitor_prometheus_endpoint: `https://amw-ab12.eastus-1.metrics.ingest.monitor.azure.com/dataCollectionRules/dcr-${'1'.repeat(32)}/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24`,
      azure_monitor_prometheus_dcr_id: `${rules}/dcr-prometheus`,
      gateway_image: 'crupstream.azurecr.io/genai-gateway:0.1.0',
    },
  };
}

/** A value for a secret setting, as the vault might have it. */
export const secretFor = (name: string): string =>
  name === 'APPLICATIONINSIGHTS_CONNECTION_STRING'
    ? `InstrumentationKey=${SUBSCRIPTION};IngestionEndpoint=https://eastus-8.in.applicationinsights.azure.com/`
    : `value-of-${name.toLowerCase().replaceAll('_', '-')}`;

/** A value of `terraform show -json` or of outputs. */
interface Change {
  readonly after?: unknown;
  /** True, or the same tree with true where a value is not known. */
  readonly after_unknown?: unknown;
}

export interface Resource {
  readonly address: string;
  readonly type: string;
  readonly values: Values;
}

interface Module {
  readonly resources?: readonly Resource[];
  readonly child_modules?: readonly Module[];
}

export interface Plan {
  readonly planned_values: {
    readonly outputs: Readonly<Record<string, { readonly value?: unknown }>>;
    readonly root_module: Module;
  };
  readonly output_changes: Readonly<Record<string, Change>>;
}

const resourcesOf = ({ resources = [], child_modules = [] }: Module): readonly Resource[] => [
  ...resources,
  ...child_modules.flatMap(resourcesOf),
];

/** All resources that a plan makes or keeps. */
export const plannedResources = (plan: Plan): readonly Resource[] =>
  resourcesOf(plan.planned_values.root_module);

/** Runs terraform on one double. States of several environments lie side by side. */
export class Deployment {
  private readonly applied: {
    readonly stack: string;
    readonly of: string;
    readonly args: readonly string[];
  }[] = [];

  constructor(
    readonly copy: TerraformCopy,
    readonly azure: AzureDouble,
  ) {}

  private terraform(stack: string, ...args: readonly string[]): Promise<Ran> {
    return this.copy.run(stack, args, this.azure.environment);
  }

  /** Initialises a stack without its backend: states are files in the copy. */
  async prepare(stack: string): Promise<void> {
    rmSync(this.copy.path(`${stack}/backend.tf`), { force: true });
    const { code, stderr } = await this.copy.init(stack);
    if (code !== 0) throw new Error(stderr);
  }

  /** Later values win. */
  private given(stack: string, of: string, file: string, values: Values): string[] {
    const json = `${of.replaceAll(/\W+/g, '-')}.json`;
    const all = { subscription_id: SUBSCRIPTION, tenant_id: TENANT, ...values };
    writeFileSync(this.copy.path(`${stack}/${json}`), JSON.stringify(all));
    return ['-input=false', '-no-color', `-var-file=${file}`, `-var-file=${json}`];
  }

  private stateOf = (of: string): string => `-state=${of.replaceAll(/\W+/g, '-')}.tfstate`;

  /** A first plan; `text` is all that terraform printed, of the plan too. */
  async plan(
    stack: string,
    of: string,
    file: string,
    values: Values,
  ): Promise<{ readonly code: number | null; readonly text: string; readonly plan: Plan }> {
    await this.prepare(stack);
    const saved = `${of.replaceAll(/\W+/g, '-')}.plan`;
    const args = [...this.given(stack, of, file, values), this.stateOf(of), `-out=${saved}`];
    const { code, stdout, stderr } = await this.terraform(stack, 'plan', ...args);
    // A plan that failed is saved, too.
    const shown = await this.terraform(stack, 'show', '-json', saved);
    return {
      code,
      text: stdout + stderr + shown.stdout,
      plan: code === 0 ? (JSON.parse(shown.stdout) as Plan) : NOTHING,
    };
  }

  /** Applies, and plans a second time; the code of that plan is 0 where nothing is left to do. */
  async apply(stack: string, of: string, file: string, values: Values = {}): Promise<Ran> {
    await this.prepare(stack);
    const args = [...this.given(stack, of, file, values), this.stateOf(of)];
    this.applied.push({ stack, of, args });
    const { code, stdout, stderr } = await this.terraform(stack, 'apply', '-auto-approve', ...args);
    if (code !== 0) throw new Error(`${of}: ${stack} was not applied:\n${stdout.slice(-2000)}\n${stderr}`);
    return this.terraform(stack, 'plan', '-detailed-exitcode', ...args);
  }

  /** What `terraform output` shows, with secrets. */
  async outputs(stack: string, of: string): Promise<Record<string, unknown>> {
    const { stdout } = await this.terraform(stack, 'output', '-json', this.stateOf(of));
    const outputs = JSON.parse(stdout) as Record<string, { readonly value: unknown }>;
    return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value]));
  }

  /** The text of each state of these stacks. */
  states(...stacks: readonly string[]): readonly string[] {
    return this.applied
      .filter(({ stack }) => stacks.includes(stack))
      .map(({ stack, of }) =>
        readFileSync(this.copy.path(`${stack}/${this.stateOf(of).replace('-state=', '')}`), 'utf8'),
      );
  }

  /** Of each environment the last that was applied first. */
  async destroyAll(): Promise<void> {
    const environments = new Set(this.applied.map(({ of }) => of));
    await Promise.all([...environments].map((of) => this.destroy(of)));
  }

  private async destroy(environment: string): Promise<void> {
    for (const { stack, of, args } of this.applied.toReversed().filter(({ of }) => of === environment)) {
      const { code, stdout, stderr } = await this.terraform(stack, 'destroy', '-auto-approve', ...args);
      if (code !== 0)
        throw new Error(`${of}: ${stack} was not destroyed:\n${stdout.slice(-2000)}\n${stderr}`);
    }
  }
}

const NOTHING: Plan = { planned_values: { outputs: {}, root_module: {} }, output_changes: {} };
