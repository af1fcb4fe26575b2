/** The settings of pools: which are refused, and what they come to. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type CompileResult, compile } from '../../compiler/compile.ts';
import type { GatewayModel, Pool } from '../../compiler/model/model.ts';
import { readYaml } from '../../compiler/output/check.ts';
import { RESERVED_SEGMENTS } from '../../compiler/settings/rules/pools.ts';

const BASE = {
  AZURE_OPENAI_ENDPOINT_0: 'https://one.openai.azure.com',
  AZURE_OPENAI_KEY_0: 'key-of-backend-zero-4f1c',
  AZURE_OPENAI_NAME_0: 'Swe-ptu',
  AZURE_OPENAI_PRIORITY_0: '10',
  AZURE_OPENAI_ENDPOINT_1: 'https://two.openai.azure.com',
  AZURE_OPENAI_KEY_1: 'key-of-backend-one-77d0',
  AZURE_OPENAI_WEIGHT_1: '3',
  AZURE_OPENAI_ENDPOINT_2: 'https://three.openai.azure.com',
  AZURE_OPENAI_KEY_2: 'key-of-backend-two-b19e',
  AZURE_OPENAI_WEIGHT_2: '0',
  GATEWAY_CLIENT_NAME_0: 'app',
  GATEWAY_CLIENT_KEY_0: 'key-of-client-zero-9a2b',
};

const compiled = (variables: Record<string, string>): Promise<CompileResult> =>
  compile({ environment: { ...BASE, ...variables }, envFiles: [] });

async function modelOf(variables: Record<string, string>): Promise<GatewayModel> {
  const { model, diagnostics } = await compiled(variables);
  if (!model) throw new Error(JSON.stringify(diagnostics));
  return model;
}

/** The pool with index 0, of these fields. */
async function poolOf(fields: Record<string, string>, others: Record<string, string> = {}): Promise<Pool> {
  const own = Object.entries({ NAME: 'search', ...fields }).map(([field, value]) => [
    `GATEWAY_POOL_${field}_0`,
    value,
  ]);
  const [pool] = (await modelOf({ ...Object.fromEntries(own), ...others })).pools;
  if (!pool) throw new Error('there is no pool');
  return pool;
}

const problemsOf = async (variables: Record<string, string>): Promise<string[]> =>
  (await compiled(variables)).diagnostics
    .filter(({ severity }) => severity !== 'info')
    .map(({ code, setting }) => `${code} ${setting}`);

const shares = ({ backends }: Pool) => backends.map(({ name, priority, weight }) => [name, priority, weight]);

describe('a pool with its name alone', () => {
  test('has all backends with their own priorities and weights', async () => {
    expect(shares(await poolOf({}))).toEqual([
      ['Swe-ptu', 10, 1],
      ['backend-1', 5, 3],
      ['backend-2', 5, 0],
    ]);
  });

  test('has the path of its name, all clients, and the failover of the gateway', async () => {
    const others = { AI_PROXY_MAX_ATTEMPTS: '2', AI_PROXY_RETRY_STATUSES: '429', LB_ALG: 'latency' };
    const pool = await poolOf({}, others);
    expect(pool.path).toBe('/search');
    expect(pool.clients).toBeUndefined();
    expect(pool.failover).toEqual((await modelOf(others)).failover);
    expect(pool.balancing).toEqual({ algorithm: 'latency' });
  });
});

