/** Requests of unknown clients are counted and limited by address, without affecting known clients. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';

const skipped = cannotRunGatewayTests('authentication failures in the stock APISIX image');

const LIMIT = 1_000;
const OTHER_ADDRESS = '203.0.113.7';
const TARGET = '/openai/v1/models';

describe.skipIf(skipped)('requests without a valid key', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: quickMetrics,
      // Trusting all proxies lets the test send from several addresses.
      settings: { GATEWAY_TRUSTED_PROXIES: '0.0.0.0/0' },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const send = (key: string | undefined, address: string) =>
    fetch(`${gateway.url}${TARGET}`, {
      headers: { 'x-forwarded-for': address, ...(key === undefined ? {} : { 'api-key': key }) },
    });

  const statuses = async (times: number, key: string | undefined, address: string) => {
    const seen = new Map<number, number>();
    for (let i = 0; i < times; i++) {
      const { status } = await send(key, address);
      seen.set(status, (seen.get(status) ?? 0) + 1);
    }
    return Object.fromEntries(seen);
  };

  const failures = async (credential: string): Promise<number> => {
    const line = `apisix_genai_authentication_failures_total{credential="${credential}"} `;
    const found = (await gateway.metrics()).split('\n').find((each) => each.startsWith(line));
    return Number(found?.slice(line.length) ?? 0);
  };

  test('get 401 a thousand times a minute, then 429 with a delay', async () => {
    expect(await statuses(LIMIT + 5, 'guessed-key-0123456789', '198.51.100.1')).toEqual({
      401: LIMIT,
      429: 5,
    });
    const answer = await send('another-guess-0123456789', '198.51.100.1');
    expect(answer.status).toBe(429);
    expect(await answer.json()).toMatchObject({
      error: { type: 'rate_limit_error', code: 'too_many_failed_authentications' },
    });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(60);
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  });

  test('do not affect a valid key from the same address, or other addresses', async () => {
    expect(await statuses(10, CLIENT_KEY, '198.51.100.1')).toEqual({ 200: 10 });
    expect(await statuses(3, 'guessed-key-0123456789', OTHER_ADDRESS)).toEqual({ 401: 3 });
  });

  test('are counted together for one IPv6 network', async () => {
    await statuses(LIMIT + 1, 'guess', '2001:db8:1:2:3:4:5:6');
    expect((await send('guess', '2001:db8:1:2::9')).status).toBe(429);
    expect((await send('guess', '2001:db8:1:2:ffff::')).status).toBe(429);
    expect((await send('guess', '2001:db8:1:3::1')).status).toBe(401);
  });

  test('do not count against an address when they have no credential', async () => {
    expect(await statuses(LIMIT + 10, undefined, '198.51.100.9')).toEqual({ 401: LIMIT + 10 });
    expect((await send('guess', '198.51.100.9')).status).toBe(401);
  });

  test('are counted in metrics by the kind of credential', async () => {
    const before = { key: await failures('key'), none: await failures('none') };
    expect(before.none).toBe(LIMIT + 10);
    await statuses(4, 'guess', '198.51.100.20');
    await statuses(2, undefined, '198.51.100.20');
    expect(await failures('key')).toBe(before.key + 4);
    expect(await failures('none')).toBe(before.none + 2);
  });
});
