/** Two lanes with a budget each: which requests are in which lane, and what an exhausted budget rejects. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION, type Gateway, startGateway } from '../support/gateway.ts';
import {
  admitted,
  clientSettings,
  costing,
  expectRefusal,
  keyOf,
  limitsOf,
  type Shot,
  shoot,
} from '../support/limits.ts';
import { resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('lanes');
const LOW = { 'x-priority': 'low' };

/** Hourly budgets for ten requests in the high lane and five in the low lane. */
const LANES = {
  ENABLE_AI_RATE_LIMIT: 'true',
  AI_RATE_LIMIT_WINDOW_SECONDS: '3600',
  AI_RATE_LIMIT_HIGH_LIMIT: '100',
  AI_RATE_LIMIT_LOW_LIMIT: '50',
};
const HOUR_MS = 3_600_000;

const costs = (gateway: Gateway) => {
  resetMocks(gateway);
  for (const mock of gateway.mocks) mock.always(costing());
};

describe.skipIf(skipped)('lanes with budgets for each client', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        ...LANES,
        AI_RATE_LIMIT_SCOPE: 'client',
        AI_RATE_LIMIT_REJECT_CODE: '429',
        AI_RATE_LIMIT_REJECT_MESSAGE: 'Slow "down", please.',
        ...clientSettings({
          asks: {},
          batch: { PRIORITY: 'low' },
          'high-first': {},
          'low-first': {},
          reads: {},
        }),
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => costs(gateway));

  const refusal = {
    status: 429,
    message: 'Slow "down", please.',
    withinMs: HOUR_MS,
  };
  const ROUTES = [
    '/openai/v1/chat/completions',
    '/openai/v1/responses',
    '/openai/v1/embeddings',
    '/openai/v1/images/generations',
    `/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}`,
    `/openai/responses?api-version=${API_VERSION}`,
  ];
  const withQuery = (path: string, query: string) => `${path}${path.includes('?') ? '&' : '?'}${query}`;

  test.each(ROUTES)('both lanes apply to %s', async (path) => {
    const lane = async (shot: Shot) => {
      gateway.mocks[0]?.always(costing(0, 0));
      gateway.mocks[1]?.always(costing(0, 0));
      const { status, headers } = await shoot(gateway, { client: 'asks', ...shot });
      expect(status).toBe(200);
      return limitsOf(headers);
    };
    expect(await lane({ path })).toEqual(['ai-high']);
    for (const value of ['low', 'LOW', 'Low'])
      expect(await lane({ path, headers: { 'X-Priority': value } })).toEqual(['ai-low']);
    for (const value of ['high', 'HIGH', '', 'lowest', 'medium'])
      expect(await lane({ path, headers: { 'X-Priority': value } })).toEqual(['ai-high']);
    for (const query of ['priority=low', 'priority=LOW', 'priority=l%6fw'])
      expect(await lane({ path: withQuery(path, query) })).toEqual(['ai-low']);
    expect(await lane({ path: withQuery(path, 'priority=high') })).toEqual(['ai-high']);
    expect(await lane({ path: withQuery(path, 'priority=high'), headers: LOW })).toEqual(['ai-low']);
  });

  test.each<readonly [string, Shot]>([
    ['as it is', {}],
    ['it asks for the other lane by header', { headers: { 'x-priority': 'high' } }],
    ['it asks for the other lane by query', { path: '/openai/v1/chat/completions?priority=high' }],
  ])('a client of the low lane stays there when %s', async (_, shot) => {
    for (const mock of gateway.mocks) mock.always(costing(0, 0));
    const { headers } = await shoot(gateway, { client: 'batch', ...shot });
    expect(limitsOf(headers)).toEqual(['ai-low']);
    expect(headers.get('x-ai-low-ratelimit-limit')).toBe('50');
  });

  test('an exhausted low lane does not affect the high lane', async () => {
    const low = { client: 'low-first', headers: LOW };
    expect(await admitted(gateway, 8, low)).toSatisfy((count) => count === 5 || count === 6);
    await expectRefusal(gateway, low, { ...refusal, lane: 'low' });
    const { headers } = await shoot(gateway, { client: 'low-first' });
    expect(headers.get('x-ai-high-ratelimit-remaining')).toBe('100');
    expect(headers.get('x-gateway-ratelimit-lane')).toBeNull();
    expect(await admitted(gateway, 12, { client: 'low-first' })).toSatisfy(
      (count) => count === 9 || count === 10,
    );
  });

  test('an exhausted high lane does not affect the low lane', async () => {
    const shot = { client: 'high-first' };
    expect(await admitted(gateway, 13, shot)).toSatisfy((count) => count === 10 || count === 11);
    await expectRefusal(gateway, shot, { ...refusal, lane: 'high' });
    const { headers } = await shoot(gateway, { ...shot, headers: LOW });
    expect(headers.get('x-ai-low-ratelimit-remaining')).toBe('50');
    expect(await admitted(gateway, 7, { ...shot, headers: LOW })).toSatisfy(
      (count) => count === 4 || count === 5,
    );
  });

  test('requests that cost nothing are served after the budget is exhausted', async () => {
    await admitted(gateway, 11, { client: 'reads' });
    await expectRefusal(gateway, { client: 'reads' }, { ...refusal, lane: 'high' });
    const headers = { 'api-key': keyOf('reads') };
    resetMocks(gateway);
    expect((await gateway.fetch('/openai/v1/models', { headers })).status).toBe(200);
    const id = '/openai/v1/responses/resp_1';
    expect((await gateway.fetch(id, { headers })).status).toBe(404);
    expect((await gateway.fetch(id, { headers, method: 'DELETE' })).status).toBe(404);
    expect((await gateway.fetch(`${id}/cancel`, { headers, method: 'POST' })).status).toBe(404);
    // The other requests are reads that search for the owner of an unknown id.
    const methods = gateway.mocks.flatMap(({ requests }) => requests.map(({ method }) => method));
    expect(methods.filter((method) => method !== 'GET').sort()).toEqual(['DELETE', 'POST']);
    for (const path of ['/openai/v1/batches', '/openai/v1/files', '/openai/v1/anything'])
      await expectRefusal(gateway, { path, client: 'reads' }, { ...refusal, lane: 'high' });
  });
});