describe('the fields of a pool', () => {
  test('a priority and a weight in the pool replace those of the backend, names in any case', async () => {
    const backends = 'SWE-PTU,backend-1:7,Backend-2:7:4';
    expect(shares(await poolOf({ BACKENDS: backends }))).toEqual([
      ['Swe-ptu', 10, 1],
      ['backend-1', 7, 3],
      ['backend-2', 7, 4],
    ]);
  });

  test('statuses, attempts, cooldown and algorithm replace those of the gateway', async () => {
    const pool = await poolOf({
      RETRY_STATUSES: '503,429',
      MAX_ATTEMPTS: '1',
      COOLDOWN: '60s',
      LB_ALG: 'chash',
    });
    expect(pool.failover.retryStatuses).toEqual([429, 503]);
    expect(pool.failover.maxAttempts).toBe(1);
    expect(pool.failover.cooldown).toEqual({ default: 10_000, max: 120_000, fixed: 60_000 });
    expect(pool.balancing).toEqual({ algorithm: 'chash', hash: { on: 'consumer' } });
  });

  test('a cooldown of 0 is not the same as none', async () => {
    expect((await poolOf({ COOLDOWN: '0' })).failover.cooldown.fixed).toBe(0);
    expect((await poolOf({})).failover.cooldown).not.toHaveProperty('fixed');
  });

  test('a cooldown is at most AI_PROXY_COOLDOWN_MAX, with a warning', async () => {
    const variables = { GATEWAY_POOL_NAME_0: 'search', GATEWAY_POOL_COOLDOWN_0: '10m' };
    expect(await problemsOf(variables)).toEqual(['ABOVE_LIMIT GATEWAY_POOL_COOLDOWN_0']);
    expect((await poolOf({ COOLDOWN: '10m' })).failover.cooldown.fixed).toBe(120_000);
  });

  test('soft affinity applies to pools, except where consistent hashing keeps requests together', async () => {
    const affinity = { on: 'client' };
    const others = { LB_AFFINITY: 'client' };
    expect((await poolOf({}, others)).balancing).toEqual({ algorithm: 'roundrobin', affinity });
    expect((await poolOf({ LB_ALG: 'chash' }, others)).balancing).not.toHaveProperty('affinity');
  });
});

describe('the order that a request sets', () => {
  const preferred = { GATEWAY_POOL_NAME_0: 'search', GATEWAY_POOL_LB_ALG_0: 'preferred' };

  test('exists only where something follows it', async () => {
    expect((await modelOf({ GATEWAY_POOL_NAME_0: 'search' })).preferred).toBeUndefined();
    expect((await modelOf(preferred)).preferred).toEqual({});
    expect((await modelOf({ LB_ALG: 'preferred' })).preferred).toEqual({});
  });

  test('is shared in the Redis of affinity, else in that of the limits', async () => {
    const limits = { AI_RATE_LIMIT_POLICY: 'redis', AI_RATE_LIMIT_REDIS_HOST: 'limits.internal' };
    expect((await modelOf({ ...preferred, ...limits })).preferred?.redis).toMatchObject({
      host: 'limits.internal',
      timeout: 500,
    });
    const both = { ...limits, RESPONSES_AFFINITY_REDIS_HOST: 'affinity.internal' };
    expect((await modelOf({ ...preferred, ...both })).preferred?.redis).toMatchObject({
      host: 'affinity.internal',
      timeout: 1_000,
    });
    expect(await problemsOf({ ...preferred, ...limits, CONFIG_API_SHARED_SECRET: 'secret-5d2e' })).toEqual(
      [],
    );
  });

  test('warns if any client can set it', async () => {
    expect(await problemsOf(preferred)).toEqual(['PREFERRED_WITHOUT_SECRET GATEWAY_POOL_LB_ALG_0']);
    expect(await problemsOf({ LB_ALG: 'preferred' })).toEqual(['PREFERRED_WITHOUT_SECRET LB_ALG']);
  });

  test('a secret that nothing needs has no effect', async () => {
    const variables = { CONFIG_API_SHARED_SECRET: 'secret-of-the-helper-71aa' };
    expect(await problemsOf(variables)).toEqual(['SETTING_WITHOUT_EFFECT CONFIG_API_SHARED_SECRET']);
  });
});

