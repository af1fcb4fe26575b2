/** LB_AFFINITY: requests that share a prompt cache go to one backend, in every worker and replica. */
import { Agent, request } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, sameBackends, startGateway } from '../support/gateway.ts';
import { backendOf, calls, chatBody, forgetRequests, resetMocks } from '../support/traffic.ts';

const BACKENDS = 3;
const CONNECTIONS = 20;

const start = (settings: Record<string, string>) =>
  startGateway({ backends: Array.from({ length: BACKENDS }, () => ({})), settings });

/** Sends this number of chats over many connections, which the workers share. */
async function send(
  { url }: Pick<Gateway, 'url'>,
  count: number,
  body: (index: number) => string,
  more: Record<string, string> = {},
): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const one = (index: number) =>
    new Promise<void>((resolve, reject) => {
      const text = body(index);
      const headers = {
        'api-key': CLIENT_KEY,
        'content-type': 'application/json',
        'content-length': String(Buffer.byteLength(text)),
        ...more,
      };
      request(`${url}/openai/v1/chat/completions`, { agent, method: 'POST', headers }, (answer) => {
        answer.resume().once('end', () => {
          if (answer.statusCode === 200) resolve();
          else reject(new Error(`status ${answer.statusCode}`));
        });
      })
        .once('error', reject)
        .end(text);
    });
  await Promise.all(Array.from({ length: count }, (_, index) => one(index)));
  agent.destroy();
}

const keyed = (key: string, model = 'm') => chatBody(model, { prompt_cache_key: key });
const placesOf = (gateway: Gateway) => calls(gateway).flatMap((count, index) => (count > 0 ? [index] : []));

describe.skipIf(cannotRunGatewayTests('LB_AFFINITY=prompt_cache_key'))('LB_AFFINITY=prompt_cache_key', () => {
  let gateway: Gateway;
  let replica: Gateway;

  beforeAll(async () => {
    gateway = await start({ LB_AFFINITY: 'prompt_cache_key' });
    replica = await start({ LB_AFFINITY: 'prompt_cache_key', ...sameBackends(gateway) });
  }, 2 * CONTAINER_TIMEOUT_MS);
  afterAll(async () => {
    await Promise.all([gateway?.stop(), replica?.stop()]);
  });
  afterEach(() => resetMocks(gateway));

  test('sends each key to one backend, the same in every worker and replica', async () => {
    for (let index = 0; index < 6; index++) {
      await forgetRequests(gateway);
      // One after another, so that no worker exceeds its share in flight.
      for (let count = 0; count < 4; count++) {
        await send(gateway, 1, () => keyed(`session-${index}`));
        await send(replica, 1, () => keyed(`session-${index}`));
      }
      expect(placesOf(gateway)).toHaveLength(1);
    }
  });

  test('sends chat completions and responses with the same key to the same backend', async () => {
    const client = gateway.openai();
    await client.responses.create({ model: 'm', input: 'x', prompt_cache_key: 'shared' });
    await send(gateway, 1, () => keyed('shared'));
    await client.responses.create({ model: 'other', input: 'x', prompt_cache_key: 'shared' });
    expect(placesOf(gateway)).toHaveLength(1);
  });

  test('spreads many keys over all backends', async () => {
    await send(gateway, 300, (index) => keyed(`session-${index}`));
    for (const count of calls(gateway)) {
      expect(count).toBeGreaterThan(60);
      expect(count).toBeLessThan(140);
    }
  });

  test('does not send all requests of a single key to one backend', async () => {
    for (const mock of gateway.mocks) mock.script({ delayMs: 400, times: 1000 });
    await send(gateway, 60, () => keyed('hot'));
    const shares = calls(gateway);
    expect(shares.reduce((sum, each) => sum + each)).toBe(60);
    // 20 at once in two workers: at most 1.25 times the share of ten in each, and two more.
    expect(Math.max(...shares)).toBeLessThanOrEqual(0.8 * 60);
    expect(placesOf(gateway).length).toBeGreaterThan(1);
  });

  test('sends a key to another backend while its backend is throttled, then back', async () => {
    const [home = 0] = await (async () => {
      await send(gateway, 1, () => keyed('moving', 'throttled-model'));
      return placesOf(gateway);
    })();
    backendOf(gateway, home).script(answers.throttled({ retryAfter: 1 }));
    await send(gateway, 1, () => keyed('moving', 'throttled-model'));
    await forgetRequests(gateway);
    for (let count = 0; count < 4; count++) await send(gateway, 1, () => keyed('moving', 'throttled-model'));
    const [away] = placesOf(gateway);
    expect(placesOf(gateway)).toHaveLength(1);
    expect(away).not.toBe(home);
    await expect
      .poll(
        async () => {
          await forgetRequests(gateway);
          await send(gateway, 1, () => keyed('moving', 'throttled-model'));
          return placesOf(gateway);
        },
        { timeout: 5_000, interval: 200 },
      )
      .toEqual([home]);
  });

  test('spreads requests without a key evenly', async () => {
    await send(gateway, 90, () => chatBody('m'));
    for (const count of calls(gateway)) expect(Math.abs(count - 30)).toBeLessThanOrEqual(4);
  });
});

describe.skipIf(cannotRunGatewayTests('LB_AFFINITY=header'))('LB_AFFINITY=header:X-Session', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start({ LB_AFFINITY: 'header:X-Session' });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());
  afterEach(() => resetMocks(gateway));

  test('sends requests with the same header to one backend, and spreads the others', async () => {
    for (let count = 0; count < 6; count++) {
      await send(gateway, 1, () => chatBody(`m-${count}`), { 'x-session': 'one' });
    }
    expect(placesOf(gateway)).toHaveLength(1);
    await send(gateway, 30, () => chatBody('m'));
    expect(placesOf(gateway)).toHaveLength(BACKENDS);
  });
});

describe.skipIf(cannotRunGatewayTests('LB_AFFINITY=client'))('LB_AFFINITY=client', () => {
  let gateway: Gateway;

  beforeAll(async () => {
    gateway = await start({ LB_AFFINITY: 'client', LB_ALG: 'latency' });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('sends all requests of one client to one backend', async () => {
    for (let count = 0; count < 6; count++) await send(gateway, 1, () => chatBody(`m-${count}`));
    expect(placesOf(gateway)).toHaveLength(1);
  });
});
