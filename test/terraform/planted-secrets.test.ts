/** Secrets where they do not belong, in the variable files of the workload: refused, with what to write, and never printed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Deployment,
  ENVIRONMENTS,
  putUpstream,
  type Upstream,
  WORKLOAD,
} from '../support/azure-deployment.ts';
import { type AzureDouble, SUBSCRIPTION, startAzureDouble, TENANT } from '../support/azure-double.ts';
import { cannotRun } from '../support/requirements.ts';
import { TerraformCopy } from '../support/terraform.ts';
import { FILES } from './folders.ts';

const PATIENCE_MS = 300_000;
const PLANTED = 'planted-4f1c9a2be07d';

interface Case {
  readonly about: string;
  /** As somebody writes it in terraform.tfvars. */
  readonly written: string;
  /** Of the message, in one line. */
  readonly says: RegExp;
}

const backend = `[{ name = "a", endpoint = "https://a.openai.azure.com", location = "swedencentral", resource_id = "/subscriptions/${SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/a" }]`;

const CASES: readonly Case[] = [
  {
    about: 'the accelerator’s map of secrets, in one line',
    written: `secrets = { GATEWAY_CLIENT_KEY_0 = "${PLANTED}" }`,
    says: /secrets is not empty.*secret_settings.*az keyvault secret set/,
  },
  {
    about: 'the accelerator’s map of secrets, a line each',
    written: `secrets = {\n  GATEWAY_CLIENT_KEY_0 = "${PLANTED}"\n}`,
    says: /secrets is not empty.*secret_settings.*az keyvault secret set/,
  },
  {
    about: 'the connection string of Application Insights',
    written: `app_insights_connection_string = "InstrumentationKey=${PLANTED}"`,
    says: /app_insights_connection_string is not empty.*app_insights_id/,
  },
  {
    about: 'a secret setting among the others',
    written: `app_settings = {\n  GATEWAY_CLIENT_NAME_0 = "chat"\n  GATEWAY_CLIENT_KEY_0  = "${PLANTED}"\n}`,
    says: /app_settings has a secret.*az keyvault secret set.*secret_settings/,
  },
  {
    about: 'a secret setting among values of a wrong type',
    written: `app_settings = {\n  GATEWAY_CLIENT_KEY_0 = "${PLANTED}"\n  LB_ALG = ["latency"]\n}`,
    says: /app_settings.*string required/,
  },
  {
    about: 'values in the place of names',
    written: `secret_settings = ["GATEWAY_CLIENT_KEY_0=${PLANTED}"]`,
    says: /secret_settings has something that is not the name of a setting.*GATEWAY_CLIENT_KEY_0/,
  },
  {
    about: 'a map of values in the place of a list of names',
    written: `secret_settings = {\n  GATEWAY_CLIENT_KEY_0 = "${PLANTED}"\n}`,
    says: /secret_settings.*set of string required/,
  },
  {
    about: 'a webhook’s token in an address that Azure does not call',
    written: `alert_webhook_receivers = [{ name = "chat", uri = "http://example.com/hook?token=${PLANTED}" }]`,
    says: /alert_webhook_receivers has an entry that is not complete.*https/,
  },
  {
    about: 'a webhook’s token in an entry that lacks its name',
    written: `alert_webhook_receivers = [\n  { uri = "https://example.com/hook?token=${PLANTED}" },\n]`,
    says: /alert_webhook_receivers.*attribute "name" is required/,
  },
  {
    about: 'a key for a backend that Terraform provisions',
    written: `azure_openai_backends = ${backend}\napp_settings = { AZURE_OPENAI_KEY_0 = "${PLANTED}" }`,
    says: /app_settings has a secret/,
  },
];

describe.skipIf(cannotRun('plans of deploy/azure with secrets in them', 'terraform', 'openssl'))(
  'the workload with a secret in its variables:',
  () => {
    let azure: AzureDouble;
    let deployment: Deployment;
    let upstream: Upstream;
    beforeAll(async () => {
      azure = await startAzureDouble();
      deployment = new Deployment(new TerraformCopy(FILES), azure);
      upstream = putUpstream(azure, 'planted');
      await deployment.prepare(WORKLOAD);
    }, PATIENCE_MS);
    afterAll(async () => {
      deployment?.copy.remove();
      await azure?.stop();
    });

    /** What a plan prints: with our example for dev, and these lines after it. */
    async function planned(name: string, written: string): Promise<{ code: number | null; printed: string }> {
      const file = `${name}.tfvars`;
      const values = `${name}.json`;
      const { copy } = deployment;
      writeFileSync(join(copy.path(WORKLOAD), file), `${written}\n`);
      const given = { ...upstream.values, subscription_id: SUBSCRIPTION, tenant_id: TENANT };
      writeFileSync(join(copy.path(WORKLOAD), values), JSON.stringify(given));
      const files = [ENVIRONMENTS['our dev']?.workload ?? '', values, file].map(
        (each) => `-var-file=${each}`,
      );
      const { code, stdout, stderr } = await copy.run(
        WORKLOAD,
        ['plan', '-input=false', '-no-color', `-state=${name}.tfstate`, ...files],
        azure.environment,
      );
      return { code, printed: (stdout + stderr).replaceAll(/[\s│╷╵]+/g, ' ') };
    }

    test.each(CASES)(
      '$about is refused, and not printed',
      async ({ about, written, says }) => {
        const { code, printed } = await planned(about.replaceAll(/\W+/g, '-'), written);
        expect(code, printed.slice(-2000)).toBe(1);
        expect(printed).toMatch(says);
        expect(printed).not.toContain(PLANTED);
      },
      PATIENCE_MS,
    );

    test(
      'the address of a webhook is not in the plan that is shown',
      async () => {
        const uri = `https://example.com/hook?token=${PLANTED}`;
        const { code, printed } = await planned(
          'webhook',
          `use_provisioned_azure_openai = false\nenable_alerts = true\nalert_webhook_receivers = [{ name = "chat", uri = "${uri}" }]`,
        );
        expect(code, printed.slice(-2000)).toBe(0);
        expect(printed).toMatch(/webhook_receiver \{ \+ name = "chat"/);
        expect(printed).not.toContain(PLANTED);
      },
      PATIENCE_MS,
    );

    test(
      'what alerts need is checked before there are alerts',
      async () => {
        const { code, printed } = await planned('threshold', 'alert_unserved_budget_percent = 50');
        expect(code, printed.slice(-2000)).toBe(1);
        expect(printed).toContain('alert_unserved_budget_percent is not valid');
      },
      PATIENCE_MS,
    );
  },
);
