/**
 * LB_ALG=latency prefers the backend with the shorter time to first byte; the tests count what the backends receive.
 * latency.heavy.test.ts has the slow tests: changes over time, streams, and answers that must not count.
 */
import { describe, expect, test } from 'vitest';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import { balanced, gateway, share, status, steadily, take, V1 } from '../support/latency.ts';
import { calls, chatBody } from '../support/traffic.ts';

describe.skipIf(cannotRunGatewayTests('latency and weights'))('LB_ALG=latency with WEIGHT 3, 1 and 0', () => {
  balanced({
    backends: [{}, {}, {}],
    settings: { AZURE_OPENAI_WEIGHT_0: '3', AZURE_OPENAI_WEIGHT_1: '1', AZURE_OPENAI_WEIGHT_2: '0' },
  });

  test('gives equally fast backends their share by weight, and a drained backend nothing', async () => {
    // Long enough that the noise of a busy machine makes no difference between the backends.
    take(300, 300, 0);
    expect(new Set(await steadily(25, 12))).toEqual(new Set([200]));
    expect(share(0)).toBeGreaterThan(0.65);
    expect(share(0)).toBeLessThan(0.85);
    expect(calls(gateway)[2]).toBe(0);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('latency of three'))('LB_ALG=latency with three backends', () => {
  balanced({ backends: [{}, {}, {}], settings: { GATEWAY_WORKERS: '1' } });

  test('uses each backend at the beginning', async () => {
    for (let count = 0; count < 3; count++) await status(V1, chatBody('new'));
    expect(calls(gateway)).toEqual([1, 1, 1]);
  });

  test('shares the requests between two fast backends and rarely uses the slow one', async () => {
    take(50, 600, 60);
    await steadily(20, 12);
    expect(share(0)).toBeGreaterThan(0.3);
    expect(share(2)).toBeGreaterThan(0.3);
    expect(share(1)).toBeLessThan(0.06);
    expect(calls(gateway)[1]).toBeGreaterThanOrEqual(2);
  }, 30_000);

  test('sends nearly all requests to a single fast backend', async () => {
    take(600, 50, 600);
    await steadily(20, 12, { model: 'alone' });
    expect(share(1)).toBeGreaterThan(0.9);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('latency and priorities'))('LB_ALG=latency with PRIORITY', () => {
  balanced({ backends: [{}, {}, {}], settings: { AZURE_OPENAI_PRIORITY_0: '10' } });

  test('uses the highest priority, however slow its backends are', async () => {
    take(300, 0, 0);
    await steadily(10, 3);
    expect(calls(gateway)).toEqual([30, 0, 0]);
  }, 20_000);
});
