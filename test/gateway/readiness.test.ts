/**
 * `/readyz` reports whether every worker serves exactly what was rendered, item by item. `/healthz` reports that a worker
 * answers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Documents } from '../../compiler/emit/emit.ts';
import { withManifest } from '../../compiler/emit/manifest.ts';
import { throttled } from '../../compiler/mock/answers.ts';
import {
  CONTAINER_TIMEOUT_MS,
  cannotRunGatewayTests,
  PORTS,
  parseAsApisix,
  withItems,
} from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { rawRequest } from '../support/raw-http.ts';
import { eventually } from '../support/until.ts';

const skipped = cannotRunGatewayTests('readiness of the stock APISIX image');

/** Longer than a reload and the grace period in which a gateway stays ready. */
const PATIENCE_MS = 40_000;

interface Readiness {
  readonly status: string;
  readonly workers: number;
  readonly configuration: string;
  readonly reasons?: readonly string[];
}

interface Item {
  id?: string;
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
  plugin_metadata: Item[];
}

const edited = (apisixYaml: string, edit: (file: File) => void): string => withItems<File>(apisixYaml, edit);

/** The client's line without its key. */
const withoutKey = (apisixYaml: string): string =>
  apisixYaml.replace(/("name": "app"), "key": "[^"]*"/, '$1');

async function readiness(gateway: Gateway, port: number = PORTS.probes) {
  const answer = await gateway.apisix.request(port, '/readyz', {
    // Like a probe, use a new connection each time, with a timeout.
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(2_000),
  });
  return { status: answer.status, body: (await answer.json()) as Readiness };
}

/** Repeats the request until the answer is as wanted, and returns the last answer in any case. */
async function readinessWhen(gateway: Gateway, wanted: (body: Readiness, status: number) => boolean) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    // A hanging worker may have accepted the connection.
    const last = await readiness(gateway).catch(() => undefined);
    if (last && (wanted(last.body, last.status) || Date.now() > deadline)) return last;
    await sleep(50);
  }
}

const settled = (gateway: Gateway) =>
  readinessWhen(gateway, ({ reasons }, status) => status === 200 && reasons === undefined);

