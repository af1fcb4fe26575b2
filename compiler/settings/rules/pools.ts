import { nearestOf } from '../../diagnostics/nearest.ts';
import { poolFields } from '../declarations/index.ts';
import { backendName, poolBackends, poolCooldown, poolPath, usesPreferred } from '../effective.ts';
import { firstWith, poolVariable, type Rule } from './rule.ts';

const POOL_FIELDS = Object.keys(poolFields) as (keyof typeof poolFields)[];

const poolsHaveNames: Rule = ({ pools, given, report }) => {
  for (const pool of pools) {
    const variable = poolVariable('NAME', pool);
    if (given(variable)) continue;
    const present = POOL_FIELDS.map((field) => poolVariable(field, pool)).find(given) ?? '';
    report('POOL_WITHOUT_NAME', variable, { present });
  }
};

/** The name of the pool of the plain paths; `emit/apisix/view.ts` writes it. */
const PLAIN_POOL = 'default';

const poolNamesAreUnique: Rule = ({ pools, report }) => {
  const seen = new Map<string, string>();
  for (const pool of pools) {
    if (pool.NAME === undefined) continue;
    const variable = poolVariable('NAME', pool);
    const key = pool.NAME.toLowerCase();
    if (key === PLAIN_POOL) report('POOL_NAME_RESERVED', variable, { name: pool.NAME });
    const other = firstWith(seen, key, variable);
    if (other !== undefined) report('DUPLICATE_NAME', variable, { other, name: pool.NAME });
  }
};

/**
 * First segments of paths that the gateway serves itself: its APIs, the operations of genai/openai/paths.lua, which it
 * serves without the prefix of an API too, and its endpoints. A test compares the operations.
 */
export const RESERVED_SEGMENTS: ReadonlySet<string> = new Set([
  'openai',
  'v1',
  'deployments',
  'apisix',
  'config',
  'healthz',
  'helpers',
  'readyz',
  'assistants',
  'audio',
  'batches',
  'chat',
  'completions',
  'containers',
  'conversations',
  'embeddings',
  'evals',
  'files',
  'fine_tuning',
  'images',
  'models',
  'realtime',
  'responses',
  'threads',
  'uploads',
  'vector_stores',
  'videos',
]);

const pathsAreOfOnePool: Rule = (context) => {
  const { pools, given, report } = context;
  const seen: { variable: string; path: string; isGiven: boolean }[] = [];
  for (const pool of pools) {
    const path = poolPath(context, pool).value;
    if (path === undefined) continue;
    const variable = poolVariable('PATH', pool);
    const isGiven = given(variable);
    const segment = path.split('/')[1] ?? '';
    if (RESERVED_SEGMENTS.has(segment.toLowerCase()))
      report('POOL_PATH_RESERVED', variable, { path, segment });
    const other = seen.find((each) => isWithin(each.path, path) || isWithin(path, each.path));
    // Two pools without a path that have the same name have a diagnostic for their names.
    if (other && (isGiven || other.isGiven))
      report('POOL_PATHS_OVERLAP', variable, { path, other: other.variable, otherPath: other.path });
    seen.push({ variable, path, isGiven });
  }
};

/** Whether a path is a prefix, or below it. */
export const isWithin = (path: string, prefix: string): boolean => `${path}/`.startsWith(`${prefix}/`);

const backendsOfPoolsExist: Rule = (context) => {
  const { backends, pools, report } = context;
  const known = backends.map((each) => backendName(context, each).value);
  const isKnown = new Set(known.map((name) => name.toLowerCase()));
  for (const pool of pools) {
    const variable = poolVariable('BACKENDS', pool);
    const unknown = (pool.BACKENDS ?? []).filter(({ name }) => !isKnown.has(name.toLowerCase()));
    for (const { name } of unknown)
      report('UNKNOWN_BACKEND', variable, { backend: name, nearest: nearestOf([name], known), known });
    if (unknown.length > 0 || backends.length === 0) continue;
    const members = poolBackends(context, pool).value;
    // All backends are drained: that has its own diagnostic.
    if (pool.BACKENDS === undefined && backends.every((each) => each.WEIGHT === 0)) continue;
    if (members.every(({ weight }) => weight === 0))
      report('POOL_DRAINED', variable, { pool: pool.NAME ?? String(pool.index) });
  }
};

/** The name of the client of GATEWAY_CLIENT_KEY. */
const SINGLE_CLIENT = 'gateway-client';

const clientsOfPoolsExist: Rule = ({ clients, pools, values, given, usable, report }) => {
  const known = [
    ...clients.flatMap(({ NAME }) => NAME ?? []),
    ...(given('GATEWAY_CLIENT_KEY') ? [SINGLE_CLIENT] : []),
  ];
  for (const pool of pools) {
    const variable = poolVariable('CLIENTS', pool);
    if (pool.CLIENTS === undefined || !usable(variable)) continue;
    for (const item of pool.CLIENTS) {
      if (item.startsWith('oidc:')) {
        if (!values.ENABLE_OIDC && !(given('ENABLE_OIDC') && !usable('ENABLE_OIDC')))
          report('POOL_TOKENS_WITHOUT_OIDC', variable, { item });
      } else if (!known.includes(item)) {
        report('UNKNOWN_CLIENT', variable, { client: item, nearest: nearestOf([item], known), known });
      }
    }
  }
};

const cooldownsFitTheirCap: Rule = (context) => {
  for (const pool of context.pools) {
    if (poolCooldown(context, pool).follows === undefined) continue;
    const low = poolVariable('COOLDOWN', pool);
    context.report('ABOVE_LIMIT', low, {
      low,
      high: 'AI_PROXY_COOLDOWN_MAX',
      effect: 'AI_PROXY_COOLDOWN_MAX applies',
    });
  }
};

const orderHasASecret: Rule = (context) => {
  const { values, pools, given, report } = context;
  if (!usesPreferred(context) || given('CONFIG_API_SHARED_SECRET')) return;
  const pool = pools.find(({ LB_ALG }) => LB_ALG === 'preferred');
  // The test mode has a warning of its own.
  if (values.LB_ALG !== 'preferred' && !pool) return;
  const setting = values.LB_ALG === 'preferred' || !pool ? 'LB_ALG' : poolVariable('LB_ALG', pool);
  report('PREFERRED_WITHOUT_SECRET', setting, { setting });
};

export const poolRules: readonly Rule[] = [
  poolsHaveNames,
  poolNamesAreUnique,
  pathsAreOfOnePool,
  backendsOfPoolsExist,
  clientsOfPoolsExist,
  cooldownsFitTheirCap,
  orderHasASecret,
];
