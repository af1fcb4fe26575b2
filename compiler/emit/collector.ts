/** The data for the templates of otel-collector.yaml, in addition to the model. */
import type { GatewayModel } from '../model/model.ts';

const TOKENS_PER_PRICE = 1_000_000;

/** A metric for the cost of tokens. The collector makes it from a token counter, multiplied by the price. */
interface Cost {
  readonly name: string;
  /**
   * Regular expressions for the counter and its labels. They match whole names in any case, as Azure does with models.
   */
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly component: 'prompt' | 'completion';
  readonly usdPerToken: number;
}

/** The metric of API Management that the toolkit queries in Application Insights, and its dimension for the client. */
const TOTAL_TOKENS = 'Total Tokens';
const SUBSCRIPTION = 'Subscription ID';

/** The exporters of a pipeline; undefined if it has none. */
const exporters = (...names: readonly (string | false)[]): string[] | undefined => {
  const used = names.filter((name) => name !== false);
  return used.length > 0 ? used : undefined;
};

/** The data for the templates of otel-collector.yaml. */
export function collectorView(model: GatewayModel): object {
  const { collector, metrics, accessLogPath } = model.telemetry;
  const { remoteWrite } = collector;
  const toInsights = collector.applicationInsights !== undefined && 'azure_monitor';
  const toWorkspace = remoteWrite !== undefined && 'prometheus_remote_write/azure';
  const debug = collector.debug && 'debug';
  const costs = costsOf(model);
  const traces = exporters(toInsights, debug);
  const metricExporters = exporters(toWorkspace, debug);
  const tokens = toInsights !== false && model.server.e2eTestMode;
  const costsUsed = metricExporters !== undefined && costs.length > 0;
  return {
    ...model,
    costs,
    besideGateway: isLoopback(metrics.target),
    totalTokens: tokens && { name: TOTAL_TOKENS, client: SUBSCRIPTION },
    scrapes: metricExporters !== undefined || tokens,
    remoteWriteScopes: remoteWrite && [`https://monitor.azure.${cloudOf(remoteWrite.endpoint)}/.default`],
    pipelines: {
      extensions: ['health_check', ...(toWorkspace ? ['azure_auth'] : [])],
      traces: traces ?? ['nop'],
      needNop: traces === undefined,
      metrics: metricExporters,
      costs: costsUsed,
      metricProcessors: ['memory_limiter', 'resource', ...(costsUsed ? ['metrics_transform'] : []), 'batch'],
      tokens: tokens ? [toInsights] : undefined,
      logs: exporters(toInsights, debug),
      logReceivers: accessLogPath === undefined ? ['otlp'] : ['otlp', 'file_log'],
    },
  };
}

/**
 * Uses the price of the model at the backend; if it has none, the price of the model that the client requested. The
 * mapping of deployment names is known, so nothing is priced twice.
 */
function costsOf({ telemetry, backends, cache, clients }: GatewayModel): Cost[] {
  const { prices } = telemetry.metrics;
  const priced = new Set(prices.map(({ model }) => model.toLowerCase()));
  const names = new Map(
    backends
      .flatMap((each) => each.deployments ?? [])
      .filter(({ backendName }) => !priced.has(backendName.toLowerCase()))
      .map((each) => [`${each.name}=${each.backendName}`.toLowerCase(), each]),
  );
  const unpriced = [
    ...backends.flatMap((each) => each.deployments ?? []).flatMap((each) => [each.name, each.backendName]),
    ...clients.flatMap(({ models = [] }) => models),
  ].filter((name) => !priced.has(name.toLowerCase()) && !name.includes('*'));
  // All other names that a label can have: with prices configured, the gateway learns no further names.
  const withoutPrice = oneOf(['other', ...new Set(unpriced.map((name) => name.toLowerCase()))]);
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
      // A router has no price; the price of the model that it chose applies.
      const routed = {
        request_llm_model: withoutPrice,
        llm_model: withoutPrice,
        answer_model: wholeName(model),
      };
      const each = { prompt: prompt / TOKENS_PER_PRICE, completion: completion / TOKENS_PER_PRICE };
      return [
        ...labels.flatMap((of) => [cost('prompt', of, each.prompt), cost('completion', of, each.completion)]),
        ...(cache === undefined
          ? []
          : labels.flatMap((of) => [
              savedCost('prompt', of, each.prompt),
              savedCost('completion', of, each.completion),
            ])),
        ...[...labels, routed].flatMap((of) => [
          servedCost('prompt', of, each.prompt),
          servedCost('completion', of, each.completion),
        ]),
      ];
    })
    .filter(({ usdPerToken }) => usdPerToken > 0); // The collector refuses to scale by nothing.
}

const cost = (component: Cost['component'], labels: Cost['labels'], usdPerToken: number): Cost => ({
  name: 'llm_cost_usd',
  metric: `^apisix_llm_${component}_tokens$`,
  labels,
  component,
  usdPerToken,
});

/**
 * Cost by serving deployment instead of requested model: provisioned tokens are prepaid, and tiers and routers matter.
 */
const servedCost = (component: Cost['component'], labels: Cost['labels'], usdPerToken: number): Cost => ({
  name: 'llm_served_cost_usd',
  metric: '^apisix_genai_served_tokens_total$',
  labels: { ...labels, kind: `^${component}$` },
  component,
  usdPerToken,
});

/** The cost of the tokens that backends did not have to make, because the answer was stored. */
const savedCost = (component: Cost['component'], labels: Cost['labels'], usdPerToken: number): Cost => ({
  name: 'llm_saved_cost_usd',
  metric: '^apisix_genai_cache_saved_tokens_total$',
  labels: { ...labels, kind: `^${component}$` },
  component,
  usdPerToken,
});

const oneOf = (names: readonly string[]) =>
  `^(?i:${names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})$`;
const wholeName = (name: string) => oneOf([name]);

/** Whether the scraped gateway runs on the same host as the collector. */
const isLoopback = (target: string) => /^(?:127\.|localhost:|\[::1\])/.test(target);

/** Azure's clouds have different token audiences for Azure Monitor. */
function cloudOf(endpoint: string): string {
  const [, cloud = 'com'] = /\.azure\.(us|cn)$/i.exec(new URL(endpoint).hostname) ?? [];
  return cloud.toLowerCase();
}