/** The statuses that a probe sees during an action and until the gateway is ready again. */
async function statusesDuring(gateway: Gateway, action: () => Promise<unknown>): Promise<number[]> {
  const seen = new Set<number>();
  let isOver = false;
  const polling = (async () => {
    while (!isOver) {
      for (const port of [PORTS.probes, PORTS.proxy]) {
        // A probe on a connection of a crashing worker gets no answer.
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

/** Adds plugin metadata to the file and its manifest. Otherwise only gateways with very many clients have any. */
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
    // The workers do not all start at once.
    await settled(gateway);
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  describe('of a healthy gateway', () => {
    test.each([
      ['the proxy port', PORTS.proxy],
      ['the port for probes', PORTS.probes],
    ])('is public on %s', async (_, port) => {
      const answer = await gateway.apisix.request(port, '/readyz?from=a-probe');
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(answer.headers.get('cache-control')).toBe('no-store');
      expect(await answer.json()).toEqual({
        status: 'ready',
        // Only the probe port returns details.
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

    test.each(['/readyz', '/healthz'])('answers only GET and HEAD on %s', async (path) => {
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

    test('is the only endpoint of the probe port', async () => {
      for (const path of ['/', '/readyz/', '/status', '/openai/v1/models', '/apisix/prometheus/metrics']) {
        const answer = await gateway.apisix.request(PORTS.probes, path);
        expect([path, answer.status]).toEqual([path, 404]);
        expect(await answer.json()).toMatchObject({ error: { code: 'not_found', param: null } });
      }
      // Paths below /openai belong to the backends, whatever they end with.
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

    test('does not end when all backends are throttled', async () => {
      gateway.mocks[0]?.script(throttled({ retryAfter: 2 }));
      for (const _ of [1, 2]) expect((await gateway.chat('gpt-4o')).status).toBe(429);
      // By now all workers have reported again.
      await sleep(1_200);
      const { status, body } = await readiness(gateway);
      expect({ status, reasons: body.reasons }).toEqual({ status: 200, reasons: undefined });
      expect((await gateway.chat('gpt-4o')).status).toBe(429);
      await eventually(async () => (await gateway.chat('gpt-4o')).status === 200);
    });
  });

  describe('of a gateway with a temporary disturbance', () => {
    beforeEach(async () => {
      expect((await settled(gateway)).body.reasons).toBeUndefined();
    });

    test('remains during a reload', { timeout: 60_000 }, async () => {
      const before = (await readiness(gateway)).body.configuration;
      expect(await statusesDuring(gateway, () => gateway.apisix.reload(rendered))).toEqual([200]);
      expect((await readiness(gateway)).body.configuration).not.toBe(before);
    });

    test('remains when a worker crashes and its successor starts with an older file', {
      timeout: 60_000,
    }, async () => {
      const [worker] = await gateway.apisix.workers();
      const crash = async () => {
        await gateway.apisix.killWorker(worker?.pid ?? 0);
        await eventually(async () => (await gateway.apisix.workers()).length >= 2);
      };
      expect(await statusesDuring(gateway, crash)).toEqual([200]);
      const pids = (await gateway.apisix.workers()).map(({ pid }) => pid);
      expect(pids).toHaveLength(2);
      expect(pids).not.toContain(worker?.pid);
    });

    test('remains when nginx replaces its workers', { timeout: 60_000 }, async () => {
      const pids = async () => (await gateway.apisix.workers()).map(({ pid }) => pid);
      const before = await pids();
      const replace = async () => {
        await gateway.apisix.signal(1, 'HUP');
        await eventually(async () => !(await pids()).some((pid) => before.includes(pid)), {
          timeoutMs: 30_000,
        });
      };
      expect(await statusesDuring(gateway, replace)).toEqual([200]);
      expect(await pids()).toHaveLength(2);
    });

    test('ends while a worker hangs', { timeout: 60_000 }, async () => {
      const [worker] = await gateway.apisix.workers();
      await gateway.apisix.signal(worker?.pid ?? 0, 'STOP');
      try {
        const { body, status } = await readinessWhen(gateway, (_, code) => code === 503);
        expect(status).toBe(503);
        expect(body.reasons).toEqual([
          expect.stringMatching(/^worker [01]: no recent report of which items are loaded$/),
        ]);
      } finally {
        await gateway.apisix.signal(worker?.pid ?? 0, 'CONT');
      }
      expect((await settled(gateway)).status).toBe(200);
    });
  });

  describe('ends with', () => {
    const loses = async (file: string, reasons: unknown[]) => {
      await gateway.apisix.reload(file);
      // Until all workers have reported.
      const told = async () => {
        const { status, body } = await readiness(gateway);
        return { status, reasons: body.reasons };
      };
      await expect.poll(told, { timeout: PATIENCE_MS, interval: 50 }).toEqual({ status: 503, reasons });
      expect(await apisixSaysReady(gateway)).toBe(200);
      expect(await readiness(gateway, PORTS.proxy)).toEqual({ status: 503, body: { status: 'not ready' } });
    };

    const DROPPED: readonly [what: string, edit: (apisixYaml: string) => string, reason: string][] = [
      [
        'a route',
        (text) => edited(text, ({ routes }) => Object.assign(routes[0] ?? {}, { uri: 5 })),
        'routes not loaded, see the error log: openai-v1',
      ],
      ['a client', withoutKey, 'clients not loaded, see the error log: app'],
      [
        'metadata of a plugin',
        (text) =>
          edited(text, (file) => Object.assign(file.plugin_metadata[0] ?? {}, { disabled_labels: 5 })),
        'plugin_metadata not loaded, see the error log: prometheus',
      ],
      [
        'a client that was taken out by hand',
        (text) => text.replace(/^# genai-gateway client: .*\n/m, ''),
        'apisix.yaml has 0 clients, but its manifest counts 1: render the file with genai-gateway',
      ],
      [
        'a client that was changed by hand',
        (text) => text.replace('"lane": "high"', '"lane": "low"'),
        'clients in apisix.yaml were changed after it was rendered: render the file with genai-gateway',
      ],
    ];

    test.each(DROPPED)('%s that APISIX drops', { timeout: 60_000 }, async (_, edit, reason) => {
      expect(edit(rendered)).not.toBe(rendered);
      await loses(edit(rendered), [reason]);
    });

    test('a valid file that was not rendered, within two seconds', { timeout: 60_000 }, async () => {
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
      await gateway.apisix.asRoot(
        'cd /usr/local/apisix/conf && printf "routes: []\n#END\n" > next && mv next apisix.yaml',
      );
      const started = Date.now();
      const { status, body } = await readinessWhen(gateway, (_, code) => code === 503);
      expect(Date.now() - started).toBeLessThan(2_000);
      expect(status).toBe(503);
      expect(body.reasons?.join()).toContain('apisix.yaml has no manifest');
      expect((await gateway.chat('gpt-4o')).status).toBe(404);
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
    });

    test('the dropped service, with its backends', { timeout: 60_000 }, async () => {
      const file = edited(rendered, ({ services }) => Object.assign(services[0].plugins, { 'no-such': {} }));
      await loses(file, ['services not loaded, see the error log: azure-openai', 'no backend is loaded']);
    });

    test('an unresolvable credential of the only backend that has a weight', {
      timeout: 60_000,
    }, async () => {
      const file = edited(rendered, ({ services: [service] }) => {
        const [first] = service.plugins['ai-proxy-multi'].instances;
        first.auth = { header: { 'api-key': '$env://NOT_THERE' } };
      });
      await loses(file, [
        'no backend has both a weight and a credential:' +
          ' backend-0 (its credential cannot be resolved), backend-1 (its weight is 0)',
      ]);
    });

    test('a broken file, while the previous one is served', { timeout: 90_000 }, async () => {
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
      const started = Date.now();
      await loses(rendered.replace('\nservices:\n', '\nservices: [\n'), [
        expect.stringMatching(
          /^the current apisix.yaml is not loaded .* the gateway still serves the one loaded before$/,
        ),
      ]);
      expect(Date.now() - started).toBeGreaterThan(8_000);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);

      await loses(rendered.slice(0, rendered.length / 2), [
        expect.stringMatching(
          /^the current apisix.yaml is not loaded .* the gateway still serves the one loaded before$/,
        ),
      ]);
      await loses('nothing\n#END\n', [expect.stringContaining('apisix.yaml has no manifest')]);

      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
    });

    test('another file that has the same modification time as the loaded one', {
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
        // Reports of what came before may still be on their way.
        ({ reasons = [] }) =>
          reasons.length === 1 && reasons[0]?.startsWith('apisix.yaml has changed') === true,
      );
      expect({ status, reasons: body.reasons }).toEqual({
        status: 503,
        reasons: [expect.stringMatching(/^apisix.yaml has changed, but its time stamp has not/)],
      });
      await gateway.apisix.reload(rendered);
      expect((await settled(gateway)).status).toBe(200);
    });
  });
});

describe.skipIf(skipped)('a gateway that starts with a client that APISIX drops', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      adapt: (documents) => ({
        ...documents,
        'apisix.yaml': withoutKey(documents['apisix.yaml']),
      }),
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('is never ready, although APISIX reports that it is, but stays alive', async () => {
    // The workers do not all start at once.
    const { status, body } = await readinessWhen(
      gateway,
      ({ reasons: [first] = [] }, code) => code === 200 || first?.startsWith('clients') === true,
    );
    expect({ status, reasons: body.reasons }).toEqual({
      status: 503,
      reasons: ['clients not loaded, see the error log: app'],
    });
    expect(body.status).toBe('not ready');
    expect(await apisixSaysReady(gateway)).toBe(200);
    expect((await gateway.apisix.request(PORTS.probes, '/healthz')).status).toBe(200);
  });
});

describe.skipIf(skipped)('a gateway whose only backend uses an Entra ID token', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}],
      settings: {
        AZURE_OPENAI_AUTH_MODE: 'entra',
        AZURE_OPENAI_KEY_0: '',
        // Nothing listens there.
        AZURE_POD_IDENTITY_AUTHORITY_HOST: 'http://127.0.0.1:1',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('is ready until the first attempt to get a token fails', { timeout: 60_000 }, async () => {
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
