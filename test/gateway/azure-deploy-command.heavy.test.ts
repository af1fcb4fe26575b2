/**
 * `deploy` with the real Terraform and the real providers on a double of Azure: the stacks applied in order, each with what
 * the others have, then planned again without a change, rolled forward by one setting, and removed. The doubles of az and of
 * the vault answer what Azure would. States are files: a double of Azure has no blobs.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SeedRequest } from '../../compiler/deploy/key-vault.ts';
import type { DeployOptions } from '../../compiler/deploy/options.ts';
import { type AzureDouble, SUBSCRIPTION, startAzureDouble, TENANT } from '../support/azure-double.ts';
import type { RunResult } from '../support/cli.ts';
import { Doubles, deployHere, TFVARS } from '../support/deploy/doubles.ts';
import { ROOT, repositoryFiles } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';

/** The providers wait for minutes until Azure is consistent. */
const PATIENCE_MS = 1_800_000;

const RULE = `/subscriptions/${SUBSCRIPTION}/resourceGroups/rg-managed/providers/Microsoft.Insights/dataCollectionRules/dcr-metrics`;

const STACKS = 'deploy/azure/stacks';

/** A package whose states are files in a folder. */
function packageWithLocalStates(states: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-package-'));
  const files = repositoryFiles(
    ...['deploy/azure', 'schemas', 'examples', 'docker', 'lua-plugins', 'templates', 'LICENSE'],
  );
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(ROOT, file), join(folder, file));
  }
  cpSync(join(ROOT, 'dist'), join(folder, 'dist'), { recursive: true });
  const edit = (file: string, change: (text: string) => string) => {
    const text = readFileSync(join(folder, file), 'utf8');
    const changed = change(text);
    expect(changed, file).not.toBe(text);
    writeFileSync(join(folder, file), changed);
  };
  for (const stack of ['05-observability', '10-platform', '15-foundry', '20-workload'])
    edit(`${STACKS}/${stack}/backend.tf`, () => 'terraform {\n  backend "local" {}\n}\n');
  edit(`${STACKS}/00-bootstrap/outputs.tf`, (text) =>
    text.replace(/<<-EOT[\s\S]*?EOT/, `"path = \\"${states}/\${var.environment_code}/<stack>.tfstate\\"\\n"`),
  );
  edit(`${STACKS}/20-workload/main.tf`, (text) =>
    text.replace(
      /backend = "azurerm"\n {2}config = \{[\s\S]*?\n {2}\}/,
      `backend = "local"\n  config = { path = "${states}/\${each.value}" }`,
    ),
  );
  return folder;
}

