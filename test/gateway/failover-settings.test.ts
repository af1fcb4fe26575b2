/** The settings decide which failures lead to a failover, how many attempts there are, and until when. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { backendOf, calls, inOrder, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const backend = (index: number) => backendOf(gateway, index);
const IN_ORDER = { ...inOrder(2), ...NO_COOLDOWN };

describe.skipIf(cannotRunGatewayTests('settings of failover'))('settings of failover', () => {
  describe('AI_PROXY_RETRY_STATUSES=409,429,503', () => {
    beforeAll(
      start({ settings: { ...IN_ORDER, AI_PROXY_RETRY_STATUSES: '409,429,503' } }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);
    afterEach(() => resetMocks(gateway));

    test.each([409, 429, 503])('fails over after %i', async (status) => {
      backend(0).script({ status });
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([1, 1]);
    });

    test.each([408, 500, 502, 504])('returns %i to the client unchanged', async (status) => {
      const body = { error: { code: String(status), message: 'As it was.' } };
      backend(0).script({ status, body });
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(status);
      expect(await answer.json()).toEqual(body);
      expect(calls(gateway)).toEqual([1, 0]);
    });
  });

  describe.each([
    ['http_429', [408, 429], [500, 502, 503, 504]],
    ['http_5xx', [500, 502, 503, 504], [408, 429]],
  ] as const)('AI_PROXY_FALLBACK_STRATEGY=%s', (strategy, retried, passed) => {
    beforeAll(
      start({ settings: { ...IN_ORDER, AI_PROXY_FALLBACK_STRATEGY: strategy } }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);
    afterEach(() => resetMocks(gateway));

    test.each(retried)('fails over after %i', async (status) => {
      backend(0).script({ status });
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([1, 1]);
    });

    test.each(passed)('returns %i to the client unchanged', async (status) => {
      backend(0).script({ status, headers: { 'Retry-After': '7' } });
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(status);
      expect(answer.headers.get('retry-after')).toBe('7');
      expect(await answer.json()).toMatchObject({ error: { message: expect.any(String) } });
      expect(calls(gateway)).toEqual([1, 0]);
    });
  });

  describe('AI_PROXY_MAX_ATTEMPTS=2 and AI_PROXY_DEADLINE=400ms', () => {
    beforeAll(
      start({
        backends: [{}, {}, {}],
        settings: { ...inOrder(3), ...NO_COOLDOWN, AI_PROXY_MAX_ATTEMPTS: '2', AI_PROXY_DEADLINE: '400ms' },
      }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);
    afterEach(() => resetMocks(gateway));

    test('makes two attempts although there is a third backend', async () => {
      backend(0).script({ status: 503 });
      backend(1).script({ status: 429 });
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(429);
      expect(calls(gateway)).toEqual([1, 1, 0]);
    });

    test('begins no attempt after the deadline', async () => {
      backend(0).script({ status: 503, delayMs: 600 });
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(503);
      expect(answer.headers.get('retry-after')).toBeNull();
      expect(calls(gateway)).toEqual([1, 0, 0]);
    });

    test('lets an attempt that has begun continue after the deadline', async () => {
      backend(0).script({ status: 503 });
      backend(1).script({ delayMs: 600 });
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([1, 1, 0]);
    });
  });
});
