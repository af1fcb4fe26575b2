/** The pure parts of `deploy --deploy-e2e`. */
import { expect, test } from 'vitest';
import { plannedSettings, provisionalSettings } from '../../compiler/deploy/settings.ts';
import { simulatorSource } from '../../compiler/deploy/simulator-image.ts';
import { hasTestMode, productionWarning, testModeProblems } from '../../compiler/deploy/test-mode.ts';
import { howToRunScenarios } from '../../compiler/deploy/try-it.ts';
import { DEPLOYMENTS } from '../../compiler/e2e/names.ts';
import { TEST_BACKENDS } from '../../compiler/settings/test-mode.ts';
import { textOf } from '../support/repository.ts';

test('the option and the variable mean the same', () => {
  expect(hasTestMode({ deployE2e: true }, {})).toBe(true);
  expect(hasTestMode({}, { gateway_e2e_test_mode: true })).toBe(true);
  expect(hasTestMode({}, { gateway_e2e_test_mode: false })).toBe(false);
  expect(hasTestMode({}, {})).toBe(false);
});

test.each([
  ['prod', true],
  ['Production', true],
  ['prd-eu', true],
  ['e2e', false],
  ['dev', false],
])('the environment %s is warned about: %s', (code, warned) => {
  expect(productionWarning(code) !== undefined).toBe(warned);
});

test('names every other backend at once', () => {
  const problems = testModeProblems(
    {
      app_settings: { AZURE_OPENAI_ENDPOINT_1: 'https://a.openai.azure.com' },
      secret_settings: ['AZURE_OPENAI_KEY_1'],
      azure_openai_backends: [{}],
    },
    new Map([
      ['AZURE_OPENAI_AUTH_MODE_0', 'entra'],
      ['GATEWAY_CLIENT_NAME_0', 'one'],
    ]),
    ['AZURE_OPENAI_KEY_0', 'GATEWAY_CLIENT_KEY_0'],
  );
  expect(problems).toHaveLength(1);
  expect(problems[0]?.problem).toContain(
    'Remove AZURE_OPENAI_AUTH_MODE_0, AZURE_OPENAI_KEY_0, AZURE_OPENAI_ENDPOINT_1, AZURE_OPENAI_KEY_1, azure_openai_backends,',
  );
  expect(testModeProblems({}, new Map([['GATEWAY_CLIENT_NAME_0', 'one']]), ['GATEWAY_CLIENT_KEY_0'])).toEqual(
    [],
  );
});

test('the settings before anything exists have the three backends', () => {
  const environment = { variables: new Map(), secretFiles: new Map(), diagnostics: [] };
  const known = { useFoundry: false, testMode: true };
  const { variables } = provisionalSettings(environment, { redis_kind: 'none' }, known);
  expect([0, 1, 2].map((index) => variables.get(`AZURE_OPENAI_NAME_${index}`)?.value)).toEqual(TEST_BACKENDS);
  expect(variables.get('GATEWAY_E2E_TEST_MODE')?.value).toBe('true');
  expect(
    provisionalSettings(environment, { redis_kind: 'none' }, { ...known, testMode: false }).variables.has(
      'GATEWAY_E2E_TEST_MODE',
    ),
  ).toBe(false);
});

test('addresses that Azure decides later have the form of an address', () => {
  const environment = { variables: new Map(), secretFiles: new Map(), diagnostics: [] };
  const outputs = {
    gateway_settings: { AZURE_OPENAI_ENDPOINT_0: null, AZURE_OPENAI_ENDPOINT_1: null },
    secret_settings: { AZURE_OPENAI_KEY_0: 'simulator-api-key' },
  };
  const { raw } = plannedSettings(outputs, environment) ?? {};
  const values = [0, 1].map((index) => raw?.variables.get(`AZURE_OPENAI_ENDPOINT_${index}`)?.value ?? '');
  expect(values.map((value) => new URL(value).protocol)).toEqual(['https:', 'https:']);
  expect(new Set(values).size).toBe(2);
});

test("Terraform's simulators have the deployments and names that the scenarios need", () => {
  const deployments = JSON.parse(textOf('deploy/azure/modules/simulators/deployments.json')) as Record<
    string,
    { readonly tokensPerMinute: number }
  >;
  expect(
    Object.fromEntries(
      Object.entries(deployments).map(([name, { tokensPerMinute }]) => [name, tokensPerMinute]),
    ),
  ).toEqual(DEPLOYMENTS);
  const stack = textOf('deploy/azure/stacks/20-workload/main.tf');
  expect(stack).toContain(JSON.stringify(TEST_BACKENDS).replaceAll(',', ', '));
  const module = textOf('deploy/azure/modules/simulators/main.tf');
  expect([...module.matchAll(/^ {4}"(\S+)" += "/gm)].map(([, name]) => name)).toEqual(TEST_BACKENDS);
});

test('the image of the simulators is pinned, and its tag is a digest of its Dockerfile', () => {
  const { files, image } = simulatorSource();
  expect([...files.keys()]).toEqual(['Dockerfile']);
  expect(image).toMatch(/^aoai-api-simulator:0\.5-[0-9a-f]{12}$/);
  const dockerfile = files.get('Dockerfile')?.toString() ?? '';
  expect(dockerfile).toMatch(/archive\/[0-9a-f]{40}\.tar\.gz/);
  // The registry's builder builds every stage.
  expect(dockerfile.match(/^FROM /gm)).toHaveLength(1);
});

test('tells how to run the scenarios, with no key in it', () => {
  const outputs = {
    key_vault_name: 'kv',
    simulator_secret_name: 'simulator-api-key',
    simulator_urls: Object.fromEntries(TEST_BACKENDS.map((name) => [name, `https://${name}.example`])),
  };
  const lines = howToRunScenarios('https://gateway.example', outputs, ['environments/e2e.env']);
  expect(lines).toContain('AZURE_OPENAI_ENDPOINT_2=https://payg-backend-2.example');
  expect(lines).toContain('AZURE_OPENAI_KEY_2=$key');
  expect(lines).toContain(
    `npx genai-gateway e2e -e 'environments/e2e.env' -e "$file" --gateway 'https://gateway.example'`,
  );
  expect(howToRunScenarios('https://gateway.example', { simulator_urls: null }, [])).toEqual([]);
});
