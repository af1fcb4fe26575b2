/** The facts in apisix.yaml that matter to a reviewer: pool, clients, limits. Works on foreign files too. Pure. */
import { isList, isMapping, type Scalar, SecretLeaf, type Tree } from './tree.ts';

export interface BackendFacts {
  readonly name: string;
  readonly priority: number;
  readonly weight: number;
  readonly endpoint: string;
  /** The models that the backend serves; undefined: all models. */
  readonly models?: readonly string[];
}

export interface ClientFacts {
  readonly name: string;
  readonly key: SecretLeaf | undefined;
  readonly secondKey: SecretLeaf | undefined;
  readonly models?: readonly string[];
  /** Limits by what they count: `tokens a minute`. */
  readonly budgets: ReadonlyMap<string, number>;
}

export interface PoolFacts {
  readonly name: string;
  /** The prefix of its paths: `/search`. */
  readonly path: string;
  /** The clients that may use it; undefined: all clients. */
  readonly clients?: readonly string[];
  readonly backends: readonly BackendFacts[];
}

export interface Facts {
  readonly backends: readonly BackendFacts[];
  readonly clients: readonly ClientFacts[];
  /** The pools with a path of their own. */
  readonly pools: readonly PoolFacts[];
  /** Undefined if the document has no such setting. */
  readonly authentication: boolean | undefined;
  /** The issuer of accepted tokens. */
  readonly issuer: string | undefined;
  readonly balancer: string;
  readonly retryStatuses: readonly number[];
  readonly maxRetries: number | undefined;
  /** Limits of the whole gateway, by name: of a lane, the request rate, the request quota. */
  readonly limits: ReadonlyMap<string, number>;
  readonly allowedOrigins: readonly string[];
  /** `whitelist` or `blacklist`. */
  readonly addresses: string | undefined;
  /** The number of secrets in the document itself. */
  readonly plainSecrets: number;
}

/** The id of the service whose plugins all AI routes share. */
const THE_SERVICE = 'azure-openai';

export function factsOf(apisix: Tree): Facts {
  const services = items(get(apisix, 'services'));
  const service = services.find((each) => text(get(each, 'id')) === THE_SERVICE);
  const plugins = get(service, 'plugins');
  const proxy = get(plugins, 'azure-openai-proxy');
  const pool = get(plugins, 'ai-proxy-multi');
  const authentication = get(plugins, 'azure-openai-auth');
  const required = get(authentication, 'required');
  const addresses = get(plugins, 'ip-restriction');
  return {
    backends: backends(pool, proxy),
    clients: items(get(apisix, 'clients')).map(client),
    pools: services.flatMap(poolWithPath),
    authentication: typeof required === 'boolean' ? required : undefined,
    issuer: text(get(get(authentication, 'oidc'), 'discovery')),
    balancer: text(get(proxy, 'balancer')) ?? text(get(get(pool, 'balancer'), 'algorithm')) ?? 'roundrobin',
    retryStatuses: items(get(proxy, 'retry_statuses')).flatMap((each) => number(each) ?? []),
    maxRetries: number(get(pool, 'max_retries')),
    limits: new Map([...limits(plugins), ...services.flatMap(sharedBudget)]),
    allowedOrigins: (text(get(get(plugins, 'cors'), 'allow_origins')) ?? '').split(',').filter(Boolean),
    addresses: isMapping(addresses) ? [...addresses.keys()].find((key) => key.endsWith('list')) : undefined,
    plainSecrets: plainSecrets(apisix),
  };
}

function poolWithPath(service: Tree): PoolFacts[] {
  const plugins = get(service, 'plugins');
  const proxy = get(plugins, 'azure-openai-proxy');
  const name = text(get(get(proxy, 'pool'), 'name'));
  const path = text(get(get(plugins, 'azure-openai-errors'), 'prefix'));
  if (name === undefined || path === undefined) return [];
  const clients = get(get(proxy, 'pool'), 'clients');
  return [
    {
      name,
      path,
      backends: backends(get(plugins, 'ai-proxy-multi'), proxy),
      ...(isList(clients) ? { clients: clients.flatMap((each) => text(each) ?? []) } : {}),
    },
  ];
}

