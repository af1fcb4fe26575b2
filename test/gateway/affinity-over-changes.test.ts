/** Where things are is known over reloads, and found again after a restart; with Redis without asking for it. */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, HOST, sameBackends, startGateway } from '../support/gateway.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';
import { compileVariables } from '../support/scenarios.ts';
import { backendOf, calls, forgetRequests, logged, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('affinity over changes and restarts');
const MODEL = 'gpt-4o';
const pem = (file: string) => readFileSync(new URL(`../support/tls/${file}`, import.meta.url), 'utf8');
const TLS = { key: pem('self-signed.key'), cert: pem('self-signed.crt') };
const CA_FILE = '/etc/ssl/certs/own-ca.pem';
const PASSWORD = 'password-of-the-affinity-redis';
const MANY = 10_000;
const AT_ONCE = 50;

const total = (gateway: Gateway) => calls(gateway).reduce((sum, each) => sum + each);

async function created(gateway: Gateway, path: string, body: object): Promise<string> {
  const answer = await gateway.fetch(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as { id: string }).id;
}

const respond = (gateway: Gateway, more: object = {}) =>
  created(gateway, '/openai/v1/responses', { model: MODEL, input: 'Hello', max_output_tokens: 4, ...more });

/** Runs the task for each number below `count`, so many at once. */
async function each(count: number, task: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < count; index = next++) await task(index);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

const quiet = { config: { recordBodies: false } };

describe.skipIf(skipped)('affinity over changes', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  /** The settings of this gateway with others beside them, as a new apisix.yaml. */
  async function reload(settings: Record<string, string>): Promise<void> {
    const variables = {
      GATEWAY_CLIENT_NAME_0: 'app',
      GATEWAY_CLIENT_KEY_0: 'key-of-the-client-app-0123456789',
      ...sameBackends(gateway),
      ...settings,
    };
    const { documents } = await compileVariables(
      Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== '')),
    );
    // The process has the variables that it was started with, and no others.
    await gateway.apisix.reload(
      documents['apisix.yaml'].replaceAll('AZURE_OPENAI_KEY_2', 'AZURE_OPENAI_KEY_0'),
    );
  }

  test('a drained owner serves what it has and gets nothing new', async () => {
    await reload({});
    const chains: { id: string; owner: number }[] = [];
    for (let count = 0; count < 6; count++) {
      const before = calls(gateway);
      const id = await respond(gateway);
      chains.push({ id, owner: calls(gateway).findIndex((now, index) => now > (before[index] ?? 0)) });
    }
    await reload({ AZURE_OPENAI_WEIGHT_0: '0' });
    for (const chain of chains) {
      const before = calls(gateway);
      await respond(gateway, { previous_response_id: chain.id });
      expect(calls(gateway)[chain.owner]).toBe((before[chain.owner] ?? 0) + 1);
    }
    const before = calls(gateway);
    for (let count = 0; count < 6; count++) await respond(gateway);
    expect(calls(gateway)[0]).toBe(before[0]);
    expect(chains.some(({ owner }) => owner === 0)).toBe(true);
  }, 30_000);

  test('what a removed owner had is not there: the others say so themselves', async () => {
    await reload({ AZURE_OPENAI_PRIORITY_0: '9' });
    const id = await respond(gateway);
    expect(calls(gateway)).toEqual([1, 0]);
    await reload({ AZURE_OPENAI_ENDPOINT_0: '', AZURE_OPENAI_KEY_0: '' });
    expect((await gateway.fetch(`/openai/v1/responses/${id}`)).status).toBe(404);
    expect(calls(gateway)).toEqual([1, 1]);
    // As soon as the owner is back it is known again.
    await reload({});
    expect((await gateway.fetch(`/openai/v1/responses/${id}`)).status).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
  }, 30_000);

  test('two backends of one resource have the same things', async () => {
    const { AZURE_OPENAI_ENDPOINT_0 = '', AZURE_OPENAI_KEY_0 = '' } = sameBackends(gateway);
    await reload({
      AZURE_OPENAI_ENDPOINT_2: AZURE_OPENAI_ENDPOINT_0,
      AZURE_OPENAI_KEY_2: AZURE_OPENAI_KEY_0,
      AZURE_OPENAI_PRIORITY_0: '9',
      AZURE_OPENAI_PRIORITY_2: '7',
    });
    const id = await respond(gateway);
    backendOf(gateway, 0).script({ status: 429, headers: { 'retry-after': '60' } });
    await respond(gateway, { previous_response_id: id });
    expect(calls(gateway)).toEqual([3, 0]);
  }, 30_000);
});

