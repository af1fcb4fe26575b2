/** Connections to backends are reused. A reused connection that turns out to be closed is no failure of its backend. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as answers from '../../compiler/mock/answers.ts';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../support/gateway.ts';
import { backendOf, calls, inOrder, NO_COOLDOWN, resetMocks } from '../support/traffic.ts';

let gateway: Gateway;
const start = (options: GatewayOptions) => async () => {
  gateway = await startGateway(options);
};
const stop = () => gateway?.stop();
const status = async (model: string) => {
  const answer = await gateway.chat(model);
  await answer.arrayBuffer();
  return answer.status;
};

describe.skipIf(cannotRunGatewayTests('connections to two backends'))('two backends', () => {
  beforeAll(start({ settings: { ...inOrder(2), GATEWAY_WORKERS: '1' } }), CONTAINER_TIMEOUT_MS);
  afterAll(stop);
  beforeEach(() => resetMocks(gateway));

  test('a reset of a reused connection leads to a failover without a cooldown', async () => {
    expect(await status('kept')).toBe(200);
    backendOf(gateway, 0).script({ reset: 'before-headers' });
    expect(await status('kept')).toBe(200);
    expect(calls(gateway)).toEqual([2, 1]);
    expect(await status('kept')).toBe(200);
    expect(calls(gateway)).toEqual([3, 1]);
  });

  test('a reset of a new connection leads to a failover and a cooldown', async () => {
    await backendOf(gateway, 0).restart();
    backendOf(gateway, 0).script({ reset: 'before-headers' });
    expect(await status('new')).toBe(200);
    expect(await status('new')).toBe(200);
    expect(calls(gateway)).toEqual([1, 2]);
  });

  test('a restarted backend is used as before', async () => {
    expect(await status('restarted')).toBe(200);
    await backendOf(gateway, 0).restart();
    expect(await status('restarted')).toBe(200);
    expect(calls(gateway)).toEqual([2, 0]);
  });
});

describe.skipIf(cannotRunGatewayTests('connections to one backend'))('one backend', () => {
  beforeAll(
    start({ backends: [{}], settings: { ...NO_COOLDOWN, GATEWAY_WORKERS: '1' } }),
    CONTAINER_TIMEOUT_MS,
  );
  afterAll(stop);

  test('requests in sequence share a connection, whatever the answers', async () => {
    const backend = backendOf(gateway, 0);
    const before = backend.connections.opened;
    backend.script(
      answers.throttled(),
      answers.throttledPtu(),
      answers.serverError(),
      answers.badGateway('html'),
      answers.unavailable('empty'),
      answers.noPermission(),
      answers.contentFiltered(),
      answers.throttledStream(),
      answers.failedStream(),
      { events: ['data: {"choices":[]}\n\n'] },
    );
    for (let count = 0; count < 10; count++) await status('any');
    expect(backend.requests).toHaveLength(10);
    expect(backend.connections.opened - before).toBe(1);
  });

  test('a reset of a reused connection is retried on a new connection', async () => {
    const backend = backendOf(gateway, 0);
    backend.always({ delayMs: 100 });
    await Promise.all([status('some'), status('some'), status('some'), status('some')]);
    backend.reset();
    const { opened } = backend.connections;
    expect(opened).toBeGreaterThanOrEqual(4);
    backend.script({ reset: 'before-headers' });
    expect(await status('some')).toBe(200);
    expect(backend.requests.map(({ connection }) => connection > opened)).toEqual([false, true]);
  });

  test('a reset of the new connection as well is not retried again', async () => {
    const backend = backendOf(gateway, 0);
    backend.reset();
    expect(await status('broken')).toBe(200);
    backend.reset();
    backend.always({ reset: 'before-headers' });
    expect(await status('broken')).toBe(502);
    expect(calls(gateway)).toEqual([2]);
  });
});
