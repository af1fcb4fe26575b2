/** When no backend answers, the client gets the best of what they said, and hears when to come again. */
import { APIError, InternalServerError, RateLimitError } from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import * as answers from '../support/mock-azure-openai/answers.ts';
import type { Behaviour } from '../support/mock-azure-openai/server.ts';
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
  readonly error: { readonly message: string; readonly code: string; readonly type: string };
  /** Both say the same; undefined for none. */
  readonly retryMs: number | undefined;
  readonly headers: Headers;
}

/** What a client gets, which has the shape of all errors. */
async function failure(model: string): Promise<Failure> {
  const answer = await gateway.chat(model);
  const { status, headers } = answer;
  expect(headers.get('content-type')).toBe('application/json');
  const body = (await answer.json()) as { error: Failure['error'] };
  expect(body).toEqual({
    error: { message: expect.any(String), type: expect.any(String), param: null, code: expect.any(String) },
  });
  const ms = headers.get('retry-after-ms');
  if (ms === null) {
    expect(headers.get('retry-after')).toBeNull();
  } else {
    expect(ms).toMatch(/^[1-9]\d*$/);
    expect(headers.get('retry-after')).toBe(String(Math.ceil(Number(ms) / 1000)));
  }
  return { status, headers, error: body.error, retryMs: ms === null ? undefined : Number(ms) };
}

/** So long, a little less for what has passed meanwhile. */
function expectAbout(actual: number | undefined, milliseconds: number): void {
  expect(actual).toBeGreaterThan(milliseconds - 500);
  expect(actual).toBeLessThanOrEqual(milliseconds);
}

const RESET: Behaviour = { reset: 'before-headers' };

