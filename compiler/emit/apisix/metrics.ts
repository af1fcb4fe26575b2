/** The gateway's own metrics: known model names for labels, and the memory for series. */
import type { GatewayModel } from '../../model/model.ts';

/** The configuration of the gateway's own metrics; undefined if it is empty. */
export function ownMetrics(model: GatewayModel): object | undefined {
  const { telemetry, clients } = model;
  const priced = telemetry.metrics.prices.map((each) => each.model);
  // Models in the deployments of backends are known from there. Without prices, names in backends' answers may become
  // labels too.
  const listed = clients.flatMap(({ models = [] }) => models.filter((name) => !name.includes('*')));
  const models = priced.length > 0 ? [...new Set([...priced, ...listed])] : undefined;
  return models === undefined ? undefined : { models };
}

const KIB = 1024;
const MIB = 1024 ** 2;

/** The capacity of the default GATEWAY_METRICS_MEMORY: 100 clients, 20 models, 10 backends and 5 operations. */
const METRICS_AT_40_MIB = { lines: 25_000, bytes: 5_000_000 } as const;

/** Divides the memory for metrics, and limits the size of the metrics page. `bench:gateway metrics` measures it. */
export function metricsBudget({ telemetry }: GatewayModel): object {
  const memory = telemetry.metrics.memory;
  const part = memory / (40 * MIB);
  const bytes = Math.floor(METRICS_AT_40_MIB.bytes * part);
  // Room for the old and the new page, and for nginx's own data.
  const page = Math.ceil((2.06 * bytes) / KIB) + 512;
  return {
    lines: Math.floor(METRICS_AT_40_MIB.lines * part),
    bytes,
    page: `${page}k`,
    values: `${Math.floor(memory / KIB) - page}k`,
  };
}
