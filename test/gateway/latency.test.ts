/** LB_ALG=latency: the better of two backends by their time to first byte, judged by what the backends got. */
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import {
  API_VERSION,
  CLIENT_KEY,
  type Gateway,
  type GatewayOptions,
  startGateway,
} from '../support/gateway.ts';
import * as answers from '../support/mock-azure-openai/answers.ts';
import {
  backendOf,
  calls,
  chatBody,
  chatOnWire,
  chatPrelude,
  chatText,
  NO_COOLDOWN,
  resetMocks,
} from '../support/traffic.ts';

let gateway: Gateway;
const start =
  ({ settings, ...options }: GatewayOptions = {}) =>
  async () => {
    gateway = await startGateway({ ...options, settings: { LB_ALG: 'latency', ...settings } });
  };
const stop = () => gateway?.stop();
const reset = () => resetMocks(gateway);
const backend = (index: number) => backendOf(gateway, index);
const V1 = '/openai/v1/chat/completions';

/** How long each backend takes to its answers. */
function take(...milliseconds: number[]): void {
  for (const [index, perRequestMs] of milliseconds.entries())
    backend(index).configure({ latency: { perRequestMs } });
}

/** A status, over a connection of its own, so that any worker may take it. */
const status = (path: string, body: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const headers = {
      'api-key': CLIENT_KEY,
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
    };
    request(`${gateway.url}${path}`, { agent: false, method: 'POST', headers }, (answer) => {
      answer.resume().once('end', () => resolve(answer.statusCode ?? 0));
    })
      .once('error', reject)
      .end(body);
  });

/** Requests at even distances; answers with all statuses, when all are there. */
async function steadily(
  rate: number,
  seconds: number,
  { model = 'gpt-4o', path = V1 }: { readonly model?: string; readonly path?: string } = {},
): Promise<number[]> {
  const began = performance.now();
  const sent: Promise<number>[] = [];
  for (let count = 0; count < rate * seconds; count++) {
    await sleep(began + (count * 1_000) / rate - performance.now());
    sent.push(status(path, chatBody(model)));
  }
  return Promise.all(sent);
}

/** The share of a backend in the requests that came in between two times, in milliseconds of `performance.now()`. */
function share(index: number, from = 0, to = Number.POSITIVE_INFINITY): number {
  const counts = gateway.mocks.map(
    ({ requests }) => requests.filter(({ startedAt }) => startedAt >= from && startedAt < to).length,
  );
  return (counts[index] ?? 0) / counts.reduce((sum, each) => sum + each, 0);
}

