/** When the settings list the deployments of all backends, the list of models contains what this client may call. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { rawRequest } from '../support/raw-http.ts';
import { calls, resetMocks } from '../support/traffic.ts';

const skipped = cannotRunGatewayTests('lists of models in the stock APISIX image');

const LISTED_KEY = 'key-of-the-client-with-a-list-0123';
const NONE_KEY = 'key-of-the-client-without-any-0123';

interface Answer {
  readonly id: string;
  readonly object: string;
  readonly data: readonly { readonly id: string }[];
  readonly error: { readonly code: string; readonly type: string };
}

const model = (id: string) => ({
  id,
  object: 'model',
  created: expect.any(Number),
  owned_by: expect.any(String),
});

describe.skipIf(skipped)('models from the settings', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({
      backends: [{}, {}, {}],
      settings: {
        AZURE_OPENAI_DEPLOYMENTS_0: 'chat=gpt4o-swe,embed',
        AZURE_OPENAI_DEPLOYMENTS_1: 'Chat=gpt4o-eus,o3-mini',
        AZURE_OPENAI_DEPLOYMENTS_2: 'only-at-the-drained-one',
        AZURE_OPENAI_WEIGHT_2: '0',
        GATEWAY_CLIENT_NAME_1: 'listed',
        GATEWAY_CLIENT_KEY_1: LISTED_KEY,
        GATEWAY_CLIENT_MODELS_1: 'chat,o3*',
        GATEWAY_CLIENT_NAME_2: 'none',
        GATEWAY_CLIENT_KEY_2: NONE_KEY,
        GATEWAY_CLIENT_MODELS_2: 'nothing-of-it',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  beforeEach(() => resetMocks(gateway));

  const get = async (path: string, key?: string) => {
    const answer = await gateway.fetch(path, key === undefined ? {} : { headers: { 'api-key': key } });
    return {
      status: answer.status,
      type: answer.headers.get('content-type'),
      body: (await answer.json()) as Answer,
    };
  };

  test.each([
    '/openai/v1/models',
    '/openai/v1/models/',
    '/v1/models',
    '/openai/models?api-version=2024-10-21',
  ])('are the deployments of all backends in order, without a call: %s', async (path) => {
    expect(await get(path)).toEqual({
      status: 200,
      type: 'application/json',
      body: { object: 'list', data: [model('Chat'), model('embed'), model('o3-mini')] },
    });
    expect(calls(gateway)).toEqual([0, 0, 0]);
  });

  test("are restricted to the client's list", async () => {
    const { body } = await get('/openai/v1/models', LISTED_KEY);
    expect(body.data.map(({ id }) => id)).toEqual(['Chat', 'o3-mini']);
    expect((await get('/openai/v1/models', NONE_KEY)).body).toEqual({ object: 'list', data: [] });
  });

  test('are listed as deployments in the API version that has them', async () => {
    const { body } = await get('/openai/deployments?api-version=2023-03-15-preview', LISTED_KEY);
    expect(body.object).toBe('list');
    expect(body.data).toMatchObject([
      { id: 'Chat', object: 'deployment', model: 'Chat', status: 'succeeded' },
      { id: 'o3-mini', object: 'deployment' },
    ]);
    expect((await get('/openai/deployments/embed?api-version=2023-03-15-preview')).body.id).toBe('embed');
  });

  test('are found one by one, in any case', async () => {
    expect((await get('/openai/v1/models/CHAT')).body).toEqual(model('Chat'));
    expect((await get('/openai/models/o3-mini?api-version=2024-10-21')).body).toEqual(model('o3-mini'));
    expect(calls(gateway)).toEqual([0, 0, 0]);
  });

  test.each<readonly [string, string | undefined]>([
    ['gpt4o-swe', undefined],
    ['only-at-the-drained-one', undefined],
    ['whatever', undefined],
    ['embed', LISTED_KEY],
  ])('return 404 model_not_found when the client may not call them: %s', async (id, key) => {
    const { status, body } = await get(`/openai/v1/models/${id}`, key);
    expect([status, body.error.code, body.error.type]).toEqual([404, 'model_not_found', 'not_found_error']);
    expect(calls(gateway)).toEqual([0, 0, 0]);
  });

  test('are listed by the official clients', async () => {
    for (const client of [gateway.openai(), gateway.azure()]) {
      const ids = [];
      for await (const each of client.models.list()) ids.push(each.id);
      expect(ids).toEqual(['Chat', 'embed', 'o3-mini']);
    }
    expect((await gateway.openai().models.retrieve('embed')).id).toBe('embed');
  });

  test('need a key, have no body with HEAD, and are sent to a backend with DELETE', async () => {
    expect((await rawRequest(gateway.url, { target: '/openai/v1/models' })).status).toBe(401);
    const head = await gateway.fetch('/openai/v1/models', { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    expect(calls(gateway)).toEqual([0, 0, 0]);
    await gateway.fetch('/openai/v1/models/ft-1', { method: 'DELETE' });
    expect(calls(gateway).some((count) => count > 0)).toBe(true);
  });

  test('are logged as successful answers of the gateway', async () => {
    await get('/openai/v1/models');
    const line = (await gateway.accessLog()).find(
      ({ operation, method, path, client }) =>
        operation === 'models' && method === 'GET' && path === '/openai/v1/models' && client === 'app',
    );
    expect(line).toMatchObject({ status: '200', error: '', backend: '', attempts: '', client: 'app' });
  });
});

describe.skipIf(skipped)('models when a backend has no list of deployments', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({ settings: { AZURE_OPENAI_DEPLOYMENTS_0: 'chat=gpt4o-swe' } });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('are the list of a backend', async () => {
    const answer = await gateway.fetch('/openai/v1/models');
    expect(answer.status).toBe(200);
    expect(calls(gateway).reduce((sum, each) => sum + each, 0)).toBe(1);
  });
});
