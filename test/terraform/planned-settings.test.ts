/**
 * What the plan of the workload gives the gateway's containers: the accelerator's examples and our own, completed with what
 * other stacks put out, pass the program's own check, and no secret is in a plan.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Deployment,
  ENVIRONMENTS,
  FOUNDRY,
  type Plan,
  plannedResources,
  putUpstream,
  secretFor,
  type Upstream,
  type Values,
  WORKLOAD,
} from '../support/azure-deployment.ts';
import { type AzureDouble, SUBSCRIPTION, startAzureDouble } from '../support/azure-double.ts';
import { runHere } from '../support/cli.ts';
import { cannotRun } from '../support/requirements.ts';
import { TerraformCopy } from '../support/terraform.ts';
import { FILES } from './folders.ts';

const PATIENCE_MS = 300_000;

const group = `/subscriptions/${SUBSCRIPTION}/resourceGroups/rg-foundry/providers`;

/** What Azure decides when the plan is applied. */
const DECIDED: Readonly<Record<string, string>> = {
  AZURE_CLIENT_ID: '0f8fad5b-d9cb-469f-a165-70867728950e',
  RESPONSES_AFFINITY_REDIS_HOST: 'amr-planned.eastus.redis.azure.net',
  AI_RATE_LIMIT_REDIS_HOST: 'amr-planned.eastus.redis.azure.net',
};

interface Backend {
  readonly name: string;
  readonly endpoint: string;
  readonly priority: number;
  readonly weight: number;
  readonly resource_id?: string;
}

/** The accounts as 15-foundry puts them out, with ids, which a plan does not know yet. */
const backendsOf = (plan: Plan): Backend[] =>
  ((plan.output_changes.azure_openai_endpoints?.after ?? []) as Backend[]).map((backend) => ({
    ...backend,
    resource_id: `${group}/Microsoft.CognitiveServices/accounts/${backend.name}`,
  }));

/** Its network, if it makes one. */
function networkOf(plan: Plan): Values {
  const { virtual_network_id, container_apps_subnet_prefix } = plan.output_changes;
  if (virtual_network_id?.after === '') return {};
  const network = `${group}/Microsoft.Network`;
  const zones = { key_vault: 'privatelink.vaultcore.azure.net', redis: 'privatelink.redis.azure.net' };
  return {
    virtual_network_id: `${network}/virtualNetworks/vnet-planned`,
    container_apps_subnet_id: `${network}/virtualNetworks/vnet-planned/subnets/container-apps`,
    container_apps_subnet_prefix: container_apps_subnet_prefix?.after,
    private_endpoints_subnet_id: `${network}/virtualNetworks/vnet-planned/subnets/private-endpoints`,
    private_dns_zone_ids: Object.fromEntries(
      Object.entries(zones).map(([key, zone]) => [key, `${network}/privateDnsZones/${zone}`]),
    ),
  };
}

interface Env {
  readonly name: string;
  readonly value?: string | null;
  readonly secret_name?: string | null;
}

interface ContainerApp {
  readonly secret: readonly { readonly name: string; readonly key_vault_secret_id: string }[];
  readonly template: readonly {
    readonly container: readonly { readonly name: string; readonly env?: readonly Env[] }[];
    readonly init_container: readonly { readonly name: string; readonly env?: readonly Env[] }[];
  }[];
}

/** The variables of a container; those that Azure decides, and a value for each secret. */
function variablesOf(env: readonly Env[]): Record<string, string> {
  return Object.fromEntries(
    env.map(({ name, value, secret_name }) => [
      name,
      secret_name ? secretFor(name) : (value ?? DECIDED[name] ?? ''),
    ]),
  );
}

