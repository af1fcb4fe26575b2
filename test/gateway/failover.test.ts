/** When a backend fails before anything was sent to the client, the next backend gets the same request. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, hostAddress, startGateway } from '../support/gateway.ts';
import { type SilentPort, startSilentPort } from '../support/silent-port.ts';
import { backendOf, calls, inOrder, NO_COOLDOWN, onlyRequest, resetMocks } from '../support/traffic.ts';

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const backend = (index: number) => backendOf(gateway, index);

/** JSON with spaces, escapes and an order that no JSON library would write. */
const ODD_JSON =
  '{ "messages" : [{"content":"\\u00e9\\/é 😀","role":"user"}],\n\t"model":"gpt-4o", "seed":1e3,"x":1.0 }';
const post = (
  body: NonNullable<RequestInit['body']>,
  init: RequestInit = {},
  path = '/openai/v1/chat/completions',
) => gateway.fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body, ...init });

const FAILURES: readonly (readonly [what: string, behaviour: Behaviour])[] = [
  ['a reset before the headers', { reset: 'before-headers' }],
  ['a reset before the request is read', { reset: 'before-request-read' }],
  ['a timeout before the first byte', { hang: true }],
  ['408', { status: 408 }],
  ['429', { status: 429 }],
  ['429 without a body', { status: 429, body: '' }],
  ['500 of the model', answers.serverError('model')],
  ['500 of the service', answers.serverError('service')],
  ['502', { status: 502 }],
  ['502 with a page', answers.badGateway('html')],
  ['503', { status: 503 }],
  ['503 without a body', answers.unavailable('empty')],
  ['503 with a large page', { status: 503, body: 'x'.repeat(200_000) }],
  ['504', { status: 504 }],
  ['504 in chunks, then the connection closed', { status: 504, framing: 'chunked', closeConnection: true }],
  ['a stream that ends abruptly before its first event', { events: [], cutAfter: 0 }],
];

