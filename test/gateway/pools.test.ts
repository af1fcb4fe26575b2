/** Named pools: their paths, backends, clients and failover, and what they share. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests, PORTS } from '../support/apisix.ts';
import { type Gateway, quickMetrics, startGateway } from '../support/gateway.ts';
import { clientSettings, costing, keyOf, shoot } from '../support/limits.ts';
import { samplesIn, total } from '../support/metrics-text.ts';
import { compileVariables } from '../support/scenarios.ts';
import { backendOf, calls, chatBody, inOrder, resetMocks, Wire } from '../support/traffic.ts';

let gateway: Gateway;
const backend = (index: number) => backendOf(gateway, index);

const V1 = '/openai/v1/chat/completions';
/** Each test has a deployment of its own, because cooldowns are of a deployment. */
let model = '';
let count = 0;

const settings = {
  ...inOrder(3),
  ...clientSettings({ app: {}, web: {}, slow: { PRIORITY: 'low' }, counted: { REQUESTS_PER_MINUTE: '2' } }),
  GATEWAY_BACKEND_HEADER: 'true',
  AI_PROXY_RETRY_STATUSES: '429,500',
  GATEWAY_POOL_NAME_0: 'all',
  GATEWAY_POOL_NAME_1: 'one',
  GATEWAY_POOL_PATH_1: '/teams/one',
  GATEWAY_POOL_BACKENDS_1: 'backend-2',
  GATEWAY_POOL_CLIENTS_1: 'web,slow',
  GATEWAY_POOL_NAME_2: 'shares',
  GATEWAY_POOL_BACKENDS_2: 'backend-0:1:3,backend-1:1:1',
  GATEWAY_POOL_NAME_3: 'shares-too',
  GATEWAY_POOL_BACKENDS_3: 'backend-0:1:3,backend-1:1:1',
  GATEWAY_POOL_NAME_4: 'no-failover',
  GATEWAY_POOL_MAX_ATTEMPTS_4: '1',
  GATEWAY_POOL_COOLDOWN_4: '0',
  GATEWAY_POOL_NAME_5: 'only-429',
  GATEWAY_POOL_RETRY_STATUSES_5: '429',
  GATEWAY_POOL_NAME_6: 'long',
  GATEWAY_POOL_COOLDOWN_6: '60s',
  GATEWAY_POOL_NAME_7: 'short',
  GATEWAY_POOL_COOLDOWN_7: '100ms',
  GATEWAY_POOL_NAME_8: 'hashed',
  GATEWAY_POOL_LB_ALG_8: 'chash',
  GATEWAY_POOL_BACKENDS_8: 'backend-0:1,backend-1:1,backend-2:1',
  GATEWAY_POOL_NAME_9: 'alone',
  GATEWAY_POOL_BACKENDS_9: 'backend-0',
};

const skip = cannotRunGatewayTests('pools');