describe.skipIf(skipped)('affinity over a restart', () => {
  async function conversations(gateway: Gateway): Promise<string[]> {
    const ids = new Array<string>(MANY);
    await each(MANY, async (index) => {
      ids[index] = await created(gateway, '/openai/v1/conversations', {});
    });
    return ids;
  }

  /** One more turn in each conversation; gives how often the backends were called by each method. */
  async function goOn(
    gateway: Gateway,
    backends: Gateway,
    ids: readonly string[],
  ): Promise<Record<string, number>> {
    await forgetRequests(backends);
    await each(ids.length, async (index) => {
      await respond(gateway, { conversation: ids[index], store: false });
    });
    const counts: Record<string, number> = {};
    for (const { requests } of backends.mocks) {
      for (const { method } of requests) counts[method] = (counts[method] ?? 0) + 1;
    }
    return counts;
  }

  test(`${MANY} conversations go on, found by asking`, async () => {
    const first = await startGateway({ backends: [quiet, quiet] });
    try {
      const ids = await conversations(first);
      expect(await goOn(first, first, ids)).toEqual({ POST: MANY });
      await first.apisix.stop();
      const second = await startGateway({ backends: [], settings: sameBackends(first) });
      try {
        const found = await goOn(second, first, ids);
        expect(found.POST).toBe(MANY);
        expect(found.GET).toBeGreaterThanOrEqual(MANY);
        expect(found.GET).toBeLessThanOrEqual(2 * MANY);
        // From now on it is known.
        expect(await goOn(second, first, ids)).toEqual({ POST: MANY });
      } finally {
        await second.stop();
      }
    } finally {
      await first.stop();
    }
  }, 240_000);

  describe.skipIf(cannotRunRedisTests('affinity in Redis'))('with Redis', () => {
    const settings = (redis: Redis, timeoutMs: string) => ({
      RESPONSES_AFFINITY_REDIS_HOST: redis.host,
      RESPONSES_AFFINITY_REDIS_PORT: String(redis.port),
      RESPONSES_AFFINITY_REDIS_PASSWORD: PASSWORD,
      RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: timeoutMs,
      RESPONSES_AFFINITY_TTL_SECONDS: '3600',
    });

    test(`${MANY} conversations go on, and nobody is asked where they are`, async () => {
      const redis = await startRedis({ password: PASSWORD });
      const first = await startGateway({ backends: [quiet, quiet], settings: settings(redis, '10000') });
      try {
        const ids = await conversations(first);
        await eventually(async () => Number(await redis.command('DBSIZE')) >= MANY);
        const keys = (await redis.command('KEYS', '*')) as string[];
        for (const key of keys.slice(0, 100)) expect(key).toMatch(/^responses_affinity:[0-9a-f]{32}$/);
        expect(await redis.command('TTL', keys[0] ?? '')).toBeGreaterThan(3_000);
        await first.apisix.stop();
        const second = await startGateway({
          backends: [],
          settings: { ...sameBackends(first), ...settings(redis, '10000') },
        });
        try {
          expect(await goOn(second, first, ids)).toEqual({ POST: MANY });
          expect(await second.apisix.log()).not.toContain(PASSWORD);
        } finally {
          await second.stop();
        }
      } finally {
        await first.stop();
        await redis.stop();
      }
    }, 240_000);

    test.each([
      ['a CA that is trusted', HOST, true],
      ['another name', 'redis.internal', false],
    ])(
      'a Redis with TLS and the certificate of %s',
      async (_, host, isUsed) => {
        const redis = await startRedis({ password: PASSWORD, tls: TLS });
        const gateway = await startGateway({
          settings: {
            ...settings(redis, '2000'),
            RESPONSES_AFFINITY_REDIS_HOST: host,
            RESPONSES_AFFINITY_REDIS_TLS: 'true',
            GATEWAY_TRUSTED_CA_FILE: CA_FILE,
          },
          namesOfThisHost: ['redis.internal'],
          mountedFiles: { [CA_FILE]: TLS.cert },
        });
        try {
          const id = await respond(gateway);
          if (isUsed) await eventually(async () => Number(await redis.command('DBSIZE')) === 1);
          else expect(await logged(gateway, 'warn', 'the Redis of affinity fails')).not.toEqual([]);
          expect(Number(await redis.command('DBSIZE'))).toBe(isUsed ? 1 : 0);
          await respond(gateway, { previous_response_id: id });
          expect(total(gateway)).toBe(2);
        } finally {
          await gateway.stop();
          await redis.stop();
        }
      },
      60_000,
    );

    test('two gateways know what the other one made; without Redis both go on', async () => {
      const redis = await startRedis({ password: PASSWORD });
      const one = await startGateway({ settings: settings(redis, '300') });
      const two = await startGateway({
        backends: [],
        settings: { ...sameBackends(one), ...settings(redis, '300') },
      });
      try {
        const id = await respond(one);
        await eventually(async () => Number(await redis.command('DBSIZE')) === 1);
        await respond(two, { previous_response_id: id });
        expect(total(one)).toBe(2);

        // It hangs: one request waits for its time-out, the others do not.
        await redis.pause();
        const later = await respond(one);
        const begun = performance.now();
        await respond(two, { previous_response_id: later });
        for (let count = 0; count < 5; count++)
          await respond(two, { previous_response_id: await respond(one) });
        expect(performance.now() - begun).toBeLessThan(3_000);
        await redis.resume();

        await redis.stop();
        await respond(two, { previous_response_id: await respond(one) });
        const lines = await logged(two, 'warn', 'the Redis of affinity fails');
        expect(lines.length).toBeGreaterThan(0);
        expect(await two.apisix.log()).not.toContain(PASSWORD);
      } finally {
        await two.stop();
        await one.stop();
        await redis.stop();
      }
    }, 120_000);
  });
});

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (let patience = 100; patience > 0; patience--) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('it did not come to that');
}
