/** When no backend serves a request, the client gets the best of their answers and a true Retry-After. */
import { APIError, InternalServerError, RateLimitError } from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { backendOf, calls, inOrder, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const backend = (index: number) => backendOf(gateway, index);
const always = (...behaviours: readonly Behaviour[]) => {
  for (const [index, behaviour] of behaviours.entries()) backend(index).always(behaviour);
};

interface Failure {
  readonly status: number;
  /** The body as received. */
  readonly text: string;
  readonly error: { readonly message: string; readonly code: string; readonly type?: string };
  /** The delay, which both headers must agree on; undefined when there is none. */
  readonly retryMs: number | undefined;
  readonly headers: Headers;
}

/** The error that a client gets for a failed request. */
async function failure(model: string): Promise<Failure> {
  const answer = await gateway.chat(model);
  const { status, headers } = answer;
  expect(headers.get('content-type')).toBe('application/json');
  const text = await answer.text();
  const ms = headers.get('retry-after-ms');
  if (ms === null) {
    expect(headers.get('retry-after')).toBeNull();
  } else {
    expect(Number(ms)).toBeGreaterThanOrEqual(100);
    expect(headers.get('retry-after')).toBe(String(Math.ceil(Number(ms) / 1000)));
  }
  const { error } = JSON.parse(text) as { error: Failure['error'] };
  return { status, headers, text, error, retryMs: ms === null ? undefined : Number(ms) };
}

/** The shape of the gateway's own errors. */
const OWN = { message: expect.any(String), type: expect.any(String), param: null, code: expect.any(String) };

/** Expects a delay, less the time that has passed meanwhile. */
function expectAbout(actual: number | undefined, milliseconds: number): void {
  expect(actual).toBeGreaterThan(milliseconds - 500);
  expect(actual).toBeLessThanOrEqual(milliseconds);
}

const RESET: Behaviour = { reset: 'before-headers' };

describe.skipIf(cannotRunGatewayTests('all backends fail'))('without cooldowns', () => {
  beforeAll(
    start({
      backends: [{}, {}, {}],
      settings: { ...inOrder(3), ...NO_COOLDOWN, AI_PROXY_READ_TIMEOUT: '500ms' },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(async () => {
    resetMocks(gateway);
    for (const mock of gateway.mocks) await mock.restart();
  });

  /** An error that only this backend sends, with members that only Azure uses. */
  const said = (status: number, by = 'it'): Behaviour => ({
    status,
    body: { error: { code: String(status), message: `said by ${by}`, innererror: { by } }, requestid: by },
  });
  const RESET_OR_401 = [answers.badKey(), RESET, answers.badKey()];

  test.each<[string, readonly Behaviour[], number]>([
    ['429, 503, reset', [said(429), said(503), RESET], 429],
    ['503, reset, 429', [said(503), RESET, said(429)], 429],
    ['reset, 429, 500', [RESET, said(429), said(500)], 429],
    ['503, time-out, reset', [said(503), { hang: true }, RESET], 503],
    ['reset, 503, time-out', [RESET, said(503), { hang: true }], 503],
    ['401, 503, 403', [answers.badKey(), said(503), said(403)], 503],
    ['503, 500, the last one', [said(503), said(503), said(500)], 500],
    ['404, 500, 403', [answers.deploymentNotFound(), said(500), said(403)], 500],
    ['404, 403, 404', [answers.deploymentNotFound(), said(403), answers.deploymentNotFound()], 403],
  ])(
    'returns the error of a throttled backend, else of a failing one, unchanged: %s',
    async (_, behaviours, status) => {
      always(...behaviours);
      const answer = await failure('gpt-4o');
      expect(answer.status).toBe(status);
      expect(answer.text).toBe(JSON.stringify(said(status).body));
      expect(calls(gateway).map((count) => Math.min(count, 1))).toEqual([1, 1, 1]);
    },
  );

  test('returns 502 for an unreachable backend rather than an error about credentials', async () => {
    always(...RESET_OR_401);
    const answer = await failure('gpt-4o');
    expect(answer).toMatchObject({ status: 502, error: { code: 'upstream_unreachable' } });
    expect(answer.error).toEqual(OWN);
  });

  const { body: html } = answers.badGateway('html');
  test.each<[number, Behaviour, number | undefined]>([
    [408, answers.timeout408(), undefined],
    [429, answers.throttled(), 33_000],
    [429, answers.throttled({ era: 'd' }), 33_000],
    [429, said(429), undefined],
    [500, answers.serverError('model'), undefined],
    [500, answers.serverError('service'), undefined],
    [503, answers.unavailable('json'), undefined],
    [503, { ...said(503), headers: { 'Content-Type': 'application/problem+json' } }, undefined],
  ])('returns the error of one backend unchanged when all answer %i', async (status, behaviour, retryMs) => {
    always(behaviour, behaviour, behaviour);
    const answer = await gateway.chat('gpt-4o');
    expect(answer.status).toBe(status);
    expect(await answer.text()).toBe(JSON.stringify(behaviour.body));
    const told = answer.headers.get('retry-after-ms');
    expect(told).toBe(retryMs === undefined ? null : String(retryMs));
    expect(answer.headers.get('content-type')).toBe(
      (behaviour.headers as Record<string, string> | undefined)?.['Content-Type'] ?? 'application/json',
    );
    // Azure's support asks for this id.
    expect(answer.headers.get('apim-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    expect(answer.headers.get('x-apisix-upstream-status')).toBeNull();
  });

  test.each<[number, Behaviour, string]>([
    [502, answers.badGateway('html'), 'No backend could be reached'],
    [503, answers.unavailable('html'), 'The gateway cannot handle'],
    [503, answers.unavailable('empty'), 'The gateway cannot handle'],
    [504, answers.gatewayTimeout('empty'), 'No backend answered in time'],
    [429, { status: 429, body: html as string }, 'Too many requests'],
  ])(
    'returns an error of the gateway when all answer %i without JSON',
    async (status, behaviour, message) => {
      always(behaviour, behaviour, behaviour);
      const answer = await failure('gpt-4o');
      expect(answer).toMatchObject({ status, retryMs: undefined });
      expect(answer.error).toEqual(OWN);
      expect(answer.error.message).toContain(message);
      expect(answer.headers.get('apim-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    },
  );

  test('returns 502 upstream_unreachable when no backend listens', async () => {
    for (const mock of gateway.mocks) await mock.stop();
    expect(await failure('gpt-4o')).toMatchObject({ status: 502, error: { code: 'upstream_unreachable' } });
  });

  test('returns 504 upstream_timeout when no backend answers in time', async () => {
    always({ hang: true }, { hang: true }, { hang: true });
    expect(await failure('gpt-4o')).toMatchObject({ status: 504, error: { code: 'upstream_timeout' } });
  });

  test('returns errors that the official client recognises', async () => {
    const ask = async () =>
      gateway
        .openai()
        .chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] })
        .then(
          () => undefined,
          (error: unknown) => error,
        );
    always({ status: 429 }, { status: 429 }, { status: 429 });
    const throttled = (await ask()) as APIError;
    expect(throttled).toBeInstanceOf(RateLimitError);
    expect(throttled).toMatchObject({ code: '429', message: expect.stringContaining('have exceeded') });
    always({ status: 503 }, { status: 503 }, { status: 503 });
    expect(await ask()).toBeInstanceOf(InternalServerError);
    always({ status: 408 }, { status: 408 }, { status: 408 });
    expect(await ask()).toMatchObject({ status: 408 });
    expect(await ask()).toBeInstanceOf(APIError);
  });
});

describe.skipIf(cannotRunGatewayTests('all backends fail, and are remembered'))('with cooldowns', () => {
  beforeAll(start({ settings: { ...inOrder(2), AI_PROXY_COOLDOWN: '10s' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  const seconds = (retryAfter: number) => answers.throttled({ retryAfter });

  test.each<[string, Behaviour, Behaviour, number]>([
    ['33 s and 7 s', seconds(33), seconds(7), 7_000],
    ['7 s and 33 s', seconds(7), seconds(33), 7_000],
    ['33 s and 700 ms', seconds(33), answers.throttledPtu({ retryAfterMs: 700 }), 700],
    ['33 s and unknown', seconds(33), { status: 429, body: '' }, 33_000],
    ['33 s and a failure', seconds(33), { status: 503 }, 33_000],
    ['a failure and 5 s', { status: 503 }, seconds(5), 5_000],
    ['a failure for 3 s and 5 s', { status: 503, headers: { 'Retry-After': '3' } }, seconds(5), 3_000],
    ['more than the longest cooldown', seconds(86_400), seconds(500), 120_000],
  ])('returns the shortest delay of the backends: %s', async (what, first, second, expected) => {
    always(first, second);
    const answer = await failure(what);
    expect(answer.status).toBe(429);
    expectAbout(answer.retryMs, expected);
  });

  test('returns 429 with the remaining time without a call while both backends are cooling down', async () => {
    always(seconds(33), seconds(7));
    await failure('throttled');
    resetMocks(gateway);
    const answer = await failure('throttled');
    expect(answer).toMatchObject({
      status: 429,
      error: { code: 'rate_limit_exceeded', type: 'rate_limit_error' },
    });
    expectAbout(answer.retryMs, 7_000);
    expect(calls(gateway)).toEqual([0, 0]);
  });

  test('retries a backend that failed while the other one is throttled', async () => {
    always({ status: 503 }, seconds(7));
    expect(await failure('mixed')).toMatchObject({ status: 429 });
    const { status, retryMs } = await failure('mixed');
    expect(status).toBe(503);
    expectAbout(retryMs, 7_000);
    resetMocks(gateway);
    expect((await gateway.chat('mixed')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
  });

  test('starts no cooldown and returns no delay when every backend answers 5xx, because the request may be the cause', async () => {
    always({ status: 500 }, { status: 503 });
    expect(await failure('poison')).toMatchObject({ status: 503, retryMs: undefined });
    resetMocks(gateway);
    expect((await gateway.chat('poison')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
  });
});

describe.skipIf(cannotRunGatewayTests('all backends are unreachable'))('no backend listens', () => {
  beforeAll(start({ settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  test('returns 502 without a delay, and uses the backends at once when they are back', async () => {
    for (const mock of gateway.mocks) await mock.stop();
    expect(await failure('gpt-4o')).toMatchObject({
      status: 502,
      error: { code: 'upstream_unreachable' },
      retryMs: undefined,
    });
    for (const mock of gateway.mocks) await mock.restart();
    expect((await gateway.chat('another')).status).toBe(200);
    expect(calls(gateway).reduce((sum, count) => sum + count)).toBe(1);
  });
});

describe.skipIf(cannotRunGatewayTests('the only backend fails'))('a single backend fails', () => {
  beforeAll(start({ backends: [{}] }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test('returns its 429 with its delay, then the same without a call', async () => {
    backend(0).script(answers.throttled({ retryAfter: 7 }));
    const first = await failure('throttled');
    expect(first.status).toBe(429);
    expectAbout(first.retryMs, 7_000);
    const second = await failure('throttled');
    expect(second.status).toBe(429);
    expect(second.retryMs).toBeLessThanOrEqual(first.retryMs ?? 0);
    expectAbout(second.retryMs, 7_000);
    expect(calls(gateway)).toEqual([1]);
  });

  test('returns its status when it fails, and still sends it the next request', async () => {
    backend(0).script({ status: 500 });
    expect(await failure('failing')).toMatchObject({ status: 500, retryMs: undefined });
    expect((await gateway.chat('failing')).status).toBe(200);
    expect(calls(gateway)).toEqual([2]);
  });

  test('starts no cooldown for errors that the client caused', async () => {
    backend(0).script(answers.contentFiltered(), answers.deploymentNotFound());
    expect((await gateway.chat('fine')).status).toBe(400);
    expect((await gateway.chat('fine')).status).toBe(404);
    expect((await gateway.chat('fine')).status).toBe(200);
  });
});
