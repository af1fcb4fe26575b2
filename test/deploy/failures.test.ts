/**
 * `deploy` with doubles of terraform, az and docker, where something fails: it says what was done, what was not and how to
 * go on, and running it again continues.
 */
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Doubles, deployHere, SHORT, SUBSCRIPTION, TFVARS } from '../support/deploy/doubles.ts';

const TIMEOUT_MS = 60_000;

let doubles: Doubles;
beforeEach(async () => {
  doubles = await new Doubles().start();
});
afterEach(() => doubles.stop());

const applied = () => doubles.commands().filter((each) => each.startsWith('terraform apply'));
const NOTHING = /^Nothing was changed\.$/m;
const AGAIN = /^To go on, run it again: genai-gateway deploy dev/m;

describe('before anything is touched, deploy stops', () => {
  const untouched = () => {
    expect(doubles.commands().filter((each) => !/version|account/.test(each))).toEqual([]);
    expect(existsSync(join(doubles.folder, 'environments/.deploy'))).toBe(false);
  };

  test('without a login, and says how to sign in', async () => {
    rmSync(join(doubles.azure, 'login.json'));
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(3);
    expect(stderr).toMatch(/Azure CLI is not signed in/);
    expect(stderr).toMatch(/^Sign in: az login$/m);
    expect(stderr).toMatch(NOTHING);
    untouched();
  });

  test('if the login has no such subscription', async () => {
    doubles.write(
      'environments/dev.tfvars',
      TFVARS.replace(SUBSCRIPTION, '99999999-8d1a-4f3a-9a55-6f5f3a3f7b10'),
    );
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(3);
    expect(stderr).toMatch(/has no subscription 99999999-8d1a-4f3a-9a55-6f5f3a3f7b10/);
    expect(stderr).toMatch(/az login --tenant/);
    untouched();
  });

  test('if the subscription is of another tenant', async () => {
    doubles.write('environments/dev.tfvars', TFVARS.replace(/tenant_id .*/, `tenant_id = "${SUBSCRIPTION}"`));
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(3);
    expect(stderr).toMatch(/belongs to the tenant/);
    untouched();
  });

  test('if the shell names another subscription', async () => {
    const { code, stderr } = await deployHere(doubles, {}, {}, { AZURE_SUBSCRIPTION_ID: 'another' });
    expect(code).toBe(3);
    expect(stderr).toMatch(/AZURE_SUBSCRIPTION_ID of your shell names another one/);
  });

  test('if tools are missing or too old, and names all of them at once', async () => {
    rmSync(join(doubles.azure, 'bin/docker'));
    const { code, stderr } = await deployHere(
      doubles,
      { localDocker: true },
      {},
      // Without the folders of the system: a real docker must not be found.
      {
        DOUBLE_TERRAFORM: '1.9.8',
        DOUBLE_AZ: '2.30.0',
        PATH: `${join(doubles.azure, 'bin')}:${nodeAlone()}`,
      },
    );
    expect(code).toBe(3);
    expect(stderr).toMatch(/terraform 1\.9\.8 is too old: 1\.11\.0 or later/);
    expect(stderr).toMatch(/az 2\.30\.0 is too old/);
    expect(stderr).toMatch(/docker cannot be started: it is not installed/);
    untouched();
  });

  test('if variables, tools and settings are wrong, with all that is wrong in all three', async () => {
    doubles.write('environments/dev.tfvars', 'location = "westeurope"\nlocaton = "x"\n');
    doubles.write('environments/dev.env', 'GATEWAY_CLIENT_NAME_0=app\nLB_ALG=random\n');
    const { code, stderr } = await deployHere(doubles, {}, {}, { DOUBLE_TERRAFORM: '1.9.8' });
    expect(code).toBe(3);
    expect(stderr).toMatch(/subscription_id: it is missing/);
    expect(stderr).toMatch(/locaton: /);
    expect(stderr).toMatch(/terraform 1\.9\.8 is too old/);
    expect(stderr).toMatch(/LB_ALG/);
    expect(stderr).toMatch(/The settings have errors: see above/);
    expect(stderr).toMatch(NOTHING);
    untouched();
  });

  test('if the settings have errors, with all of them', async () => {
    doubles.write(
      'environments/dev.env',
      'GATEWAY_CLIENT_NAME_0=app\nAI_PROXY_READ_TIMEOUT=soon\nLB_ALG=random\n',
    );
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(1);
    expect(stderr).toMatch(/AI_PROXY_READ_TIMEOUT/);
    expect(stderr).toMatch(/LB_ALG/);
    expect(stderr).toMatch(NOTHING);
    untouched();
  });

  test('if a client has no key, neither in a file nor by name, and says where names go', async () => {
    rmSync(join(doubles.folder, 'environments/dev.secrets.env'));
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(1);
    expect(stderr).toMatch(/GATEWAY_CLIENT_KEY_0/);
    expect(stderr).toMatch(/secret_settings of .*dev\.tfvars/);
  });

  test('if the variables cannot be right, with all problems at once', async () => {
    doubles.write(
      'environments/dev.tfvars',
      `${TFVARS}gateway_imagee = "x"\nsecrets = { A = "b" }\napp_settings = { AI_PROXY_READ_TIMEOUT = "1m" }\nsecret_settings = ["GATEWAY_CLIENT_NAME_0"]\n`,
    );
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(3);
    expect(stderr).toMatch(/gateway_imagee: no stack has this variable\. Did you mean gateway_image\?/);
    expect(stderr).toMatch(/secrets: a tfvars file must have no secrets/);
    expect(stderr).toMatch(/app_settings: AI_PROXY_READ_TIMEOUT is also in NAME\.env/);
    expect(stderr).toMatch(
      /secret_settings: GATEWAY_CLIENT_NAME_0: both a setting that is not secret and a secret/,
    );
    untouched();
  });

  test('if the file of variables is missing or cannot be read', async () => {
    doubles.write('environments/dev.tfvars', 'subscription_id = ');
    const broken = await deployHere(doubles);
    expect(broken.code).toBe(3);
    expect(broken.stderr).toMatch(/dev\.tfvars/);
    rmSync(join(doubles.folder, 'environments/dev.tfvars'));
    const missing = await deployHere(doubles);
    expect(missing.code).toBe(3);
    expect(missing.stderr).toMatch(/dev\.tfvars does not exist/);
    untouched();
  });
});

