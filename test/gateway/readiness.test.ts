/** `/readyz` tells whether what was rendered is what every worker serves, item by item; `/healthz` that one answers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Documents } from '../../compiler/emit/emit.ts';
import { withManifest } from '../../compiler/emit/manifest.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS, parseAsApisix } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { throttled } from '../support/mock-azure-openai/answers.ts';
import { rawRequest } from '../support/raw-http.ts';

const skipped = cannotRunGatewayTests('readiness of the stock APISIX image');

/** Longer than a reload and the time for which a gateway that was ready stays so. */
const PATIENCE_MS = 40_000;

interface Readiness {
  readonly status: string;
  readonly workers: number;
  readonly configuration: string;
  readonly reasons?: readonly string[];
}

interface Item {
  id?: string;
  username?: string;
  [member: string]: unknown;
}

interface AiInstance {
  weight: number;
  auth: object;
}

interface Service {
  plugins: {
    'ai-proxy-multi': { instances: [AiInstance, AiInstance] };
  };
}

interface File {
  routes: Item[];
  services: [Item & Service];
  consumers: Item[];
  plugin_metadata: Item[];
}

/** A rendered file with something changed in it afterwards: its manifest is still that of the render. */
function edited(apisixYaml: string, edit: (file: File) => void): string {
  const file = parseAsApisix(apisixYaml) as File;
  edit(file);
  const comments = apisixYaml.split('\n').filter((line) => line.startsWith('# '));
  return [...comments, JSON.stringify(file), '#END', ''].join('\n');
}

async function readiness(gateway: Gateway, port: number = PORTS.probes) {
  const answer = await gateway.apisix.request(port, '/readyz', {
    // As probes do: a new connection each time, and not for ever.
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(2_000),
  });
  return { status: answer.status, body: (await answer.json()) as Readiness };
}

/** Asks until the answer is as wanted; the last one otherwise. */
async function readinessWhen(gateway: Gateway, wanted: (body: Readiness, status: number) => boolean) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    // A worker that hangs may have been given the connection.
    const last = await readiness(gateway).catch(() => undefined);
    if (last && (wanted(last.body, last.status) || Date.now() > deadline)) return last;
    await sleep(50);
  }
}

const settled = (gateway: Gateway) =>
  readinessWhen(gateway, ({ reasons }, status) => status === 200 && reasons === undefined);

/** The statuses that a probe sees while something happens, and until nothing speaks against readiness any more. */
async function statusesDuring(gateway: Gateway, action: () => Promise<unknown>): Promise<number[]> {
  const seen = new Set<number>();
  let isOver = false;
  const polling = (async () => {
    while (!isOver) {
      for (const port of [PORTS.probes, PORTS.proxy]) {
        // A probe that a crashing worker had taken gets no answer.
        const answer = await readiness(gateway, port).catch(() => undefined);
        if (answer) seen.add(answer.status);
      }
      await sleep(10);
    }
  })();
  try {
    await action();
    await settled(gateway);
  } finally {
    isOver = true;
    await polling;
  }
  return [...seen];
}

const apisixSaysReady = async (gateway: Gateway) =>
  (await gateway.apisix.request(PORTS.status, '/status/ready')).status;

