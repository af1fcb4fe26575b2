/** Tokens are requested by one worker at a time, before the old one expires, and used until they expire. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type EntraGateway, type EntraOptions, startEntraGateway, tokenOf } from '../support/entra.ts';
import { CLIENT_ID, TOKEN_FILE } from '../support/mock-identity.ts';
import {
  backendOf,
  calls,
  chatBody,
  inOrder,
  NO_COOLDOWN,
  resetMocks,
  until,
  Wire,
} from '../support/traffic.ts';
import { eventually } from '../support/until.ts';

const running: EntraGateway[] = [];
async function start(options: EntraOptions): Promise<EntraGateway> {
  const gateway = await startEntraGateway(options);
  running.push(gateway);
  return gateway;
}
const stopAll = async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
};
const TIMEOUT = { timeout: CONTAINER_TIMEOUT_MS };

/** The statuses of concurrent requests, each on its own connection, so that all workers get some. */
const statuses = (gateway: EntraGateway, count: number) =>
  Promise.all(
    Array.from({ length: count }, async () => {
      const wire = new Wire(gateway, '/openai/v1/chat/completions', {
        body: chatBody('gpt-4o'),
        headers: { Connection: 'close' },
      });
      return (await wire.end(15_000)).status;
    }),
  );

/** The tokens that a backend received, each once, in the order of their first use. */
const tokensAt = (gateway: EntraGateway, index: number) => [
  ...new Set(backendOf(gateway, index).requests.map(tokenOf)),
];
const issued = ({ identity }: EntraGateway) => identity.requests.map(({ token }) => token);

/** Sends a request every 50 ms for this time. Returns the longest duration and all statuses. */
async function keepAsking(gateway: EntraGateway, durationMs: number) {
  const end = performance.now() + durationMs;
  const asked: Promise<{ tookMs: number; status: number }>[] = [];
  while (performance.now() < end) {
    const began = performance.now();
    asked.push(gateway.chat('gpt-4o').then(({ status }) => ({ tookMs: performance.now() - began, status })));
    await sleep(50);
  }
  const all = await Promise.all(asked);
  return {
    slowestMs: Math.max(...all.map(({ tookMs }) => tookMs)),
    statuses: [...new Set(all.map(({ status }) => status))],
  };
}

describe.skipIf(cannotRunGatewayTests('tokens for many at once'))('before there is a token', () => {
  afterEach(stopAll);

  test('fifty concurrent requests in two workers wait for one token request', TIMEOUT, async () => {
    const gateway = await start({});
    gateway.identity.script({ delayMs: 600 });
    expect(new Set(await statuses(gateway, 50))).toEqual(new Set([200]));
    expect(issued(gateway)).toHaveLength(1);
    expect(tokensAt(gateway, 0)).toEqual(issued(gateway));
    expect(calls(gateway)).toEqual([50]);
    // No worker requests a token of its own later.
    await sleep(1_500);
    await statuses(gateway, 20);
    expect(issued(gateway)).toHaveLength(1);
  });

  test('fifty concurrent requests cause one token request when it fails', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: inOrder(2) });
    gateway.identity.script({ status: 500, body: '', delayMs: 300 });
    expect(new Set(await statuses(gateway, 50))).toEqual(new Set([200]));
    expect(gateway.identity.requests).toHaveLength(1);
    expect(calls(gateway)).toEqual([0, 50]);
  });

  test('a client that disconnects while waiting does not affect the others', TIMEOUT, async () => {
    const gateway = await start({});
    gateway.identity.script({ delayMs: 800 });
    const impatient = new Wire(gateway, '/openai/v1/chat/completions', { body: chatBody('gpt-4o') });
    await gateway.identity.waitForRequests(1);
    const others = statuses(gateway, 5);
    await sleep(100);
    impatient.leave();
    expect(await others).toEqual(Array(5).fill(200));
    expect(issued(gateway)).toHaveLength(1);
    expect(calls(gateway)).toEqual([5]);
  });

  test('a backend without requests has its token before its first request', TIMEOUT, async () => {
    const gateway = await start({ backends: ['key', {}], settings: { ...inOrder(2), ...NO_COOLDOWN } });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([1, 0]);
    await gateway.identity.waitForRequests(1);
    await sleep(100);
    await gateway.identity.stop();
    backendOf(gateway, 0).script({ status: 503 });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
  });
});

