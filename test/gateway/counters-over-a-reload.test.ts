/** What is counted stays counted when APISIX reads another configuration, and workers count together. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Documents } from '../../compiler/emit/emit.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { admitted, clientSettings, costing, expectRefusal, shoot } from '../support/limits.ts';

describe.skipIf(cannotRunGatewayTests('counters over a reload'))('counters', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        GATEWAY_WORKERS: '3',
        ENABLE_AI_RATE_LIMIT: 'true',
        AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
        AI_RATE_LIMIT_HIGH_LIMIT: '200',
        AI_RATE_LIMIT_LOW_LIMIT: '50',
        ENABLE_QUOTA: 'true',
        QUOTA_COUNT: '30',
        QUOTA_TIME_WINDOW: '3600',
        ENABLE_RATE_LIMIT: 'true',
        RATE_LIMIT_RATE: '0.01',
        RATE_LIMIT_BURST: '24',
        ...clientSettings({ one: { TOKENS_PER_DAY: '100' }, two: {}, three: {} }),
      },
    });
    for (const mock of gateway.mocks) mock.always(costing());
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const refusal = { status: 503, message: 'rate limited', withinMs: 86_400_010 } as const;
  const low = { 'x-priority': 'low' };

  /** The same file with some of its text replaced. */
  const changed = (documents: Documents, from: string | RegExp, to: string): string => {
    const text = documents['apisix.yaml'].replace(from, to);
    expect(text).not.toBe(documents['apisix.yaml']);
    return text;
  };

  test('are those of all workers', async () => {
    // Each connection is one worker's; so many of them meet each worker.
    expect(await admitted(gateway, 3, { client: 'two', headers: low })).toBe(3);
    const list = await Promise.all(
      Array.from({ length: 24 }, () =>
        shoot(gateway, { client: 'three', body: { messages: [] }, headers: { connection: 'close' } }),
      ),
    );
    expect(list.filter(({ status }) => status === 200).length).toBeGreaterThan(18);
    const { headers } = await shoot(gateway, { client: 'one' });
    expect(Number(headers.get('x-ai-high-ratelimit-remaining'))).toBeLessThan(20);
  });

  test('stay when another item of the file changes', async () => {
    await admitted(gateway, 5, { client: 'two', headers: low });
    await expectRefusal(gateway, { client: 'two', headers: low }, { ...refusal, lane: 'low' });
    const remaining = async () =>
      (await shoot(gateway, { client: 'one', headers: low })).headers.get(
        'x-ai-client-day-ratelimit-remaining',
      );
    const before = await remaining();

    await gateway.apisix.reload(
      changed(gateway.documents, '#END', 'upstreams: [{"id": "more", "nodes": {"127.0.0.1:1": 1}}]\n#END'),
    );
    expect((await gateway.apisix.request(PORTS.status, '/status/ready')).status).toBe(200);
    await expectRefusal(gateway, { client: 'two', headers: low }, { ...refusal, lane: 'low' });
    expect(await remaining()).toBe(before);
  });

  test('stay when limits change, and the new limits are for what was counted', async () => {
    await gateway.apisix.reload(
      changed(gateway.documents, /"\$\{genai_lane_low\}", "count": 50/, '"${genai_lane_low}", "count": 80'),
    );
    const { headers } = await shoot(gateway, { client: 'two', headers: low });
    expect(headers.get('x-ai-low-ratelimit-limit')).toBe('80');
    expect(Number(headers.get('x-ai-low-ratelimit-remaining'))).toBeLessThanOrEqual(30);
    expect(Number(headers.get('x-ai-low-ratelimit-remaining'))).toBeGreaterThan(0);

    await gateway.apisix.reload(
      changed(gateway.documents, /"\$\{genai_lane_low\}", "count": 50/, '"${genai_lane_low}", "count": 40'),
    );
    await expectRefusal(gateway, { client: 'two', headers: low }, { ...refusal, lane: 'low' });
  });

  test('of requests stay as well', async () => {
    await gateway.apisix.reload(
      changed(gateway.documents, /"header_prefix": "low"\}/, '"header_prefix": "low2"}'),
    );
    const used = await shoot(gateway, { client: 'three' });
    // The rate has let all of its burst through before.
    expect(used.status).toBe(429);
    expect(JSON.parse(used.text).error.message).toMatch(/^Too many requests/);
    await gateway.apisix.reload(changed(gateway.documents, /rate: 0.01/, 'rate: 100'));
    const { headers } = await shoot(gateway, { client: 'three', headers: low });
    expect(headers.get('x-gateway-ratelimit-lane')).toBe('low');
  });
});
