/** The order of backends that a request sets: who may set it, who follows it, and for how long. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, sameBackends, startGateway } from '../support/gateway.ts';
import { clientSettings, keyOf, shoot } from '../support/limits.ts';
import { cannotRunRedisTests, type Redis, startRedis } from '../support/redis.ts';
import { backendOf, calls, inOrder, logged, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

const V1 = '/openai/v1/chat/completions';
const HELPER = '/helpers/set-preferred-backends';
const SECRET = 'secret-of-the-helper-0123456789';

const settings = {
  ...inOrder(3),
  ...NO_COOLDOWN,
  ...clientSettings({ app: {}, web: {} }),
  AZURE_OPENAI_NAME_2: 'Third',
  GATEWAY_BACKEND_HEADER: 'true',
  GATEWAY_POOL_NAME_0: 'ordered',
  GATEWAY_POOL_LB_ALG_0: 'preferred',
  GATEWAY_POOL_NAME_1: 'two',
  GATEWAY_POOL_BACKENDS_1: 'backend-0:1,backend-1:9',
  GATEWAY_POOL_LB_ALG_1: 'preferred',
  GATEWAY_POOL_NAME_2: 'usual',
};

interface Order {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
}

/** Sends an order, with a client's key and the secret unless the headers say otherwise. */
async function send(to: Gateway, { path = HELPER, method = 'POST', headers = {}, body }: Order) {
  const answer = await fetch(`${to.url}${path}`, {
    method,
    headers: {
      'api-key': keyOf('app'),
      'x-config-api-secret': SECRET,
      'content-type': 'application/json',
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: JSON.parse(text) };
}

const setOrder = (to: Gateway, ...preferredBackends: string[]) => send(to, { body: { preferredBackends } });

const served = async (by: Gateway, path: string): Promise<string | null> =>
  (await shoot(by, { path, client: 'app' })).headers.get('x-gateway-backend');

const follows = async (replica: Gateway, backend: string): Promise<void> => {
  await expect.poll(() => served(replica, V1), { timeout: 5_000 }).toBe(backend);
};

describe.skipIf(cannotRunGatewayTests('preferred backends'))('preferred backends', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}, {}, {}],
      settings: { ...settings, CONFIG_API_SHARED_SECRET: SECRET },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => setOrder(gateway));
  afterEach(() => resetMocks(gateway));

  test('both paths answer as the toolkit and as the accelerator', async () => {
    for (const path of [HELPER, '/config/set-preferred-backends']) {
      const answer = await send(gateway, { path, body: { preferredBackends: ['Third', 'backend-0'] } });
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(answer.body).toEqual({
        message: 'preferred backends are set successfully',
        updated_instances: 2,
      });
    }
  });

  test('all workers follow the order, whatever the priorities', async () => {
    await setOrder(gateway, 'backend-1', 'Third');
    for (let count = 0; count < 20; count++) await shoot(gateway, { path: `/ordered${V1}`, client: 'app' });
    expect(calls(gateway)).toEqual([0, 20, 0]);
  });

  test('the next preferred backend gets what the first cannot take, then the others in their usual order', async () => {
    await setOrder(gateway, 'Third', 'backend-1');
    for (const index of [2, 1]) backendOf(gateway, index).script(answers.throttled());
    expect(await served(gateway, `/ordered${V1}`)).toBe('backend-0');
    expect(calls(gateway)).toEqual([1, 1, 1]);
  });

  test('a pool follows it among its own backends, and other pools keep their order', async () => {
    await setOrder(gateway, 'Third', 'backend-0');
    expect(await served(gateway, `/two${V1}`)).toBe('backend-0');
    expect(await served(gateway, `/usual${V1}`)).toBe('backend-0');
    await setOrder(gateway, 'Third');
    expect(await served(gateway, `/two${V1}`)).toBe('backend-1');
    expect(await served(gateway, V1)).toBe('backend-0');
  });

  test('an empty list is the usual order', async () => {
    await setOrder(gateway, 'Third');
    expect(await served(gateway, `/ordered${V1}`)).toBe('Third');
    expect((await setOrder(gateway)).status).toBe(200);
    expect(await served(gateway, `/ordered${V1}`)).toBe('backend-0');
  });

  test('names are in any case, or the endpoints of backends', async () => {
    const { AZURE_OPENAI_ENDPOINT_2: endpoint = '' } = gateway.variables;
    for (const name of ['THIRD', endpoint, `${endpoint}/`]) {
      await setOrder(gateway);
      expect(await setOrder(gateway, name)).toMatchObject({ status: 200 });
      expect(await served(gateway, `/ordered${V1}`)).toBe('Third');
    }
  });

  test.each<[title: string, status: number, code: string, order: Order]>([
    ['an unknown name', 400, 'unknown_backend', { body: { preferredBackends: ['backend-1', 'ptu'] } }],
    ['no list', 400, 'invalid_request', { body: { preferredBackends: 'backend-1' } }],
    ['an object for a list', 400, 'invalid_request', { body: { preferredBackends: { first: 'backend-1' } } }],
    ['a number for a name', 400, 'invalid_request', { body: { preferredBackends: [1] } }],
    ['no JSON', 400, 'invalid_request', { body: '{' }],
    ['no body', 400, 'invalid_request', {}],
    ['no key', 401, 'invalid_api_key', { headers: { 'api-key': '' }, body: { preferredBackends: [] } }],
    [
      'no secret',
      403,
      'invalid_shared_secret',
      { headers: { 'x-config-api-secret': '' }, body: { preferredBackends: [] } },
    ],
    [
      'another secret',
      403,
      'invalid_shared_secret',
      { headers: { 'x-config-api-secret': `${SECRET}0` }, body: { preferredBackends: [] } },
    ],
  ])('%s is answered with %i %s, and changes nothing', async (_, status, code, order) => {
    await setOrder(gateway, 'Third');
    const answer = await send(gateway, order);
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ error: { code, message: expect.any(String) } });
    expect(JSON.stringify(answer.body)).not.toContain(SECRET);
    expect(await served(gateway, `/ordered${V1}`)).toBe('Third');
  });

  test('another method is answered with 405', async () => {
    const answer = await send(gateway, { method: 'GET' });
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST']);
  });

  test('the secret is in no file and no log', async () => {
    await send(gateway, { headers: { 'x-config-api-secret': 'guess-of-the-secret-77aa' } });
    const log = await gateway.apisix.log();
    expect(log).not.toContain(SECRET);
    expect(log).not.toContain('guess-of-the-secret-77aa');
    expect(gateway.documents['apisix.yaml']).not.toContain(SECRET);
    const line = (await gateway.accessLog()).find(({ path, status }) => path === HELPER && status === '200');
    expect(line?.client).toBe('app');
  });
});

