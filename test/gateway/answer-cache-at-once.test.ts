/** Identical requests at the same time: one of them calls a backend, and the others follow its answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { ask, CACHE, callsOf, numbered, question, resultOf, sample, wire } from '../support/cache.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { backendOf, resetMocks, until } from '../support/traffic.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('identical requests at once through the stock APISIX image');

const MANY = 200;
/** The most time that a claim of a killed worker lasts. */
const CLAIM_MS = 6_000;

describe.skipIf(skipped)('identical requests at the same time', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: quickMetrics,
      settings: {
        ...CACHE,
        GATEWAY_WORKERS: '3',
        AI_PROXY_COOLDOWN: '0',
        AI_PROXY_COOLDOWN_MAX: '0',
        GATEWAY_CLIENT_NAME_1: 'other',
        GATEWAY_CLIENT_KEY_1: 'key-of-another-client-0123456789',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));
  const mock = () => backendOf(gateway, 0);
  /** Requests on their own connections, of which each worker gets some. */
  const wires = (count: number, body: object) => Array.from({ length: count }, () => wire(gateway, body));

  /** The number of open files of each worker. */
  const openFiles = async (): Promise<ReadonlyMap<number, number>> => {
    const script = 'for each in "$@"; do ls "/proc/$each/fd" | wc -l; done';
    const pids = (await gateway.apisix.workers()).map(({ pid }) => pid);
    const counts = (await gateway.apisix.asRoot(script, ...pids.map(String))).split('\n').map(Number);
    return new Map(pids.map((pid, index) => [pid, counts[index] ?? 0]));
  };

  test('make one call, over all workers', { timeout: 60_000 }, async () => {
    mock().always({ delayMs: 600 });
    const body = question();
    const before = await gateway.metrics();
    const answers = await Promise.all(wires(MANY, body).map((each) => each.end(20_000)));
    expect(answers.map(({ status }) => status)).toEqual(Array(MANY).fill(200));
    expect(new Set(answers.map((each) => each.body.toString())).size).toBe(1);
    expect(callsOf(gateway)).toBe(1);
    expect(answers.map(resultOf).filter((each) => each === 'miss')).toHaveLength(1);
    const after = await gateway.metrics();
    const grown = (outcome: string) =>
      sample(after, 'apisix_genai_cache_requests_total', { result: outcome }) -
      sample(before, 'apisix_genai_cache_requests_total', { result: outcome });
    expect(grown('miss')).toBe(1);
    expect(grown('coalesced') + grown('hit')).toBe(MANY - 1);
    expect(grown('coalesced')).toBeGreaterThan(MANY / 2);
  });

  test('follow a stream live, over all workers', { timeout: 60_000 }, async () => {
    const events = numbered(30);
    mock().always({ events, gapMs: 100 });
    const body = question({ stream: true });
    const all = wires(30, body);
    await until(() => all.every((each) => each.text.includes('<5>')), 20_000);
    // The stream still goes on.
    expect(all.every((each) => !each.text.includes('<29>'))).toBe(true);
    const late = wire(gateway, body);
    await late.waitFor('<5>', 20_000);
    const answers = await Promise.all([...all, late].map((each) => each.end(20_000)));
    expect(new Set(answers.map((each) => each.body.toString())).size).toBe(1);
    expect(answers.every(({ isWhole }) => isWhole)).toBe(true);
    expect(answers[0]?.body.toString()).toMatch(/\[DONE\]\n\n$/);
    expect(callsOf(gateway)).toBe(1);
    expect((await ask(gateway, body)).result).toBe('hit');
  });

  test('of different clients make a call each', async () => {
    mock().always({ delayMs: 300 });
    const body = question();
    const answers = await Promise.all([
      ask(gateway, body),
      ask(gateway, body, { 'api-key': 'key-of-another-client-0123456789' }),
    ]);
    expect(answers.map(({ result }) => result)).toEqual(['miss', 'miss']);
    expect(callsOf(gateway)).toBe(2);
  });

  test('go on when the client of the first one leaves before the answer', { timeout: 30_000 }, async () => {
    mock().always({ delayMs: 1_500 });
    const body = question();
    const first = wire(gateway, body);
    await mock().waitForRequests(1);
    const others = wires(12, body);
    await sleep(400);
    first.leave();
    const answers = await Promise.all(others.map((each) => each.end(15_000)));
    expect(answers.map(({ status }) => status)).toEqual(Array(12).fill(200));
    expect(callsOf(gateway)).toBe(1);
    const abandoned = (await gateway.accessLog()).filter(({ error }) => error === 'client_abort');
    expect(abandoned.map(({ cache }) => cache)).toEqual(['miss']);
  });

  test('go on when the client of the first one leaves in the middle of a stream', {
    timeout: 30_000,
  }, async () => {
    mock().always({ events: numbered(30), gapMs: 100 });
    const body = question({ stream: true });
    const first = wire(gateway, body);
    await first.waitFor('<1>');
    const others = wires(12, body);
    await until(() => others.every((each) => each.text.includes('<3>')), 10_000);
    first.leave();
    const answers = await Promise.all(others.map((each) => each.end(15_000)));
    expect(answers.every((each) => each.isWhole && each.body.toString().includes('[DONE]'))).toBe(true);
    expect(callsOf(gateway)).toBe(1);
    expect((await ask(gateway, body)).result).toBe('hit');
  });

  test('free the backend when all clients leave', { timeout: 30_000 }, async () => {
    mock().always({ events: numbered(200), gapMs: 100 });
    const body = question({ stream: true });
    const before = (await gateway.accessLog()).length;
    const all = wires(4, body);
    await until(() => all.every((each) => each.text.includes('<1>')), 10_000);
    for (const each of all) each.leave();
    await eventually(
      async () =>
        (await gateway.accessLog())
          .slice(before)
          .some(
            ({ cache, error, attempts }) =>
              cache === 'miss' && error === 'client_abort' && /:client_abort:/.test(attempts ?? ''),
          ),
      { timeoutMs: 8_000 },
    );
    mock().always({ events: numbered(2) });
    expect((await ask(gateway, body)).result).toBe('miss');
  });

  test('take over, one at a time, when the answer is an error', { timeout: 30_000 }, async () => {
    mock().script({ status: 400, delayMs: 800 });
    mock().always({ delayMs: 300 });
    const body = question();
    const answers = await Promise.all(wires(20, body).map((each) => each.end(15_000)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([...Array(19).fill(200), 400]);
    expect(callsOf(gateway)).toBe(2);
  });

  test('do not wait for each other for ever when all answers are errors', { timeout: 30_000 }, async () => {
    mock().always({ status: 400, delayMs: 500 });
    const body = question();
    const began = performance.now();
    const answers = await Promise.all(wires(20, body).map((each) => each.end(15_000)));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(400));
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  test('take over when the worker of the first one is killed', { timeout: 60_000 }, async () => {
    await mock().stop();
    await mock().restart();
    mock().script({ hang: true });
    mock().always({ delayMs: 100 });
    const body = question();
    const before = await openFiles();
    const first = wire(gateway, body);
    await mock().waitForRequests(1);
    const after = await openFiles();
    // Its worker has a connection to the client and one to the backend.
    const [leader] = [...after].filter(([pid, count]) => count > (before.get(pid) ?? 0));
    const all = [first, ...wires(24, body)];
    await sleep(1_000);
    await gateway.apisix.killWorker(leader?.[0] ?? 0);
    const ended = await Promise.allSettled(all.map((each) => each.end(CLAIM_MS + 15_000)));
    const whole = ended.filter((each) => each.status === 'fulfilled' && each.value.status === 200);
    expect(whole.length).toBeGreaterThan(0);
    expect(callsOf(gateway)).toBe(2);
    for (const each of ended) if (each.status === 'fulfilled') expect([0, 200]).toContain(each.value.status);
  });

  test('cut followers off when a stream breaks off, and do not store it', { timeout: 30_000 }, async () => {
    mock().script({ events: numbered(10), gapMs: 100, cutAfter: 8 });
    mock().always({ events: numbered(3) });
    const body = question({ stream: true });
    const all = wires(10, body);
    const answers = await Promise.all(all.map((each) => each.waitForClose(15_000)));
    expect(answers.every(({ isWhole }) => !isWhole)).toBe(true);
    expect(callsOf(gateway)).toBe(1);
    expect((await ask(gateway, body)).result).toBe('miss');
  });

  test('follow a stream that is too large to be stored, and others make their own call', {
    timeout: 60_000,
  }, async () => {
    mock().always({ events: numbered(60, 10_000), gapMs: 50 });
    const body = question({ stream: true });
    const all = wires(12, body);
    await until(() => all.every((each) => each.text.includes('<45>')), 20_000);
    const late = wire(gateway, body);
    const answers = await Promise.all([...all, late].map((each) => each.end(30_000)));
    expect(answers.every(({ isWhole }) => isWhole)).toBe(true);
    expect(new Set(answers.map((each) => each.body.toString())).size).toBe(1);
    expect(callsOf(gateway)).toBe(2);
  });

  test('are sent one by one when the answer is too large and no stream', { timeout: 30_000 }, async () => {
    mock().always({ delayMs: 300, body: { choices: [{ message: { content: 'x'.repeat(400_000) } }] } });
    const body = question();
    const answers = await Promise.all(wires(6, body).map((each) => each.end(15_000)));
    expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(200));
    expect(answers.map(resultOf)).toEqual(Array(6).fill('miss'));
    expect(callsOf(gateway)).toBe(6);
  });
});
