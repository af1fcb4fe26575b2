/** APISIX_ACTIVE_HEALTH_CHECKS: backends are probed in the background, and passed over while that fails. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import {
  backendKey,
  type Gateway,
  type GatewayOptions,
  hostAddress,
  startGateway,
} from '../support/gateway.ts';
import * as answers from '../support/mock-azure-openai/answers.ts';
import type { Behaviour, MockBackend, RecordedRequest } from '../support/mock-azure-openai/server.ts';
import { type SilentPort, startSilentPort } from '../support/silent-port.ts';
import { backendOf, inOrder, NO_COOLDOWN, resetMocks, until } from '../support/traffic.ts';

const PATH = '/openai/v1/models';
const INTERVAL_MS = 1_000;
/** A probe that is due waits for the next look; and a backend is asked once more, a second later, before it is unhealthy. */
const NOTICED_MS = INTERVAL_MS + 1_000 + 1_000 + 2 * 500;
const EVERY_SECOND = {
  APISIX_ACTIVE_HEALTH_CHECKS: 'true',
  APISIX_ACTIVE_HEALTH_CHECK_HEALTHY_INTERVAL: '1s',
  APISIX_ACTIVE_HEALTH_CHECK_UNHEALTHY_INTERVAL: '1s',
};

let gateway: Gateway;
const start =
  ({ settings, ...options }: GatewayOptions = {}) =>
  async () => {
    gateway = await startGateway({
      ...options,
      settings: { GATEWAY_BACKEND_HEADER: 'true', ...EVERY_SECOND, ...settings },
    });
  };
const stop = () => gateway?.stop();
const backend = (index: number) => backendOf(gateway, index);

const isProbe = (request: RecordedRequest) => request.header('user-agent') === 'genai-gateway-health-check';
const probes = ({ requests }: MockBackend): RecordedRequest[] => requests.filter(isProbe);
/** How many requests of clients each of the backends got. */
const calls = (): number[] =>
  gateway.mocks.map(({ requests }) => requests.filter((each) => !isProbe(each)).length);

/** What the log says of a backend's health, in order. */
async function changes(name: string): Promise<string[]> {
  const lines = (await gateway.apisix.log()).split('\n');
  return lines.flatMap((line) => {
    const [, change] =
      new RegExp(`\\[warn\\].*: backend ${name} is ([^,]*healthy.*?), (?:context|client)`).exec(line) ?? [];
    return change === undefined ? [] : [change];
  });
}

/** Until the log says so much of a backend's health. */
async function untilChanged(name: string, count: number, timeoutMs = NOTICED_MS + 5_000): Promise<string[]> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await changes(name);
    if (found.length >= count) return found;
    if (performance.now() > deadline) {
      throw new Error(`the log says of ${name} only ${JSON.stringify(found)}`);
    }
  }
}

/** Some requests; the backend and the number of attempts of each. */
async function served(count = 6): Promise<string[]> {
  const found = [];
  for (let sent = 0; sent < count; sent++) {
    const answer = await gateway.chat('gpt-4o', {}, { connection: 'close' });
    found.push(
      `${answer.status} ${answer.headers.get('x-gateway-backend')} ${answer.headers.get('x-gateway-attempts')}`,
    );
  }
  return found;
}

