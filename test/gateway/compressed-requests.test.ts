/** Compressed request bodies are read like all others, and sent to backends decoded. */
import { createHash, randomBytes } from 'node:crypto';
import { deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { type Header, type RawAnswer, rawConnection, rawRequest, requestBytes } from '../support/raw-http.ts';
import { chatText, inOrder, NO_COOLDOWN } from '../support/traffic.ts';
import { COMPRESSED_CHAT, PLAIN_CHAT, zstdRepeated, zstdStored } from '../support/zstd.ts';

const skipped = cannotRunGatewayTests('compressed request bodies in the stock APISIX image');

const MIB = 2 ** 20;
const CHAT = '/openai/v1/chat/completions';
const FORM = '/openai/v1/audio/transcriptions';
const LISTED_KEY = 'key-of-the-client-with-a-list-0123';
const JSON_TYPE: Header = ['Content-Type', 'application/json'];

const CODINGS: readonly (readonly [header: string, encode: (body: Buffer) => Buffer])[] = [
  ['gzip', gzipSync],
  ['X-GZip', gzipSync],
  ['deflate', deflateSync],
  ['deflate', deflateRawSync],
  ['zstd', zstdStored],
  ['identity', (body) => body],
  ['gzip, zstd', (body) => zstdStored(gzipSync(body))],
  ['zstd, deflate , gzip,gzip', (body) => gzipSync(gzipSync(deflateSync(zstdStored(body))))],
];

const chat = (size: number, model = 'alias', more = '') =>
  Buffer.from(
    `{"messages":[{"role":"user","content":"${randomBytes(size / 2).toString('hex')}"}],"model":"${model}"${more}}`,
  );
const sha1 = (bytes: Buffer | undefined) =>
  createHash('sha1')
    .update(bytes ?? '')
    .digest('hex');
const errorOf = (answer: RawAnswer) => JSON.parse(answer.body.toString()).error;

describe.skipIf(skipped)('a compressed request body', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        ...inOrder(2),
        ...NO_COOLDOWN,
        AZURE_OPENAI_DEPLOYMENTS_0: 'alias=first-name,whisper=w,idle',
        AZURE_OPENAI_DEPLOYMENTS_1: 'alias=the-second-name,whisper=whisper-2,idle',
        GATEWAY_CLIENT_NAME_1: 'listed',
        GATEWAY_CLIENT_KEY_1: LISTED_KEY,
        GATEWAY_CLIENT_MODELS_1: 'idle',
        GATEWAY_MAX_BODY_SIZE: `${4 * MIB}`,
        GATEWAY_BODY_MEMORY: `${32 * MIB}`,
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  const post = (body: Buffer | string, coding: string, more: { target?: string; headers?: Header[] } = {}) =>
    rawRequest(gateway.url, {
      method: 'POST',
      target: more.target ?? CHAT,
      headers: [
        ['Content-Encoding', coding],
        ...(more.headers ?? [['api-key', CLIENT_KEY] as Header, JSON_TYPE]),
      ],
      body,
    });
  const renamed = (body: Buffer, name: string) =>
    Buffer.from(body.toString().replace('"alias"', `"${name}"`));

  describe.each(CODINGS)('in %s', (coding, encode) => {
    test.each([100, 60_000, 400_000, 3 * MIB])(
      "of %i bytes reaches each backend decoded, with the backend's name of the model",
      async (size) => {
        gateway.mocks[0]?.script({ status: 503 });
        const body = chat(size);
        expect((await post(encode(body), coding)).status).toBe(200);
        for (const [index, name] of ['first-name', 'the-second-name'].entries()) {
          const [request] = gateway.mocks[index]?.requests ?? [];
          const expected = renamed(body, name);
          expect(request?.header('content-encoding')).toBeUndefined();
          expect(request?.header('content-length')).toBe(String(expected.length));
          expect(sha1(request?.body)).toBe(sha1(expected));
        }
      },
    );
  });

  test('by a real compressor is read', async () => {
    expect((await post(COMPRESSED_CHAT, 'zstd')).status).toBe(200);
    expect(gateway.mocks[0]?.requests[0]?.body.toString()).toBe(
      renamed(Buffer.from(PLAIN_CHAT), 'first-name').toString(),
    );
  });

  test('may come in chunks, and in several frames or members', async () => {
    const text = '{"model":"alias","messages":[]}';
    const halves = [text.slice(0, 10), text.slice(10)];
    for (const [coding, coded] of [
      ['gzip', Buffer.concat(halves.map((each) => gzipSync(each)))],
      ['zstd', Buffer.concat(halves.map((each) => zstdStored(each)))],
    ] as const) {
      const connection = await rawConnection(gateway.url);
      await connection.write(
        requestBytes({
          method: 'POST',
          target: CHAT,
          headers: [
            ['api-key', CLIENT_KEY],
            JSON_TYPE,
            ['Content-Encoding', coding],
            ['Transfer-Encoding', 'chunked'],
          ],
        }),
      );
      for (const byte of coded)
        await connection.write(
          Buffer.concat([Buffer.from('1\r\n'), Buffer.from([byte]), Buffer.from('\r\n')]),
        );
      await connection.write('0\r\n\r\n');
      expect((await connection.answer()).status).toBe(200);
      connection.destroy();
      expect(gateway.mocks[0]?.requests.at(-1)?.body.toString()).toBe(text.replace('alias', 'first-name'));
    }
  });

  test('can be a form', async () => {
    const form = (model: string) =>
      Buffer.from(
        `--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n${model}\r\n` +
          `--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n${'x\0'.repeat(200_000)}\r\n--b--\r\n`,
      );
    await post(gzipSync(form('whisper')), 'gzip', {
      target: FORM,
      headers: [
        ['api-key', CLIENT_KEY],
        ['Content-Type', 'multipart/form-data; boundary=b'],
      ],
    });
    expect(sha1(gateway.mocks[0]?.requests[0]?.body)).toBe(sha1(form('w')));
  });

  test('can ask for a stream, also when the first backend refuses inside its stream', async () => {
    gateway.mocks[0]?.script({ events: [{ data: { error: { code: '429', message: 'x' } } }] });
    gateway.mocks[1]?.script({ events: [chatText('Hello')] });
    const answer = await post(gzipSync(chat(10, 'alias', ',"stream":true')), 'gzip');
    expect(answer.status).toBe(200);
    expect(answer.header('content-type')).toContain('text/event-stream');
    expect(answer.body.toString()).toContain('Hello');
  });

  test("is checked against its client's list of models", async () => {
    const headers: Header[] = [['api-key', LISTED_KEY], JSON_TYPE];
    const refused = await post(gzipSync(chat(10)), 'gzip', { headers });
    expect([refused.status, errorOf(refused).code]).toEqual([403, 'model_not_allowed']);
    expect((await post(gzipSync(chat(10, 'idle')), 'gzip', { headers })).status).toBe(200);
  });

  test('may be empty', async () => {
    expect((await post('', 'gzip', { target: '/openai/v1/files' })).status).not.toBe(415);
    expect(gateway.mocks.flatMap(({ requests }) => requests)).not.toHaveLength(0);
  });

  test.each(['br', 'compress', 'gzip, br', 'gzip;q=1', 'gzip,gzip,gzip,gzip,gzip'])(
    'in an unknown coding, or in too many, gets 415 with the known codings: %s',
    async (coding) => {
      const answer = await post('x', coding);
      expect(answer.status).toBe(415);
      expect(answer.values('content-type')).toEqual(['application/json']);
      expect(answer.values('accept-encoding')).toEqual(['gzip, deflate, zstd, identity']);
      expect(errorOf(answer)).toMatchObject({
        type: 'invalid_request_error',
        code: 'unsupported_content_encoding',
        message: expect.stringContaining('gzip, deflate, zstd'),
      });
      expect(gateway.mocks.flatMap(({ requests }) => requests)).toEqual([]);
    },
  );

  const text = Buffer.from(PLAIN_CHAT);
  test.each<readonly [string, string, Buffer]>([
    ['no gzip', 'gzip', text],
    ['no zlib', 'deflate', Buffer.from([0x78, 0x9c, 1, 2, 3])],
    ['no zstd', 'zstd', text],
    ['a gzip that ends early', 'gzip', gzipSync(text).subarray(0, -1)],
    ['a deflate that ends early', 'deflate', deflateRawSync(text).subarray(0, -1)],
    ['a zstd that ends early', 'zstd', COMPRESSED_CHAT.subarray(0, -1)],
    ['one byte', 'gzip', gzipSync(text).subarray(0, 1)],
    ['a wrong checksum', 'gzip', Buffer.concat([gzipSync(text).subarray(0, -8), Buffer.alloc(8)])],
    ['garbage behind a gzip', 'gzip', Buffer.concat([gzipSync(text), Buffer.from('garbage')])],
    ['a byte behind a gzip', 'gzip', Buffer.concat([gzipSync(text), Buffer.alloc(1)])],
    ['garbage behind a zlib', 'deflate', Buffer.concat([deflateSync(text), Buffer.from('x')])],
    ['garbage behind a zstd', 'zstd', Buffer.concat([COMPRESSED_CHAT, Buffer.from('garbage')])],
    ['a window of more than 8 MB', 'zstd', zstdStored(text, 24)],
    ['gzip once, twice named', 'gzip, gzip', gzipSync(text)],
  ])('that is damaged gets 400: %s', async (_, coding, body) => {
    const answer = await post(body, coding);
    expect([answer.status, errorOf(answer).code]).toEqual([400, 'invalid_content_encoding']);
    expect(errorOf(answer).message).toMatch(/cannot be decoded as (?:gzip|deflate|zstd): ./);
    expect(gateway.mocks.flatMap(({ requests }) => requests)).toEqual([]);
  });

  test.each<readonly [string, string, () => Buffer]>([
    ['gzip', 'gzip', () => gzipSync(Buffer.alloc(4 * MIB + 1, 'x'))],
    ['deflate', 'deflate', () => deflateRawSync(Buffer.alloc(100 * MIB, 'x'))],
    ['zstd', 'zstd', () => zstdRepeated('x', 1024 * MIB)],
    ['gzip of a zstd', 'zstd, gzip', () => gzipSync(zstdRepeated('x', 1024 * MIB))],
    ['zstd of a gzip of nothing', 'gzip, zstd', () => zstdStored(gzipSync(Buffer.alloc(4 * MIB + 1)))],
  ])('that is larger than the limit when decoded gets 413 within 5 seconds: %s', async (_, coding, make) => {
    const body = make();
    expect(body.length).toBeLessThan(4 * MIB);
    const began = performance.now();
    const answer = await post(body, coding);
    expect(performance.now() - began).toBeLessThan(5_000);
    expect([answer.status, errorOf(answer).code]).toEqual([413, 'request_too_large']);
    expect(gateway.mocks.flatMap(({ requests }) => requests)).toEqual([]);
  });

  test('many compressed bodies at once leak no memory, whatever their result', {
    timeout: 120_000,
  }, async () => {
    const resident = async () =>
      Math.max(...(await gateway.apisix.workers()).map(({ residentBytes }) => residentBytes));
    const bodies: readonly (readonly [Buffer, string])[] = [
      [COMPRESSED_CHAT, 'zstd'],
      [zstdStored(PLAIN_CHAT, 23), 'zstd'],
      [gzipSync(chat(300_000)), 'gzip'],
      [gzipSync(text).subarray(0, -1), 'gzip'],
      [COMPRESSED_CHAT.subarray(0, -1), 'zstd'],
      [zstdRepeated('x', 64 * MIB, 23), 'zstd'],
    ];
    const round = async (count: number) => {
      for (let index = 0; index < count; index++) {
        const statuses = await Promise.all(
          bodies.map(async ([body, coding]) => (await post(body, coding)).status),
        );
        expect(statuses).toEqual([200, 200, 200, 400, 400, 413]);
        for (const mock of gateway.mocks) mock.reset();
      }
    };
    await round(20);
    const before = await resident();
    await round(60);
    expect((await resident()) - before).toBeLessThan(40 * MIB);
  });

  test('none of them causes an error in the log', async () => {
    const lines = (await gateway.apisix.log()).split('\n');
    expect(
      lines.filter((line) => /\[(?:error|crit|alert|emerg)\]/.test(line) && !/setrlimit/.test(line)),
    ).toEqual([]);
  });
});
