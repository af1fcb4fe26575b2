/** Request bodies of any size and content: their cost, where they are stored, and how they reach a backend. */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import {
  type Header,
  type RawAnswer,
  type RawConnection,
  rawBytes,
  rawConnection,
  rawRequest,
  requestBytes,
} from '../support/raw-http.ts';
import { inOrder, NO_COOLDOWN } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('request bodies on the stock APISIX image');

const MIB = 2 ** 20;
const KEY: Header = ['api-key', CLIENT_KEY];
const JSON_TYPE: Header = ['Content-Type', 'application/json'];
const CHAT_PATH = '/openai/v1/chat/completions';
const FORM_PATH = '/openai/v1/audio/transcriptions';
const MODEL = 'gpt-4o';

const post = (gateway: Gateway, body: string | Buffer, target = CHAT_PATH, type = JSON_TYPE) =>
  rawRequest(gateway.url, { method: 'POST', target, headers: [KEY, type], body });
const errorOf = (answer: RawAnswer) => JSON.parse(answer.body.toString()).error;
const sha1 = (bytes: Buffer | undefined) =>
  createHash('sha1')
    .update(bytes ?? '')
    .digest('hex');

/** Sends health requests to one worker for two seconds, and prints the longest response time in milliseconds. */
const PROBE = `
local slowest, ends_at = 0, ngx.now() + 2
repeat
    ngx.update_time()
    local began_at = ngx.now()
    local socket = ngx.socket.tcp()
    assert(socket:connect("127.0.0.1", 9080))
    socket:send("GET /healthz HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
    socket:receive("*a")
    socket:close()
    ngx.update_time()
    slowest = math.max(slowest, ngx.now() - began_at)
    ngx.sleep(0.002)
until ngx.now() > ends_at
print(slowest * 1000)
`;

/** A body of this size that repeats `each` between `before` and `after`. */
function filled(before: string, each: string, after: string, size: number): Buffer {
  const body = Buffer.alloc(size - after.length, each, 'latin1');
  body.write(before, 'latin1');
  return Buffer.concat([body, Buffer.from(after, 'latin1')]);
}

const chat = (size: number, model = MODEL) =>
  filled('{"messages":[{"role":"user","content":"', 'x', `"}],"model":"${model}"}`, size);

