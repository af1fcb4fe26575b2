/** The test mode of a deployment: three simulators in place of accounts, and the pools of the toolkit's scenarios. Pure. */
import { TEST_BACKENDS } from '../settings/test-mode.ts';
import { namesIn, objectIn, type Values, type VariableProblem } from './variables.ts';

/** Whether a deployment has simulators: `--deploy-e2e`, or the variable of the same meaning. */
export const hasTestMode = (
  { deployE2e }: { readonly deployE2e?: boolean | undefined },
  variables: Values,
): boolean => deployE2e === true || String(variables.gateway_e2e_test_mode) === 'true';

/** Names of environments in which real users are. */
const PRODUCTION = /^(?:prod|prd|live)/i;

/** A warning for an environment that looks like production; undefined for others. */
export const productionWarning = (environmentCode: string): string | undefined =>
  PRODUCTION.test(environmentCode)
    ? `warning: the test mode in the environment ${environmentCode}. With it any client can move the requests of others to other backends. Never use it in production`
    : undefined;

/** The backends that 20-workload makes, as settings. Their addresses are known later. */
export function simulatorSettings(): ReadonlyMap<string, string> {
  return new Map([
    ['GATEWAY_E2E_TEST_MODE', 'true'],
    ...TEST_BACKENDS.flatMap(
      (name, index) =>
        [
          [`AZURE_OPENAI_NAME_${index}`, name],
          [`AZURE_OPENAI_ENDPOINT_${index}`, simulatorToBeMade(index)],
        ] as const,
    ),
  ]);
}

/** Stands for an address that Azure decides. */
export const simulatorToBeMade = (index: number | string): string =>
  `https://simulator-to-be-made-${index}.azurecontainerapps.io`;

const OF_A_BACKEND = /^AZURE_OPENAI_[A-Z_]+_\d+$/;

/** Other backends: the plain paths would mix their answers with those of simulators. */
export function testModeProblems(
  given: Values,
  settings: ReadonlyMap<string, string>,
  secrets: readonly string[],
): readonly VariableProblem[] {
  const names = new Set(
    [
      ...settings.keys(),
      ...secrets,
      ...Object.keys(objectIn(given.app_settings)),
      ...namesIn(given.secret_settings),
    ].filter((name) => OF_A_BACKEND.test(name)),
  );
  if (Array.isArray(given.azure_openai_backends) && given.azure_openai_backends.length > 0)
    names.add('azure_openai_backends');
  if (names.size === 0) return [];
  return [
    {
      name: 'gateway_e2e_test_mode',
      problem: `in the test mode the simulators are the only backends. Remove ${[...names].join(', ')}, or use an environment of its own`,
    },
  ];
}