/** Metadata of a plugin, which else only gateways with very many clients have, as the manifest names it. */
const withMetadata = (documents: Documents): Documents => {
  const text = documents['apisix.yaml']
    .replace(/^# genai-gateway manifest: .*\n/m, '')
    .replace(
      /\n#END/,
      '\nplugin_metadata:\n  - id: "prometheus"\n    disabled_labels: {"http_latency": ["consumer"]}\n#END',
    );
  return { ...documents, 'apisix.yaml': withManifest(text, parseAsApisix(text)) };
};

describe.skipIf(skipped)('readiness', () => {
  let gateway: Gateway;
  let rendered: string;

  beforeAll(async () => {
    gateway = await startGateway({
      settings: {
        AZURE_OPENAI_WEIGHT_1: '0',
      },
      adapt: withMetadata,
    });
    rendered = gateway.documents['apisix.yaml'];
    // Workers do not all begin at once.
    await settled(gateway);
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  describe('of a gateway that is well', () => {
    test.each([
      ['the proxy port', PORTS.proxy],
      ['the port for probes', PORTS.probes],
    ])('is told on %s, to anybody', async (_, port) => {
      const answer = await gateway.apisix.request(port, '/readyz?from=a-probe');
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(answer.headers.get('cache-control')).toBe('no-store');
      expect(await answer.json()).toEqual({
        status: 'ready',
        // Only those who reach the port for probes learn more.
        ...(port === PORTS.proxy
          ? {}
          : {
              workers: 2,
              configuration: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
            }),
      });
      const alive = await gateway.apisix.request(port, '/healthz');
      expect(alive.status).toBe(200);
      expect(await alive.json()).toEqual({ status: 'alive' });
    });

    test.each(['/readyz', '/healthz'])('%s takes GET and HEAD only', async (path) => {
      for (const port of [PORTS.proxy, PORTS.probes]) {
        const head = await rawRequest(`http://127.0.0.1:${gateway.apisix.mappedPort(port)}`, {
          method: 'HEAD',
          target: path,
        });
        expect([head.status, head.body.length]).toEqual([200, 0]);
        for (const method of ['POST', 'DELETE', 'OPTIONS']) {
          const answer = await gateway.apisix.request(port, path, { method });
          expect(answer.status).toBe(405);
          expect(answer.headers.get('allow')).toBe('GET, HEAD');
          expect(await answer.json()).toMatchObject({
            error: { type: 'invalid_request_error', code: 'method_not_allowed', param: null },
          });
        }
      }
    });

    test('is all that the port for probes tells', async () => {
      for (const path of ['/', '/readyz/', '/status', '/openai/v1/models', '/apisix/prometheus/metrics']) {
        const answer = await gateway.apisix.request(PORTS.probes, path);
        expect([path, answer.status]).toEqual([path, 404]);
        expect(await answer.json()).toMatchObject({ error: { code: 'not_found', param: null } });
      }
      // A path below those of the API is the backends', whatever it ends with.
      expect((await gateway.fetch('/openai/v1/readyz')).status).toBe(404);
      expect(gateway.mocks[0]?.requests.map(({ target }) => target)).toContain('/openai/v1/readyz');
    });

    test('leaves no line in the access log', async () => {
      await gateway.fetch('/no/such/path');
      const paths = (await gateway.accessLog()).map(({ path }) => path);
      expect(paths).toContain('/no/such/path');
      expect(paths).not.toContain('/readyz');
      expect(paths).not.toContain('/healthz');
    });

    test('is not taken away by throttling of all backends', async () => {
      gateway.mocks[0]?.script(throttled({ retryAfter: 2 }));
      for (const _ of [1, 2]) expect((await gateway.chat('gpt-4o')).status).toBe(429);
      // All workers have reported once more by now.
      await sleep(1_200);
      const { status, body } = await readiness(gateway);
      expect({ status, reasons: body.reasons }).toEqual({ status: 200, reasons: undefined });
      expect((await gateway.chat('gpt-4o')).status).toBe(429);
      await sleep(1_000);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
    });
  });

  describe('through what a gateway survives', () => {
    beforeEach(async () => {
      expect((await settled(gateway)).body.reasons).toBeUndefined();
    });

    test('stays during a reload', { timeout: 60_000 }, async () => {
      const before = (await readiness(gateway)).body.configuration;
      expect(await statusesDuring(gateway, () => gateway.apisix.reload(rendered))).toEqual([200]);
      expect((await readiness(gateway)).body.configuration).not.toBe(before);
    });

    test('stays when a worker crashes, whose successor begins with an older file', {
      timeout: 60_000,
    }, async () => {
      const [worker] = await gateway.apisix.workers();
      const crash = async () => {
        await gateway.apisix.killWorker(worker?.pid ?? 0);
        while ((await gateway.apisix.workers()).length < 2) await sleep(50);
      };
      expect(await statusesDuring(gateway, crash)).toEqual([200]);
      const pids = (await gateway.apisix.workers()).map(({ pid }) => pid);
      expect(pids).toHaveLength(2);
      expect(pids).not.toContain(worker?.pid);
    });

    test('stays when nginx replaces its workers', { timeout: 60_000 }, async () => {
      const pids = async () => (await gateway.apisix.workers()).map(({ pid }) => pid);
      const before = await pids();
      const replace = async () => {
        await gateway.apisix.signal(1, 'HUP');
        while ((await pids()).some((pid) => before.includes(pid))) await sleep(100);
      };
      expect(await statusesDuring(gateway, replace)).toEqual([200]);
      expect(await pids()).toHaveLength(2);
    });

    test('ends when a worker hangs, and comes back with it', { timeout: 60_000 }, async () => {
      const [worker] = await gateway.apisix.workers();
      await gateway.apisix.signal(worker?.pid ?? 0, 'STOP');
      try {
        const { body, status } = await readinessWhen(gateway, (_, code) => code === 503);
        expect(status).toBe(503);
        expect(body.reasons).toEqual([expect.stringMatching(/^worker [01]: no report of what is loaded$/)]);
      } finally {
        await gateway.apisix.signal(worker?.pid ?? 0, 'CONT');
      }
      expect((await settled(gateway)).status).toBe(200);
    });
  });

  describe('ends with', () => {
    const loses = async (file: string, reasons: unknown[]) => {
      await gateway.apisix.reload(file);
      const { body, status } = await readinessWhen(
        gateway,
        ({ reasons: told = [] }, code) => code === 503 && !told.some((each) => each.includes('last report')),
      );
      expect({ status, reasons: body.reasons }).toEqual({ status: 503, reasons });
      expect(await apisixSaysReady(gateway)).toBe(200);
      expect(await readiness(gateway, PORTS.proxy)).toEqual({ status, body: { status: 'not ready' } });
    };

    const DROPPED: readonly [what: string, edit: (file: File) => void, reason: string][] = [
      [
        'a route',
        ({ routes }) => Object.assign(routes[0] ?? {}, { uri: 5 }),
        'routes not loaded, the error log says why: openai-v1',
      ],
      [
        'a consumer',
        ({ consumers }) => Object.assign(consumers[0] ?? {}, { plugins: { 'azure-openai-auth': {} } }),
        'consumers not loaded, the error log says why: app',
      ],
      [
        'metadata of a plugin',
        (file) => Object.assign(file.plugin_metadata[0] ?? {}, { disabled_labels: 5 }),
        'plugin_metadata not loaded, the error log says why: prometheus',
      ],
      [
        'a client that was taken out by hand',
        (file) => {
          file.consumers = [];
        },
        'consumers not loaded, the error log says why: app',
      ],
    ];

    test.each(DROPPED)('%s that is dropped', { timeout: 60_000 }, async (_, edit, reason) => {
      await loses(edited(rendered, edit), [reason]);
    });

    test('the service that is dropped, and its backends with it', { timeout: 60_000 }, async () => {
      const file = edited(rendered, ({ services }) => Object.assign(services[0].plugins, { 'no-such': {} }));
      await loses(file, [
        'services not loaded, the error log says why: azure-openai',
        'no backend is loaded',
      ]);
    });

    test('the credential of the only backend that has a weight', { timeout: 60_000 }, async () => {
      const file = edited(rendered, ({ services: [service] }) => {
        const [first] = service.plugins['ai-proxy-multi'].instances;
        first.auth = { header: { 'api-key': '$env://NOT_THERE' } };
      });
      await loses(file, [
        'no backend has both a weight and a credential:' +
          ' backend-0 (its credential cannot be resolved), backend-1 (its weight is 0)',
      ]);
    });

    test('a file that is broken, while the one before is served', { timeout: 90_000 }, async () => {
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
      const started = Date.now();
      await loses(rendered.replace('\nservices:\n', '\nservices: [\n'), [
        expect.stringMatching(
          /^apisix.yaml is not loaded as it is now .* what was loaded before is still served$/,
        ),
      ]);
      expect(Date.now() - started).toBeGreaterThan(8_000);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);

      await loses(rendered.slice(0, rendered.length / 2), [
        expect.stringMatching(
          /^apisix.yaml is not loaded as it is now .* what was loaded before is still served$/,
        ),
      ]);
      await loses('nothing\n#END\n', [expect.stringContaining('apisix.yaml has no manifest')]);

      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
    });

    test('another file in the place of the one that is loaded, with its time', {
      timeout: 60_000,
    }, async () => {
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
      const replaced = await gateway.apisix.asRoot(
        'cd /usr/local/apisix/conf && cp -p apisix.yaml /tmp/before && sed -i "$1" apisix.yaml &&' +
          ' touch -r /tmp/before apisix.yaml && grep -c changed-by-hand apisix.yaml',
        's/"digest": *"[0-9a-f]*"/"digest":"changed-by-hand"/',
      );
      expect(replaced).toBe('1\n');
      const { status, body } = await readinessWhen(
        gateway,
        ({ reasons: [first] = [] }) => first?.startsWith('apisix.yaml has changed') === true,
      );
      expect({ status, reasons: body.reasons }).toEqual({
        status: 503,
        reasons: [expect.stringMatching(/^apisix.yaml has changed with the time stamp that it had/)],
      });
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
    });
  });
});

describe.skipIf(skipped)('a gateway that starts with an item that APISIX drops', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: (documents) => ({
        ...documents,
        'apisix.yaml': edited(documents['apisix.yaml'], ({ consumers }) =>
          Object.assign(consumers[0] ?? {}, { plugins: { 'azure-openai-auth': {} } }),
        ),
      }),
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('was never ready, whatever APISIX says, and lives', async () => {
    // Workers do not all begin at once.
    const { status, body } = await readinessWhen(
      gateway,
      ({ reasons: [first] = [] }, code) => code === 200 || first?.startsWith('consumers') === true,
    );
    expect({ status, reasons: body.reasons }).toEqual({
      status: 503,
      reasons: ['consumers not loaded, the error log says why: app'],
    });
    expect(body.status).toBe('not ready');
    expect(await apisixSaysReady(gateway)).toBe(200);
    expect((await gateway.apisix.request(PORTS.probes, '/healthz')).status).toBe(200);
  });
});

describe.skipIf(skipped)('a gateway whose backend is signed in to with a token', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        AZURE_OPENAI_AUTH_MODE: 'entra',
        AZURE_OPENAI_KEY_0: '',
        // Where nobody answers.
        AZURE_POD_IDENTITY_AUTHORITY_HOST: 'http://127.0.0.1:1',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('is ready until there was no token to be had', { timeout: 60_000 }, async () => {
    expect((await settled(gateway)).status).toBe(200);
    await sleep(1_200);
    expect(await gateway.apisix.log()).not.toContain('no token for');
    expect((await readiness(gateway)).body.status).toBe('ready');

    expect((await gateway.chat('gpt-4o')).status).toBe(502);
    const { status, body } = await readinessWhen(
      gateway,
      ({ reasons: [first] = [] }, code) => code === 503 && first?.startsWith('worker') === false,
    );
    expect({ status, reasons: body.reasons }).toEqual({
      status: 503,
      reasons: [
        'no backend has both a weight and a credential:' +
          ' backend-0 (there is no token from the instance metadata service)',
      ],
    });
  });
});
