/** A real Prometheus, which stores what is written to it and answers queries. */
import { GenericContainer, Wait } from 'testcontainers';
import { type Apisix, IsolatedContainer, imageAvailable } from './apisix.ts';

export const PROMETHEUS_IMAGE = 'prom/prometheus:v3.15.1';
/** Not 9090, which APISIX itself has in the network of a gateway. */
export const PROMETHEUS_PORT = 9095;

/** For `describe.skipIf`; says on stderr why tests are skipped. */
export function cannotRunPrometheusTests(tests: string): boolean {
  const state = imageAvailable(PROMETHEUS_IMAGE);
  if (!state.available) process.stderr.write(`\nSKIPPED ${tests}: ${state.reason}\n`);
  return !state.available;
}

export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PrometheusOptions {
  /** The gateway whose network it joins; that one publishes `PROMETHEUS_PORT`. */
  readonly beside?: Apisix;
  /** prometheus.yml; by default it scrapes nothing. */
  readonly config?: string;
  /** Further files in the folder of prometheus.yml, by their names. */
  readonly files?: Readonly<Record<string, string>>;
}

export interface AlertState {
  readonly name: string;
  readonly state: 'inactive' | 'pending' | 'firing';
  readonly health: string;
  readonly lastError?: string;
}

export interface Prometheus {
  /** Where it takes remote writes. */
  readonly writeUrl: string;
  /** The last value of each series that a query gives. */
  query(promql: string): Promise<readonly Series[]>;
  /** The alert rules that it has loaded, as they were when evaluated last. */
  alerts(): Promise<readonly AlertState[]>;
  /** Runs its `promtool`, in the folder of prometheus.yml. */
  promtool(...args: readonly string[]): Promise<{ readonly exitCode: number; readonly output: string }>;
  stop(): Promise<void>;
}

const FOLDER = '/etc/prometheus';

export async function startPrometheus({
  beside,
  config = '{}\n',
  files = {},
}: PrometheusOptions = {}): Promise<Prometheus> {
  const contents = Object.entries({ 'prometheus.yml': config, ...files });
  const Container = beside === undefined ? IsolatedContainer : GenericContainer;
  const container = new Container(PROMETHEUS_IMAGE)
    .withCommand([
      `--config.file=${FOLDER}/prometheus.yml`,
      '--storage.tsdb.path=/prometheus',
      '--web.enable-remote-write-receiver',
      `--web.listen-address=:${PROMETHEUS_PORT}`,
    ])
    .withCopyContentToContainer(
      contents.map(([name, content]) => ({ content, target: `${FOLDER}/${name}`, mode: 0o644 })),
    )
    .withStartupTimeout(30_000)
    .withWaitStrategy(Wait.forLogMessage('Server is ready to receive web requests'));
  if (beside === undefined) container.withExposedPorts(PROMETHEUS_PORT);
  else container.withNetworkMode(`container:${beside.containerId}`);
  const started = await container.start();
  const port = beside?.mappedPort(PROMETHEUS_PORT) ?? started.getMappedPort(PROMETHEUS_PORT);
  const url = `http://127.0.0.1:${port}`;
  const ask = async <Data>(path: string): Promise<Data> => {
    const answer = await fetch(`${url}/api/v1/${path}`);
    const { data, error } = (await answer.json()) as { error?: string; data?: Data };
    if (data === undefined) throw new Error(`Prometheus refuses ${decodeURIComponent(path)}: ${error}`);
    return data;
  };
  return {
    writeUrl: `${url}/api/v1/write`,
    query: async (promql) => {
      const { result } = await ask<{ result: { metric: Record<string, string>; value: [number, string] }[] }>(
        `query?${new URLSearchParams({ query: promql })}`,
      );
      return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    alerts: async () => {
      const { groups } = await ask<{ groups: { rules: AlertState[] }[] }>('rules?type=alert');
      return groups.flatMap(({ rules }) => rules);
    },
    promtool: async (...args) => {
      const { exitCode, output } = await started.exec(['promtool', ...args], { workingDir: FOLDER });
      return { exitCode, output };
    },
    stop: async () => {
      await started.stop({ timeout: 0 });
    },
  };
}
