/** Keys, prompts and completions appear in no log line at any log level. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Behaviour, StreamEvent } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { type Header, rawConnection, rawRequest, requestBytes } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('what the stock APISIX image logs');

/** The beginning of every text that must not be in a log. */
const MARK = 'planted';
const CLIENT = `${MARK}-client-key-0123456789`;
const SECOND = `${MARK}-second-key-0123456789`;
const UNKNOWN = `${MARK}-unknown-key-0123456789`;
const IN_QUERY = `${MARK}-key-in-the-query-0123456789`;
const PROMPT = `${MARK}-prompt`;
const COMPLETION = `${MARK}-completion`;
const MESSAGE = `${MARK}-words-of-the-backend`;
const backendKey = (index: number) => `${MARK}-backend-key-${index}-0123456789`;

const chunk = (content: string): StreamEvent => ({
  data: { id: 'x', object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content } }] },
});
const echo = {
  error: { code: 'x', message: `${MESSAGE}: ${PROMPT}, with key ${backendKey(0)}`, param: PROMPT },
};
const streamError: StreamEvent = { data: { error: { code: 'server_error', message: MESSAGE } } };

/** How backends answer, and whether they sent anything before the failure. */
const BEHAVIOURS: readonly (readonly [name: string, behaviour: Behaviour])[] = [
  ['a completion', { body: { choices: [{ message: { content: COMPLETION } }], usage: { total_tokens: 3 } } }],
  ['a stream', { events: [chunk(COMPLETION), chunk(COMPLETION)] }],
  ['a stream of no sense', { events: [`data: {"${COMPLETION}\n\n`, `${COMPLETION}\n\n`] }],
  ['a body of no sense', { body: `{"${COMPLETION}`, headers: { 'Content-Type': 'application/json' } }],
  ['a stream that ends early', { events: [chunk(COMPLETION), chunk(COMPLETION)], cutAfter: 1 }],
  ['a body that ends early', { body: { choices: [{ message: { content: COMPLETION } }] }, cutAfter: 30 }],
  ['a stream that is refused', { events: [streamError] }],
  ['an error in a stream', { events: [chunk(COMPLETION), streamError] }],
  ['400, with the prompt', { status: 400, body: echo }],
  ['404, with the prompt', { status: 404, body: echo }],
  ['408, with the prompt', { status: 408, body: echo }],
  ['429, with the prompt', { status: 429, body: echo }],
  ['500, with the prompt', { status: 500, body: echo }],
  ['503, in HTML', { status: 503, body: `<p>${PROMPT}</p>` }],
  ['401, with the key', { status: 401, body: echo }],
  ['403, with the key', { status: 403, body: echo }],
  [
    'a redirect',
    { status: 307, headers: { Location: `https://a.test/?api-key=${backendKey(0)}` }, body: '' },
  ],
  ['headers', { headers: { 'Set-Cookie': `a=${MESSAGE}`, 'X-A': MESSAGE }, body: '{}' }],
  ['a reset', { reset: 'before-headers' }],
  ['a reset in the midst', { body: { x: COMPLETION }, reset: 'after-headers' }],
  ['no answer', { hang: true }],
];

async function start(level: string): Promise<Gateway> {
  return startGateway({
    backends: [{ keys: [backendKey(0)] }, { keys: [backendKey(1)] }],
    adapt: quickMetrics,
    settings: {
      APISIX_LOG_LEVEL: level,
      GATEWAY_CLIENT_KEY_0: CLIENT,
      GATEWAY_CLIENT_KEY_SECONDARY_0: SECOND,
      GATEWAY_CLIENT_TOKENS_PER_MINUTE_0: '1000000',
      GATEWAY_CLIENT_REQUESTS_PER_MINUTE_0: '10000',
      AZURE_OPENAI_KEY_0: backendKey(0),
      AZURE_OPENAI_KEY_1: backendKey(1),
      AZURE_OPENAI_DEPLOYMENTS_0: 'gpt-4o',
      AZURE_OPENAI_DEPLOYMENTS_1: 'gpt-4o=other-name',
      AI_PROXY_COOLDOWN: '0',
      AI_PROXY_COOLDOWN_MAX: '0',
      AI_PROXY_READ_TIMEOUT: '1s',
      ENABLE_AI_RATE_LIMIT: 'true',
      AI_RATE_LIMIT_HIGH_LIMIT: '1000000',
      ENABLE_RATE_LIMIT: 'true',
      RATE_LIMIT_RATE: '10000',
      ENABLE_QUOTA: 'true',
      QUOTA_COUNT: '10000',
      QUOTA_TIME_WINDOW: '60',
      ENABLE_CORS: 'true',
      CORS_ALLOW_ORIGINS: 'https://app.example.com',
      ENABLE_RESPONSE_REWRITE: 'true',
      GATEWAY_MAX_BODY_SIZE: '65536',
    },
  });
}

const PATHS = [
  '/openai/v1/chat/completions',
  '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21',
];
const body = (more: object = {}) =>
  JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: PROMPT }], user: PROMPT, ...more });