describe.skipIf(cannotRunGatewayTests('failover'))('failover among three backends', () => {
  beforeAll(
    start({
      backends: [{}, {}, {}],
      settings: { ...inOrder(3), ...NO_COOLDOWN, AI_PROXY_READ_TIMEOUT: '700ms' },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  beforeEach(() => resetMocks(gateway));

  test.each(FAILURES)('sends the same body to the next backend after %s', async (_, behaviour) => {
    gateway.mocks[0]?.script(behaviour);
    const answer = await post(ODD_JSON);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ object: 'chat.completion' });
    expect(calls(gateway)).toEqual([1, 1, 0]);
    expect(onlyRequest(backend(1)).body.toString()).toBe(ODD_JSON);
  });

  test('sends the same body to the next backend after a refused connection', async () => {
    await backend(0).stop();
    const answer = await post(ODD_JSON);
    await backend(0).restart();
    expect(answer.status).toBe(200);
    expect(calls(gateway)).toEqual([0, 1, 0]);
    expect(onlyRequest(backend(1)).body.toString()).toBe(ODD_JSON);
  });

  test.each(FAILURES)('sends the same body to the third backend after %s and a 503', async (_, behaviour) => {
    backend(0).script(behaviour);
    backend(1).script({ status: 503 });
    expect((await post(ODD_JSON)).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 1, 1]);
    expect(onlyRequest(backend(2)).body.toString()).toBe(ODD_JSON);
  });

  test.each(FAILURES)('calls each backend once when all fail with %s', async (_, behaviour) => {
    // On new connections, because the gateway retries after a reset of a reused connection.
    for (const mock of gateway.mocks) await mock.restart();
    for (const mock of gateway.mocks) mock.always(behaviour);
    const answer = await post(ODD_JSON);
    expect(answer.status).toBeGreaterThanOrEqual(408);
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(await answer.json()).toBeTypeOf('object');
    expect(calls(gateway)).toEqual([1, 1, 1]);
  });

  test('calls every backend with its own host and key', async () => {
    backend(0).script({ status: 429 });
    await post(ODD_JSON);
    const keys = gateway.mocks.slice(0, 2).map((mock) => onlyRequest(mock).header('api-key'));
    expect(keys).toEqual(['key-of-backend-0-0123456789', 'key-of-backend-1-0123456789']);
    const hosts = gateway.mocks.slice(0, 2).map((mock) => onlyRequest(mock).header('host'));
    expect(hosts).toEqual(gateway.mocks.slice(0, 2).map(({ port }) => `host.docker.internal:${port}`));
  });

  test('sends the same target and query to each backend', async () => {
    backend(0).script({ status: 429 });
    const path = '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21&x=%2F%20y&&z';
    expect((await post(ODD_JSON, {}, path)).status).toBe(200);
    expect(gateway.mocks.slice(0, 2).map((mock) => onlyRequest(mock).target)).toEqual([path, path]);
  });

  test('sends an upload of 2 MB to each backend', async () => {
    const content = randomBytes(2 * 2 ** 20);
    const part = (name: string, more = '') =>
      `--limit\r\nContent-Disposition: form-data; name="${name}"${more}\r\n`;
    const body = Buffer.concat([
      Buffer.from(`${part('model')}\r\nwhisper\r\n`),
      Buffer.from(`${part('file', '; filename="a.mp3"')}Content-Type: audio/mpeg\r\n\r\n`),
      content,
      Buffer.from('\r\n--limit--\r\n'),
    ]);
    backend(0).script({ status: 503 });
    backend(1).script({ reset: 'before-headers' });
    const answer = await post(
      body,
      { headers: { 'content-type': 'multipart/form-data; boundary=limit' } },
      '/openai/v1/audio/transcriptions',
    );
    expect(answer.status).toBe(200);
    expect(gateway.mocks.map((mock) => onlyRequest(mock).body.equals(body))).toEqual([true, true, true]);
    expect(onlyRequest(backend(2)).header('content-length')).toBe(String(body.length));
  });

  test.each([20_000, 2 * 2 ** 20])('sends a chunked upload of %i bytes to each backend', async (size) => {
    const body = JSON.stringify({
      model: 'gpt-4o',
      messages: [{ role: 'user', content: 'é'.repeat(size / 2) }],
    });
    const pieces = Array.from({ length: 8 }, (_, index) =>
      Buffer.from(body)
        .subarray(Math.floor((index * size) / 8))
        .subarray(0, Math.floor(size / 8)),
    );
    const whole = Buffer.concat(pieces);
    backend(0).script({ status: 429 });
    const answer = await post(ReadableStream.from(pieces), { duplex: 'half' } as RequestInit);
    await answer.arrayBuffer();
    expect(calls(gateway)).toEqual([1, 1, 0]);
    for (const mock of gateway.mocks.slice(0, 2)) {
      expect(onlyRequest(mock).body.equals(whole)).toBe(true);
      expect(onlyRequest(mock).header('content-length')).toBe(String(whole.length));
      expect(onlyRequest(mock).header('transfer-encoding')).toBeUndefined();
    }
  });

  test('works for GET and DELETE without a body', async () => {
    backend(0).script({ status: 503 }, { status: 503 });
    expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
    expect((await gateway.fetch('/openai/v1/models/gone', { method: 'DELETE' })).status).toBe(404);
    expect(calls(gateway)).toEqual([2, 2, 0]);
    expect(backend(1).requests.map(({ method, body }) => [method, body.length])).toEqual([
      ['GET', 0],
      ['DELETE', 0],
    ]);
  });

  test.each([
    [400, answers.contentFiltered()],
    [400, answers.unknownParameter()],
    [404, answers.resourceNotFound()],
    [402, { status: 402, body: 'no money' }],
    [409, { status: 409, body: { error: { code: 'Conflict', message: 'There is one.' } } }],
    [413, { status: 413, body: '' }],
    [415, { status: 415, body: Buffer.from([0, 255, 1]) }],
    [422, { status: 422, body: '{"odd" :  "json"}', framing: 'chunked' }],
    [451, { status: 451, body: '<p>no</p>' }],
  ] as const)(
    'returns %i unchanged after one call, because the client caused it',
    async (status, behaviour) => {
      backend(0).script({
        ...behaviour,
        headers: {
          ...('headers' in behaviour ? behaviour.headers : {}),
          'X-Own': ['a', 'b'],
          'Retry-After': '7',
        },
      });
      const answer = await post(ODD_JSON);
      expect(answer.status).toBe(status);
      const { body = '' } = behaviour;
      const sent =
        Buffer.isBuffer(body) || typeof body === 'string' ? Buffer.from(body) : JSON.stringify(body);
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(Buffer.from(sent));
      expect(answer.headers.get('x-own')).toBe('a, b');
      expect(answer.headers.get('retry-after')).toBe('7');
      expect(answer.headers.get('apim-request-id')).toMatch(/^[0-9a-f-]{36}$/);
      expect(calls(gateway)).toEqual([1, 0, 0]);
    },
  );

  test('returns no header of the backends that failed before', async () => {
    backend(0).script(answers.throttled({ retryAfter: 33 }));
    const answer = await post(ODD_JSON);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('retry-after')).toBeNull();
    expect(answer.headers.get('x-ms-region')).toBe('mock-1');
  });
});

describe.skipIf(cannotRunGatewayTests('failover after a failed TLS handshake'))('failover over TLS', () => {
  const pem = (name: string) =>
    readFileSync(new URL(`../support/tls/self-signed.${name}`, import.meta.url), 'utf8');
  beforeAll(
    start({
      backends: [{ tls: { key: pem('key'), cert: pem('crt') } }, {}],
      settings: { ...inOrder(2), ...NO_COOLDOWN },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);

  test('sends no byte of the request to a backend with an untrusted certificate', async () => {
    const answer = await post(ODD_JSON);
    expect(answer.status).toBe(200);
    expect(calls(gateway)).toEqual([0, 1]);
    expect(backend(0).connections.opened).toBe(1);
    expect(onlyRequest(backend(1)).body.toString()).toBe(ODD_JSON);
  });
});

describe.skipIf(cannotRunGatewayTests('failover after a connect time-out'))('while connecting', () => {
  let silent: SilentPort;
  beforeAll(async () => {
    silent = await startSilentPort(await hostAddress());
    await start({
      settings: {
        ...inOrder(2),
        ...NO_COOLDOWN,
        AZURE_OPENAI_ENDPOINT_0: `http://host.docker.internal:${silent.port}`,
        AI_PROXY_CONNECT_TIMEOUT: '500ms',
      },
    })();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    silent?.stop();
    await stop();
  });

  test('fails over after the connect timeout when a backend does not answer', async () => {
    const began = performance.now();
    const answer = await post(ODD_JSON);
    const took = performance.now() - began;
    expect(answer.status).toBe(200);
    expect(took).toBeGreaterThan(450);
    expect(took).toBeLessThan(3_000);
    expect(calls(gateway)).toEqual([0, 1]);
  });
});
