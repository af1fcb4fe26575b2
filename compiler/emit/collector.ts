/** What the templates of otel-collector.yaml read beside the model itself. */
import type { GatewayModel } from '../model/model.ts';

const TOKENS_PER_PRICE = 1_000_000;

/** What tokens cost, as one operation of the collector on a counter of them. */
interface Cost {
  /** Expressions for the counter and its labels; whole names, in any case, as Azure takes models. */
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly component: 'prompt' | 'completion';
  readonly usdPerToken: number;
}

/** An exporter list, undefined where the pipeline has none. */
const exporters = (...names: readonly (string | false)[]): string[] | undefined => {
  const used = names.filter((name) => name !== false);
  return used.length > 0 ? used : undefined;
};

/** What the templates of otel-collector.yaml read. */
export function collectorView(model: GatewayModel): object {
  const { collector, metrics, accessLogPath } = model.telemetry;
  const { remoteWrite } = collector;
  const toInsights = collector.applicationInsights !== undefined && 'azure_monitor';
  const toWorkspace = remoteWrite !== undefined && 'prometheus_remote_write/azure';
  const debug = collector.debug && 'debug';
  const costs = costsOf(model);
  const traces = exporters(toInsights, debug);
  const metricExporters = exporters(toWorkspace, debug);
  const costsUsed = metricExporters !== undefined && costs.length > 0;
  return {
    ...model,
    costs,
    besideGateway: isLoopback(metrics.target),
    remoteWriteScopes: remoteWrite && [`https://monitor.azure.${cloudOf(remoteWrite.endpoint)}/.default`],
    pipelines: {
      extensions: ['health_check', ...(toWorkspace ? ['azure_auth'] : [])],
      traces: traces ?? ['nop'],
      needNop: traces === undefined,
      metrics: metricExporters,
      costs: costsUsed,
      metricProcessors: ['memory_limiter', 'resource', ...(costsUsed ? ['metrics_transform'] : []), 'batch'],
      logs: exporters(toInsights, debug),
      logReceivers: accessLogPath === undefined ? ['otlp'] : ['otlp', 'file_log'],
    },
  };
}

/**
 * A price is that of the model that a backend was asked for; where that one has none, of the model that the client
 * asked for. Nothing is priced twice: which of a client's names become which of a backend's is known.
 */
function costsOf({ telemetry, backends }: GatewayModel): Cost[] {
  const { prices } = telemetry.metrics;
  const priced = new Set(prices.map(({ model }) => model.toLowerCase()));
  const names = new Map(
    backends
      .flatMap((each) => each.deployments ?? [])
      .filter(({ backendName }) => !priced.has(backendName.toLowerCase()))
      .map((each) => [`${each.name}=${each.backendName}`.toLowerCase(), each]),
  );
  return prices
    .flatMap(({ model, prompt, completion }) => {
      const labels = [
        { llm_model: wholeName(model) },
        ...[...names.values()]
          .filter(({ name }) => name.toLowerCase() === model.toLowerCase())
          .map(({ backendName }) => ({
            request_llm_model: wholeName(model),
            llm_model: wholeName(backendName),
          })),
      ];
      return labels.flatMap((each) => [
        cost('prompt', each, prompt / TOKENS_PER_PRICE),
        cost('completion', each, completion / TOKENS_PER_PRICE),
      ]);
    })
    .filter(({ usdPerToken }) => usdPerToken > 0); // The collector refuses to scale by nothing.
}

const cost = (component: Cost['component'], labels: Cost['labels'], usdPerToken: number): Cost => ({
  metric: `^apisix_llm_${component}_tokens$`,
  labels,
  component,
  usdPerToken,
});

const wholeName = (name: string) => `^(?i:${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')})$`;

/** Whether the gateway that is scraped runs where the collector does, one beside the other. */
const isLoopback = (target: string) => /^(?:127\.|localhost:|\[::1\])/.test(target);

/** Azure's clouds issue tokens for Azure Monitor under their own names. */
function cloudOf(endpoint: string): string {
  const [, cloud = 'com'] = /\.azure\.(us|cn)$/i.exec(new URL(endpoint).hostname) ?? [];
  return cloud.toLowerCase();
}
