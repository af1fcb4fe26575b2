/**
 * docs/azure.md, followed from its first command to its last one: the stacks get each other's outputs by the commands of the
 * page and by the states in the storage account, on a double of Azure with the real providers.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AzureDouble, startAzureDouble } from '../support/azure-double.ts';
import { commandsOf, PageReader } from '../support/azure-page.ts';
import { cannotRun } from '../support/requirements.ts';
import { type Ran, TerraformCopy } from '../support/terraform.ts';
import { FILES } from '../terraform/folders.ts';

/** The providers wait for minutes until Azure is consistent. */
const PATIENCE_MS = 2_400_000;

type Json = Readonly<Record<string, unknown>>;

interface State {
  readonly outputs: Readonly<Record<string, { readonly value: unknown }>>;
}

interface ContainerApp {
  readonly configuration: {
    readonly secrets: readonly { readonly name: string; readonly keyVaultUrl: string }[];
    readonly registries: readonly { readonly server: string }[];
  };
  readonly template: {
    readonly containers: readonly {
      readonly name: string;
      readonly image: string;
      readonly env?: readonly { readonly name: string; readonly value?: string }[];
    }[];
  };
}

/** What somebody types at the prompt of step 5. */
const TYPED = 'what-was-typed-at-the-prompt';

const FIRST_ANSWER = 'From an empty subscription to the first answer';

/** Step 8 asks a gateway that runs, and the double runs none. */
const stepsUntilTheGateway = (): string[] =>
  commandsOf(FIRST_ANSWER).filter((commands) => !commands.includes('/openai/v1/'));

const cannot = cannotRun('docs/azure.md on a double of Azure', 'terraform', 'openssl', 'jq', 'bash', 'curl');

