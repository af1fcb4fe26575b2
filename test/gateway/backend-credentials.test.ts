/** A backend that refuses the gateway's own credential is not used, and no client learns about that credential. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import type { Behaviour } from '../../compiler/mock/server.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { backendOf, calls, inOrder, logged, NO_COOLDOWN, resetMocks, until } from '../support/traffic.ts';

const running: Gateway[] = [];
async function start(options: GatewayOptions): Promise<Gateway> {
  const gateway = await startGateway(options);
  running.push(gateway);
  return gateway;
}
const stopAll = async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
};

/** The number of client requests that each mock received, without the gateway's own checks. */
const clientCalls = (gateway: Gateway) =>
  gateway.mocks.map(
    ({ requests }) => requests.filter((request) => request.header('user-agent') !== OWN_AGENT).length,
  );
const ownCalls = (gateway: Gateway) =>
  gateway.mocks.map(
    ({ requests }) => requests.filter((request) => request.header('user-agent') === OWN_AGENT).length,
  );
const OWN_AGENT = 'genai-gateway-access-check';

const BAD_CREDENTIALS: readonly (readonly [what: string, behaviour: Behaviour])[] = [
  ['401 for a key', answers.badKey()],
  ['401 for a token', answers.badToken()],
  ['401 with a challenge', { ...answers.badKey(), headers: { 'WWW-Authenticate': 'Bearer realm="azure"' } }],
  ['401 without a word', { status: 401, body: '' }],
  [
    '403 for keys that are disabled',
    {
      status: 403,
      body: {
        error: {
          code: 'AuthenticationTypeDisabled',
          message: 'Key based authentication is disabled for this resource.',
        },
      },
    },
  ],
];

const OF_THE_REQUEST: readonly (readonly [what: string, behaviour: Behaviour])[] = [
  ['401 for a role', answers.noPermission()],
  [
    '401 for ephemeral authentication',
    {
      status: 401,
      body: { error: { code: 'Unauthorized', message: 'This operation requires ephemeral authentication.' } },
    },
  ],
  [
    '403 for a gated feature',
    { status: 403, body: { error: { code: '403', message: 'Streaming requests are not yet allowed.' } } },
  ],
];

const FIREWALL: Behaviour = {
  status: 403,
  body: { error: { code: '403', message: 'Access denied due to Virtual Network/Firewall rules.' } },
  headers: { 'policy-id': 'ThrowExceptionDueToTrafficDenied' },
};

