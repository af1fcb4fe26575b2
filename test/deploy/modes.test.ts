/** The options of `deploy`, with doubles of terraform, az and docker. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runHere } from '../support/cli.ts';
import { Doubles, deployHere, SETTINGS, SUBSCRIPTION, TFVARS } from '../support/deploy/doubles.ts';
import { ROOT } from '../support/repository.ts';

const TIMEOUT_MS = 60_000;

let doubles: Doubles;
beforeEach(async () => {
  doubles = await new Doubles().start();
});
afterEach(() => doubles.stop());

const applied = () => doubles.commands().filter((each) => each.startsWith('terraform apply'));
const valuesOf = (stack: string): Record<string, unknown> =>
  doubles.kept<{ readonly values: Record<string, unknown> }>(`states/${stack}.json`)?.values ?? {};

async function deployed(): Promise<void> {
  const { code, stderr } = await deployHere(doubles);
  expect(code, stderr).toBe(0);
  doubles.forget();
}

describe('deploy', () => {
  test(
    'applies the stacks in order, gives each what the others have, and deploys a digest',
    async () => {
      const { code, stdout, stderr } = await deployHere(doubles);
      expect(code, stderr).toBe(0);
      expect(applied().map((each) => each.split('@')[1])).toEqual([
        '00-bootstrap',
        '05-observability',
        '10-platform',
        '15-foundry',
        '20-workload',
      ]);
      expect(valuesOf('10-platform')).toMatchObject({
        environment_code: 'dev',
        location: 'westeurope',
        log_analytics_workspace_id: '/subscriptions/x/workspaces/log',
      });
      expect(valuesOf('20-workload')).toMatchObject({
        state_storage_account_name: 'stgenaidev1a2b3',
        foundation_state_blob_key: 'dev/10-platform.tfstate',
        openai_state_blob_key: 'dev/15-foundry.tfstate',
        use_provisioned_azure_openai: true,
        gateway_image: `acrgenaidev.azurecr.io/genai-gateway@sha256:${'1'.repeat(64)}`,
        app_settings: { GATEWAY_CLIENT_NAME_0: 'app', AI_PROXY_READ_TIMEOUT: '5m' },
        secret_settings: ['GATEWAY_CLIENT_KEY_0'],
        gateway_log_ingest_dcr_id: '/subscriptions/x/dcr',
      });
      // A stack gets only what it declares: Terraform warns of every other variable.
      expect(valuesOf('10-platform')).not.toHaveProperty('azure_openai_instances');
      expect(stdout).toMatch(/The gateway answers at http:\/\/127\.0\.0\.1:\d+$/m);
      expect(stdout).toContain("--vault-name 'kv-genai-dev' --name 'gateway-client-key-0'");
      expect(stdout).toContain('"model": "gpt-5-mini"');
    },
    TIMEOUT_MS,
  );

  test(
    'without changes changes nothing, and builds no image',
    async () => {
      await deployed();
      const { code, stderr } = await deployHere(doubles);
      expect(code).toBe(0);
      expect(applied()).toEqual([]);
      expect(doubles.commands().filter((each) => /init|acr build/.test(each))).toEqual([]);
      expect(stderr.match(/no changes/g)).toHaveLength(5);
    },
    TIMEOUT_MS,
  );

  test(
    'from another machine finds the state of the bootstrap stack, and changes nothing',
    async () => {
      await deployed();
      rmSync(join(doubles.folder, 'environments/.deploy'), { recursive: true });
      const { code, stderr } = await deployHere(doubles);
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/found the state of 00-bootstrap in the storage account stgenaidev1a2b3/);
      expect(applied()).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'stops if the storage for states exists, but not the state that made it',
    async () => {
      await deployed();
      rmSync(join(doubles.folder, 'environments/.deploy'), { recursive: true });
      rmSync(join(doubles.azure, 'blobs'), { recursive: true });
      const { code, stderr } = await deployHere(doubles);
      expect(code).toBe(3);
      expect(stderr).toMatch(/stgenaidev1a2b3 exists, but has no state of 00-bootstrap/);
      expect(applied()).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'asks before something is replaced, and takes yes or --yes',
    async () => {
      await deployed();
      doubles.keep('replace.json', true);
      doubles.write('environments/dev.env', `${SETTINGS}LB_ALG=chash\n`);
      const asked: string[] = [];
      const ask = (answer: string | undefined) => async (question: string) => {
        asked.push(question);
        return answer;
      };
      const unasked = await deployHere(doubles, {}, { ask: ask(undefined) });
      expect(unasked.code).toBe(3);
      expect(unasked.stderr).toMatch(/add --yes/);
      expect((await deployHere(doubles, {}, { ask: ask('no') })).code).toBe(3);
      expect(applied()).toEqual([]);
      expect((await deployHere(doubles, {}, { ask: ask('yes') })).code).toBe(0);
      expect(asked).toHaveLength(3);
      expect(asked[0]).toMatch(/One resource is deleted or replaced/);
    },
    TIMEOUT_MS,
  );

  test(
    'with existing accounts makes none, and with --no-azure-openai neither',
    async () => {
      const { code, stderr } = await deployHere(doubles, { azureOpenai: false });
      expect(code).toBe(1);
      expect(stderr).toMatch(/AZURE_OPENAI_ENDPOINT/);
      doubles.write(
        'environments/dev.env',
        `${SETTINGS}AZURE_OPENAI_ENDPOINT_0=https://contoso.openai.azure.com\nAZURE_OPENAI_AUTH_MODE_0=entra\n`,
      );
      const own = await deployHere(doubles, { azureOpenai: false });
      expect(own.code, own.stderr).toBe(0);
      expect(own.stderr).toMatch(/foundry: left out \(--no-azure-openai\)/);
      expect(applied()).not.toContain('terraform apply @15-foundry');
      expect(valuesOf('20-workload')).toMatchObject({ use_provisioned_azure_openai: false });
      expect(valuesOf('20-workload')).not.toHaveProperty('openai_state_blob_key', 'dev/15-foundry.tfstate');
    },
    TIMEOUT_MS,
  );

  test(
    'with --no-image-build keeps the image that runs, and without one says so',
    async () => {
      const first = await deployHere(doubles, { imageBuild: false });
      expect(first.code).toBe(3);
      expect(first.stderr).toMatch(/There is no image of the gateway yet/);
      await deployed();
      rmSync(join(doubles.azure, 'images.json'));
      expect((await deployHere(doubles, { imageBuild: false })).code).toBe(0);
      expect(doubles.commands()).not.toContain('az acr build');
      expect(applied()).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'with --local-docker builds and pushes with Docker',
    async () => {
      expect((await deployHere(doubles, { localDocker: true })).code).toBe(0);
      const calls = doubles.commands();
      expect(
        calls
          .filter((each) => /docker (build|push)|acr (login|build)/.test(each))
          .map((each) => each.split(' ').slice(0, 3).join(' ')),
      ).toEqual([
        'docker build --platform',
        'az acr login',
        expect.stringMatching(/^docker push acrgenaidev\.azurecr\.io\/genai-gateway:/),
      ]);
    },
    TIMEOUT_MS,
  );

  test(
    'with gateway_image builds none and deploys that',
    async () => {
      doubles.write(
        'environments/dev.tfvars',
        `${TFVARS}gateway_image = "ghcr.io/team/gateway@sha256:${'a'.repeat(64)}"\n`,
      );
      expect((await deployHere(doubles)).code).toBe(0);
      expect(doubles.commands()).not.toContain('az acr build');
      expect(valuesOf('20-workload').gateway_image).toBe(`ghcr.io/team/gateway@sha256:${'a'.repeat(64)}`);
    },
    TIMEOUT_MS,
  );

  test(
    'deploys secrets that are in the vault only, by their names',
    async () => {
      rmSync(join(doubles.folder, 'environments/dev.secrets.env'));
      doubles.write('environments/dev.tfvars', `${TFVARS}secret_settings = ["GATEWAY_CLIENT_KEY_0"]\n`);
      const { code, stderr } = await deployHere(doubles);
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/no file has secrets; those in the vault stay as they are/);
      expect(valuesOf('20-workload').secret_settings).toEqual(['GATEWAY_CLIENT_KEY_0']);
      expect(doubles.vault.size).toBe(0);
    },
    TIMEOUT_MS,
  );

  test(
    'with --stack runs that step only, by either name, and needs the ones before',
    async () => {
      const early = await deployHere(doubles, { stack: ['platform'] });
      expect(early.code).toBe(3);
      expect(early.stderr).toMatch(/dev is not deployed yet/);
      expect(early.stderr).toMatch(/Nothing was changed/);
      await deployed();
      doubles.write('environments/dev.tfvars', `${TFVARS}acr_sku = "Standard"\n`);
      const { code, stdout } = await deployHere(doubles, { stack: ['10-platform'] });
      expect(code).toBe(0);
      expect(applied()).toEqual(['terraform apply @10-platform']);
      expect(stdout).toBe('');
    },
    TIMEOUT_MS,
  );
});

test(
  'deploy takes the files that import writes of the accelerator’s, with a subscription and a key of their own',
  async () => {
    const fixtures = `${ROOT}/test/fixtures/azure/accelerator-prod`;
    const folder = join(doubles.folder, 'imported');
    const given = [`${fixtures}/foundry.tfvars`, `${fixtures}/workload.tfvars`];
    const imported = await runHere(['import', ...given, '--name', 'dev', '--out', folder]);
    expect(imported.code, imported.stderr).toBe(0);
    const edit = (name: string, change: (text: string) => string) =>
      writeFileSync(join(folder, name), change(readFileSync(join(folder, name), 'utf8')));
    edit('dev.tfvars', (text) =>
      text
        .replace(/^subscription_id .*/m, `subscription_id = "${SUBSCRIPTION}"`)
        .replace(/^tenant_id .*/m, ''),
    );
    edit('dev.secrets.env', (text) => text.replace(/prod-key-0/, doubles.key));
    const { code, stderr } = await deployHere(doubles, { environments: folder });
    expect(code, stderr).toBe(0);
    expect([...doubles.vault]).toEqual([['gateway-client-key-0', doubles.key]]);
    expect(valuesOf('15-foundry').azure_openai_instances).toHaveLength(2);
    expect(valuesOf('20-workload')).toMatchObject({
      environment_code: 'prod',
      secret_settings: ['GATEWAY_CLIENT_KEY_0'],
    });
  },
  TIMEOUT_MS,
);

