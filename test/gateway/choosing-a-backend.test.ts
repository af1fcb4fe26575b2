/** The backend for a request is chosen by priority, weight and hash; the tests count what the backends receive. */
import { Agent, request } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { CLIENT_KEY, type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { backendOf, calls, chatBody, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const reset = () => resetMocks(gateway);
const backend = (index: number) => backendOf(gateway, index);
const CONNECTIONS = 20;

/** Sends this number of requests over 20 connections, which the workers share. */
async function send(count: number, path = '/openai/v1/chat/completions'): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const body = chatBody('gpt-4o');
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const headers = {
        'api-key': CLIENT_KEY,
        'content-type': 'application/json',
        'content-length': String(body.length),
      };
      request(`${gateway.url}${path}`, { agent, method: 'POST', headers }, (answer) => {
        answer.resume().once('end', () => {
          if (answer.statusCode === 200) resolve();
          else reject(new Error(`status ${answer.statusCode}`));
        });
      })
        .once('error', reject)
        .end(body);
    });
  await Promise.all(Array.from({ length: count }, one));
  agent.destroy();
}

describe.skipIf(cannotRunGatewayTests('priorities'))('AZURE_OPENAI_PRIORITY_N', () => {
  beforeAll(
    start({
      backends: [{}, {}, {}],
      settings: {
        AZURE_OPENAI_PRIORITY_0: '1',
        AZURE_OPENAI_PRIORITY_1: '100',
        AZURE_OPENAI_PRIORITY_2: '50',
      },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(reset);

  test('sends every request to the backend with the highest priority', async () => {
    await send(30);
    expect(calls(gateway)).toEqual([0, 30, 0]);
  });

  test('uses the next priority only while the first is throttled', async () => {
    backend(1).script(answers.throttled());
    for (let count = 0; count < 5; count++) await gateway.chat('one-throttled');
    expect(calls(gateway)).toEqual([0, 1, 5]);
    backend(2).script(answers.throttled());
    for (let count = 0; count < 5; count++) await gateway.chat('one-throttled');
    expect(calls(gateway)).toEqual([5, 1, 6]);
  });
});

describe.skipIf(cannotRunGatewayTests('equal weights'))('equal AZURE_OPENAI_WEIGHT_N', () => {
  beforeAll(start({}), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  test('give each backend half of the requests', async () => {
    await send(400);
    const [first = 0, second = 0] = calls(gateway);
    expect(first + second).toBe(400);
    expect(Math.abs(first - 200)).toBeLessThanOrEqual(20);
  });
});

describe.skipIf(cannotRunGatewayTests('weights over routes'))('AZURE_OPENAI_WEIGHT_N across routes', () => {
  beforeAll(start({ settings: { GATEWAY_WORKERS: '1' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);

  test('is one rotation for all routes', async () => {
    for (const path of [
      '/openai/v1/chat/completions',
      '/openai/deployments/a/chat/completions?api-version=2024-10-21',
    ]) {
      await send(1, path);
    }
    expect(calls(gateway)).toEqual([1, 1]);
  });
});

describe.skipIf(cannotRunGatewayTests('weights'))('AZURE_OPENAI_WEIGHT_N of 2, 1 and 0', () => {
  beforeAll(
    start({
      backends: [{}, {}, {}],
      settings: {
        ...NO_COOLDOWN,
        AZURE_OPENAI_WEIGHT_0: '2',
        AZURE_OPENAI_WEIGHT_1: '1',
        AZURE_OPENAI_WEIGHT_2: '0',
      },
    }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);
  afterEach(reset);

  test('give the first twice as many requests as the second, and the third none', async () => {
    await send(600);
    const [first = 0, second = 0, drained] = calls(gateway);
    expect(first + second).toBe(600);
    expect(first / second).toBeGreaterThanOrEqual(1.8);
    expect(first / second).toBeLessThanOrEqual(2.2);
    expect(drained).toBe(0);
  });

  test('send no request to weight 0 even when the others fail', async () => {
    for (const index of [0, 1]) backend(index).always({ status: 503 });
    expect((await gateway.chat('gpt-4o')).status).toBe(503);
    expect(calls(gateway)).toEqual([1, 1, 0]);
  });
});

interface Keyed {
  readonly headers?: Record<string, string>;
  readonly query?: string;
}

const HASHED: readonly (readonly [
  what: string,
  settings: Readonly<Record<string, string>>,
  keyed: (key: string) => Keyed,
])[] = [
  [
    'a header',
    { LB_HASH_ON: 'header', LB_HASH_KEY: 'X-Session' },
    (key) => ({ headers: { 'x-session': key } }),
  ],
  [
    'a cookie',
    { LB_HASH_ON: 'cookie', LB_HASH_KEY: 'session' },
    (key) => ({ headers: { cookie: `a=b; session=${key}; c=d` } }),
  ],
  [
    'a variable',
    { LB_HASH_ON: 'vars', LB_HASH_KEY: 'arg_session' },
    (key) => ({ query: `?a=b&session=${key}` }),
  ],
  [
    'several variables',
    { LB_HASH_ON: 'vars_combinations', LB_HASH_KEY: '$http_x_session-$request_method' },
    (key) => ({ headers: { 'x-session': key } }),
  ],
  ['the consumer', { LB_HASH_ON: 'consumer' }, (key) => ({ headers: { 'api-key': clientKey(Number(key)) } })],
];
const CLIENTS = 16;
const clientKey = (index: number) => `key-of-client-${index}-0123456789`;
const clients = Object.fromEntries(
  Array.from({ length: CLIENTS }, (_, index) => [
    [`GATEWAY_CLIENT_NAME_${index}`, `client-${index}`],
    [`GATEWAY_CLIENT_KEY_${index}`, clientKey(index)],
  ]).flat(),
);

describe.skipIf(cannotRunGatewayTests('consistent hashing'))('LB_ALG=chash', () => {
  describe.each(HASHED)('hashing %s', (_, settings, keyed) => {
    beforeAll(
      start({ backends: [{}, {}, {}], settings: { LB_ALG: 'chash', ...settings, ...clients } }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);

    /** The backends that requests with a key reach, whichever workers handle them. */
    async function placeOf(key: string): Promise<number[]> {
      reset();
      const { headers = {}, query = '' } = keyed(key);
      for (let count = 0; count < 3; count++) {
        const answer = await gateway.fetch(`/openai/v1/chat/completions${query}`, {
          method: 'POST',
          headers: {
            connection: 'close',
            'content-type': 'application/json',
            'api-key': clientKey(0),
            ...headers,
          },
          body: chatBody('gpt-4o'),
        });
        expect(answer.status).toBe(200);
      }
      return calls(gateway).flatMap((each, index) => (each === 0 ? [] : [index]));
    }

    test('sends one key to one backend, spreads the keys, and moves only the keys of a backend that is down', async () => {
      const keys = Array.from({ length: CLIENTS }, (_unused, index) => String(index));
      const before: number[][] = [];
      for (const key of keys) before.push(await placeOf(key));
      expect(before.every((places) => places.length === 1)).toBe(true);
      expect(new Set(before.flat())).toEqual(new Set([0, 1, 2]));

      const down = before[0]?.[0] ?? 0;
      await gateway.mocks[down]?.stop();
      const meanwhile: number[][] = [];
      for (const key of keys) meanwhile.push(await placeOf(key));
      await gateway.mocks[down]?.restart();
      for (const [index, places] of meanwhile.entries()) {
        expect(places).toHaveLength(1);
        if (before[index]?.[0] === down) expect(places).not.toEqual([down]);
        else expect(places).toEqual(before[index]);
      }
    });
  });

  describe('weights', () => {
    beforeAll(
      start({
        settings: {
          LB_ALG: 'chash',
          LB_HASH_ON: 'header',
          LB_HASH_KEY: 'x-session',
          AZURE_OPENAI_WEIGHT_0: '3',
          AZURE_OPENAI_WEIGHT_1: '1',
        },
      }),
      CONTAINER_TIMEOUT_MS,
    );
    afterAll(stop);
    afterEach(reset);

    test('spreads keys by weight', async () => {
      for (let key = 0; key < 200; key++) await gateway.chat('gpt-4o', {}, { 'x-session': `session-${key}` });
      const [first = 0] = calls(gateway);
      expect(first).toBeGreaterThan(125);
      expect(first).toBeLessThan(175);
    });

    test('serves requests without a key, and sends those of one client to one backend', async () => {
      for (let count = 0; count < 6; count++) expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway).sort()).toEqual([0, 6]);
    });
  });
});
