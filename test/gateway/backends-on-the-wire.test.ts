/** Backends that answer early or slowly, and ports that do not speak the protocol of their endpoint. */
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, HOST, hostAddress, startGateway } from '../support/gateway.ts';
import { NO_COOLDOWN } from '../support/traffic.ts';

const KEY = 'key-of-the-backends-0123456789';
const MIB = 2 ** 20;
const pem = (name: string) =>
  readFileSync(new URL(`../support/tls/self-signed.${name}`, import.meta.url), 'utf8');
const TLS = { key: pem('key'), cert: pem('crt') };

let gateway: Gateway;
let healthy: MockBackend;
let secure: MockBackend;
const servers: Server[] = [];
const sockets = new Set<Socket>();
let uploads = 0;

async function listen(host: string, server: Server): Promise<number> {
  servers.push(server);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as { port: number }).port;
}

const answer = (status: string, body: string) =>
  `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
const TOO_LARGE = '{"error":{"code":"413","message":"File too large for this resource."}}';

/** A server that answers after 64 KB of a request and closes without reading the rest. */
const early = (status: string, body: string) =>
  createServer((socket) => {
    let received = 0;
    uploads += 1;
    socket.on('data', (data) => {
      received += data.length;
      if (received <= 65_536) return;
      socket.pause();
      socket.removeAllListeners('data');
      socket.end(answer(status, body));
      setTimeout(() => socket.destroy(), 50);
    });
  });

/** A server that sends the head of its answer one byte at a time. */
const trickling = () =>
  createServer((socket) => {
    socket.once('data', () => {
      const head = `HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(10_000)}`;
      let sent = 0;
      const timer = setInterval(() => socket.write(head[sent++] ?? 'x'), 200);
      socket.on('close', () => clearInterval(timer));
    });
  });

/** A server that announces its answer with status 102, then takes longer than the timeout for a head. */
const thinking = () =>
  createServer((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 102 Processing\r\n\r\n');
      setTimeout(() => socket.end(answer('200 OK', '{"id":"thought"}')), 12_000);
    });
  });

/** A TLS port as OpenSSL behaves: it sends an alert for plain text and keeps the connection open. */
const alerting = () =>
  createServer((socket) => {
    socket.once('data', () => socket.write(Buffer.from([21, 3, 1, 0, 2, 2, 70])));
  });

/** A TLS port as nginx behaves: it answers plain HTTP with 400. */
const complaining = () =>
  createServer((socket) => {
    socket.once('data', () =>
      socket.end(
        'HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n' +
          '<html><center>The plain HTTP request was sent to HTTPS port</center></html>',
      ),
    );
  });

interface Met {
  readonly status: number;
  readonly ms: number;
  readonly text: string;
}

async function ask(model: string, size = 0): Promise<Met> {
  const began = Date.now();
  const response = await gateway.chat(model, size > 0 ? { filler: 'x'.repeat(size) } : {});
  const text = await response.text();
  return { status: response.status, ms: Date.now() - began, text };
}

describe.skipIf(cannotRunGatewayTests('backends on the wire'))('a backend', () => {
  beforeAll(async () => {
    const host = await hostAddress();
    healthy = await startMockAzureOpenAI({ host, keys: [KEY] });
    secure = await startMockAzureOpenAI({ host, keys: [KEY], tls: TLS });
    const http = async (server: Server) => `http://${HOST}:${await listen(host, server)}`;
    const good = `http://${HOST}:${healthy.port}`;
    const endpoints: readonly (readonly [string, readonly string[]])[] = [
      ['early', [await http(early('413 Payload Too Large', TOO_LARGE)), good]],
      ['throttled', [await http(early('429 Too Many Requests', '{"error":{"code":"429"}}')), good]],
      ['trickle', [await http(trickling()), good]],
      ['thinking', [await http(thinking())]],
      ['alert', [await http(alerting()), good]],
      ['complaint', [await http(complaining()), good]],
      ['plain', [`https://${HOST}:${healthy.port}`, good]],
      ['untrusted', [`https://${HOST}:${secure.port}`, good]],
    ];
    const list = endpoints.flatMap(([model, all]) => all.map((url) => [model, url] as const));
    gateway = await startGateway({
      backends: [],
      settings: {
        ...NO_COOLDOWN,
        ...Object.fromEntries(
          list.flatMap(([model, url], index) => [
            [`AZURE_OPENAI_ENDPOINT_${index}`, url],
            [`AZURE_OPENAI_KEY_${index}`, KEY],
            [`AZURE_OPENAI_DEPLOYMENTS_${index}`, model],
            [`AZURE_OPENAI_PRIORITY_${index}`, String(list.length - index)],
          ]),
        ),
        GATEWAY_WORKERS: '1',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
    await Promise.all([healthy?.stop(), secure?.stop()]);
  });

  test('that answers 413 during the upload: returns its answer, without a second upload', async () => {
    healthy.reset();
    uploads = 0;
    const { status, text } = await ask('early', 20 * MIB);
    expect([status, text]).toEqual([413, TOO_LARGE]);
    expect([uploads, healthy.requests.length]).toEqual([1, 0]);
  });

  test('that answers 429 during the upload: sends the body to the next backend', async () => {
    healthy.reset();
    uploads = 0;
    expect((await ask('throttled', 2 * MIB)).status).toBe(200);
    expect([uploads, healthy.requests.length]).toEqual([1, 1]);
  });

  test('that sends its head byte by byte: fails over after ten seconds', async () => {
    const { status, ms } = await ask('trickle');
    expect(status).toBe(200);
    expect(ms).toBeGreaterThan(9_500);
    expect(ms).toBeLessThan(13_000);
  });

  test('that sends 102 and then takes long: returns its answer', async () => {
    const { status, text } = await ask('thinking');
    expect([status, text]).toEqual([200, '{"id":"thought"}']);
  });

  test.each([
    [
      'that speaks TLS at an endpoint of http:// (an alert)',
      'alert',
      /speaks TLS, and its endpoint begins with http:\/\/.*Write https:\/\/ into/,
    ],
    [
      'that speaks TLS at an endpoint of http:// (a 400)',
      'complaint',
      /speaks TLS, and its endpoint begins with http:\/\/.*Write https:\/\/ into/,
    ],
    [
      'that speaks plain HTTP at an endpoint of https://',
      'plain',
      /speaks plain HTTP, and its endpoint begins with https:\/\/.*Write http:\/\/ into/,
    ],
    [
      'with a certificate that is not trusted',
      'untrusted',
      /\[error\].*the certificate of \S+ cannot be verified: self.signed.*GATEWAY_TRUSTED_CA_FILE/,
    ],
  ])('%s: fails over at once and logs the cause', async (_, model, line) => {
    const { status, ms } = await ask(model);
    expect(status).toBe(200);
    expect(ms).toBeLessThan(1_000);
    await expect.poll(() => gateway.apisix.logSoFar(), { timeout: 5_000 }).toMatch(line);
    expect(secure.requests).toHaveLength(0);
  });
});
