/** A backend that throttles or fails is skipped by all workers for the time it asks for; then a single request tests it. */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Documents } from '../../compiler/emit/emit.ts';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { API_VERSION, type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import {
  backendOf,
  calls,
  chatBody,
  chatOnWire,
  inOrder,
  onlyRequest,
  resetMocks,
  Wire,
} from '../support/traffic.ts';

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const reset = () => resetMocks(gateway);
const backend = (index: number) => backendOf(gateway, index);

/** The status of a request on a new connection, which any worker may accept. */
async function status(model: string): Promise<number> {
  const wire = new Wire(gateway, '/openai/v1/chat/completions', {
    body: chatBody(model),
    headers: { Connection: 'close' },
  });
  return (await wire.end(10_000)).status;
}
const statuses = (count: number, model: string) =>
  Promise.all(Array.from({ length: count }, () => status(model)));

describe.skipIf(cannotRunGatewayTests('the length of cooldowns'))('the length of a cooldown', () => {
  beforeAll(
    start({ backends: [{}], settings: { AI_PROXY_COOLDOWN: '10s', AI_PROXY_COOLDOWN_MAX: '2m' } }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(reset);

  const date = (inMs: number) => new Date(Date.now() + inMs).toUTCString();
  const headers = (values: Record<string, string>): Behaviour => ({ status: 429, body: '', headers: values });
  /** No delay is returned, and no cooldown starts. */
  const UNKNOWN = 0;
  const CAP = 120_000;

  test.each<[string, () => Behaviour, number]>([
    ['retry-after-ms', () => headers({ 'retry-after-ms': '1500' }), 1_500],
    [
      'retry-after-ms before retry-after',
      () => headers({ 'retry-after-ms': '1500', 'Retry-After': '60' }),
      1_500,
    ],
    [
      'retry-after-ms that says nothing',
      () => headers({ 'retry-after-ms': '-1', 'Retry-After': '4' }),
      4_000,
    ],
    ['Retry-After', () => headers({ 'Retry-After': '7' }), 7_000],
    ['Retry-After in lower case', () => headers({ 'retry-after': '7' }), 7_000],
    ['Retry-After with a fraction', () => headers({ 'Retry-After': '2.5' }), 2_500],
    ['Retry-After as a date', () => headers({ 'Retry-After': date(30_000) }), 30_000],
    [
      'Retry-After as a date by a clock that is an hour behind',
      () => headers({ 'Retry-After': date(-3_585_000), Date: date(-3_600_000) }),
      15_000,
    ],
    ['Retry-After as a date that is over', () => headers({ 'Retry-After': date(-30_000) }), UNKNOWN],
    [
      'Retry-After before resets',
      () => headers({ 'Retry-After': '3', 'x-ratelimit-reset-tokens': '50' }),
      3_000,
    ],
    ['a reset of requests', () => headers({ 'x-ratelimit-reset-requests': '4' }), 4_000],
    ['a reset of tokens, with units', () => headers({ 'x-ratelimit-reset-tokens': '1m2s' }), 62_000],
    ['a reset in milliseconds', () => headers({ 'x-ratelimit-reset-tokens': '800ms' }), 800],
    [
      'two resets',
      () => headers({ 'x-ratelimit-reset-requests': '4', 'x-ratelimit-reset-tokens': '9' }),
      9_000,
    ],
    [
      'a reset of 0 next to a known one',
      () => headers({ 'x-ratelimit-reset-requests': '0', 'x-ratelimit-reset-tokens': '9' }),
      9_000,
    ],
    ['the other spelling', () => headers({ 'x-rate-limit-reset-tokens': '55' }), 55_000],
    ['2023', () => answers.throttled({ era: 'b', retryAfter: 21 }), 21_000],
    ['a limit of calls', () => answers.throttled({ era: 'c', kind: 'requests', retryAfter: 4 }), 4_000],
    ['November 2025, in the message only', () => answers.throttled({ era: 'd', retryAfter: 26 }), 26_000],
    ['remainders below zero', () => answers.throttled({ era: 'e', retryAfter: 6 }), 6_000],
    ['a provisioned deployment', () => answers.throttledPtu({ retryAfterMs: 900 }), 900],
    ['a stream', () => answers.throttledStream({ retryAfter: 8 }), 8_000],
    ['a stream that names no time', () => answers.throttledStream({ api: 'chat' }), UNKNOWN],
    ['nothing', () => headers({}), UNKNOWN],
    [
      'a message',
      () => ({
        status: 429,
        body: { error: { message: 'Rate limit is exceeded. Try again in 26 seconds.' } },
      }),
      26_000,
    ],
    ...['0', '-1', '', 'soon', '0x10', 'NaN', '1e3'].map((value): [string, () => Behaviour, number] => [
      `${JSON.stringify(value)} everywhere`,
      () =>
        headers({
          'retry-after-ms': value,
          'Retry-After': value,
          'x-ratelimit-reset-requests': value,
          'x-ratelimit-reset-tokens': value,
        }),
      UNKNOWN,
    ]),
    ['remaining tokens alone', () => headers({ 'x-ratelimit-remaining-tokens': '0' }), UNKNOWN],
    ['a day', () => answers.throttled({ retryAfter: 86_400 }), CAP],
    ['a day in milliseconds', () => headers({ 'retry-after-ms': '86400000' }), CAP],
    ['a date in a year', () => headers({ 'Retry-After': date(365 * 86_400_000) }), CAP],
    ['more than numbers hold', () => headers({ 'Retry-After': '9'.repeat(400) }), CAP],
  ])('is taken from %s', async (what, behaviour, expected) => {
    const scripted = behaviour();
    backend(0).script(scripted);
    const answer = await gateway.chat(what, { stream: scripted.events !== undefined });
    expect(answer.status).toBe(429);
    if (expected === UNKNOWN) {
      expect(answer.headers.get('retry-after-ms')).toBeNull();
      expect(answer.headers.get('retry-after')).toBeNull();
      expect((await gateway.chat(what)).status).toBe(200);
      expect(calls(gateway)).toEqual([2]);
      return;
    }
    const told = Number(answer.headers.get('retry-after-ms'));
    // A date only has whole seconds.
    expect(told).toBeGreaterThan(expected - (what.includes('date') ? 2_000 : 500));
    expect(told).toBeLessThanOrEqual(expected);
    expect(answer.headers.get('retry-after')).toBe(String(Math.ceil(told / 1_000)));
    // The backend is skipped for the time that the client is told.
    expect((await gateway.chat(what)).status).toBe(429);
    expect(calls(gateway)).toEqual([1]);
  });
});

describe.skipIf(cannotRunGatewayTests('the scope of cooldowns'))('the scope of a cooldown', () => {
  beforeAll(start({ settings: { ...inOrder(2), AI_PROXY_COOLDOWN: '1s' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  const embed = (model: string) =>
    gateway.fetch('/openai/v1/embeddings', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, input: 'Hello' }),
    });

  test('is a throttled deployment, not the others of its backend', async () => {
    backend(0).script(answers.throttled());
    expect(await status('gpt-4o')).toBe(200);
    expect(calls(gateway)).toEqual([1, 1]);
    expect((await embed('text-embedding-3-small')).status).toBe(200);
    expect(await status('gpt-4o-mini')).toBe(200);
    expect(calls(gateway)).toEqual([3, 1]);
    expect(await status('gpt-4o')).toBe(200);
    expect(calls(gateway)).toEqual([3, 2]);
  });

  test('is the same deployment by its path and for other operations', async () => {
    backend(0).script(answers.throttled());
    expect(await status('shared')).toBe(200);
    const answer = await gateway.fetch(
      `/openai/deployments/shared/chat/completions?api-version=${API_VERSION}`,
      {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: chatBody('whatever'),
      },
    );
    expect(answer.status).toBe(200);
    expect((await embed('shared')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 3]);
  });

  test('is an operation without a deployment, and nothing else', async () => {
    backend(0).script(answers.throttled({ retryAfter: 60 }));
    expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
    expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
    expect((await gateway.fetch('/openai/v1/files')).status).toBe(200);
    expect(await status('not-models')).toBe(200);
    expect(calls(gateway)).toEqual([3, 2]);
  });

  test('is a failing deployment, and nothing else', async () => {
    backend(0).script({ status: 503, headers: { 'Retry-After': '30' } });
    expect(await status('failing')).toBe(200);
    expect(await status('failing')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
    expect(await status('well')).toBe(200);
    expect(calls(gateway)).toEqual([2, 2]);
  });

  test('is the whole backend when it cannot be reached', async () => {
    await backend(0).stop();
    expect(await status('first')).toBe(200);
    await backend(0).restart();
    expect(await status('second')).toBe(200);
    expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
    expect(calls(gateway)).toEqual([0, 3]);
    await sleep(1_050);
    expect(await status('second')).toBe(200);
    expect(await status('first')).toBe(200);
    expect(calls(gateway)).toEqual([2, 3]);
  });

  test('is one throttled deployment when an unreachable backend comes back with it', async () => {
    await backend(0).stop();
    expect(await status('before')).toBe(200);
    await backend(0).restart();
    reset();
    await sleep(1_050);
    backend(0).script(answers.throttled({ retryAfter: 60 }));
    expect(await status('throttled')).toBe(200);
    expect(calls(gateway)).toEqual([1, 1]);
    expect(await statuses(3, 'others')).toEqual([200, 200, 200]);
    expect(calls(gateway)).toEqual([4, 1]);
  });

  test('includes all workers', async () => {
    backend(0).script(answers.throttled());
    expect(await status('workers')).toBe(200);
    expect(new Set(await statuses(40, 'workers'))).toEqual(new Set([200]));
    expect(calls(gateway)).toEqual([1, 41]);
  });

  test('ends after its time', async () => {
    backend(0).script(answers.throttledPtu({ retryAfterMs: 600 }));
    expect(await status('short')).toBe(200);
    await sleep(300);
    expect(await status('short')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
    await sleep(350);
    expect(await status('short')).toBe(200);
    expect(calls(gateway)).toEqual([2, 2]);
  });
});

describe.skipIf(cannotRunGatewayTests('probes'))('the end of a cooldown', () => {
  const PTU = answers.throttledPtu({ retryAfterMs: 300 });
  const wait = () => sleep(330);

  describe('two backends', () => {
    beforeAll(start({ settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
    afterAll(stop);
    afterEach(reset);

    test('is tested by one request while the others use another backend; then all return', async () => {
      backend(0).script(PTU, { delayMs: 300 });
      await status('good-end');
      await wait();
      expect(await statuses(10, 'good-end')).toEqual(Array(10).fill(200));
      expect(calls(gateway)).toEqual([2, 10]);
      expect(await statuses(5, 'good-end')).toEqual(Array(5).fill(200));
      expect(calls(gateway)).toEqual([7, 10]);
    });

    test('leads to a new cooldown when that request fails', async () => {
      backend(0).script(PTU, { ...answers.throttled({ retryAfter: 60 }), delayMs: 200 });
      await status('bad-end');
      await wait();
      expect(await statuses(10, 'bad-end')).toEqual(Array(10).fill(200));
      expect(await statuses(5, 'bad-end')).toEqual(Array(5).fill(200));
      expect(calls(gateway)).toEqual([2, 16]);
    });

    test("is confirmed by a client's error, because the backend answered", async () => {
      backend(0).script(PTU, answers.contentFiltered());
      await status('client-error');
      await wait();
      expect(await status('client-error')).toBe(400);
      expect(await statuses(5, 'client-error')).toEqual(Array(5).fill(200));
      expect(calls(gateway)).toEqual([7, 1]);
    });

    test('is tested by the next request when the client of the first one disconnects', async () => {
      backend(0).script(PTU, { delayMs: 5_000 });
      await status('left');
      await wait();
      const wire = chatOnWire(gateway, 'left', {});
      await backend(0).waitForRequests(2);
      expect(await status('left')).toBe(200);
      expect(calls(gateway)).toEqual([2, 2]);
      wire.leave();
      await sleep(200);
      expect(await status('left')).toBe(200);
      expect(calls(gateway)).toEqual([3, 2]);
    });

    test('delays other requests by at most two seconds when the test is slow', async () => {
      backend(0).script(PTU, { delayMs: 2_600 });
      await status('slow');
      await wait();
      const slow = status('slow');
      await backend(0).waitForRequests(2);
      expect(await status('slow')).toBe(200);
      expect(calls(gateway)).toEqual([2, 2]);
      await sleep(2_050);
      expect(await status('slow')).toBe(200);
      expect(calls(gateway)).toEqual([3, 2]);
      expect(await slow).toBe(200);
    });
  });

  describe('with a single backend', () => {
    beforeAll(start({ backends: [{}] }), CONTAINER_TIMEOUT_MS);
    afterAll(stop);
    afterEach(reset);

    test('delays the other requests until the test succeeds, then serves them', async () => {
      backend(0).script(PTU, { delayMs: 400 });
      expect(await status('good-end')).toBe(429);
      await wait();
      const began = performance.now();
      const first = status('good-end');
      await backend(0).waitForRequests(2);
      const others = statuses(8, 'good-end');
      await sleep(200);
      expect(calls(gateway)).toEqual([2]);
      expect([await first, ...(await others)]).toEqual(Array(9).fill(200));
      expect(performance.now() - began).toBeLessThan(1_500);
      expect(calls(gateway)).toEqual([10]);
    });

    test('delays the other requests until the test fails, then rejects them without a call', async () => {
      backend(0).script(PTU, { ...answers.throttled(), delayMs: 400 });
      expect(await status('bad-end')).toBe(429);
      await wait();
      expect(await statuses(9, 'bad-end')).toEqual(Array(9).fill(429));
      expect(calls(gateway)).toEqual([2]);
    });

    test('delays the other requests by at most two seconds', async () => {
      backend(0).script(PTU, { delayMs: 3_500 });
      expect(await status('slow')).toBe(429);
      await wait();
      const slow = status('slow');
      await backend(0).waitForRequests(2);
      const began = performance.now();
      expect(await status('slow')).toBe(200);
      const took = performance.now() - began;
      expect(took).toBeGreaterThan(1_000);
      expect(took).toBeLessThan(2_600);
      expect(await slow).toBe(200);
    });
  });
});

describe.skipIf(cannotRunGatewayTests('AI_PROXY_COOLDOWN=0'))('AI_PROXY_COOLDOWN=0', () => {
  beforeAll(start({ settings: { ...inOrder(2), AI_PROXY_COOLDOWN: '0' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(reset);

  test.each<[string, Behaviour]>([
    ['429', { status: 429, body: '' }],
    ['503', { status: 503 }],
    ['reset', { reset: 'before-headers' }],
  ])('starts no cooldown after %s without a delay', async (what, behaviour) => {
    await backend(0).restart();
    backend(0).script(behaviour);
    expect(await status(what)).toBe(200);
    expect(await status(what)).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
  });

  test('starts a cooldown when the backend names a delay', async () => {
    backend(0).script(answers.throttled({ retryAfter: 5 }));
    expect(await status('named')).toBe(200);
    expect(await status('named')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
  });
});

describe.skipIf(cannotRunGatewayTests('cooldowns and reloads'))('a reload of apisix.yaml', () => {
  let documents: Documents;
  beforeAll(
    start({
      backends: [{}, {}, { keys: ['key-of-backend-0-0123456789'] }],
      settings: { ...inOrder(2), AZURE_OPENAI_PRIORITY_2: '0', AZURE_OPENAI_WEIGHT_2: '0' },
      adapt: (rendered) => {
        documents = rendered;
        return rendered;
      },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);

  let reloads = 0;
  /** Reloads and waits until every worker has the new file, as its `backend_header` shows. */
  async function reload(yaml: string): Promise<void> {
    const shows = yaml.includes('backend_header: true');
    const port = gateway.apisix.mappedPort(PORTS.proxy);
    const id = execFileSync('docker', ['ps', '-q', '--filter', `publish=${port}`], {
      encoding: 'utf8',
    }).trim();
    const file = '/usr/local/apisix/conf/apisix.yaml';
    // The file must be replaced at once, and with a new second in its time: APISIX only reads a file whose time changed.
    const script = `cat > ${file}.new && touch -d "${++reloads} minutes" ${file}.new && mv ${file}.new ${file}`;
    execFileSync('docker', ['exec', '-i', '-u', '0', id, 'sh', '-c', script], { input: yaml });
    for (let inRow = 0, patience = 100; inRow < 20; patience--) {
      if (patience === 0) throw new Error('APISIX did not take the changed file');
      const wire = new Wire(gateway, '/openai/v1/models', {
        method: 'GET',
        headers: { Connection: 'close' },
      });
      const isNew = /^x-gateway-backend/im.test((await wire.end()).head) === shows;
      inRow = isNew ? inRow + 1 : 0;
      if (!isNew) await sleep(100);
    }
    reset();
  }
  test('keeps cooldowns, except for a backend whose endpoint changed', async () => {
    backend(0).script(answers.throttled({ retryAfter: 100 }));
    expect(await status('gpt-4o')).toBe(200);
    expect(calls(gateway)).toEqual([1, 1, 0]);

    const rendered = documents['apisix.yaml'];
    await reload(rendered.replace(/^( *)stream_hold_ms: .*$/m, '$&\n$1backend_header: true'));
    expect(await statuses(10, 'gpt-4o')).toEqual(Array(10).fill(200));
    expect(calls(gateway)).toEqual([0, 10, 0]);

    await reload(
      rendered
        .replace(`:${backend(0).port}"`, ':0"')
        .replace(`:${backend(2).port}"`, `:${backend(0).port}"`)
        .replace(':0"', `:${backend(2).port}"`),
    );
    expect(await status('gpt-4o')).toBe(200);
    expect(calls(gateway)).toEqual([0, 0, 1]);
    expect(onlyRequest(backend(2)).header('api-key')).toBe('key-of-backend-0-0123456789');
  });
});
