/** The data for the templates of apisix.yaml, in addition to the model. */
import type { Backend, BackendCredential, GatewayModel } from '../../model/model.ts';
import { SECRETS_ITEM } from '../encodings.ts';
import { accessLogFields } from './access-log.ts';
import { cacheMemory } from './cache.ts';
import type { LimitRules } from './limit-rules.ts';
import { ownMetrics } from './metrics.ts';
import type { UsedPlugins } from './plugins.ts';
import { fileOf, listedFiles, settingOfFile } from './secret-files.ts';

/** The data for the templates of apisix.yaml. */
export function apisixView(model: GatewayModel, rules: LimitRules, uses: UsedPlugins): object {
  const { limits, failover, balancing, affinity, cache } = model;
  const files = listedFiles(model, uses);
  const byLatency = balancing.algorithm === 'latency';
  const details = model.backends.map(backendDetails).filter((each) => each !== undefined);
  return {
    ...model,
    uses,
    // ai-proxy-multi does not have this algorithm.
    poolBalancer: !byLatency,
    ownBalancer: byLatency ? balancing.algorithm : undefined,
    limits: { ...limits, ...rules, passwordSetting: settingOfFile(limits.redis?.password) },
    affinityPasswordSetting: settingOfFile(affinity.redis?.password),
    cacheMemory: cacheMemory(model),
    cachePasswordSetting: settingOfFile(cache?.redis?.password),
    cacheKeySetting: settingOfFile(cache?.encryption?.key),
    cachePreviousKeySetting: settingOfFile(cache?.encryption?.previous),
    backendDetails: details.length > 0 ? details : undefined,
    secrets: Object.keys(files).length > 0 ? { id: SECRETS_ITEM, files } : undefined,
    clients: model.clients.map((client) => ({
      ...client,
      keyFile: fileOf(client.key),
      secondaryKeyFile: fileOf(client.secondaryKey),
    })),
    fallbackStrategy: fallbackStrategy(failover.retryStatuses),
    maxRetries: failover.maxAttempts === undefined ? undefined : { count: failover.maxAttempts - 1 },
    ownMetrics: ownMetrics(model),
    accessLogFields: accessLogFields(model),
  };
}

/** The data that azure-openai-proxy needs about a backend, in addition to its instance; undefined if there is none. */
function backendDetails({ name, region, deployments, credential }: Backend): object | undefined {
  const keySetting = credential.kind === 'api-key' ? settingOfFile(credential.key) : undefined;
  const details = {
    ...(keySetting === undefined ? {} : { key_setting: keySetting }),
    ...(credential.kind === 'entra' ? { identity: identity(credential) } : {}),
    ...(region === undefined ? {} : { region }),
    ...(deployments
      ? { deployments: Object.fromEntries(deployments.map((each) => [each.name, each.backendName])) }
      : {}),
  };
  return Object.keys(details).length > 0 ? { name, ...details } : undefined;
}

const identity = ({ resource, clientId }: Extract<BackendCredential, { kind: 'entra' }>) => ({
  resource,
  ...(clientId === undefined ? {} : { client_id: clientId }),
});

/** The names that ai-proxy-multi has for sets of statuses. azure-openai-proxy gets the exact set. */
function fallbackStrategy(statuses: readonly number[]): string[] {
  return [
    ...(statuses.some((each) => each < 500) ? ['http_429'] : []),
    ...(statuses.some((each) => each >= 500) ? ['http_5xx'] : []),
  ];
}
