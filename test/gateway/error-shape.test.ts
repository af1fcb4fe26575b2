/** Every error of the gateway itself has OpenAI's shape, and a Retry-After when a retry helps. */
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { type Header, type RawAnswer, type RawRequest, rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('errors of the gateway itself in the stock APISIX image');

const KEY: Header = ['api-key', CLIENT_KEY];
const CHAT_PATH = '/openai/v1/chat/completions';
const MAX_BODY = 65_536;

interface Shape {
  readonly status: number;
  readonly code: string;
  readonly type: string;
  readonly message?: RegExp;
}

const RETRYABLE = new Set([408, 429, 500, 502, 503, 504]);

/** `isDelayed` is false when no backend gave a delay. */
function expectShape(
  answer: RawAnswer,
  { status, code, type, message = /^\P{Ll}.*\.$/su }: Shape,
  isDelayed = RETRYABLE.has(status),
): void {
  expect(answer.status).toBe(status);
  expect(answer.values('content-type')).toEqual(['application/json']);
  expect(answer.header('server')).toMatch(/^(?:APISIX|openresty)$/);
  expect(JSON.parse(answer.body.toString())).toEqual({
    error: { message: expect.stringMatching(message), type, param: null, code },
  });
  if (!isDelayed) {
    expect(answer.header('retry-after')).toBeUndefined();
    return;
  }
  const [seconds, ...more] = answer.values('retry-after');
  const milliseconds = answer.values('retry-after-ms');
  expect(more).toEqual([]);
  expect(seconds).toMatch(/^[1-9]\d*$/);
  expect(milliseconds).toHaveLength(1);
  expect(Math.ceil(Number(milliseconds[0]) / 1000)).toBe(Number(seconds));
}

const chat = (model: string, headers: readonly Header[] = []): RawRequest => ({
  method: 'POST',
  target: CHAT_PATH,
  headers: [KEY, ['Content-Type', 'application/json'], ...headers],
  body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 4 }),
});

/** The error that the official client throws. */
async function sdkError(gateway: Gateway, model: string, more: object = {}, key?: string) {
  const error = await gateway
    .openai(key)
    .chat.completions.create({ model, messages: [{ role: 'user', content: 'Hello' }], ...more })
    .then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
  expect(error).toBeInstanceOf(OpenAI.APIError);
  return error as InstanceType<typeof OpenAI.APIError>;
}