describe.skipIf(cannotRun('plans of deploy/azure', 'terraform', 'openssl'))(
  'the plan of the workload',
  () => {
    let azure: AzureDouble;
    let deployment: Deployment;
    let upstream: Upstream;
    beforeAll(async () => {
      azure = await startAzureDouble();
      deployment = new Deployment(new TerraformCopy(FILES), azure);
      upstream = putUpstream(azure, 'planned');
    });
    afterAll(async () => {
      deployment?.copy.remove();
      await azure?.stop();
    });

    test.each(['dev', 'prod'])(
      'refuses the secrets in the accelerator’s example for %s, says what to write instead, and shows none of them',
      async (name) => {
        const file = ENVIRONMENTS[`the accelerator's ${name}`]?.workload ?? '';
        expect(readFileSync(file, 'utf8')).toContain(`"${name}-key-0"`);
        const { code, text } = await deployment.plan(WORKLOAD, 'refused', file, upstream.values);
        expect(code).toBe(1);
        expect(text.replaceAll(/\s+/g, ' ')).toMatch(/secret_settings.*az keyvault secret set/);
        // A recent Terraform also writes the plan that failed, with all variables, if it is told to with -out.
        const [printed = ''] = text.split('{"format_version"');
        expect(printed).not.toContain(`${name}-key-0`);
      },
      PATIENCE_MS,
    );

    describe.each(Object.entries(ENVIRONMENTS))('for %s', (of, { foundry, workload, completed }) => {
      let backends: Backend[] = [];
      let plan: Plan;
      let text = '';
      let app: ContainerApp;
      beforeAll(async () => {
        const accounts = await deployment.plan(FOUNDRY, of, foundry, {});
        expect(accounts.code, accounts.text).toBe(0);
        backends = backendsOf(accounts.plan);
        const planned = await deployment.plan(WORKLOAD, of, workload, {
          ...upstream.values,
          use_provisioned_azure_openai: true,
          azure_openai_backends: backends,
          ...networkOf(accounts.plan),
          ...completed,
        });
        expect(planned.code, planned.text).toBe(0);
        ({ plan, text } = planned);
        app = plannedResources(plan).find(({ address }) => /^module\.gateway\..*container_app/.test(address))
          ?.values as unknown as ContainerApp;
      }, PATIENCE_MS);

      const template = () => app.template[0] as ContainerApp['template'][number];
      const envOf = (name: string) =>
        [...template().container, ...template().init_container].find((each) => each.name === name)?.env ?? [];

      test('gives the container that renders and the gateway settings that pass the check', async () => {
        for (const container of ['render', 'gateway']) {
          const { GATEWAY_SHARED_DIR: _, ...env } = variablesOf(envOf(container));
          const { code, stdout, stderr } = await runHere(['check', '--format', 'json'], { env });
          const { diagnostics } = JSON.parse(stdout) as {
            diagnostics: readonly { readonly severity: string }[];
          };
          expect(
            diagnostics.filter(({ severity }) => severity !== 'info'),
            stderr,
          ).toEqual([]);
          expect(code).toBe(0);
        }
      });

      test('gives it each provisioned account as a backend that is called with Entra ID', () => {
        expect(backends.length).toBeGreaterThan(0);
        const env = variablesOf(envOf('gateway'));
        for (const [index, { name, endpoint, priority, weight }] of backends.entries()) {
          expect(env).toMatchObject({
            [`AZURE_OPENAI_ENDPOINT_${index}`]: endpoint,
            [`AZURE_OPENAI_NAME_${index}`]: name,
            [`AZURE_OPENAI_PRIORITY_${index}`]: String(priority),
            [`AZURE_OPENAI_WEIGHT_${index}`]: String(weight),
            [`AZURE_OPENAI_AUTH_MODE_${index}`]: 'entra',
          });
        }
      });

      test('reads every secret from the vault', () => {
        const named = new Set(app.secret.map(({ name }) => name));
        const used = [...template().container, ...template().init_container]
          .flatMap(({ env = [] }) => env)
          .flatMap(({ secret_name }) => (secret_name ? [secret_name] : []));
        expect(new Set(used)).toEqual(named);
        expect(used).toContain('gateway-client-key-0');
        for (const { name, key_vault_secret_id } of app.secret)
          expect(key_vault_secret_id).toBe(`https://${upstream.vault}.vault.azure.net/secrets/${name}`);
      });

      test('puts out the same settings and names of secrets', () => {
        const { gateway_settings, secret_settings, secret_names } = plan.output_changes;
        const env = envOf('gateway').filter(({ name }) => name !== 'GATEWAY_SHARED_DIR');
        const [secret, plain] = [
          env.filter(({ secret_name }) => secret_name),
          env.filter(({ secret_name }) => !secret_name),
        ];
        expect(plain.map(({ name }) => name).sort()).toEqual(
          [
            ...Object.keys(gateway_settings?.after ?? {}),
            ...Object.keys(gateway_settings?.after_unknown ?? {}),
          ].sort(),
        );
        expect(Object.keys(secret_settings?.after ?? {})).toEqual(
          expect.arrayContaining(secret.map(({ name }) => name)),
        );
        expect(secret_names?.after).toEqual(app.secret.map(({ name }) => name).sort());
      });

      test('assigns every role on a single resource', () => {
        const roles = plannedResources(plan).filter(({ type }) => type === 'azurerm_role_assignment');
        expect(roles.length).toBeGreaterThan(0);
        for (const { values } of roles)
          expect(values.scope).toMatch(/^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/.+/);
      });

      test('holds no secret', () => {
        const connectionString = azure.properties(upstream.appInsights)?.ConnectionString;
        for (const secret of [connectionString, azure.environment.ARM_CLIENT_SECRET])
          expect(text).not.toContain(String(secret));
      });
    });
  },
);
