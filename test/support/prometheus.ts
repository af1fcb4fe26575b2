/** A real Prometheus, which stores what is written to it and answers queries. */
import { type GenericContainer, Wait } from 'testcontainers';
import { IsolatedContainer, imageAvailable } from './apisix.ts';
import { HOST } from './gateway.ts';

export const PROMETHEUS_IMAGE = 'prom/prometheus:v3.15.1';
const PORT = 9090;

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
  config = '{}\n',
  files = {},
}: PrometheusOptions = {}): Promise<Prometheus> {
  const contents = Object.entries({ 'prometheus.yml': config, ...files });
  const container: GenericContainer = new IsolatedContainer(PROMETHEUS_IMAGE)
    .withCommand([
      `--config.file=${FOLDER}/prometheus.yml`,
      '--storage.tsdb.path=/prometheus',
      '--web.enable-remote-write-receiver',
    ])
    .withExtraHosts([{ host: HOST, ipAddress: 'host-gateway' }])
    .withCopyContentToContainer(
      contents.map(([name, content]) => ({ content, target: `${FOLDER}/${name}`, mode: 0o644 })),
    )
    .withExposedPorts(PORT)
    .withStartupTimeout(30_000)
    .withWaitStrategy(Wait.forHttp('/-/ready', PORT).forStatusCode(200));
  const started = await container.start();
  const url = `http://127.0.0.1:${started.getMappedPort(PORT)}`;
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
