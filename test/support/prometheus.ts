/** A real Prometheus, which stores remote writes and answers queries. */
import { GenericContainer, Wait } from 'testcontainers';
import { type Apisix, IsolatedContainer } from './apisix.ts';
import { cannotRun, PROMETHEUS_IMAGE } from './requirements.ts';

/** Not 9090, which APISIX uses in the gateway's network. */
export const PROMETHEUS_PORT = 9095;

/** For `describe.skipIf`. */
export const cannotRunPrometheusTests = (tests: string): boolean => cannotRun(tests, 'prometheus');

export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PrometheusOptions {
  /** The gateway whose network it joins, and which publishes `PROMETHEUS_PORT`. */
  readonly beside?: Apisix;
  /** The content of prometheus.yml. By default it scrapes nothing. */
  readonly config?: string;
  /** More files in the folder of prometheus.yml, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

export interface AlertState {
  readonly name: string;
  readonly state: 'inactive' | 'pending' | 'firing';
  readonly health: string;
  readonly lastError?: string;
}

export interface Prometheus {
  /** The remote write endpoint. */
  readonly writeUrl: string;
  /** The last value of each series that a query returns. */
  query(promql: string): Promise<readonly Series[]>;
  /** The loaded alert rules with their states at the last evaluation. */
  alerts(): Promise<readonly AlertState[]>;
  /** Runs its `promtool` in the folder of prometheus.yml. */
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
