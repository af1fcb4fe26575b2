/** A gateway as its users run it: rendered settings, APISIX, and mocks of Azure OpenAI behind it. */
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { AzureOpenAI } from 'openai';
import { Docker, hostAddress as dockerHostAddress, HOST } from '../../compiler/commands/local/docker.ts';
import type { Documents } from '../../compiler/emit/emit.ts';
import { type MockBackend, type MockOptions, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { FILE_MODES, writeDocuments } from '../../compiler/output/write.ts';
import { type Apisix, PORTS, startApisix } from './apisix.ts';
import { compileVariables } from './scenarios.ts';

export const CLIENT_KEY = 'key-of-the-client-app-0123456789';
export const API_VERSION = '2024-10-21';

export { HOST };

export interface GatewayOptions {
  /** One mock for each backend; backend N has the settings of index N. Two by default. */
  readonly backends?: readonly MockOptions[];
  /** Settings in addition to the endpoints and keys of the backends and the client `app`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Changes the rendered files where no setting does. */
  readonly adapt?: (documents: Documents) => Documents;
  /** For `apisix.clientOf`. */
  readonly logsClients?: boolean;
  /** Names of this host for APISIX, in addition to the one that the backends have. */
  readonly namesOfThisHost?: readonly string[];
  /** More files in APISIX's container, by path. */
  readonly mountedFiles?: Readonly<Record<string, string>>;
  /** See `startApisix`. */
  readonly sharedFolders?: Readonly<Record<string, string>>;
  readonly sidecarPorts?: readonly number[];
  /** See `startApisix`. */
  readonly nameServer?: string;
  /** A folder of this host to render to, from which APISIX reads apisix.yaml. */
  readonly configFolder?: string;
  /** Waiting times of the gateway in seconds, by their names in gateway/mechanisms/times.lua. */
  readonly times?: Readonly<Record<string, number>>;
}

/** In tests, the request record rejects undeclared fields. Benchmarks measure it without that check. */
const IS_TEST = process.env.VITEST !== undefined;

/** Adds settings that only tests use, under `testing`. */
function withTesting(documents: Documents, times: Readonly<Record<string, number>>): Documents {
  const before = '  azure-openai-proxy: {';
  const testing = { ...(IS_TEST ? { strict: true } : {}), times };
  const config = documents['config.yaml'];
  if (!config.includes(before))
    throw new Error(`config.yaml has no line "${before}" for the tests' settings`);
  return {
    ...documents,
    'config.yaml': config.replace(before, `${before}"testing": ${JSON.stringify(testing)}, `),
  };
}

/** Throws when Lua read or wrote an undeclared field of the request record. */
function expectDeclaredFields(log: string): void {
  const line = log.split('\n').find((each) => each.includes('is not declared in gateway/record/'));
  if (line !== undefined) throw new Error(`The gateway used an undeclared field: ${line}`);
}

export interface Gateway {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly mocks: readonly MockBackend[];
  readonly apisix: Apisix;
  /** The documents that APISIX was started with. */
  readonly documents: Documents;
  /** The settings that they were rendered from. */
  readonly variables: Readonly<Record<string, string>>;
  /** The official client on /openai/v1, without retries. */
  openai(key?: string): OpenAI;
  /** The official client on deployments, without retries. */
  azure(deployment?: string, key?: string): AzureOpenAI;
  /** A request with the client's key, unless the headers have another one. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** A chat completion. `body` is merged into a short default. */
  chat(model: string, body?: object, headers?: Record<string, string>): Promise<Response>;
  /** Prometheus' text, including everything that happened before this call. */
  metrics(): Promise<string>;
  /** The lines of the access log, in order. */
  accessLog(): Promise<readonly Record<string, string>[]>;
  stop(): Promise<void>;
}

/** The key that backend N expects. */
export const backendKey = (index: number): string => `key-of-backend-${index}-0123456789`;

export async function startGateway({
  backends = [{}, {}],
  settings = {},
  adapt = (documents) => documents,
  logsClients = false,
  namesOfThisHost = [],
  mountedFiles = {},
  sharedFolders = {},
  sidecarPorts = [],
  nameServer,
  configFolder,
  times = {},
}: GatewayOptions = {}): Promise<Gateway> {
  const host = await hostAddress();
  const mocks = await Promise.all(
    backends.map((options, index) =>
      startMockAzureOpenAI({
        host,
        keys: [backendKey(index)],
        name: `mock-${index}`,
        ...options,
      }),
    ),
  );
  const stopMocks = async () => {
    await Promise.all(mocks.map((mock) => mock.stop()));
  };
  let apisix: Apisix;
  let adapted: Documents;
  let variables: Record<string, string>;
  try {
    const given = {
      GATEWAY_CLIENT_NAME_0: 'app',
      GATEWAY_CLIENT_KEY_0: CLIENT_KEY,
      GATEWAY_WORKERS: '2',
      ...Object.fromEntries(mocks.flatMap(({ url, port }, index) => backendSettings(url, port, index))),
      ...settings,
    };
    variables = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''));
    const scenario = await compileVariables(variables);
    // A followed folder gets the files as they are rendered.
    if (configFolder !== undefined)
      writeDocuments(configFolder, adapt(scenario.documents), FILE_MODES.reference);
    adapted = adapt(withTesting(scenario.documents, times));
    apisix = await startApisix({
      documents: adapted,
      environment: scenario.environment,
      extraHosts: Object.fromEntries([HOST, ...namesOfThisHost].map((name) => [name, 'host-gateway'])),
      logsClients,
      mountedFiles: { ...scenario.mountedFiles, ...mountedFiles },
      sharedFolders,
      sidecarPorts,
      configFolder,
      nameServer,
    });
  } catch (error) {
    await stopMocks();
    throw error;
  }
  const url = `http://127.0.0.1:${apisix.mappedPort(PORTS.proxy)}`;
  const get = (path: string, init: RequestInit = {}) =>
    fetch(`${url}${path}`, { ...init, headers: { 'api-key': CLIENT_KEY, ...(init.headers as object) } });
  return {
    url,
    mocks,
    apisix,
    documents: adapted,
    variables,
    openai: (key = CLIENT_KEY) => new OpenAI({ apiKey: key, baseURL: `${url}/openai/v1`, maxRetries: 0 }),
    azure: (deployment, key = CLIENT_KEY) =>
      new AzureOpenAI({
        apiKey: key,
        endpoint: url,
        apiVersion: API_VERSION,
        maxRetries: 0,
        ...(deployment === undefined ? {} : { deployment }),
      }),
    fetch: get,
    chat: (model, body = {}, headers = {}) =>
      get('/openai/v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({
          model,
          messages: [{ role: 'user', content: 'Hello' }],
          max_tokens: 4,
          ...body,
        }),
      }),
    metrics: () => freshMetrics(apisix),
    accessLog: async () =>
      (await apisix.log())
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line) as Record<string, string>),
    stop: async () => {
      await apisix.stop();
      await stopMocks();
      expectDeclaredFields(apisix.logSoFar());
    },
  };
}

