/** Any input gets a clean answer, affects no other request and crashes no worker. */
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import {
  type Header,
  type RawAnswer,
  rawBytes,
  rawConnection,
  rawRequest,
  requestBytes,
  utf8Bytes,
} from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('hostile input to the stock APISIX image');

const KEY: Header = ['api-key', CLIENT_KEY];
const JSON_TYPE: Header = ['Content-Type', 'application/json'];
const CHAT_PATH = '/openai/v1/chat/completions';
const HOST = 'Host: gateway.test\r\n';
const HEAD = `${HOST}api-key: ${CLIENT_KEY}\r\n`;
const SMUGGLED = `GET /openai/v1/smuggled HTTP/1.1\r\n${HEAD}\r\n`;
const MODEL = 'gpt-4o';
const WORKERS = 2;
const chatBody = (more = '') =>
  `{"model":"${MODEL}","messages":[{"role":"user","content":"Hello"}],"max_tokens":4${more}}`;

describe.skipIf(skipped)('hostile input', () => {
  let gateway: Gateway;
  let workers: readonly number[];
  const pids = async () => (await gateway.apisix.workers()).map(({ pid }) => pid).toSorted();

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: { AZURE_OPENAI_DEPLOYMENTS_0: `${MODEL},embed`, GATEWAY_WORKERS: String(WORKERS) },
    });
    // nginx sets a worker's process title only after APISIX has counted it.
    await vi.waitUntil(async () => (await pids()).length === WORKERS, { timeout: 10_000 });
    workers = await pids();
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => gateway.mocks[0]?.reset());
  afterEach(async () => {
    const answer = await gateway.chat(MODEL);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ usage: { completion_tokens: 4 } });
    expect(await pids()).toEqual(workers);
  });

  const chat = (body: string | Buffer, headers: readonly Header[] = []) =>
    rawRequest(gateway.url, {
      method: 'POST',
      target: CHAT_PATH,
      headers: [KEY, JSON_TYPE, ...headers],
      body,
    });
  const received = () => gateway.mocks[0]?.requests ?? [];
  const expectRefused = (answer: RawAnswer, statuses: readonly number[] = [400]) => {
    expect(statuses).toContain(answer.status);
    expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { param: null } });
    expect(received()).toHaveLength(0);
  };

  describe('in headers', () => {
    test.each([
      ['a bare carriage return', 'X-A: a\rX-Gateway-Injected: 1\r\n'],
      ['a null byte', 'X-A: a\0b\r\n'],
      ['a null byte in the name', 'X-\0A: a\r\n'],
      ['a space before the colon', 'X-A : a\r\n'],
      ['a line that goes on', 'X-A: a\r\n X-Injected: 1\r\n'],
      ['a header of 64 KB', `X-A: ${'a'.repeat(65_536)}\r\n`],
      [
        '200 KB of headers',
        Array.from({ length: 50 }, (_, index) => `X-${index}: ${'a'.repeat(4000)}\r\n`).join(''),
      ],
      ['two hosts', 'Host: evil.test\r\n'],
      ['a host that is none', 'Host: a/../b\r\n'],
    ])('is rejected: %s', async (_, lines) => {
      const host = lines.startsWith('Host: a') ? '' : HOST;
      expectRefused(
        await rawBytes(
          gateway.url,
          `GET /openai/v1/x HTTP/1.1\r\n${host}api-key: ${CLIENT_KEY}\r\n${lines}\r\n`,
        ),
      );
    });

    test.each([
      ['no name', ': a\r\n'],
      ['no colon', 'X-A\r\n'],
      ['odd characters in the name', 'X-(A)"\xe9: a\r\n'],
      ['control characters', 'X-A: a\x01\x7f\x1b[31m\r\n'],
      ['bytes of no encoding', 'X-A: \xff\xfe\xc3\x28\r\n'],
      ['200 headers', Array.from({ length: 200 }, (_, index) => `X-${index}: ${index}\r\n`).join('')],
      ['1000 values of one header', 'X-A: a\r\n'.repeat(1000)],
      ['what Connection names, 500 times', `Connection: ${'x-a, '.repeat(500)}host, content-type\r\n`],
      [
        'an upgrade',
        'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n',
      ],
      [
        'headers that only the gateway sets',
        'X-Gateway-Backend: evil\r\nX-Consumer-Username: admin\r\nX-Forwarded-Host: evil.test\r\nX-Real-IP: 127.0.0.1\r\nX-Original-URL: /apisix/admin\r\nX-HTTP-Method-Override: DELETE\r\n',
      ],
    ])('is harmless: %s', async (what, lines) => {
      const answer = await rawBytes(gateway.url, `GET /openai/v1/files HTTP/1.1\r\n${HEAD}${lines}\r\n`);
      // nginx rejects a header without a name, and control characters cannot be sent to a backend.
      const refused: Record<string, number> = { 'no name': 400, 'control characters': 502 };
      expect(answer.status).toBe(refused[what] ?? 200);
      expect(received()).toHaveLength(what in refused ? 0 : 1);
      for (const request of received()) {
        expect(request).toMatchObject({ method: 'GET', target: '/openai/v1/files' });
        expect(request.header('host')).toContain('host.docker.internal');
        expect(request.header('api-key')).toBe(backendKey(0));
        for (const name of [
          'x-gateway-backend',
          'x-consumer-username',
          'x-forwarded-host',
          'x-real-ip',
          'upgrade',
        ])
          expect(request.header(name)).toBeUndefined();
      }
    });

    test("a client's X-Request-ID is not returned in the answer", async () => {
      const id = `a'b"c<script>${'x'.repeat(200)}`;
      const answer = await rawRequest(gateway.url, {
        target: '/openai/v1/files',
        headers: [KEY, ['X-Request-ID', id]],
      });
      expect(answer.status).toBe(200);
      expect(answer.headers.map(([name]) => name.toLowerCase())).not.toContain('x-injected');
    });
  });

  describe('in targets', () => {
    test.each([
      '/openai/v1/../../etc/passwd',
      '/openai/v1/chat/../models',
      '/openai/v1/chat/..%2Fmodels',
      '/openai/v1/chat/%2e%2e/models',
      '/openai/v1/chat/.%2e%2fmodels',
      '/openai/v1/./models',
      '/openai/v1/%2e/models',
      '/openai/v1/files//content',
      '/openai/deployments//chat/completions',
      '/openai%2Fv1/models',
      '/openai%2fv1%2ffiles',
      '/%6fpenai/v1/models',
      '/openai/%76%31/models',
      '/openai/deployments%2Fgpt-4o/chat/completions',
      '/openai/deployments/gpt-4o/../other/chat/completions',
      '/openai/deployments/../v1/models',
      '/openai/deployments/..%2f..%2fopenai/v1/files',
      '/openai/v1/..\\models',
      '/openai/v1/a%5C..%5Cmodels',
      '/openai\\v1\\models',
      '/openai/v1/files%00',
      '/openai/v1/files%00.json',
      '/openai/v1/files%0d%0aX-Injected:%201',
      '/openai/v1/files%0aX-Injected:%201',
      '/openai/v1/files%7f',
      '/openai/v1/mod%09els',
      '/openai/v1/files#fragment',
      '/openai/v1/files?a#b',
      '/openai/v1/%c0%ae%c0%ae/models/..',
      '/openai/v1/files/.',
      '/openai/v1/files/..',
      '/openai/v1/x;/../models',
      '/openai/v1/%zz',
      '/openai/v1/%',
      '/openai/v1/%u002e',
      '/..',
      '/%2e%2e/%2e%2e/openai/v1/files',
      'openai/v1/files',
      '*',
      'http://',
      'http:///openai/v1/files',
      'evil.test:443',
      '/openai/v1/mod\0els',
      '/openai/v1/files\r',
      '',
    ])('is rejected: %j', async (target) => {
      expectRefused(await rawBytes(gateway.url, `GET ${target} HTTP/1.1\r\n${HEAD}\r\n`), [400, 404]);
    });

    test.each([
      ['http://evil.test/openai/v1/files', '/openai/v1/files'],
      ['http://evil.test:9090/openai/v1/files?a=1', '/openai/v1/files?a=1'],
      ['http://user:password@evil.test/openai/v1/files', '/openai/v1/files'],
      ['https://127.0.0.1/openai/v1/files', '/openai/v1/files'],
      ['ftp://evil.test/openai/v1/files', '/openai/v1/files'],
      ['/openai/v1/files?http://evil.test/../x', '/openai/v1/files?http://evil.test/../x'],
      ['/openai/v1/files?x=%0d%0aX-Injected:%201', '/openai/v1/files?x=%0d%0aX-Injected:%201'],
      ['/openai/v1/files/%252e%252e%252fx', '/openai/v1/files/%252e%252e%252fx'],
      ['/openai/v1/files/...', '/openai/v1/files/...'],
    ])('cannot lead to another server: %s', async (target, passed) => {
      const answer = await rawBytes(gateway.url, `GET ${target} HTTP/1.1\r\n${HEAD}\r\n`);
      const isRefused = target.includes('user:password');
      expect(isRefused ? [400] : [200, 404]).toContain(answer.status);
      expect(received()).toHaveLength(isRefused ? 0 : 1);
      for (const request of received()) {
        expect(request.target).toBe(passed);
        expect(request.header('host')).toContain('host.docker.internal');
        expect(request.header('x-injected')).toBeUndefined();
      }
    });

    test.each(['TRACE', 'CONNECT', 'get', 'G E T', 'GET\0'])(
      'is rejected with the method %j',
      async (method) => {
        expectRefused(
          await rawBytes(gateway.url, `${method} /openai/v1/files HTTP/1.1\r\n${HEAD}\r\n`),
          [400, 405, 414],
        );
      },
    );

    test.each([
      ['a greeting of TLS', Buffer.from('16030100ca010000c60303'.padEnd(400, 'a0'), 'hex')],
      ['HTTP/0.9', 'GET /openai/v1/files\r\n'],
      ['HTTP/2.0', `GET /openai/v1/files HTTP/2.0\r\n${HEAD}\r\n`],
      ['no host', `GET /openai/v1/files HTTP/1.1\r\napi-key: ${CLIENT_KEY}\r\n\r\n`],
      ['bytes', randomBytes(2000).fill(0, 0, 1)],
      ['a line without an end', `GET /${'a'.repeat(70_000)}`],
    ])('is rejected without HTTP/1.1: %s', async (_, bytes) => {
      const connection = await rawConnection(gateway.url);
      await connection.write(bytes);
      await connection.closed();
      expect(connection.unread().toString('latin1')).toMatch(
        /^(?:HTTP\/1\.1 (?:400|404|414|505) |\{"error"|$)/,
      );
      connection.destroy();
      expect(received()).toHaveLength(0);
    });

    // A backend may read all of these as the same operation, so the same checks must apply to all of them.
    test.each([
      '/openai/v1/%63hat/completions',
      '/openai/v1/chat/%63ompletions',
      '/openai/v1/chat%2Fcompletions',
      '/openai/v1/chat%2fcompletion%73',
      '/openai/v1/chat/completions/',
      '/openai/v1/Chat/Completions',
      '/openai/v1/%65mbeddings',
      '/openai/v1/%72esponses',
      '/openai/deployments/%75nserved/chat/completions',
      '/openai/deployments/unserved/%63hat/completions',
      '/openai/v1/chat/completions?model=gpt-4o',
    ])('an operation in another spelling cannot bypass the list of deployments: %s', async (target) => {
      const body = '{"model":"unserved","input":"x","messages":[]}';
      expectRefused(
        await rawRequest(gateway.url, { method: 'POST', target, headers: [KEY, JSON_TYPE], body }),
        [400, 404],
      );
    });
  });

  describe('in bodies', () => {
    const deep = 100_000;

    let passedOn = 0;
    test.each<readonly [string, string | Buffer]>([
      ['no JSON', 'this is not JSON'],
      ['a string', '"gpt-4o"'],
      ['a list', '[{"model":"gpt-4o"}]'],
      ['an object that does not end', '{"model":"gpt-4o","messages":['],
      ['a string that does not end', '{"model":"gpt-4o'],
      ['an escape that does not end', '{"model":"gpt-4o\\'],
      ['commas and colons', '{,:,"model"::"gpt-4o",,}'],
      ['lists, deep', `{"model":"${MODEL}","x":${'['.repeat(deep)}${']'.repeat(deep)}}`],
      ['objects, deep', `{"x":${'{"a":'.repeat(deep)}1${'}'.repeat(deep)},"model":"${MODEL}"}`],
      ['lists that do not end', '['.repeat(deep)],
      ['a model that is a deep list', `{"model":${'['.repeat(deep)}${']'.repeat(deep)}}`],
      ['a model that does not end', `{"model":${'['.repeat(deep)}`],
      ['a number as model', '{"model":1}'],
      ['null as model', '{"model":null}'],
      ['true as model', '{"model":true}'],
      ['a list as model', '{"model":["gpt-4o"]}'],
      ['an object as model', '{"model":{"name":"gpt-4o"}}'],
      ['an empty model', '{"model":""}'],
      ['a model of escapes', '{"model":"\\ud800\\u0000\\n"}'],
      ['a model of bad escapes', '{"model":"\\x\\uzzzz"}'],
      ['a model of a megabyte', `{"model":"${'m'.repeat(2 ** 20)}","messages":[]}`],
      ['a model of quotes and line ends', '{"model":"a\\r\\nX-Injected: 1\\r\\n\\r\\n\\"","messages":[]}'],
      ['a model of labels', '{"model":"a\\"} 1\\napisix_http_status{code=\\"500\\"","messages":[]}'],
      ['null bytes', Buffer.from('{"model":"gpt-4o\0","messages":[]}\0\0')],
      ['bytes of no encoding', Buffer.from('{"model":"\xff\xfe\xc3\x28","messages":"\x80"}', 'latin1')],
      ['UTF-16', Buffer.from('\ufeff{"model":"gpt-4o","messages":[]}', 'utf16le')],
      ['a mark of UTF-8', Buffer.from('\ufeff{"model":"unserved","messages":[]}')],
      [
        '200 000 names',
        `{${Array.from({ length: 200_000 }, (_, index) => `"n${index}":1`).join(',')},"model":"${MODEL}"}`,
      ],
      ['a run of backslashes', `{"x":"${'\\\\'.repeat(500_000)}","model":"${MODEL}"}`],
      ['a run of quotes', `{"x":"${'\\"'.repeat(500_000)}","model":"${MODEL}"}`],
      ['numbers of a megabyte', `{"x":${'9'.repeat(2 ** 20)},"model":"${MODEL}"}`],
      ['white space of a megabyte', `${' '.repeat(2 ** 20)}{"model":"${MODEL}","messages":[]}`],
      [
        'stream as anything',
        `{"model":"${MODEL}","stream":"true","stream":{"a":1},"stream":1,"messages":[]}`,
      ],
    ])('gets a clean answer: %s', async (_, body) => {
      const started = performance.now();
      const answer = await chat(body);
      expect(performance.now() - started).toBeLessThan(5000);
      expect([200, 400, 404]).toContain(answer.status);
      expect(answer.isWhole).toBe(true);
      JSON.parse(answer.body.toString());
      for (const request of received()) expect(request.body.equals(Buffer.from(body as string))).toBe(true);
      passedOn += received().length;
    });

    test('most of these bodies reach the backend', () => {
      expect(passedOn).toBeGreaterThan(15);
    });

    test.each([
      ['after much else', `{"x":"${'a'.repeat(3 * 2 ** 20)}","model":"unserved"}`],
      ['with escapes', '{"model":"unserv\\u0065d","messages":[]}'],
      ['behind white space', '\r\n\t {\n "model"\t:\r"unserved" ,"messages":[]}'],
      [
        'named in what is nested, too',
        '{"messages":[{"model":"gpt-4o"}],"x":"\\"model\\":\\"gpt-4o\\"","model":"unserved"}',
      ],
    ])('the model is the one that a backend reads: %s', async (_, body) => {
      expectRefused(await chat(body), [404]);
    });

    test.each([
      ['the same', '{"model":"gpt-4o","model":"gpt-4o","messages":[]}'],
      ['another', '{"model":"gpt-4o","messages":[],"model":"unserved"}'],
      ['one that is served', '{"model":"unserved","model":"gpt-4o","messages":[]}'],
      ['one whose name is escaped', '{"model":"gpt-4o","mod\\u0065l":"unserved","messages":[]}'],
      ['one of another kind', '{"model":"gpt-4o","model":null,"messages":[]}'],
      ['one behind a byte order mark', '\ufeff{"model":"gpt-4o","model":"unserved"}'],
    ])('a model that is given twice gets 400: %s', async (_, body) => {
      const answer = await chat(body);
      expectRefused(answer);
      expect(JSON.parse(answer.body.toString())).toMatchObject({
        error: { code: 'duplicate_member', message: expect.stringContaining('`model` twice') },
      });
    });

    test.each([
      ['513 levels', `{"model":"${MODEL}","x":${'['.repeat(512)}${']'.repeat(512)}}`, 'nesting_too_deep'],
      ['a million levels', `{"model":"${MODEL}","x":${'{"a":'.repeat(1_000_000)}`, 'nesting_too_deep'],
      ['a name of 16385 bytes', `{"model":"${MODEL}","${'n'.repeat(16_385)}":1}`, 'name_too_long'],
    ])('gets 400: %s', async (_, body, code) => {
      const answer = await chat(body);
      expectRefused(answer);
      expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { code } });
    });

    test.each([
      ['512 levels', `,"x":${'['.repeat(511)}${']'.repeat(511)}`],
      ['a name of 16384 bytes', `,"${'n'.repeat(16_384)}":1`],
      ['other members that stand there twice', ',"user":"a","user":"b","x":{"model":"a"}'],
    ])('is passed on: %s', async (_, more) => {
      const body = chatBody(more);
      expect((await chat(body)).status).toBe(200);
      expect(received()[0]?.body.toString()).toBe(body);
    });

    test.each([
      ['no boundary', 'multipart/form-data', '--x\r\n'],
      ['an empty boundary', 'multipart/form-data; boundary=', '----\r\n'],
      [
        'a part without an end',
        'multipart/form-data; boundary=x',
        '--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n',
      ],
      [
        'a head without an end',
        'multipart/form-data; boundary=x',
        `--x\r\nContent-Disposition: form-data; name="model"; ${'a'.repeat(2 ** 20)}`,
      ],
      [
        'many heads',
        'multipart/form-data; boundary=x',
        '--x\r\nContent-Disposition: form-data; name="model"\r\n'.repeat(20_000),
      ],
      ['many names', 'multipart/form-data; boundary=x', 'name="model"'.repeat(100_000)],
      ['JSON', 'multipart/form-data; boundary=x', chatBody()],
    ])('gets a clean answer: a form with %s', async (_, type, body) => {
      const target = '/openai/v1/audio/transcriptions';
      const started = performance.now();
      const answer = await rawRequest(gateway.url, {
        method: 'POST',
        target,
        headers: [KEY, ['Content-Type', type]],
        body,
      });
      expect(performance.now() - started).toBeLessThan(5000);
      expect([400, 404]).toContain(answer.status);
      JSON.parse(answer.body.toString());
    });

    test('100 MB are accepted, and one byte more is rejected', async () => {
      const most = 100 * 2 ** 20;
      const body = Buffer.alloc(most, 'x');
      body.write(chatBody(',"x":"').slice(0, -1), 0, 'latin1');
      body.write('"}', most - 2, 'latin1');
      const answer = await chat(body);
      expect(answer.status).toBe(200);
      const hash = (bytes: Buffer | undefined) =>
        createHash('sha1')
          .update(bytes ?? '')
          .digest('hex');
      expect(hash(received()[0]?.body)).toBe(hash(body));
      gateway.mocks[0]?.reset();
      // The head is enough to reject it.
      const head = requestBytes({
        method: 'POST',
        target: CHAT_PATH,
        headers: [KEY, ['Content-Length', String(most + 1)]],
      });
      expectRefused(await rawBytes(gateway.url, head), [413]);
    });

    test('a large body cannot hide its model', async () => {
      const body = Buffer.alloc(70 * 2 ** 20, ' ');
      body.write('{"model":"unserved","messages":[]}');
      expectRefused(await chat(body), [404]);
    });

    test('slow bodies delay no other request', async () => {
      const body = chatBody(',"user":"slow"');
      const slow = await Promise.all(Array.from({ length: 50 }, () => rawConnection(gateway.url)));
      const head = requestBytes({
        method: 'POST',
        target: CHAT_PATH,
        headers: [KEY, JSON_TYPE, ['Content-Length', String(body.length)]],
      });
      const drip = async () => {
        for (const connection of slow) await connection.write(head);
        for (let at = 0; at < 15; at++) {
          for (const connection of slow) await connection.write(body.charAt(at));
          await sleep(100);
        }
      };
      const dripping = drip();
      for (let count = 0; count < 10; count++) {
        const started = performance.now();
        expect((await gateway.chat(MODEL)).status).toBe(200);
        expect(performance.now() - started).toBeLessThan(1000);
        await sleep(50);
      }
      await dripping;
      for (const connection of slow) await connection.write(body.slice(15));
      const statuses = await Promise.all(slow.map(async (connection) => (await connection.answer()).status));
      expect(new Set(statuses)).toEqual(new Set([200]));
      for (const connection of slow) connection.destroy();
      expect(received().filter(({ body: each }) => each.toString() === body)).toHaveLength(50);
    });

    test('unfinished bodies and clients that disconnect cause no harm', async () => {
      const connections = await Promise.all(Array.from({ length: 20 }, () => rawConnection(gateway.url)));
      const head = requestBytes({
        method: 'POST',
        target: CHAT_PATH,
        headers: [KEY, JSON_TYPE, ['Content-Length', '1000']],
      });
      for (const [index, connection] of connections.entries())
        await connection.write(index % 2 ? head : head.subarray(0, 40));
      await sleep(100);
      for (const connection of connections) connection.destroy();
      await sleep(100);
      expect(received()).toHaveLength(0);
    });
  });

  describe('in framing', () => {
    const post = (lines: string, body: string) => `POST /openai/v1/x HTTP/1.1\r\n${HEAD}${lines}\r\n${body}`;
    const length = (text: string) => `Content-Length: ${text.length}\r\n`;

    test.each([
      [
        'a length and chunks',
        post(`${length(`0\r\n\r\n${SMUGGLED}`)}Transfer-Encoding: chunked\r\n`, `0\r\n\r\n${SMUGGLED}`),
      ],
      [
        'chunks and a length',
        post('Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', `0\r\n\r\n${SMUGGLED}`),
      ],
      ['two lengths', post(`Content-Length: 0\r\n${length(SMUGGLED)}`, SMUGGLED)],
      ['the same length twice', post('Content-Length: 0\r\nContent-Length: 0\r\n', SMUGGLED)],
      ['two lengths in one', post('Content-Length: 0, 5\r\n', SMUGGLED)],
      ['a length with a sign', post('Content-Length: +0\r\n', SMUGGLED)],
      ['a length below zero', post('Content-Length: -1\r\n', SMUGGLED)],
      ['a length in hex', post('Content-Length: 0x0\r\n', SMUGGLED)],
      ['a length beyond all', post('Content-Length: 99999999999999999999\r\n', SMUGGLED)],
      ['no length in it', post('Content-Length: \r\n', SMUGGLED)],
      ['a length before a space', post('Content-Length : 0\r\n', SMUGGLED)],
      [
        'two transfer codings',
        post('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n', `0\r\n\r\n${SMUGGLED}`),
      ],
      ['chunked twice', post('Transfer-Encoding: chunked, chunked\r\n', `0\r\n\r\n${SMUGGLED}`)],
      ['identity and chunked', post('Transfer-Encoding: identity, chunked\r\n', `0\r\n\r\n${SMUGGLED}`)],
      ['a coding nearly so called', post('Transfer-Encoding: xchunked\r\n', `0\r\n\r\n${SMUGGLED}`)],
      [
        'a coding after a control character',
        post('Transfer-Encoding: \x0bchunked\r\n', `0\r\n\r\n${SMUGGLED}`),
      ],
      ['a coding before a space', post('Transfer-Encoding : chunked\r\n', `0\r\n\r\n${SMUGGLED}`)],
      ['a coding on its own line', post('Transfer-Encoding:\r\n chunked\r\n', `0\r\n\r\n${SMUGGLED}`)],
      [
        'chunks in HTTP/1.0',
        `POST /openai/v1/x HTTP/1.0\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
      ],
      ['a size that is none', post('Transfer-Encoding: chunked\r\n', `z\r\n${SMUGGLED}`)],
      ['a size in C', post('Transfer-Encoding: chunked\r\n', `0x0\r\n\r\n${SMUGGLED}`)],
      ['a size below zero', post('Transfer-Encoding: chunked\r\n', `-1\r\n\r\n${SMUGGLED}`)],
      ['a size beyond all', post('Transfer-Encoding: chunked\r\n', `ffffffffffffffffff\r\n${SMUGGLED}`)],
      [
        'a chunk longer than it says',
        post('Transfer-Encoding: chunked\r\n', `1\r\nabc\r\n0\r\n\r\n${SMUGGLED}`),
      ],
    ])('is rejected, and the connection is closed: %s', async (_, bytes) => {
      const connection = await rawConnection(gateway.url);
      await connection.write(bytes);
      const answer = await connection.answer();
      expectRefused(answer, [400, 411, 413, 501]);
      await connection.closed();
      expect(connection.unread()).toHaveLength(0);
      connection.destroy();
      expect(received()).toHaveLength(0);
    });

    test('a body is never read as a request, whatever answers', async () => {
      const requests: readonly (readonly [string, number])[] = [
        [`POST /openai/v1/x HTTP/1.1\r\n${HOST}${length(SMUGGLED)}\r\n${SMUGGLED}`, 401],
        [`POST /nowhere HTTP/1.1\r\n${HEAD}${length(SMUGGLED)}\r\n${SMUGGLED}`, 404],
        [`POST /openai/v1/files//x HTTP/1.1\r\n${HEAD}${length(SMUGGLED)}\r\n${SMUGGLED}`, 400],
        [`GET /openai/v1/files HTTP/1.1\r\n${HEAD}${length(SMUGGLED)}\r\n${SMUGGLED}`, 400],
        [
          `POST /openai/v1/x HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`,
          401,
        ],
        [`POST ${CHAT_PATH} HTTP/1.1\r\n${HEAD}${length(chatBody())}\r\n${chatBody()}`, 200],
      ];
      const connection = await rawConnection(gateway.url);
      for (const [bytes, status] of requests) {
        await connection.write(bytes);
        expect((await connection.answer()).status).toBe(status);
      }
      connection.destroy();
      expect(received().map(({ target }) => target)).toEqual(['/openai/v1/files', CHAT_PATH]);
    });

    test('pipelined requests are answered in order', async () => {
      const parts = Array.from({ length: 20 }, (_, index) =>
        index % 4 === 3
          ? requestBytes({ target: `/openai/v1/files/none-${index}`, headers: [] })
          : requestBytes({ target: `/openai/v1/files/none-${index}`, headers: [KEY] }),
      );
      const connection = await rawConnection(gateway.url);
      await connection.write(Buffer.concat(parts));
      for (const [index] of parts.entries()) {
        const answer = await connection.answer();
        expect(answer.status).toBe(index % 4 === 3 ? 401 : 404);
        if (answer.status === 404) expect(answer.body.toString()).toContain(`: none-${index}"`);
      }
      connection.destroy();
    });

    test("bytes after a backend's answer reach no client", async () => {
      const mock = gateway.mocks[0];
      mock?.script({
        headers: { 'Content-Length': '2', 'Content-Type': 'application/json' },
        body: '{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
      });
      const first = await rawRequest(gateway.url, { target: '/openai/v1/files/one', headers: [KEY] });
      expect(first.body.toString()).toMatch(/^\{\}$|"error"/);
      const second = await rawRequest(gateway.url, { target: '/openai/v1/files/two', headers: [KEY] });
      expect(second.body.toString()).toContain(': two"');
    });
  });

  test('each of many concurrent requests gets its own answer while others are aborted', async () => {
    const texts = Array.from({ length: 60 }, (_, index) => `text ${index} ${utf8Bytes('é')}`);
    const ask = async (url: string, key: string, input: string) => {
      const headers = { 'api-key': key, 'content-type': 'application/json' };
      const body = JSON.stringify({ model: 'embed', input, dimensions: 8 });
      const answer = await fetch(`${url}/openai/v1/embeddings`, { method: 'POST', headers, body });
      return ((await answer.json()) as { data: { embedding: number[] }[] }).data[0]?.embedding;
    };
    const leaving = texts.map(async (_, index) => {
      const connection = await rawConnection(gateway.url);
      await connection.write(
        requestBytes({
          method: 'POST',
          target: CHAT_PATH,
          headers: [KEY, JSON_TYPE],
          body: chatBody(`,"stream":true,"n":${index}`),
        }),
      );
      await sleep(index % 10);
      connection.destroy();
    });
    const through = await Promise.all(texts.map((text) => ask(gateway.url, CLIENT_KEY, text)));
    await Promise.all(leaving);
    const direct = await Promise.all(
      texts.map((text) => ask(gateway.mocks[0]?.url ?? '', backendKey(0), text)),
    );
    expect(new Set(through.map(String)).size).toBe(texts.length);
    expect(through).toEqual(direct);
  });

  test('nothing above causes a critical log line or a Lua error', async () => {
    const log = await gateway.apisix.log();
    const lines = log
      .split('\n')
      .filter((line) => /\[(?:crit|alert|emerg)\]/.test(line) && !/setrlimit/.test(line));
    expect(lines).toEqual([]);
    expect(log).not.toMatch(
      /stack traceback|lua entry thread aborted|runtime error|attempt to \w+ |not enough memory|stack overflow|X-Injected: 1\r/,
    );
  });
});
