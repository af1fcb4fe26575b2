/** The values of Terraform's variables: those of the user, and those that one stack has for another. Pure. */
import { nearestOf } from '../diagnostics/nearest.ts';
import { STACK_FOLDERS, type StackName } from './steps.ts';

export type Values = Readonly<Record<string, unknown>>;

/** Outputs by stack. A stack that was never applied has none. */
export type Outputs = Readonly<Partial<Record<StackName, Values>>>;

/** Variables that a deployment sets itself in every stack that declares them. */
export interface Place {
  readonly subscriptionId: string;
  readonly tenantId: string;
  readonly location: string;
  readonly environmentCode: string;
}

export interface Inputs {
  /** `NAME.tfvars`. */
  readonly given: Values;
  readonly place: Place;
  readonly outputs: Outputs;
  /** Settings that are not secret, by name. */
  readonly settings: ReadonlyMap<string, string>;
  /** Names of the secret settings whose values are in the files. */
  readonly secrets: readonly string[];
  /** The image of the gateway by digest. */
  readonly image: string | undefined;
  /** The image of the simulators, if the deployment has the test mode. */
  readonly simulatorImage: string | undefined;
  readonly testMode: boolean;
  /** A word that changes when a secret has. */
  readonly secretsRevision: string;
  readonly useFoundry: boolean;
}

const text = (values: Values | undefined, name: string): string => {
  const value = values?.[name];
  return typeof value === 'string' ? value : '';
};

/** Later maps win; empty values do not. */
function filled(...maps: readonly Values[]): Values {
  const all: Record<string, unknown> = {};
  for (const map of maps)
    for (const [name, value] of Object.entries(map))
      if (value !== undefined && (value !== '' || !Object.hasOwn(all, name))) all[name] = value;
  return all;
}

/** The values of one stack: only what it declares, because Terraform warns of every other variable. */
export function valuesFor(stack: StackName, declared: readonly string[], inputs: Inputs): Values {
  const { given, place } = inputs;
  const common: Values = {
    subscription_id: place.subscriptionId,
    tenant_id: place.tenantId,
    location: place.location,
    environment_code: place.environmentCode,
  };
  const all = filled(upstream(stack, inputs), given, common, stack === 'workload' ? ofGateway(inputs) : {});
  return Object.fromEntries(
    declared.flatMap((name) => (Object.hasOwn(all, name) ? [[name, all[name]]] : [])),
  );
}

/** What other stacks have for this one. A value of the user wins. */
function upstream(stack: StackName, { outputs, place, useFoundry }: Inputs): Values {
  const { bootstrap, observability } = outputs;
  const workspace = { log_analytics_workspace_id: text(observability, 'log_analytics_workspace_id') };
  if (stack === 'platform' || stack === 'foundry') return workspace;
  if (stack !== 'workload') return {};
  const code = place.environmentCode;
  return {
    ...workspace,
    state_resource_group_name: text(bootstrap, 'state_rg_name'),
    state_storage_account_name: text(bootstrap, 'storage_account_name'),
    state_container_name: text(bootstrap, 'state_container_name'),
    foundation_state_blob_key: stateKey(code, 'platform'),
    openai_state_blob_key: useFoundry ? stateKey(code, 'foundry') : '',
    app_insights_id: text(observability, 'app_insights_id'),
    azure_monitor_workspace_id: text(observability, 'azure_monitor_workspace_id'),
    azure_monitor_prometheus_endpoint: text(observability, 'azure_monitor_prometheus_remote_write_endpoint'),
    azure_monitor_prometheus_query_endpoint: text(observability, 'azure_monitor_prometheus_query_endpoint'),
    azure_monitor_prometheus_dcr_id: text(observability, 'azure_monitor_prometheus_dcr_id'),
    gateway_log_ingest_uri: text(observability, 'gateway_logs_ingest_uri'),
    gateway_log_ingest_dcr_id: text(observability, 'gateway_logs_dcr_id'),
  };
}

