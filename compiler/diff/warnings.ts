/** Warnings about risky changes of apisix.yaml, by named rules. Pure. */
import type { BackendFacts, ClientFacts, Facts, PoolFacts } from './facts.ts';
import type { SecretLeaf } from './tree.ts';

export const WARNING_RULES = [
  'authentication-off',
  'issuer-removed',
  'client-loses-key',
  'client-loses-models',
  'model-unserved',
  'last-of-priority',
  'no-failover',
  'pool-removed',
  'pool-loses-clients',
  'pool-loses-backends',
  'backend-repointed',
  'backend-unencrypted',
  'retries-narrowed',
  'limit-removed',
  'limit-lowered',
  'addresses-opened',
  'origins-opened',
  'secrets-inline',
] as const;
export type WarningRule = (typeof WARNING_RULES)[number];

export interface Warning {
  readonly rule: WarningRule;
  /** Words, and names or values, which are formatted as code. */
  readonly text: readonly (string | { readonly value: string })[];
}

/** The warnings about a change, in the order of the rules. */
export function warningsOf(before: Facts, after: Facts): Warning[] {
  const found = RULES.flatMap((rule) => rule(before, after));
  return found.sort((a, b) => WARNING_RULES.indexOf(a.rule) - WARNING_RULES.indexOf(b.rule));
}

type Rule = (before: Facts, after: Facts) => readonly Warning[];

/** Creates a warning from a tagged template: the inserted values are names or values. */
const warn =
  (rule: WarningRule) =>
  (words: TemplateStringsArray, ...values: readonly (string | number)[]): Warning => ({
    rule,
    text: words.flatMap((each, index) => {
      const value = values[index];
      return value === undefined ? [each] : [each, { value: String(value) }];
    }),
  });

const byName = <T extends { readonly name: string }>(list: readonly T[]): ReadonlyMap<string, T> =>
  new Map(list.map((each) => [each.name, each]));

const active = ({ backends }: Facts | PoolFacts): readonly BackendFacts[] =>
  backends.filter(({ weight }) => weight > 0);

const authentication: Rule = (before, after) => [
  ...(before.authentication === true && after.authentication !== true
    ? [
        warn(
          'authentication-off',
        )`turns authentication off: anyone who reaches the gateway can use your backends`,
      ]
    : []),
  ...(before.issuer !== undefined && before.issuer !== after.issuer
    ? [warn('issuer-removed')`no longer accepts tokens of the issuer ${before.issuer}`]
    : []),
];

const lostKeys: Rule = (before, after) => {
  const kept = after.clients.flatMap(keys);
  const now = byName(after.clients);
  return before.clients.flatMap((client): Warning[] => {
    const lost = keys(client).filter((key) => !kept.some((each) => isSame(key, each)));
    if (lost.length === 0) return [];
    const current = now.get(client.name);
    if (!current)
      return [warn('client-loses-key')`client ${client.name} loses its key, because the client is removed`];
    if (keys(client).length > lost.length)
      return [warn('client-loses-key')`client ${client.name} loses one of its two keys`];
    return [
      warn(
        'client-loses-key',
      )`client ${client.name} loses its key: requests with the old key will be rejected. To avoid this, keep the old key as the second key until the client uses the new one`,
    ];
  });
};

const keys = ({ key, secondKey }: ClientFacts): SecretLeaf[] =>
  [key, secondKey].filter((each) => each !== undefined);

/** Compares keys by value if both are known, else by reference. */
function isSame(a: SecretLeaf, b: SecretLeaf): boolean {
  if (a.reveal() !== undefined && b.reveal() !== undefined) return !a.hasOtherValue(b);
  return a.reference !== undefined && a.reference === b.reference;
}

const clientModels: Rule = (before, after) => {
  const now = byName(after.clients);
  return before.clients.flatMap(({ name, models }): Warning[] => {
    const current = now.get(name);
    if (!current?.models || current.models.includes('*')) return [];
    if (models === undefined)
      return [
        warn('client-loses-models')`client ${name} may call only ${current.models.join(', ')} from now on`,
      ];
    const lost = models.filter((model) => !current.models?.includes(model));
    return lost.length === 0
      ? []
      : [warn('client-loses-models')`client ${name} may no longer call ${lost.join(', ')}`];
  });
};

const unservedModels: Rule = (before, after) => {
  const isServed = (facts: Facts, model: string) =>
    active(facts).some(({ models }) => models === undefined || models.includes(model));
  const models = new Set(active(before).flatMap(({ models: served = [] }) => served));
  const lost = [...models].filter((model) => !isServed(after, model));
  return lost.length === 0
    ? []
    : [warn('model-unserved')`no backend serves ${lost.sort().join(', ')} any more`];
};

const priorities: Rule = (before, after) => {
  const names = byName(after.backends);
  const left = new Set(active(after).map(({ priority }) => priority));
  const gone = [...new Set(active(before).map(({ priority }) => priority))].filter((each) => !left.has(each));
  return gone
    .sort((a, b) => b - a)
    .map((priority) => {
      const was = active(before).filter((each) => each.priority === priority);
      const are = was.map(({ name }) => names.get(name));
      const removed = was.map(({ name }) => name).join(', ');
      if (are.every((each) => each === undefined))
        return warn('last-of-priority')`removes the last backend of priority ${priority}: ${removed}`;
      if (are.every((each) => each === undefined || each.weight === 0))
        return warn('last-of-priority')`drains the last backend of priority ${priority}: ${removed}`;
      return warn('last-of-priority')`leaves no backend with priority ${priority}; it had ${removed}`;
    });
};

