/** Clients that send slowly, read slowly, or send long headers. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { type RawConnection, rawConnection, rawRequest } from '../support/raw-http.ts';
import { backendOf, onlyRequest, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('slow clients');
const KIB = 1024;
const MIB = KIB * KIB;
const CHAT_PATH = '/openai/v1/chat/completions';
const head = (lines: string) =>
  `POST ${CHAT_PATH} HTTP/1.1\r\nHost: a\r\napi-key: ${CLIENT_KEY}\r\nContent-Type: application/json\r\n${lines}\r\n\r\n`;

let gateway: Gateway;
const stop = () => gateway?.stop();

/** Sends bytes one by one until the gateway answers. */
async function trickle(connection: RawConnection, bytes: string, everyMs: number) {
  const answer = connection.answer();
  let isOver = false;
  void answer
    .catch(() => undefined)
    .finally(() => {
      isOver = true;
    });
  while (!isOver) {
    await connection.write(bytes);
    await sleep(everyMs);
  }
  return answer;
}

describe.skipIf(skipped)('with a grace time of one second', () => {
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: { GATEWAY_WORKERS: '1', GATEWAY_BODY_MEMORY: '1m' },
      times: { body_grace: 1 },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  beforeEach(() => resetMocks(gateway));

  test.each([
    ['with a length', 'Content-Length: 9000', ' '],
    ['in chunks', 'Transfer-Encoding: chunked', '1\r\n \r\n'],
    ['of 9 MB', `Content-Length: ${9 * MIB}`, ' '],
  ])("a body %s sent byte by byte gets 408 in OpenAI's shape", async (_, length, bytes) => {
    const connection = await rawConnection(gateway.url);
    await connection.write(head(length));
    const answer = await trickle(connection, bytes, 100);
    expect(answer.status).toBe(408);
    expect(JSON.parse(answer.body.toString()).error).toMatchObject({ code: 'request_timeout' });
    await connection.closed();
    connection.destroy();
  });

  test('a body that goes to a file through a small buffer can be sent slowly', async () => {
    const idle = await rawConnection(gateway.url);
    await idle.write(head('Transfer-Encoding: chunked'));
    const other = await rawConnection(gateway.url);
    await other.write(head('Transfer-Encoding: chunked'));
    await sleep(100);
    const connection = await rawConnection(gateway.url);
    await connection.write(head(`Content-Length: ${9 * MIB}`));
    expect((await trickle(connection, ' ', 100)).status).toBe(408);
    for (const each of [idle, other, connection]) each.destroy();
  });

  test('an idle chunked body gets 408 and frees its memory', async () => {
    const idle = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const connection = await rawConnection(gateway.url);
        await connection.write(head('Transfer-Encoding: chunked'));
        return connection;
      }),
    );
    const answers = await Promise.all(idle.map((connection) => connection.answer()));
    // Those without memory get 503.
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([408, 503]));
    for (const connection of idle) connection.destroy();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(backendOf(gateway, 0).requests).toHaveLength(1);
  });

  test('a body above the minimum rate may take as long as it needs', async () => {
    const body = JSON.stringify({
      model: 'gpt-4o',
      messages: [{ role: 'user', content: 'x'.repeat(20_000) }],
    });
    const connection = await rawConnection(gateway.url);
    await connection.write(head(`Content-Length: ${body.length}`));
    for (let sent = 0; sent < body.length; sent += 700) {
      await connection.write(body.slice(sent, sent + 700));
      await sleep(200);
    }
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    expect(onlyRequest(backendOf(gateway, 0)).body.toString()).toBe(body);
  });
});

describe.skipIf(skipped)('with the default settings', () => {
  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}], settings: { GATEWAY_WORKERS: '1' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  beforeEach(() => resetMocks(gateway));

  test('a client that reads nothing for 12 seconds gets the whole answer and delays no other request', async () => {
    const size = 24 * MIB;
    backendOf(gateway, 0).script({ body: 'x'.repeat(size), headers: { 'Content-Type': 'text/plain' } });
    const body = JSON.stringify({ model: 'gpt-4o' });
    let received = 0;
    const isWhole = new Promise<boolean>((resolve) => {
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1', () =>
        socket.write(head(`Connection: close\r\nContent-Length: ${body.length}`) + body),
      );
      socket.on('data', (data) => {
        if (received === 0) {
          socket.pause();
          setTimeout(() => socket.resume(), 12_000);
        }
        received += data.length;
      });
      socket.on('error', () => resolve(false));
      socket.on('close', () => resolve(received > size));
    });
    await sleep(2_000);
    const [before] = await gateway.apisix.workers();
    const began = Date.now();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(Date.now() - began).toBeLessThan(1_000);
    expect(before?.residentBytes).toBeLessThan(100 * MIB);
    expect(await isWhole).toBe(true);
  });

  test.each([9, 16, 32])('a header of %d KB reaches the backend', async (size) => {
    const value = 'h'.repeat(size * KIB);
    const body = JSON.stringify({ model: 'gpt-4o', messages: [] });
    const answer = await rawRequest(gateway.url, {
      method: 'POST',
      target: CHAT_PATH,
      headers: [
        ['api-key', CLIENT_KEY],
        ['Content-Type', 'application/json'],
        ['x-long', value],
      ],
      body,
    });
    expect(answer.status).toBe(200);
    expect(onlyRequest(backendOf(gateway, 0)).header('x-long')).toBe(value);
  });
});
