/** The data for the templates of apisix.yaml, in addition to the model. */
import type { Backend, BackendCredential, GatewayModel, Pool, Preferred, Redis } from '../../model/model.ts';
import { SECRETS_ITEM } from '../encodings.ts';
import { accessLogFields } from './access-log.ts';
import { cacheMemory } from './cache.ts';
import type { LimitRules } from './limit-rules.ts';
import { ownMetrics } from './metrics.ts';
import type { UsedPlugins } from './plugins.ts';
import { fileOf, listedFiles, settingOfFile } from './secret-files.ts';

/** The data for the templates of apisix.yaml: that of the plain paths, of every service, and of the whole gateway. */
export function apisixView(model: GatewayModel, rules: LimitRules, uses: UsedPlugins): object {
  const files = listedFiles(model, uses);
  const plain = {
    ...serviceView(PLAIN_SERVICE, model, rules, uses),
    ...(model.pools.length > 0 ? { pool: { name: PLAIN_POOL } } : {}),
  };
  const ofPools = model.pools.map((pool) => ({
    ...serviceView(`pool-${pool.name}`, ofPool(model, pool), rules, uses),
    pool: compact({ name: pool.name, clients: pool.clients }),
    prefix: pool.path,
    uris: [...USUAL_PATHS.map((path) => pool.path + path), `${pool.path}/*`],
  }));
  return {
    ...plain,
    uris: [...USUAL_PATHS, '/openai/v1/*'],
    services: [plain, ...ofPools],
    pools: ofPools,
    preferred: model.preferred && preferredView(model.preferred, model.backends),
    secrets: Object.keys(files).length > 0 ? { id: SECRETS_ITEM, files } : undefined,
    clients: model.clients.map((client) => ({
      ...client,
      keyFile: fileOf(client.key),
      secondaryKeyFile: fileOf(client.secondaryKey),
    })),
  };
}

/**
 * The paths of most requests. For a path with `*`, APISIX runs a regular expression for each request, which is a twentieth of a
 * request's cost.
 */
const USUAL_PATHS = ['/openai/v1/chat/completions', '/openai/v1/responses', '/openai/v1/embeddings'] as const;

/** The id of the service of the plain paths. */
const PLAIN_SERVICE = 'azure-openai';

/** The name of the pool of the plain paths in telemetry, where there are others; `pools.lua` has it too. */
const PLAIN_POOL = 'default';

/** The gateway as the requests of a pool see it. */
const ofPool = (model: GatewayModel, { backends, balancing, failover, budget }: Pool): GatewayModel => {
  const { shared: _, ...limits } = model.limits;
  return {
    ...model,
    backends,
    balancing,
    failover,
    limits: budget === undefined ? limits : { ...limits, shared: budget },
  };
};

/** The data for the plugins of one service. */
function serviceView(id: string, model: GatewayModel, rules: LimitRules, uses: UsedPlugins): object {
  const { limits, failover, balancing, affinity, cache } = model;
  const isOwn = balancing.algorithm === 'latency' || balancing.algorithm === 'preferred';
  const details = model.backends.map(backendDetails).filter((each) => each !== undefined);
  const { fixed } = failover.cooldown;
  const { redis } = model.preferred ?? {};
  return {
    ...model,
    id,
    uses,
    // ai-proxy-multi does not have these algorithms.
    poolBalancer: !isOwn,
    ownBalancer: isOwn ? balancing.algorithm : undefined,
    preferredRedis: balancing.algorithm === 'preferred' && redis ? ownRedis(redis) : undefined,
    limits: { ...limits, ...rules, passwordSetting: settingOfFile(limits.redis?.password) },
    // The limits are those of the whole gateway, so the requests of pools are counted with all others.
    limitsPlugin: compact({
      counters_of: id === PLAIN_SERVICE ? undefined : PLAIN_SERVICE,
      redis_password_setting: settingOfFile(limits.redis?.password),
    }),
    affinityPasswordSetting: settingOfFile(affinity.redis?.password),
    cacheMemory: cacheMemory(model),
    cachePasswordSetting: settingOfFile(cache?.redis?.password),
    cacheKeySetting: settingOfFile(cache?.encryption?.key),
    cachePreviousKeySetting: settingOfFile(cache?.encryption?.previous),
    backendDetails: details.length > 0 ? details : undefined,
    fallbackStrategy: fallbackStrategy(failover.retryStatuses),
    maxRetries: failover.maxAttempts === undefined ? undefined : { count: failover.maxAttempts - 1 },
    fixedCooldown: fixed === undefined ? undefined : { ms: fixed },
    ownMetrics: ownMetrics(model),
    accessLogFields: accessLogFields(model),
  };
}

/** The configuration of azure-openai-preferred. */
function preferredView({ secret, redis }: Preferred, backends: readonly Backend[]): object {
  return compact({
    secret: settingOfFile(secret) === undefined ? secret : undefined,
    secret_setting: settingOfFile(secret),
    backends: backends.map(({ name, origin }) => ({ name, endpoint: origin })),
    redis: redis && ownRedis(redis),
  });
}

/** A Redis with which the gateway speaks itself. */
const ownRedis = ({ timeout, password, ...redis }: Redis & { readonly timeout: number }): object =>
  compact({
    ...redis,
    password: settingOfFile(password) === undefined ? password : undefined,
    // The gateway reads the file whenever it connects.
    password_setting: settingOfFile(password),
    timeout_ms: timeout,
  });

const compact = (object: object): object =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));

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
