/** The endpoints for operators have ports of their own, and none of them is reachable through the gateway's port. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, startGateway } from '../support/gateway.ts';
import { type Header, rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('what the ports of the stock APISIX image show');

/** Paths of metrics, status, control API, Admin API, nginx's status and older public APIs of APISIX. */
const PATHS = [
  '/apisix/prometheus/metrics',
  '/metrics',
  '/status',
  '/status/ready',
  '/v1/schema',
  '/v1/routes',
  '/v1/services',
  '/v1/plugin_metadatas',
  '/v1/plugins/reload',
  '/v1/gc',
  '/v1/healthcheck',
  '/v1/configs',
  '/apisix/admin/routes',
  '/apisix/admin/consumers',
  '/apisix/admin/configs',
  '/apisix/admin/configs/validate',
  '/apisix/admin/plugins/reload',
  '/apisix/plugin/node/status',
  '/apisix/plugin/server_info',
  '/apisix/status',
  '/apisix/nginx_status',
  '/apisix/batch-requests',
  '/apisix/dashboard',
  '/ui/',
] as const;

const HOSTS: readonly Header[] = [
  ['Host', '127.0.0.1:9090'],
  ['Host', 'localhost:9091'],
  ['Host', '0.0.0.0:7085'],
  ['Host', '[::1]:9180'],
];

describe.skipIf(skipped)('the ports of the gateway', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}] });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('are exactly the expected ones, on the expected addresses', async () => {
    const listening = await gateway.apisix.listening();
    const inside = (socket: string) => /^127\.0\.0\.1:|^\[::1\]:/.test(socket);
    expect(listening.filter((socket) => !inside(socket)).toSorted()).toEqual(
      ['0.0.0.0:7085', '0.0.0.0:7086', '0.0.0.0:9080', '0.0.0.0:9091', '[::]:7086', '[::]:9080'].toSorted(),
    );
    expect(listening.filter(inside)).toContain('127.0.0.1:9090');
    expect(listening.join(' ')).not.toMatch(/:9180\b/);
  });

  test('each serve their own endpoint', async () => {
    expect(
      await (await gateway.apisix.request(PORTS.metrics, '/apisix/prometheus/metrics')).text(),
    ).toContain('apisix_');
    expect((await gateway.apisix.request(PORTS.status, '/status/ready')).status).toBe(200);
    expect((await gateway.apisix.request(PORTS.probes, '/readyz')).status).toBe(200);
    expect(await gateway.apisix.control('/v1/routes')).toHaveLength(4);
  });

  test.each(PATHS)('do not serve %s on the proxy port, in any spelling', async (path) => {
    const spellings = [
      path,
      `${path}/`,
      `/${path}`,
      `/.${path}`,
      `/openai/v1/../..${path}`,
      `/openai/v1/%2e%2e/..${path}`,
      `/openai/..%2f${path.slice(1)}`,
      `/openai/v1;/../..${path}`,
      path.replace(/[a-z]/, (letter) => `%${letter.charCodeAt(0).toString(16)}`),
      `http://127.0.0.1:9090${path}`,
      `http://127.0.0.1:9091${path}`,
      `http://127.0.0.1:7085${path}`,
      `http://127.0.0.1:7086${path}`,
      `http://127.0.0.1:9180${path}`,
    ];
    for (const target of spellings) {
      for (const method of ['GET', 'POST', 'PUT']) {
        const headers: Header[] = [
          ['api-key', CLIENT_KEY],
          ['X-API-KEY', 'edd1c9f034335f136f87ad84b625c8f1'],
          ['X-Forwarded-For', '127.0.0.1'],
          ['X-Real-IP', '127.0.0.1'],
        ];
        const answer = await rawRequest(gateway.url, {
          method,
          target,
          headers,
          ...(method !== 'GET' && { body: '{}' }),
        });
        // A target with dot segments is rejected before any route is chosen.
        const climbs = /(?:^|\/)(?:\.|%2e){1,2}(?:\/|%2f)/i.test(target);
        const allowed = [404, ...(climbs ? [400] : []), ...(path === '/apisix/nginx_status' ? [403] : [])];
        expect(allowed, target).toContain(answer.status);
        expect(JSON.parse(answer.body.toString())).toMatchObject({ error: { param: null } });
      }
    }
    expect(gateway.mocks[0]?.requests).toHaveLength(0);
  });

  test.each(HOSTS)('do not depend on the header %s: %s', async (name, host) => {
    for (const path of PATHS) {
      const answer = await rawRequest(gateway.url, {
        target: path,
        headers: [
          [name, host],
          ['api-key', CLIENT_KEY],
        ],
      });
      expect([path, answer.status]).toEqual([path, path === '/apisix/nginx_status' ? 403 : 404]);
    }
  });
});