describe('a step that fails', () => {
  test(
    'because a role has no effect yet is repeated until it has',
    async () => {
      doubles.faults(
        {
          match: 'terraform init .*@05-observability',
          times: 3,
          stderr:
            'Error: StatusCode=403 Code="AuthorizationPermissionMismatch" This request is not authorized',
        },
        {
          match: 'terraform apply .*@20-workload',
          after: 2,
          times: 2,
          summary: 'creating Secret',
          detail: 'Code="Forbidden" InnerError={"code": "ForbiddenByRbac"}',
        },
      );
      const { code, stderr } = await deployHere(doubles, {}, { patience: { ...SHORT, roleMs: TIMEOUT_MS } });
      expect(stderr).toMatch(/waiting for a role that was just assigned to take effect/);
      expect(code).toBe(0);
      expect(applied().filter((each) => each.endsWith('20-workload'))).toHaveLength(2);
    },
    TIMEOUT_MS,
  );

  test(
    'because a role never has an effect ends with what was done, and goes on when it has',
    async () => {
      doubles.faults({
        match: 'terraform plan .*@10-platform',
        times: 1000,
        summary: 'Error loading state',
        detail: 'StatusCode=403, AuthorizationPermissionMismatch',
      });
      const first = await deployHere(doubles);
      expect(first.code).toBe(3);
      expect(first.stderr).toMatch(/^Done: {6}bootstrap \(2 changes\), observability \(2 changes\)$/m);
      expect(first.stderr).toMatch(/^Stopped: {3}platform$/m);
      expect(first.stderr).toMatch(/^Not done: {2}foundry, image, secrets, workload, ready$/m);
      expect(first.stderr).toMatch(/Azure still denies access/);
      expect(first.stderr).toMatch(AGAIN);
      doubles.faults();
      doubles.forget();
      expect((await deployHere(doubles)).code).toBe(0);
      expect(applied()).toEqual([
        'terraform apply @10-platform',
        'terraform apply @15-foundry',
        'terraform apply @20-workload',
      ]);
    },
    TIMEOUT_MS,
  );

  test('because the login lacks a right is not repeated, and names the right', async () => {
    doubles.faults({
      match: 'terraform apply .*@10-platform',
      after: 2,
      times: 5,
      summary: 'unexpected status 403',
      detail:
        "AuthorizationFailed: The client 'a' does not have authorization to perform action 'Microsoft.Authorization/roleAssignments/write' over scope 'x'",
    });
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(3);
    expect(stderr).toMatch(/lacks the right Microsoft\.Authorization\/roleAssignments\/write/);
    expect(stderr).toMatch(/^Stopped: {3}platform \(2 changes were made\)$/m);
    expect(applied().filter((each) => each.endsWith('10-platform'))).toHaveLength(1);
  });

  test(
    'half way in a stack continues with what is missing',
    async () => {
      doubles.faults({
        match: 'terraform apply .*@10-platform',
        after: 1,
        summary: 'the name of the vault is taken',
        detail: 'VaultAlreadyExists: The vault name is already in use.',
      });
      const first = await deployHere(doubles);
      expect(first.code).toBe(3);
      expect(first.stderr).toMatch(/azurerm_key_vault\.this: the name of the vault is taken/);
      expect(first.stderr).toMatch(/Set another identifier/);
      expect(first.stderr).toMatch(/^Stopped: {3}platform \(1 change was made\)$/m);
      const second = await deployHere(doubles);
      expect(second.code).toBe(0);
      // The registry was made by the first run.
      expect(second.stderr).not.toMatch(/create .*azurerm_container_registry/);
      expect(second.stderr).toMatch(/create .*azurerm_key_vault/);
    },
    TIMEOUT_MS,
  );

  test.each([
    ['in the registry', {}, 'az acr build'],
    ['with Docker', { localDocker: true }, 'docker build'],
  ])(
    'because the image cannot be built %s leaves the gateway alone, and is built by the next run',
    async (_, options, match) => {
      doubles.faults({ match, stderr: 'Step 3/12 : RUN apt-get\nE: no space left on device', code: 1 });
      const first = await deployHere(doubles, options);
      expect(first.code).toBe(3);
      expect(first.stderr).toMatch(/no space left on device/);
      expect(first.stderr).toMatch(/^Stopped: {3}image$/m);
      expect(first.stderr).toMatch(/^Not done: {2}secrets, workload, ready$/m);
      expect(doubles.vault.size).toBe(0);
      const second = await deployHere(doubles, options);
      expect(second.code).toBe(0);
      expect(applied().filter((each) => each.endsWith('20-workload'))).toHaveLength(1);
    },
    TIMEOUT_MS,
  );

  test(
    'because a revision does not start shows its logs, and which revision goes on serving',
    async () => {
      expect((await deployHere(doubles)).code).toBe(0);
      doubles.write('environments/dev.env', 'GATEWAY_CLIENT_NAME_0=app\nAI_PROXY_READ_TIMEOUT=6m\n');
      doubles.keep('next-revision.json', { provisioningState: 'Failed', healthState: 'Unhealthy' });
      const { code, stderr } = await deployHere(doubles);
      expect(code).toBe(3);
      expect(stderr).toMatch(/The revision ca-gw-genai-dev--0000002 cannot start/);
      expect(stderr).toMatch(/--0000001 goes on serving/);
      expect(stderr).toMatch(/The log of the container render:\nerror: AZURE_OPENAI_ENDPOINT_0 is not a URL/);
      expect(stderr).toMatch(/--rollback/);
    },
    TIMEOUT_MS,
  );

  test(
    'because the address does not answer says so',
    async () => {
      doubles.readiness = 503;
      const { code, stderr } = await deployHere(doubles);
      expect(code).toBe(3);
      expect(stderr).toMatch(/\/readyz does not answer with 200: status 503/);
      expect(stderr).toMatch(/^Stopped: {3}ready$/m);
    },
    TIMEOUT_MS,
  );

  test(
    'because settings have errors only as Terraform completes them stops before the gateway is changed',
    async () => {
      doubles.keep('more-settings.json', { AZURE_OPENAI_PRIORITY_0: 'soon' });
      const { code, stderr } = await deployHere(doubles);
      expect(code).toBe(1);
      expect(stderr).toMatch(/AZURE_OPENAI_PRIORITY_0/);
      expect(stderr).toMatch(/^Stopped: {3}workload$/m);
      expect(stderr).not.toMatch(NOTHING);
      expect(applied().filter((each) => each.endsWith('20-workload'))).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

describe('two runs at once', () => {
  const lock = () => join(doubles.folder, 'environments/.deploy/dev/run.lock');

  test(
    'on one machine: the second one names the first, and changes nothing',
    async () => {
      doubles.faults({ match: 'terraform apply .*@05-observability', hang: true });
      const second = await doubles.run(['dev'], {
        during: async (child) => {
          await until(() => applied().includes('terraform apply @05-observability'));
          const other = await doubles.run(['dev', '--stack', 'platform']);
          expect(other.code).toBe(3);
          expect(other.stderr).toMatch(
            new RegExp(
              `Another run is deploying dev: genai-gateway deploy dev, process ${child.pid} of .* on ${hostname()}, since 20`,
            ),
          );
          expect(other.stderr).toMatch(NOTHING);
          child.kill('SIGINT');
        },
      });
      expect(second.code).toBe(130);
      expect(existsSync(lock())).toBe(false);
    },
    TIMEOUT_MS,
  );

  test('the lock of a run that was killed is taken over', async () => {
    await deployHere(doubles, { plan: true });
    writeFileSync(
      lock(),
      JSON.stringify({ pid: 2 ** 22 - 1, host: hostname(), user: 'x', command: 'x', since: 'x' }),
    );
    expect((await deployHere(doubles, { plan: true })).code).toBe(2);
  });

  test('on two machines: the lock of the state names the other run', async () => {
    doubles.faults({
      match: 'terraform plan .*@10-platform',
      summary: 'Error acquiring the state lock',
      detail:
        'state blob is already locked\nLock Info:\n  ID:        6f5e\n  Path:      tfstate/dev\n  Operation: OperationTypeApply\n  Who:       eve@laptop\n  Created:   2026-12-01 10:00:00 UTC\n',
    });
    const { code, stderr } = await deployHere(doubles);
    expect(code).toBe(3);
    expect(stderr).toMatch(
      /Another run holds the lock of this stack's state: eve@laptop, since 2026-12-01 10:00:00 UTC \(OperationTypeApply\)/,
    );
    expect(stderr).toMatch(/terraform force-unlock 6f5e/);
  });
});

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + TIMEOUT_MS / 2;
  while (!condition()) {
    if (Date.now() > end) throw new Error('it did not happen');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A folder with Node and nothing else. */
function nodeAlone(): string {
  const folder = join(doubles.azure, 'node');
  mkdirSync(folder);
  symlinkSync(process.execPath, join(folder, 'node'));
  return folder;
}