describe.skipIf(cannotRunGatewayTests('backend credentials'))(
  "a backend refuses the gateway's credential",
  () => {
    afterEach(stopAll);

    test('the gateway checks it once itself, and only a 401 to that check takes the backend out of use, for every deployment', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: { ...inOrder(2), AI_PROXY_COOLDOWN: '300ms' } });
      backendOf(gateway, 0).always(answers.badKey());
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      await until(() => ownCalls(gateway)[0] === 1);
      await sleep(500);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
      expect(clientCalls(gateway)).toEqual([1, 3]);
      expect(ownCalls(gateway)).toEqual([1, 0]);
    });

    test("a 401 that only a client's request gets starts no cooldown", {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: inOrder(2) });
      for (let count = 0; count < 3; count++) {
        backendOf(gateway, 0).script(answers.badKey());
        expect((await gateway.chat('gpt-4o')).status).toBe(200);
        await sleep(200);
        expect((await gateway.chat('gpt-4o')).status).toBe(200);
      }
      expect(clientCalls(gateway)).toEqual([6, 3]);
      // The gateway checks once, however many requests are refused.
      expect(ownCalls(gateway)).toEqual([1, 0]);
    });

    test('a role that lacks one operation does not affect other operations, nor that one if no other backend has it', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: inOrder(2) });
      for (const index of [0, 1]) backendOf(gateway, index).script(answers.noPermission());
      const answer = await gateway.fetch('/openai/v1/models');
      expect(answer.status).toBe(401);
      expect(await answer.json()).toEqual(answers.noPermission().body);
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([3, 1]);
      // When another backend allows the operation, it is used from then on.
      backendOf(gateway, 0).script(answers.noPermission());
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([5, 3]);
    });

    test('the error log names the backend and what to do, and shows no key', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: inOrder(2) });
      backendOf(gateway, 0).always(answers.badKey());
      await gateway.chat('gpt-4o');
      await until(() => ownCalls(gateway)[0] === 1);
      const lines = await logged(gateway, 'error', 'refuses the gateway');
      expect(lines).toEqual([expect.stringMatching(/backend-0 refuses .* status 401.*Set a valid key/)]);
      const log = await gateway.apisix.log();
      for (const index of [0, 1]) expect(log).not.toContain(backendKey(index));
    });

    test("a firewall counts as a network failure, and takes the backend out of use once the gateway's own check meets it", {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: inOrder(2) });
      // Only a client's request meets it, not the gateway's check.
      backendOf(gateway, 0).script(FIREWALL);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      await until(() => ownCalls(gateway)[0] === 1);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(clientCalls(gateway)).toEqual([2, 1]);
      await stopAll();

      const closed = await start({ settings: inOrder(2) });
      backendOf(closed, 0).always(FIREWALL);
      expect((await closed.chat('gpt-4o')).status).toBe(200);
      const [line] = await logged(closed, 'error', 'firewall');
      expect(line).toContain('backend-0');
      expect((await closed.chat('another')).status).toBe(200);
      expect(clientCalls(closed)).toEqual([1, 2]);
    });
  },
);

describe.skipIf(cannotRunGatewayTests('backend credentials, all refused'))('refused by every backend', () => {
  let gateway: Gateway;
  afterAll(stopAll);
  afterEach(async () => {
    resetMocks(gateway);
    // Wait until the gateway no longer uses the result of its last check.
    await sleep(2_100);
  });

  test.each(BAD_CREDENTIALS)(
    'returns 502 upstream_credentials for %s',
    {
      timeout: CONTAINER_TIMEOUT_MS,
    },
    async (_, behaviour) => {
      gateway ??= await start({ settings: { ...inOrder(2), ...NO_COOLDOWN } });
      for (const mock of gateway.mocks) mock.always(behaviour);
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(502);
      expect(await answer.json()).toEqual({
        error: {
          message: expect.not.stringMatching(/subscription key|Principal|token|Virtual Network/),
          type: 'server_error',
          param: null,
          code: 'upstream_credentials',
        },
      });
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(answer.headers.get('www-authenticate')).toBeNull();
      expect(clientCalls(gateway)).toEqual([1, 1]);
    },
  );

  test("returns the backends' 401 when they do not answer the gateway's check", {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    gateway ??= await start({ settings: { ...inOrder(2), ...NO_COOLDOWN } });
    for (const mock of gateway.mocks) {
      mock.always({ path: /models/, status: 500 });
      mock.script({ path: /chat/, ...answers.badKey() });
    }
    const answer = await gateway.chat('gpt-4o');
    expect(answer.status).toBe(401);
    expect(await answer.json()).toEqual(answers.badKey().body);
  });

  test("returns the 401 unchanged when the gateway's own check succeeds", {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    gateway ??= await start({ settings: { ...inOrder(2), ...NO_COOLDOWN } });
    for (const mock of gateway.mocks) mock.script(answers.badKey());
    const answer = await gateway.chat('gpt-4o');
    expect(answer.status).toBe(401);
    expect(await answer.json()).toEqual(answers.badKey().body);
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
  });
});