describe('refused:', () => {
  test.each<[title: string, fields: Record<string, string>, problems: string[]]>([
    ['a pool without a name', { PATH_0: '/search' }, ['POOL_WITHOUT_NAME GATEWAY_POOL_NAME_0']],
    [
      'two pools with one name',
      { NAME_0: 'search', NAME_1: 'SEARCH' },
      ['DUPLICATE_NAME GATEWAY_POOL_NAME_1'],
    ],
    ['the name of the plain paths', { NAME_0: 'Default' }, ['POOL_NAME_RESERVED GATEWAY_POOL_NAME_0']],
    [
      'a name that is a path of the gateway',
      { NAME_0: 'Models' },
      ['POOL_PATH_RESERVED GATEWAY_POOL_PATH_0'],
    ],
    ['a path of the gateway', { NAME_0: 'a', PATH_0: '/v1/a' }, ['POOL_PATH_RESERVED GATEWAY_POOL_PATH_0']],
    [
      'the same path twice',
      { NAME_0: 'a', NAME_1: 'b', PATH_1: '/a' },
      ['POOL_PATHS_OVERLAP GATEWAY_POOL_PATH_1'],
    ],
    [
      'a path within another',
      { NAME_0: 'a', PATH_0: '/a/b', NAME_1: 'c', PATH_1: '/a' },
      ['POOL_PATHS_OVERLAP GATEWAY_POOL_PATH_1'],
    ],
    ['a path with dot segments', { NAME_0: 'a', PATH_0: '/a/../b' }, ['INVALID_VALUE GATEWAY_POOL_PATH_0']],
    [
      'an unknown backend',
      { NAME_0: 'a', BACKENDS_0: 'backend-7' },
      ['UNKNOWN_BACKEND GATEWAY_POOL_BACKENDS_0'],
    ],
    ['a drained pool', { NAME_0: 'a', BACKENDS_0: 'backend-2' }, ['POOL_DRAINED GATEWAY_POOL_BACKENDS_0']],
    [
      'a backend twice',
      { NAME_0: 'a', BACKENDS_0: 'swe-ptu:1,SWE-PTU:2' },
      ['INVALID_VALUE GATEWAY_POOL_BACKENDS_0'],
    ],
    [
      'a weight out of range',
      { NAME_0: 'a', BACKENDS_0: 'swe-ptu:1:10001' },
      ['INVALID_VALUE GATEWAY_POOL_BACKENDS_0'],
    ],
    ['an unknown client', { NAME_0: 'a', CLIENTS_0: 'App' }, ['UNKNOWN_CLIENT GATEWAY_POOL_CLIENTS_0']],
    [
      'tokens without an issuer',
      { NAME_0: 'a', CLIENTS_0: 'oidc:*' },
      ['POOL_TOKENS_WITHOUT_OIDC GATEWAY_POOL_CLIENTS_0'],
    ],
    [
      'chash by a header without its name',
      { NAME_0: 'a', LB_ALG_0: 'chash' },
      ['REQUIRED_SETTING LB_HASH_KEY'],
    ],
  ])('%s', async (_, fields, problems) => {
    const variables = Object.fromEntries(
      Object.entries(fields).map(([field, value]) => [`GATEWAY_POOL_${field}`, value]),
    );
    const others: Record<string, string> = fields.LB_ALG_0 === 'chash' ? { LB_HASH_ON: 'header' } : {};
    expect(await problemsOf({ ...variables, ...others })).toEqual(problems);
  });

  test('neighbours are no overlap', async () => {
    const variables = { GATEWAY_POOL_NAME_0: 'search', GATEWAY_POOL_NAME_1: 'search-2' };
    expect(await problemsOf(variables)).toEqual([]);
  });
});

test('every operation that the gateway serves without the prefix of an API is reserved', () => {
  const source = readFileSync(join(import.meta.dirname, '../../lua-plugins/genai/openai/paths.lua'), 'utf8');
  const [, operations = ''] = /_M\.OPERATIONS = \{(.*?)\n\}/s.exec(source) ?? [];
  const segments = [...operations.matchAll(/\["([a-z_]+)/g)].map(([, segment]) => segment);
  expect(segments.length).toBeGreaterThan(20);
  expect(segments.filter((segment) => !RESERVED_SEGMENTS.has(segment ?? ''))).toEqual([]);
});

test('without pools the documents have one service, and no trace of pools', async () => {
  const { documents } = await compiled({});
  const read = await readYaml(documents?.['apisix.yaml'] ?? '');
  expect(read).toMatchObject({ document: { services: { length: 1 }, routes: { length: 4 } } });
  expect(documents?.['apisix.yaml']).not.toMatch(/"prefix"|\spool:|preferred/);
});

test('a pool changes nothing that APISIX reads only when it starts', async () => {
  const { documents } = await compiled({});
  const { documents: more } = await compiled({ GATEWAY_POOL_NAME_0: 'search' });
  expect(more?.['config.yaml']).toBe(documents?.['config.yaml']);
  expect(more?.['otel-collector.yaml']).toBe(documents?.['otel-collector.yaml']);
});

test('each of 50 pools has a route', async () => {
  const pools = Object.fromEntries(
    Array.from({ length: 50 }, (_, index) => [`GATEWAY_POOL_NAME_${index}`, `team-${index}`]),
  );
  const { documents } = await compiled(pools);
  expect(documents?.['apisix.yaml'].match(/service_id: "pool-/g)).toHaveLength(50);
});