describe.skipIf(cannotRun('deploy with real Terraform on a double of Azure', 'terraform', 'openssl'))(
  'deploy with real Terraform',
  () => {
    let azure: AzureDouble;
    let doubles: Doubles;
    let source = '';
    let states = '';
    const seeded: SeedRequest['vaultUri'][] = [];

    beforeAll(async () => {
      azure = await startAzureDouble();
      doubles = await new Doubles().start();
      states = mkdtempSync(join(tmpdir(), 'genai-gateway-states-'));
      source = packageWithLocalStates(states);
      rmSync(join(doubles.azure, 'bin/terraform'));
      doubles.keep('login.json', {
        id: SUBSCRIPTION,
        name: 'Double',
        tenantId: TENANT,
        state: 'Enabled',
        user: { name: 'someone@example.com' },
      });
      // Azure makes this rule with the workspace, in a group of its own. The double has only what is put.
      azure.put(RULE);
      doubles.write(
        'environments/dev.tfvars',
        `${TFVARS.replace(/subscription_id .*/, `subscription_id = "${SUBSCRIPTION}"`).replace(/tenant_id .*/, `tenant_id = "${TENANT}"`)}
redis_kind = "container"
gateway_min_replicas = 0
gateway_max_replicas = 2
gateway_cpu_scale_threshold = null
key_vault_purge_protection_enabled = false
enable_dashboard = true
azure_monitor_prometheus_dcr_id = "${RULE}"
`,
      );
    });
    afterAll(async () => {
      await doubles?.stop();
      await azure?.stop();
      for (const folder of [source, states]) rmSync(folder, { recursive: true, force: true });
    });

    /** The revision that Azure would make of what Terraform has sent to the double. */
    function putRevision(): void {
      const id = azure
        .resources()
        .find((each) => /\/containerApps\/ca-gw-/i.test(each) && !/revisions/.test(each));
      if (id === undefined) return;
      const properties = azure.properties(id);
      doubles.keep('revisions.json', [
        {
          name: 'ca-gw--1',
          properties: {
            createdTime: '2026-12-01T00:00:00Z',
            active: true,
            provisioningState: 'Provisioned',
            healthState: 'Healthy',
            template: properties?.template,
          },
        },
      ]);
    }

    async function run(options: Partial<DeployOptions>): Promise<RunResult> {
      const { TERRAFORM, PATH = '' } = process.env;
      const ran = await deployHere(
        doubles,
        options,
        {
          source,
          seed: async ({ vaultUri, secrets }) => {
            seeded.push(vaultUri);
            return { unchanged: [...secrets.keys()], added: [], changed: [], recovered: [] };
          },
          statusOf: async () => {
            putRevision();
            return 200;
          },
        },
        {
          ...Object.fromEntries(
            Object.entries(process.env).flatMap(([name, value]) =>
              /^TF_CLI_CONFIG/.test(name) && value ? [[name, value]] : [],
            ),
          ),
          ...azure.environment,
          PATH: [join(doubles.azure, 'bin'), ...(TERRAFORM ? [dirname(TERRAFORM)] : []), PATH].join(':'),
        },
      );
      return ran;
    }

    test(
      'plans a new environment',
      async () => {
        const { code, stdout, stderr } = await run({ plan: true });
        expect(code, stderr).toBe(2);
        expect(stdout).toMatch(
          /\+ create +module\.state\.azurerm_storage_account\.this \(stgenaidevwe[0-9a-f]{5}\)/,
        );
      },
      PATIENCE_MS,
    );

    test(
      'applies all stacks in order',
      async () => {
        // The readiness is that of the double of az: it has the revision as soon as somebody asks.
        const timer = setInterval(putRevision, 1_000);
        const { code, stdout, stderr } = await run({});
        clearInterval(timer);
        expect(code, stderr).toBe(0);
        expect(stdout).toMatch(/The gateway answers at https:\/\/ca-gw-genai-dev-we\./);
        expect(seeded.at(-1)).toMatch(/^https:\/\/kv-genai-dev-we-[0-9a-f]{5}\.vault\.azure\.net\/$/);
        const app = azure.resources().find((each) => /\/containerApps\/ca-gw-/i.test(each));
        expect(JSON.stringify(azure.properties(app ?? ''))).toContain('genai-gateway@sha256:1111');
      },
      PATIENCE_MS,
    );

    test(
      'has nothing left to do then, and says how long each step took to look',
      async () => {
        putRevision();
        const { code, stderr } = await run({ plan: true });
        expect(code, stderr).toBe(0);
        expect(stderr).toMatch(/^Nothing would change\./m);
      },
      PATIENCE_MS,
    );

    test(
      'changes one object for one setting, and shows the change',
      async () => {
        doubles.write('environments/dev.env', 'GATEWAY_CLIENT_NAME_0=app\nAI_PROXY_READ_TIMEOUT=6m\n');
        const planned = await run({ plan: true, settingsOnly: true });
        expect(planned.code, planned.stderr).toBe(2);
        expect(planned.stdout.match(/~ update/g)).toHaveLength(1);
        expect(planned.stdout).toMatch(/module\.gateway\.azurerm_container_app\.this .*template/);
        expect(planned.stdout).toMatch(/read.*5m.*→.*6m|300.*→.*360/);
        // The collector has its secret in a container of its own, which is no change.
        expect(planned.stdout).not.toMatch(/collector/);
        const done = await run({ settingsOnly: true });
        expect(done.code, done.stderr).toBe(0);
      },
      PATIENCE_MS,
    );

    test(
      'removes everything',
      async () => {
        const { code, stderr } = await run({ destroy: true, yes: true });
        expect(code, stderr).toBe(0);
        expect(azure.resources().filter((id) => /\/rg-genai-dev[^/]*\/providers\//.test(id))).toEqual([]);
      },
      PATIENCE_MS,
    );
  },
);
