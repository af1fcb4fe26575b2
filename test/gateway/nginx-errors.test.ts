/** Errors that nginx itself answers, before or instead of any plugin, have OpenAI's shape. */
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Apisix,
  CONTAINER_TIMEOUT_MS,
  cannotRunGatewayTests,
  PORTS,
  startApisix,
} from '../support/apisix.ts';
import { compileVariables } from '../support/scenarios.ts';

const KEY = 'key-of-client-zero-9a2b';
const LIMIT = 64 * 1024;

interface Answer {
  readonly status: number;
  readonly server: string | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

const HOST = 'Host: gateway\r\n';
const CHUNK = `4000\r\n${'a'.repeat(0x4000)}\r\n`;

/** The request, its status, and the path in the access log. */
const REQUESTS: readonly (readonly [what: string, request: string, status: number, path: string])[] = [
  ['no request at all', 'GARBAGE\r\n\r\n', 400, '/.genai-gateway/unreadable-request'],
  ['a path above the root', `GET /../x HTTP/1.1\r\n${HOST}\r\n`, 400, '/.genai-gateway/unreadable-request'],
  ['a broken escape', `GET /%zz HTTP/1.1\r\n${HOST}\r\n`, 400, '/.genai-gateway/unreadable-request'],
  [
    'too long a target',
    `GET /${'a'.repeat(50_000)} HTTP/1.1\r\n${HOST}\r\n`,
    414,
    '/.genai-gateway/unreadable-request',
  ],
  [
    'an unknown version',
    `GET /openai/v1/x HTTP/3.0\r\n${HOST}\r\n`,
    505,
    '/.genai-gateway/unreadable-request',
  ],
  ['no host', 'GET /openai/v1/no-host HTTP/1.1\r\n\r\n', 400, '/openai/v1/no-host'],
  [
    'too long a header',
    `GET /openai/v1/long HTTP/1.1\r\n${HOST}X: ${'a'.repeat(50_000)}\r\n\r\n`,
    400,
    '/openai/v1/long',
  ],
  [
    'an unknown transfer coding',
    `POST /openai/v1/coding HTTP/1.1\r\n${HOST}Transfer-Encoding: gzip\r\n\r\n`,
    501,
    '/openai/v1/coding',
  ],
  ['an unsupported method', `TRACE /openai/v1/trace HTTP/1.1\r\n${HOST}\r\n`, 405, '/openai/v1/trace'],
  [
    'a body in chunks that is too large',
    `POST /openai/v1/chunks HTTP/1.1\r\n${HOST}api-key: ${KEY}\r\nTransfer-Encoding: chunked\r\n\r\n${CHUNK.repeat(5)}`,
    413,
    '/openai/v1/chunks',
  ],
  [
    'broken chunks',
    `POST /openai/v1/broken HTTP/1.1\r\n${HOST}api-key: ${KEY}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
    400,
    '/openai/v1/broken',
  ],
  [
    'a path that nginx itself forbids',
    `GET /apisix/nginx_status HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`,
    403,
    '/apisix/nginx_status',
  ],
];

const skipped = cannotRunGatewayTests("nginx's own errors in the stock APISIX image");

describe.skipIf(skipped)("nginx's own errors", () => {
  let apisix: Apisix;

  beforeAll(async () => {
    const scenario = await compileVariables({
      AZURE_OPENAI_ENDPOINT_0: 'https://a.openai.azure.com',
      AZURE_OPENAI_KEY_0: 'backend-key-0123456789',
      GATEWAY_CLIENT_NAME_0: 'app',
      GATEWAY_CLIENT_KEY_0: KEY,
      GATEWAY_MAX_BODY_SIZE: String(LIMIT),
    });
    apisix = await startApisix(scenario);
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => apisix?.stop());

  const send = (request: string): Promise<Answer> => sendRaw(apisix.mappedPort(PORTS.proxy), request);

  test.each(REQUESTS)("have OpenAI's shape for %s", async (_, request, status) => {
    const answer = await send(request);
    // nginx calls itself `openresty` here, as on its own error pages.
    expect(answer).toMatchObject({ status, server: 'openresty', type: 'application/json' });
    expect(JSON.parse(answer.body)).toEqual({
      error: {
        message: expect.stringMatching(/./),
        type: expect.stringMatching(/./),
        param: null,
        code: expect.stringMatching(/./),
      },
    });
  });

  test('have no body in answer to HEAD', async () => {
    expect(await send(`HEAD /%zz HTTP/1.1\r\n${HOST}\r\n`)).toMatchObject({ status: 400, body: '' });
  });

  test('cannot be requested by their internal paths', async () => {
    for (const path of ['/.genai-gateway/unreadable-request', '/@genai_error', '/%40genai_error']) {
      const answer = await send(`GET ${path} HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
      expect(answer).toMatchObject({ status: 404, type: 'application/json' });
    }
  });

  test('do not replace the answer of a plugin', async () => {
    const answer = await send(`GET /openai/v1/x HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
    expect(answer).toMatchObject({ status: 401, server: 'APISIX', type: 'application/json' });
    expect(JSON.parse(answer.body)).toMatchObject({ error: { code: 'invalid_api_key' } });
  });

  test('are logged with their path, and without critical log lines', async () => {
    const log = await apisix.log();
    const lines = log.split('\n').filter((line) => line.startsWith('{'));
    const entries = lines.map((line) => JSON.parse(line) as { path: string; status: string });
    for (const [, , status, path] of REQUESTS)
      expect(entries).toContainEqual(expect.objectContaining({ path, status: String(status) }));
    expect(log).not.toMatch(/\[(?:crit|alert|emerg)\](?!.*setrlimit)|empty URI/);
  });
});

/** Sends raw bytes and reads until the connection ends. Errors close it. */
function sendRaw(port: number, request: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(request));
    socket.setTimeout(10_000, () => socket.destroy(new Error(`no end of the answer: ${received}`)));
    socket.on('data', (data) => {
      received += data.toString('latin1');
    });
    // nginx may reset a connection that it has not read completely.
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(parsed(received))));
    socket.on('end', () => resolve(parsed(received)));
  });
}

function parsed(received: string): Answer {
  const end = received.indexOf('\r\n\r\n');
  const [first = '', ...lines] = received.slice(0, end).split('\r\n');
  const header = (name: string) =>
    lines.find((line) => line.toLowerCase().startsWith(`${name}: `))?.slice(name.length + 2);
  const body = received.slice(end + 4);
  return {
    status: Number(first.split(' ')[1]),
    server: header('server'),
    type: header('content-type'),
    body: header('transfer-encoding') === 'chunked' ? unchunked(body) : body,
  };
}

function unchunked(body: string): string {
  const end = body.indexOf('\r\n');
  const size = Number.parseInt(body.slice(0, end), 16);
  return size > 0 ? body.slice(end + 2, end + 2 + size) + unchunked(body.slice(end + 4 + size)) : '';
}
