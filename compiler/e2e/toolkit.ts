/** A checkout of the APIM GenAI gateway toolkit: the files that its scripts read, and its load, unchanged. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoText } from '../errno.ts';
import { Failure } from './gateway-client.ts';
import type { Scenario, Variant } from './scenarios.ts';
import type { Simulator } from './simulators.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const TESTS = 'end_to_end_tests';

/** @throws Failure if the folder is no checkout of the toolkit */
export function checkToolkit(folder: string): void {
  if (!existsSync(join(folder, TESTS, 'scenario_round_robin.py')))
    throw new Failure(
      `${folder} is not a checkout of Azure-Samples/apim-genai-gateway-toolkit: it has no ${TESTS}/scenario_round_robin.py.`,
    );
}

export interface ToolkitValues {
  readonly simulators: readonly Simulator[];
  /** Keys of three clients. */
  readonly keys: readonly string[];
  readonly gatewayUrl: string;
  /** May name Azure's resources, for queries in Log Analytics. */
  readonly environment: Environment;
}

const hostOf = (url: string | undefined): string => (url === undefined ? '' : new URL(url).host);

/** The files with the outputs of its deployments, by their paths in the checkout. */
export function outputFiles({ simulators, keys, gatewayUrl, environment }: ToolkitValues) {
  const [ptu1, payg1, payg2] = simulators;
  const resourceGroupName = environment.RESOURCE_GROUP_NAME ?? '';
  return {
    'infra/simulators/generated-keys.json': { simulatorApiKey: ptu1?.key ?? '' },
    'infra/simulators/output-simulator-base.json': {
      resourceGroupName,
      appInsightsName: environment.APP_INSIGHTS_NAME ?? '',
      logAnalyticsName: environment.LOG_ANALYTICS_WORKSPACE_NAME ?? '',
      keyVaultName: environment.KEY_VAULT_NAME ?? '',
    },
    'infra/simulators/output-simulators.json': {
      resourceGroupName,
      ptu1Fqdn: hostOf(ptu1?.url),
      payg1Fqdn: hostOf(payg1?.url),
      payg2Fqdn: hostOf(payg2?.url),
    },
    'infra/apim-genai/output.json': {
      // Its scripts make a URL of this name, which ends with azure-api.net: for another gateway use this command.
      apiManagementName: hostOf(gatewayUrl),
      apiManagementAzureOpenAIProductSubscriptionOneKey: keys[0] ?? '',
      apiManagementAzureOpenAIProductSubscriptionTwoKey: keys[1] ?? '',
      apiManagementAzureOpenAIProductSubscriptionThreeKey: keys[2] ?? '',
    },
  } as const;
}

/** Only the owner may read files with keys. */
const FILE_MODE = 0o600;

/**
 * Writes the files. Other values in an existing file stay.
 * @returns the paths
 * @throws Failure if a file cannot be read or written
 */
export function writeOutputs(folder: string, values: ToolkitValues): readonly string[] {
  return Object.entries(outputFiles(values)).map(([name, content]) => {
    const path = join(folder, name);
    try {
      const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as object) : {};
      const given = Object.entries(content).filter(([, value]) => value !== '');
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, `${JSON.stringify({ ...before, ...Object.fromEntries(given) }, null, 2)}\n`, {
        mode: FILE_MODE,
      });
      return path;
    } catch (error) {
      const reason = error instanceof SyntaxError ? 'it is not JSON' : errnoText(error);
      throw new Failure(`${path} cannot be written: ${reason}.`);
    }
  });
}

/** The variables that the toolkit's files read. Azure's names pass through. */
export function toolkitEnvironment(
  { simulators, keys, gatewayUrl, environment }: ToolkitValues,
  { name }: Scenario,
  variant: Variant,
): Record<string, string> {
  const [ptu1, payg1, payg2] = simulators;
  const passed = Object.entries(environment).filter(
    (each): each is [string, string] => each[1] !== undefined,
  );
  return {
    ...Object.fromEntries(passed.filter(([variable]) => !/^(?:AZURE_OPENAI_|GATEWAY_)/.test(variable))),
    APIM_ENDPOINT: gatewayUrl,
    APIM_SUBSCRIPTION_ONE_KEY: keys[0] ?? '',
    APIM_SUBSCRIPTION_TWO_KEY: keys[1] ?? '',
    APIM_SUBSCRIPTION_THREE_KEY: keys[2] ?? '',
    SIMULATOR_ENDPOINT_PTU1: ptu1?.url ?? '',
    SIMULATOR_ENDPOINT_PAYG1: payg1?.url ?? '',
    SIMULATOR_ENDPOINT_PAYG2: payg2?.url ?? '',
    SIMULATOR_API_KEY: ptu1?.key ?? '',
    ENDPOINT_PATH: name,
    LOAD_PATTERN: variant.loadPattern,
    RAMP_RATE: String(variant.rampRate),
    REQUEST_TYPE: variant.requestType,
    MAX_TOKENS: String(variant.maxTokens ?? -1),
    OTEL_SERVICE_NAME: 'locust',
  };
}

/** The arguments of locust, without the program. The toolkit's own shape decides where it has one. */
export function locustArguments(folder: string, { toolkit, pool, stages }: Scenario, url: string): string[] {
  const { file, users, spawnRate = 1 } = toolkit;
  const seconds = stages.reduce((sum, each) => sum + each.seconds, 0);
  return [
    ...['--locustfile', join(folder, TESTS, file)],
    ...['--host', `${url}/${pool}/`],
    ...['--headless', '--only-summary', '--stop-timeout', '150'],
    ...(users === undefined
      ? []
      : ['--users', String(users), '--spawn-rate', String(spawnRate), '--run-time', `${seconds}s`]),
  ];
}

/** SIGINT lets locust finish; after this time it is killed. */
const STOP_MS = 20_000;

export interface LocustRun {
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** The file for what it prints. */
  readonly log: string;
  readonly signal: AbortSignal;
}

/**
 * Runs locust to its end. Its exit code does not count: it fails where the toolkit's scenario fails by design, and
 * where there is no Log Analytics to query after the load.
 * @throws Failure if it cannot start
 */
export async function runLocust({ program, args, environment, log, signal }: LocustRun): Promise<void> {
  const child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  const file = createWriteStream(log, { mode: FILE_MODE });
  child.stdout.pipe(file, { end: false });
  child.stderr.pipe(file, { end: false });
  const stop = async () => {
    child.kill('SIGINT');
    await sleep(STOP_MS, undefined, { ref: false });
    child.kill('SIGKILL');
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    await once(child, 'close');
  } catch (error) {
    throw new Failure(
      `${program} cannot be started: ${errnoText(error)}. Install the toolkit's ${TESTS}/requirements.txt, and name the program with --locust.`,
    );
  } finally {
    signal.removeEventListener('abort', stop);
    file.end();
    await finished(file);
  }
}
