/** The data for the template of config.yaml, in addition to the model. */
import type { GatewayModel } from '../model/model.ts';
import { accessLogFormat, luaVariables } from './apisix/access-log.ts';
import { cacheMemory } from './apisix/cache.ts';
import { metricsBudget } from './apisix/metrics.ts';
import type { UsedPlugins } from './apisix/plugins.ts';

/** The data for the template of config.yaml. */
export function configView(model: GatewayModel, uses: UsedPlugins): object {
  const { server } = model;
  return {
    ...model,
    plugins: Object.entries(uses).flatMap(([plugin, isUsed]) => (isUsed ? [plugin] : [])),
    workers: server.workers === 'auto' ? 'auto' : Number(server.workers),
    metricsBudget: metricsBudget(model),
    cacheMemory: cacheMemory(model),
    accessLogFormat: accessLogFormat(model),
    clientSendTimeout: `${server.clientSendTimeout}ms`,
    luaVariables: luaVariables(model),
  };
}