describe.skipIf(cannotRunGatewayTests('refusals of a request'))('every backend refuses the request', () => {
  let gateway: Gateway;
  afterAll(stopAll);
  afterEach(() => resetMocks(gateway));

  test.each([...OF_THE_REQUEST, ['403 of a firewall', FIREWALL] as const])(
    'returns %s unchanged, and serves another client',
    { timeout: CONTAINER_TIMEOUT_MS },
    async (_, behaviour) => {
      gateway ??= await start({
        settings: {
          ...inOrder(2),
          GATEWAY_CLIENT_NAME_1: 'other',
          GATEWAY_CLIENT_KEY_1: 'key-of-the-other-app-0123456789',
        },
      });
      for (const mock of gateway.mocks) mock.script(behaviour);
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(behaviour.status);
      expect(await answer.text()).toBe(JSON.stringify(behaviour.body));
      expect(answer.headers.get('retry-after')).toBeNull();
      expect(clientCalls(gateway)).toEqual([1, 1]);
      await sleep(300);
      const key = { 'api-key': 'key-of-the-other-app-0123456789' };
      expect((await gateway.chat('gpt-4o', {}, key)).status).toBe(200);
      expect((await gateway.chat('another', {}, key)).status).toBe(200);
      expect(clientCalls(gateway)).toEqual([3, 1]);
    },
  );

  test('returns the error of another backend in preference to the refusal', {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    gateway ??= await start({ settings: inOrder(2) });
    backendOf(gateway, 0).script({ status: 503 });
    backendOf(gateway, 1).script(answers.noPermission());
    expect((await gateway.chat('told')).status).toBe(503);
    backendOf(gateway, 0).script(answers.noPermission());
    backendOf(gateway, 1).script({ status: 429 });
    expect((await gateway.chat('told')).status).toBe(429);
  });

  test('treats an exhausted quota of a resource as throttling', {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    gateway ??= await start({ settings: inOrder(2) });
    backendOf(gateway, 0).script({
      status: 403,
      body: {
        statusCode: 403,
        message: 'Out of call volume quota. Quota will be replenished in 00:01:20.',
      },
    });
    expect((await gateway.chat('quota')).status).toBe(200);
    expect((await gateway.chat('quota')).status).toBe(200);
    expect((await gateway.chat('no-quota')).status).toBe(200);
    expect(clientCalls(gateway)).toEqual([2, 2]);
  });
});

describe.skipIf(cannotRunGatewayTests('backend credentials, remembered'))('with no usable backend', () => {
  afterEach(stopAll);

  test('returns 502 with the remaining time, without a call', {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    const gateway = await start({});
    for (const mock of gateway.mocks) mock.always(answers.badKey());
    expect((await gateway.chat('gpt-4o')).status).toBe(502);
    await until(() => ownCalls(gateway).every((count) => count === 1));
    await sleep(200);
    const answer = await gateway.chat('gpt-4o');
    expect(answer.status).toBe(502);
    expect(await answer.json()).toMatchObject({ error: { code: 'upstream_credentials' } });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(100);
    expect(clientCalls(gateway)).toEqual([1, 1]);
  });
});

describe.skipIf(cannotRunGatewayTests('missing backend credentials'))(
  "the variable with a backend's key is not set",
  () => {
    afterEach(stopAll);
    const without =
      (index: number): GatewayOptions['adapt'] =>
      (documents) => ({
        ...documents,
        'apisix.yaml': documents['apisix.yaml'].replace(
          `$env://AZURE_OPENAI_KEY_${index}`,
          '$env://KEY_THAT_NOBODY_SET',
        ),
      });

    test('sends all requests to the other backend and logs an error', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: inOrder(2), adapt: without(0) as never });
      for (let count = 0; count < 4; count++) expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([0, 4]);
      expect(backendOf(gateway, 0).connections.opened).toBe(0);
      expect(await logged(gateway, 'error', 'backend backend-0 gets no requests')).not.toEqual([]);
    });

    test('returns 502 without a call when there is no other backend', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ backends: [{ keys: [] }], adapt: without(0) as never });
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(502);
      expect(await answer.json()).toMatchObject({ error: { code: 'upstream_credentials' } });
      expect(calls(gateway)).toEqual([0]);
    });
  },
);
