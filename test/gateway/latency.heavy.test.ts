/** LB_ALG=latency over time: backends whose latency changes, streams, and answers whose latency must not count. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { cannotRunGatewayTests } from '../support/apisix.ts';
import { API_VERSION } from '../support/gateway.ts';
import { backend, balanced, gateway, reset, share, status, steadily, take, V1 } from '../support/latency.ts';
import { calls, chatBody, chatOnWire, chatPrelude, chatText, NO_COOLDOWN } from '../support/traffic.ts';

describe.skipIf(cannotRunGatewayTests('balancing by latency'))('LB_ALG=latency with two backends', () => {
  balanced();

  test('prefers the faster backend, and follows a change within ten seconds', async () => {
    const SECONDS = 12;
    const phases: { readonly fast: number; readonly from: number }[] = [];
    const statuses: number[] = [];
    for (const fast of [0, 1, 0]) {
      take(fast === 0 ? 50 : 500, fast === 1 ? 50 : 500);
      phases.push({ fast, from: performance.now() });
      statuses.push(...(await steadily(20, SECONDS)));
    }
    for (const { fast, from } of phases) {
      expect(share(fast, from + 10_000, from + SECONDS * 1_000)).toBeGreaterThan(0.9);
    }
    expect(new Set(statuses)).toEqual(new Set([200]));
  }, 60_000);

  test('sends at most a tenth of one request a second to the slow backend, but more than none', async () => {
    take(50, 1_000);
    await steadily(1, 45, { model: 'seldom' });
    const [fast = 0, slow = 0] = calls(gateway);
    expect(fast + slow).toBe(45);
    expect(slow).toBeGreaterThanOrEqual(1);
    expect(slow).toBeLessThanOrEqual(4);
  }, 60_000);

  test('notices at once after a pause that the backends have swapped', async () => {
    take(50, 500);
    await steadily(20, 3, { model: 'rested' });
    await sleep(7_000);
    reset();
    take(500, 50);
    await steadily(4, 12, { model: 'rested' });
    const from = backend(0).requests[0]?.startedAt ?? 0;
    expect(share(1, from + 6_000)).toBeGreaterThan(0.85);
  }, 30_000);

  test('measures each deployment separately', async () => {
    const path = (deployment: string) =>
      `/openai/deployments/${deployment}/chat/completions?api-version=${API_VERSION}`;
    take(30, 30);
    backend(0).always({ path: /deployments\/one\//, delayMs: 400 });
    backend(1).always({ path: /deployments\/two\//, delayMs: 400 });
    await Promise.all([
      steadily(10, 6, { path: path('one'), model: '' }),
      steadily(10, 6, { path: path('two'), model: '' }),
    ]);
    const of = (index: number, deployment: string) =>
      backend(index).requests.filter(({ target }) => target === path(deployment)).length;
    expect(of(0, 'one') / 60).toBeLessThan(0.2);
    expect(of(1, 'two') / 60).toBeLessThan(0.2);
  }, 20_000);

  test("does not count a client's error as a fast answer", async () => {
    take(100, 600);
    await steadily(20, 3, { model: 'filtered' });
    reset();
    backend(1).always(answers.contentFiltered());
    await steadily(20, 12, { model: 'filtered' });
    expect(share(1)).toBeLessThan(0.1);
    expect(calls(gateway)[1]).toBeGreaterThan(0);
  }, 30_000);

  test('counts a client that disconnects as a slow answer', async () => {
    take(50, 100);
    await steadily(20, 3, { model: 'left' });
    reset();
    backend(0).always({ hang: true });
    for (let count = 0; count < 30; count++) {
      const wire = chatOnWire(gateway, 'left', {});
      await sleep(400);
      wire.leave();
    }
    expect(calls(gateway)[0]).toBeGreaterThan(0);
    expect(share(0)).toBeLessThan(0.3);
  }, 60_000);
});

describe.skipIf(cannotRunGatewayTests('latency of streams'))('LB_ALG=latency with streams', () => {
  balanced();

  /** Sends this number of streams, four at a time, and reads them to the end. */
  async function streams(model: string, count: number): Promise<void> {
    for (let sent = 0; sent < count; sent += 4) {
      const wires = Array.from({ length: 4 }, () => chatOnWire(gateway, model));
      for (const wire of wires) expect((await wire.end()).status).toBe(200);
    }
  }

  test('measures the time to the first output, not to the end', async () => {
    backend(0).always({ events: [chatPrelude, ...Array(10).fill(chatText('x'))], gapMs: 60 });
    backend(1).always({ events: [chatPrelude, chatText('x')], delayMs: 300 });
    await streams('long', 40);
    expect(share(0)).toBeGreaterThan(0.85);
  }, 60_000);

  test('measures the time to the first output, not to the preamble', async () => {
    backend(0).always({ events: [chatPrelude, chatText('x')], gapMs: 450 });
    backend(1).always({ events: [chatPrelude, chatText('x')], delayMs: 100 });
    await streams('late', 40);
    expect(share(1)).toBeGreaterThan(0.85);
  }, 60_000);

  test('measures a stream while it is still running', async () => {
    const long = { events: [chatText('x'), ...Array(10).fill(chatText('x'))], gapMs: 500 };
    backend(0).always(long);
    backend(1).always({ ...long, delayMs: 400 });
    const wires = [];
    for (let count = 0; count < 30; count++) {
      wires.push(chatOnWire(gateway, 'going-on'));
      await sleep(150);
    }
    expect(share(0)).toBeGreaterThan(0.85);
    for (const wire of wires) expect((await wire.end(10_000)).isWhole).toBe(true);
  }, 60_000);

  test('measures the time to the first byte when no preamble is held', async () => {
    backend(0).always({ events: [chatText('x')], delayMs: 300 });
    backend(1).always({ events: [chatText('x')] });
    await streams('held', 24);
    expect(share(1)).toBeGreaterThan(0.85);
  }, 60_000);

  test('measures streams and other answers separately', async () => {
    backend(0).always({ events: [chatText('x')], delayMs: 300 });
    await streams('both', 24);
    expect(share(1)).toBeGreaterThan(0.8);
    reset();
    take(0, 300);
    await steadily(10, 6, { model: 'both' });
    take(0, 0);
    expect(share(0)).toBeGreaterThan(0.85);
  }, 60_000);
});