describe.skipIf(skipped)('request bodies', () => {
  describe('on the way to a backend', () => {
    let gateway: Gateway;
    beforeAll(async () => {
      gateway = await startGateway({
        settings: {
          AZURE_OPENAI_DEPLOYMENTS_0: `${MODEL}=first,whisper=first-whisper`,
          AZURE_OPENAI_DEPLOYMENTS_1: `${MODEL}=the-second-of-them,whisper=w`,
          ...inOrder(2),
          ...NO_COOLDOWN,
        },
      });
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());
    beforeEach(() => {
      for (const mock of gateway.mocks) mock.reset();
    });

    test.each([
      ['in memory', 100_000],
      ['in a file', 200_000],
      ['in a file, of many pieces', 5 * MIB + 1],
    ])("stored %s arrive with the backend's name of the model and no other change", async (_, size) => {
      gateway.mocks[0]?.script({ status: 500 });
      const body = chat(size);
      expect((await post(gateway, body)).status).toBe(200);
      for (const [index, name] of ['first', 'the-second-of-them'].entries()) {
        const [request] = gateway.mocks[index]?.requests ?? [];
        expect(request?.header('content-length')).toBe(String(size - MODEL.length + name.length));
        expect(sha1(request?.body)).toBe(sha1(chat(size - MODEL.length + name.length, name)));
      }
    });

    test.each([
      ['after', 0],
      ['before', 1],
    ])('as forms in files arrive with only the model renamed, in a part %s the upload', async (_, at) => {
      const form = (model: string) => {
        const parts = [
          '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' +
            `${'\r\n--\0'.repeat(MIB / 4)}\r\n`,
          `--b\r\nContent-Disposition: form-data; name=model\r\n\r\n${model}\r\n`,
        ];
        return Buffer.from(`${at === 0 ? parts.join('') : parts.toReversed().join('')}--b--\r\n`, 'latin1');
      };
      const type: Header = ['Content-Type', 'multipart/form-data; boundary=b'];
      await post(gateway, form('whisper'), FORM_PATH, type);
      const [request] = gateway.mocks[0]?.requests ?? [];
      expect(sha1(request?.body)).toBe(sha1(form('first-whisper')));
    });

    test.each([
      ['the same name', 'name="model"'],
      ['another quoting', 'name=model'],
      ['an encoded name', "name*=utf-8''mod%65l"],
    ])('as forms with two models get 400: %s', async (_, second) => {
      const answer = await post(
        gateway,
        '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n' +
          `--b\r\nContent-Disposition: form-data; ${second}\r\n\r\nwhisper\r\n--b--\r\n`,
        FORM_PATH,
        ['Content-Type', 'multipart/form-data; boundary=b'],
      );
      expect([answer.status, errorOf(answer).code]).toEqual([400, 'duplicate_member']);
      expect(gateway.mocks[0]?.requests).toHaveLength(0);
    });
  });

  describe('with the most expensive content', () => {
    let gateway: Gateway;
    beforeAll(async () => {
      gateway = await startGateway({
        backends: [{}],
        settings: { AZURE_OPENAI_DEPLOYMENTS_0: `${MODEL},whisper`, GATEWAY_WORKERS: '1' },
        mountedFiles: { '/tmp/probe.lua': PROBE },
      });
      await gateway.chat(MODEL);
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());

    const size = 20 * MIB;
    const json = (each: string, before = `{"model":"${MODEL}","x":[0`, after = ']') =>
      [JSON_TYPE, filled(before, each, after, size), CHAT_PATH] as const;
    const form = (boundary: string, each: string) =>
      [
        ['Content-Type', `multipart/form-data; boundary=${boundary}`] as Header,
        filled(`--${boundary}\r\nContent-Disposition: form-data; name="file"\r\n\r\n`, each, '', size),
        FORM_PATH,
      ] as const;

    // None of them is valid JSON to its end, so that the mock, which runs in this process, has little to parse.
    test.each([
      ['members', () => json(',"a":1', `{"model":"${MODEL}"`, '')],
      ['members that stand there twice', () => json(`,"model":"${MODEL}"`, `{"model":"${MODEL}"`, '')],
      ['escaped names', () => json(',"\\u006dodex":1', `{"model":"${MODEL}"`, '')],
      ['arrays', () => json(',[]')],
      ['open arrays', () => json('[')],
      ['names of files', () => json(',{"file_id":"file-1"}')],
      ['backslashes', () => json('\\', `{"model":"${MODEL}","x":"`, '')],
      ['escaped quotes', () => json('\\"', `{"model":"${MODEL}","x":"`, '')],
      ['white space', () => json(' ', '{', '')],
      ['boundaries', () => form('-', '\r\n---')],
      ['lines of boundaries', () => form('b', '\r\n--b\r\n')],
      ['line ends', () => form('b', '\r\n')],
    ])('of 20 MB of %s delay no other request and take little memory', async (_, make) => {
      const [type, body, target] = make();
      const [before] = await gateway.apisix.workers();
      // Measured in the container, because this process is busy with the body itself.
      const probing = gateway.apisix.asRoot('/usr/local/openresty/bin/resty /tmp/probe.lua');
      // The probe needs a moment to start.
      await sleep(300);
      const answer = await post(gateway, body, target, type);
      expect([400, 404]).toContain(answer.status);
      expect(Number(await probing)).toBeLessThan(400);
      const [after] = await gateway.apisix.workers();
      expect(after?.pid).toBe(before?.pid);
      expect((after?.cpuMs ?? 0) - (before?.cpuMs ?? 0)).toBeLessThan(3000);
      expect((after?.residentBytes ?? 0) - (before?.residentBytes ?? 0)).toBeLessThan(size + 2 * MIB);
    });
  });

  describe('beyond GATEWAY_BODY_MEMORY', () => {
    let gateway: Gateway;
    beforeAll(async () => {
      gateway = await startGateway({
        backends: [{}],
        settings: {
          AZURE_OPENAI_DEPLOYMENTS_0: MODEL,
          GATEWAY_WORKERS: '1',
          GATEWAY_BODY_MEMORY: '1m',
        },
      });
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());
    beforeEach(() => gateway.mocks[0]?.reset());

    const body = chat(MIB);
    const head = requestBytes({
      method: 'POST',
      target: CHAT_PATH,
      headers: [KEY, JSON_TYPE, ['Content-Length', String(body.length)]],
    });
    // Begins unfinished uploads until one is rejected.
    const begun = async () => {
      const open: RawConnection[] = [];
      while (open.length < 10) {
        const connection = await rawConnection(gateway.url);
        await connection.write(head);
        await sleep(200);
        if (connection.unread().length > 0) return { open, refused: await connection.answer() };
        open.push(connection);
      }
      throw new Error('all of them were taken');
    };
    const isTaken = async () => (await post(gateway, body).catch(() => undefined))?.status === 200;

    test('are rejected with a delay, and accepted when others are finished', async () => {
      const { open, refused } = await begun();
      expect(refused.status).toBe(503);
      expect(errorOf(refused)).toMatchObject({ code: 'body_memory_exhausted', type: 'server_error' });
      expect(Number(refused.header('retry-after'))).toBeGreaterThan(0);
      expect(gateway.mocks[0]?.requests).toHaveLength(0);
      // Small requests are served meanwhile.
      expect((await gateway.chat(MODEL)).status).toBe(200);

      // Three are kept in memory as usual, and one goes to disk through a small buffer.
      expect(open).toHaveLength(4);
      for (const connection of open) await connection.write(body);
      for (const connection of open) {
        expect((await connection.answer()).status).toBe(200);
        connection.destroy();
      }
      const received = gateway.mocks[0]?.requests.slice(1) ?? [];
      expect(received.map((request) => sha1(request.body))).toEqual(Array(4).fill(sha1(body)));
      expect(await isTaken()).toBe(true);
    });

    test('are accepted when the clients of others have disconnected', async () => {
      const { open } = await begun();
      for (const connection of open) connection.destroy();
      await vi.waitUntil(isTaken, { timeout: 5000 });
    });

    test('are accepted when the worker with the others was killed', async () => {
      const { open } = await begun();
      const [worker] = await gateway.apisix.workers();
      await gateway.apisix.killWorker(worker?.pid ?? 0);
      await vi.waitUntil(isTaken, { timeout: 10_000 });
      for (const connection of open) connection.destroy();
    });
  });

  describe('without disk space', () => {
    let gateway: Gateway;
    beforeAll(async () => {
      gateway = await startGateway({
        backends: [{}],
        settings: { AZURE_OPENAI_DEPLOYMENTS_0: MODEL, GATEWAY_WORKERS: '1' },
      });
      // /dev/shm has 64 MB.
      await gateway.apisix.asRoot(
        'cd /usr/local/apisix && rm -rf client_body_temp && ln -s /dev/shm client_body_temp',
      );
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());

    const expectNoSpace = async (answer: RawAnswer) => {
      expect(answer.status).toBe(503);
      expect(errorOf(answer)).toMatchObject({
        code: 'body_storage_full',
        message: expect.stringContaining('no space left'),
      });
      expect(Number(answer.header('retry-after'))).toBeGreaterThan(0);
      await vi.waitUntil(async () =>
        /\[error\].*request bodies cannot be stored: \d+ of \d+ bytes are left in \S*client_body_temp.*larger volume/.test(
          await gateway.apisix.log(),
        ),
      );
      expect((await gateway.chat(MODEL)).status).toBe(200);
    };

    test('get 503 before they are read when their length is known', async () => {
      const head = requestBytes({
        method: 'POST',
        target: CHAT_PATH,
        headers: [KEY, JSON_TYPE, ['Content-Length', String(80 * MIB)]],
      });
      await expectNoSpace(await rawBytes(gateway.url, head));
    });

    test('get 503 while they are read when their length is unknown', async () => {
      const connection = await rawConnection(gateway.url);
      await connection.write(
        requestBytes({
          method: 'POST',
          target: CHAT_PATH,
          headers: [KEY, JSON_TYPE, ['Transfer-Encoding', 'chunked']],
        }),
      );
      const piece = Buffer.from(`100000\r\n${'x'.repeat(MIB)}\r\n`);
      for (let count = 0; count < 70; count++) await connection.write(piece);
      await expectNoSpace(await connection.answer());
      connection.destroy();
    });
  });
});
