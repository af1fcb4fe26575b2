/**
 * A stored object binds all later requests to its backend, so it is created where none of the client's deployments is
 * cooling down.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, startGateway } from '../support/gateway.ts';
import { backendOf, calls, forgetRequests, inOrder, resetMocks } from '../support/traffic.ts';

const OTHER_KEY = 'key-of-a-client-with-a-list-0123456789';

describe.skipIf(cannotRunGatewayTests('places of new stored objects'))(
  'while a deployment is cooling down at the preferred backend',
  () => {
    let gateway: Gateway;
    let round = 0;

    beforeAll(async () => {
      gateway = await startGateway({
        settings: {
          ...inOrder(2),
          GATEWAY_CLIENT_NAME_1: 'other',
          GATEWAY_CLIENT_KEY_1: OTHER_KEY,
          GATEWAY_CLIENT_MODELS_1: 'listed-*',
        },
      });
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());
    afterEach(() => resetMocks(gateway));

    /** Makes the backend throttle a model of its own for this time. */
    async function throttled(seconds: number, backend = 0): Promise<string> {
      round += 1;
      const model = `model-${round}`;
      backendOf(gateway, backend).script({ ...answers.throttled({ retryAfter: seconds }) });
      expect((await gateway.chat(model)).status).toBe(backend === 0 ? 200 : 429);
      await forgetRequests(gateway);
      return model;
    }

    const post = (path: string, body: object, key?: string) =>
      gateway.fetch(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { 'api-key': key }) },
        body: JSON.stringify(body),
      });

    test('conversations and vector stores are created at the other backend, and responses there succeed', async () => {
      const model = await throttled(2);
      const client = gateway.openai();
      for (let count = 0; count < 5; count++) {
        const conversation = await client.conversations.create({});
        const response = await client.responses.create({ model, input: 'x', conversation: conversation.id });
        expect(response.id).toMatch(/^resp_/);
        const store = await client.vectorStores.create({ name: 'x' });
        await client.responses.create({
          model,
          input: 'x',
          tools: [{ type: 'file_search', vector_store_ids: [store.id] }],
        });
      }
      expect(calls(gateway)).toEqual([0, 20]);
    });

    test('they are created at the preferred backend again after the cooldown', async () => {
      await throttled(1);
      await expect
        .poll(
          async () => {
            await forgetRequests(gateway);
            await post('/openai/v1/conversations', {});
            return calls(gateway);
          },
          { timeout: 5_000, interval: 200 },
        )
        .toEqual([1, 0]);
    });

    test('a client with a list of models is only affected by cooldowns of those models', async () => {
      await throttled(2);
      expect((await post('/openai/v1/conversations', {}, OTHER_KEY)).status).toBe(200);
      expect(calls(gateway)).toEqual([1, 0]);
      await forgetRequests(gateway);
      expect((await post('/openai/v1/conversations', {})).status).toBe(200);
      expect(calls(gateway)).toEqual([0, 1]);
    });
  },
);

describe.skipIf(cannotRunGatewayTests('places where a deployment is'))(
  'while a deployment is cooling down that only some backends have',
  () => {
    let gateway: Gateway;

    beforeAll(async () => {
      gateway = await startGateway({
        backends: [{}, {}, {}],
        settings: {
          ...inOrder(3),
          AZURE_OPENAI_DEPLOYMENTS_0: 'm',
          AZURE_OPENAI_DEPLOYMENTS_1: 'another',
          AZURE_OPENAI_DEPLOYMENTS_2: 'M,another',
        },
      });
    }, CONTAINER_TIMEOUT_MS);
    afterAll(() => gateway?.stop());
    afterEach(() => resetMocks(gateway));

    const throttleEverywhere = async () => {
      backendOf(gateway, 0).script(answers.throttled({ retryAfter: 2 }));
      backendOf(gateway, 2).script(answers.throttled({ retryAfter: 4 }));
      expect((await gateway.chat('m')).status).toBe(429);
      await forgetRequests(gateway);
    };

    test('objects are created at another backend that has the deployment', async () => {
      backendOf(gateway, 0).script(answers.throttled({ retryAfter: 2 }));
      expect((await gateway.chat('m')).status).toBe(200);
      await forgetRequests(gateway);
      await gateway.openai().conversations.create({});
      expect(calls(gateway)).toEqual([0, 0, 1]);
    });

    test('objects are created where the cooldown ends first when it is cooling down everywhere', async () => {
      await expect.poll(async () => (await gateway.chat('m')).status, { timeout: 5_000 }).toBe(200);
      await forgetRequests(gateway);
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      await throttleEverywhere();
      await gateway.openai().conversations.create({});
      expect(calls(gateway)).toEqual([1, 0, 0]);
    });
  },
);