describe.skipIf(skipped)('the log at level info contains no key, prompt or completion', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start('info');
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  const send = (target: string, headers: readonly Header[], content: string | undefined = body()) =>
    rawRequest(gateway.url, {
      method: 'POST',
      target,
      headers: [['Content-Type', 'application/json'], ['Cookie', `a=${UNKNOWN}`], ...headers],
      body: content,
    });
  const planted = async () => {
    const lines = (await gateway.apisix.log()).split('\n');
    expect(lines.length).toBeGreaterThan(30);
    return [
      ...new Set(lines.filter((line) => line.includes(MARK)).map((line) => line.replace(/^\S+ \S+ /, ''))),
    ];
  };

  test('after the start', async () => {
    expect(await planted()).toEqual([]);
  });

  test('after requests with known and unknown keys', async () => {
    const credentials: readonly (readonly Header[])[] = [
      [['api-key', CLIENT]],
      [['Authorization', `Bearer ${SECOND}`]],
      [
        ['Authorization', `Bearer ${UNKNOWN}`],
        ['api-key', UNKNOWN],
        ['Ocp-Apim-Subscription-Key', UNKNOWN],
      ],
      [
        ['Authorization', `Basic ${UNKNOWN}`],
        ['api-key', CLIENT],
        ['api-key', UNKNOWN],
      ],
      [],
    ];
    for (const target of PATHS)
      for (const headers of credentials) expect([200, 401]).toContain((await send(target, headers)).status);
    expect(await planted()).toEqual([]);
  });

  test.each(BEHAVIOURS)('after a backend answered with %s', async (_, behaviour) => {
    for (const [index, target] of PATHS.entries()) {
      for (const mock of gateway.mocks) mock.always(behaviour);
      const connection = await rawConnection(gateway.url);
      const headers: Header[] = [
        ['api-key', CLIENT],
        ['Content-Type', 'application/json'],
      ];
      await connection.write(
        requestBytes({ method: 'POST', target, headers, body: body(index === 1 ? { stream: true } : {}) }),
      );
      await connection.answer().catch(() => undefined);
      connection.destroy();
    }
    expect(gateway.mocks.flatMap(({ requests }) => requests)).not.toHaveLength(0);
    expect(await planted()).toEqual([]);
  });

  test('after requests that the gateway itself rejects', async () => {
    const key: Header = ['api-key', CLIENT];
    expect((await send('/nowhere', [key])).status).toBe(404);
    expect((await send('/openai/v1/files//x', [key])).status).toBe(400);
    expect((await send(PATHS[0] ?? '', [key], body({ model: 'unserved' }))).status).toBe(404);
    expect((await send(PATHS[0] ?? '', [key], body({ x: PROMPT.repeat(10_000) }))).status).toBe(413);
    expect((await send(PATHS[0] ?? '', [key], `{"${PROMPT}`)).status).toBe(400);
    expect(
      (
        await send(
          '/openai/v1/audio/transcriptions',
          [key, ['Content-Type', 'multipart/form-data; boundary=x']],
          `--x\r\n${PROMPT}`,
        )
      ).status,
    ).toBe(400);
    expect(await planted()).toEqual([]);
  });

  test('after a client disconnected', async () => {
    for (const mock of gateway.mocks)
      mock.always({ events: Array.from({ length: 50 }, () => chunk(COMPLETION)), gapMs: 20 });
    const connection = await rawConnection(gateway.url);
    await connection.write(
      requestBytes({
        method: 'POST',
        target: PATHS[0] ?? '',
        headers: [['api-key', CLIENT]],
        body: body({ stream: true }),
      }),
    );
    await sleep(200);
    connection.destroy();
    await sleep(300);
    expect(await planted()).toEqual([]);
  });

  test('while no backend listens', async () => {
    for (const mock of gateway.mocks) await mock.stop();
    expect((await send(PATHS[0] ?? '', [['api-key', CLIENT]])).status).toBe(502);
    for (const mock of gateway.mocks) await mock.restart();
    expect(await planted()).toEqual([]);
  });

  test('and neither do metrics', async () => {
    expect(await gateway.metrics()).not.toContain(MARK);
  });
});

describe.skipIf(skipped)('the log at level warn contains no key from a query', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    // At this level APISIX logs every rejection. At a lower level it logs requests before any plugin runs.
    gateway = await start('warn');
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  const query = `api-version=2024-10-21&api-key=${IN_QUERY}&subscription-key=${IN_QUERY}`;
  const send = (path: string, headers: readonly Header[] = [['api-key', CLIENT]], content = body()) =>
    rawRequest(gateway.url, { method: 'POST', target: `${path}?${query}`, headers, body: content });
  const chat = '/openai/v1/chat/completions';

  test.each<readonly [string, number, () => Promise<unknown>]>([
    ['that is served', 200, () => send(chat)],
    ['without another key', 401, () => send(chat, [])],
    ['to an unknown path', 404, () => send('/nowhere')],
    ['with an ambiguous path', 400, () => send('/openai/v1/files//x')],
    [
      'for a deployment that no backend serves',
      404,
      () => send(chat, undefined, body({ model: 'unserved' })),
    ],
    ['whose body is too large', 413, () => send(chat, undefined, PROMPT.repeat(10_000))],
  ])('after a request %s', async (_, status, request) => {
    expect(await request()).toMatchObject({ status });
    expect((await gateway.apisix.log()).split('\n').filter((line) => line.includes(MARK))).toEqual([]);
  });

  test.each<readonly [string, Behaviour]>([
    ['throttled', { status: 429 }],
    ['failing', { status: 500 }],
    ['refusing', { status: 401 }],
    ['silent', { hang: true }],
    ['breaking off', { events: [chunk('a'), chunk('b')], cutAfter: 1 }],
  ])('while backends are %s', async (_, behaviour) => {
    for (const mock of gateway.mocks) mock.always(behaviour);
    await send(chat);
    expect((await gateway.apisix.log()).split('\n').filter((line) => line.includes(MARK))).toEqual([]);
  });

  test('while no backend listens', async () => {
    for (const mock of gateway.mocks) await mock.stop();
    await send(chat);
    for (const mock of gateway.mocks) await mock.restart();
    expect((await gateway.apisix.log()).split('\n').filter((line) => line.includes(MARK))).toEqual([]);
  });
});
