/** APISIX_ACTIVE_HEALTH_CHECKS: every kind of failure, intervals, certificates, names and reloads. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour, MockBackend } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, hostAddress, quickMetrics } from '../support/gateway.ts';
import {
  backend,
  calls,
  changes,
  gateway,
  INTERVAL_MS,
  isProbe,
  PATH,
  probed,
  probes,
  served,
  start,
  stop,
  untilChanged,
} from '../support/health.ts';
import { type SilentPort, startSilentPort } from '../support/silent-port.ts';
import { inOrder, NO_COOLDOWN, resetMocks, until } from '../support/traffic.ts';

/** The shortest time between two probes of a backend in milliseconds, from the Nth probe on. */
function shortestGap(mock: MockBackend, from = 0): number {
  const times = probes(mock)
    .slice(from)
    .map(({ startedAt }) => startedAt);
  return Math.min(...times.slice(1).map((time, index) => time - (times[index] ?? 0)));
}

describe.skipIf(cannotRunGatewayTests('health checks'))('probes', () => {
  probed({ backends: [{}, {}, {}], settings: { AZURE_OPENAI_WEIGHT_2: '0' }, adapt: quickMetrics });

  test('come from one worker at the configured interval', async () => {
    resetMocks(gateway);
    await until(() => gateway.mocks.every((mock) => probes(mock).length >= 5), 12_000);
    for (const mock of gateway.mocks) expect(shortestGap(mock)).toBeGreaterThan(INTERVAL_MS * 0.7);
  }, 20_000);

  test('do not appear in the access log or in metrics of clients', async () => {
    await served(4);
    const lines = await gateway.accessLog();
    expect(lines.filter(({ path }) => path === PATH)).toEqual([]);
    expect(lines.length).toBeGreaterThan(0);
    const counted = (await gateway.metrics())
      .split('\n')
      .filter((line) => line.startsWith('apisix_http_status{'))
      .map((line) => Number(line.split(' ').at(-1)));
    expect(counted.reduce((sum, each) => sum + each, 0)).toBe(lines.length);
  }, 60_000);

  test('continue when any worker dies', async () => {
    for (const { pid } of await gateway.apisix.workers()) {
      const [mock] = gateway.mocks as [MockBackend];
      await gateway.apisix.killWorker(pid);
      mock.reset();
      await until(() => probes(mock).length >= 2, 8_000);
    }
    // Only one worker sends them.
    resetMocks(gateway);
    await until(() => probes(backend(1)).length >= 4, 12_000);
    expect(shortestGap(backend(1))).toBeGreaterThan(INTERVAL_MS * 0.7);
  }, 40_000);
});

