/** `deploy --deploy-e2e`, with doubles of terraform and az. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Doubles, deployHere } from '../support/deploy/doubles.ts';

const TIMEOUT_MS = 60_000;

let doubles: Doubles;
beforeEach(async () => {
  doubles = await new Doubles().start();
});
afterEach(() => doubles.stop());

const valuesOf = (stack: string): Record<string, unknown> =>
  doubles.kept<{ readonly values: Record<string, unknown> }>(`states/${stack}.json`)?.values ?? {};
const built = () =>
  doubles
    .calls()
    .filter(({ tool, args }) => tool === 'az' && args[0] === 'acr' && args[1] === 'build')
    .map(({ args }) => args[args.indexOf('--image') + 1]);

test(
  'builds the simulators, deploys them in place of accounts, and tells how to run the scenarios',
  async () => {
    const { code, stdout, stderr } = await deployHere(doubles, { deployE2e: true });
    expect(code, stderr).toBe(0);
    expect(built()).toEqual([
      expect.stringMatching(/^genai-gateway:/),
      expect.stringMatching(/^aoai-api-simulator:0\.5-/),
    ]);
    expect(valuesOf('20-workload')).toMatchObject({
      gateway_e2e_test_mode: true,
      gateway_image: `acrgenaidev.azurecr.io/genai-gateway@sha256:${'1'.repeat(64)}`,
      simulator_image: `acrgenaidev.azurecr.io/aoai-api-simulator@sha256:${'2'.repeat(64)}`,
      use_provisioned_azure_openai: false,
    });
    expect(valuesOf('15-foundry')).toEqual({});
    expect(stderr).toContain(
      'foundry: left out (the simulators of the test mode take the place of accounts)',
    );
    expect(stderr).toContain('TEST_MODE');
    expect(stdout).toContain('AZURE_OPENAI_ENDPOINT_0=https://ptu-backend-1.example');
    expect(stdout).toContain("--name 'simulator-api-key'");

    doubles.forget();
    const again = await deployHere(doubles, { deployE2e: true });
    expect(again.code, again.stderr).toBe(0);
    expect(built()).toEqual([]);
    expect(doubles.commands().filter((each) => each.startsWith('terraform apply'))).toEqual([]);

    doubles.write('environments/dev.env', 'GATEWAY_CLIENT_NAME_0=app\nLB_ALG=chash\n');
    const settings = await deployHere(doubles, { deployE2e: true, settingsOnly: true });
    expect(settings.code, settings.stderr).toBe(0);
    expect(valuesOf('20-workload').simulator_image).toMatch(/aoai-api-simulator@sha256:2{64}$/);
  },
  TIMEOUT_MS,
);

test(
  'without the option makes no simulators, and --plan names both images',
  async () => {
    expect((await deployHere(doubles)).code).toBe(0);
    expect(built()).toEqual([expect.stringMatching(/^genai-gateway:/)]);
    expect(valuesOf('20-workload')).not.toHaveProperty('gateway_e2e_test_mode');
    const { code, stderr } = await deployHere(doubles, { deployE2e: true, plan: true });
    expect(code).toBe(2);
    expect(stderr).toMatch(/genai-gateway:\S+ exists/);
    expect(stderr).toMatch(/aoai-api-simulator:\S+ would be built/);
  },
  TIMEOUT_MS,
);

test(
  'refuses other backends, before anything is touched',
  async () => {
    doubles.write(
      'environments/dev.env',
      'GATEWAY_CLIENT_NAME_0=app\nAZURE_OPENAI_ENDPOINT_0=https://a.openai.azure.com\n',
    );
    const refused = await deployHere(doubles, { deployE2e: true });
    expect(refused.code).toBe(3);
    expect(refused.stderr).toContain('Remove AZURE_OPENAI_ENDPOINT_0, or use an environment of its own');
    expect(doubles.calls().map(({ args }) => args[0])).toEqual(['version', 'version']);
  },
  TIMEOUT_MS,
);

test(
  'warns in an environment that looks like production',
  async () => {
    doubles.write(
      'environments/dev.tfvars',
      `environment_code = "prod"\nsubscription_id = "5b2c4c1e-8d1a-4f3a-9a55-6f5f3a3f7b10"\nlocation = "westeurope"\ngateway_e2e_test_mode = true\n`,
    );
    const { code, stderr } = await deployHere(doubles, { plan: true });
    expect(code, stderr).toBe(2);
    expect(stderr).toContain('warning: the test mode in the environment prod.');
  },
  TIMEOUT_MS,
);
