/** Limits of requests: a rate, a quota, and requests a minute for a client. Each one counts separately. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { admitted, clientSettings, expectRefusal, keyOf, limitsOf, shoot } from '../support/limits.ts';

const skipped = cannotRunGatewayTests('limits of requests');

const RATE = {
  status: 429,
  message: 'Too many requests. Please retry after some time.',
  lane: 'high',
} as const;
const QUOTA = {
  status: 429,
  message: 'Request quota exceeded. Please retry after some time.',
  lane: 'high',
} as const;

const quota = (count: number, window: number) => ({
  ENABLE_QUOTA: 'true',
  QUOTA_COUNT: String(count),
  QUOTA_TIME_WINDOW: String(window),
});
const rate = (perSecond: number, burst: number) => ({
  ENABLE_RATE_LIMIT: 'true',
  RATE_LIMIT_RATE: String(perSecond),
  RATE_LIMIT_BURST: String(burst),
});

/** Sends this number of requests at once. */
async function statuses(gateway: Gateway, count: number, client?: string): Promise<number[]> {
  const all = Array.from({ length: count }, () => shoot(gateway, client === undefined ? {} : { client }));
  return (await Promise.all(all)).map(({ status }) => status);
}
const passed = (list: readonly number[]) => list.filter((status) => status === 200).length;

describe.skipIf(skipped)('a request rate', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: { ...rate(0.5, 4), ...clientSettings({ one: {}, two: {}, three: {} }) },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('lets a burst through, then rejects', async () => {
    const began = performance.now();
    const list = await statuses(gateway, 12, 'one');
    expect(performance.now() - began).toBeLessThan(1_500);
    // Two workers may count at the same moment.
    expect(passed(list)).toSatisfy((count) => count === 5 || count === 6);
    expect(list.filter((status) => status === 429)).toHaveLength(12 - passed(list));
    // The rate is one request in two seconds.
    const wait = await expectRefusal(gateway, { client: 'one' }, { ...RATE, withinMs: 2_000 });
    await sleep(wait);
    expect(await admitted(gateway, 3, { client: 'one' })).toBe(1);
  });

  test('applies to each client separately', async () => {
    for (const client of ['two', 'three'])
      expect(passed(await statuses(gateway, 9, client))).toSatisfy((count) => count === 5 || count === 6);
  });

  test('counts read requests as well', async () => {
    const reading = await gateway.fetch('/openai/v1/models', { headers: { 'api-key': keyOf('two') } });
    expect(reading.status).toBe(429);
  });
});

describe.skipIf(skipped)('a request quota', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: { ...quota(7, 3600), ...clientSettings({ one: {}, two: { PRIORITY: 'low' } }) },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('lets its number of requests through for each client, and returns how many remain', async () => {
    const { headers } = await shoot(gateway, { client: 'one' });
    expect(limitsOf(headers)).toEqual(['quota']);
    expect(headers.get('x-quota-ratelimit-limit')).toBe('7');
    expect(headers.get('x-quota-ratelimit-remaining')).toBe('6');
    expect(await admitted(gateway, 9, { client: 'one' })).toBe(6);
    const wait = await expectRefusal(gateway, { client: 'one' }, { ...QUOTA, withinMs: 3_600_010 });
    expect(wait).toBeGreaterThan(3_500_000);
    expect(await admitted(gateway, 9, { client: 'two' })).toBe(7);
    await expectRefusal(gateway, { client: 'two' }, { ...QUOTA, lane: 'low', withinMs: 3_600_010 });
  });
});

describe.skipIf(skipped)('requests a minute of a client', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: clientSettings({
        free: {},
        five: { REQUESTS_PER_MINUTE: '5' },
        eight: { REQUESTS_PER_MINUTE: '8' },
      }),
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('apply to each client separately', async () => {
    expect(await admitted(gateway, 9, { client: 'five' })).toBe(5);
    await expectRefusal(gateway, { client: 'five' }, { ...QUOTA, withinMs: 60_010 });
    expect(await admitted(gateway, 11, { client: 'eight' })).toBe(8);
    const { headers } = await shoot(gateway, { client: 'free' });
    expect(limitsOf(headers)).toEqual([]);
    expect(await admitted(gateway, 12, { client: 'free' })).toBe(12);
  });
});