describe.skipIf(cannotRunGatewayTests('health checks'))('probes', () => {
  beforeAll(
    start({ backends: [{}, {}, {}], settings: { AZURE_OPENAI_WEIGHT_2: '0' } }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);

  test('begin by themselves, at every backend, a drained one too', async () => {
    await until(() => gateway.mocks.every((mock) => probes(mock).length >= 2), 10_000);
    expect(calls()).toEqual([0, 0, 0]);
  });

  test('come from one worker, at their interval', async () => {
    resetMocks(gateway);
    await sleep(10_000);
    for (const mock of gateway.mocks) {
      expect(probes(mock).length).toBeGreaterThanOrEqual(5);
      expect(probes(mock).length).toBeLessThanOrEqual(11);
    }
  }, 20_000);

  test('carry no credential, and nothing of a client', () => {
    for (const mock of gateway.mocks) {
      for (const probe of probes(mock)) {
        expect([probe.method, probe.target, probe.status]).toEqual(['GET', PATH, 401]);
        expect(probe.body.length).toBe(0);
        expect(Object.fromEntries(probe.headers)).toEqual({
          host: `host.docker.internal:${mock.port}`,
          'user-agent': 'genai-gateway-health-check',
          accept: '*/*',
          connection: 'close',
        });
      }
    }
  });

  test('get a 401, which is healthy, and say nothing in the log', async () => {
    expect(await served(4)).toEqual(expect.arrayContaining([expect.stringMatching(/^200 backend-[01] 1$/)]));
    expect(await gateway.apisix.log()).not.toMatch(/healthy|probe/);
  });

  test('are no requests of clients in the access log and in metrics', async () => {
    const lines = await gateway.accessLog();
    expect(lines.filter(({ path }) => path === PATH)).toEqual([]);
    expect(lines.length).toBeGreaterThan(0);
    const counted = (await gateway.metrics())
      .split('\n')
      .filter((line) => line.startsWith('apisix_http_status{'))
      .map((line) => Number(line.split(' ').at(-1)));
    expect(counted.reduce((sum, each) => sum + each, 0)).toBe(lines.length);
  }, 60_000);

  test('go on when a worker dies, whichever it is', async () => {
    for (const { pid } of await gateway.apisix.workers()) {
      const [mock] = gateway.mocks as [MockBackend];
      await gateway.apisix.killWorker(pid);
      mock.reset();
      await until(() => probes(mock).length >= 2, 8_000);
    }
    resetMocks(gateway);
    await sleep(5_000);
    expect(probes(backend(1)).length).toBeGreaterThanOrEqual(2);
    expect(probes(backend(1)).length).toBeLessThanOrEqual(6);
  }, 40_000);
});

describe.skipIf(cannotRunGatewayTests('health of backends'))('a backend', () => {
  beforeAll(start({ settings: { ...inOrder(2), ...NO_COOLDOWN } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  let before: number;
  beforeEach(async () => {
    resetMocks(gateway);
    await until(() => probes(backend(0)).length >= 2);
    before = (await changes('backend-0')).length;
    resetMocks(gateway);
  });

  test('that is gone gets no request; when it is back it gets them again, within the interval', async () => {
    await backend(0).stop();
    const told = await untilChanged('backend-0', before + 1);
    expect(told.at(-1)).toMatch(/^unhealthy, says its probe: connection refused; it is passed over/);
    expect(await served(20)).toEqual(Array(20).fill('200 backend-1 1'));
    const upstreams = (await gateway.accessLog()).slice(-20).map(({ upstream }) => upstream);
    expect(upstreams).toEqual(Array(20).fill(`host.docker.internal:${backend(1).port}`));

    backend(0).reset();
    await backend(0).restart();
    await until(() => probes(backend(0)).length >= 1, INTERVAL_MS + 1_500);
    await sleep(200);
    expect(await served(4)).toEqual(Array(4).fill('200 backend-0 1'));
    expect((await changes('backend-0')).slice(before)).toEqual([
      expect.stringMatching(/^unhealthy, /),
      'healthy again, says its probe: status 401',
    ]);
  }, 40_000);

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
    'whose probes get %s is unhealthy until one succeeds',
    async (_, behaviour, why) => {
      // Those that requests left open.
      const { open } = backend(0).connections;
      backend(0).always(behaviour);
      expect((await untilChanged('backend-0', before + 1)).at(-1)).toMatch(why);
      const counted = probes(backend(0)).length;
      await sleep(3_500);
      // They do not pile up, and each leaves the log alone.
      expect(probes(backend(0)).length - counted).toBeGreaterThanOrEqual(2);
      expect(probes(backend(0)).length - counted).toBeLessThanOrEqual(4);
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
    'whose probes get %i is healthy',
    async (status) => {
      backend(0).always({ path: /models/, status, ...(status < 400 ? { body: '' } : {}) });
      await until(() => probes(backend(0)).filter((probe) => probe.status === status).length >= 3, 8_000);
      await sleep(200);
      expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
      expect((await changes('backend-0')).length).toBe(before);
    },
    20_000,
  );

  test('whose probe fails once is healthy', async () => {
    backend(0).script({ path: /models/, status: 500 });
    await until(() => probes(backend(0)).length >= 3, 8_000);
    expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
    expect((await changes('backend-0')).length).toBe(before);
  }, 20_000);

  test('that is unhealthy still gets what only it can serve', async () => {
    const openai = gateway.openai();
    const { id } = await openai.responses.create({ model: 'gpt-4o', input: 'Hello' });
    backend(0).always({ path: /models/, status: 500 });
    await untilChanged('backend-0', before + 1);
    await openai.responses.create({ model: 'gpt-4o', input: 'And?', previous_response_id: id });
    await openai.responses.retrieve(id);
    expect(calls()).toEqual([3, 0]);
    expect(await served(2)).toEqual(Array(2).fill('200 backend-1 1'));
    backend(0).always(undefined);
    await untilChanged('backend-0', before + 2);
  }, 30_000);

  test('that is unhealthy is not tried when the healthy one is throttled', async () => {
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

describe.skipIf(cannotRunGatewayTests('health of all backends'))('when all are unhealthy', () => {
  beforeAll(start({ settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  afterEach(() => resetMocks(gateway));

  test('they are tried in their order: probes alone refuse nothing', async () => {
    for (const mock of gateway.mocks) mock.always({ path: /models/, status: 500 });
    await Promise.all(['backend-0', 'backend-1'].map((name) => untilChanged(name, 1)));
    expect(await served(4)).toEqual(Array(4).fill('200 backend-0 1'));
    backend(0).script(answers.throttled({ retryAfter: 30 }));
    expect(await served(3)).toEqual(['200 backend-1 2', '200 backend-1 1', '200 backend-1 1']);
    expect(calls()).toEqual([5, 3]);
  }, 30_000);

  test('and none can be reached, every request finds that out at once', async () => {
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
  'a backend that nobody answers at',
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

    test('keeps no request waiting, nor one that names what it may have', async () => {
      expect(await untilChanged('backend-0', 1)).toEqual([expect.stringContaining('timeout')]);
      const began = performance.now();
      expect(await served(10)).toEqual(Array(10).fill('200 backend-1 1'));
      const stored = await gateway.fetch('/openai/v1/responses/resp_00000000000000000000000000000000');
      expect(stored.status).toBe(503);
      expect(performance.now() - began).toBeLessThan(3_000);
    }, 30_000);
  },
);

describe.skipIf(cannotRunGatewayTests('health checks of a name'))('a backend whose name nobody knows', () => {
  beforeAll(
    start({ settings: { ...inOrder(2), AZURE_OPENAI_ENDPOINT_0: 'http://no-such-backend.test' } }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);

  test('is passed over, with one line in the log', async () => {
    expect(await untilChanged('backend-0', 1)).toEqual([
      expect.stringMatching(/^unhealthy, says its probe: /),
    ]);
    await sleep(3_000);
    expect(await served(4)).toEqual(Array(4).fill('200 backend-1 1'));
    const log = await gateway.apisix.log();
    expect(log.split('\n').filter((line) => /no-such-backend|backend-0/.test(line))).toHaveLength(1);
  }, 30_000);
});

describe.skipIf(cannotRunGatewayTests('certificates in health checks'))('TLS', () => {
  const pem = (name: string) =>
    readFileSync(new URL(`../support/tls/self-signed.${name}`, import.meta.url), 'utf8');
  const tls = { key: pem('key'), cert: pem('crt') };

  describe('with a certificate that nobody trusts', () => {
    beforeAll(start({ backends: [{ tls }, {}], settings: inOrder(2) }), CONTAINER_TIMEOUT_MS);
    afterAll(stop);

    test('a backend is unhealthy', async () => {
      expect(await untilChanged('backend-0', 1)).toEqual([expect.stringMatching(/certificate/)]);
      expect(await served()).toEqual(Array(6).fill('200 backend-1 1'));
    }, 30_000);
  });

  describe('with VERIFY_CERT=false', () => {
    beforeAll(
      start({
        backends: [{ tls }, {}],
        settings: { ...inOrder(2), APISIX_ACTIVE_HEALTH_CHECK_VERIFY_CERT: 'false' },
      }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);

    test('it is healthy', async () => {
      await until(() => probes(backend(0)).length >= 3, 10_000);
      expect(probes(backend(0))[0]?.header('host')).toBe(`host.docker.internal:${backend(0).port}`);
      expect(await changes('backend-0')).toEqual([]);
    }, 20_000);
  });

  describe('with SCHEME=https', () => {
    beforeAll(
      start({
        backends: [{}, {}],
        settings: { ...inOrder(2), APISIX_ACTIVE_HEALTH_CHECK_SCHEME: 'https' },
      }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);

    test('backends that speak HTTP at their port are unhealthy', async () => {
      await Promise.all(['backend-0', 'backend-1'].map((name) => untilChanged(name, 1)));
      expect(gateway.mocks.map((mock) => probes(mock).length)).toEqual([0, 0]);
      expect(await served(2)).toEqual(Array(2).fill('200 backend-0 1'));
    }, 30_000);
  });
});

describe.skipIf(cannotRunGatewayTests('health checks and reloads'))('a reload', () => {
  beforeAll(
    start({
      backends: [{}, { keys: [backendKey(0), backendKey(1)] }, {}],
      settings: { ...inOrder(3), ...NO_COOLDOWN },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);

  const rendered = () => gateway.documents['apisix.yaml'];
  const port = (index: number) => `:${backend(index).port}"`;
  /** The instance of backend N, as it was rendered. */
  const instance = (index: number): string => {
    const [found = ''] =
      new RegExp(`^ *- name: "backend-${index}"\\n(?: +(?!- name|routes).*\\n)*`, 'm').exec(rendered()) ?? [];
    return found;
  };

  test('brings new backends and takes others away', async () => {
    await gateway.apisix.reload(rendered().replace(instance(2), ''));
    await sleep(1_500);
    resetMocks(gateway);
    await sleep(3_000);
    expect(gateway.mocks.map((mock) => probes(mock).length >= 2)).toEqual([true, true, false]);
    expect(probes(backend(2)).length).toBe(0);

    await gateway.apisix.reload(rendered());
    resetMocks(gateway);
    await until(() => probes(backend(2)).length >= 2, 5_000);
  }, 40_000);

  test('does not interrupt what is known', async () => {
    backend(0).always({ path: /models/, status: 500 });
    await untilChanged('backend-0', 1);
    await gateway.apisix.reload(rendered().replace(/^( *)stream_hold_ms: .*$/m, '$1stream_hold_ms: 10'));
    expect(await served(3)).toEqual(Array(3).fill('200 backend-1 1'));
    expect(calls()[0]).toBe(0);
    expect(await changes('backend-0')).toHaveLength(1);
  }, 40_000);

  test('with another path probes that', async () => {
    await gateway.apisix.reload(rendered().replace(`path: "${PATH}"`, 'path: "/healthy"'));
    resetMocks(gateway);
    await until(() => probes(backend(0)).length >= 1, 5_000);
    expect(probes(backend(0))[0]?.target).toBe('/healthy');
    expect(await untilChanged('backend-0', 2)).toEqual([
      expect.stringMatching(/^unhealthy/),
      expect.stringMatching(/^healthy/),
    ]);
  }, 40_000);

  test('that points a backend elsewhere leaves nothing of its health', async () => {
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

  test('that turns them off ends them, and what they said', async () => {
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
