/** The steps of a deployment, as data, and which of them a command line asks for. Pure. */

export const STACK_FOLDERS = {
  bootstrap: '00-bootstrap',
  observability: '05-observability',
  platform: '10-platform',
  foundry: '15-foundry',
  workload: '20-workload',
} as const;

export type StackName = keyof typeof STACK_FOLDERS;
export type StepName = StackName | 'image' | 'secrets' | 'ready';

export interface Step {
  readonly name: StepName;
  /** What the step does, for its heading. */
  readonly title: string;
}

/** In the order in which they run. */
export const STEPS: readonly Step[] = [
  { name: 'bootstrap', title: "storage for Terraform's states" },
  { name: 'observability', title: 'logs, metrics and traces' },
  { name: 'platform', title: 'registry and Key Vault' },
  { name: 'foundry', title: 'Azure OpenAI accounts and network' },
  { name: 'image', title: 'image of the gateway' },
  { name: 'secrets', title: 'secrets in Key Vault' },
  { name: 'workload', title: 'gateway' },
  { name: 'ready', title: 'readiness of the new revision' },
];

/** What `--stack` takes: the name of a step, or the name of a stack's folder. */
export const SELECTABLE: readonly string[] = [
  ...STEPS.map(({ name }) => name).filter((name) => name !== 'ready'),
  ...Object.values(STACK_FOLDERS),
];

export const isStack = (name: StepName): name is StackName => Object.hasOwn(STACK_FOLDERS, name);

export interface Selection {
  /** Names out of SELECTABLE. */
  readonly stack?: readonly string[] | undefined;
  readonly settingsOnly?: boolean | undefined;
  /** `--no-azure-openai`: no accounts are made. */
  readonly azureOpenai?: boolean | undefined;
  /** `--no-image-build`: the image that runs stays. */
  readonly imageBuild?: boolean | undefined;
}

export interface Chosen extends Step {
  /** Why the step does not run; absent: it runs. */
  readonly skipped?: string;
}

export interface Facts {
  /** 15-foundry has something to make: accounts, or a network. */
  readonly hasFoundry: boolean;
  /** The variable `gateway_image` names an image, and in the test mode `simulator_image` too. */
  readonly hasImage: boolean;
  /** Simulators take the place of accounts. */
  readonly hasTestMode: boolean;
}

/** The steps of a command line, in order, with the reason for each that is skipped. Others are left out. */
export function chosenSteps(selection: Selection, facts: Facts): readonly Chosen[] {
  const named = selection.stack?.map(stepNamed);
  const wanted = (name: StepName): boolean => {
    if (selection.settingsOnly) return name === 'secrets' || name === 'workload' || name === 'ready';
    if (named === undefined) return true;
    return named.includes(name) || (name === 'ready' && named.includes('workload'));
  };
  return STEPS.filter(({ name }) => wanted(name)).map((step) => {
    const skipped = reasonToSkip(step.name, selection, facts);
    return skipped === undefined ? step : { ...step, skipped };
  });
}

function reasonToSkip(
  name: StepName,
  selection: Selection,
  { hasFoundry, hasImage, hasTestMode }: Facts,
): string | undefined {
  if (name === 'foundry') {
    if (selection.azureOpenai === false) return '--no-azure-openai';
    if (hasTestMode) return 'the simulators of the test mode take the place of accounts';
    if (!hasFoundry) return 'the variables name neither accounts nor a network';
  }
  if (name === 'image') {
    if (hasImage)
      return hasTestMode
        ? 'the variables gateway_image and simulator_image name images'
        : 'the variable gateway_image names an image';
    if (selection.imageBuild === false) return '--no-image-build';
  }
  return undefined;
}

function stepNamed(given: string): StepName {
  const [stack] =
    Object.entries(STACK_FOLDERS).find(([, folder]) => folder === given.replace(/\/+$/, '')) ?? [];
  return (stack ?? given) as StepName;
}

/**
 * The order in which stacks are removed. Private endpoints of 10-platform are in the network of 15-foundry, so that stack
 * goes first if there are some.
 */
export function destroyOrder(
  selection: Selection,
  { platformHasPrivateEndpoint }: { readonly platformHasPrivateEndpoint: boolean },
): readonly StackName[] {
  const order: readonly StackName[] = platformHasPrivateEndpoint
    ? ['workload', 'platform', 'foundry', 'observability', 'bootstrap']
    : ['workload', 'foundry', 'platform', 'observability', 'bootstrap'];
  const named = selection.stack?.map(stepNamed);
  return named === undefined ? order : order.filter((name) => named.includes(name));
}