describe.skipIf(cannotRunGatewayTests('all backends fail'))('without memory', () => {
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

  const ORDERS: readonly (readonly [what: string, behaviours: readonly Behaviour[], status: number])[] = [
    ['429, 503, reset', [{ status: 429 }, { status: 503 }, RESET], 429],
    ['503, reset, 429', [{ status: 503 }, RESET, { status: 429 }], 429],
    ['reset, 429, 500', [RESET, { status: 429 }, { status: 500 }], 429],
    ['503, time-out, reset', [{ status: 503 }, { hang: true }, RESET], 503],
    ['reset, 503, time-out', [RESET, { status: 503 }, { hang: true }], 503],
    ['401, 503, 403', [answers.badKey(), { status: 503 }, { status: 403 }], 503],
    ['503, 500, the last one', [{ status: 503 }, { status: 503 }, { status: 500 }], 500],
    ['401, reset, 401', [answers.badKey(), RESET, answers.badKey()], 502],
  ];
  test.each(ORDERS)('%s: 429 before 5xx before network', async (_, behaviours, status) => {
    always(...behaviours);
    expect(await failure('gpt-4o')).toMatchObject({ status });
    expect(calls(gateway)).toEqual([1, 1, 1]);
  });

  test.each([
    [408, answers.timeout408(), 'The operation was timeout.'],
    [429, answers.throttled(), 'have exceeded token rate limit'],
    [429, answers.throttled({ era: 'd' }), 'have exceeded the token rate limit'],
    [500, answers.serverError('model'), 'The server had an error'],
    [500, answers.serverError('service'), 'The gateway failed'],
    [502, answers.badGateway('html'), 'No backend could be reached'],
    [503, answers.unavailable('json'), 'Service Unavailable'],
    [503, answers.unavailable('html'), 'The gateway cannot take'],
    [503, answers.unavailable('empty'), 'The gateway cannot take'],
    [504, answers.gatewayTimeout('empty'), 'No backend answered in time'],
  ])('%i everywhere', async (status, behaviour, message) => {
    always(behaviour, behaviour, behaviour);
    const { error, headers, ...rest } = await failure('gpt-4o');
    expect(rest).toMatchObject({ status, retryMs: expect.any(Number) });
    expect(error.message).toContain(message);
    // What Azure's support asks for.
    expect(headers.get('apim-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('no backend is there', async () => {
    for (const mock of gateway.mocks) await mock.stop();
    expect(await failure('gpt-4o')).toMatchObject({ status: 502, error: { code: 'upstream_unreachable' } });
  });

  test('none answers in time', async () => {
    always({ hang: true }, { hang: true }, { hang: true });
    expect(await failure('gpt-4o')).toMatchObject({ status: 504, error: { code: 'upstream_timeout' } });
  });

  test('the official client knows the errors', async () => {
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
    expect(throttled).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' });
    always({ status: 503 }, { status: 503 }, { status: 503 });
    expect(await ask()).toBeInstanceOf(InternalServerError);
    always({ status: 408 }, { status: 408 }, { status: 408 });
    expect(await ask()).toMatchObject({ status: 408 });
    expect(await ask()).toBeInstanceOf(APIError);
  });
});

describe.skipIf(cannotRunGatewayTests('all backends fail, and are remembered'))('with memory', () => {
  beforeAll(start({ settings: { ...inOrder(2), AI_PROXY_COOLDOWN: '10s' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  const seconds = (retryAfter: number) => answers.throttled({ retryAfter });

  test.each<[string, Behaviour, Behaviour, number]>([
    ['33 s and 7 s', seconds(33), seconds(7), 7_000],
    ['7 s and 33 s', seconds(7), seconds(33), 7_000],
    ['33 s and 700 ms', seconds(33), answers.throttledPtu({ retryAfterMs: 700 }), 700],
    ['33 s and unknown', seconds(33), answers.throttled({ era: 'd' }), 10_000],
    ['33 s and a failure', seconds(33), { status: 503 }, 10_000],
    ['a failure and 5 s', { status: 503 }, seconds(5), 5_000],
    ['a failure for 3 s and 5 s', { status: 503, headers: { 'Retry-After': '3' } }, seconds(5), 3_000],
    ['more than a cool-down may last', seconds(86_400), seconds(500), 120_000],
  ])('%s: the soonest is told', async (what, first, second, expected) => {
    always(first, second);
    const answer = await failure(what);
    expect(answer.status).toBe(429);
    expectAbout(answer.retryMs, expected);
  });

  test('while both are left alone: 429 and the time, without a call', async () => {
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

  test('one is throttled, one has failed: 429 as well', async () => {
    always({ status: 503 }, seconds(7));
    await failure('mixed');
    resetMocks(gateway);
    expect(await failure('mixed')).toMatchObject({ status: 429 });
    expect(calls(gateway)).toEqual([0, 0]);
  });

  test('5xx at every backend is the request’s fault: others are served', async () => {
    always({ status: 500 }, { status: 503 });
    const answer = await failure('poison');
    expect(answer).toMatchObject({ status: 503, retryMs: 1 });
    resetMocks(gateway);
    expect((await gateway.chat('poison')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
  });
});

describe.skipIf(cannotRunGatewayTests('all backends are unreachable'))('nothing listens', () => {
  beforeAll(start({ settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  test('502, then 503 without a call, whatever is asked for', async () => {
    for (const mock of gateway.mocks) await mock.stop();
    expect(await failure('gpt-4o')).toMatchObject({ status: 502, error: { code: 'upstream_unreachable' } });
    for (const mock of gateway.mocks) await mock.restart();
    const answer = await failure('another');
    expect(answer).toMatchObject({
      status: 503,
      error: { code: 'upstream_unavailable', type: 'server_error' },
    });
    expectAbout(answer.retryMs, 10_000);
    expect(calls(gateway)).toEqual([0, 0]);
  });
});

describe.skipIf(cannotRunGatewayTests('the only backend fails'))('a single backend', () => {
  beforeAll(start({ backends: [{}] }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test('throttled: its 429 and its time, then the same without a call', async () => {
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

  test('failing: its status, and the next request is tried', async () => {
    backend(0).script({ status: 500 });
    expect(await failure('failing')).toMatchObject({ status: 500, retryMs: 1 });
    expect((await gateway.chat('failing')).status).toBe(200);
    expect(calls(gateway)).toEqual([2]);
  });

  test('the client’s own errors leave nothing behind', async () => {
    backend(0).script(answers.contentFiltered(), answers.deploymentNotFound());
    expect((await gateway.chat('fine')).status).toBe(400);
    expect((await gateway.chat('fine')).status).toBe(404);
    expect((await gateway.chat('fine')).status).toBe(200);
  });
});