describe.skipIf(cannotRunGatewayTests('balancing by latency'))('two backends', () => {
  beforeAll(start(), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  test('the faster one gets the requests; within ten seconds of its turning slow the other one; and back', async () => {
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

  test('at one request a second a tenth at most goes to the slow one, and some do', async () => {
    take(50, 1_000);
    await steadily(1, 45, { model: 'seldom' });
    const [fast = 0, slow = 0] = calls(gateway);
    expect(fast + slow).toBe(45);
    expect(slow).toBeGreaterThanOrEqual(1);
    expect(slow).toBeLessThanOrEqual(4);
  }, 60_000);

  test('after a rest it is seen at once that they have changed places', async () => {
    take(50, 500);
    await steadily(20, 3, { model: 'rested' });
    await sleep(7_000);
    reset();
    take(500, 50);
    await steadily(4, 12, { model: 'rested' });
    const from = backend(0).requests[0]?.startedAt ?? 0;
    expect(share(1, from + 6_000)).toBeGreaterThan(0.85);
  }, 30_000);

  test('deployments are measured apart', async () => {
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

  test('an error that the client made is no fast answer', async () => {
    take(100, 600);
    await steadily(20, 3, { model: 'filtered' });
    reset();
    backend(1).always(answers.contentFiltered());
    await steadily(20, 12, { model: 'filtered' });
    expect(share(1)).toBeLessThan(0.1);
    expect(calls(gateway)[1]).toBeGreaterThan(0);
  }, 30_000);

  test('a client that does not wait shows that it would have taken longer', async () => {
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

describe.skipIf(cannotRunGatewayTests('latency of streams'))('streams', () => {
  beforeAll(start(), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  /** So many streams, four at a time; all of them are read to their ends. */
  async function streams(model: string, count: number): Promise<void> {
    for (let sent = 0; sent < count; sent += 4) {
      const wires = Array.from({ length: 4 }, () => chatOnWire(gateway, model));
      for (const wire of wires) expect((await wire.end()).status).toBe(200);
    }
  }

  test('their first output counts, not their end', async () => {
    backend(0).always({ events: [chatPrelude, ...Array(10).fill(chatText('x'))], gapMs: 60 });
    backend(1).always({ events: [chatPrelude, chatText('x')], delayMs: 300 });
    await streams('long', 40);
    expect(share(0)).toBeGreaterThan(0.85);
  }, 60_000);

  test('their first output counts, not what comes before it', async () => {
    backend(0).always({ events: [chatPrelude, chatText('x')], gapMs: 450 });
    backend(1).always({ events: [chatPrelude, chatText('x')], delayMs: 100 });
    await streams('late', 40);
    expect(share(1)).toBeGreaterThan(0.85);
  }, 60_000);

  test('it counts while they still go on', async () => {
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

  test('where nothing is held the first byte counts', async () => {
    backend(0).always({ events: [chatText('x')], delayMs: 300 });
    backend(1).always({ events: [chatText('x')] });
    await streams('held', 24);
    expect(share(1)).toBeGreaterThan(0.85);
  }, 60_000);

  test('what is no stream is measured apart', async () => {
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

describe.skipIf(cannotRunGatewayTests('latency and weights'))('WEIGHT 3, 1 and 0', () => {
  beforeAll(
    start({
      backends: [{}, {}, {}],
      settings: { AZURE_OPENAI_WEIGHT_0: '3', AZURE_OPENAI_WEIGHT_1: '1', AZURE_OPENAI_WEIGHT_2: '0' },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(reset);

  test('equally fast backends get their share, a drained one nothing however fast it is', async () => {
    take(50, 50, 0);
    expect(new Set(await steadily(25, 12))).toEqual(new Set([200]));
    expect(share(0)).toBeGreaterThan(0.65);
    expect(share(0)).toBeLessThan(0.85);
    expect(calls(gateway)[2]).toBe(0);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('latency of three'))('three backends', () => {
  beforeAll(start({ backends: [{}, {}, {}], settings: { GATEWAY_WORKERS: '1' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  test('each is tried at the beginning', async () => {
    for (let count = 0; count < 3; count++) await status(V1, chatBody('new'));
    expect(calls(gateway)).toEqual([1, 1, 1]);
  });

  test('two fast ones share the work, the slow one is tried now and then', async () => {
    take(50, 600, 60);
    await steadily(20, 12);
    expect(share(0)).toBeGreaterThan(0.3);
    expect(share(2)).toBeGreaterThan(0.3);
    expect(share(1)).toBeLessThan(0.06);
    expect(calls(gateway)[1]).toBeGreaterThanOrEqual(2);
  }, 30_000);

  test('one fast one does it alone', async () => {
    take(600, 50, 600);
    await steadily(20, 12, { model: 'alone' });
    expect(share(1)).toBeGreaterThan(0.9);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('latency and failures'))('failures', () => {
  beforeAll(start({ settings: NO_COOLDOWN }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  test.each([
    ['503', { status: 503 }],
    ['429', answers.throttled()],
    ['a reset connection', { reset: 'before-headers' }],
    ['a refused stream', answers.throttledStream({ api: 'chat' })],
  ] as const)(
    'what fails at once is not fast: %s',
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

  test('what works again gets its requests back', async () => {
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

describe.skipIf(cannotRunGatewayTests('latency and priorities'))('PRIORITY', () => {
  beforeAll(
    start({ backends: [{}, {}, {}], settings: { AZURE_OPENAI_PRIORITY_0: '10' } }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(reset);

  test('comes first, however slow its backends are', async () => {
    take(300, 0, 0);
    await steadily(10, 3);
    expect(calls(gateway)).toEqual([30, 0, 0]);
  }, 20_000);
});
