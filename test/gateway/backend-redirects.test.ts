/** A redirect of a backend never sends the gateway or its client to another server with a key. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, HOST, hostAddress, startGateway } from '../support/gateway.ts';
import { rawRequest } from '../support/raw-http.ts';
import { inOrder, logged } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('redirects of backends in the stock APISIX image');

const STATUSES = [300, 301, 302, 303, 307, 308] as const;

describe.skipIf(skipped)('a redirect of a backend', () => {
  let gateway: Gateway;
  let elsewhere: Server;
  const asked: string[] = [];
  let target: string;
  beforeAll(async () => {
    const host = await hostAddress();
    elsewhere = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      response.end('{}');
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, host, resolve));
    target = `http://${HOST}:${(elsewhere.address() as AddressInfo).port}/openai/v1/stolen`;
    gateway = await startGateway({ settings: inOrder(2) });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await gateway?.stop();
    elsewhere?.close();
  });
  beforeEach(() => {
    for (const mock of gateway.mocks) mock.reset();
  });

  const send = (method = 'POST') =>
    rawRequest(gateway.url, {
      method,
      target: '/openai/v1/chat/completions',
      headers: [
        ['api-key', CLIENT_KEY],
        ['Content-Type', 'application/json'],
      ],
      ...(method === 'POST' ? { body: '{"model":"gpt-4o","messages":[{"role":"user","content":"x"}]}' } : {}),
    });

  test.each(STATUSES)('to another server is not followed and leads to a failover: %i', async (status) => {
    gateway.mocks[0]?.script({ status, headers: { Location: target }, body: '' });
    const answer = await send();
    expect(answer.status).toBe(200);
    expect(answer.header('location')).toBeUndefined();
    expect(gateway.mocks.map(({ requests }) => requests.length)).toEqual([1, 1]);
    expect(asked).toEqual([]);
  });

  test('starts no cooldown', async () => {
    gateway.mocks[0]?.script({ status: 307, headers: { Location: target }, body: '' });
    await send();
    await send();
    expect(gateway.mocks.map(({ requests }) => requests.length)).toEqual([2, 1]);
  });

  test.each(STATUSES)(
    'to another server from every backend becomes a 502 without its Location: %i',
    async (status) => {
      for (const mock of gateway.mocks) mock.script({ status, headers: { Location: target }, body: 'moved' });
      const answer = await send();
      expect(answer.status).toBe(502);
      expect(answer.header('location')).toBeUndefined();
      expect(answer.header('retry-after')).toBeUndefined();
      expect(JSON.parse(answer.body.toString()).error).toMatchObject({
        code: 'upstream_redirect',
        type: 'server_error',
      });
      expect(answer.body.toString()).not.toContain(HOST);
      expect(asked).toEqual([]);
    },
  );

  test.each(['//elsewhere.test/x', '/\\elsewhere.test', 'https:elsewhere.test', 'ftp://elsewhere.test/'])(
    'to another server is recognised in the spelling %s',
    async (location) => {
      for (const mock of gateway.mocks)
        mock.script({ status: 302, headers: { Location: location }, body: '' });
      expect((await send()).status).toBe(502);
    },
  );

  test.each(['/openai/v1/other?a=b', 'other', '?a=b'])(
    'to a relative target is passed on, because it leads back to the gateway: %s',
    async (location) => {
      gateway.mocks[0]?.script({ status: 307, headers: { Location: location }, body: '' });
      const answer = await send();
      expect([answer.status, answer.header('location')]).toEqual([307, location]);
      expect(gateway.mocks[1]?.requests).toEqual([]);
    },
  );

  test('to the backend itself is passed on as a path of the gateway', async () => {
    const own = `http://${HOST}:${gateway.mocks[0]?.port}/openai/v1/other?a=b`;
    gateway.mocks[0]?.script({ status: 308, headers: { Location: own }, body: '' });
    const answer = await send();
    expect([answer.status, answer.header('location')]).toEqual([308, '/openai/v1/other?a=b']);
  });

  test.each([201, 202, 304])('is not assumed for status %i with a Location', async (status) => {
    gateway.mocks[0]?.script({ status, headers: { Location: target }, body: '' });
    const answer = await send('GET');
    expect([answer.status, answer.header('location')]).toEqual([status, target]);
  });

  test('to another server logs an error that names the setting and shows no address', async () => {
    const lines = await logged(gateway, 'error', 'redirects to another server');
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) {
      expect(line).toContain('AZURE_OPENAI_ENDPOINT_N');
      expect(line).not.toContain('stolen');
    }
  });
});