describe.skipIf(skipped)('a rate, a quota and requests a minute together', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        ...rate(1, 5),
        ...quota(12, 3600),
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_HIGH_LIMIT: '100000',
        AI_RATE_LIMIT_SCOPE: 'client',
        ...clientSettings({
          'by-rate': { REQUESTS_PER_MINUTE: '1000' },
          'by-minute': { REQUESTS_PER_MINUTE: '3' },
          'by-quota': { REQUESTS_PER_MINUTE: '1000' },
        }),
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('have separate response headers', async () => {
    const { headers } = await shoot(gateway, { client: 'by-quota' });
    expect(limitsOf(headers)).toEqual(['ai-high', 'client-requests', 'quota']);
    expect(headers.get('x-client-requests-ratelimit-remaining')).toBe('999');
    expect(headers.get('x-quota-ratelimit-remaining')).toBe('11');
  });

  test('do not count a request that the rate rejects', async () => {
    expect(passed(await statuses(gateway, 30, 'by-rate'))).toSatisfy((count) => count === 6 || count === 7);
    await sleep(1_100);
    const { status, headers } = await shoot(gateway, { client: 'by-rate' });
    expect(status).toBe(200);
    expect(Number(headers.get('x-quota-ratelimit-remaining'))).toBeGreaterThanOrEqual(4);
    expect(Number(headers.get('x-client-requests-ratelimit-remaining'))).toBeGreaterThanOrEqual(992);
  });

  test('do not count a request against the quota that the minute rejects', async () => {
    const list: number[] = [];
    for (let index = 0; index < 12; index++) {
      list.push((await shoot(gateway, { client: 'by-minute' })).status);
      await sleep(350);
    }
    expect(passed(list)).toBe(3);
    await sleep(2_100);
    await expectRefusal(gateway, { client: 'by-minute' }, { ...QUOTA, withinMs: 60_010 });
    const { headers } = await shoot(gateway, { client: 'by-minute' });
    expect(headers.get('x-client-requests-ratelimit-remaining')).toBe('0');
    expect(headers.get('x-quota-ratelimit-remaining')).toBeNull();
  });

  test('reject after the quota is used', async () => {
    let count = 0;
    for (let index = 0; index < 14; index++) {
      if ((await shoot(gateway, { client: 'by-quota' })).status === 200) count++;
      await sleep(1_050);
    }
    expect(count).toBe(11);
    const wait = await expectRefusal(gateway, { client: 'by-quota' }, { ...QUOTA, withinMs: 3_600_010 });
    expect(wait).toBeGreaterThan(3_000_000);
  }, 40_000);
});

describe.skipIf(skipped)('limits by address behind a trusted proxy', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        ...quota(4, 3600),
        ...rate(1, 2),
        GATEWAY_WORKERS: '1',
        GATEWAY_REQUIRE_AUTH: 'false',
        GATEWAY_TRUSTED_PROXIES: '0.0.0.0/0',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const from = (address: string) => ({ headers: { 'x-forwarded-for': address } });

  test('count the addresses that the trusted proxy reports', async () => {
    const burst = async (address: string) =>
      passed(
        (await Promise.all(Array.from({ length: 5 }, () => shoot(gateway, from(address))))).map(
          ({ status }) => status,
        ),
      );
    for (const address of ['203.0.113.1', '203.0.113.2']) expect(await burst(address)).toBe(3);
    await expectRefusal(gateway, from('203.0.113.1'), { ...RATE, withinMs: 1_000 });
    await sleep(2_100);
    expect(await admitted(gateway, 1, from('203.0.113.1'))).toBe(1);
    await expectRefusal(gateway, from('203.0.113.1'), { ...QUOTA, withinMs: 3_600_010 });
    expect(await admitted(gateway, 1, from('203.0.113.2'))).toBe(1);
  });
});

describe.skipIf(skipped)('limits by address without a trusted proxy', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({ settings: { ...quota(4, 3600), RATE_LIMIT_KEY: 'ip' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('cannot be avoided by another X-Forwarded-For', async () => {
    let count = 0;
    for (let index = 0; index < 8; index++)
      count += await admitted(gateway, 1, { headers: { 'x-forwarded-for': `203.0.113.${index}` } });
    expect(count).toBe(4);
  });
});