function ofGateway(inputs: Inputs): Values {
  const { given, settings, secrets, image, secretsRevision, useFoundry, testMode, simulatorImage } = inputs;
  return {
    app_settings: { ...objectIn(given.app_settings), ...Object.fromEntries(settings) },
    secret_settings: [...new Set([...namesIn(given.secret_settings), ...secrets])].sort(),
    use_provisioned_azure_openai: useFoundry,
    secrets_revision: secretsRevision,
    ...(image === undefined ? {} : { gateway_image: image }),
    ...(testMode ? { gateway_e2e_test_mode: true } : {}),
    ...(simulatorImage === undefined ? {} : { simulator_image: simulatorImage }),
  };
}

/** The blob with the state of a stack, as the output `backend_snippet` of 00-bootstrap has it. */
export const stateKey = (environmentCode: string, stack: StackName): string =>
  `${environmentCode}/${STACK_FOLDERS[stack]}.tfstate`;

/** `app_settings` of the user, as settings. Numbers and booleans count as their text. */
export function objectIn(value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {};
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, each]) =>
      each === null || typeof each === 'object' ? [] : [[name, String(each)]],
    ),
  );
}

export const namesIn = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];

/** Whether 15-foundry has something to make. */
export function hasFoundry(given: Values): boolean {
  if (given.use_provisioned_azure_openai === false) return false;
  const instances = given.azure_openai_instances;
  if (Array.isArray(instances) && instances.length > 0) return true;
  // The network is on by default. Without accounts it is made only for who asks for it.
  return given.azure_openai_network_isolation === true;
}

/** Variables with values for names: whether a private endpoint of 10-platform is in the network of 15-foundry. */
export const platformHasPrivateEndpoint = (given: Values): boolean =>
  text(given, 'private_endpoint_subnet_id') !== '';

export interface VariableProblem {
  readonly name: string;
  readonly problem: string;
}

/** Values with which no deployment can go well. All at once. */
export function problemsOf({
  given,
  declared,
  settings,
  secrets,
}: {
  readonly given: Values;
  /** The variables of all stacks. */
  readonly declared: ReadonlySet<string>;
  readonly settings: ReadonlyMap<string, string>;
  readonly secrets: readonly string[];
}): readonly VariableProblem[] {
  const found: VariableProblem[] = [];
  for (const name of Object.keys(given)) {
    if (declared.has(name)) continue;
    const nearest = nearestOf([name], [...declared]);
    found.push({
      name,
      problem: `no stack has this variable. ${nearest === undefined ? 'Remove it' : `Did you mean ${nearest}?`}`,
    });
  }
  if (Object.keys(objectIn(given.secrets)).length > 0) {
    found.push({
      name: 'secrets',
      problem:
        'a tfvars file must have no secrets. Write them into NAME.secrets.env, and remove the variable',
    });
  }
  if (given.app_settings !== undefined) {
    const twice = Object.keys(objectIn(given.app_settings)).filter((name) => settings.has(name));
    if (twice.length > 0)
      found.push({
        name: 'app_settings',
        problem: `${twice.join(', ')} ${twice.length === 1 ? 'is' : 'are'} also in NAME.env. Remove one of the two`,
      });
  }
  const inBoth = [...settings.keys(), ...Object.keys(objectIn(given.app_settings))].filter(
    (name) => secrets.includes(name) || namesIn(given.secret_settings).includes(name),
  );
  if (inBoth.length > 0)
    found.push({
      name: 'secret_settings',
      problem: `${[...new Set(inBoth)].join(', ')}: both a setting that is not secret and a secret. Remove one of the two`,
    });
  const image = text(given, 'gateway_image');
  if (/REGISTRY/.test(image))
    found.push({
      name: 'gateway_image',
      problem: 'the value is that of the example. Remove it: deploy builds the image',
    });
  for (const name of ['subscription_id', 'tenant_id']) {
    if (/^(?:0{8}-0{4}-0{4}-0{4}-0{12}|1{8}-1{4}-1{4}-1{4}-1{12})$/.test(text(given, name)))
      found.push({
        name,
        problem: 'the value is that of the example. Write the id that `az account show` prints',
      });
  }
  return found;
}