describe('deploy --settings-only', () => {
  test(
    'makes a new revision for a changed setting, and shows what changes',
    async () => {
      await deployed();
      doubles.write('environments/dev.env', `${SETTINGS}LB_ALG=chash\n`.replace('5m', '6m'));
      const { code, stderr } = await deployHere(doubles, { settingsOnly: true });
      expect(code, stderr).toBe(0);
      expect(applied()).toEqual(['terraform apply @20-workload']);
      expect(stderr).toMatch(/update +module\.x\.azurerm_container_app\.this/);
      expect(stderr).toMatch(/→/);
      expect(doubles.kept<unknown[]>('revisions.json')).toHaveLength(2);
    },
    TIMEOUT_MS,
  );

  test(
    'makes a new revision for a changed secret, and lists it by name',
    async () => {
      await deployed();
      doubles.write('environments/dev.secrets.env', 'GATEWAY_CLIENT_KEY_0=another-key-of-this-client\n');
      const { code, stderr } = await deployHere(doubles, { settingsOnly: true });
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/GATEWAY_CLIENT_KEY_0: changed/);
      expect(stderr).not.toContain('another-key');
      expect(doubles.vault.get('gateway-client-key-0')).toBe('another-key-of-this-client');
      expect(doubles.kept<unknown[]>('revisions.json')).toHaveLength(2);
      // Nothing is left to do.
      doubles.forget();
      await deployHere(doubles, { settingsOnly: true });
      expect(applied()).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    'makes that revision in the next run, if this one stopped after the secret was written',
    async () => {
      await deployed();
      doubles.write('environments/dev.secrets.env', 'GATEWAY_CLIENT_KEY_0=another-key-of-this-client\n');
      doubles.faults({ match: 'terraform plan .*@20-workload', summary: 'no', detail: 'no' });
      expect((await deployHere(doubles, { settingsOnly: true })).code).toBe(3);
      expect((await deployHere(doubles, { settingsOnly: true })).code).toBe(0);
      expect(doubles.kept<unknown[]>('revisions.json')).toHaveLength(2);
    },
    TIMEOUT_MS,
  );

  test(
    'refuses a plan that changes anything else',
    async () => {
      await deployed();
      doubles.keep('replace.json', true);
      doubles.write('environments/dev.env', `${SETTINGS}LB_ALG=chash\n`);
      const { code, stderr } = await deployHere(doubles, { settingsOnly: true, yes: true });
      expect(code).toBe(3);
      expect(stderr).toMatch(/--settings-only would also change/);
      expect(applied()).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

describe('deploy --plan', () => {
  test('of a new environment plans the first stack, and says what cannot be planned yet', async () => {
    const { code, stdout, stderr } = await deployHere(doubles, { plan: true });
    expect(code).toBe(2);
    expect(stdout).toMatch(/\+ create +module\.x\.azurerm_storage_account\.this \(stgenaidev1a2b3\)/);
    expect(stderr.match(/cannot be planned before bootstrap is applied/g)).toHaveLength(6);
    expect(stderr).toMatch(/Nothing was changed/);
  });

  test(
    'changes nothing, takes no lock of a state, and shows objects, settings and secrets that change',
    async () => {
      await deployed();
      doubles.write('environments/dev.env', SETTINGS.replace('5m', '6m'));
      doubles.write('environments/dev.secrets.env', `GATEWAY_CLIENT_KEY_0=${doubles.key}x\n`);
      const { code, stdout, stderr } = await deployHere(doubles, { plan: true });
      expect(code, stderr).toBe(2);
      expect(applied()).toEqual([]);
      expect(doubles.vault.get('gateway-client-key-0')).toBe(doubles.key);
      for (const { args } of doubles.calls().filter(({ args: [first] }) => first === 'plan'))
        expect(args).toContain('-lock=false');
      expect(stdout).toMatch(/~ update +module\.x\.azurerm_container_app\.this .*template/);
      expect(stdout).toMatch(/→/);
      expect(stderr).toMatch(/GATEWAY_CLIENT_KEY_0: would be changed/);
      // Not a word about a revision that nobody made.
      expect((await deployHere(doubles, { plan: true })).code).toBe(2);
    },
    TIMEOUT_MS,
  );

  test(
    'without changes reports that, with the time of each step',
    async () => {
      await deployed();
      const { code, stdout, stderr } = await deployHere(doubles, { plan: true });
      expect(code, stderr).toBe(0);
      expect(stdout).toBe('');
      expect(stderr.match(/\(\d+\.\d s\)/g)).toHaveLength(7);
      expect(stderr).toMatch(/^Nothing would change\./m);
    },
    TIMEOUT_MS,
  );
});

describe('deploy --rollback', () => {
  async function twice(): Promise<void> {
    await deployed();
    doubles.write('environments/dev.env', SETTINGS.replace('5m', '6m'));
    expect((await deployHere(doubles)).code).toBe(0);
    doubles.forget();
  }

  test(
    'copies the revision before, and waits until it is ready',
    async () => {
      await twice();
      const { code, stdout, stderr } = await deployHere(doubles, { rollback: true, yes: true });
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/From ca-gw-genai-dev--0000002 back to ca-gw-genai-dev--0000001/);
      expect(stderr).toMatch(/→/);
      expect(applied()).toEqual([]);
      expect(doubles.kept<unknown[]>('revisions.json')).toHaveLength(3);
      expect(stdout).toMatch(/The gateway answers at/);
    },
    TIMEOUT_MS,
  );

  test(
    'with --plan lists what was deployed, and changes nothing',
    async () => {
      await twice();
      const { code, stdout } = await deployHere(doubles, { rollback: true, plan: true });
      expect(code).toBe(2);
      expect(stdout).toMatch(/ca-gw-genai-dev--0000001 .* inactive +Healthy +genai-gateway@sha256:1{12}$/m);
      expect(doubles.kept<unknown[]>('revisions.json')).toHaveLength(2);
    },
    TIMEOUT_MS,
  );

  test(
    'takes a name, and refuses one that does not exist',
    async () => {
      await twice();
      expect((await deployHere(doubles, { rollback: '0000001', yes: true })).code).toBe(0);
      const { code, stderr } = await deployHere(doubles, { rollback: 'nope', yes: true });
      expect(code).toBe(3);
      expect(stderr).toMatch(/there is no revision nope/);
    },
    TIMEOUT_MS,
  );

  test(
    'asks, and without an answer changes nothing',
    async () => {
      await twice();
      const { code, stderr } = await deployHere(doubles, { rollback: true });
      expect(code).toBe(3);
      expect(stderr).toMatch(/add --yes/);
      expect(doubles.kept<unknown[]>('revisions.json')).toHaveLength(2);
    },
    TIMEOUT_MS,
  );
});

describe('deploy --destroy', () => {
  test(
    'removes the stacks in the reverse order after the name is typed',
    async () => {
      await deployed();
      expect((await deployHere(doubles, { destroy: true }, { ask: async () => 'prod' })).code).toBe(3);
      expect(applied()).toEqual([]);
      const { code, stderr } = await deployHere(doubles, { destroy: true }, { ask: async () => 'dev' });
      expect(code, stderr).toBe(0);
      expect(applied().map((each) => each.split('@')[1])).toEqual([
        '20-workload',
        '15-foundry',
        '10-platform',
        '05-observability',
        '00-bootstrap',
      ]);
      expect(existsSync(join(doubles.folder, 'environments/.deploy/dev'))).toBe(false);
      expect(readFileSync(join(doubles.folder, 'environments/dev.tfvars'), 'utf8')).toBe(TFVARS);
    },
    TIMEOUT_MS,
  );

  test(
    'continues after a failure',
    async () => {
      await deployed();
      doubles.faults({
        match: 'terraform apply .*@10-platform',
        after: 1,
        summary: 'busy',
        detail: 'in use by x',
      });
      const first = await deployHere(doubles, { destroy: true, yes: true });
      expect(first.code).toBe(3);
      expect(first.stderr).toMatch(/^Done: {6}workload \(3 changes\), foundry \(1 change\)$/m);
      expect(first.stderr).toMatch(/^Not done: {2}observability, bootstrap$/m);
      doubles.forget();
      expect((await deployHere(doubles, { destroy: true, yes: true })).code).toBe(0);
      expect(applied().map((each) => each.split('@')[1])).toEqual([
        '10-platform',
        '05-observability',
        '00-bootstrap',
      ]);
    },
    TIMEOUT_MS,
  );

  test(
    'leaves the storage that has the states of others',
    async () => {
      await deployed();
      const blobs = join(doubles.azure, 'blobs');
      mkdirSync(blobs, { recursive: true });
      cpSync(join(blobs, 'dev+00-bootstrap.tfstate'), join(blobs, 'prod+20-workload.tfstate'));
      const { code, stderr } = await deployHere(doubles, { destroy: true, yes: true });
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/stays: it has states of others \(prod\/20-workload\.tfstate\)/);
      expect(applied()).not.toContain('terraform apply @00-bootstrap');
    },
    TIMEOUT_MS,
  );

  test('of what was never deployed has nothing to do', async () => {
    const { code, stderr } = await deployHere(doubles, { destroy: true });
    expect(code).toBe(0);
    expect(stderr).toMatch(/there is nothing to remove/);
  });
});