describe.skipIf(skip)('a pool that is added while APISIX runs', () => {
  let changing: Gateway;
  const added = { GATEWAY_POOL_NAME_0: 'new', GATEWAY_POOL_BACKENDS_0: 'backend-1' };
  beforeAll(async () => {
    changing = await startGateway({ settings: clientSettings({ app: {} }) });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => changing?.stop());

  /** Reloads the file with more settings. */
  const reload = async (more: Record<string, string>) => {
    const { documents } = await compileVariables({ ...changing.variables, ...more });
    await changing.apisix.reload(documents['apisix.yaml']);
    expect((await changing.apisix.request(PORTS.status, '/status/ready')).status).toBe(200);
    return documents['config.yaml'];
  };
  const status = async () => (await shoot(changing, { path: `/new${V1}`, client: 'app' })).status;

  test('serves its path, and is gone again when it is removed', async () => {
    expect(await status()).toBe(404);
    const before = await reload({});
    expect(await reload(added)).toBe(before);
    await expect.poll(status, { timeout: 5_000 }).toBe(200);
    expect(calls(changing)).toEqual([0, 1]);
    expect((await shoot(changing, { client: 'app' })).status).toBe(200);
    await reload({});
    await expect.poll(status, { timeout: 5_000 }).toBe(404);
  });
});

/** The backend that a request through a path reaches, or the status of its error. */
async function reached(path: string, client = 'app', headers: Record<string, string> = {}) {
  const answer = await shoot(gateway, { path, client, headers, body: { model } });
  return answer.status === 200 ? answer.headers.get('x-gateway-backend') : answer.status;
}

describe.skipIf(skip)('named pools', () => {
  beforeAll(async () => {
    gateway = await startGateway({ backends: [{}, {}, {}], settings, adapt: quickMetrics });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => {
    resetMocks(gateway);
    model = `model-${count++}`;
  });

  describe('GATEWAY_POOL_PATH_N', () => {
    test('is removed before a request is sent on, on every API', async () => {
      for (const path of [V1, '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21']) {
        expect((await shoot(gateway, { path: `/all${path}` })).status).toBe(401);
        expect((await shoot(gateway, { path: `/all${path}`, client: 'app' })).status).toBe(200);
      }
      expect(backend(0).requests.map(({ target }) => target.split('?')[0])).toEqual([
        V1,
        '/openai/deployments/gpt-4o/chat/completions',
      ]);
    });

    test('may have several segments, and is that of the name by default', async () => {
      expect(await reached(`/teams/one${V1}`, 'web')).toBe('backend-2');
      expect(await reached(`/one${V1}`, 'web')).toBe(404);
    });

    test('serves the same common mistakes as the plain paths', async () => {
      for (const path of [
        '/all/v1/chat/completions',
        '/all/chat/completions',
        `/all//openai/v1/chat/completions/`,
      ]) {
        expect(await reached(path)).toBe('backend-0');
      }
      expect(backend(0).requests.map(({ target }) => target.split('?')[0])).toEqual([V1, V1, V1]);
    });

    test.each(['/all', '/all/', '/all/nothing', '/allopenai/v1/models', '/All/openai/v1/chat/completions'])(
      '%s is not found',
      async (path) => {
        expect(await reached(path)).toBe(404);
      },
    );

    test.each([
      '/%61ll/openai/v1/chat/completions',
      '/all/x/../openai/v1/chat/completions',
      '/all%2Fopenai/v1/models',
    ])('%s is rejected, because a proxy before the gateway may read it as another path', async (path) => {
      const wire = new Wire(gateway, path, { headers: { 'api-key': keyOf('app') }, body: chatBody(model) });
      const { status, body } = await wire.end();
      expect([400, 404]).toContain(status);
      expect(JSON.parse(body.toString())).toMatchObject({ error: { type: 'invalid_request_error' } });
      expect(calls(gateway)).toEqual([0, 0, 0]);
    });

    test('is in redirects within the backend', async () => {
      backend(0).script({ status: 307, headers: { Location: `${V1}?again=1` } });
      const answer = await gateway.fetch(`/all${V1}`, {
        method: 'POST',
        headers: { 'api-key': keyOf('app'), 'content-type': 'application/json' },
        body: chatBody(model),
        redirect: 'manual',
      });
      expect(answer.headers.get('location')).toBe(`/all${V1}?again=1`);
    });
  });

  describe('GATEWAY_POOL_BACKENDS_N', () => {
    test('are all by default, with their own priorities, as on the plain paths', async () => {
      expect([await reached(`/all${V1}`), await reached(V1)]).toEqual(['backend-0', 'backend-0']);
    });

    test('get requests by the weights that they have in the pool, in each pool by itself', async () => {
      for (let round = 0; round < 40; round++) {
        await reached(`/shares${V1}`);
        await reached(`/shares-too${V1}`);
      }
      expect(calls(gateway)).toEqual([60, 20, 0]);
    });

    test('are the only ones that a model list and a stored object come from', async () => {
      const list = await gateway.fetch('/teams/one/openai/v1/models', {
        headers: { 'api-key': keyOf('web') },
      });
      expect(list.status).toBe(200);
      expect(calls(gateway)).toEqual([0, 0, 1]);
      const made = await shoot(gateway, {
        path: '/teams/one/openai/v1/responses',
        client: 'web',
        body: { model, input: 'Hello', messages: undefined },
      });
      const { id } = JSON.parse(made.text);
      const headers = { 'api-key': keyOf('web') };
      expect((await gateway.fetch(`/teams/one/openai/v1/responses/${id}`, { headers })).status).toBe(200);
      // The plain paths have the backend too, and know the owner.
      expect((await gateway.fetch(`/openai/v1/responses/${id}`, { headers })).status).toBe(200);
      expect(calls(gateway)).toEqual([0, 0, 4]);
      // A pool without the owner asks its own backends only.
      expect((await gateway.fetch(`/shares/openai/v1/responses/${id}`, { headers })).status).toBe(404);
      expect(calls(gateway)[2]).toBe(4);
    });
  });

  test('GATEWAY_POOL_CLIENTS_N: others get 403', async () => {
    expect(await reached(`/teams/one${V1}`, 'web')).toBe('backend-2');
    const refused = await shoot(gateway, { path: `/teams/one${V1}`, client: 'app' });
    expect(refused.status).toBe(403);
    expect(JSON.parse(refused.text)).toMatchObject({ error: { code: 'pool_not_allowed' } });
    expect(calls(gateway)).toEqual([0, 0, 1]);
  });

  test('GATEWAY_POOL_LB_ALG_N: one client stays at one backend', async () => {
    const first = await reached(`/hashed${V1}`);
    for (let round = 0; round < 5; round++) expect(await reached(`/hashed${V1}`)).toBe(first);
  });

  test('GATEWAY_POOL_MAX_ATTEMPTS_N=1: the client gets the first failure', async () => {
    backend(0).script(answers.throttled());
    expect(await reached(`/no-failover${V1}`)).toBe(429);
    expect(calls(gateway)).toEqual([1, 0, 0]);
  });

  test('GATEWAY_POOL_RETRY_STATUSES_N: other statuses are the answer', async () => {
    backend(0).script({ status: 500 });
    expect(await reached(`/only-429${V1}`)).toBe(500);
    backend(0).script(answers.throttled());
    expect(await reached(`/only-429${V1}`)).toBe('backend-1');
    backend(1).script({ status: 500 });
    expect(await reached(V1)).toBe('backend-2');
  });

  describe('GATEWAY_POOL_COOLDOWN_N', () => {
    test('replaces the delay that the answer gives, for all pools', async () => {
      backend(0).script(answers.throttled({ retryAfter: 1 }));
      expect(await reached(`/long${V1}`)).toBe('backend-1');
      await new Promise((done) => setTimeout(done, 1_500));
      expect(await reached(`/long${V1}`)).toBe('backend-1');
      expect(await reached(V1)).toBe('backend-1');
      expect(await reached(`/all${V1}`)).toBe('backend-1');
    });

    test('does not shorten a cooldown that lasts longer', async () => {
      backend(0).script(answers.throttled({ retryAfter: 20 }), { delayMs: 300, ...answers.throttled() });
      const late = reached(`/short${V1}`);
      await new Promise((done) => setTimeout(done, 100));
      // Whichever of the two comes first, the longer cooldown remains.
      expect(await reached(V1)).toBe('backend-1');
      await late;
      await new Promise((done) => setTimeout(done, 400));
      expect(await reached(`/short${V1}`)).toBe('backend-1');
    });

    test('0: a throttled backend gets the next request', async () => {
      backend(0).script(answers.throttled({ retryAfter: 30 }));
      expect(await reached(`/no-failover${V1}`)).toBe(429);
      expect(await reached(`/no-failover${V1}`)).toBe('backend-0');
    });
  });

  test('a cooldown that a low-lane request caused does not hold for the high lane without another backend', async () => {
    backend(0).script(answers.throttled({ retryAfter: 30 }));
    expect(await reached(`/alone${V1}`, 'slow')).toBe(429);
    expect(await reached(`/alone${V1}`, 'slow')).toBe(429);
    expect(calls(gateway)).toEqual([1, 0, 0]);
    expect(await reached(`/alone${V1}`)).toBe('backend-0');
    expect(await reached(`/alone${V1}`, 'slow')).toBe(429);
    expect(calls(gateway)).toEqual([2, 0, 0]);
    // With another backend, the high lane leaves the throttled one alone.
    expect(await reached(V1)).toBe('backend-1');
    backend(0).script(answers.throttled({ retryAfter: 30 }));
    expect(await reached(`/alone${V1}`)).toBe(429);
    expect(await reached(`/alone${V1}`)).toBe(429);
    expect(calls(gateway)[0]).toBe(3);
  });

  test('limits of a client count all its requests, on whatever path', async () => {
    const statuses = [];
    for (const path of [V1, `/all${V1}`, `/shares${V1}`])
      statuses.push((await shoot(gateway, { path, client: 'counted' })).status);
    expect(statuses).toEqual([200, 200, 429]);
  });

  test('counters and the access log have the pool, histograms do not', async () => {
    backend(2).script(costing(3, 7));
    await shoot(gateway, { path: `/teams/one${V1}`, client: 'slow', body: { model } });
    await reached(V1);
    const samples = samplesIn(await gateway.metrics());
    const tokens = { request_llm_model: model, consumer: 'slow' };
    expect(total(samples, 'apisix_llm_prompt_tokens', { ...tokens, pool: 'one' })).toBe(3);
    expect(total(samples, 'apisix_genai_attempts_total', { request_llm_model: model, pool: 'one' })).toBe(1);
    expect(total(samples, 'apisix_genai_attempts_total', { request_llm_model: model, pool: 'default' })).toBe(
      1,
    );
    expect(total(samples, 'apisix_http_status', { pool: 'one', code: '403' })).toBe(1);
    expect(total(samples, 'apisix_http_status', { pool: 'all', code: '401' })).toBe(2);
    const withPool = samples.filter(({ labels }) => 'pool' in labels).map(({ name }) => name);
    expect(withPool.filter((name) => name.includes('latency'))).toEqual([]);
    // Gauges show all backends, whichever pool had the first request.
    const nodes = samples.filter(({ name }) => name === 'apisix_genai_backend_info');
    expect(nodes.map(({ labels }) => labels.node).toSorted()).toEqual([
      'backend-0',
      'backend-1',
      'backend-2',
    ]);
    const lines = (await gateway.accessLog()).filter(({ requested_model }) => requested_model === model);
    // Each worker writes its own lines.
    expect(lines.map(({ pool, path, backend: name }) => [pool, path, name]).toSorted()).toEqual([
      ['default', V1, 'backend-0'],
      ['one', `/teams/one${V1}`, 'backend-2'],
    ]);
  });
});
