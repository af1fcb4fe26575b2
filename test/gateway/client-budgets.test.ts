/** Budgets of single clients, by the minute and by the day, in addition to those of lanes. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { admitted, clientSettings, costing, expectRefusal, limitsOf, shoot } from '../support/limits.ts';
import { resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('budgets of clients');
const DAY_MS = 86_400_000;

const CLIENTS = {
  free: {},
  minute: { TOKENS_PER_MINUTE: '40' },
  day: { TOKENS_PER_DAY: '60' },
  both: { TOKENS_PER_MINUTE: '1000', TOKENS_PER_DAY: '30' },
  'both-too': { TOKENS_PER_MINUTE: '30', TOKENS_PER_DAY: '1000' },
  low: { TOKENS_PER_MINUTE: '20', PRIORITY: 'low' },
};

const withinOne = (budget: number) => (count: number) => count === budget || count === budget + 1;

async function start(settings: Record<string, string>): Promise<Gateway> {
  const gateway = await startGateway({ settings: { ...clientSettings(CLIENTS), ...settings } });
  for (const mock of gateway.mocks) mock.always(costing());
  return gateway;
}

describe.skipIf(skipped)('budgets of clients without lanes', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start({ AI_RATE_LIMIT_REJECT_CODE: '429' });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  const refusal = { status: 429, message: 'rate limited', lane: 'high' } as const;

  test('a client without a budget is not limited and gets no limit headers', async () => {
    const { status, headers } = await shoot(gateway, { client: 'free' });
    expect(status).toBe(200);
    expect([...headers.keys()].filter((name) => name.includes('-ratelimit-'))).toEqual(
      [...headers.keys()].filter((name) => /^x-ratelimit-/.test(name)),
    );
    expect(await admitted(gateway, 20, { client: 'free' })).toBe(20);
  });

  test('rejects requests after the budget of a minute', async () => {
    expect(await admitted(gateway, 7, { client: 'minute' })).toSatisfy(withinOne(4));
    await expectRefusal(gateway, { client: 'minute' }, { ...refusal, withinMs: 60_010 });
  });

  test('rejects requests after the budget of a day', async () => {
    expect(await admitted(gateway, 9, { client: 'day' })).toSatisfy(withinOne(6));
    const wait = await expectRefusal(gateway, { client: 'day' }, { ...refusal, withinMs: DAY_MS + 10 });
    // A day begins with the first request, not at midnight.
    expect(wait).toBeGreaterThan(DAY_MS - 60_000);
  });

  test.each([
    ['both', DAY_MS, 'client-day'],
    ['both-too', 60_000, 'client-minute'],
  ])('with two budgets, the exhausted one rejects: %s', async (client, window, name) => {
    const { headers } = await shoot(gateway, { client });
    expect(limitsOf(headers)).toEqual(['ai-client-day', 'ai-client-minute']);
    expect(await admitted(gateway, 5, { client })).toSatisfy(withinOne(2));
    const wait = await expectRefusal(gateway, { client }, { ...refusal, withinMs: window + 10 });
    expect(wait).toBeGreaterThan(window - 60_000);
    const refused = await shoot(gateway, { client });
    expect(refused.headers.get(`x-ai-${name}-ratelimit-remaining`)).toBe('0');
  });

  test('the error names the lane of the client', async () => {
    expect(await admitted(gateway, 5, { client: 'low' })).toSatisfy(withinOne(2));
    await expectRefusal(gateway, { client: 'low' }, { ...refusal, lane: 'low', withinMs: 60_010 });
  });

  test('other clients are not affected', async () => {
    expect((await shoot(gateway, { client: 'free' })).status).toBe(200);
  });

  test('the log has no errors of the limiter', async () => {
    expect(await gateway.apisix.log()).not.toMatch(/rate limit rules|failed to/);
  });
});

describe.skipIf(skipped)('budgets of clients in addition to lanes', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start({
      ENABLE_AI_RATE_LIMIT: 'true',
      AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
      AI_RATE_LIMIT_HIGH_LIMIT: '150',
      AI_RATE_LIMIT_LOW_LIMIT: '100',
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    resetMocks(gateway);
    for (const mock of gateway.mocks) mock.always(costing());
  });

  const refusal = { status: 503, message: 'rate limited' };

  test('a budget does not extend a lane, and is charged in both lanes', async () => {
    expect(await admitted(gateway, 2, { client: 'minute' })).toBe(2);
    expect(await admitted(gateway, 1, { client: 'minute', headers: { 'x-priority': 'low' } })).toBe(1);
    expect(await admitted(gateway, 3, { client: 'minute' })).toSatisfy(withinOne(1));
    await expectRefusal(gateway, { client: 'minute' }, { ...refusal, lane: 'high', withinMs: 60_010 });
    await expectRefusal(
      gateway,
      { client: 'minute', headers: { 'x-priority': 'low' } },
      { ...refusal, lane: 'low', withinMs: 60_010 },
    );

    const { headers } = await shoot(gateway, { client: 'day' });
    expect(limitsOf(headers)).toEqual(['ai-client-day', 'ai-high']);
    // The client had three or four requests in both lanes. The high lane is charged for those in it.
    expect(Number(headers.get('x-ai-high-ratelimit-remaining'))).toSatisfy(
      (left: number) => left === 120 || left === 110,
    );
  });

  test('an exhausted lane rejects a client that has a budget left', async () => {
    expect(await admitted(gateway, 20, { client: 'free' })).toBeGreaterThan(8);
    const wait = await expectRefusal(
      gateway,
      { client: 'both' },
      { ...refusal, lane: 'high', withinMs: 3_600_010 },
    );
    expect(wait).toBeGreaterThan(3_500_000);
  });
});