function suite(name: string, options: GatewayOptions, tests: (gateway: () => Gateway) => void): void {
  describe.skipIf(skipped)(name, () => {
    let gateway: Gateway;
    beforeAll(async () => {
      gateway = await startGateway(options);
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());
    beforeEach(() => {
      for (const mock of gateway.mocks) mock.reset();
    });
    tests(() => gateway);
  });
}

const calls = (gateway: Gateway): number =>
  gateway.mocks.reduce((sum, { requests }) => sum + requests.length, 0);
const always = (gateway: Gateway, behaviour: Behaviour): void => {
  for (const mock of gateway.mocks) mock.always(behaviour);
};

suite('errors before a backend is chosen', {
  settings: {
    GATEWAY_MAX_BODY_SIZE: String(MAX_BODY),
    AZURE_OPENAI_DEPLOYMENTS_0: 'served,throttled,throttled-stream',
    AZURE_OPENAI_DEPLOYMENTS_1: 'served,throttled,throttled-stream',
  },
}, (gateway) => {
  const invalid = 'invalid_request_error';
  const large = 'a'.repeat(MAX_BODY + 1);
  const CASES: readonly (readonly [string, RawRequest, Shape])[] = [
    [
      'no key',
      { target: '/openai/v1/models' },
      { status: 401, type: 'authentication_error', code: 'invalid_api_key' },
    ],
    [
      'no such path',
      { target: '/v2/models', headers: [KEY] },
      { status: 404, type: 'not_found_error', code: 'not_found' },
    ],
    ['no path', { target: '/' }, { status: 404, type: 'not_found_error', code: 'not_found' }],
    [
      'a part of a path',
      { method: 'POST', target: '/openai', body: '{}' },
      { status: 404, type: 'not_found_error', code: 'not_found' },
    ],
    [
      'a path that reads otherwise',
      { target: '/openai/v1/files//x', headers: [KEY] },
      { status: 400, type: invalid, code: 'invalid_request_target' },
    ],
    [
      'too large a body',
      { method: 'POST', target: CHAT_PATH, headers: [KEY], body: large },
      { status: 413, type: invalid, code: 'request_too_large' },
    ],
    [
      'too large a body in chunks',
      {
        method: 'POST',
        target: CHAT_PATH,
        headers: [KEY, ['Transfer-Encoding', 'chunked']],
        body: `${large.length.toString(16)}\r\n${large}\r\n0\r\n\r\n`,
      },
      { status: 413, type: invalid, code: 'request_too_large' },
    ],
    [
      'a deployment that nobody serves',
      chat('unserved'),
      { status: 404, type: 'not_found_error', code: 'DeploymentNotFound' },
    ],
    [
      'a deployment that nobody serves, in the path',
      { ...chat('served'), target: '/openai/deployments/unserved/chat/completions?api-version=2024-10-21' },
      { status: 404, type: 'not_found_error', code: 'DeploymentNotFound' },
    ],
  ];

  test.each(CASES)('returns an OpenAI error for: %s', async (_, request, shape) => {
    expectShape(await rawRequest(gateway().url, request), shape);
    expect(calls(gateway())).toBe(0);
  });

  test('accepts a body of exactly the maximum size', async () => {
    const body = JSON.stringify({ model: 'served', messages: [], x: '' });
    const padded = body.replace('"x":""', `"x":"${'a'.repeat(MAX_BODY - body.length)}"`);
    expect((await rawRequest(gateway().url, { ...chat('served'), body: padded })).status).toBe(200);
  });

  test('sends no body in answer to HEAD', async () => {
    const answer = await rawRequest(gateway().url, { method: 'HEAD', target: '/openai/v1/models' });
    expect(answer).toMatchObject({ status: 401 });
    expect(answer.header('content-type')).toBe('application/json');
  });

  test('returns errors that the official client recognises', async () => {
    const unauthorized = await sdkError(gateway(), 'served', {}, 'nobodys-key');
    expect(unauthorized).toBeInstanceOf(OpenAI.AuthenticationError);
    expect(unauthorized).toMatchObject({
      code: 'invalid_api_key',
      message: expect.stringContaining('no valid key'),
    });
    const unserved = await sdkError(gateway(), 'unserved');
    expect(unserved).toBeInstanceOf(OpenAI.NotFoundError);
    expect(unserved).toMatchObject({
      code: 'DeploymentNotFound',
      message: expect.stringContaining('does not exist'),
    });
    const tooLarge = await sdkError(gateway(), 'served', { user: large });
    expect(tooLarge).toMatchObject({
      status: 413,
      code: 'request_too_large',
      message: expect.stringContaining('larger'),
    });
  });

  test('returns 429 when all backends are throttled, then without a call while they are cooling down', async () => {
    const shape = { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded', message: /./ };
    always(gateway(), { status: 429, body: '', headers: { 'retry-after': '7' } });
    const first = await rawRequest(gateway().url, chat('throttled'));
    expectShape(first, shape);
    expect(calls(gateway())).toBe(2);
    expect(first.header('retry-after')).toBe('7');
    const second = await rawRequest(gateway().url, chat('throttled'));
    expectShape(second, shape);
    expect(calls(gateway())).toBe(2);
    expect(Number(second.header('retry-after-ms'))).toBeLessThanOrEqual(7000);
  });

  test('returns an ordinary error when all backends refuse a stream', async () => {
    always(gateway(), { status: 429 });
    const error = await sdkError(gateway(), 'throttled-stream', { stream: true });
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error).toMatchObject({ code: '429', message: expect.stringMatching(/^429 \S/) });
  });
});

suite('errors after backends were tried', {
  settings: { AI_PROXY_COOLDOWN: '0', AI_PROXY_COOLDOWN_MAX: '0', AI_PROXY_READ_TIMEOUT: '1s' },
}, (gateway) => {
  const server = 'server_error';
  const FORBIDDEN: Shape = { status: 403, type: 'permission_error', code: 'upstream_refused' };
  const CASES: readonly (readonly [string, Behaviour, Shape])[] = [
    ['credentials refused', { status: 401 }, { status: 502, type: server, code: 'upstream_credentials' }],
    ['failing without words', { status: 503, body: '' }, { status: 503, type: server, code: 'unavailable' }],
    [
      'failing as HTML',
      { status: 502, body: '<h1>bad</h1>' },
      { status: 502, type: server, code: 'upstream_unreachable' },
    ],
    ['forbidden as HTML', { status: 403, body: '<h1>bad</h1>' }, FORBIDDEN],
    ['reset', { reset: 'before-headers' }, { status: 502, type: server, code: 'upstream_unreachable' }],
    ['no answer', { hang: true }, { status: 504, type: server, code: 'upstream_timeout' }],
    [
      'request timeout',
      { status: 408, body: '' },
      { status: 408, type: 'timeout_error', code: 'request_timeout', message: /./ },
    ],
  ];

  test.each(CASES)('returns an OpenAI error when backends fail: %s', async (_, behaviour, shape) => {
    always(gateway(), behaviour);
    expectShape(await rawRequest(gateway().url, chat('gpt-4o')), shape, false);
    for (const { requests } of gateway().mocks) expect(requests).not.toHaveLength(0);
  });

  test('returns 502 when no backend listens', async () => {
    await Promise.all(gateway().mocks.map((mock) => mock.stop()));
    const answer = await rawRequest(gateway().url, chat('gpt-4o'));
    await Promise.all(gateway().mocks.map((mock) => mock.restart()));
    expectShape(answer, { status: 502, type: server, code: 'upstream_unreachable' }, false);
  });

  test('returns an error that the official client recognises', async () => {
    always(gateway(), { status: 401 });
    const error = await sdkError(gateway(), 'gpt-4o');
    expect(error).toBeInstanceOf(OpenAI.InternalServerError);
    expect(error).toMatchObject({
      status: 502,
      code: 'upstream_credentials',
      message: expect.stringContaining('credentials'),
    });
  });
});

suite('errors while no backend is there', {}, (gateway) => {
  test('returns 502 without a delay, and uses the backends as soon as they are back', async () => {
    await Promise.all(gateway().mocks.map((mock) => mock.stop()));
    const first = await rawRequest(gateway().url, chat('gpt-4o'));
    await Promise.all(gateway().mocks.map((mock) => mock.restart()));
    expectShape(first, { status: 502, type: 'server_error', code: 'upstream_unreachable' }, false);
    expect((await rawRequest(gateway().url, chat('gpt-4o'))).status).toBe(200);
  });
});

const LIMITS: readonly (readonly [
  name: string,
  settings: Readonly<Record<string, string>>,
  shape: Shape,
  passes: number,
  longestMs: number,
  error: new (...args: never[]) => Error,
])[] = [
  [
    'requests a second',
    { ENABLE_RATE_LIMIT: 'true', RATE_LIMIT_RATE: '1' },
    { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded', message: /Too many requests/ },
    1,
    1000,
    OpenAI.RateLimitError,
  ],
  [
    'a quota',
    { ENABLE_QUOTA: 'true', QUOTA_COUNT: '2', QUOTA_TIME_WINDOW: '60' },
    { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded', message: /quota exceeded/ },
    2,
    60_000,
    OpenAI.RateLimitError,
  ],
  [
    'token budgets, with the status for it',
    {
      ENABLE_AI_RATE_LIMIT: 'true',
      AI_RATE_LIMIT_HIGH_LIMIT: '3',
      AI_RATE_LIMIT_LOW_LIMIT: '1',
      AI_RATE_LIMIT_WINDOW_SECONDS: '50',
    },
    { status: 503, type: 'rate_limit_error', code: 'rate_limit_exceeded', message: /^rate limited$/ },
    1,
    50_000,
    OpenAI.InternalServerError,
  ],
  [
    'token budgets, with a status and words of their own',
    {
      ENABLE_AI_RATE_LIMIT: 'true',
      AI_RATE_LIMIT_HIGH_LIMIT: '3',
      AI_RATE_LIMIT_LOW_LIMIT: '1',
      AI_RATE_LIMIT_REJECT_CODE: '429',
      AI_RATE_LIMIT_REJECT_MESSAGE: 'The "budget" is used up, say <no> more',
    },
    {
      status: 429,
      type: 'rate_limit_error',
      code: 'rate_limit_exceeded',
      message: /^The "budget" is used up, say <no> more$/,
    },
    1,
    60_000,
    OpenAI.RateLimitError,
  ],
];

describe.each(LIMITS)('errors of limits: %s', (_, settings, shape, passes, longestMs, error) => {
  suite('a refused request', { backends: [{}], settings }, (gateway) => {
    test('has an OpenAI error with a delay and reaches no backend', async () => {
      for (let count = 0; count < passes; count++)
        expect((await rawRequest(gateway().url, chat('gpt-4o'))).status).toBe(200);
      // Tokens are charged after the answer was sent.
      await sleep(50);
      const answer = await rawRequest(gateway().url, chat('gpt-4o'));
      const thrown = await sdkError(gateway(), 'gpt-4o', { stream: true });
      expectShape(answer, shape);
      expect(Number(answer.header('retry-after-ms'))).toBeLessThanOrEqual(longestMs);
      expect(calls(gateway())).toBe(passes);
      expect(thrown).toBeInstanceOf(error);
      expect(thrown).toMatchObject({ code: shape.code, message: expect.stringMatching(/\S{3} .*\w{5}/) });
    });
  });
});

suite('errors of addresses', {
  settings: { ENABLE_IP_RESTRICTION: 'true', IP_WHITELIST: '203.0.113.0/24' },
}, (gateway) => {
  test('returns 403 forbidden for a client from another address', async () => {
    const answer = await rawRequest(gateway().url, chat('gpt-4o', [['X-Forwarded-For', '203.0.113.7']]));
    expectShape(answer, { status: 403, type: 'permission_error', code: 'forbidden', message: /./ });
    const error = await sdkError(gateway(), 'gpt-4o');
    expect(error).toBeInstanceOf(OpenAI.PermissionDeniedError);
    expect(calls(gateway())).toBe(0);
  });
});
