/** What the templates of otel-collector.yaml read beside the model itself. */
import type { GatewayModel } from '../model/model.ts';

const TOKENS_PER_PRICE = 1_000_000;

/** An exporter list, undefined where the pipeline has none. */
const exporters = (...names: readonly (string | false)[]): string[] | undefined => {
  const used = names.filter((name) => name !== false);
  return used.length > 0 ? used : undefined;
};

/** What the templates of otel-collector.yaml read. */
export function collectorView(model: GatewayModel): object {
  const { collector, metrics, accessLogPath } = model.telemetry;
  const insights = collector.applicationInsights !== undefined && 'azuremonitor';
  const remoteWrite = collector.remoteWrite !== undefined && 'prometheusremotewrite/azure';
  const debug = collector.debug && 'debug';
  const costs = metrics.prices
    .flatMap(({ model: name, prompt, completion }) => [
      {
        model: name,
        component: 'prompt',
        metric: 'apisix_llm_prompt_tokens',
        usdPerToken: prompt / TOKENS_PER_PRICE,
      },
      {
        model: name,
        component: 'completion',
        metric: 'apisix_llm_completion_tokens',
        usdPerToken: completion / TOKENS_PER_PRICE,
      },
    ])
    // The collector refuses to scale by nothing.
    .filter(({ usdPerToken }) => usdPerToken > 0);
  const traces = exporters(insights, debug);
  const metricExporters = exporters(remoteWrite, debug);
  const costsUsed = metricExporters !== undefined && costs.length > 0;
  return {
    ...model,
    costs,
    pipelines: {
      extensions: ['health_check', ...(remoteWrite ? ['azureauth'] : [])],
      traces: traces ?? ['nop'],
      needNop: traces === undefined,
      metrics: metricExporters,
      costs: costsUsed,
      metricProcessors: ['memory_limiter', 'resource', ...(costsUsed ? ['metricstransform'] : []), 'batch'],
      logs: exporters(insights, debug),
      logReceivers: accessLogPath === undefined ? ['otlp'] : ['otlp', 'filelog'],
    },
  };
}