describe.skipIf(cannotRunGatewayTests('health of backends'))('a backend', () => {
  probed({ settings: { ...inOrder(2), ...NO_COOLDOWN } });

  let before: number;
  beforeEach(async () => {
    resetMocks(gateway);
    await until(() => probes(backend(0)).length >= 2);
    before = (await changes('backend-0')).length;
    resetMocks(gateway);
  });

  const hanging: Behaviour = { path: /models/, hang: true };
  test.each<[string, Behaviour, RegExp]>([
    ['500', { path: /models/, status: 500 }, /: status 500; /],
    ['503', { path: /models/, status: 503 }, /: status 503; /],
    ['no answer', hanging, /: timeout; /],
    ['an answer that comes too late', { path: /models/, delayMs: 1_300 }, /: timeout; /],
    [
      'a reset connection',
      { path: /models/, reset: 'before-headers' },
      /: (?:connection reset by peer|closed); /,
    ],
  ])(
    'is unhealthy when its probes get %s, until one succeeds',
    async (_, behaviour, why) => {
      // Connections that earlier requests left open.
      const { open } = backend(0).connections;
      backend(0).always(behaviour);
      expect((await untilChanged('backend-0', before + 1)).at(-1)).toMatch(why);
      const counted = probes(backend(0)).length;
      await until(() => probes(backend(0)).length >= counted + 2, 8_000);
      // Probes do not overlap, and a repeated failure is not logged.
      expect(shortestGap(backend(0), counted)).toBeGreaterThan(INTERVAL_MS * 0.7);
      expect(backend(0).connections.open).toBeLessThanOrEqual(open + 1);
      expect(await served()).toEqual(Array(6).fill('200 backend-1 1'));
      expect(calls()).toEqual([0, 6]);
      expect((await changes('backend-0')).length).toBe(before + 1);
      backend(0).always(undefined);
      await untilChanged('backend-0', before + 2);
      expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
    },
    40_000,
  );

  test.each([200, 301, 403, 404, 429])(
    'is healthy when its probes get %i',
    async (status) => {
      backend(0).always({ path: /models/, status, ...(status < 400 ? { body: '' } : {}) });
      await until(() => probes(backend(0)).filter((probe) => probe.status === status).length >= 3, 8_000);
      await sleep(200);
      expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
      expect((await changes('backend-0')).length).toBe(before);
    },
    20_000,
  );

  test('is healthy after a single failed probe', async () => {
    backend(0).script({ path: /models/, status: 500 });
    await until(() => probes(backend(0)).length >= 3, 8_000);
    expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
    expect((await changes('backend-0')).length).toBe(before);
  }, 20_000);

  test('is not used when it is unhealthy and the healthy backend is throttled', async () => {
    backend(0).always({ path: /models/, status: 500 });
    await untilChanged('backend-0', before + 1);
    backend(1).script(answers.throttled({ retryAfter: 7 }));
    const answer = await gateway.chat('gpt-4o');
    expect(answer.status).toBe(429);
    expect(calls()).toEqual([0, 1]);
    backend(0).always(undefined);
    await untilChanged('backend-0', before + 2);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('health of all backends'))('when all backends are unhealthy', () => {
  probed({ settings: inOrder(2) });
  afterEach(() => resetMocks(gateway));

  test('they are used in their order, because probes alone must not reject requests', async () => {
    for (const mock of gateway.mocks) mock.always({ path: /models/, status: 500 });
    await Promise.all(['backend-0', 'backend-1'].map((name) => untilChanged(name, 1)));
    expect(await served(4)).toEqual(Array(4).fill('200 backend-0 1'));
    backend(0).script(answers.throttled({ retryAfter: 30 }));
    expect(await served(3)).toEqual(['200 backend-1 2', '200 backend-1 1', '200 backend-1 1']);
    expect(calls()).toEqual([5, 3]);
  }, 30_000);

  test('and none can be reached, every request fails at once', async () => {
    await Promise.all(gateway.mocks.map((mock) => mock.stop()));
    expect((await gateway.chat('gone')).status).toBe(502);
    const began = performance.now();
    const answer = await gateway.chat('gone');
    expect(answer.status).toBe(502);
    expect(answer.headers.has('retry-after')).toBe(false);
    expect(performance.now() - began).toBeLessThan(500);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('health checks of a silent backend'))(
  'a backend that does not answer connections',
  () => {
    let silent: SilentPort;
    beforeAll(async () => {
      silent = await startSilentPort(await hostAddress());
      await start({
        settings: {
          ...inOrder(2),
          AZURE_OPENAI_ENDPOINT_0: `http://host.docker.internal:${silent.port}`,
          AI_PROXY_CONNECT_TIMEOUT: '10s',
        },
      })();
    }, CONTAINER_TIMEOUT_MS);
    afterAll(async () => {
      silent?.stop();
      await stop();
    });

    test('delays no request, not even for an object that it may own', async () => {
      expect(await untilChanged('backend-0', 1)).toEqual([expect.stringContaining('timeout')]);
      const began = performance.now();
      expect(await served(10)).toEqual(Array(10).fill('200 backend-1 1'));
      const stored = await gateway.fetch('/openai/v1/responses/resp_00000000000000000000000000000000');
      expect(stored.status).toBe(503);
      expect(performance.now() - began).toBeLessThan(3_000);
    }, 30_000);
  },
);

describe.skipIf(cannotRunGatewayTests('health checks of a name'))('a backend with an unknown host', () => {
  probed({ settings: { ...inOrder(2), AZURE_OPENAI_ENDPOINT_0: 'http://no-such-backend.test' } });

  test('is skipped, with one log line about its name and one about its health', async () => {
    expect(await untilChanged('backend-0', 1)).toEqual([
      expect.stringMatching(/^unhealthy; its probe failed: /),
    ]);
    await sleep(3_000);
    expect(await served(4)).toEqual(Array(4).fill('200 backend-1 1'));
    const log = await gateway.apisix.log();
    expect(log.split('\n').filter((line) => /no-such-backend|backend-0/.test(line))).toEqual([
      expect.stringContaining('the host no-such-backend.test cannot be resolved: '),
      expect.stringContaining('backend backend-0 is unhealthy'),
    ]);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('certificates in health checks'))('probes over TLS', () => {
  const pem = (name: string) =>
    readFileSync(new URL(`../support/tls/self-signed.${name}`, import.meta.url), 'utf8');
  const tls = { key: pem('key'), cert: pem('crt') };

  describe('to an untrusted certificate', () => {
    probed({ backends: [{ tls }, {}], settings: inOrder(2) });

    test('find the backend unhealthy', async () => {
      expect(await untilChanged('backend-0', 1)).toEqual([expect.stringMatching(/certificate/)]);
      expect(await served()).toEqual(Array(6).fill('200 backend-1 1'));
    }, 30_000);
  });

  describe('with APISIX_ACTIVE_HEALTH_CHECK_VERIFY_CERT=false', () => {
    probed({
      backends: [{ tls }, {}],
      settings: { ...inOrder(2), APISIX_ACTIVE_HEALTH_CHECK_VERIFY_CERT: 'false' },
    });

    test('accept any certificate', async () => {
      await until(() => probes(backend(0)).length >= 3, 10_000);
      expect(probes(backend(0))[0]?.header('host')).toBe(`host.docker.internal:${backend(0).port}`);
      expect(await changes('backend-0')).toEqual([]);
    }, 20_000);
  });

  describe('with APISIX_ACTIVE_HEALTH_CHECK_SCHEME=https', () => {
    probed({
      backends: [{}, {}],
      settings: { ...inOrder(2), APISIX_ACTIVE_HEALTH_CHECK_SCHEME: 'https' },
    });

    test('find backends with plain HTTP unhealthy', async () => {
      await Promise.all(['backend-0', 'backend-1'].map((name) => untilChanged(name, 1)));
      expect(gateway.mocks.map((mock) => probes(mock).length)).toEqual([0, 0]);
      expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
    }, 30_000);
  });
});

describe.skipIf(cannotRunGatewayTests('health checks and reloads'))('a reload', () => {
  probed({
    backends: [{}, { keys: [backendKey(0), backendKey(1)] }, {}],
    settings: { ...inOrder(3), ...NO_COOLDOWN },
  });

  const rendered = () => gateway.documents['apisix.yaml'];
  const port = (index: number) => `:${backend(index).port}"`;
  /** The instance of backend N as rendered. */
  const instance = (index: number): string => {
    const [found = ''] =
      new RegExp(`^ *- name: "backend-${index}"\\n(?: +(?!- name|routes).*\\n)*`, 'm').exec(rendered()) ?? [];
    return found;
  };

  test('starts probes of new backends and ends those of removed ones', async () => {
    await gateway.apisix.reload(rendered().replace(instance(2), ''));
    // Wait for a probe that had already begun.
    await sleep(1_500);
    resetMocks(gateway);
    await until(() => [0, 1].every((index) => probes(backend(index)).length >= 3), 10_000);
    expect(probes(backend(2)).length).toBe(0);

    await gateway.apisix.reload(rendered());
    resetMocks(gateway);
    await until(() => probes(backend(2)).length >= 2, 5_000);
  }, 40_000);

  test('keeps the known health of backends', async () => {
    backend(0).always({ path: /models/, status: 500 });
    await untilChanged('backend-0', 1);
    await gateway.apisix.reload(rendered().replace(/^( *)stream_hold_ms: .*$/m, '$1stream_hold_ms: 10'));
    expect(await served(3)).toEqual(Array(3).fill('200 backend-1 1'));
    expect(calls()[0]).toBe(0);
    expect(await changes('backend-0')).toHaveLength(1);
  }, 40_000);

  test('changes the path of the probes', async () => {
    await gateway.apisix.reload(rendered().replace(`path: "${PATH}"`, 'path: "/healthy"'));
    resetMocks(gateway);
    await until(() => probes(backend(0)).length >= 1, 5_000);
    expect(probes(backend(0))[0]?.target).toBe('/healthy');
    expect(await untilChanged('backend-0', 2)).toEqual([
      expect.stringMatching(/^unhealthy/),
      expect.stringMatching(/^healthy/),
    ]);
  }, 40_000);

  test('resets the health of a backend whose endpoint changes', async () => {
    await gateway.apisix.reload(rendered());
    resetMocks(gateway);
    backend(0).always({ path: /models/, status: 500 });
    await untilChanged('backend-0', 3);
    const swapped = rendered().replace(port(0), ':0"').replace(port(1), port(0)).replace(':0"', port(1));
    await gateway.apisix.reload(swapped);
    resetMocks(gateway);
    expect((await gateway.chat('gpt-4o')).headers.get('x-gateway-backend')).toBe('backend-0');
    const sent = backend(1).requests.filter((each) => !isProbe(each));
    expect(sent.map((each) => each.header('api-key'))).toEqual([backendKey(0)]);
  }, 40_000);

  test('that disables probes ends them and discards their results', async () => {
    await gateway.apisix.reload(rendered());
    resetMocks(gateway);
    backend(0).always({ path: /models/, status: 500 });
    const told = await changes('backend-0');
    await untilChanged('backend-0', told.length + 1);
    await gateway.apisix.reload(rendered().replace(/^( *)health_checks:\n(?:\1 +.*\n)+/m, ''));
    await sleep(1_500);
    resetMocks(gateway);
    await sleep(3_000);
    expect(gateway.mocks.map((mock) => probes(mock).length)).toEqual([0, 0, 0]);
    expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
  }, 40_000);
});