describe.skipIf(cannotRunGatewayTests('latency and failures'))('LB_ALG=latency with failures', () => {
  balanced({ settings: NO_COOLDOWN });

  test.each([
    ['503', { status: 503 }],
    ['429', answers.throttled()],
    ['a reset connection', { reset: 'before-headers' }],
    ['a refused stream', answers.throttledStream({ api: 'chat' })],
  ] as const)(
    'does not count an immediate failure as fast: %s',
    async (what, behaviour) => {
      backend(0).always(behaviour);
      take(0, 200);
      const model = what.replaceAll(' ', '-');
      const isStream = what.endsWith('stream');
      for (let count = 0; count < 40; count++) {
        expect(await status(V1, chatBody(model, isStream ? { stream: true } : {}))).toBe(200);
      }
      expect(calls(gateway)[0]).toBeLessThanOrEqual(5);
      expect(calls(gateway)[1]).toBe(40);
    },
    30_000,
  );

  test('uses a backend again when it has recovered', async () => {
    take(0, 200);
    backend(0).always({ status: 503 });
    for (let count = 0; count < 20; count++) await status(V1, chatBody('mended'));
    backend(0).always(undefined);
    await steadily(20, 10, { model: 'mended' });
    reset();
    await steadily(20, 2, { model: 'mended' });
    expect(share(0)).toBeGreaterThan(0.9);
  }, 40_000);
});
