/** Counters of limits survive a reload of apisix.yaml, and all workers count together. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { admitted, clientSettings, costing, expectRefusal, shoot } from '../support/limits.ts';

const QUOTA = 20;

describe.skipIf(cannotRunGatewayTests('counters over a reload'))('counters', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        GATEWAY_WORKERS: '3',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
        AI_RATE_LIMIT_HIGH_LIMIT: '1000',
        AI_RATE_LIMIT_LOW_LIMIT: '50',
        ENABLE_QUOTA: 'true',
        QUOTA_COUNT: String(QUOTA),
        QUOTA_TIME_WINDOW: '3600',
        ENABLE_RATE_LIMIT: 'true',
        RATE_LIMIT_RATE: '0.01',
        RATE_LIMIT_BURST: '100',
        ...clientSettings({ day: { TOKENS_PER_DAY: '200' }, low: {}, quota: {}, rate: {} }),
      },
    });
    for (const mock of gateway.mocks) mock.always(costing());
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const low = { client: 'low', headers: { 'x-priority': 'low' } };
  const lane = { status: 503, message: 'rate limited', lane: 'low', withinMs: 3_600_010 } as const;
  const quota = {
    status: 429,
    message: 'Request quota exceeded. Please retry after some time.',
    lane: 'high',
    withinMs: 3_600_010,
  } as const;

  /** Reloads the gateway's file with some of its text replaced. */
  async function reloadWith(from: string | RegExp, to: string): Promise<void> {
    const before = gateway.documents['apisix.yaml'];
    const text = before.replace(from, to);
    expect(text).not.toBe(before);
    await gateway.apisix.reload(text);
    expect((await gateway.apisix.request(PORTS.status, '/status/ready')).status).toBe(200);
  }
  const lowLane = (count: number) =>
    reloadWith('"${genai_lane_low}", "count": 50', `"\${genai_lane_low}", "count": ${count}`);
  const leftOfDay = async () => {
    // The request before this one is charged after its response has gone.
    await sleep(200);
    const { status, headers } = await shoot(gateway, { client: 'day' });
    expect(status).toBe(200);
    return Number(headers.get('x-ai-client-day-ratelimit-remaining'));
  };

  test('are shared by all workers', async () => {
    for (const mock of gateway.mocks) mock.always({ ...costing(), delayMs: 100 });
    const before = await gateway.apisix.workers();
    const all = await Promise.all(
      Array.from({ length: 3 * QUOTA }, () => shoot(gateway, { client: 'quota' })),
    );
    expect(all.filter(({ status }) => status === 200)).toHaveLength(QUOTA);
    const after = await gateway.apisix.workers();
    const busy = after.filter(
      ({ pid, cpuMs }) => cpuMs - (before.find((each) => each.pid === pid)?.cpuMs ?? 0) > 2,
    );
    expect(busy.length).toBeGreaterThan(1);
    for (const mock of gateway.mocks) mock.always(costing());
    // Whichever worker answers, the tokens of all workers are counted.
    for (let index = 0; index < 5; index++) {
      // A request is charged after its answer, so another worker could answer before the charge.
      await sleep(100);
      const { headers } = await shoot(gateway, { client: 'low' });
      expect(headers.get('x-ai-high-ratelimit-remaining')).toBe(String(1000 - 10 * (QUOTA + index)));
    }
  });

  test('keep their values when another item of the file changes', async () => {
    expect(await admitted(gateway, 8, low)).toSatisfy((count) => count === 5 || count === 6);
    await expectRefusal(gateway, low, lane);
    const before = await leftOfDay();
    await reloadWith('#END', 'upstreams: [{"id": "more", "nodes": {"127.0.0.1:1": 1}}]\n#END');
    await expectRefusal(gateway, low, lane);
    await expectRefusal(gateway, { client: 'quota' }, quota);
    expect(await leftOfDay()).toBe(before - 10);
  });

  test('keep their values when limits change, and are compared with the new limits', async () => {
    const before = await leftOfDay();
    await lowLane(80);
    const { headers } = await shoot(gateway, low);
    expect(headers.get('x-ai-low-ratelimit-limit')).toBe('80');
    expect(Number(headers.get('x-ai-low-ratelimit-remaining'))).toSatisfy(
      (left: number) => left === 30 || left === 20,
    );
    expect(await leftOfDay()).toBe(before - 10);
    await lowLane(40);
    await expectRefusal(gateway, low, lane);
    await reloadWith(/"header_prefix": "quota"/, '"header_prefix": "all"');
    await expectRefusal(gateway, { client: 'quota' }, quota);
  });

  test('of a request rate keep their values too', async () => {
    const list = await Promise.all(Array.from({ length: 130 }, () => shoot(gateway, { client: 'rate' })));
    expect(list.filter(({ text }) => text.includes('Too many requests')).length).toBeGreaterThan(20);
    await reloadWith('rate: 0.01', 'rate: 0.02');
    const { status, text } = await shoot(gateway, { client: 'rate' });
    expect(status).toBe(429);
    expect(text).toContain('Too many requests');
  });
});