describe.skipIf(cannot).each(['dev', 'prod'])('a reader of docs/azure.md, with the values for %s', (name) => {
  let azure: AzureDouble;
  let copy: TerraformCopy;
  let reader: PageReader;
  let made: Ran;

  beforeAll(async () => {
    azure = await startAzureDouble();
    copy = new TerraformCopy(FILES);
    reader = new PageReader(copy, azure);
    const steps = stepsUntilTheGateway().map((commands) =>
      commands
        .replaceAll('.dev.example', `.${name}.example`)
        .replace('for client in 0;', name === 'prod' ? 'for client in 0 1;' : '$&'),
    );
    made = await reader.run(steps, TYPED);
  }, PATIENCE_MS);
  afterAll(async () => {
    copy?.remove();
    await azure?.stop();
  });

  const properties = (type: string): Json[] =>
    azure
      .resources()
      .filter((id) => new RegExp(`/providers/${type}/[^/]+$`, 'i').test(id))
      .map((id) => azure.properties(id) as Json);

  const gateway = (): ContainerApp => {
    const apps = properties('Microsoft.App/containerApps') as unknown as ContainerApp[];
    const found = apps.find(({ template }) => template.containers.some((each) => each.name === 'gateway'));
    if (found === undefined) throw new Error('there is no gateway');
    return found;
  };

  const outputs = (stack: string): Record<string, unknown> => {
    const [, text = '{}'] =
      [...azure.blobs()].find(([key]) => key.endsWith(`/${name}/${stack}.tfstate`)) ?? [];
    const state = JSON.parse(text) as State;
    return Object.fromEntries(Object.entries(state.outputs ?? {}).map(([each, { value }]) => [each, value]));
  };

  test('meets no error', () => {
    expect(made.code, `${made.stdout.slice(-2000)}\n${made.stderr}`).toBe(0);
  });

  test('has the state of every stack in the storage account, none of them locked or with a secret of a setting', () => {
    const blobs = azure.blobs();
    expect([...blobs.keys()].map((key) => key.replace(/.*?\/.*?\//, '')).sort()).toEqual(
      ['00-bootstrap', '05-observability', '10-platform', '15-foundry', '20-workload'].map(
        (stack) => `${name}/${stack}.tfstate`,
      ),
    );
    const vault = String(outputs('10-platform').key_vault_name);
    const secrets = gateway().configuration.secrets.map((each) => azure.secret(vault, each.name));
    expect(secrets.length).toBeGreaterThan(2);
    for (const [key, text] of blobs) {
      for (const secret of [TYPED, ...secrets, String(azure.environment.ARM_CLIENT_SECRET)]) {
        // The connection string is an output of its own stack, as the page says.
        if (key.endsWith('05-observability.tfstate') && /^InstrumentationKey=/.test(String(secret))) continue;
        expect(text).not.toContain(String(secret));
      }
    }
  });

  test('gives the gateway what the other stacks put out', () => {
    const platform = outputs('10-platform');
    const observability = outputs('05-observability');
    const app = gateway();
    const container = app.template.containers.find((each) => each.name === 'gateway');
    const env = Object.fromEntries((container?.env ?? []).map((each) => [each.name, each.value]));
    expect(app.configuration.registries).toMatchObject([{ server: platform.platform_acr_login_server }]);
    expect(container?.image).toMatch(`${platform.platform_acr_login_server}/genai-gateway:`);
    expect(env).toMatchObject({
      APIM_GATEWAY_LOGS_INGEST_URI: observability.gateway_logs_ingest_uri,
      ENVIRONMENT: name,
    });
    expect(String(observability.azure_monitor_prometheus_remote_write_endpoint)).toContain(
      String(env.AZURE_MONITOR_WORKSPACE_ENDPOINT),
    );
    const accounts = outputs('15-foundry').azure_openai_endpoints as { endpoint: string }[];
    expect(accounts.length).toBeGreaterThan(0);
    for (const [index, { endpoint }] of accounts.entries())
      expect(env[`AZURE_OPENAI_ENDPOINT_${index}`]).toBe(endpoint);
    expect(properties('Microsoft.App/managedEnvironments')).toHaveLength(1);
    expect(JSON.stringify(outputs('20-workload'))).not.toContain('InstrumentationKey');
  });

  test('gives the gateway each right on what the other stacks made', () => {
    const { principalId } = properties('Microsoft.ManagedIdentity/userAssignedIdentities').find(
      (each) => each.principalId === outputs('20-workload').gateway_identity_principal_id,
    ) as { principalId: string };
    const scopes = properties('Microsoft.Authorization/roleAssignments')
      .filter((each) => each.principalId === principalId)
      .map(({ scope }) => scope);
    const observability = outputs('05-observability');
    expect(scopes).toEqual(
      expect.arrayContaining([
        outputs('10-platform').platform_acr_id,
        observability.gateway_logs_dcr_id,
        observability.azure_monitor_prometheus_dcr_id,
        ...(outputs('15-foundry').azure_openai_endpoints as { resource_id: string }[]).map(
          (each) => each.resource_id,
        ),
      ]),
    );
  });

  test('has put every secret that the gateway refers to into the vault', () => {
    const vault = String(outputs('10-platform').key_vault_name);
    for (const { name: secret, keyVaultUrl } of gateway().configuration.secrets) {
      expect(keyVaultUrl).toBe(`https://${vault}.vault.azure.net/secrets/${secret}`);
      expect(azure.secret(vault, secret), secret).toMatch(/^\S+$/);
    }
    // The command that prompts is an example, of a setting that this gateway does not have.
    expect(azure.secret(vault, 'azure-openai-key-5')).toBe(TYPED);
    expect(made.stdout + made.stderr).not.toContain(TYPED);
  });

  test('built the image that the gateway runs, and pushed it', () => {
    const image = gateway().template.containers.find((each) => each.name === 'gateway')?.image ?? '';
    expect(reader.asked('docker')).toEqual([
      expect.stringMatching(new RegExp(`^build .*--tag ${image} `)),
      `push ${image}`,
    ]);
  });

  test(
    'has nothing left to do when the last stack is planned once more',
    async () => {
      const { code, stdout, stderr } = await reader.run([
        'terraform -chdir=20-workload plan -detailed-exitcode -no-color',
      ]);
      expect(code, stdout.slice(-3000) + stderr).toBe(0);
    },
    PATIENCE_MS,
  );

  test(
    'changes settings only, after the check of what is planned',
    async () => {
      const [change = ''] = commandsOf('Change settings only');
      const edit = `sed -i 's/^app_settings = {/&\\n  LB_ALG = "latency"/' 20-workload/terraform.tfvars`;
      const { code, stdout, stderr } = await reader.run([edit, change]);
      expect(code, stdout.slice(-3000) + stderr).toBe(0);
      expect(stdout).toContain('0 to add, 1 to change, 0 to destroy');
      const container = gateway().template.containers.find((each) => each.name === 'gateway');
      expect(container?.env).toContainEqual(expect.objectContaining({ name: 'LB_ALG', value: 'latency' }));
    },
    PATIENCE_MS,
  );

  test(
    'does not apply settings that the check refuses',
    async () => {
      const [change = ''] = commandsOf('Change settings only');
      const edit = `sed -i 's/LB_ALG = "latency"/LB_ALG = "fastest"/' 20-workload/terraform.tfvars`;
      const { code, stdout, stderr } = await reader.run([edit, change]);
      expect(code, stderr).toBe(0);
      expect(stdout + stderr).toMatch(/LB_ALG[\s\S]*the value is not usable/);
      expect(stdout).not.toContain('Apply complete');
      const container = gateway().template.containers.find((each) => each.name === 'gateway');
      expect(container?.env).toContainEqual(expect.objectContaining({ name: 'LB_ALG', value: 'latency' }));
    },
    PATIENCE_MS,
  );

  test(
    'removes everything',
    async () => {
      const { code, stdout, stderr } = await reader.run(commandsOf('Remove everything'));
      expect(code, stdout.slice(-3000) + stderr).toBe(0);
      expect(azure.resources()).toEqual([]);
    },
    PATIENCE_MS,
  );

  test('asked nothing of a name that the double does not play', () => {
    expect(azure.calls.filter(({ status, method }) => method === 'CONNECT' && status === 403)).toEqual([]);
  });
});
