/** The settings that the gateway gets: before anything exists, as Terraform plans them, and as they run. Pure. */
import type { RawSettings, RawValue } from '../settings/sources.ts';
import { listOf, recordOf, textOf } from './json.ts';
import { simulatorSettings, simulatorToBeMade } from './test-mode.ts';
import { namesIn, objectIn, type Values } from './variables.ts';

/** What Azure decides only when a plan is applied. */
const DECIDED_LATER: Readonly<Record<string, string>> = {
  AZURE_CLIENT_ID: '00000000-0000-4000-8000-000000000000',
  RESPONSES_AFFINITY_REDIS_HOST: 'redis-to-be-made.redis.azure.net',
  AI_RATE_LIMIT_REDIS_HOST: 'redis-to-be-made.redis.azure.net',
};

function decidedLater(name: string): string {
  const [, index] = /^AZURE_OPENAI_ENDPOINT_(\d+)$/.exec(name) ?? [];
  return index === undefined ? (DECIDED_LATER[name] ?? 'decided-later') : simulatorToBeMade(index);
}

/** In the form of a value that the settings take. It reaches no file and no program. */
const standInFor = (name: string): string =>
  name === 'APPLICATIONINSIGHTS_CONNECTION_STRING'
    ? 'InstrumentationKey=00000000-0000-4000-8000-000000000000;IngestionEndpoint=https://westeurope-0.in.applicationinsights.azure.com/'
    : `stand-in-for-${name.toLowerCase().replaceAll('_', '-')}`;

const given = (value: string): RawValue => ({ value, source: { kind: 'environment' } });

/**
 * The settings as far as they are known before Terraform has run: those of the files, and in place of what Terraform adds,
 * values of the same form.
 * @param environment settings and secrets of the environment's files
 */
export function provisionalSettings(
  environment: RawSettings,
  variables: Values,
  { useFoundry, testMode }: { readonly useFoundry: boolean; readonly testMode: boolean },
): RawSettings {
  const set = new Map<string, RawValue>();
  for (const [name, value] of Object.entries(objectIn(variables.app_settings))) set.set(name, given(value));
  for (const name of namesIn(variables.secret_settings)) set.set(name, given(standInFor(name)));
  for (const [name, value] of environment.variables) set.set(name, value);
  const otherwise = (name: string, value: string) => {
    if (!set.has(name)) set.set(name, given(value));
  };
  if (testMode)
    for (const [name, value] of simulatorSettings()) {
      otherwise(name, value);
      if (name.startsWith('AZURE_OPENAI_NAME_'))
        otherwise(name.replace('_NAME_', '_KEY_'), standInFor(name.replace('_NAME_', '_KEY_')));
    }
  backendsOf(variables, useFoundry).forEach((backend, index) => {
    otherwise(`AZURE_OPENAI_ENDPOINT_${index}`, backend.endpoint);
    otherwise(`AZURE_OPENAI_NAME_${index}`, backend.name);
    otherwise(`AZURE_OPENAI_AUTH_MODE_${index}`, 'entra');
    if (backend.deployments.length > 0)
      otherwise(`AZURE_OPENAI_DEPLOYMENTS_${index}`, backend.deployments.join(','));
  });
  otherwise('AZURE_CLIENT_ID', DECIDED_LATER.AZURE_CLIENT_ID ?? '');
  if (variables.redis_kind !== 'none') {
    otherwise('RESPONSES_AFFINITY_REDIS_HOST', DECIDED_LATER.RESPONSES_AFFINITY_REDIS_HOST ?? '');
    otherwise('RESPONSES_AFFINITY_REDIS_PASSWORD', standInFor('RESPONSES_AFFINITY_REDIS_PASSWORD'));
  }
  return { ...environment, variables: set };
}

interface Backend {
  readonly name: string;
  readonly endpoint: string;
  readonly deployments: readonly string[];
}

function backendsOf(variables: Values, useFoundry: boolean): readonly Backend[] {
  const existing = recordsOf(variables.azure_openai_backends);
  if (existing.length > 0) {
    return existing.map((each, index) => ({
      name: textOf(each.name) ?? `backend-${index}`,
      endpoint: textOf(each.endpoint) ?? '',
      deployments: namesIn(each.deployments),
    }));
  }
  if (!useFoundry) return [];
  return recordsOf(variables.azure_openai_instances).map((each, index) => {
    const name = textOf(each.name_suffix) ?? `account-${index}`;
    return {
      name,
      endpoint: `https://to-be-made-${index}.openai.azure.com`,
      deployments: recordsOf(each.deployments).flatMap((deployment) => textOf(deployment.name) ?? []),
    };
  });
}

/**
 * The settings that a plan of 20-workload gives the gateway.
 * @param outputs the plan's outputs; values that Azure decides later are null
 * @returns undefined if the plan does not change them
 */
export function plannedSettings(
  outputs: Values,
  environment: RawSettings,
): { readonly raw: RawSettings; readonly secrets: readonly string[] } | undefined {
  if (!Object.hasOwn(outputs, 'gateway_settings') || !Object.hasOwn(outputs, 'secret_settings'))
    return undefined;
  const variables = new Map<string, RawValue>();
  for (const [name, value] of Object.entries(recordOf(outputs.gateway_settings))) {
    // A diagnostic should lead to the line in the file, if the value came from there.
    const written = environment.variables.get(name);
    const planned = typeof value === 'string' ? value : decidedLater(name);
    variables.set(name, written?.value.trim() === planned ? written : given(planned));
  }
  const secrets = Object.keys(recordOf(outputs.secret_settings)).sort();
  for (const name of secrets) variables.set(name, environment.variables.get(name) ?? given(standInFor(name)));
  return { raw: { variables, secretFiles: new Map(), diagnostics: [] }, secrets };
}

/** The settings of a revision that runs. Secrets are stand-ins, which are the same on both sides of a comparison. */
export function runningSettings(
  settings: Readonly<Record<string, string>>,
  secrets: readonly string[],
): RawSettings {
  const variables = new Map<string, RawValue>();
  for (const [name, value] of Object.entries(settings)) variables.set(name, given(value));
  for (const name of secrets) variables.set(name, given(standInFor(name)));
  return { variables, secretFiles: new Map(), diagnostics: [] };
}

/** The same settings with a stand-in for every secret. */
export const withStandIns = (raw: RawSettings, secrets: readonly string[]): RawSettings => ({
  ...raw,
  variables: new Map([...raw.variables, ...secrets.map((name) => [name, given(standInFor(name))] as const)]),
});

const recordsOf = (value: unknown) => listOf(value).map(recordOf);