function backendSettings(url: string, port: number, index: number): [string, string][] {
  const scheme = new URL(url).protocol;
  return [
    [`AZURE_OPENAI_ENDPOINT_${index}`, `${scheme}//${HOST}:${port}`],
    [`AZURE_OPENAI_KEY_${index}`, backendKey(index)],
  ];
}

/** The address where mocks listen, which containers can reach. */
export const hostAddress = (): Promise<string> => dockerHostAddress(new Docker(process.env));

/** For `adapt`: writes metrics every second. APISIX writes them every fifteen seconds. */
export const quickMetrics = (documents: Documents): Documents => ({
  ...documents,
  'config.yaml': documents['config.yaml'].replace(/^( *)export_uri: .*$/m, '$&\n$1refresh_interval: 1'),
});

/** Waits for a text that the exporter began to write after this call. */
async function freshMetrics(apisix: Apisix): Promise<string> {
  const read = async () => (await apisix.request(PORTS.metrics, '/apisix/prometheus/metrics')).text();
  const deadline = Date.now() + METRICS_PATIENCE_MS;
  const next = async (before: string): Promise<string> => {
    let text = before;
    while (text === before && Date.now() < deadline) {
      await sleep(250);
      text = await read();
    }
    return text;
  };
  // Counters of workers are added up once a second, so the text after the next one has all of them.
  return next(await next(await read()));
}

const METRICS_PATIENCE_MS = 40_000;

/** Settings that give another gateway the backends of this one. */
export const sameBackends = ({ mocks }: Gateway): Record<string, string> =>
  Object.fromEntries(mocks.flatMap(({ url, port }, index) => backendSettings(url, port, index)));
