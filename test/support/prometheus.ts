/** A real Prometheus, which stores what is written to it and answers queries. */
import { type GenericContainer, Wait } from 'testcontainers';
import { IsolatedContainer, imageAvailable } from './apisix.ts';

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

export interface Prometheus {
  /** Where it takes remote writes. */
  readonly writeUrl: string;
  /** The last value of each series that a query gives. */
  query(promql: string): Promise<readonly Series[]>;
  stop(): Promise<void>;
}

export async function startPrometheus(): Promise<Prometheus> {
  const container: GenericContainer = new IsolatedContainer(PROMETHEUS_IMAGE)
    .withCommand([
      '--config.file=/etc/prometheus/prometheus.yml',
      '--storage.tsdb.path=/prometheus',
      '--web.enable-remote-write-receiver',
    ])
    .withCopyContentToContainer([{ content: '{}\n', target: '/etc/prometheus/prometheus.yml', mode: 0o644 }])
    .withExposedPorts(PORT)
    .withStartupTimeout(30_000)
    .withWaitStrategy(Wait.forHttp('/-/ready', PORT).forStatusCode(200));
  const started = await container.start();
  const url = `http://127.0.0.1:${started.getMappedPort(PORT)}`;
  return {
    writeUrl: `${url}/api/v1/write`,
    query: async (promql) => {
      const answer = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: promql })}`);
      const { data, error } = (await answer.json()) as {
        error?: string;
        data?: { result: { metric: Record<string, string>; value: [number, string] }[] };
      };
      if (data === undefined) throw new Error(`Prometheus refuses ${promql}: ${error}`);
      return data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    stop: async () => {
      await started.stop({ timeout: 0 });
    },
  };
}