describe.skipIf(cannotRunGatewayTests('tokens before their end'))('before a token expires', () => {
  afterEach(stopAll);

  test('the next token is fetched, and no request waits for it', TIMEOUT, async () => {
    const gateway = await start({ identity: { lifetimeS: 8 } });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    gateway.identity.always({ delayMs: 1_500 });
    const { slowestMs, statuses: seen } = await keepAsking(gateway, 14_000);
    expect(seen).toEqual([200]);
    expect(slowestMs).toBeLessThan(700);
    // A renewal takes half of the lifetime, the time of the answer, and up to a second until it is noticed.
    expect(issued(gateway).length).toBeGreaterThanOrEqual(3);
    expect(issued(gateway).length).toBeLessThanOrEqual(5);
    expect(issued(gateway).slice(0, tokensAt(gateway, 0).length)).toEqual(tokensAt(gateway, 0));
    expect(tokensAt(gateway, 0).length).toBeGreaterThanOrEqual(3);
  });

  test('the next token is fetched even without requests', TIMEOUT, async () => {
    const gateway = await start({ identity: { lifetimeS: 6 } });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    await gateway.identity.waitForRequests(2, 8_000);
    // All workers have it within a second.
    await sleep(1_300);
    await gateway.identity.stop();
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(tokensAt(gateway, 0)).toEqual(issued(gateway));
  });

  test('the old token is used until it expires when renewals fail, with growing intervals between them', {
    timeout: CONTAINER_TIMEOUT_MS,
  }, async () => {
    const gateway = await start({ identity: { lifetimeS: 14 } });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    gateway.identity.always({ status: 503, body: '' });
    const { slowestMs, statuses: seen } = await keepAsking(gateway, 12_000);
    expect(seen).toEqual([200]);
    expect(slowestMs).toBeLessThan(700);
    expect(tokensAt(gateway, 0)).toEqual([gateway.identity.requests[0]?.token]);
    const tries = gateway.identity.requests.slice(1).map(({ startedAt }) => startedAt);
    expect(tries.length).toBeGreaterThanOrEqual(2);
    expect(tries.length).toBeLessThanOrEqual(4);
    const [first = 0, second = 0, third = Number.POSITIVE_INFINITY] = tries;
    expect(second - first).toBeGreaterThan(950);
    expect(third - second).toBeGreaterThan(1_950);

    // Now it has expired. The backend is skipped for a time only.
    let refused = await gateway.chat('gpt-4o');
    await eventually(async () => {
      if (refused.status === 200) refused = await gateway.chat('gpt-4o');
      return refused.status !== 200;
    });
    expect(refused.status).toBe(502);
    expect(await refused.json()).toMatchObject({ error: { code: 'upstream_credentials' } });
    gateway.identity.always(undefined);
    await sleep(Number(refused.headers.get('retry-after-ms')) + 100);
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    expect(tokensAt(gateway, 0)).toHaveLength(2);
  });
});

describe.skipIf(cannotRunGatewayTests('tokens that are kept'))('a valid token', () => {
  afterEach(stopAll);

  test('is kept over a reload, and a backend with another identity gets its own', TIMEOUT, async () => {
    const gateway = await start({ settings: { AZURE_CLIENT_ID: CLIENT_ID } });
    await statuses(gateway, 10);
    const yaml = gateway.documents['apisix.yaml'];
    await gateway.apisix.reload(yaml.replace('"read_ms": 300000', '"read_ms": 200000'));
    await gateway.identity.stop();
    expect(new Set(await statuses(gateway, 10))).toEqual(new Set([200]));
    expect(issued(gateway)).toHaveLength(1);
    await gateway.identity.restart();
    const other = '99999999-2222-3333-4444-555555555555';
    await gateway.apisix.reload(yaml.replace(CLIENT_ID, other));
    expect(new Set(await statuses(gateway, 10))).toEqual(new Set([200]));
    expect(gateway.identity.requests.map(({ clientId }) => clientId)).toEqual([CLIENT_ID, other]);
    expect(tokensAt(gateway, 0)).toEqual(issued(gateway));
  });
});

describe.skipIf(cannotRunGatewayTests('refused tokens'))('a token that a backend refuses', () => {
  afterEach(stopAll);

  test('is replaced once, not repeatedly', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: { ...inOrder(2), ...NO_COOLDOWN } });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    backendOf(gateway, 0).script(answers.badToken(), answers.badToken());
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    await gateway.identity.waitForRequests(2);
    // All workers have it within a second.
    await eventually(async () => {
      resetMocks(gateway);
      await statuses(gateway, 20);
      return tokensAt(gateway, 0).join() === issued(gateway)[1];
    });
    backendOf(gateway, 0).always(answers.badToken());
    expect(new Set(await statuses(gateway, 20))).toEqual(new Set([200]));
    await sleep(1_300);
    expect(issued(gateway)).toHaveLength(2);
  });

  test(
    "takes the backend out of use once the gateway's own check with a new token is refused",
    TIMEOUT,
    async () => {
      const gateway = await start({
        backends: [{}, 'key'],
        settings: { ...inOrder(2), AZURE_OPENAI_PRIORITY_0: '10', AI_PROXY_COOLDOWN: '300ms' },
      });
      backendOf(gateway, 0).always(answers.badToken());
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      await gateway.identity.waitForRequests(2);
      await sleep(700);
      const before = calls(gateway)[0];
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      expect(calls(gateway)).toEqual([before, 2]);
    },
  );

  test('is not replaced after a refusal for another reason', TIMEOUT, async () => {
    const gateway = await start({ backends: [{}, 'key'], settings: { ...inOrder(2), ...NO_COOLDOWN } });
    backendOf(gateway, 0).script({ status: 403, body: '' });
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    await sleep(1_300);
    expect(issued(gateway)).toHaveLength(1);
  });
});

describe.skipIf(cannotRunGatewayTests('token files that change'))('a token file that changes', () => {
  afterEach(stopAll);

  test('is read again for the next token', TIMEOUT, async () => {
    const gateway = await start({ source: 'workload', identity: { lifetimeS: 6 } });
    const before = gateway.identity.assertion;
    expect((await gateway.chat('gpt-4o')).status).toBe(200);
    await gateway.apisix.write(TOKEN_FILE, `${gateway.identity.rotateAssertion()}\r\n`);
    await until(() => issued(gateway).length >= 2, 8_000);
    expect(gateway.identity.requests.slice(0, 2).map(({ assertion }) => assertion)).toEqual([
      before,
      gateway.identity.assertion,
    ]);
    await eventually(async () => {
      expect((await gateway.chat('gpt-4o')).status).toBe(200);
      return tokensAt(gateway, 0).length >= 2;
    });
    expect(tokensAt(gateway, 0)).toEqual(issued(gateway).slice(0, 2));
  });
});