describe.skipIf(cannotRunGatewayTests('no preferred pool'))('without a pool that follows an order', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({ settings: { GATEWAY_POOL_NAME_0: 'usual' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('there is no endpoint to set one', async () => {
    const answer = await gateway.fetch(HELPER, { method: 'POST', body: '{"preferredBackends":[]}' });
    expect(answer.status).toBe(404);
  });
});

describe.skipIf(cannotRunGatewayTests('LB_ALG=preferred') || cannotRunRedisTests('LB_ALG=preferred'))(
  'replicas with Redis',
  () => {
    let redis: Redis;
    let first: Gateway;
    let second: Gateway;
    beforeAll(async () => {
      redis = await startRedis({ password: 'password-of-redis-0123' });
      const shared = {
        LB_ALG: 'preferred',
        GATEWAY_BACKEND_HEADER: 'true',
        ...NO_COOLDOWN,
        ...inOrder(2),
        ...clientSettings({ app: {} }),
        RESPONSES_AFFINITY_REDIS_HOST: redis.host,
        RESPONSES_AFFINITY_REDIS_PORT: String(redis.port),
        RESPONSES_AFFINITY_REDIS_PASSWORD: 'password-of-redis-0123',
        RESPONSES_AFFINITY_REDIS_TIMEOUT_MS: '300',
      };
      first = await startGateway({ settings: shared });
      second = await startGateway({ backends: [], settings: { ...shared, ...sameBackends(first) } });
    }, 2 * CONTAINER_TIMEOUT_MS);
    afterAll(async () => {
      await second?.stop();
      await first?.stop();
      await redis?.stop();
    });

    test('follow one order, which ends after 12,000 seconds', async () => {
      expect(await served(second, V1)).toBe('backend-0');
      expect(await setOrder(first, 'backend-1')).toMatchObject({ status: 200 });
      expect(await served(first, V1)).toBe('backend-1');
      await follows(second, 'backend-1');
      const lasts = Number(await redis.command('TTL', 'genai_gateway:preferred_backends'));
      expect(lasts).toBeGreaterThan(11_900);
      expect(lasts).toBeLessThanOrEqual(12_000);
      await redis.command('DEL', 'genai_gateway:preferred_backends');
      await follows(second, 'backend-0');
    });

    test('the first request after a long pause follows an order of another replica', async () => {
      await setOrder(first);
      await follows(second, 'backend-0');
      await setOrder(first, 'backend-1');
      await new Promise((done) => setTimeout(done, 4_000));
      expect(await served(second, V1)).toBe('backend-1');
    });

    test('keep serving in the known order while Redis is down, and share a newer order afterwards', async () => {
      await setOrder(first, 'backend-1');
      await follows(second, 'backend-1');
      await redis.stop();
      await new Promise((done) => setTimeout(done, 1_200));
      expect(await served(second, V1)).toBe('backend-1');
      expect(await setOrder(first, 'backend-0')).toMatchObject({ status: 200 });
      expect(await served(first, V1)).toBe('backend-0');
      expect(await logged(first, 'warn', 'the Redis of the preferred backends fails')).not.toEqual([]);
      await redis.restart();
      await expect.poll(() => served(first, V1), { timeout: 20_000 }).toBe('backend-0');
      await expect
        .poll(
          async () => {
            // A replica shares its newer order when it next asks Redis, because of a request.
            await served(first, V1);
            return served(second, V1);
          },
          { timeout: 20_000 },
        )
        .toBe('backend-0');
    });
  },
);