describe.skipIf(skipped)('lanes with budgets for the whole gateway', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        ...LANES,
        AI_RATE_LIMIT_WINDOW_SECONDS: '3',
        ...clientSettings({ one: {}, two: {} }),
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(async () => {
    costs(gateway);
    await sleep(3_100);
  });

  const refusal = { status: 503, message: 'rate limited', withinMs: 3_010 };

  test('are shared by all clients and reject with the default status', async () => {
    const [one, two] = ['one', 'two'].map((client) => ({ client, headers: LOW }));
    const both = (await admitted(gateway, 3, one)) + (await admitted(gateway, 3, two));
    expect(both).toSatisfy((count) => count === 5 || count === 6);
    await expectRefusal(gateway, { ...one }, { ...refusal, lane: 'low' });
    await expectRefusal(gateway, { ...two }, { ...refusal, lane: 'low' });
    expect((await shoot(gateway, { client: 'one' })).status).toBe(200);
  });

  test('open again after the delay in the error', async () => {
    await admitted(gateway, 11, { client: 'one' });
    const wait = await expectRefusal(gateway, { client: 'one' }, { ...refusal, lane: 'high' });
    expect(wait).toBeGreaterThan(300);
    await sleep(wait - 250);
    const left = await expectRefusal(gateway, { client: 'one' }, { ...refusal, lane: 'high' });
    await sleep(left);
    expect((await shoot(gateway, { client: 'one' })).status).toBe(200);
  });

  test('begin their window with the first request, not with its charge', async () => {
    for (const mock of gateway.mocks) mock.always({ ...costing(0, 60), delayMs: 1_500 });
    expect((await shoot(gateway, { client: 'one' })).status).toBe(200);
    for (const mock of gateway.mocks) mock.always(costing(0, 60));
    expect(await admitted(gateway, 2, { client: 'one' })).toBeGreaterThan(0);
    const wait = await expectRefusal(gateway, { client: 'one' }, { ...refusal, lane: 'high' });
    expect(wait).toBeGreaterThan(1_000);
    expect(wait).toBeLessThanOrEqual(1_510);
    await sleep(wait);
    expect((await shoot(gateway, { client: 'one' })).status).toBe(200);
  });
});
