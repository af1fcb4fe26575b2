/** A backend that refuses the gateway's own credential is out of order, and no client hears of that credential. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { backendKey, type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import * as answers from '../support/mock-azure-openai/answers.ts';
import type { Behaviour } from '../support/mock-azure-openai/server.ts';
import { backendOf, calls, inOrder, logged, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

const running: Gateway[] = [];
async function start(options: GatewayOptions): Promise<Gateway> {
  const gateway = await startGateway(options);
  running.push(gateway);
  return gateway;
}
const stopAll = async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
};

const REFUSALS: readonly (readonly [what: string, behaviour: Behaviour])[] = [
  ['401 for a key', answers.badKey()],
  ['401 for a token', answers.badToken()],
  ['401 for a role', answers.noPermission()],
  ['401 with a challenge', { ...answers.badKey(), headers: { 'WWW-Authenticate': 'Bearer realm="azure"' } }],
  [
    '403',
    { status: 403, body: { error: { code: '403', message: 'Access denied due to Virtual Network rules.' } } },
  ],
  ['403 with a page', { status: 403, body: '<html>Forbidden</html>' }],
];

describe.skipIf(cannotRunGatewayTests('backend credentials'))(
  'a backend refuses the gateway’s credential',
  () => {
    afterEach(stopAll);

    test('the next backend; the first is left alone longer than after other failures, whatever is asked for', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: { ...inOrder(2), AI_PROXY_COOLDOWN: '300ms' } });
      backendOf(gateway, 0).script(answers.badKey());
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([1, 1]);
      await sleep(500);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(200);
      expect(calls(gateway)).toEqual([1, 3]);
    });

    test('a role that lacks an operation keeps the others', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
      const gateway = await start({ settings: inOrder(2) });
      for (const index of [0, 1]) backendOf(gateway, index).script(answers.noPermission());
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(502);
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([2, 1]);
      // That operation is left alone all the same.
      expect((await gateway.fetch('/openai/v1/models')).status).toBe(502);
      expect(calls(gateway)).toEqual([2, 1]);
    });

    test('it is an error in the log, which names the backend and no key', {
      timeout: CONTAINER_TIMEOUT_MS,
    }, async () => {
      const gateway = await start({ settings: inOrder(2) });
      backendOf(gateway, 0).script({ status: 403, body: '' });
      await gateway.chat('gpt-4o');
      const lines = await logged(gateway, 'error', 'backend-0');
      expect(lines).toEqual([expect.stringMatching(/credentials.*403/)]);
      const log = await gateway.apisix.log();
      for (const index of [0, 1]) expect(log).not.toContain(backendKey(index));
    });
  },
);

describe.skipIf(cannotRunGatewayTests('backend credentials, all refused'))('every backend refuses it', () => {
  let gateway: Gateway;
  afterAll(stopAll);
  afterEach(() => resetMocks(gateway));

  test.each(REFUSALS)('%s', { timeout: CONTAINER_TIMEOUT_MS }, async (_, behaviour) => {
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
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
    expect(calls(gateway)).toEqual([1, 1]);
  });

  test('what another backend said is told before it', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
    gateway ??= await start({ settings: { ...inOrder(2), ...NO_COOLDOWN } });
    backendOf(gateway, 0).always({ status: 503 });
    backendOf(gateway, 1).always(answers.badKey());
    expect((await gateway.chat('gpt-4o')).status).toBe(503);
    backendOf(gateway, 0).always(answers.badKey());
    backendOf(gateway, 1).always({ status: 429 });
    expect((await gateway.chat('gpt-4o')).status).toBe(429);
  });

  test('while they are left alone too, without a call', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
    const remembering = await start({});
    for (const mock of remembering.mocks) mock.always(answers.badKey());
    await remembering.chat('gpt-4o');
    const answer = await remembering.chat('gpt-4o');
    expect(answer.status).toBe(502);
    expect(await answer.json()).toMatchObject({ error: { code: 'upstream_credentials' } });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(100);
    expect(calls(remembering)).toEqual([1, 1]);
  });
});

describe.skipIf(cannotRunGatewayTests('missing backend credentials'))(
  'a backend’s key is not in the environment',
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

    test('it gets no request, the other one all', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
      const gateway = await start({ settings: inOrder(2), adapt: without(0) as never });
      for (let count = 0; count < 4; count++) expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([0, 4]);
      expect(backendOf(gateway, 0).connections.opened).toBe(0);
      expect(await logged(gateway, 'error', 'backend backend-0 gets no requests')).not.toEqual([]);
    });

    test('nobody else there: 502, and no call', { timeout: CONTAINER_TIMEOUT_MS }, async () => {
      const gateway = await start({ backends: [{ keys: [] }], adapt: without(0) as never });
      const answer = await gateway.chat('gpt-4o');
      expect(answer.status).toBe(502);
      expect(await answer.json()).toMatchObject({ error: { code: 'upstream_credentials' } });
      expect(calls(gateway)).toEqual([0]);
    });
  },
);
