/** Requests reach a backend unchanged, and answers reach the client unchanged. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectHttp2, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Behaviour, RecordedRequest } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import {
  type Header,
  type RawRequest,
  rawConnection,
  rawRequest,
  requestBytes,
  utf8Bytes,
} from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('what passes unchanged through the stock APISIX image');

const KEY: Header = ['api-key', CLIENT_KEY];
const JSON_TYPE: Header = ['Content-Type', 'application/json'];
const CHAT = '{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}';
/** An answer for any path. */
const OK = { body: '{"ok":true}' } satisfies Behaviour;

describe.skipIf(skipped)('the gateway passes unchanged', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    // The second backend only answers when the first one failed.
    gateway = await startGateway({ settings: { AZURE_OPENAI_PRIORITY_0: '10' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  const send = (request: RawRequest) =>
    rawRequest(gateway.url, { ...request, headers: [KEY, ...(request.headers ?? [])] });
  const answered = (...behaviours: Behaviour[]) => gateway.mocks[0]?.script(...behaviours);
  const received = (): RecordedRequest => {
    const all = gateway.mocks.flatMap(({ requests }) => requests);
    expect(all).toHaveLength(1);
    return all[0] as RecordedRequest;
  };
  const receivedNames = () => received().headers.map(([name]) => name.toLowerCase());

  describe('the target', () => {
    test.each([
      '/openai/v1/files/file-1/content',
      '/openai/v1/models/ft:gpt-4o@2:x;y=1,2',
      '/openai/v1/vector_stores/a%20b/files/c%2Bd',
      '/openai/v1/files/%E2%82%AC/%c3%a9',
      "/openai/v1/files/~_-.!$&'()*+,;=:@",
      '/openai/v1/files/%7Euser',
      '/openai/v1/files/100%25',
      '/openai/v1/files/a%3Fb%23c',
      '/openai/v1/files/',
      '/openai/v1/of/next/year?preview',
      '/openai/deployments/my%20model/embeddings?api-version=2024-10-21',
      '/openai/assistants?api-version=2024-10-21',
      '/openai/v1/x?',
      '/openai/v1/x?api-version=preview&api-version=again&&a=&=b&c',
      '/openai/v1/x?path=/a/../b/./c//d',
      "/openai/v1/x?q=a+b%20c%2Bd&x=~!$'()*,;:@/?[]|{}^`\\",
      '/openai/v1/x?lower=%c3%a9&upper=%C3%A9&raw=%00%0d%0a%ff',
      '/openai/v1/x?percent=%&half=%4&odd=%zz',
      `/openai/v1/x?long=${'0123456789'.repeat(500)}`,
    ])('%s', async (target) => {
      // A stored object without a known owner causes a search first, so there are two answers.
      answered(OK, OK);
      expect((await send({ target })).status).toBe(200);
      expect(gateway.mocks[0]?.requests.at(-1)?.target).toBe(target);
    });
  });

  describe('methods and request bodies', () => {
    test.each(['POST', 'PUT', 'PATCH', 'DELETE', 'GET'])('%s with a body', async (method) => {
      answered(OK);
      const body = randomBytes(5000);
      await send({
        method,
        target: '/openai/v1/x',
        headers: [['Content-Type', 'application/octet-stream']],
        body,
      });
      expect(received()).toMatchObject({ method, httpVersion: '1.1' });
      expect(received().body.equals(body)).toBe(true);
      expect(received().header('content-length')).toBe('5000');
    });

    test.each(['GET', 'DELETE', 'HEAD', 'OPTIONS'])('%s without a body', async (method) => {
      answered(OK);
      expect((await send({ method, target: '/openai/v1/x' })).status).toBe(200);
      expect(received().method).toBe(method);
      expect(receivedNames()).not.toContain('content-length');
      expect(receivedNames()).not.toContain('transfer-encoding');
    });

    test.each(['POST', 'PUT', 'DELETE'])('%s with an empty body', async (method) => {
      answered(OK);
      expect((await send({ method, target: '/openai/v1/x', body: '' })).status).toBe(200);
      expect(received().header('content-length')).toBe('0');
      expect(received().body).toHaveLength(0);
    });

    test.each([
      [
        'white space, escapes and big numbers',
        '{ "model" : "gpt-4o" ,\r\n\t"b":1.0,"a":1e400,"n":12345678901234567890,"s":"\\u00e9\\/é\\ud83d\\ude00" }\n',
      ],
      ['names twice that the gateway does not read', '{"model":"gpt-4o","x":1,"x":2}'],
      ['a stream', '{"model":"gpt-4o","stream" : true,"messages":[]}'],
      ['no JSON', 'model=gpt-4o'],
      ['nulls', '{"model":"gpt-4o","seed":null,"x":{}, "y":[]}'],
    ])('JSON with %s', async (_, body) => {
      answered(OK);
      const headers = [JSON_TYPE];
      expect(
        (await send({ method: 'POST', target: '/openai/v1/chat/completions', headers, body })).status,
      ).toBe(200);
      expect(received().body.toString()).toBe(body);
      expect(received().header('content-length')).toBe(String(Buffer.byteLength(body)));
    });

    test.each([
      ['small', 20],
      ['large', 3 * 2 ** 20],
    ])('a %s chunked upload arrives with its length', async (_, size) => {
      answered(OK);
      const body = randomBytes(size);
      const chunks: Buffer[] = [];
      for (let at = 0, step = 1; at < body.length; at += step, step = (step * 7) % 65_521) {
        const piece = body.subarray(at, at + step);
        chunks.push(Buffer.from(`${piece.length.toString(16)};ext=1\r\n`), piece, Buffer.from('\r\n'));
      }
      chunks.push(Buffer.from('0\r\n\r\n'));
      const headers: Header[] = [['Transfer-Encoding', 'chunked']];
      const answer = await send({
        method: 'POST',
        target: '/openai/v1/files',
        headers,
        body: Buffer.concat(chunks),
      });
      expect(answer.status).toBe(200);
      expect(received().header('content-length')).toBe(String(size));
      expect(receivedNames()).not.toContain('transfer-encoding');
      expect(received().body.equals(body)).toBe(true);
    });

    test('a multipart form', async () => {
      answered(OK);
      const boundary = "----odd'()+_,-./:=? boundary";
      const file = randomBytes(2 * 2 ** 20);
      const body = Buffer.concat([
        Buffer.from(
          `preamble\r\n--${boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n`,
        ),
        Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="é.wav"\r\n\r\n`),
        file,
        Buffer.from(`\r\n--${boundary}--\r\nepilogue`),
      ]);
      const type = `multipart/form-data; boundary="${boundary}"`;
      const headers: Header[] = [['Content-Type', type]];
      await send({ method: 'POST', target: '/openai/v1/audio/transcriptions', headers, body });
      expect(received().body.equals(body)).toBe(true);
      expect(received().header('content-type')).toBe(type);
    });

    test('a body that the client sends after 100 Continue', async () => {
      answered(OK);
      const connection = await rawConnection(gateway.url);
      const headers: Header[] = [
        KEY,
        JSON_TYPE,
        ['Expect', '100-continue'],
        ['Content-Length', String(CHAT.length)],
      ];
      await connection.write(
        requestBytes({ method: 'POST', target: '/openai/v1/chat/completions', headers }),
      );
      await expect.poll(() => connection.unread().toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n');
      expect(gateway.mocks[0]?.requests).toHaveLength(0);
      await connection.write(CHAT);
      expect(await connection.answer()).toMatchObject({ status: 200, interim: [100] });
      connection.destroy();
      expect(received().body.toString()).toBe(CHAT);
      expect(receivedNames()).not.toContain('expect');
    });
  });

  describe('request headers', () => {
    test("all of the client's, with only the backend's own headers added", async () => {
      answered(OK);
      const headers: Header[] = [
        ['Content-Type', 'application/json; charset="utf-8"'],
        ['User-Agent', 'OpenAI/Python 1.2.3'],
        ['X-Stainless-Lang', 'python'],
        ['OpenAI-Beta', 'assistants=v2, responses=v1'],
        ['x-ms-client-request-id', 'a b  c'],
        ['Accept', 'text/event-stream'],
        ['Cookie', 'a=1; b=2'],
        ['If-None-Match', '"x"'],
        ['Range', 'bytes=0-9'],
        ['x_underscores', 'kept'],
        ['x-empty', ''],
        ['x-bytes', utf8Bytes('é€')],
        ['x-many', 'one'],
        ['x-many', 'two, three'],
        ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
        ['X-Request-ID', 'of-the-client'],
      ];
      await send({ method: 'POST', target: '/openai/v1/chat/completions', headers, body: CHAT });
      const lower = received().headers.map(([name, value]) => `${name.toLowerCase()}: ${value}`);
      const { port = 0 } = gateway.mocks[0] ?? {};
      const own = [
        `host: host.docker.internal:${port}`,
        `api-key: ${backendKey(0)}`,
        'accept-encoding: identity',
        `content-length: ${CHAT.length}`,
      ];
      const sent = headers.map(([name, value]) => `${name.toLowerCase()}: ${value}`);
      expect(lower.toSorted()).toEqual([...sent, ...own].toSorted());
      expect(lower.filter((line) => line.startsWith('x-many'))).toEqual([
        'x-many: one',
        'x-many: two, three',
      ]);
    });

    test('more than a hundred of them', async () => {
      answered(OK);
      const headers = Array.from({ length: 250 }, (_, index): Header => [`x-h-${index}`, `value ${index}`]);
      await send({ target: '/openai/v1/x', headers: [...headers, ['authorization', 'Bearer late']] });
      expect(
        received()
          .headers.filter(([name]) => name.startsWith('x-h-'))
          .toSorted(),
      ).toEqual(headers.toSorted());
      expect(receivedNames()).not.toContain('authorization');
    });

    const OF_THE_CLIENT_ALONE = [
      'Authorization',
      'Ocp-Apim-Subscription-Key',
      'X-Consumer-Username',
      'X-Consumer-Custom-Id',
      'X-Credential-Identifier',
      'X-Gateway-Backend',
      'X-Gateway-Anything',
      'X-Forwarded-For',
      'X-Forwarded-Proto',
      'X-Forwarded-Host',
      'X-Forwarded-Port',
      'X-Forwarded-Prefix',
      'Forwarded',
      'X-Real-IP',
      'X-Apisix-Anything',
      'Accept-Encoding',
      'Te',
      'Trailer',
      'Keep-Alive',
      'Proxy-Authorization',
      'Proxy-Connection',
      'HTTP2-Settings',
    ];

    const SINGLE = new Set(['Authorization']);

    test.each(OF_THE_CLIENT_ALONE)('but never %s', async (name) => {
      answered(OK);
      const value = 'secret-of-the-client';
      const fillers = Array.from({ length: 120 }, (_, index): Header => [`x-h-${index}`, 'x']);
      // nginx accepts these headers only once.
      const again: Header[] = SINGLE.has(name) ? [] : [[name.toUpperCase(), value]];
      const headers: Header[] = [[name, value], ...fillers, ...again];
      expect((await send({ target: '/openai/v1/x', headers })).status).toBe(200);
      expect(JSON.stringify(received().headers)).not.toContain(value);
      if (name !== 'Accept-Encoding') expect(receivedNames()).not.toContain(name.toLowerCase());
    });

    test("but never a client's key in place of the backend's", async () => {
      answered(OK);
      await send({ target: '/openai/v1/x', headers: [['API-Key', 'another']] });
      expect(received().headers.filter(([name]) => name.toLowerCase() === 'api-key')).toEqual([
        ['api-key', backendKey(0)],
      ]);
    });

    test.each([
      ['close, X-Hop, x-other', ['x-hop', 'x-other'], ['x-kept']],
      ['x-hop , api-key, host, content-length', ['x-hop'], ['api-key', 'host', 'content-length', 'x-kept']],
    ])('but none that Connection names: %s', async (connection, gone, kept) => {
      answered(OK);
      const headers: Header[] = [
        ['Connection', connection],
        ['X-Hop', '1'],
        ['X-Other', '1'],
        ['X-Kept', '1'],
      ];
      await send({ method: 'POST', target: '/openai/v1/x', headers, body: 'x' });
      expect(receivedNames()).toEqual(expect.arrayContaining(kept));
      for (const name of gone) expect(receivedNames()).not.toContain(name);
      expect(received().header('connection')).toBeUndefined();
      expect(received().body.toString()).toBe('x');
    });

    test("but with the Host and the credential of each attempt's backend", async () => {
      const body = CHAT.replace('gpt-4o', 'model-of-two-attempts');
      answered({ status: 429 });
      const headers: Header[] = [['Host', 'of.the.client:1234'], JSON_TYPE];
      const answer = await send({ method: 'POST', target: '/openai/v1/chat/completions', headers, body });
      expect(answer.status).toBe(200);
      for (const [index, mock] of gateway.mocks.entries()) {
        expect(mock.requests).toHaveLength(1);
        expect(mock.requests[0]?.header('host')).toBe(`host.docker.internal:${mock.port}`);
        expect(mock.requests[0]?.header('api-key')).toBe(backendKey(index));
        expect(mock.requests[0]?.body.toString()).toBe(body);
      }
    });
  });

  describe('answers', () => {
    const NOT_OF_THE_BACKEND = new Set(['server', 'connection', 'date']);
    const rest = (headers: readonly Header[]) =>
      headers
        .filter(([name]) => !NOT_OF_THE_BACKEND.has(name.toLowerCase()))
        .map(([name, value]) => `${name}: ${value}`)
        .toSorted();

    test.each([
      ['chat', { method: 'POST', target: '/openai/v1/chat/completions', headers: [JSON_TYPE], body: CHAT }],
      ['models', { target: '/openai/v1/models' }],
      ['a refusal', { target: '/openai/v1/responses/resp_unknown' }],
    ] as const)('with all headers of %s', async (_, request) => {
      const mock = gateway.mocks[0];
      const direct = await rawRequest(mock?.url ?? '', {
        ...request,
        headers: [['api-key', backendKey(0)], ...('headers' in request ? request.headers : [])],
      });
      const through = await send(request);
      const unstable = (headers: readonly Header[]) =>
        headers.filter(
          ([name]) =>
            !/^(?:apim-request-id|x-request-id|x-ratelimit-remaining|x-envoy-upstream|keep-alive)/i.test(
              name,
            ),
        );
      expect(through.status).toBe(direct.status);
      expect(rest(unstable(through.headers))).toEqual(rest(unstable(direct.headers)));
      // The headers left out above are present as well.
      expect(
        through.headers
          .map(([name]) => name)
          .filter((name) => /request-id|remaining/.test(name))
          .toSorted(),
      ).toEqual(
        direct.headers
          .map(([name]) => name)
          .filter((name) => /request-id|remaining/.test(name))
          .toSorted(),
      );
    });

    test('with each header once, also when it has several values', async () => {
      const headers = {
        'Content-Type': 'application/json; charset=utf-8; odd="a;b"',
        'Set-Cookie': ['a=1; Path=/', 'b=2'],
        Link: ['<a>; rel=next', '<b>; rel=prev'],
        Vary: ['Accept', 'Origin'],
        'Cache-Control': ['no-cache', 'max-age=0'],
        'X-Many': ['1', '2', '3'],
        'X-Request-ID': 'of-the-backend',
        ETag: '"abc"',
        'Last-Modified': 'Wed, 21 Oct 2015 07:28:00 GMT',
        Expires: 'Wed, 21 Oct 2015 07:28:00 GMT',
        Location: '/openai/v1/relative',
        'Operation-Location': 'https://a.openai.azure.com/x?y=1',
        'Content-Disposition': 'attachment; filename="a.bin"',
        'X-Bytes': '\u00e9\u00ff',
        'Content-Language': 'en, de',
        'Content-Encoding': 'identity',
        'Accept-Ranges': 'bytes',
        'Content-Range': 'bytes 0-9/100',
        'Retry-After': '7',
        'retry-after-ms': '7000',
        'X-Accel-Buffering': 'no',
        'X-Accel-Redirect': '/apisix/status',
      };
      answered({ headers, body: 'x'.repeat(10) });
      const answer = await send({ target: '/openai/v1/x' });
      for (const [name, value] of Object.entries(headers))
        expect([name, answer.values(name)]).toEqual([name, [value].flat()]);
      expect(answer.header('content-length')).toBe('10');
      expect(answer.body.toString()).toBe('x'.repeat(10));
    });

    test('but with the Server header of APISIX', async () => {
      answered({ ...OK, headers: { Server: 'Kestrel' } });
      expect((await send({ target: '/openai/v1/x' })).values('server')).toEqual(['APISIX']);
    });

    test('with the Date of the backend', async () => {
      const date = 'Tue, 01 Jan 2030 00:00:00 GMT';
      answered({ ...OK, headers: { Date: date } });
      expect((await send({ target: '/openai/v1/x' })).values('date')).toEqual([date]);
    });

    test('without hop-by-hop headers and those that Connection names', async () => {
      answered({
        ...OK,
        headers: {
          Connection: 'close, X-Hop',
          'X-Hop': '1',
          'X-Kept': '1',
          'Keep-Alive': 'timeout=7',
          'Proxy-Authenticate': 'Basic',
          'Proxy-Connection': 'close',
          Upgrade: 'h2c',
        },
      });
      const answer = await send({ target: '/openai/v1/x' });
      expect(answer.header('x-kept')).toBe('1');
      expect(answer.header('connection')).toBe('keep-alive');
      for (const name of ['x-hop', 'keep-alive', 'proxy-authenticate', 'proxy-connection', 'upgrade'])
        expect([name, answer.header(name)]).toEqual([name, undefined]);
    });

    test.each([
      'text/plain',
      'text/html',
      'text/xml',
      'application/json',
      'audio/mpeg',
      'text/plain; charset=latin1',
    ])('with the content type %s', async (type) => {
      answered({ headers: { 'Content-Type': type }, body: 'x' });
      expect((await send({ target: '/openai/v1/x' })).values('content-type')).toEqual([type]);
    });

    test('without a content type when the backend sends none', async () => {
      answered({ headers: { 'Content-Type': null }, body: 'x' });
      const answer = await send({ target: '/openai/v1/x' });
      expect(answer.body.toString()).toBe('x');
      expect(answer.values('content-type')).toEqual([]);
    });

    test.each([
      200, 201, 202, 203, 206, 207, 299, 400, 402, 404, 405, 406, 409, 410, 412, 413, 415, 418, 422, 424, 431,
      451, 499, 501, 505,
    ])('with status %i', async (status) => {
      const body = `{"of": "the backend",  "status":${status}}`;
      answered({
        status,
        headers: { Location: 'https://elsewhere.test/x', 'Content-Type': 'application/problem+json' },
        body,
      });
      const answer = await send({ method: 'POST', target: '/openai/v1/x', body: '{}' });
      expect(answer).toMatchObject({ status, isWhole: true });
      expect(answer.body.toString()).toBe(body);
      expect(answer.header('location')).toBe('https://elsewhere.test/x');
      expect(answer.header('content-type')).toBe('application/problem+json');
      expect(answer.header('content-length')).toBe(String(body.length));
      expect(received().status).toBe(status);
    });

    test.each([
      [
        'JSON as it was written',
        Buffer.from(
          '{ "z":1, "a" : 1.0, "n":12345678901234567890,"e":1E+2,\n"u":"\\u00e9\\/",\t"x":{}, "y":[ ] }\r\n',
        ),
      ],
      ['broken JSON', Buffer.from('{"a":')],
      ['bytes', randomBytes(300_000)],
      ['a byte', Buffer.from('x')],
      ['two megabytes', randomBytes(2 * 2 ** 20)],
    ])('with %s in each framing', async (_, body) => {
      for (const framing of ['content-length', 'chunked', 'close'] as const) {
        for (const splitBytes of [undefined, 4001]) {
          answered({
            headers: { 'Content-Type': 'application/json' },
            body,
            framing,
            ...(splitBytes && { splitBytes }),
          });
          const answer = await send({ target: '/openai/v1/x' });
          expect(answer.isWhole).toBe(true);
          expect(answer.body.equals(body)).toBe(true);
          expect(answer.header('content-length')).toBe(
            framing === 'content-length' ? String(body.length) : undefined,
          );
        }
      }
    });

    test('that are compressed', async () => {
      const body = gzipSync(Buffer.from('{"a":1}'));
      answered({ headers: { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' }, body });
      const answer = await send({ target: '/openai/v1/x', headers: [['Accept-Encoding', 'gzip']] });
      expect(answer.header('content-encoding')).toBe('gzip');
      expect(answer.body.equals(body)).toBe(true);
    });

    test.each(['content-length', 'chunked', 'close'] as const)(
      'to HEAD, with framing %s',
      async (framing) => {
        answered({
          headers: { 'Content-Type': 'application/json', 'X-Kept': '1' },
          body: '{"twelve":12}',
          framing,
        });
        const connection = await rawConnection(gateway.url);
        await connection.write(requestBytes({ method: 'HEAD', target: '/openai/v1/x', headers: [KEY] }));
        const answer = await connection.answer('HEAD');
        expect(answer).toMatchObject({ status: 200 });
        expect(answer.header('x-kept')).toBe('1');
        expect(answer.header('content-length')).toBe(framing === 'content-length' ? '13' : undefined);
        // No body follows: the next answer begins right after the head.
        answered(OK);
        await connection.write(requestBytes({ target: '/openai/v1/x', headers: [KEY] }));
        expect((await connection.answer()).body.toString()).toBe(OK.body);
        connection.destroy();
      },
    );

    test.each([204, 304])('with status %i, without body and length', async (status) => {
      answered({ status, headers: { ETag: '"x"' } }, OK);
      const connection = await rawConnection(gateway.url);
      await connection.write(requestBytes({ target: '/openai/v1/x', headers: [KEY] }));
      const answer = await connection.answer();
      expect(answer.status).toBe(status);
      expect(answer.header('etag')).toBe('"x"');
      expect(answer.header('content-length')).toBeUndefined();
      expect(answer.header('transfer-encoding')).toBeUndefined();
      await connection.write(requestBytes({ target: '/openai/v1/x', headers: [KEY] }));
      expect((await connection.answer()).body.toString()).toBe(OK.body);
      connection.destroy();
    });

    test('with an empty body and length 0', async () => {
      answered({ body: '' });
      const answer = await send({ target: '/openai/v1/x' });
      expect(answer).toMatchObject({ status: 200, isWhole: true });
      expect(answer.header('content-length')).toBe('0');
      expect(answer.body).toHaveLength(0);
    });

    test('with an empty chunked body', async () => {
      answered({ body: '', framing: 'chunked' });
      const answer = await send({ target: '/openai/v1/x' });
      expect(answer).toMatchObject({ status: 200, isWhole: true });
      expect(answer.body).toHaveLength(0);
    });

    test.each([
      ['If-None-Match', '"abc"'],
      ['If-Match', '"another"'],
      ['If-Modified-Since', 'Wed, 21 Oct 2015 07:28:00 GMT'],
      ['If-Unmodified-Since', 'Tue, 20 Oct 2015 07:28:00 GMT'],
      ['Range', 'bytes=0-1'],
    ])('without evaluating the request header %s', async (name, value) => {
      answered({
        headers: {
          ETag: '"abc"',
          'Last-Modified': 'Wed, 21 Oct 2015 07:28:00 GMT',
          'Accept-Ranges': 'bytes',
        },
        body: 'whole',
      });
      const answer = await send({ target: '/openai/v1/x', headers: [[name, value]] });
      expect(answer.status).toBe(200);
      expect(answer.body.toString()).toBe('whole');
      expect(received().header(name)).toBe(value);
    });

    test('to clients of HTTP/2', async () => {
      const session = connectHttp2(gateway.url);
      const ask = async (headers: OutgoingHttpHeaders, body?: string) => {
        const stream = session.request({ 'api-key': CLIENT_KEY, ...headers });
        stream.end(body);
        const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders];
        const chunks: Buffer[] = [];
        for await (const chunk of stream) chunks.push(chunk);
        return { answer, body: Buffer.concat(chunks).toString() };
      };
      const post = { ':method': 'POST', ':path': '/openai/v1/x?a=%20&b', 'x-kept': '1' };
      for (const headers of [post, { ...post, 'content-length': String(CHAT.length) }]) {
        gateway.mocks[0]?.reset();
        answered({ ...OK, headers: { 'X-Kept': '2' } });
        const { answer, body } = await ask(headers, CHAT);
        expect(answer).toMatchObject({
          ':status': 200,
          'x-kept': '2',
          'content-length': String(OK.body.length),
        });
        expect(body).toBe(OK.body);
        expect(received()).toMatchObject({
          method: 'POST',
          target: '/openai/v1/x?a=%20&b',
          httpVersion: '1.1',
        });
        expect(received().header('x-kept')).toBe('1');
        expect(received().header('content-length')).toBe(String(CHAT.length));
        expect(received().body.toString()).toBe(CHAT);
      }
      session.close();
    });

    test('to clients of HTTP/1.0', async () => {
      answered({ body: 'whole', framing: 'chunked' });
      const connection = await rawConnection(gateway.url);
      await connection.write(`GET /openai/v1/x HTTP/1.0\r\nHost: x\r\napi-key: ${CLIENT_KEY}\r\n\r\n`);
      const answer = await connection.answer();
      expect(answer.status).toBe(200);
      expect(answer.header('transfer-encoding')).toBeUndefined();
      expect(answer.body.toString()).toBe('whole');
      expect(received().httpVersion).toBe('1.1');
      connection.destroy();
    });
  });
});