const failover: Rule = (before, after) => {
  const [only, ...others] = active(after);
  return only && others.length === 0 && active(before).length > 1
    ? [warn('no-failover')`leaves only the backend ${only.name}: requests that fail there cannot fail over`]
    : [];
};

/** Whether a client or token may no longer use a pool. A client that is removed has a warning of its own. */
function isShutOut(client: string, { clients }: PoolFacts, known: ReadonlySet<string>): boolean {
  if (clients === undefined || clients.includes(client)) return false;
  return client.startsWith('oidc:') ? !clients.includes('oidc:*') : known.has(client);
}

const pools: Rule = (before, after) => {
  const now = byName(after.pools);
  const known = new Set(after.clients.map(({ name }) => name));
  return before.pools.flatMap((pool): Warning[] => {
    const { name, path, clients } = pool;
    const current = now.get(name);
    const paths = `${path}/*`;
    if (!current) return [warn('pool-removed')`removes the pool ${name}: requests to ${paths} get 404`];
    const lost = clients?.filter((each) => isShutOut(each, current, known)) ?? [];
    const left = byName(active(current));
    const gone = active(pool).flatMap((each) => (left.has(each.name) ? [] : [each.name]));
    const found: Warning[] = [];
    if (current.path !== path)
      found.push(
        warn(
          'pool-removed',
        )`moves the pool ${name} from ${path} to ${current.path}: requests to ${paths} get 404`,
      );
    if (clients === undefined && current.clients)
      found.push(
        warn('pool-loses-clients')`only ${current.clients.join(', ')} may use the pool ${name} from now on`,
      );
    if (lost.length > 0)
      found.push(warn('pool-loses-clients')`the pool ${name} no longer serves ${lost.join(', ')}`);
    if (gone.length > 0)
      found.push(
        warn('pool-loses-backends')`the pool ${name} no longer sends requests to ${gone.join(', ')}`,
      );
    return found;
  });
};

const endpoints: Rule = (before, after) => {
  const now = byName(after.backends);
  const old = byName(before.backends);
  const repointed = before.backends.flatMap(({ name, endpoint }): Warning[] => {
    const current = now.get(name);
    return current && current.endpoint !== endpoint
      ? [
          warn(
            'backend-repointed',
          )`backend ${name} becomes another resource: its endpoint changes from ${endpoint} to ${current.endpoint}`,
        ]
      : [];
  });
  const isPlain = (each: BackendFacts | undefined) => each?.endpoint.startsWith('http://') === true;
  const plain = after.backends.filter((each) => isPlain(each) && !isPlain(old.get(each.name)));
  return [
    ...repointed,
    ...plain.map(
      ({ name }) =>
        warn(
          'backend-unencrypted',
        )`backend ${name} is called without TLS: anyone on the network path can read its key and every prompt`,
    ),
  ];
};

const retries: Rule = (before, after) => {
  const lost = before.retryStatuses.filter((status) => !after.retryStatuses.includes(status));
  const most = (facts: Facts) => facts.maxRetries ?? Number.POSITIVE_INFINITY;
  return [
    ...(lost.length > 0
      ? [warn('retries-narrowed')`a request no longer fails over after status ${lost.join(', ')}`]
      : []),
    ...(most(after) < most(before)
      ? [warn('retries-narrowed')`a request is sent at most ${most(after) + 1} times`]
      : []),
  ];
};

const limits: Rule = (before, after) => {
  const now = byName(after.clients);
  const pairs = [
    { whose: undefined, old: before.limits, current: after.limits },
    ...before.clients.flatMap(({ name, budgets }) => {
      const current = now.get(name);
      return current ? [{ whose: name, old: budgets, current: current.budgets }] : [];
    }),
  ];
  return pairs.flatMap(({ whose, old, current }) =>
    [...old].flatMap(([what, count]): Warning[] => {
      const value = current.get(what);
      if (value === undefined)
        return whose === undefined
          ? [warn('limit-removed')`removes the limit of ${what}, which was ${count}`]
          : [warn('limit-removed')`client ${whose} loses its limit of ${what}, which was ${count}`];
      if (value >= count) return [];
      return whose === undefined
        ? [warn('limit-lowered')`lowers the limit of ${what} from ${count} to ${value}`]
        : [warn('limit-lowered')`client ${whose} gets ${value} ${what} instead of ${count}`];
    }),
  );
};

const access: Rule = (before, after) => {
  const opened = after.allowedOrigins.filter((each) => !before.allowedOrigins.includes(each));
  return [
    ...(before.addresses !== undefined && after.addresses !== before.addresses
      ? [warn('addresses-opened')`no longer restricts clients by the ${before.addresses} of IP addresses`]
      : []),
    ...(opened.includes('*')
      ? [warn('origins-opened')`lets web pages of every origin call the gateway`]
      : []),
    ...(before.plainSecrets === 0 && after.plainSecrets > 0
      ? [warn('secrets-inline')`writes secrets into the rendered files`]
      : []),
  ];
};

const RULES: readonly Rule[] = [
  authentication,
  lostKeys,
  clientModels,
  unservedModels,
  priorities,
  failover,
  pools,
  endpoints,
  retries,
  limits,
  access,
];