function backends(pool: Tree | undefined, proxy: Tree | undefined): BackendFacts[] {
  const details = new Map(items(get(proxy, 'backends')).map((each) => [text(get(each, 'name')), each]));
  return items(get(pool, 'instances')).map((each, index) => {
    const name = text(get(each, 'name')) ?? `[${index}]`;
    const deployments = get(details.get(name), 'deployments');
    return {
      name,
      priority: number(get(each, 'priority')) ?? 0,
      weight: number(get(each, 'weight')) ?? 0,
      endpoint: text(get(get(each, 'override'), 'endpoint')) ?? '',
      ...(isMapping(deployments) ? { models: [...deployments.keys()] } : {}),
    };
  });
}

const BUDGETS = [
  ['tokens_per_minute', 'tokens a minute'],
  ['tokens_per_day', 'tokens a day'],
  ['requests_per_minute', 'requests a minute'],
] as const;

function client(each: Tree, index: number): ClientFacts {
  const models = get(each, 'models');
  return {
    name: text(get(each, 'name')) ?? `[${index}]`,
    key: secret(get(each, 'key')),
    secondKey: secret(get(each, 'secondary_key')),
    ...(isList(models) ? { models: models.flatMap((model) => text(model) ?? []) } : {}),
    budgets: new Map(
      BUDGETS.flatMap(([key, what]) => {
        const value = number(get(each, key));
        return value === undefined ? [] : [[what, value] as const];
      }),
    ),
  };
}

function limits(plugins: Tree | undefined): Map<string, number> {
  const rules = items(get(get(plugins, 'ai-rate-limiting'), 'rules')).map(
    (each) => [`tokens of lane ${text(get(each, 'header_prefix'))}`, number(get(each, 'count'))] as const,
  );
  const quota = items(get(get(plugins, 'limit-count'), 'rules')).map(
    (each) => [`request ${text(get(each, 'header_prefix'))}`, number(get(each, 'count'))] as const,
  );
  const rate = ['requests a second', number(get(get(plugins, 'limit-req'), 'rate'))] as const;
  // A count that is a variable is the limit of each client, which is listed with the client.
  return new Map(
    [...rules, ...quota, rate].flatMap(([name, count]) => (count === undefined ? [] : [[name, count]])),
  );
}

/** The budget of a service that both lanes share, with its name. */
function sharedBudget(service: Tree): [string, number][] {
  const budget = get(get(get(service, 'plugins'), 'azure-openai-limits'), 'budget');
  const tokens = number(get(budget, 'tokens_per_minute'));
  if (tokens === undefined) return [];
  const pool = text(get(budget, 'pool'));
  return [[`tokens a minute of both lanes${pool === undefined ? '' : ` of pool ${pool}`}`, tokens]];
}

const get = (tree: Tree | undefined, key: string): Tree | undefined =>
  isMapping(tree) ? tree.get(key) : undefined;
const items = (tree: Tree | undefined): readonly Tree[] => (isList(tree) ? tree : []);
const text = (tree: Tree | undefined): string | undefined => (typeof tree === 'string' ? tree : undefined);
const number = (tree: Tree | undefined): number | undefined => (typeof tree === 'number' ? tree : undefined);
const secret = (tree: Tree | undefined): SecretLeaf | undefined =>
  tree instanceof SecretLeaf ? tree : isScalar(tree) ? new SecretLeaf(undefined, tree) : undefined;
const isScalar = (tree: Tree | undefined): tree is Scalar =>
  tree !== undefined && !isMapping(tree) && !isList(tree) && !(tree instanceof SecretLeaf);

function plainSecrets(tree: Tree): number {
  if (isMapping(tree)) return [...tree.values()].reduce<number>((sum, each) => sum + plainSecrets(each), 0);
  if (isList(tree)) return tree.reduce<number>((sum, each) => sum + plainSecrets(each), 0);
  return tree instanceof SecretLeaf && tree.reference === undefined ? 1 : 0;
}
