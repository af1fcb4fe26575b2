/** A WebSocket upgrade is rejected at once, so that clients continue over HTTP. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { type Header, rawConnection, rawRequest, requestBytes } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('upgrades to WebSockets in the stock APISIX image');

const KEY: Header = ['Authorization', `Bearer ${CLIENT_KEY}`];
const UPGRADE: readonly Header[] = [
  ['Connection', 'Upgrade'],
  ['Upgrade', 'websocket'],
  ['Sec-WebSocket-Version', '13'],
  ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='],
];

describe.skipIf(skipped)('an upgrade to a WebSocket', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}], adapt: quickMetrics });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());

  /** The answer, its duration, and the status of the next request on the same connection. */
  const ask = async (target: string, headers: readonly Header[]) => {
    const connection = await rawConnection(gateway.url);
    const began = performance.now();
    await connection.write(requestBytes({ target, headers }));
    const answer = await connection.answer();
    const took = performance.now() - began;
    await connection.write(requestBytes({ target: '/openai/v1/models', headers: [KEY] }));
    const next = await connection.answer();
    connection.destroy();
    return { answer, took, next: next.status };
  };

  test.each<readonly [string, string, readonly Header[]]>([
    ['of responses', '/openai/v1/responses', UPGRADE],
    ['of realtime', '/openai/v1/realtime?model=gpt-realtime', UPGRADE],
    ['of the preview of realtime', '/openai/realtime?api-version=2024-10-01-preview&deployment=d', UPGRADE],
    ['of any path that is served', '/openai/v1/chat/completions', UPGRADE],
    ['of a path that is nearly right', '/v1/responses', UPGRADE],
    [
      'in another case',
      '/openai/v1/responses',
      [
        ['connection', 'upgrade'],
        ['UPGRADE', 'WebSocket'],
      ],
    ],
    [
      'among others',
      '/openai/v1/responses',
      [
        ['Connection', 'keep-alive, Upgrade'],
        ['Upgrade', 'h2c, websocket'],
      ],
    ],
    [
      'in two lines',
      '/openai/v1/responses',
      [
        ['Connection', 'Upgrade'],
        ['Upgrade', 'h2c'],
        ['Upgrade', 'websocket'],
      ],
    ],
  ])('gets 426 with an OpenAI error at once, without a call: %s', async (_, target, headers) => {
    const { answer, took, next } = await ask(target, [KEY, ...headers]);
    expect(answer.status).toBe(426);
    expect(took).toBeLessThan(1_000);
    expect(answer.values('content-type')).toEqual(['application/json']);
    expect(answer.values('upgrade')).toEqual(['HTTP/1.1']);
    expect(JSON.parse(answer.body.toString())).toEqual({
      error: {
        code: 'websocket_not_supported',
        type: 'invalid_request_error',
        param: null,
        message: expect.stringContaining('over HTTP'),
      },
    });
    expect(next).toBe(200);
    expect(gateway.mocks[0]?.requests.map(({ target: path }) => path)).toEqual(['/openai/v1/models']);
  });

  test.each<readonly [string, readonly Header[], number]>([
    ['none', [], 401],
    ['an unknown one', [['api-key', 'unknown-key-0123456789']], 401],
    [
      'one among the protocols',
      [['Sec-WebSocket-Protocol', `realtime, openai-insecure-api-key.${CLIENT_KEY}`]],
      426,
    ],
    [
      'an unknown one among them',
      [['Sec-WebSocket-Protocol', 'openai-insecure-api-key.unknown-0123456']],
      401,
    ],
  ])('needs a valid key: %s', async (_, headers, status) => {
    const { answer } = await ask('/openai/v1/realtime', [...UPGRADE, ...headers]);
    expect(answer.status).toBe(status);
  });

  test('to another protocol is ignored', async () => {
    const { answer } = await ask('/openai/v1/models', [KEY, ['Connection', 'Upgrade'], ['Upgrade', 'h2c']]);
    expect(answer.status).toBe(200);
  });

  test.each(['h2c', 'websocket', 'h2c, websocket'])(
    'is ignored in a POST, which is served over HTTP: %s',
    async (protocols) => {
      const body = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hi' }] });
      const answer = await rawRequest(gateway.url, {
        method: 'POST',
        target: '/openai/v1/chat/completions',
        headers: [
          KEY,
          ['Content-Type', 'application/json'],
          ['Connection', 'Upgrade, HTTP2-Settings'],
          ['Upgrade', protocols],
          ['HTTP2-Settings', 'AAMAAABkAAQAAP__'],
        ],
        body,
      });
      expect(answer.status).toBe(200);
      const [request] = gateway.mocks[0]?.requests ?? [];
      expect(request?.body.toString()).toBe(body);
      expect(request?.header('upgrade')).toBeUndefined();
      expect(request?.header('http2-settings')).toBeUndefined();
    },
  );

  test("appears as the gateway's rejection in log and metrics", async () => {
    await ask('/openai/v1/responses', [KEY, ...UPGRADE]);
    const line = (await gateway.accessLog()).find(
      ({ status, path }) => status === '426' && path === '/openai/v1/responses',
    );
    expect(line).toMatchObject({
      client: 'app',
      operation: 'responses',
      error: 'websocket_not_supported',
      error_source: 'gateway',
      attempts: '',
    });
    expect(await gateway.metrics()).toMatch(/apisix_http_status\{[^}]*code="426"[^}]*\} \d/);
  });
});
